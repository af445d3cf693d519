//! `corecast token connect` and `corecast token subscribe`: make a token.

use std::path::PathBuf;

use clap::Args;
use corecast::auth::sign::SigningKey;
use corecast::auth::{Alg, Hash, TokenSettings};
use serde_json::{Map, Value, json};

use super::key::read;
use super::outcome::{Outcome, usage};

/// Time until a token expires, by default.
const TTL: &str = "1h";

/// Claims that both kinds of token have.
#[derive(Args, Debug)]
pub struct Claims {
    /// The user id; '' for the anonymous user
    #[arg(long)]
    pub user: String,
    /// Time until the token expires, in s, m, h or d
    #[arg(long, value_name = "TIME", default_value = TTL, value_parser = seconds)]
    ttl: u64,
    /// Make a token that never expires
    #[arg(long, conflicts_with = "ttl")]
    no_expiry: bool,
    /// Data about this client for other clients
    #[arg(long, value_name = "JSON", value_parser = value)]
    info: Option<Value>,
    /// The claim `aud` [default: client.token.audience]
    #[arg(long)]
    audience: Option<String>,
    /// The claim `iss` [default: client.token.issuer]
    #[arg(long)]
    issuer: Option<String>,
}

#[derive(Args, Debug)]
pub struct Signing {
    /// PEM file with a private key to sign with; the server needs only the public key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_env", "secret_file"])]
    private_key: Option<PathBuf>,
    /// The algorithm [default: HS256, or the first that fits the private key]
    #[arg(long, value_name = "NAME", value_parser = alg)]
    alg: Option<Alg>,
    /// The id of the key in a key set (JWKS)
    #[arg(long)]
    kid: Option<String>,
}

/// `own` are the claims of this kind of token.
pub fn make(
    claims: &Claims,
    own: Map<String, Value>,
    settings: &TokenSettings,
    signing: &Signing,
    now_s: u64,
) -> Result<Outcome, Outcome> {
    let key = signing.key(settings)?;
    let user_claim = if settings.user_id_claim.is_empty() { "sub" } else { &settings.user_id_claim };
    let mut all = Map::from_iter([(user_claim.to_owned(), json!(claims.user)), ("iat".to_owned(), json!(now_s))]);
    if !claims.no_expiry {
        all.insert("exp".into(), json!(now_s.saturating_add(claims.ttl)));
    }
    for (name, given, configured) in
        [("aud", &claims.audience, &settings.audience), ("iss", &claims.issuer, &settings.issuer)]
    {
        let value = given.as_ref().unwrap_or(configured);
        if !value.is_empty() {
            all.insert(name.into(), json!(value));
        }
    }
    all.extend(claims.info.clone().map(|info| ("info".to_owned(), info)));
    all.extend(own);
    let token = key.sign(&Value::Object(all).to_string(), signing.kid.as_deref());
    let token = token.map_err(|_| Outcome::Failed("signing with the key failed".into()))?;
    Ok(Outcome::Done(format!("{token}\n")))
}

impl Signing {
    fn key(&self, settings: &TokenSettings) -> Result<SigningKey, Outcome> {
        let Some(path) = &self.private_key else {
            if settings.hmac_secret_key.is_empty() {
                return Err(usage(
                    "no key to sign with; pass settings with client.token.hmac_secret_key (--config), a secret (--secret-env or \
                     --secret-file), or a private key (--private-key)",
                ));
            }
            return match self.alg.unwrap_or(Alg::Hs(Hash::S256)) {
                Alg::Hs(hash) => Ok(SigningKey::secret(hash, &settings.hmac_secret_key)),
                other => Err(usage(format!("--alg: {other} needs a private key; pass its file with --private-key"))),
            };
        };
        let pem = read(path)?;
        let fitting = [Alg::Rs(Hash::S256), Alg::Es(Hash::S256), Alg::Es(Hash::S384), Alg::Es(Hash::S512), Alg::EdDsa];
        let algs = self.alg.as_ref().map_or(&fitting[..], std::slice::from_ref);
        let key = algs.iter().find_map(|&alg| SigningKey::pem(alg, &pem).ok());
        key.ok_or_else(|| {
            let names: Vec<_> = algs.iter().map(|alg| alg.name()).collect();
            usage(format!(
                "--private-key: {} contains no private key for {}; it must be PEM with a key for RSA, P-256, P-384, P-521 or Ed25519",
                path.display(),
                names.join(", ")
            ))
        })
    }
}

pub fn value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("this is not JSON ({error}); an example is '{{\"name\":\"Ada\"}}'"))
}

fn alg(text: &str) -> Result<Alg, String> {
    Alg::named(text).ok_or_else(|| "choose one of HS256, RS256, ES256, their 384 and 512, or EdDSA".to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    let usage = || "write a whole number with s, m, h or d, such as 90s, 15m, 1h or 30d".to_owned();
    let scale = match text.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(usage()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| usage())?;
    number.checked_mul(scale).filter(|&seconds| seconds > 0).ok_or_else(usage)
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
