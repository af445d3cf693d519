//! The algorithms of RFC 7518, section 3.1 and RFC 8037 that tokens may use. Each fixes the kind of its key.

use std::fmt;

/// The hash of an algorithm's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hash {
    S256,
    S384,
    S512,
}

impl Hash {
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// How a token is signed. `none` and RSASSA-PSS are not supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alg {
    /// HMAC with a shared secret.
    Hs(Hash),
    /// RSASSA-PKCS1-v1_5.
    Rs(Hash),
    /// ECDSA; the hash fixes the curve (RFC 7518, section 3.4).
    Es(Hash),
    /// Ed25519.
    EdDsa,
}

const NAMES: [(&str, Alg); 10] = [
    ("HS256", Alg::Hs(Hash::S256)),
    ("HS384", Alg::Hs(Hash::S384)),
    ("HS512", Alg::Hs(Hash::S512)),
    ("RS256", Alg::Rs(Hash::S256)),
    ("RS384", Alg::Rs(Hash::S384)),
    ("RS512", Alg::Rs(Hash::S512)),
    ("ES256", Alg::Es(Hash::S256)),
    ("ES384", Alg::Es(Hash::S384)),
    ("ES512", Alg::Es(Hash::S512)),
    ("EdDSA", Alg::EdDsa),
];

impl Alg {
    /// Names are case-sensitive (RFC 7515, section 4.1.1). `Ed25519` is the newer name of EdDSA on that curve (RFC 9864).
    pub fn named(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        NAMES.iter().find(|(known, _)| *known == name).map(|&(_, alg)| alg)
    }

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, alg)| *alg == self).map_or("", |(name, _)| name)
    }

    /// True if verification takes a public key and not only a hash.
    pub fn is_costly(self) -> bool {
        !matches!(self, Self::Hs(_))
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithm_names_parse_back_and_none_is_not_one() {
        for (name, alg) in NAMES {
            assert_eq!((Alg::named(name), alg.name()), (Some(alg), name));
        }
        assert_eq!(Alg::named("Ed25519"), Some(Alg::EdDsa));
        for name in ["none", "None", "NONE", "hs256", "HS256 ", "", "PS256", "ES256K", "HS1"] {
            assert_eq!(Alg::named(name), None, "{name}");
        }
    }
}
