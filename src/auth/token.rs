//! The compact form of a signed token (RFC 7515, section 7.1): `header.claims.signature`, each base64url without padding.
//! One allocation holds the three decoded parts.

use std::borrow::Cow;
use std::ops::Range;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::alg::Alg;
use super::error::InvalidToken;
use super::text::{Text, object};

/// The size of a token in bytes; a longer one is refused without reading it. This allows a few hundred server-side
/// subscriptions.
pub(super) const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// A header of up to so many bytes is read without an allocation.
const PEEK_BYTES: usize = 256;

/// The decoded parts of a token. Nothing is verified.
pub(super) struct Parts<'a> {
    /// What the signature covers: header and claims as they came, with the dot between them.
    pub(super) signed: &'a str,
    decoded: Vec<u8>,
    claims: Range<usize>,
}

/// The fields of the header that the server uses.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow, default)]
    kid: Option<Text<'a>>,
    /// RFC 7515, section 4.1.11: names extensions that must be supported. The server supports none.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// How a token claims to be signed.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct SignatureHeader<'a> {
    pub(super) alg: Alg,
    /// The key of a set; empty if the header names none.
    pub(super) kid: Cow<'a, str>,
}

impl<'a> Parts<'a> {
    /// Errors: `TooLong`, `Form`.
    pub(super) fn of(token: &'a str) -> Result<Self, InvalidToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(InvalidToken::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(InvalidToken::Form)?;
        let mut decoded = vec![0; token.len()];
        let mut end = 0;
        let mut decode = |part: &str| {
            let start = end;
            let room = BASE64URL_NOPAD.decode_len(part.len()).map_err(|_| InvalidToken::Form)?;
            let into = decoded.get_mut(start..start + room).ok_or(InvalidToken::Form)?;
            end = start + BASE64URL_NOPAD.decode_mut(part.as_bytes(), into).map_err(|_| InvalidToken::Form)?;
            Ok(start..end)
        };
        decode(header)?;
        let claims = decode(claims)?;
        decode(signature)?;
        decoded.truncate(end);
        Ok(Self { signed, decoded, claims })
    }

    /// Errors: `Header`, `Critical`, `Algorithm`.
    pub(super) fn header(&self) -> Result<SignatureHeader<'_>, InvalidToken> {
        header(&self.decoded[..self.claims.start])
    }

    pub(super) fn claims(&self) -> &[u8] {
        &self.decoded[self.claims.clone()]
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.decoded[self.claims.end..]
    }
}

fn header(bytes: &[u8]) -> Result<SignatureHeader<'_>, InvalidToken> {
    let header: Header<'_> = object(bytes).ok_or(InvalidToken::Header)?;
    if header.crit.is_some() {
        return Err(InvalidToken::Critical);
    }
    let alg = Alg::named(&header.alg.0).ok_or(InvalidToken::Algorithm)?;
    Ok(SignatureHeader { alg, kid: header.kid.map_or("".into(), |kid| kid.0) })
}

/// The algorithm in a token's header; `None` if the header alone refuses the token. Reads only the header.
pub(super) fn algorithm_of(token: &str) -> Option<Alg> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let part = token.split_once('.')?.0.as_bytes();
    let (mut small, mut large) = ([0; PEEK_BYTES], Vec::new());
    let room = BASE64URL_NOPAD.decode_len(part.len()).ok()?;
    let into = match small.get_mut(..room) {
        Some(into) => into,
        None => {
            large.resize(room, 0);
            &mut large[..]
        }
    };
    let length = BASE64URL_NOPAD.decode_mut(part, into).ok()?;
    Some(header(&into[..length]).ok()?.alg)
}

/// Decodes header and claims without verifying them. For display only: do not act on the result.
pub fn unverified(token: &str) -> Result<(Vec<u8>, Vec<u8>), InvalidToken> {
    let parts = Parts::of(token)?;
    Ok((parts.decoded[..parts.claims.start].to_vec(), parts.claims().to_vec()))
}
