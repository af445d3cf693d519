//! Errors of this module, grouped by what the caller does next.
//!
//! - [`TokenError`]: answer the client, or fetch keys and try again. [`InvalidToken`] says why a token is refused.
//! - [`InvalidSetting`]: report the setting to the operator.
//!
//! Errors of a single key or document are next to their parsers (`keys::UnusableKey`, `jwks::InvalidKeySet`).

use std::fmt;

/// Why a token is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// Refuse the token: no other time and no other key set changes that.
    Invalid(InvalidToken),
    /// Tell the client to get a new token. Tokens that are not valid yet are included.
    Expired,
    /// The key set lacks the key: fetch the set again, then retry.
    UnknownKey { kid: String },
}

/// Why a token is refused at any time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidToken {
    TooLong,
    Form,
    Header,
    Critical,
    Algorithm,
    NoKey,
    NoKeyId,
    KeyKind,
    Signature,
    Claims,
    Base64,
    Audience,
    Issuer,
    UserClaim,
    ChannelInConnectToken,
    NoChannel,
}

impl InvalidToken {
    /// The reason, as part of a sentence about the token. It shows nothing of the token.
    pub fn text(self) -> &'static str {
        match self {
            Self::TooLong => "it is longer than 32 KiB",
            Self::Form => "it does not have the form header.claims.signature in base64url",
            Self::Header => "its header is not a JSON object with `alg`",
            Self::Critical => "its header requires extensions (`crit`), and the server supports no extension",
            Self::Algorithm => {
                "its algorithm is not HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA"
            }
            Self::NoKey => "no key is configured for its algorithm",
            Self::NoKeyId => "its header has no `kid`, and the key set has several keys for its algorithm",
            Self::KeyKind => "its algorithm does not fit its key",
            Self::Signature => "its signature was not made with the configured key",
            Self::Claims => "its claims are not a JSON object with the expected types, or one is repeated",
            Self::Base64 => "`b64info` or `b64data` is not base64",
            Self::Audience => "its `aud` is not the configured audience",
            Self::Issuer => "its `iss` is not the configured issuer",
            Self::UserClaim => "the claim with the user's id is neither text nor a number",
            Self::ChannelInConnectToken => "it is a subscription token: it has a `channel`",
            Self::NoChannel => "it is not a subscription token: it has no `channel`",
        }
    }
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason) => reason.fmt(f),
            Self::Expired => f.write_str("it has expired or is not valid yet"),
            Self::UnknownKey { kid } => write!(f, "the key set has no key {kid:?}"),
        }
    }
}

impl std::error::Error for TokenError {}

impl From<InvalidToken> for TokenError {
    fn from(reason: InvalidToken) -> Self {
        Self::Invalid(reason)
    }
}

/// A setting of tokens that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidSetting {
    /// Its name without the section, such as `rsa_public_key`.
    pub setting: &'static str,
    /// What is wrong. It contains no secret.
    pub what: String,
    pub fix: &'static str,
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.setting, self.what, self.fix)
    }
}

impl std::error::Error for InvalidSetting {}
