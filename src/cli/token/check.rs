//! `corecast token check`: whether the server would accept a token.

use std::io::Read;
use std::path::Path;

use corecast::auth::{KeySet, TokenError, Verifier};

use super::key::{Key, TokenKind, read};
use super::outcome::{Outcome, usage};
use super::report::Report;

pub fn check(token: &str, jwks: Option<&Path>, key: &Key, now_s: u64) -> Result<Outcome, Outcome> {
    let mut text = token.to_owned();
    if token == "-" {
        text.clear();
        let read = std::io::stdin().take(1024 * 1024).read_to_string(&mut text);
        read.map_err(|error| usage(format!("stdin cannot be read: {error}")))?;
    }
    let token = text.trim();
    let report = Report::of(token, now_s);
    let kind = if report.is_subscription { TokenKind::Subscription } else { TokenKind::Connection };
    let mut settings = key.settings(kind)?;
    let set = match jwks {
        None => None,
        Some(path) => {
            let set = KeySet::parse(read(path)?.as_bytes());
            Some(set.map_err(|wrong| usage(format!("--jwks: {} is not a key set: {wrong}", path.display())))?)
        }
    };
    if set.is_some() && settings.jwks_public_endpoint.is_empty() {
        settings.jwks_public_endpoint = "https://localhost/".into();
    }
    if settings.is_empty() {
        return Err(usage(
            "no key to check with; pass settings (--config), a secret (--secret-env or --secret-file), or a key set (--jwks)",
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
            Outcome::Failed(format!("the key {kid:?} is at {endpoint}; download it, and pass the file with --jwks"))
        }
        Err(error) => Outcome::Rejected { why: report.reason(&error), report: report.text },
    })
}
