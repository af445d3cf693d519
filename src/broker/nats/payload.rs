//! What travels in the messages of a channel: a push of the client protocol in Protobuf, as Centrifugo sends it, or in raw
//! mode the data alone.

use bytes::Bytes;
use prost::Message;

use crate::broker::message::PublishRequest;
use crate::broker::wire::{WireClientInfo, WirePublication};
use crate::pubsub::PublicationRecord;

/// One field besides the channel is set.
#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(string, tag = "2")]
    channel: String,
    #[prost(message, optional, tag = "4")]
    publication: Option<WirePublication>,
    #[prost(message, optional, tag = "5")]
    join: Option<Membership>,
    #[prost(message, optional, tag = "6")]
    leave: Option<Membership>,
}

#[derive(Clone, PartialEq, Message)]
struct Membership {
    #[prost(message, optional, tag = "1")]
    info: Option<WireClientInfo>,
}

/// A message of a channel.
#[derive(PartialEq, Debug)]
pub(super) struct Received {
    /// That to which it was published.
    pub(super) channel: String,
    pub(super) content: Content,
}

#[derive(PartialEq, Debug)]
pub(super) enum Content {
    Publication(PublicationRecord),
    JoinLeave { is_join: bool, client_info: Bytes },
}

/// The tag in which an experiment of Centrifugo carries an epoch. Clients do not get it.
const EPOCH_TAG: &str = "__centrifugo_epoch";

pub(super) fn publication(channel: &str, publish: &PublishRequest, now_ms: u64) -> Vec<u8> {
    let time = now_ms as i64;
    let publication = WirePublication { delta: publish.use_delta, time, ..WirePublication::of(publish) };
    Push { channel: channel.into(), publication: Some(publication), ..Push::default() }.encode_to_vec()
}

pub(super) fn join_leave(channel: &str, is_join: bool, client_info: &[u8]) -> Vec<u8> {
    let membership = Some(Membership { info: WireClientInfo::of_packed(client_info) });
    let push = Push { channel: channel.into(), ..Push::default() };
    let push = if is_join { Push { join: membership, ..push } } else { Push { leave: membership, ..push } };
    push.encode_to_vec()
}

/// `None`: it is not such a message.
pub(super) fn read(payload: &[u8]) -> Option<Received> {
    let push = Push::decode(payload).ok()?;
    let content = match push {
        Push { publication: Some(publication), .. } => Content::Publication(record(publication)?),
        Push { join: Some(join), .. } => Content::JoinLeave { is_join: true, client_info: join.packed()? },
        Push { leave: Some(leave), .. } => Content::JoinLeave { is_join: false, client_info: leave.packed()? },
        _ => return None,
    };
    Some(Received { channel: push.channel, content })
}

/// Data without anything else.
pub(super) fn raw_record(payload: &[u8]) -> PublicationRecord {
    PublicationRecord::of_broker(0, Bytes::copy_from_slice(payload), None, Bytes::new(), 0)
}

/// `None`: the client that published it has an id of another form.
fn record(mut publication: WirePublication) -> Option<PublicationRecord> {
    publication.tags.remove(EPOCH_TAG);
    let tags = publication.packed_tags();
    let client_info = match publication.info {
        Some(info) => Some(info.packed()?),
        None => None,
    };
    let time_ms = u64::try_from(publication.time).unwrap_or(0);
    Some(PublicationRecord::of_broker(0, publication.data, client_info, tags, 0).published_at(time_ms))
}

impl Membership {
    fn packed(self) -> Option<Bytes> {
        self.info?.packed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{RawClientInfo, Tags, kept_info};

    fn packed_info() -> Bytes {
        let mut packed = Vec::new();
        RawClientInfo { client: [7; 16], user: "ann", conn_info: b"{}", chan_info: &kept_info(vec![0xff]) }
            .pack(&mut packed);
        packed.into()
    }

    #[test]
    fn publication_is_read_as_it_was_made() {
        let mut tags = Vec::new();
        Tags::write(&mut tags, [("a", "1"), ("b", "")]);
        let publish = PublishRequest {
            data: Bytes::from_static(b"{\"x\":1}"),
            client_info: packed_info(),
            tags: tags.clone().into(),
            ..PublishRequest::default()
        };
        let received = read(&publication("news", &publish, 5)).expect("a push");
        let record =
            PublicationRecord::of_broker(0, publish.data, Some(publish.client_info), tags.into(), 0).published_at(5);
        assert_eq!(received, Received { channel: "news".into(), content: Content::Publication(record) });
        let empty = read(&publication("", &PublishRequest::default(), 0)).expect("a push");
        let record = PublicationRecord::of_broker(0, Bytes::new(), None, Bytes::new(), 0);
        assert_eq!(empty.content, Content::Publication(record));
    }

    #[test]
    fn join_and_leave_are_read_as_they_were_made() {
        for is_join in [true, false] {
            let received = read(&join_leave("news", is_join, &packed_info())).expect("a push");
            assert_eq!(received.content, Content::JoinLeave { is_join, client_info: packed_info() });
        }
    }

    #[test]
    fn tag_of_an_epoch_is_not_passed_on() {
        let mut tags = Vec::new();
        Tags::write(&mut tags, [(EPOCH_TAG, "abcd")]);
        let publish = PublishRequest { tags: tags.into(), ..PublishRequest::default() };
        let Content::Publication(record) = read(&publication("a", &publish, 0)).expect("a push").content else {
            panic!("a publication");
        };
        assert!(record.tags.is_empty());
    }

    #[test]
    fn foreign_payloads_are_none() {
        let mut strange = Push { channel: "a".into(), ..Push::default() };
        assert_eq!(read(&strange.encode_to_vec()), None, "neither publication nor join nor leave");
        strange.join =
            Some(Membership { info: Some(WireClientInfo { client: "no id".into(), ..WireClientInfo::default() }) });
        assert_eq!(read(&strange.encode_to_vec()), None, "a client id of another form");
        strange.join = Some(Membership::default());
        assert_eq!(read(&strange.encode_to_vec()), None, "no client");
        for bytes in [&b"{}"[..], b"\xff\xff", b"\x22\x05\x22\xff"] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
        let whole = publication("news", &PublishRequest { client_info: packed_info(), ..Default::default() }, 5);
        for end in 0..whole.len() {
            let _ = read(&whole[..end]);
        }
    }
}
