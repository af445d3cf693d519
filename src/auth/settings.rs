//! The settings of `client.token` and of `client.subscription_token`.

use std::fmt;
use std::time::Duration;

/// How tokens are verified. An empty text or a zero is an unset setting.
///
/// If `jwks_public_endpoint` is set, keys come only from there, and the keys here are ignored.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// For HS256, HS384 and HS512.
    pub hmac_secret_key: String,
    /// Valid in addition to `hmac_secret_key` during a change of keys.
    pub hmac_previous_secret_key: String,
    /// The end of the previous key, in seconds since 1970; 0 for no end.
    pub hmac_previous_secret_key_valid_until: u64,
    /// PEM, for RS256, RS384 and RS512.
    pub rsa_public_key: String,
    /// PEM, for ES256, ES384 or ES512, whichever fits its curve.
    pub ecdsa_public_key: String,
    /// The http or https URL of a JWKS (RFC 7517, section 5). `{{name}}` is replaced by the capture group of that name in a
    /// pattern below.
    pub jwks_public_endpoint: String,
    /// Keys of a set that could not be fetched again for this time are not used any more.
    pub jwks_age_max: Duration,
    /// `aud` must be or contain this.
    pub audience: String,
    pub audience_regex: String,
    /// `iss` must be this.
    pub issuer: String,
    pub issuer_regex: String,
    /// The claim with the user's id, if it is not `sub`: ASCII letters and `_`.
    pub user_id_claim: String,
}

impl Default for TokenSettings {
    fn default() -> Self {
        let none = String::new;
        Self {
            hmac_secret_key: none(),
            hmac_previous_secret_key: none(),
            hmac_previous_secret_key_valid_until: 0,
            rsa_public_key: none(),
            ecdsa_public_key: none(),
            jwks_public_endpoint: none(),
            jwks_age_max: Duration::from_secs(24 * 3600),
            audience: none(),
            audience_regex: none(),
            issuer: none(),
            issuer_regex: none(),
            user_id_claim: none(),
        }
    }
}

/// A shared secret with fewer bytes gets a remark: RFC 7518, section 3.2 requires as many bytes as the hash has.
const SECRET_BYTES_MIN: usize = 32;

impl TokenSettings {
    /// True if no token can be valid with these settings.
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

    /// Settings that are valid but probably not intended, each with a remark.
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
            "is set, so the other keys are not used",
        );
        remark(
            self.jwks_public_endpoint.starts_with("http://"),
            "jwks_public_endpoint",
            "is fetched without TLS: an attacker on the network can replace the keys and forge tokens",
        );
        remarks
    }
}

/// Shows which secrets are set, but not the secrets.
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
            .field("jwks_age_max", &self.jwks_age_max)
            .field("audience", &self.audience)
            .field("audience_regex", &self.audience_regex)
            .field("issuer", &self.issuer)
            .field("issuer_regex", &self.issuer_regex)
            .field("user_id_claim", &self.user_id_claim)
            .finish()
    }
}
