//! Keys that verify signatures: parsed once, each bound to its kind.

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{PublicKey as RsaKey, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters,
};
use data_encoding::BASE64;

use super::alg::{Alg, Hash};
use super::error::InvalidToken;

/// The size of an RSA key in bits, at least (RFC 7518, section 3.3).
pub(super) const RSA_BITS_MIN: usize = 2048;
/// The size of an RSA key in bits, at most: the cost of a check grows with its square.
pub(super) const RSA_BITS_MAX: usize = 8192;

/// A shared secret, prepared for all three hashes.
#[derive(Clone)]
pub(super) struct Secret(Box<[hmac::Key; 3]>);

impl Secret {
    pub(super) fn new(secret: &[u8]) -> Self {
        let algs = [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512];
        Self(Box::new(algs.map(|alg| hmac::Key::new(alg, secret))))
    }

    /// In constant time.
    pub(super) fn verifies(&self, hash: Hash, message: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0[hash.index()], message, tag).is_ok()
    }

    pub(super) fn sign(&self, hash: Hash, message: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0[hash.index()], message)
    }
}

/// A public key of one kind.
pub(super) enum PublicKey {
    /// One key, prepared for each hash.
    Rsa(Box<[ParsedPublicKey; 3]>),
    /// The hash fixes the curve.
    Ec(Hash, ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

/// Why bytes are not a key of the expected kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UnusableKey {
    NotPem,
    /// A private key, which does not belong on this server.
    Private,
    /// Not a public key, or one of another kind.
    Kind,
    /// An RSA key with this number of bits.
    Size(usize),
}

impl PublicKey {
    /// From `PUBLIC KEY` (RFC 5280), `RSA PUBLIC KEY` (RFC 8017) or `CERTIFICATE`.
    pub(super) fn rsa_pem(pem: &str) -> Result<Self, UnusableKey> {
        Self::rsa_der(&public_der(pem)?)
    }

    /// From `PUBLIC KEY` or `CERTIFICATE`: P-256, P-384 or P-521.
    pub(super) fn ec_pem(pem: &str) -> Result<Self, UnusableKey> {
        let der = public_der(pem)?;
        let hashes = [Hash::S256, Hash::S384, Hash::S512];
        let parse = |hash| Some(Self::Ec(hash, ParsedPublicKey::new(curve(hash), &der).ok()?));
        hashes.into_iter().find_map(parse).ok_or(UnusableKey::Kind)
    }

    fn rsa_der(der: &[u8]) -> Result<Self, UnusableKey> {
        let key = RsaKey::from_der(der).map_err(|_| UnusableKey::Kind)?;
        // RFC 8017, appendix A.1.1: a sequence that begins with the modulus.
        let modulus = element(key.as_ref()).and_then(|numbers| element(numbers.content)).ok_or(UnusableKey::Kind)?;
        size(modulus.content)?;
        let parse = |hash| ParsedPublicKey::new(rsa(hash), der).map_err(|_| UnusableKey::Kind);
        Ok(Self::Rsa(Box::new([parse(Hash::S256)?, parse(Hash::S384)?, parse(Hash::S512)?])))
    }

    /// From modulus and exponent, big-endian (RFC 7518, section 6.3.1).
    pub(super) fn rsa_numbers(n: &[u8], e: &[u8]) -> Result<Self, UnusableKey> {
        size(n)?;
        let numbers = PublicKeyComponents { n: significant(n), e: significant(e) };
        let parse = |hash| numbers.to_parsed_public_key(rsa(hash)).map_err(|_| UnusableKey::Kind);
        Ok(Self::Rsa(Box::new([parse(Hash::S256)?, parse(Hash::S384)?, parse(Hash::S512)?])))
    }

    /// From coordinates, big-endian (RFC 7518, section 6.2.1). Coordinates without their leading zeros are accepted.
    pub(super) fn ec_point(hash: Hash, x: &[u8], y: &[u8]) -> Result<Self, UnusableKey> {
        let width = match hash {
            Hash::S256 => 32,
            Hash::S384 => 48,
            Hash::S512 => 66,
        };
        // SEC 1, section 2.3.3: the uncompressed form.
        let mut point = vec![0; 1 + 2 * width];
        point[0] = 4;
        for (end, number) in [(1 + width, x), (1 + 2 * width, y)] {
            let start = (number.len() <= width).then(|| end - number.len()).ok_or(UnusableKey::Kind)?;
            point[start..end].copy_from_slice(number);
        }
        Ok(Self::Ec(hash, ParsedPublicKey::new(curve(hash), &point).map_err(|_| UnusableKey::Kind)?))
    }

    /// From its 32 bytes (RFC 8037, section 2).
    pub(super) fn ed25519(x: &[u8]) -> Result<Self, UnusableKey> {
        if x.len() != 32 {
            return Err(UnusableKey::Kind);
        }
        Ok(Self::Ed25519(ParsedPublicKey::new(&ED25519, x).map_err(|_| UnusableKey::Kind)?))
    }

    /// Errors: `KeyKind` if `alg` needs another kind of key, `Signature`.
    pub(super) fn verify(&self, alg: Alg, message: &[u8], signature: &[u8]) -> Result<(), InvalidToken> {
        let key = self.prepared(alg).ok_or(InvalidToken::KeyKind)?;
        key.verify_sig(message, signature).map_err(|_| InvalidToken::Signature)
    }

    /// True if the algorithm needs a key of this kind.
    pub(super) fn fits(&self, alg: Alg) -> bool {
        self.prepared(alg).is_some()
    }

    /// True if both keys fit the same algorithms.
    pub(super) fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ec(one, _), Self::Ec(two, _)) => one == two,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    fn prepared(&self, alg: Alg) -> Option<&ParsedPublicKey> {
        match (self, alg) {
            (Self::Rsa(keys), Alg::Rs(hash)) => Some(&keys[hash.index()]),
            (Self::Ec(own, key), Alg::Es(hash)) if *own == hash => Some(key),
            (Self::Ed25519(key), Alg::EdDsa) => Some(key),
            _ => None,
        }
    }
}

/// A big-endian number without its leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|&&byte| byte == 0).count()..]
}

fn size(modulus: &[u8]) -> Result<(), UnusableKey> {
    let modulus = significant(modulus);
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) { Ok(()) } else { Err(UnusableKey::Size(bits)) }
}

fn rsa(hash: Hash) -> &'static RsaParameters {
    match hash {
        Hash::S256 => &RSA_PKCS1_2048_8192_SHA256,
        Hash::S384 => &RSA_PKCS1_2048_8192_SHA384,
        Hash::S512 => &RSA_PKCS1_2048_8192_SHA512,
    }
}

fn curve(hash: Hash) -> &'static EcdsaVerificationAlgorithm {
    match hash {
        Hash::S256 => &ECDSA_P256_SHA256_FIXED,
        Hash::S384 => &ECDSA_P384_SHA384_FIXED,
        Hash::S512 => &ECDSA_P521_SHA512_FIXED,
    }
}

/// The label and the bytes of the first PEM block (RFC 7468). The two characters `\n` are read as a line end: environment
/// variables often contain them.
pub(super) fn pem(text: &str) -> Option<(String, Vec<u8>)> {
    let text = text.replace("\\n", "\n");
    let (label, rest) = text.split_once("-----BEGIN ")?.1.split_once("-----")?;
    let body = rest.split_once(&format!("-----END {label}-----"))?.0;
    let body: String = body.split_ascii_whitespace().collect();
    Some((label.to_owned(), BASE64.decode(body.as_bytes()).ok()?))
}

fn public_der(text: &str) -> Result<Vec<u8>, UnusableKey> {
    let (label, der) = pem(text).ok_or(UnusableKey::NotPem)?;
    match label.as_str() {
        "CERTIFICATE" => Ok(key_of_certificate(&der).ok_or(UnusableKey::Kind)?.to_vec()),
        label if label.ends_with("PRIVATE KEY") => Err(UnusableKey::Private),
        _ => Ok(der),
    }
}

/// The `subjectPublicKeyInfo` of a certificate (RFC 5280, section 4.1). Issuer and validity are not checked: the operator
/// chose the certificate.
fn key_of_certificate(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let sequence = |der| element(der).filter(|element| element.tag == SEQUENCE);
    let mut rest = sequence(sequence(der)?.content)?.content;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.after;
    }
    // serialNumber, signature, issuer, validity, subject.
    for _ in 0..5 {
        rest = element(rest)?.after;
    }
    Some(element(rest)?.whole)
}

/// A DER element.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// With its tag and length.
    whole: &'a [u8],
    after: &'a [u8],
}

/// The first element. Its length takes at most three bytes.
fn element(der: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let bytes = if first < 0x80 { 0 } else { usize::from(first & 0x7f) };
    if bytes > 3 {
        return None;
    }
    let (length, rest) = rest.split_at_checked(bytes)?;
    let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    let length = if bytes == 0 { usize::from(first) } else { length };
    let (content, after) = rest.split_at_checked(length)?;
    Some(Element { tag, content, whole: &der[..der.len() - after.len()], after })
}
