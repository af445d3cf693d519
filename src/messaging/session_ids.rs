//! The ids by which clients of streams name their sessions in emulation requests: where the session is, and a code that only
//! this process can make. An id that was not made here is refused without asking the shard that it names.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

use crate::ids::{ConnId, ShardId};

/// Bytes of the code: 128 bits.
const CODE_BYTES: usize = 16;
const PLACE_BYTES: usize = 2 + 4 + 4;

/// Makes and checks session ids.
pub struct SessionIds(hmac::Key);

impl Default for SessionIds {
    /// With a new random key.
    fn default() -> Self {
        let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        // Two version 4 ids have 244 random bits.
        let key = [one.into_bytes(), other.into_bytes()].concat();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }
}

impl SessionIds {
    /// The id of a connection of a shard. It is a secret of the client: a peer that knows it can send commands.
    pub(crate) fn id(&self, shard: ShardId, conn: ConnId) -> String {
        let mut id = Vec::with_capacity(PLACE_BYTES + CODE_BYTES);
        id.extend_from_slice(&shard.0.to_be_bytes());
        id.extend_from_slice(&conn.slot.to_be_bytes());
        id.extend_from_slice(&conn.generation.to_be_bytes());
        let code = self.code(&id);
        id.extend_from_slice(&code);
        BASE64URL_NOPAD.encode(&id)
    }

    /// The connection that an id names; `None` if the id was not made here. The code is compared in constant time.
    pub(crate) fn find(&self, id: &str) -> Option<(ShardId, ConnId)> {
        let mut bytes = [0; PLACE_BYTES + CODE_BYTES];
        if BASE64URL_NOPAD.decode_len(id.len()).ok()? != bytes.len() {
            return None;
        }
        BASE64URL_NOPAD.decode_mut(id.as_bytes(), &mut bytes).ok()?;
        let (place, code) = bytes.split_at(PLACE_BYTES);
        if !bool::from(self.code(place).ct_eq(code)) {
            return None;
        }
        let number = |at: usize| place[at..at + 4].iter().fold(0, |sum: u32, &byte| sum << 8 | u32::from(byte));
        let shard = ShardId(u16::from_be_bytes([place[0], place[1]]));
        Some((shard, ConnId::new(number(2), number(6))))
    }

    fn code(&self, place: &[u8]) -> [u8; CODE_BYTES] {
        let tag = hmac::sign(&self.0, place);
        *tag.as_ref().first_chunk().expect("a tag has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_names_its_connection_to_the_process_that_made_it() {
        let (ids, others) = (SessionIds::default(), SessionIds::default());
        let (shard, conn) = (ShardId(300), ConnId::new(70_000, u32::MAX));
        let id = ids.id(shard, conn);
        assert_eq!(ids.find(&id), Some((shard, conn)));
        assert_eq!(others.find(&id), None);
        assert_ne!(id, ids.id(shard, ConnId::new(70_000, 0)));
    }

    #[test]
    fn changed_or_malformed_id_names_nothing() {
        let ids = SessionIds::default();
        let id = ids.id(ShardId(0), ConnId::new(1, 2));
        for at in 0..id.len() {
            let mut changed = id.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("text");
            assert_eq!(ids.find(&changed), None, "{at}");
            assert_eq!(ids.find(&id[..at]), None);
        }
        assert_eq!(ids.find(&format!("{id}A")), None);
        assert_eq!(ids.find("ü"), None);
    }
}
