//! The cursor of a query: where a page ended, as opaque text. A code of the log's own key protects it, and names the query:
//! a client can neither make a cursor nor use it for the query of another user.

use std::hash::Hasher;

use data_encoding::BASE64URL_NOPAD;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::codec::Reader;
use super::index_build::RunKind;
use super::segment::SegmentId;
use crate::pubsub::TimeRange;

const VERSION: u8 = 1;
const CODE_BYTES: usize = 16;

/// A publication in the order of queries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) time: u64,
    pub(super) segment: SegmentId,
    pub(super) position: u32,
}

/// What a cursor is for.
pub(super) struct QueryId {
    pub(super) reverse: bool,
    hasher: SipHasher24,
}

impl QueryId {
    pub(super) fn new(key: &[u8; 16], kind: RunKind, name: &str, range: TimeRange, reverse: bool) -> Self {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(&[VERSION, u8::from(kind == RunKind::Users), u8::from(reverse)]);
        hasher.write(&range.from_ms.to_le_bytes());
        hasher.write(&range.to_ms.to_le_bytes());
        hasher.write(&(name.len() as u64).to_le_bytes());
        hasher.write(name.as_bytes());
        Self { reverse, hasher }
    }

    fn code(&self, place: &[u8]) -> [u8; CODE_BYTES] {
        let mut hasher = self.hasher;
        hasher.write(place);
        hasher.finish128().as_bytes()
    }

    pub(super) fn cursor(&self, place: Place) -> Box<str> {
        let mut bytes = place.time.to_le_bytes().to_vec();
        bytes.push(place.segment.class);
        bytes.extend_from_slice(&place.segment.sequence.to_le_bytes());
        bytes.extend_from_slice(&place.position.to_le_bytes());
        let code = self.code(&bytes);
        bytes.extend_from_slice(&code);
        BASE64URL_NOPAD.encode(&bytes).into()
    }

    /// `None`: the cursor is not one of this query.
    pub(super) fn place(&self, cursor: &str) -> Option<Place> {
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
        let (place, code) = bytes.split_last_chunk::<CODE_BYTES>()?;
        if !bool::from(subtle::ConstantTimeEq::ct_eq(&self.code(place)[..], &code[..])) {
            return None;
        }
        let mut reader = Reader(place);
        let (time, class, sequence) = (reader.u64()?, reader.u8()?, reader.u64()?);
        let place = Place { time, segment: SegmentId { class, sequence }, position: reader.u32()? };
        reader.is_empty().then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_for_its_query_alone() {
        let range = TimeRange { from_ms: 1, to_ms: 9 };
        let id = |user, reverse| QueryId::new(&[7; 16], RunKind::Users, user, range, reverse);
        let place = Place { time: 5, segment: SegmentId { class: 2, sequence: 3 }, position: 4096 };
        let cursor = id("ann", false).cursor(place);
        assert_eq!(id("ann", false).place(&cursor), Some(place));
        for other in [id("bob", false), id("ann", true), QueryId::new(&[8; 16], RunKind::Users, "ann", range, false)] {
            assert_eq!(other.place(&cursor), None);
        }
        for at in 0..cursor.len() {
            for byte in [b'A', b'_', b'!', b'9'] {
                let mut bytes = cursor.as_bytes().to_vec();
                bytes[at] = byte;
                let text = String::from_utf8(bytes).expect("ASCII");
                assert!(*text == *cursor || id("ann", false).place(&text).is_none(), "{text}");
            }
            assert_eq!(id("ann", false).place(&cursor[..at]), None);
        }
    }
}
