//! `corecast token`: makes tokens and secrets, and checks tokens. A token goes to stdout alone, so that `$(corecast token …)`
//! is the token.

mod check;
mod key;
mod make;
mod outcome;
mod report;
mod secret;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use key::{Key, TokenKind};
use make::{Claims, Signing, value};
pub use outcome::Outcome;
use secret::Format;

#[derive(Subcommand, Debug)]
pub enum TokenTask {
    /// Print a connection token
    #[command(after_help = "\
Examples:
  corecast token connect --user 42 --config corecast.toml
  corecast token connect --user 42 --ttl 30d --channels news,chat:1 --info '{\"name\":\"Ada\"}' --config corecast.toml
  SECRET=… corecast token connect --user '' --no-expiry --secret-env SECRET")]
    Connect {
        #[command(flatten)]
        claims: Claims,
        /// Channels to which the server subscribes the client
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        channels: Vec<String>,
        /// Data about the connection for backends; clients do not see it
        #[arg(long, value_name = "JSON", value_parser = value)]
        meta: Option<Value>,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        signing: Signing,
    },
    /// Print a subscription token
    #[command(after_help = "\
Example:
  corecast token subscribe --user 42 --channel '$private:1' --config corecast.toml")]
    Subscribe {
        #[command(flatten)]
        claims: Claims,
        /// The channel that the token allows
        #[arg(long)]
        channel: String,
        /// The only client that may use the token
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        signing: Signing,
    },
    /// Print what a token contains, and whether the server would accept it
    #[command(after_help = "\
Exit codes: 0 accepted, 1 rejected (stderr has the reason), 2 wrong arguments or settings.

Examples:
  corecast token check eyJhbGci… --config corecast.toml
  corecast token check - --secret-file secret.txt < token.txt")]
    Check {
        /// The token, or - to read it from stdin
        token: String,
        /// File with a key set (JWKS); this command does not fetch one
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
        #[command(flatten)]
        key: Key,
    },
    /// Print new random secrets for client.token.hmac_secret_key and http_api.key
    #[command(after_help = "\
Examples:
  corecast token secret --file corecast.toml
  corecast token secret --format env")]
    Secret {
        /// Write them to this new file, which only its owner can read (mode 0600), instead of stdout
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The format of the output
        #[arg(long, value_enum, default_value = "toml")]
        format: Format,
    },
}

/// Runs the task at the time `now_s`, in seconds since 1970.
pub fn run(task: TokenTask, now_s: u64) -> Outcome {
    let result = match task {
        TokenTask::Connect { claims, channels, meta, key, signing } => {
            let mut own = Map::new();
            if !channels.is_empty() {
                own.insert("channels".into(), json!(channels));
            }
            own.extend(meta.map(|meta| ("meta".to_owned(), meta)));
            key.settings(TokenKind::Connection)
                .and_then(|settings| make::make(&claims, own, &settings, &signing, now_s))
        }
        TokenTask::Subscribe { claims, channel, client, key, signing } => {
            let mut own = Map::from_iter([("channel".to_owned(), json!(channel))]);
            own.extend(client.map(|client| ("client".to_owned(), json!(client))));
            key.settings(TokenKind::Subscription)
                .and_then(|settings| make::make(&claims, own, &settings, &signing, now_s))
        }
        TokenTask::Check { token, jwks, key } => check::check(&token, jwks.as_deref(), &key, now_s),
        TokenTask::Secret { file, format } => secret::secrets(file.as_deref(), format),
    };
    result.unwrap_or_else(|outcome| outcome)
}
