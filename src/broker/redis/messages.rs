//! Publications and client infos as servers exchange them through Redis, and our packed forms of them.

use bytes::Bytes;
use prost::Message;

use crate::broker::message::PublishRequest;
use crate::broker::wire::{WireClientInfo, WirePublication};
use crate::pubsub::PublicationRecord;

/// A longer message is not read.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A publication as it came from Redis.
#[derive(Debug)]
pub(super) struct ReadPublication {
    pub(super) record: PublicationRecord,
    /// Set if the publication itself names its epoch.
    pub(super) epoch: Option<String>,
    /// It names a client that could not be read.
    pub(super) is_client_lost: bool,
}

/// What the message of a publication adds to the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Milliseconds since 1970.
    pub(super) time_ms: i64,
    pub(super) nonce: u64,
}

/// `has_history`: the position comes with the message.
pub(super) fn write_publication(publish: &PublishRequest, has_history: bool, stamp: Stamp) -> Vec<u8> {
    WirePublication {
        delta: publish.use_delta && !has_history,
        time: stamp.time_ms,
        version: publish.version,
        nonce: stamp.nonce,
        ..WirePublication::of(publish)
    }
    .encode_to_vec()
}

/// `offset` is the one that Redis gave, 0 if it gave none. `None`: malformed.
pub(super) fn read_publication(message: Bytes, offset: u64) -> Option<ReadPublication> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let publication = WirePublication::decode(message).ok()?;
    let client_info = publication.info.as_ref().map(WireClientInfo::packed);
    let tags = publication.packed_tags();
    let offset = if publication.offset > 0 { publication.offset } else { offset };
    let is_client_lost = matches!(client_info, Some(None));
    let (data, version) = (publication.data, publication.version);
    let time_ms = u64::try_from(publication.time).unwrap_or(0);
    let record = PublicationRecord::of_broker(offset, data, client_info.flatten(), tags, version).published_at(time_ms);
    Some(ReadPublication { record, epoch: Some(publication.epoch).filter(|epoch| !epoch.is_empty()), is_client_lost })
}

/// `packed` is a packed client info.
pub(super) fn write_client_info(packed: &[u8]) -> Vec<u8> {
    WireClientInfo::of_packed(packed).unwrap_or_default().encode_to_vec()
}

/// A packed client info. `None`: malformed, or of a client whose id is not a UUID.
pub(super) fn read_client_info(message: Bytes) -> Option<Bytes> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    WireClientInfo::decode(message).ok()?.packed()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::protocol::{RawClientInfo, Tags};

    /// As the original encodes it, in hex: data, info, tags, delta, time, version.
    const ORIGINAL: &[u8] = b"22077b2261223a317d2a320a03616e6e122430303030303030302d303030302d343030302d383030302d3030303030303030303030311a027b7d2201783a060a016b120176400148fbd095ffbc31800109";

    fn packed(chan_info: &[u8]) -> Bytes {
        let client = Uuid::try_parse("00000000-0000-4000-8000-000000000001").expect("a UUID").into_bytes();
        let mut bytes = Vec::new();
        RawClientInfo { client, user: "ann", conn_info: b"{}", chan_info }.pack(&mut bytes);
        bytes.into()
    }

    #[test]
    fn publication_is_written_as_the_original_does() {
        let mut tags = Vec::new();
        Tags::write(&mut tags, [("k", "v")]);
        let publish = PublishRequest {
            data: Bytes::from_static(b"{\"a\":1}"),
            client_info: packed(b"\0x"),
            tags: tags.into(),
            version: 9,
            use_delta: true,
            ..PublishRequest::default()
        };
        let stamp = Stamp { time_ms: 1_700_000_000_123, nonce: 0 };
        let message = write_publication(&publish, false, stamp);
        assert_eq!(data_encoding::HEXLOWER.encode(&message).as_bytes(), ORIGINAL);
        let read = read_publication(message.into(), 7).expect("it was written here");
        let record = &read.record;
        assert_eq!((record.offset, record.version, &*record.data), (7, 9, &b"{\"a\":1}"[..]));
        assert_eq!((record.client_info.as_ref(), read.is_client_lost), (Some(&publish.client_info), false));
        assert_eq!(record.tags, publish.tags);
    }

    #[test]
    fn nonce_and_delta_depend_on_the_history() {
        let publish = PublishRequest { use_delta: true, ..PublishRequest::default() };
        let message = write_publication(&publish, true, Stamp { time_ms: 1, nonce: 7 });
        assert_eq!(message, b"\x48\x01\xe1\x76\x07\0\0\0\0\0\0\0");
    }

    #[test]
    fn client_whose_id_is_no_uuid_is_left_out() {
        let info = WireClientInfo { client: "x".into(), user: "ann".into(), ..WireClientInfo::default() };
        let publication =
            WirePublication { data: Bytes::from_static(b"1"), info: Some(info.clone()), ..WirePublication::default() };
        let read = read_publication(publication.encode_to_vec().into(), 1).expect("the rest can be read");
        assert_eq!((read.record.client_info, read.is_client_lost), (None, true));
        assert_eq!(read_client_info(info.encode_to_vec().into()), None);
    }

    #[test]
    fn foreign_bytes_do_no_harm() {
        let whole = data_encoding::HEXLOWER.decode(ORIGINAL).expect("hex");
        for end in 0..whole.len() {
            // Cut between two fields it is a shorter message.
            _ = read_publication(Bytes::copy_from_slice(&whole[..end]), 1);
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[end] ^= 1 << bit;
                _ = read_publication(changed.clone().into(), 1);
                _ = read_client_info(changed.into());
            }
        }
        assert!(read_publication(Bytes::from_static(b"\xff\xff\xff"), 1).is_none());
    }
}
