//! What travels in a batch's arena, or rests at home, as one piece of bytes: who a client is, a kept publication, how a
//! publication is to be made. Written and read here alone, so that hub and mail need not look inside.
//!
//! Lengths are four bytes, low first. Only our own bytes are read: a piece that is too short is a programmer's error.

use std::borrow::Cow;

use crate::auth::grant::Publish;
use crate::protocol::ClientInfo;
use crate::protocol::Tags;
use crate::pubsub::PublicationRecord;
use uuid::Uuid;

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes pieces from the front.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(n);
        self.0 = rest;
        piece
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("taken by its length")
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = u32::from_le_bytes(self.array());
        self.take(length as usize)
    }

    fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.bytes()).expect("was text when it was put there")
    }
}

/// Who a client is, for other clients.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    pub client: [u8; 16],
    pub user: &'a str,
    pub conn_info: &'a [u8],
    pub chan_info: &'a [u8],
}

impl<'a> Who<'a> {
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.client);
        put(out, self.user.as_bytes());
        put(out, self.conn_info);
        out.extend_from_slice(self.chan_info);
    }

    pub fn unpack(bytes: &'a [u8]) -> Self {
        let mut pieces = Pieces(bytes);
        let client = pieces.array();
        let user = pieces.text();
        let conn_info = pieces.bytes();
        Self { client, user, conn_info, chan_info: pieces.0 }
    }

    /// As the dialect has it; `text` holds the client's id.
    pub fn info<'t>(&self, text: &'t mut IdText) -> ClientInfo<'t>
    where
        'a: 't,
    {
        ClientInfo {
            user: self.user,
            client: client_text(self.client, text),
            conn_info: self.conn_info,
            chan_info: self.chan_info,
        }
    }
}

/// Room for a client's id as it is written.
pub type IdText = [u8; uuid::fmt::Urn::LENGTH];

/// A client's id as it is written.
pub fn client_text(client: [u8; 16], text: &mut IdText) -> &str {
    Uuid::from_bytes(client).hyphenated().encode_lower(text)
}

/// A publication as it is sent to one who recovers.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub offset: u64,
    pub json: bool,
    pub version: u64,
    pub who: Option<&'a [u8]>,
    pub tags: Tags<'a>,
    pub data: &'a [u8],
}

impl<'a> Kept<'a> {
    pub fn of(record: &'a PublicationRecord) -> Self {
        Self {
            offset: record.offset,
            json: record.is_json,
            version: record.version,
            who: record.client_info.as_deref(),
            tags: Tags::from_bytes(&record.tags),
            data: &record.data,
        }
    }

    pub fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.push(u8::from(self.json) | u8::from(self.who.is_some()) << 1);
        put(out, self.who.unwrap_or_default());
        put(out, self.tags.as_bytes());
        put(out, self.data);
    }

    /// All that were packed one after the other.
    pub fn unpack_all(bytes: &'a [u8]) -> impl Iterator<Item = Self> {
        let mut pieces = Pieces(bytes);
        std::iter::from_fn(move || {
            if pieces.0.is_empty() {
                return None;
            }
            let offset = u64::from_le_bytes(pieces.array());
            let version = u64::from_le_bytes(pieces.array());
            let [bits] = pieces.array();
            let who = pieces.bytes();
            let tags = Tags::from_bytes(pieces.bytes());
            let data = pieces.bytes();
            Some(Self { offset, version, json: bits & 1 != 0, who: (bits & 2 != 0).then_some(who), tags, data })
        })
    }
}

/// How a publication is to be made, beside its data: nothing where it is an ordinary one.
#[derive(Clone, Default)]
pub struct Terms<'a> {
    pub tags: Cow<'a, [u8]>,
    pub skip_history: bool,
    pub delta: bool,
    pub idempotency_key: &'a str,
    pub version: u64,
    pub version_epoch: &'a str,
}

impl<'a> Terms<'a> {
    pub fn of(publish: &'a Publish) -> Self {
        let mut tags = Vec::new();
        Tags::write(&mut tags, publish.tags.iter().map(|(key, value)| (key, value)));
        Self {
            tags: Cow::Owned(tags),
            skip_history: publish.skip_history,
            delta: publish.delta,
            idempotency_key: &publish.idempotency_key,
            version: publish.version,
            version_epoch: &publish.version_epoch,
        }
    }

    pub fn pack(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.skip_history) | u8::from(self.delta) << 1);
        out.extend_from_slice(&self.version.to_le_bytes());
        put(out, &self.tags);
        put(out, self.idempotency_key.as_bytes());
        put(out, self.version_epoch.as_bytes());
    }

    /// No bytes are the ordinary terms.
    pub fn unpack(bytes: &'a [u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        let mut pieces = Pieces(bytes);
        let [bits] = pieces.array();
        let version = u64::from_le_bytes(pieces.array());
        Self {
            tags: Cow::Borrowed(pieces.bytes()),
            skip_history: bits & 1 != 0,
            delta: bits & 2 != 0,
            idempotency_key: pieces.text(),
            version,
            version_epoch: pieces.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out_again() {
        let who = Who { client: [7; 16], user: "ann", conn_info: b"{}", chan_info: b"[1]" };
        let mut bytes = Vec::new();
        who.pack(&mut bytes);
        let again = Who::unpack(&bytes);
        assert_eq!(
            (again.client, again.user, again.conn_info, again.chan_info),
            ([7; 16], "ann", &b"{}"[..], &b"[1]"[..])
        );
        let mut kept = Vec::new();
        for offset in 1..4 {
            Kept {
                offset,
                version: 7,
                json: offset > 1,
                who: (offset == 2).then_some(&bytes),
                tags: Tags::default(),
                data: b"x",
            }
            .pack(&mut kept);
        }
        let seen: Vec<_> = Kept::unpack_all(&kept).map(|k| (k.offset, k.json, k.who.is_some(), k.data.len())).collect();
        assert_eq!(seen, [(1, false, false, 1), (2, true, true, 1), (3, true, false, 1)]);
    }

    #[test]
    fn ordinary_terms_are_no_bytes() {
        assert!(Terms::unpack(b"").tags.is_empty());
        let publish = Publish {
            tags: vec![("a".into(), "b".into())],
            version: 9,
            version_epoch: "e".into(),
            ..Publish::default()
        };
        let mut bytes = Vec::new();
        Terms::of(&publish).pack(&mut bytes);
        let terms = Terms::unpack(&bytes);
        assert_eq!((terms.version, terms.version_epoch), (9, "e"));
        assert_eq!(Tags::from_bytes(&terms.tags).get("a"), Some("b"));
    }
}
