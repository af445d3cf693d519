//! A JWKS (RFC 7517, section 5) → public keys by key id.
//!
//! Entries that cannot verify a token are skipped, so that one of them does not take the others away: unknown kinds of key,
//! keys too small, keys without an id, and keys whose `use` is not `sig`.

use std::collections::HashMap;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::alg::{Alg, Hash};
use super::keys::PublicKey;
use super::text::{Text, object};
use super::verify::Reason;

/// Bytes of a document; past it it is refused unread.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Entries of a document; past it it is refused.
pub const JWKS_KEYS_MAX: usize = 256;

/// The keys of a document by their ids.
#[derive(Default)]
pub struct KeySet {
    keys: HashMap<Box<str>, Entry>,
}

struct Entry {
    /// Where the entry names one, no other is verified with it.
    alg: Option<Alg>,
    key: PublicKey,
}

/// Why a document is no key set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    TooLong,
    TooManyKeys,
    NotJwks,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {JWKS_BYTES_MAX} bytes"),
            Self::TooManyKeys => write!(f, "more than {JWKS_KEYS_MAX} keys"),
            Self::NotJwks => f.write_str("no JSON object with a list `keys`"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Ids only.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// RFC 7517, section 4, and the parameters of the public keys.
#[derive(Deserialize)]
struct Jwk<'a> {
    #[serde(borrow)]
    kid: Text<'a>,
    #[serde(borrow)]
    kty: Text<'a>,
    #[serde(borrow, rename = "use")]
    purpose: Text<'a>,
    #[serde(borrow, default)]
    alg: Option<Text<'a>>,
    #[serde(borrow, default)]
    crv: Option<Text<'a>>,
    #[serde(borrow, default)]
    n: Option<Text<'a>>,
    #[serde(borrow, default)]
    e: Option<Text<'a>>,
    #[serde(borrow, default)]
    x: Option<Text<'a>>,
    #[serde(borrow, default)]
    y: Option<Text<'a>>,
}

impl KeySet {
    /// A set may be empty. Where an id stands twice, the last one counts.
    pub fn parse(document: &[u8]) -> Result<Self, Malformed> {
        if document.len() > JWKS_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        let document: Document<'_> = object(document).ok_or(Malformed::NotJwks)?;
        if document.keys.len() > JWKS_KEYS_MAX {
            return Err(Malformed::TooManyKeys);
        }
        let keys = document.keys.iter().filter_map(|raw| entry(raw.get())).collect();
        Ok(Self { keys })
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn has(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// `None` where no key has the id. Errors: `KeyKind`, `Signature`.
    pub(super) fn verify(&self, kid: &str, alg: Alg, message: &[u8], signature: &[u8]) -> Option<Result<(), Reason>> {
        let entry = self.keys.get(kid)?;
        if entry.alg.is_some_and(|own| own != alg) {
            return Some(Err(Reason::KeyKind));
        }
        Some(entry.key.verify(alg, message, signature))
    }
}

fn entry(json: &str) -> Option<(Box<str>, Entry)> {
    let jwk: Jwk<'_> = object(json.as_bytes())?;
    if jwk.purpose.0 != "sig" || jwk.kid.0.is_empty() {
        return None;
    }
    let bytes = |text: &Option<Text<'_>>| BASE64URL_NOPAD.decode(text.as_ref()?.0.as_bytes()).ok();
    let curve = jwk.crv.as_ref().map_or("", |curve| &curve.0);
    let key = match (&*jwk.kty.0, curve) {
        ("RSA", _) => PublicKey::rsa_numbers(&bytes(&jwk.n)?, &bytes(&jwk.e)?),
        ("EC", "P-256") => PublicKey::ec_point(Hash::S256, &bytes(&jwk.x)?, &bytes(&jwk.y)?),
        ("EC", "P-384") => PublicKey::ec_point(Hash::S384, &bytes(&jwk.x)?, &bytes(&jwk.y)?),
        ("EC", "P-521") => PublicKey::ec_point(Hash::S512, &bytes(&jwk.x)?, &bytes(&jwk.y)?),
        ("OKP", "Ed25519") => PublicKey::ed25519(&bytes(&jwk.x)?),
        _ => return None,
    };
    // A key on Ed25519 has one algorithm, which goes by two names (RFC 8037 and RFC 9864).
    let alg = match &jwk.alg {
        Some(name) if jwk.kty.0 != "OKP" => Some(Alg::named(&name.0)?),
        _ => None,
    };
    Some((jwk.kid.0.into(), Entry { alg, key: key.ok()? }))
}
