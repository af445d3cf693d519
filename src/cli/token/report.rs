//! What a token contains, as text: its user, when it expires, and why the server would reject it.

use corecast::auth::{self, InvalidToken, TokenError};
use serde_json::Value;

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

/// RFC 3339 in UTC, to the year 9999.
fn date(at_s: u64) -> Option<String> {
    let (days, second) = (at_s / 86_400, at_s % 86_400);
    // Years that begin in March, so that the leap day is the last; eras of 400 years have 146,097 days.
    let shifted = days.checked_add(719_468)?;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    (year <= 9999).then(|| format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (at_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_300_819_380, "2011-03-22T18:43:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(at_s).as_deref(), Some(expected));
        }
        assert_eq!((date(u64::MAX), date(253_402_300_800)), (None, None));
    }

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
