//! What a token contains, as text: its user, when it expires, and why the server would reject it.

use corecast::auth::{self, InvalidToken, TokenError};
use serde_json::Value;

use crate::cli::date::date;

/// The content of a token. Nothing of it is verified.
pub struct Report {
    pub text: String,
    /// It has a channel, as only subscription tokens do.
    pub is_subscription: bool,
    header: Value,
    claims: Value,
    now_s: u64,
}

impl Report {
    /// Empty if the text is not a token.
    pub fn of(token: &str, now_s: u64) -> Self {
        let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
        let (header, claims) =
            auth::unverified(token).map_or((Value::Null, Value::Null), |(h, c)| (json(&h), json(&c)));
        let channel = claims["channel"].as_str().filter(|channel| !channel.is_empty()).map(str::to_owned);
        let mut report = Self { text: String::new(), is_subscription: channel.is_some(), header, claims, now_s };
        if !report.claims.is_object() {
            return report;
        }
        let kind = match channel {
            Some(channel) => format!("subscription to {channel:?}"),
            None => "connection".into(),
        };
        report.line("kind", &kind);
        report.line("signed with", &report.signed_by());
        for (name, label) in [("iat", "issued"), ("nbf", "valid from"), ("exp", "expires")] {
            if let Some(at_s) = report.time(name) {
                report.line(label, &when(at_s, now_s));
            }
        }
        if report.claims.get("exp").is_none() {
            report.line("expires", "never");
        }
        let refresh = report.time("expire_at").map(|at_s| if at_s == 0 { "never".into() } else { when(at_s, now_s) });
        if let Some(refresh) = refresh {
            report.line("refresh by", &refresh);
        }
        report.text.push_str(&format!("  claims:\n{:#}\n", report.claims));
        report
    }

    fn line(&mut self, label: &str, text: &str) {
        self.text.push_str(&format!("  {:<12} {text}\n", format!("{label}:")));
    }

    fn signed_by(&self) -> String {
        let alg = self.header["alg"].as_str().unwrap_or("no algorithm");
        match self.header["kid"].as_str() {
            Some(kid) => format!("{alg}, key {kid:?}"),
            None => alg.to_owned(),
        }
    }

    fn time(&self, claim: &str) -> Option<u64> {
        self.claims[claim].as_f64().map(|seconds| seconds as u64)
    }

    pub fn accepted(self, user: &str) -> String {
        let user = if user.is_empty() { "the anonymous user".into() } else { format!("the user {user:?}") };
        format!("accepted for {user}\n{}", self.text)
    }

    /// Why the token is rejected, and what may have caused it.
    pub fn reason(&self, error: &TokenError) -> String {
        match error {
            TokenError::Expired => match self.time("nbf").filter(|&nbf| nbf > self.now_s) {
                Some(nbf) => format!("it is not valid yet: `nbf` is {}", when(nbf, self.now_s)),
                None => format!("it expired {}", when(self.time("exp").unwrap_or(0), self.now_s)),
            },
            TokenError::Invalid(InvalidToken::Signature) => {
                "its signature was not made with the configured key: the key differs, or the token was changed".into()
            }
            TokenError::Invalid(InvalidToken::NoKey) => {
                let alg = self.header["alg"].as_str().unwrap_or_default();
                format!("no key for {alg} is configured; {}", key_setting(alg))
            }
            TokenError::Invalid(InvalidToken::Audience) => format!("{error}: it is {}", self.claims["aud"]),
            TokenError::Invalid(InvalidToken::Issuer) => format!("{error}: it is {}", self.claims["iss"]),
            other => other.to_string(),
        }
    }
}

fn key_setting(alg: &str) -> &'static str {
    match alg.get(..2) {
        Some("HS") => "set client.token.hmac_secret_key (a shared secret is not used together with a key set)",
        Some("RS") => "set client.token.rsa_public_key",
        Some("ES") => "set client.token.ecdsa_public_key",
        _ => "it needs client.token.jwks_public_endpoint",
    }
}

/// A time as a distance and as a date.
fn when(at_s: u64, now_s: u64) -> String {
    let distance = match at_s.checked_sub(now_s) {
        Some(0) => "now".into(),
        Some(ahead) => format!("in {}", span(ahead)),
        None => format!("{} ago", span(now_s - at_s)),
    };
    match date(at_s) {
        Some(date) => format!("{distance} ({date})"),
        None => distance,
    }
}

/// The two largest units.
fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(3);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units.iter().skip(first).take(2) {
        let count = rest / size;
        rest %= size;
        if count > 0 || parts.is_empty() {
            parts.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, expected) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (61, "1 minute 1 second"),
            (3600, "1 hour"),
            (3601, "1 hour"),
            (90_000, "1 day 1 hour"),
        ] {
            assert_eq!(span(seconds), expected);
        }
        assert!(when(u64::MAX, 0).starts_with("in ") && when(0, u64::MAX).contains(" ago (1970-"));
    }
}
