//! Authorization: tokens (JSON Web Tokens, RFC 7519) are verified with keys, origins are matched against patterns. No
//! sockets and no clock: the caller passes the time and the keys of a JWKS.
//!
//! - `grant`    what a token, a backend or a server API call allows
//! - `verify`   a token → its grant: size, header, key, signature, claims, time
//! - `token`    the compact form (RFC 7515, section 7.1), decoded
//! - `claims`   what the claims grant; `text` reads them in place
//! - `alg`      the algorithms: the key and the hash behind a name
//! - `keys`     PEM, DER and JWK → keys that verify
//! - `jwks`     a key set by key id; `endpoint` its URL
//! - `settings` what the operator configures
//! - `error`    why a token or a setting is refused
//! - `sign`     makes tokens, for the command line and tests
//! - `origins`  `client.allowed_origins`
//!
//! Invariants: an algorithm fixes the kind of its key, so that the bytes of a public key never serve as a shared secret;
//! the algorithm `none` does not exist. Nothing of a token is used before its signature is verified, with two exceptions:
//! the header, and the claims that fill the URL of a JWKS. Those must match the operator's pattern.

mod alg;
mod claims;
mod endpoint;
mod error;
pub mod grant;
mod jwks;
mod keys;
mod origins;
mod settings;
pub mod sign;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod verify;

pub use alg::{Alg, Hash};
pub use claims::SubscribeToken;
pub use error::{InvalidSetting, InvalidToken, TokenError};
pub use jwks::{InvalidKeySet, KeySet};
pub use origins::Origins;
pub(crate) use origins::glob;
pub use settings::TokenSettings;
pub use token::unverified;
pub use verify::Verifier;
