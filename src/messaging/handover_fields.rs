//! Fields of what travels between the two processes of a handover: numbers are little endian, a piece of bytes is its length
//! (u32) and the bytes. Every length is checked when it is read: `None` is not such a message.

use bytes::Bytes;

use crate::protocol::{RawClientInfo, put};
use crate::pubsub::{Epoch, Position, PublicationRecord};

const IS_JSON: u8 = 1;
const HAS_CLIENT: u8 = 2;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Stamped = 1,
    Removed,
    Copy,
    Presence,
    JoinLeave,
    Publish,
    History,
    HistoryRemove,
    PresenceOf,
    PresenceStats,
    Keys,
    Answer,
    Epochs,
    Subscribe,
    Unsubscribe,
    Subscribed,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        let all = [
            Stamped,
            Removed,
            Copy,
            Presence,
            JoinLeave,
            Publish,
            History,
            HistoryRemove,
            PresenceOf,
            PresenceStats,
            Keys,
            Answer,
            Epochs,
            Subscribe,
            Unsubscribe,
            Subscribed,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Reads fields from the front.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.byte().and_then(|byte| [false, true].get(usize::from(byte)).copied())
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn owned(&mut self) -> Option<Bytes> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    /// Offset 0 of the epoch of no channel is no position.
    pub(super) fn position(&mut self) -> Option<Option<Position>> {
        let offset = self.u64()?;
        let epoch = Epoch::from_broker(self.text()?)?;
        Some(Some(Position { epoch, offset }).filter(|position| *position != Position::default()))
    }

    pub(super) fn client_info(&mut self) -> Option<RawClientInfo<'a>> {
        let client = self.array()?;
        Some(RawClientInfo { client, user: self.text()?, conn_info: self.bytes()?, chan_info: self.bytes()? })
    }

    /// The client info of a client in the form that this process keeps.
    pub(super) fn packed_client_info(&mut self) -> Option<Bytes> {
        let mut packed = Vec::new();
        self.client_info()?.pack(&mut packed);
        Some(packed.into())
    }

    pub(super) fn record(&mut self) -> Option<PublicationRecord> {
        let bits = self.byte()?;
        let (offset, version, time_ms) = (self.u64()?, self.u64()?, self.u64()?);
        let (data, tags) = (self.owned()?, self.owned()?);
        let client_info = if bits & HAS_CLIENT != 0 { Some(self.packed_client_info()?) } else { None };
        let record = PublicationRecord::of_broker(offset, data, client_info, tags, version);
        Some(record.published_at(time_ms).with_json(bits & IS_JSON != 0))
    }

    /// So many items, each of which takes at least a byte.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        if count > self.0.len() {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }
}

pub(super) fn put_position(out: &mut Vec<u8>, position: Option<Position>) {
    let Position { epoch, offset } = position.unwrap_or_default();
    out.extend_from_slice(&offset.to_le_bytes());
    put(out, epoch.text().as_str().as_bytes());
}

/// From the form that this process keeps.
pub(super) fn put_client_info(out: &mut Vec<u8>, packed: &[u8]) {
    let RawClientInfo { client, user, conn_info, chan_info } = RawClientInfo::unpack(packed);
    out.extend_from_slice(&client);
    put(out, user.as_bytes());
    put(out, conn_info);
    put(out, chan_info);
}

pub(super) fn put_record(out: &mut Vec<u8>, record: &PublicationRecord) {
    let has_client = if record.client_info.is_some() { HAS_CLIENT } else { 0 };
    out.push(u8::from(record.is_json) | has_client);
    out.extend_from_slice(&record.offset.to_le_bytes());
    out.extend_from_slice(&record.version.to_le_bytes());
    out.extend_from_slice(&record.time_ms().to_le_bytes());
    put(out, &record.data);
    put(out, &record.tags);
    if let Some(client_info) = &record.client_info {
        put_client_info(out, client_info);
    }
}

pub(super) fn put_list<T>(out: &mut Vec<u8>, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
    out.extend_from_slice(&(items.len() as u32).to_le_bytes());
    items.iter().for_each(|one| item(out, one));
}

/// A message about a channel begins so.
pub(super) fn begin(kind: Kind, channel: &str) -> Vec<u8> {
    let mut out = vec![kind as u8];
    put(&mut out, channel.as_bytes());
    out
}

/// About a client in a channel.
pub(super) fn pack_client(kind: Kind, channel: &str, flag: bool, client_info: &[u8]) -> Vec<u8> {
    let mut out = begin(kind, channel);
    out.push(u8::from(flag));
    put_client_info(&mut out, client_info);
    out
}
