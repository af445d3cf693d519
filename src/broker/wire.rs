//! Publications and client infos in Protobuf, as servers exchange them through every broker.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::message::PublishRequest;
use crate::protocol::{IdText, Info, RawClientInfo, Tags, client_text, kept_info};

/// The original's `Publication`, with what other servers put into it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WirePublication {
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) data: Bytes,
    #[prost(message, optional, tag = "5")]
    pub(super) info: Option<WireClientInfo>,
    #[prost(uint64, tag = "6")]
    pub(super) offset: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(super) tags: BTreeMap<String, String>,
    /// The publisher asks for deltas; only if the channel has no history.
    #[prost(bool, tag = "8")]
    pub(super) delta: bool,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "9")]
    pub(super) time: i64,
    #[prost(string, tag = "14")]
    pub(super) epoch: String,
    #[prost(uint64, tag = "16")]
    pub(super) version: u64,
    /// Tells two publications with the same content apart, so that a repeated request finds its own. Ours; others skip it.
    #[prost(fixed64, tag = "1900")]
    pub(super) nonce: u64,
}

/// The original's `ClientInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WireClientInfo {
    #[prost(string, tag = "1")]
    pub(super) user: String,
    #[prost(string, tag = "2")]
    pub(super) client: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) conn_info: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) chan_info: Bytes,
}

impl WirePublication {
    /// Data, client info and tags of a request.
    pub(super) fn of(publish: &PublishRequest) -> Self {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Self {
            data: publish.data.clone(),
            info: WireClientInfo::of_packed(&publish.client_info),
            tags: Tags::from_bytes(&publish.tags).iter().map(owned).collect(),
            ..Self::default()
        }
    }

    pub(super) fn packed_tags(&self) -> Bytes {
        let mut tags = Vec::new();
        Tags::write(&mut tags, &self.tags);
        tags.into()
    }
}

impl WireClientInfo {
    /// `None` for no bytes: the server API published.
    pub(super) fn of_packed(packed: &[u8]) -> Option<Self> {
        if packed.is_empty() {
            return None;
        }
        let info = RawClientInfo::unpack(packed);
        Some(Self {
            user: info.user.to_owned(),
            client: client_id(info.client),
            conn_info: Bytes::copy_from_slice(Info::of(info.conn_info).bytes()),
            chan_info: Bytes::copy_from_slice(Info::of(info.chan_info).bytes()),
        })
    }

    /// `None`: the id of the client is not a UUID.
    pub(super) fn packed(&self) -> Option<Bytes> {
        let client = Uuid::try_parse(&self.client).ok()?.into_bytes();
        let conn_info = kept_info(self.conn_info.to_vec());
        let chan_info = kept_info(self.chan_info.to_vec());
        let mut packed = Vec::with_capacity(16 + 8 + self.user.len() + conn_info.len() + chan_info.len());
        let raw = RawClientInfo { client, user: &self.user, conn_info: &conn_info, chan_info: &chan_info };
        raw.pack(&mut packed);
        Some(packed.into())
    }
}

/// A client id as other servers write it.
pub(super) fn client_id(client: [u8; 16]) -> String {
    let mut text: IdText = Uuid::encode_buffer();
    client_text(client, &mut text).to_owned()
}
