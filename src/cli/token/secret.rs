//! `corecast token secret`: random secrets.

use clap::ValueEnum;
use corecast::auth::sign::random_secret;
use serde_json::json;

use super::outcome::Outcome;

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Format {
    Toml,
    Json,
    Env,
}

pub fn secrets(format: Format) -> Result<Outcome, Outcome> {
    let make = || random_secret().map_err(|_| Outcome::Failed("the system returned no random bytes".into()));
    let (token, api) = (make()?, make()?);
    Ok(Outcome::Done(match format {
        Format::Toml => {
            format!("[client.token]\nhmac_secret_key = \"{token}\"\n\n[http_api]\nkey = \"{api}\"\n")
        }
        Format::Json => {
            let lines = json!({ "client": { "token": { "hmac_secret_key": token } }, "http_api": { "key": api } });
            format!("{lines:#}\n")
        }
        Format::Env => {
            format!("CORECAST_CLIENT_TOKEN_HMAC_SECRET_KEY={token}\nCORECAST_HTTP_API_KEY={api}\n")
        }
    }))
}
