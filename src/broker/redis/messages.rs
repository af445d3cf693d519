//! Publications and client infos in Protobuf, as servers exchange them through Redis, and our packed forms of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use crate::broker::message::PublishRequest;
use crate::protocol::{IdText, Info, RawClientInfo, Tags, client_text, kept_info};
use crate::pubsub::PublicationRecord;

/// A longer message is not read.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The original's `Publication`, with what other servers put into it.
#[derive(Clone, PartialEq, Message)]
struct WirePublication {
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
    #[prost(message, optional, tag = "5")]
    info: Option<WireClientInfo>,
    #[prost(uint64, tag = "6")]
    offset: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    tags: BTreeMap<String, String>,
    /// The publisher asks for deltas; only if the channel has no history.
    #[prost(bool, tag = "8")]
    delta: bool,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "9")]
    time: i64,
    #[prost(string, tag = "14")]
    epoch: String,
    #[prost(uint64, tag = "16")]
    version: u64,
    /// Tells two publications with the same content apart, so that a repeated request finds its own. Ours; others skip it.
    #[prost(fixed64, tag = "1900")]
    nonce: u64,
}

/// The original's `ClientInfo`.
#[derive(Clone, PartialEq, Message)]
struct WireClientInfo {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    client: String,
    #[prost(bytes = "bytes", tag = "3")]
    conn_info: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    chan_info: Bytes,
}

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
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let info = (!publish.client_info.is_empty()).then(|| wire_client_info(&publish.client_info));
    WirePublication {
        data: publish.data.clone(),
        info,
        offset: 0,
        tags: Tags::from_bytes(&publish.tags).iter().map(owned).collect(),
        delta: publish.use_delta && !has_history,
        time: stamp.time_ms,
        epoch: String::new(),
        version: publish.version,
        nonce: stamp.nonce,
    }
    .encode_to_vec()
}

/// `offset` is the one that Redis gave, 0 if it gave none. `None`: malformed.
pub(super) fn read_publication(message: Bytes, offset: u64) -> Option<ReadPublication> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let publication = WirePublication::decode(message).ok()?;
    let client_info = publication.info.as_ref().map(packed_client_info);
    let mut tags = Vec::new();
    Tags::write(&mut tags, &publication.tags);
    let offset = if publication.offset > 0 { publication.offset } else { offset };
    let is_client_lost = matches!(client_info, Some(None));
    let (data, version) = (publication.data, publication.version);
    let record = PublicationRecord::of_broker(offset, data, client_info.flatten(), tags.into(), version);
    Some(ReadPublication { record, epoch: Some(publication.epoch).filter(|epoch| !epoch.is_empty()), is_client_lost })
}

/// `packed` is a packed client info.
pub(super) fn write_client_info(packed: &[u8]) -> Vec<u8> {
    wire_client_info(packed).encode_to_vec()
}

/// A packed client info. `None`: malformed, or of a client whose id is not a UUID.
pub(super) fn read_client_info(message: Bytes) -> Option<Bytes> {
    if message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    packed_client_info(&WireClientInfo::decode(message).ok()?)
}

/// A client id as other servers write it.
pub(super) fn client_id(client: [u8; 16]) -> String {
    let mut text: IdText = Uuid::encode_buffer();
    client_text(client, &mut text).to_owned()
}

fn wire_client_info(packed: &[u8]) -> WireClientInfo {
    let info = RawClientInfo::unpack(packed);
    WireClientInfo {
        user: info.user.to_owned(),
        client: client_id(info.client),
        conn_info: Bytes::copy_from_slice(Info::of(info.conn_info).bytes()),
        chan_info: Bytes::copy_from_slice(Info::of(info.chan_info).bytes()),
    }
}

fn packed_client_info(info: &WireClientInfo) -> Option<Bytes> {
    let client = Uuid::try_parse(&info.client).ok()?.into_bytes();
    let conn_info = kept_info(info.conn_info.to_vec());
    let chan_info = kept_info(info.chan_info.to_vec());
    let mut packed = Vec::with_capacity(16 + 8 + info.user.len() + conn_info.len() + chan_info.len());
    let raw = RawClientInfo { client, user: &info.user, conn_info: &conn_info, chan_info: &chan_info };
    raw.pack(&mut packed);
    Some(packed.into())
}
