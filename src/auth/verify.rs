//! A token → what it grants, or why it is refused.
//!
//! The checks in order: size and form, header, key, signature, claims, issuer and audience, time. The first one that fails
//! decides.

use std::borrow::Cow;
use std::fmt;

use regex::{Captures, Regex, RegexBuilder};

use super::alg::Alg;
use super::claims::{self, Claims, SubscribeToken};
use super::endpoint::Endpoint;
use super::error::{InvalidSetting, InvalidToken, TokenError};
use super::grant::ConnectGrant;
use super::jwks::KeySet;
use super::keys::{PublicKey, RSA_BITS_MAX, RSA_BITS_MIN, Secret, UnusableKey};
use super::settings::TokenSettings;
use super::token::{self, Parts};

/// The memory of a compiled pattern of the operator, at most.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Keys that are parsed once, and what the claims must be. Shards share it; it has no state. `Debug` shows no key.
pub struct Verifier {
    keys: Keys,
    audience: Check,
    issuer: Check,
    user_claim: Option<String>,
}

enum Keys {
    Static(StaticKeys),
    /// From a JWKS that the caller fetches.
    Fetched(Endpoint),
}

#[derive(Default)]
struct StaticKeys {
    secret: Option<Secret>,
    previous: Option<Secret>,
    /// 0 for no end.
    previous_until_s: u64,
    rsa: Option<PublicKey>,
    ec: Option<PublicKey>,
}

/// What a claim must be.
enum Check {
    Any,
    Text(String),
    /// Unanchored, as the original does it: the pattern may match a part of the claim.
    Pattern(Regex),
}

impl Verifier {
    /// Errors: the first setting that is invalid.
    pub fn new(settings: &TokenSettings) -> Result<Self, InvalidSetting> {
        let audience = Check::new(&settings.audience, &settings.audience_regex, ["audience", "audience_regex"])?;
        let issuer = Check::new(&settings.issuer, &settings.issuer_regex, ["issuer", "issuer_regex"])?;
        let name = &settings.user_id_claim;
        if !name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
            let what = format!("{name:?} has characters other than ASCII letters and `_`");
            return Err(InvalidSetting { setting: "user_id_claim", what, fix: "name a top-level claim" });
        }
        let fixed = StaticKeys {
            secret: secret(&settings.hmac_secret_key),
            previous: secret(&settings.hmac_previous_secret_key),
            previous_until_s: settings.hmac_previous_secret_key_valid_until,
            rsa: public_key("rsa_public_key", &settings.rsa_public_key, PublicKey::rsa_pem)?,
            ec: public_key("ecdsa_public_key", &settings.ecdsa_public_key, PublicKey::ec_pem)?,
        };
        let keys = match settings.jwks_public_endpoint.as_str() {
            "" => Keys::Static(fixed),
            url => {
                let patterns = [("issuer_regex", issuer.pattern()), ("audience_regex", audience.pattern())];
                Keys::Fetched(Endpoint::new(url, &patterns)?)
            }
        };
        Ok(Self { keys, audience, issuer, user_claim: (!name.is_empty()).then(|| name.clone()) })
    }

    /// Some token may be costly to check.
    pub fn has_public_keys(&self) -> bool {
        match &self.keys {
            Keys::Fetched(_) => true,
            Keys::Static(keys) => keys.rsa.is_some() || keys.ec.is_some(),
        }
    }

    /// True if checking the token takes a public key (tens of microseconds and more); false if it takes a hash, or if the
    /// token is refused without either.
    pub fn is_costly(&self, token: &str) -> bool {
        let has = |alg: Alg| match &self.keys {
            Keys::Fetched(_) => alg.is_costly(),
            Keys::Static(keys) => {
                matches!(alg, Alg::Rs(_)) && keys.rsa.is_some() || matches!(alg, Alg::Es(_)) && keys.ec.is_some()
            }
        };
        token::algorithm_of(token).is_some_and(has)
    }

    /// The URL of the key set for this token; `None` if no JWKS is configured. There are only as many URLs as the operator
    /// wrote. Errors: the token's claims match none of them.
    pub fn endpoint(&self, token: &str) -> Result<Option<Cow<'_, str>>, TokenError> {
        let Keys::Fetched(endpoint) = &self.keys else { return Ok(None) };
        if let Some(url) = endpoint.fixed() {
            return Ok(Some(Cow::Borrowed(url)));
        }
        let parts = Parts::of(token)?;
        let claims = Claims::read(parts.claims())?;
        let audience = claims.audience()?;
        let captures =
            [self.issuer.captures(claims.issuer()), audience.iter().find_map(|one| self.audience.captures(one))];
        self.check_claims(&claims)?;
        Ok(Some(endpoint.fill(&captures)))
    }

    /// What a connection token grants. `keys` is the set that was fetched from `endpoint`, if any; `now_s` is in seconds
    /// since 1970.
    pub fn connect(&self, token: &str, keys: Option<&KeySet>, now_s: u64) -> Result<ConnectGrant, TokenError> {
        let parts = self.verified(token, keys, now_s)?;
        let claims = self.claims(&parts, now_s)?;
        Ok(claims.connect(self.user(&parts, &claims)?)?)
    }

    /// What a subscription token grants. Arguments as in `connect`.
    pub fn subscribe(&self, token: &str, keys: Option<&KeySet>, now_s: u64) -> Result<SubscribeToken, TokenError> {
        let parts = self.verified(token, keys, now_s)?;
        let claims = self.claims(&parts, now_s)?;
        Ok(claims.subscribe(self.user(&parts, &claims)?)?)
    }

    /// The token's parts, after verifying the signature.
    fn verified<'a>(&self, token: &'a str, set: Option<&KeySet>, now_s: u64) -> Result<Parts<'a>, TokenError> {
        let parts = Parts::of(token)?;
        let header = parts.header()?;
        let (message, signature) = (parts.signed.as_bytes(), parts.signature());
        match &self.keys {
            Keys::Static(keys) => keys.verify(header.alg, message, signature, now_s)?,
            Keys::Fetched(_) => {
                if !header.alg.is_costly() {
                    return Err(InvalidToken::NoKey.into());
                }
                match set.and_then(|set| set.verify(&header.kid, header.alg, message, signature)) {
                    Some(result) => result?,
                    None => return Err(TokenError::UnknownKey { kid: header.kid.into_owned() }),
                }
            }
        }
        Ok(parts)
    }

    fn claims<'p>(&self, parts: &'p Parts<'_>, now_s: u64) -> Result<Claims<'p>, TokenError> {
        let claims = Claims::read(parts.claims())?;
        self.check_claims(&claims)?;
        if claims.is_valid_at(now_s) { Ok(claims) } else { Err(TokenError::Expired) }
    }

    fn check_claims(&self, claims: &Claims<'_>) -> Result<(), InvalidToken> {
        if !self.issuer.passes(claims.issuer()) {
            return Err(InvalidToken::Issuer);
        }
        let accepted =
            matches!(self.audience, Check::Any) || claims.audience()?.iter().any(|one| self.audience.passes(one));
        if accepted { Ok(()) } else { Err(InvalidToken::Audience) }
    }

    fn user(&self, parts: &Parts<'_>, claims: &Claims<'_>) -> Result<String, InvalidToken> {
        match &self.user_claim {
            Some(name) => claims::user(parts.claims(), name),
            None => Ok(claims.subject().to_owned()),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl StaticKeys {
    fn verify(&self, alg: Alg, message: &[u8], signature: &[u8], now_s: u64) -> Result<(), InvalidToken> {
        let key = match alg {
            Alg::Hs(hash) => {
                let previous_holds = self.previous_until_s == 0 || now_s <= self.previous_until_s;
                let mut secrets = self.secret.iter().chain(self.previous.iter().filter(|_| previous_holds)).peekable();
                secrets.peek().ok_or(InvalidToken::NoKey)?;
                let signed = secrets.any(|secret| secret.verifies(hash, message, signature));
                return if signed { Ok(()) } else { Err(InvalidToken::Signature) };
            }
            Alg::Rs(_) => &self.rsa,
            Alg::Es(_) => &self.ec,
            Alg::EdDsa => &None,
        };
        key.as_ref().ok_or(InvalidToken::NoKey)?.verify(alg, message, signature)
    }
}

impl Check {
    fn new(text: &str, pattern: &str, [name, pattern_name]: [&'static str; 2]) -> Result<Self, InvalidSetting> {
        match (text, pattern) {
            ("", "") => Ok(Self::Any),
            (text, "") => Ok(Self::Text(text.to_owned())),
            ("", pattern) => match RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build() {
                Ok(pattern) => Ok(Self::Pattern(pattern)),
                Err(error) => {
                    let error = error.to_string();
                    let what = format!("not a regular expression: {}", error.lines().last().unwrap_or_default().trim());
                    Err(InvalidSetting {
                        setting: pattern_name,
                        what,
                        fix: "write one such as ^https://(one|two)\\.example$",
                    })
                }
            },
            _ => {
                let what = format!("{name} is set too");
                Err(InvalidSetting { setting: pattern_name, what, fix: "set one of the two" })
            }
        }
    }

    fn pattern(&self) -> Option<&Regex> {
        if let Self::Pattern(pattern) = self { Some(pattern) } else { None }
    }

    fn captures<'a>(&self, claim: &'a str) -> Option<Captures<'a>> {
        self.pattern()?.captures(claim)
    }

    fn passes(&self, claim: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(text) => text == claim,
            Self::Pattern(pattern) => pattern.is_match(claim),
        }
    }
}

fn secret(text: &str) -> Option<Secret> {
    (!text.is_empty()).then(|| Secret::new(text.as_bytes()))
}

fn public_key(
    setting: &'static str,
    pem: &str,
    parse: fn(&str) -> Result<PublicKey, UnusableKey>,
) -> Result<Option<PublicKey>, InvalidSetting> {
    if pem.is_empty() {
        return Ok(None);
    }
    let (what, fix) = match parse(pem) {
        Ok(key) => return Ok(Some(key)),
        Err(UnusableKey::NotPem) => {
            ("not PEM".into(), "paste the whole block, beginning with -----BEGIN PUBLIC KEY-----")
        }
        Err(UnusableKey::Private) => {
            ("a private key".into(), "set the public key, and generate a new pair: the private key was exposed")
        }
        Err(UnusableKey::Kind) if setting == "rsa_public_key" => {
            ("not an RSA public key".into(), "set an RSA public key")
        }
        Err(UnusableKey::Kind) => {
            ("not a public key on P-256, P-384 or P-521".into(), "set an elliptic-curve public key")
        }
        Err(UnusableKey::Size(bits)) => {
            let what = format!("the key has {bits} bits; the limits are {RSA_BITS_MIN} and {RSA_BITS_MAX}");
            (what, "generate a pair of 2048 bits or more")
        }
    };
    Err(InvalidSetting { setting, what, fix })
}
