//! Makes tokens, for the command line and for tests. The server makes no tokens.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaKeyPair,
};
use data_encoding::BASE64URL_NOPAD;

use super::alg::{Alg, Hash};
use super::keys::{self, Secret};

/// A signing key with its algorithm.
pub struct SigningKey {
    alg: Alg,
    key: Key,
}

enum Key {
    Secret(Secret),
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// The key does not fit the algorithm, or signing failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CannotSign;

impl SigningKey {
    /// HMAC with a shared secret.
    pub fn secret(hash: Hash, secret: &str) -> Self {
        Self { alg: Alg::Hs(hash), key: Key::Secret(Secret::new(secret.as_bytes())) }
    }

    /// A private key in PEM: PKCS#8, or the older `RSA PRIVATE KEY` and `EC PRIVATE KEY`.
    pub fn pem(alg: Alg, pem: &str) -> Result<Self, CannotSign> {
        let (_, der) = keys::pem(pem).ok_or(CannotSign)?;
        let key = match alg {
            Alg::Hs(_) => return Err(CannotSign),
            Alg::Rs(_) => {
                let pair = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der));
                Key::Rsa(Box::new(pair.map_err(|_| CannotSign)?))
            }
            Alg::Es(hash) => {
                let curve = match hash {
                    Hash::S256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                    Hash::S384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
                    Hash::S512 => &ECDSA_P521_SHA512_FIXED_SIGNING,
                };
                let pair =
                    EcdsaKeyPair::from_pkcs8(curve, &der).or_else(|_| EcdsaKeyPair::from_private_key_der(curve, &der));
                Key::Ec(Box::new(pair.map_err(|_| CannotSign)?))
            }
            Alg::EdDsa => {
                Key::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| CannotSign)?))
            }
        };
        Ok(Self { alg, key })
    }

    pub fn alg(&self) -> Alg {
        self.alg
    }

    /// A token with these claims, which are JSON. `kid` names this key in a key set.
    pub fn sign(&self, claims: &str, kid: Option<&str>) -> Result<String, CannotSign> {
        let mut header = serde_json::json!({ "alg": self.alg.name(), "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.sign_as(&header.to_string(), claims)
    }

    /// Like `sign`, with any header.
    pub fn sign_as(&self, header: &str, claims: &str) -> Result<String, CannotSign> {
        let encode = |part: &[u8]| BASE64URL_NOPAD.encode(part);
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let message = signed.as_bytes();
        let signature = match (&self.key, self.alg) {
            (Key::Secret(secret), Alg::Hs(hash)) => encode(secret.sign(hash, message).as_ref()),
            (Key::Rsa(pair), Alg::Rs(hash)) => {
                let padding = match hash {
                    Hash::S256 => &RSA_PKCS1_SHA256,
                    Hash::S384 => &RSA_PKCS1_SHA384,
                    Hash::S512 => &RSA_PKCS1_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut signature).map_err(|_| CannotSign)?;
                encode(&signature)
            }
            (Key::Ec(pair), Alg::Es(_)) => {
                encode(pair.sign(&SystemRandom::new(), message).map_err(|_| CannotSign)?.as_ref())
            }
            (Key::Ed25519(pair), Alg::EdDsa) => encode(pair.sign(message).as_ref()),
            _ => return Err(CannotSign),
        };
        Ok(format!("{signed}.{signature}"))
    }
}

/// A random secret of 256 bits, in base64url.
pub fn random_secret() -> Result<String, CannotSign> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CannotSign)?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}
