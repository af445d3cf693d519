//! A JWKS (RFC 7517, section 5) → public keys by key id.
//!
//! Entries that cannot verify a token are skipped, so that the other keys of the set still work: unknown kinds of key, keys
//! that are too small, keys without an id, and keys whose `use` is not `sig`.

use std::collections::HashMap;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::alg::{Alg, Hash};
use super::error::InvalidToken;
use super::keys::PublicKey;
use super::text::{Text, object};

/// The size of a document in bytes; a longer one is refused without reading it.
pub(super) const JWKS_BYTES_MAX: usize = 256 * 1024;
/// The entries of a document; one with more is refused.
pub(super) const JWKS_KEYS_MAX: usize = 256;

/// The keys of a document by their ids.
#[derive(Default)]
pub struct KeySet {
    keys: HashMap<Box<str>, Entry>,
}

struct Entry {
    /// If the entry names an algorithm, the key verifies no other.
    alg: Option<Alg>,
    key: PublicKey,
}

/// Why a document is not a key set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidKeySet {
    TooLong,
    TooManyKeys,
    NotJwks,
}

impl fmt::Display for InvalidKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {JWKS_BYTES_MAX} bytes"),
            Self::TooManyKeys => write!(f, "more than {JWKS_KEYS_MAX} keys"),
            Self::NotJwks => f.write_str("not a JSON object with a list `keys`"),
        }
    }
}

impl std::error::Error for InvalidKeySet {}

/// Shows only the ids.
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
    /// A set may be empty. If an id occurs twice, the last key counts.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        if document.len() > JWKS_BYTES_MAX {
            return Err(InvalidKeySet::TooLong);
        }
        let document: Document<'_> = object(document).ok_or(InvalidKeySet::NotJwks)?;
        if document.keys.len() > JWKS_KEYS_MAX {
            return Err(InvalidKeySet::TooManyKeys);
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

    /// `None` if no key has the id. Errors: `KeyKind`, `Signature`.
    pub(super) fn verify(
        &self,
        kid: &str,
        alg: Alg,
        message: &[u8],
        signature: &[u8],
    ) -> Option<Result<(), InvalidToken>> {
        let entry = self.keys.get(kid)?;
        if entry.alg.is_some_and(|own| own != alg) {
            return Some(Err(InvalidToken::KeyKind));
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
    // A key on Ed25519 has one algorithm, which has two names (RFC 8037 and RFC 9864).
    let alg = match &jwk.alg {
        Some(name) if jwk.kty.0 != "OKP" => Some(Alg::named(&name.0)?),
        _ => None,
    };
    Some((jwk.kid.0.into(), Entry { alg, key: key.ok()? }))
}
