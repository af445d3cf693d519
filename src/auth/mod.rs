//! Who may: tokens (JSON Web Tokens, RFC 7519) held against keys, and origins against patterns. No sockets, no clock: the
//! time is an argument, and keys of a JWKS come from the caller.
//!
//! - `settings` what the operator configured, and what can be wrong with it
//! - `alg`      the algorithms: a name in a header → which kind of key, which hash
//! - `token`    the compact form (RFC 7515, section 7.1) taken apart
//! - `claims`   what a token says → what it grants; `text` reads them in place
//! - `keys`     PEM, DER and JWK → keys ready to verify with
//! - `jwks`     a key set by key id; `cache` when to fetch one again; `endpoint` where from
//! - `verify`   all of it in order: size, header, key, signature, claims, time
//! - `sign`     tokens for the command line and for tests
//! - `origins`  `client.allowed_origins`
//!
//! Invariants: an algorithm names the kind of key it may use, so that no key's bytes serve as another's secret; `none` does
//! not exist here. Nothing of a token is believed before its signature was checked, except the header and, where the
//! endpoint of the keys is made from claims, those claims, which then must match the operator's pattern.

mod alg;
mod cache;
mod claims;
mod endpoint;
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
pub use cache::{FETCH_GAP_S, FRESH_S, KEEP_S, KeyCache, Look, RETRY_GAP_S_MAX};
pub use jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, KeySet, Malformed};
pub use origins::{BadOrigin, Origins, glob};
pub use settings::{KeyFault, TokenSettings};
pub use token::{TOKEN_BYTES_MAX, unverified};
pub use verify::{Reason, SubscribeToken, TokenError, Verifier};
