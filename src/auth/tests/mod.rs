//! Tests of the whole module: known answers, refused tokens with their errors, key sets, and garbage.
//!
//! The fixtures were made by OpenSSL (public keys) and PyJWT (`tokens.txt`, `jwks.json`); their private keys are not kept.

mod garbage;
mod jwks;
mod rfc;
mod verify;

use super::sign::SigningKey;
use super::{Hash, TokenSettings, Verifier};

/// The time in all tests, before the `exp` of the fixtures.
const NOW_S: u64 = 1_800_000_000;
const SECRET: &str = "a shared secret of more than thirty-two bytes";

/// The token of the fixtures that was signed by this algorithm.
fn fixture(alg: &str) -> &'static str {
    let line = |line: &'static str| line.strip_prefix(alg)?.strip_prefix(' ');
    include_str!("fixtures/tokens.txt").lines().find_map(line).expect("the fixtures have a token of each algorithm")
}

fn hmac_settings() -> TokenSettings {
    TokenSettings { hmac_secret_key: SECRET.into(), ..Default::default() }
}

fn verifier(settings: &TokenSettings) -> Verifier {
    Verifier::new(settings).expect("the settings are valid")
}

/// A token with these claims, signed by HS256 with `SECRET`.
fn hs256(claims: &str) -> String {
    SigningKey::secret(Hash::S256, SECRET).sign(claims, None).expect("a secret always signs")
}
