//! The compact form of a signed token (RFC 7515, section 7.1): `header.claims.signature`, each base64url without padding.
//! One allocation holds all three parts decoded.

use std::borrow::Cow;
use std::ops::Range;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::alg::Alg;
use super::text::{Text, object};
use super::verify::Reason;

/// Bytes of a token, as it came; past it it is refused unread. Room for a few hundred server-side subscriptions.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a header that is looked at without an allocation.
const PEEK_BYTES: usize = 256;

/// A token taken apart. Nothing of it is verified.
pub struct Parts<'a> {
    /// What the signature covers: header and claims with the dot between, as they came.
    pub signed: &'a str,
    decoded: Vec<u8>,
    claims: Range<usize>,
}

/// What the header tells. Its other fields say nothing to us, except `crit`.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow, default)]
    kid: Option<Text<'a>>,
    /// RFC 7515, section 4.1.11: names fields that must be understood. We know none.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// How a token says it was signed.
#[derive(PartialEq, Eq, Debug)]
pub struct Signed<'a> {
    pub alg: Alg,
    /// Which key of a set; empty where it names none.
    pub kid: Cow<'a, str>,
}

impl<'a> Parts<'a> {
    /// Errors: `TooLong`, `WireFormat`.
    pub fn of(token: &'a str) -> Result<Self, Reason> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reason::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::WireFormat)?;
        let (header, claims) = signed.split_once('.').ok_or(Reason::WireFormat)?;
        let mut decoded = vec![0; token.len()];
        let mut end = 0;
        let mut decode = |part: &str| {
            let start = end;
            let room = BASE64URL_NOPAD.decode_len(part.len()).map_err(|_| Reason::WireFormat)?;
            let into = decoded.get_mut(start..start + room).ok_or(Reason::WireFormat)?;
            end = start + BASE64URL_NOPAD.decode_mut(part.as_bytes(), into).map_err(|_| Reason::WireFormat)?;
            Ok(start..end)
        };
        decode(header)?;
        let claims = decode(claims)?;
        decode(signature)?;
        decoded.truncate(end);
        Ok(Self { signed, decoded, claims })
    }

    /// Errors: `Header`, `Critical`, `Algorithm`.
    pub fn header(&self) -> Result<Signed<'_>, Reason> {
        header(&self.decoded[..self.claims.start])
    }

    pub fn claims(&self) -> &[u8] {
        &self.decoded[self.claims.clone()]
    }

    pub fn signature(&self) -> &[u8] {
        &self.decoded[self.claims.end..]
    }
}

fn header(bytes: &[u8]) -> Result<Signed<'_>, Reason> {
    let header: Header<'_> = object(bytes).ok_or(Reason::Header)?;
    if header.crit.is_some() {
        return Err(Reason::Critical);
    }
    let alg = Alg::named(&header.alg.0).ok_or(Reason::Algorithm)?;
    Ok(Signed { alg, kid: header.kid.map_or("".into(), |kid| kid.0) })
}

/// The algorithm that a token names, at the cost of its header; `None` where the token will be refused at a glance.
pub fn peek(token: &str) -> Option<Alg> {
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

/// Header and claims as they stand, to show them to a person. Nothing is verified: nobody may act on them.
pub fn unverified(token: &str) -> Result<(Vec<u8>, Vec<u8>), Reason> {
    let parts = Parts::of(token)?;
    Ok((parts.decoded[..parts.claims.start].to_vec(), parts.claims().to_vec()))
}
