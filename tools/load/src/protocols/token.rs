//! Tokens (RFC 7519, HS256) of users with numbers as names, like those that an application backend issues.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::time::SystemTime;

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
/// Bytes of the smallest info: an object with an empty name.
const INFO_BYTES_MIN: usize = r#"{"name":""}"#.len();
/// The lifetime of a token: longer than any run.
const LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// Makes each token when it is needed.
#[derive(Debug)]
pub struct Tokens {
    key: hmac::Key,
    user_bytes: usize,
    info: Option<Value>,
    /// Unix seconds.
    expires_at: u64,
    subscriptions: bool,
}

/// Unix seconds.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Tokens {
    /// User names have `user_bytes` or more, the info has `info_bytes` (0: none); `subscriptions` have tokens too, or not.
    pub fn new(secret: &str, user_bytes: usize, info_bytes: usize, subscriptions: bool) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let name = "n".repeat(info_bytes.saturating_sub(INFO_BYTES_MIN));
        let info = (info_bytes > 0).then(|| json!({ "name": name }));
        Self { key, user_bytes, info, expires_at: unix_time() + LIFETIME_SECONDS, subscriptions }
    }

    /// The name of user `number`.
    fn user(&self, number: usize) -> String {
        format!("{number:0>width$}", width = self.user_bytes)
    }

    pub fn connection(&self, number: usize) -> String {
        self.sign(json!({ "sub": self.user(number), "exp": self.expires_at }))
    }

    /// `None` if subscriptions have no tokens.
    pub fn subscription(&self, number: usize, channel: &str) -> Option<String> {
        let claims = json!({ "sub": self.user(number), "channel": channel, "exp": self.expires_at });
        self.subscriptions.then(|| self.sign(claims))
    }

    fn sign(&self, mut claims: Value) -> String {
        if let Some(info) = &self.info {
            claims["info"] = info.clone();
        }
        let token = format!("{HEADER}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
        let signature = BASE64URL_NOPAD.encode(hmac::sign(&self.key, token.as_bytes()).as_ref());
        format!("{token}.{signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(token: &str) -> (Vec<u8>, Value) {
        let mut parts = token.split('.').map(|part| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap());
        let header = parts.next().unwrap();
        (header, serde_json::from_slice(&parts.next().unwrap()).unwrap())
    }

    #[test]
    fn token_names_its_user_and_is_signed() {
        let tokens = Tokens { expires_at: 99, ..Tokens::new("secret", 12, 64, false) };
        let token = tokens.connection(42);
        let (header, claims) = parts(&token);
        assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!((&claims["sub"], &claims["exp"]), (&json!("000000000042"), &json!(99)));
        assert_eq!(claims["info"].to_string().len(), 64);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
        assert_eq!(tokens.subscription(42, "news"), None);
    }

    #[test]
    fn subscription_token_names_its_channel() {
        let tokens = Tokens { expires_at: 99, ..Tokens::new("secret", 1, 0, true) };
        let (_, claims) = parts(&tokens.subscription(7, "news").unwrap());
        assert_eq!(claims, json!({"sub": "7", "channel": "news", "exp": 99}));
    }
}
