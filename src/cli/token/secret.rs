//! `corecast token secret`: random secrets.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use clap::ValueEnum;
use corecast::auth::sign::random_secret;
use serde_json::json;

use super::outcome::{Outcome, usage};

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Format {
    Toml,
    Json,
    Env,
}

/// Prints the secrets, or writes them to `file`, which must not exist. Errors: `Usage`, `Failed`.
pub fn secrets(file: Option<&Path>, format: Format) -> Result<Outcome, Outcome> {
    let text = made(format)?;
    let Some(path) = file else { return Ok(Outcome::Done(text)) };
    // A new file: an old one could be open to others, and hold other settings.
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = new.and_then(|mut file| file.write_all(text.as_bytes()));
    let shown = path.display();
    match written {
        Ok(()) => Ok(Outcome::Done(format!("{shown}: written, readable by this user alone\n"))),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(usage(format!(
            "--file: {shown} exists; name a new file, or append what this command prints without --file"
        ))),
        Err(error) => Err(Outcome::Failed(format!("--file: {shown} cannot be written: {error}"))),
    }
}

fn made(format: Format) -> Result<String, Outcome> {
    let make = || random_secret().map_err(|_| Outcome::Failed("the system returned no random bytes".into()));
    let (token, api) = (make()?, make()?);
    Ok(match format {
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
    })
}
