//! A JWKS (RFC 7517, section 5) → public keys by key id.
//!
//! Entries that cannot verify a token are skipped, so that the other keys of the set still work: unknown kinds of key and
//! curves, keys that are too small, other algorithms, and keys for another purpose. `use`, `key_ops`, `alg` and `kid` are
//! optional (section 4). Shared secrets (`oct`) are skipped too: every reader of the set could sign with them.
//!
//! A token selects its key by `kid` and by its algorithm, since keys of several kinds may share an id (section 4.5). A token
//! without `kid` is verified if exactly one key of the set fits its algorithm.

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

/// The keys of a document by their ids; a key without an id has the empty one.
#[derive(Default)]
pub struct KeySet {
    /// Of one id, each pair of a kind of key and an algorithm occurs once: for a token at most two keys fit.
    keys: HashMap<Box<str>, Vec<Entry>>,
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
    kty: Text<'a>,
    #[serde(borrow, default)]
    kid: Option<Text<'a>>,
    #[serde(borrow, default, rename = "use")]
    purpose: Option<Text<'a>>,
    #[serde(borrow, default)]
    key_ops: Option<Vec<Text<'a>>>,
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
    /// A set may be empty. Of two keys with the same id, kind and algorithm, the last one counts.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        if document.len() > JWKS_BYTES_MAX {
            return Err(InvalidKeySet::TooLong);
        }
        let document: Document<'_> = object(document).ok_or(InvalidKeySet::NotJwks)?;
        if document.keys.len() > JWKS_KEYS_MAX {
            return Err(InvalidKeySet::TooManyKeys);
        }
        let mut keys = HashMap::<Box<str>, Vec<Entry>>::new();
        for (kid, entry) in document.keys.iter().filter_map(|raw| entry(raw.get())) {
            let of_id = keys.entry(kid).or_default();
            of_id.retain(|one| one.alg != entry.alg || !one.key.is_same_kind(&entry.key));
            of_id.push(entry);
        }
        Ok(Self { keys })
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn has(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// `kid` is empty for a token without one. `None` if no key has the id. Errors: `KeyKind`, `NoKeyId`, `Signature`.
    pub(super) fn verify(
        &self,
        kid: &str,
        alg: Alg,
        message: &[u8],
        signature: &[u8],
    ) -> Option<Result<(), InvalidToken>> {
        let fits = |entry: &&Entry| entry.alg.is_none_or(|own| own == alg) && entry.key.fits(alg);
        if kid.is_empty() {
            let mut fitting = self.keys.values().flatten().filter(fits);
            let key = fitting.next()?;
            return Some(match fitting.next() {
                None => key.key.verify(alg, message, signature),
                Some(_) => Err(InvalidToken::NoKeyId),
            });
        }
        let mut fitting = self.keys.get(kid)?.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Some(Err(InvalidToken::KeyKind));
        }
        let is_signed = fitting.any(|entry| entry.key.verify(alg, message, signature).is_ok());
        Some(if is_signed { Ok(()) } else { Err(InvalidToken::Signature) })
    }
}

/// The id and the key of an entry; `None` if it cannot verify a token.
fn entry(json: &str) -> Option<(Box<str>, Entry)> {
    let jwk: Jwk<'_> = object(json.as_bytes())?;
    let signs = jwk.purpose.is_none_or(|purpose| purpose.0 == "sig");
    let verifies = jwk.key_ops.is_none_or(|operations| operations.iter().any(|one| one.0 == "verify"));
    if !signs || !verifies {
        return None;
    }
    // Some providers pad the numbers, although RFC 7515 (section 2) forbids it.
    let bytes =
        |text: &Option<Text<'_>>| BASE64URL_NOPAD.decode(text.as_ref()?.0.trim_end_matches('=').as_bytes()).ok();
    let curve = jwk.crv.as_ref().map_or("", |curve| &curve.0);
    let key = match (&*jwk.kty.0, curve) {
        ("RSA", _) => PublicKey::rsa_numbers(&bytes(&jwk.n)?, &bytes(&jwk.e)?),
        ("EC", "P-256") => PublicKey::ec_point(Hash::S256, &bytes(&jwk.x)?, &bytes(&jwk.y)?),
        ("EC", "P-384") => PublicKey::ec_point(Hash::S384, &bytes(&jwk.x)?, &bytes(&jwk.y)?),
        ("EC", "P-521") => PublicKey::ec_point(Hash::S512, &bytes(&jwk.x)?, &bytes(&jwk.y)?),
        ("OKP", "Ed25519") => PublicKey::ed25519(&bytes(&jwk.x)?),
        _ => return None,
    };
    let alg = match &jwk.alg {
        Some(name) => Some(Alg::named(&name.0)?),
        None => None,
    };
    Some((jwk.kid.map_or("".into(), |kid| kid.0.into()), Entry { alg, key: key.ok()? }))
}
