//! Where `corecast token` gets its key: a file, the environment or the settings, never an argument, since every user of the
//! machine can read those.

use std::path::{Path, PathBuf};

use clap::Args;
use corecast::auth::TokenSettings;
use corecast::config;

use super::outcome::{Outcome, usage};
use crate::cli::environment;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    Connection,
    Subscription,
}

/// Where to find the key.
#[derive(Args, Debug)]
pub struct Key {
    /// File with the settings, TOML or JSON as for `serve`; the environment overrides it [env: CORECAST_CONFIG]
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// The environment variable with the shared secret
    #[arg(long, value_name = "NAME", conflicts_with = "secret_file")]
    secret_env: Option<String>,
    /// File with the shared secret; a line end after it is ignored
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Rejected, with what to do instead.
    #[arg(long, hide = true, value_name = "SECRET")]
    secret: Option<String>,
}

impl Key {
    /// The settings that the server would verify with. Errors: `Usage`.
    pub fn settings(&self, kind: TokenKind) -> Result<TokenSettings, Outcome> {
        if self.secret.is_some() {
            return Err(usage(
                "--secret: every user of this machine can read arguments, so this secret is no longer secret; make a new one \
                 with `corecast token secret`, and pass it with --secret-env, --secret-file or --config",
            ));
        }
        let mut settings = match &self.config {
            // An empty CORECAST_CONFIG names no file.
            Some(path) if path.as_os_str().is_empty() => TokenSettings::default(),
            Some(path) => configured(path, kind)?,
            None => TokenSettings::default(),
        };
        let secret = match (&self.secret_env, &self.secret_file) {
            (Some(name), _) => {
                let Ok(secret) = std::env::var(name) else {
                    return Err(usage(format!("--secret-env: the variable {name} is not set; export it first")));
                };
                Some(secret)
            }
            (None, Some(path)) => Some(read(path)?.trim_end_matches(['\r', '\n']).to_owned()),
            (None, None) => None,
        };
        if let Some(secret) = secret {
            if secret.is_empty() {
                return Err(usage("the secret is empty; `corecast token secret` makes a secret"));
            }
            settings.hmac_secret_key = secret;
            settings.jwks_public_endpoint.clear();
        }
        Ok(settings)
    }
}

fn configured(path: &Path, kind: TokenKind) -> Result<TokenSettings, Outcome> {
    match config::load(Some(path), environment::variables(), Vec::new()) {
        Ok((config, _)) => {
            let own = config.client.subscription_token().cloned().filter(|_| kind == TokenKind::Subscription);
            Ok(own.unwrap_or(config.client.token))
        }
        Err(errors) => Err(usage(errors.to_string())),
    }
}

pub fn read(path: &Path) -> Result<String, Outcome> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| usage(format!("{} cannot be read: {error}", path.display())))?;
    // Some editors write a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
