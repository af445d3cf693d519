//! The settings of `client.token`, which `client.subscription_token` has too, and what can be wrong with them.

use std::fmt;

/// How tokens are verified. An empty text or a zero is a setting that was not made.
///
/// Where `jwks_public_endpoint` is set, keys come from there alone and the ones named here are not looked at.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TokenSettings {
    /// For HS256, HS384 and HS512.
    pub hmac_secret_key: String,
    /// Holds beside `hmac_secret_key` while keys are changed.
    pub hmac_previous_secret_key: String,
    /// Seconds since 1970, after which the previous key holds no more; 0 for no end.
    pub hmac_previous_secret_key_valid_until: u64,
    /// PEM, for RS256, RS384 and RS512.
    pub rsa_public_key: String,
    /// PEM, for the one of ES256, ES384 and ES512 that goes with its curve.
    pub ecdsa_public_key: String,
    /// URL of a JWKS (RFC 7517, section 5), http or https. `{{name}}` stands for the group of that name in a pattern below.
    pub jwks_public_endpoint: String,
    /// What `aud` must be or hold.
    pub audience: String,
    pub audience_regex: String,
    /// What `iss` must be.
    pub issuer: String,
    pub issuer_regex: String,
    /// The claim with the user's id, where it is not `sub`: ASCII letters and `_`.
    pub user_id_claim: String,
}

/// Bytes of a shared secret below which it is remarked: RFC 7518, section 3.2 asks for as many as the hash has.
pub const SECRET_BYTES_MIN: usize = 32;

impl TokenSettings {
    /// True where no setting lets any token pass.
    pub fn is_empty(&self) -> bool {
        let keys = [
            &self.hmac_secret_key,
            &self.hmac_previous_secret_key,
            &self.rsa_public_key,
            &self.ecdsa_public_key,
            &self.jwks_public_endpoint,
        ];
        keys.iter().all(|key| key.is_empty())
    }

    /// Things that may be meant but surprise: a setting and a sentence about it.
    pub fn remarks(&self) -> Vec<(&'static str, &'static str)> {
        let mut remarks = Vec::new();
        let mut remark = |holds: bool, setting, text| {
            if holds {
                remarks.push((setting, text));
            }
        };
        let short = |secret: &str| (1..SECRET_BYTES_MIN).contains(&secret.len());
        remark(
            short(&self.hmac_secret_key),
            "hmac_secret_key",
            "is shorter than 32 bytes and can be guessed from one token",
        );
        remark(
            short(&self.hmac_previous_secret_key),
            "hmac_previous_secret_key",
            "is shorter than 32 bytes and can be guessed from one token",
        );
        let others =
            [&self.hmac_secret_key, &self.hmac_previous_secret_key, &self.rsa_public_key, &self.ecdsa_public_key];
        remark(
            !self.jwks_public_endpoint.is_empty() && others.iter().any(|key| !key.is_empty()),
            "jwks_public_endpoint",
            "is set, so that the keys set beside it are not used",
        );
        remark(
            self.jwks_public_endpoint.starts_with("http://"),
            "jwks_public_endpoint",
            "is fetched without TLS: whoever stands between can make tokens",
        );
        remarks
    }
}

/// Says which secrets are set and not what they are.
impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &str| if secret.is_empty() { "unset" } else { "hidden" };
        f.debug_struct("TokenSettings")
            .field("hmac_secret_key", &hidden(&self.hmac_secret_key))
            .field("hmac_previous_secret_key", &hidden(&self.hmac_previous_secret_key))
            .field("hmac_previous_secret_key_valid_until", &self.hmac_previous_secret_key_valid_until)
            .field("rsa_public_key", &self.rsa_public_key)
            .field("ecdsa_public_key", &self.ecdsa_public_key)
            .field("jwks_public_endpoint", &self.jwks_public_endpoint)
            .field("audience", &self.audience)
            .field("audience_regex", &self.audience_regex)
            .field("issuer", &self.issuer)
            .field("issuer_regex", &self.issuer_regex)
            .field("user_id_claim", &self.user_id_claim)
            .finish()
    }
}

/// A setting that cannot be used. Its name is without its section, such as `rsa_public_key`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFault {
    pub setting: &'static str,
    /// What is wrong; never holds a secret.
    pub what: String,
    pub mend: &'static str,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.setting, self.what, self.mend)
    }
}

impl std::error::Error for KeyFault {}
