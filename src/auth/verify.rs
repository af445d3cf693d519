//! A token → what it grants, or exactly why not.
//!
//! The order: size and form, header, key, signature, claims, audience and issuer, time. What stands later is not looked at
//! where something earlier refuses.

use std::borrow::Cow;
use std::fmt;

use regex::{Captures, Regex, RegexBuilder};

use super::alg::Alg;
use super::claims::{self, Claims};
use super::endpoint::Endpoint;
use super::jwks::KeySet;
use super::keys::{PublicKey, RSA_BITS_MAX, RSA_BITS_MIN, Secret, Unusable};
use super::settings::{KeyFault, TokenSettings};
use super::token::{self, Parts};
use crate::auth::grant::{ConnectGrant, SubscribeGrant};

/// Bytes that a pattern of the operator may take once it is made ready.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// What a subscription token says. The caller holds user, channel and client against the connection's own.
#[derive(Clone, PartialEq, Debug)]
pub struct SubscribeToken {
    /// Empty for the anonymous user.
    pub user: String,
    /// Never empty.
    pub channel: String,
    /// The one client that may use the token, where it names one.
    pub client: Option<String>,
    pub grant: SubscribeGrant,
}

/// What the caller does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// Refuse: no other time and no other key set would change it.
    Invalid(Reason),
    /// Tell the client to fetch a new token. So it is too where the token does not hold yet.
    Expired,
    /// The key set at hand lacks the key: fetch it again, as `KeyCache` allows, and try again.
    UnknownKey { kid: String },
}

/// Why a token is refused for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    TooLong,
    WireFormat,
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is longer than 32 KiB",
            Self::WireFormat => "it does not have the form header.claims.signature in base64url",
            Self::Header => "its header is no JSON object with `alg`",
            Self::Critical => "its header asks for extensions by `crit`",
            Self::Algorithm => {
                "its algorithm is none of HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384, ES512, EdDSA"
            }
            Self::NoKey => "no key is configured for its algorithm",
            Self::NoKeyId => "it names no key by `kid`, which a JWKS needs",
            Self::KeyKind => "its algorithm is not the one of its key",
            Self::Signature => "its signature was not made with the configured key",
            Self::Claims => "its claims are no JSON object of the expected types, or name one twice",
            Self::Base64 => "a claim of bytes (`b64info`, `b64data`) is no base64",
            Self::Audience => "its `aud` is not the configured audience",
            Self::Issuer => "its `iss` is not the configured issuer",
            Self::UserClaim => "the claim with the user's id is neither text nor number",
            Self::ChannelInConnectToken => "it is a subscription token: it names a `channel`",
            Self::NoChannel => "it is no subscription token: it names no `channel`",
        })
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason) => reason.fmt(f),
            Self::Expired => f.write_str("it has expired, or does not hold yet"),
            Self::UnknownKey { kid } => write!(f, "its key {kid:?} is not in the key set"),
        }
    }
}

impl std::error::Error for TokenError {}

impl From<Reason> for TokenError {
    fn from(reason: Reason) -> Self {
        Self::Invalid(reason)
    }
}

/// Keys made ready once, and what claims must be. Shared by shards; holds no state. Printed, it shows no key.
pub struct Verifier {
    keys: Keys,
    audience: Check,
    issuer: Check,
    user_claim: Option<String>,
}

enum Keys {
    Static(StaticKeys),
    /// From a JWKS, which the caller fetches.
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
    Nothing,
    Text(String),
    /// It need not match the whole: patterns are anchored where they say so.
    Pattern(Regex),
}

impl Verifier {
    /// Errors: the first setting that cannot be used.
    pub fn new(settings: &TokenSettings) -> Result<Self, KeyFault> {
        let audience = Check::new(&settings.audience, &settings.audience_regex, ["audience", "audience_regex"])?;
        let issuer = Check::new(&settings.issuer, &settings.issuer_regex, ["issuer", "issuer_regex"])?;
        let name = &settings.user_id_claim;
        if !name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') {
            let what = format!("{name:?} has other characters than ASCII letters and `_`");
            return Err(KeyFault { setting: "user_id_claim", what, mend: "name one claim of the first level" });
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

    /// True where checking the token costs tens of microseconds and more (a public key's work), false where it costs a hash
    /// or is refused at a glance.
    pub fn is_costly(&self, token: &str) -> bool {
        let has = |alg: Alg| match &self.keys {
            Keys::Fetched(_) => alg.is_costly(),
            Keys::Static(keys) => {
                matches!(alg, Alg::Rs(_)) && keys.rsa.is_some() || matches!(alg, Alg::Es(_)) && keys.ec.is_some()
            }
        };
        token::peek(token).is_some_and(has)
    }

    /// Where the keys for this token are fetched from; `None` where no JWKS is configured. There are as many endpoints as
    /// the operator wrote. Errors: a token whose claims lead to none of them.
    pub fn endpoint(&self, token: &str) -> Result<Option<Cow<'_, str>>, TokenError> {
        let Keys::Fetched(endpoint) = &self.keys else { return Ok(None) };
        if let Some(url) = endpoint.fixed() {
            return Ok(Some(Cow::Borrowed(url)));
        }
        let parts = Parts::of(token)?;
        let claims = Claims::read(parts.claims())?;
        let audience = claims.audience()?;
        let caught = [self.issuer.catch(claims.issuer()), audience.iter().find_map(|one| self.audience.catch(one))];
        self.judge(&claims)?;
        Ok(Some(endpoint.fill(&caught)))
    }

    /// What a connection token grants. `keys`: the set fetched from `endpoint`, if any was. `now_s`: seconds since 1970.
    pub fn connect(&self, token: &str, keys: Option<&KeySet>, now_s: u64) -> Result<ConnectGrant, TokenError> {
        let parts = self.signed(token, keys, now_s)?;
        let claims = self.claims(&parts, now_s)?;
        Ok(claims.connect(self.user(&parts, &claims)?)?)
    }

    /// What a subscription token grants. Arguments as in `connect`.
    pub fn subscribe(&self, token: &str, keys: Option<&KeySet>, now_s: u64) -> Result<SubscribeToken, TokenError> {
        let parts = self.signed(token, keys, now_s)?;
        let claims = self.claims(&parts, now_s)?;
        Ok(claims.subscribe(self.user(&parts, &claims)?)?)
    }

    /// The token's parts, their signature verified.
    fn signed<'a>(&self, token: &'a str, set: Option<&KeySet>, now_s: u64) -> Result<Parts<'a>, TokenError> {
        let parts = Parts::of(token)?;
        let header = parts.header()?;
        let (message, signature) = (parts.signed.as_bytes(), parts.signature());
        match &self.keys {
            Keys::Static(keys) => keys.verify(header.alg, message, signature, now_s)?,
            Keys::Fetched(_) => {
                if !header.alg.is_costly() {
                    return Err(Reason::NoKey.into());
                }
                if header.kid.is_empty() {
                    return Err(Reason::NoKeyId.into());
                }
                match set.and_then(|set| set.verify(&header.kid, header.alg, message, signature)) {
                    Some(verdict) => verdict?,
                    None => return Err(TokenError::UnknownKey { kid: header.kid.into_owned() }),
                }
            }
        }
        Ok(parts)
    }

    fn claims<'p>(&self, parts: &'p Parts<'_>, now_s: u64) -> Result<Claims<'p>, TokenError> {
        let claims = Claims::read(parts.claims())?;
        self.judge(&claims)?;
        if claims.holds_at(now_s) { Ok(claims) } else { Err(TokenError::Expired) }
    }

    fn judge(&self, claims: &Claims<'_>) -> Result<(), Reason> {
        if !self.issuer.passes(claims.issuer()) {
            return Err(Reason::Issuer);
        }
        let any =
            matches!(self.audience, Check::Nothing) || claims.audience()?.iter().any(|one| self.audience.passes(one));
        if any { Ok(()) } else { Err(Reason::Audience) }
    }

    fn user(&self, parts: &Parts<'_>, claims: &Claims<'_>) -> Result<String, Reason> {
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
    fn verify(&self, alg: Alg, message: &[u8], signature: &[u8], now_s: u64) -> Result<(), Reason> {
        let key = match alg {
            Alg::Hs(hash) => {
                let previous_holds = self.previous_until_s == 0 || now_s <= self.previous_until_s;
                let mut secrets = self.secret.iter().chain(self.previous.iter().filter(|_| previous_holds)).peekable();
                secrets.peek().ok_or(Reason::NoKey)?;
                let signed = secrets.any(|secret| secret.verifies(hash, message, signature));
                return if signed { Ok(()) } else { Err(Reason::Signature) };
            }
            Alg::Rs(_) => &self.rsa,
            Alg::Es(_) => &self.ec,
            Alg::EdDsa => &None,
        };
        key.as_ref().ok_or(Reason::NoKey)?.verify(alg, message, signature)
    }
}

impl Check {
    fn new(text: &str, pattern: &str, [name, pattern_name]: [&'static str; 2]) -> Result<Self, KeyFault> {
        match (text, pattern) {
            ("", "") => Ok(Self::Nothing),
            (text, "") => Ok(Self::Text(text.to_owned())),
            ("", pattern) => match RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build() {
                Ok(pattern) => Ok(Self::Pattern(pattern)),
                Err(error) => {
                    let error = error.to_string();
                    let what = format!("no regular expression: {}", error.lines().last().unwrap_or_default().trim());
                    Err(KeyFault {
                        setting: pattern_name,
                        what,
                        mend: "write one such as ^https://(one|two)\\.example$",
                    })
                }
            },
            _ => {
                let what = format!("{name} is set too");
                Err(KeyFault { setting: pattern_name, what, mend: "set one of the two" })
            }
        }
    }

    fn pattern(&self) -> Option<&Regex> {
        if let Self::Pattern(pattern) = self { Some(pattern) } else { None }
    }

    fn catch<'a>(&self, claim: &'a str) -> Option<Captures<'a>> {
        self.pattern()?.captures(claim)
    }

    fn passes(&self, claim: &str) -> bool {
        match self {
            Self::Nothing => true,
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
    parse: fn(&str) -> Result<PublicKey, Unusable>,
) -> Result<Option<PublicKey>, KeyFault> {
    if pem.is_empty() {
        return Ok(None);
    }
    let (what, mend) = match parse(pem) {
        Ok(key) => return Ok(Some(key)),
        Err(Unusable::NotPem) => ("no PEM".into(), "paste the whole block, from -----BEGIN PUBLIC KEY----- on"),
        Err(Unusable::Private) => {
            ("a private key".into(), "give the public one, and make a new pair: this one was shown")
        }
        Err(Unusable::Kind) if setting == "rsa_public_key" => ("no RSA public key".into(), "give a key of that kind"),
        Err(Unusable::Kind) => ("no public key on P-256, P-384 or P-521".into(), "give a key of that kind"),
        Err(Unusable::Size(bits)) => {
            let what = format!("a key of {bits} bits is not within {RSA_BITS_MIN} and {RSA_BITS_MAX}");
            (what, "make a pair of 2048 bits or more")
        }
    };
    Err(KeyFault { setting, what, mend })
}
