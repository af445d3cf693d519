//! `corecast token`: makes tokens, says what one holds and whether it would pass, makes secrets.
//!
//! Secrets come from a file, the environment or the configuration, never as an argument: everybody on the machine can read
//! those. A token goes to stdout alone, so that `$(corecast token …)` is one.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use corecast::auth::sign::{SigningKey, random_secret};
use corecast::auth::{Alg, Hash, KeySet, TokenError, TokenSettings, Verifier};
use corecast::config;
use serde_json::{Map, Value, json};

use super::report;

/// Seconds that a token holds where nothing else is asked for.
const TTL: &str = "1h";

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
        claims: Common,
        /// Channels that the server subscribes the client to
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        channels: Vec<String>,
        /// What backends are told about the connection and clients are not
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
        claims: Common,
        /// The channel that may be subscribed to
        #[arg(long)]
        channel: String,
        /// The one client that may use the token
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        signing: Signing,
    },
    /// Say what a token holds, whose it is, until when, and whether the server would take it
    ///
    /// The exit code is 1 where the server would refuse it.
    #[command(after_help = "\
Examples:
  corecast token check eyJhbGci… --config corecast.toml
  corecast token check - --secret-file secret.txt < token.txt")]
    Check {
        /// The token, or - to read it from stdin
        token: String,
        /// The document of a JWKS: nothing is fetched here
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
        #[command(flatten)]
        key: Key,
    },
    /// Print new random secrets for client.token.hmac_secret_key and http_api.key
    Secret {
        /// As what the lines can be pasted
        #[arg(long, value_enum, default_value = "toml")]
        format: Format,
    },
}

/// Claims of both kinds of token.
#[derive(Args, Debug)]
pub struct Common {
    /// The user's id; '' for the anonymous user
    #[arg(long)]
    user: String,
    /// How long the token holds, in s, m, h or d
    #[arg(long, value_name = "TIME", default_value = TTL, value_parser = seconds)]
    ttl: u64,
    /// A token that holds for ever
    #[arg(long, conflicts_with = "ttl")]
    no_expiry: bool,
    /// What other clients are shown about this one
    #[arg(long, value_name = "JSON", value_parser = value)]
    info: Option<Value>,
    /// The claim `aud` [default: client.token.audience]
    #[arg(long)]
    audience: Option<String>,
    /// The claim `iss` [default: client.token.issuer]
    #[arg(long)]
    issuer: Option<String>,
}

/// Where the key is.
#[derive(Args, Debug)]
pub struct Key {
    /// File with the settings, TOML or JSON as for `serve`; the environment overrides it [env: CORECAST_CONFIG]
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// The environment variable that holds the shared secret
    #[arg(long, value_name = "NAME", conflicts_with = "secret_file")]
    secret_env: Option<String>,
    /// The file that holds the shared secret; a line end behind it does not count
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Refused, with what to do instead.
    #[arg(long, hide = true, value_name = "SECRET")]
    secret: Option<String>,
}

#[derive(Args, Debug)]
pub struct Signing {
    /// Sign with the private key in this PEM file: the server needs only the public one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_env", "secret_file"])]
    private_key: Option<PathBuf>,
    /// The algorithm [default: HS256, or the first that goes with the private key]
    #[arg(long, value_name = "NAME", value_parser = alg)]
    alg: Option<Alg>,
    /// Which key of a JWKS this is
    #[arg(long)]
    kid: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Format {
    Toml,
    Json,
    Env,
}

/// What came of it.
pub enum Outcome {
    /// For stdout.
    Done(String),
    /// The report for stdout, and why the server would refuse the token.
    Refused { report: String, why: String },
    /// Wrong arguments or settings, with the mend.
    Usage(String),
    /// It could not be done.
    Failed(String),
}

pub fn run(task: TokenTask, now_s: u64) -> Outcome {
    let done = match task {
        TokenTask::Connect { claims, channels, meta, key, signing } => {
            let mut own = Map::new();
            if !channels.is_empty() {
                own.insert("channels".into(), json!(channels));
            }
            own.extend(meta.map(|meta| ("meta".to_owned(), meta)));
            key.settings(false).and_then(|settings| make(&claims, own, &settings, &signing, now_s))
        }
        TokenTask::Subscribe { claims, channel, client, key, signing } => {
            let mut own = Map::from_iter([("channel".to_owned(), json!(channel))]);
            own.extend(client.map(|client| ("client".to_owned(), json!(client))));
            key.settings(true).and_then(|settings| make(&claims, own, &settings, &signing, now_s))
        }
        TokenTask::Check { token, jwks, key } => check(&token, jwks.as_deref(), &key, now_s),
        TokenTask::Secret { format } => secrets(format),
    };
    done.unwrap_or_else(|outcome| outcome)
}

fn usage(text: impl Into<String>) -> Outcome {
    Outcome::Usage(text.into())
}

fn read(path: &Path) -> Result<String, Outcome> {
    std::fs::read_to_string(path).map_err(|error| usage(format!("{} cannot be read: {error}", path.display())))
}

impl Key {
    /// What the server would verify with. Errors: `Usage`.
    fn settings(&self, subscription: bool) -> Result<TokenSettings, Outcome> {
        if self.secret.is_some() {
            return Err(usage(
                "--secret: everybody on this machine can read arguments, so that this secret is none any more; make a new \
                 one by `corecast token secret`, and name a variable by --secret-env or a file by --secret-file or --config",
            ));
        }
        let mut settings = match &self.config {
            Some(path) => configured(path, subscription)?,
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
                return Err(usage("the secret is empty; `corecast token secret` makes one"));
            }
            settings.hmac_secret_key = secret;
            settings.jwks_public_endpoint.clear();
        }
        Ok(settings)
    }
}

fn configured(path: &Path, subscription: bool) -> Result<TokenSettings, Outcome> {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match config::load(Some(path), variables, Vec::new()) {
        Ok((config, _)) => {
            let own = config.client.subscription_token().cloned().filter(|_| subscription);
            Ok(own.unwrap_or(config.client.token))
        }
        Err(faults) => Err(usage(faults.to_string())),
    }
}

fn make(
    common: &Common,
    own: Map<String, Value>,
    settings: &TokenSettings,
    signing: &Signing,
    now_s: u64,
) -> Result<Outcome, Outcome> {
    let key = signing.key(settings)?;
    let user_claim = if settings.user_id_claim.is_empty() { "sub" } else { &settings.user_id_claim };
    let mut claims = Map::from_iter([(user_claim.to_owned(), json!(common.user)), ("iat".to_owned(), json!(now_s))]);
    if !common.no_expiry {
        claims.insert("exp".into(), json!(now_s.saturating_add(common.ttl)));
    }
    for (name, given, configured) in
        [("aud", &common.audience, &settings.audience), ("iss", &common.issuer, &settings.issuer)]
    {
        let value = given.as_ref().unwrap_or(configured);
        if !value.is_empty() {
            claims.insert(name.into(), json!(value));
        }
    }
    claims.extend(common.info.clone().map(|info| ("info".to_owned(), info)));
    claims.extend(own);
    let token = key.sign(&Value::Object(claims).to_string(), signing.kid.as_deref());
    let token = token.map_err(|_| Outcome::Failed("the key did not sign".into()))?;
    Ok(Outcome::Done(format!("{token}\n")))
}

impl Signing {
    fn key(&self, settings: &TokenSettings) -> Result<SigningKey, Outcome> {
        let Some(path) = &self.private_key else {
            if settings.hmac_secret_key.is_empty() {
                return Err(usage(
                    "there is no key to sign with; name a configuration with client.token.hmac_secret_key by --config, a \
                     secret by --secret-env or --secret-file, or a private key by --private-key",
                ));
            }
            return match self.alg.unwrap_or(Alg::Hs(Hash::S256)) {
                Alg::Hs(hash) => Ok(SigningKey::secret(hash, &settings.hmac_secret_key)),
                other => Err(usage(format!("--alg: {other} needs a private key; name its file by --private-key"))),
            };
        };
        let pem = read(path)?;
        let fitting = [Alg::Rs(Hash::S256), Alg::Es(Hash::S256), Alg::Es(Hash::S384), Alg::Es(Hash::S512), Alg::EdDsa];
        let algs = self.alg.as_ref().map_or(&fitting[..], std::slice::from_ref);
        let key = algs.iter().find_map(|&alg| SigningKey::pem(alg, &pem).ok());
        key.ok_or_else(|| {
            let names: Vec<_> = algs.iter().map(|alg| alg.name()).collect();
            usage(format!(
                "--private-key: {} holds no private key for {}; write one in PEM, of RSA, P-256, P-384, P-521 or Ed25519",
                path.display(),
                names.join(", ")
            ))
        })
    }
}

fn check(token: &str, jwks: Option<&Path>, key: &Key, now_s: u64) -> Result<Outcome, Outcome> {
    let mut typed = token.to_owned();
    if token == "-" {
        typed.clear();
        let read = std::io::stdin().take(1024 * 1024).read_to_string(&mut typed);
        read.map_err(|error| usage(format!("stdin cannot be read: {error}")))?;
    }
    let token = typed.trim();
    let report = report::Report::of(token, now_s);
    let mut settings = key.settings(report.is_subscription)?;
    let set = match jwks {
        None => None,
        Some(path) => {
            let set = KeySet::parse(read(path)?.as_bytes());
            Some(set.map_err(|wrong| usage(format!("--jwks: {} is no key set: {wrong}", path.display())))?)
        }
    };
    if set.is_some() && settings.jwks_public_endpoint.is_empty() {
        settings.jwks_public_endpoint = "https://localhost/".into();
    }
    if settings.is_empty() {
        return Err(usage(
            "there is no key to check with; name a configuration by --config, a secret by --secret-env or --secret-file, or \
             a key set by --jwks",
        ));
    }
    let verifier = Verifier::new(&settings).map_err(|fault| usage(format!("client.token.{fault}")))?;
    let verdict = if report.is_subscription {
        verifier.subscribe(token, set.as_ref(), now_s).map(|token| token.user)
    } else {
        verifier.connect(token, set.as_ref(), now_s).map(|grant| grant.user)
    };
    Ok(match verdict {
        Ok(user) => Outcome::Done(report.accepted(&user)),
        Err(TokenError::UnknownKey { kid }) if set.is_none() => {
            let endpoint = verifier.endpoint(token).ok().flatten().unwrap_or_default();
            Outcome::Failed(format!("the key {kid:?} is at {endpoint}; fetch that, and name the file by --jwks"))
        }
        Err(error) => Outcome::Refused { why: report.refused(&error), report: report.text },
    })
}

fn secrets(format: Format) -> Result<Outcome, Outcome> {
    let make = || random_secret().map_err(|_| Outcome::Failed("the system gave no random bytes".into()));
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

fn value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("this is no JSON ({error}); write such as '{{\"name\":\"Ada\"}}'"))
}

fn alg(text: &str) -> Result<Alg, String> {
    Alg::named(text).ok_or_else(|| "choose one of HS256, RS256, ES256, their 384 and 512, or EdDSA".to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    let mend = || "write a whole number with s, m, h or d, such as 90s, 15m, 1h or 30d".to_owned();
    let scale = match text.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(mend()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| mend())?;
    number.checked_mul(scale).filter(|&seconds| seconds > 0).ok_or_else(mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        let read = |text: &str| seconds(text).ok();
        assert_eq!([read("90s"), read("15m"), read("1h"), read("30d")], [90, 900, 3600, 2_592_000].map(Some));
        for text in ["", "1", "h", "0s", "-1h", "1.5h", "1y", "é", "99999999999999999999s", "9999999999999999999d"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
