//! `client.token` and `client.subscription_token`: how tokens are verified. The struct belongs to `auth`.

use std::time::Duration;

use super::section::section;
use crate::auth::TokenSettings;
use crate::config::parse::http::Url;
use crate::config::parse::scalar::{Bool, Count, Pattern, Pem, Secret, Text, Time};

section! {
    impl TokenSettings;

    /// The secret that signs tokens with HS256, HS384 or HS512. `corecast token` makes such tokens.
    hmac_secret_key: String as Secret, example("\"a-long-random-text\"");

    /// The previous secret, also accepted while secrets are being replaced.
    hmac_previous_secret_key: String as Secret, example("\"the-text-before\"");

    /// The time until which the previous secret is accepted, in seconds since 1970. 0: no end.
    hmac_previous_secret_key_valid_until: u64 as Count;

    /// The public key for RS256, RS384 and RS512, as PEM.
    rsa_public_key: String as Pem, example("\"-----BEGIN PUBLIC KEY-----\\n...\\n-----END PUBLIC KEY-----\"");

    /// The public key for ES256, ES384 and ES512, as PEM.
    ecdsa_public_key: String as Pem, example("\"-----BEGIN PUBLIC KEY-----\\n...\\n-----END PUBLIC KEY-----\"");

    /// The URL of a key set (JWKS). If it is set, the other keys of this section are ignored.
    jwks_public_endpoint: String as Url, example("\"https://id.example.com/.well-known/jwks.json\"");

    /// Time for which the keys of the last fetch stay valid if the endpoint fails: for so long a revoked key can be accepted.
    /// Past it, clients with tokens are told to try again later. While the endpoint answers, keys are fetched every hour, or
    /// in half of this time if that is shorter.
    jwks_age_max: Duration as Time;

    /// The audience that the claim aud must contain. Empty: aud is not checked.
    audience: String as Text;

    /// A pattern that the claim aud must match. Set this or audience, not both.
    audience_regex: String as Pattern;

    /// The issuer that the claim iss must equal. Empty: iss is not checked.
    issuer: String as Text;

    /// A pattern that the claim iss must match. Set this or issuer, not both.
    issuer_regex: String as Pattern;

    /// The claim that contains the user id, if it is not sub: letters and _.
    user_id_claim: String as Text;
}

section! {
    /// `client.subscription_token`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct SubscriptionToken {
        pub token: TokenSettings = TokenSettings::default(),
    }

    /// Verify subscription tokens with the keys of this section instead of those of client.token. The section has the same
    /// settings as client.token.
    enabled: bool as Bool = false;
}
