//! What the shards of the two processes of a handover send each other, if one of them orders all channels. A message is a kind
//! (one byte), what it is for (a channel, a slot, a shard or every shard), and its fields (`handover_fields`).
//!
//! ```text
//!  from the process before          from the process that takes over
//!   Copy, Keys, Epochs               (takes them)
//!   Presence, JoinLeave              JoinLeave
//!   Stamped, Removed                 Stamped, Removed, once it orders
//!   Publish, History, … ───────────► Answer
//! ```

use bytes::Bytes;

use super::handover_fields::{Fields, Kind, begin, put_list, put_position, put_record};
use super::handover_peer::Forwarded;
use super::handover_request::{Asked, unpack_answer};
pub use super::handover_request::{pack_event, pack_request};
use crate::broker::message::{Answer, BrokerError, SubscribeSerial, Ticket};
use crate::ids::ShardId;
use crate::protocol::put;
use crate::pubsub::{ChannelCopy, Epoch, HistoryFilter, KnownKey, Position, PublicationRecord, Since, TimeRange};

/// Which shard a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageRoute<'a> {
    HomeOf(&'a str),
    /// The home of names in this slot of the placement.
    Slot(usize),
    Shard(ShardId),
    EveryShard,
}

/// A message to a home shard, or the answer to one of its requests.
pub(super) enum PeerMessage<'a> {
    /// A publication of this channel with its position, if the channel has a history.
    Stamped {
        position: Option<Position>,
        forwarded: Forwarded<'a>,
    },
    /// The publications of this channel were removed.
    Removed {
        channel: &'a str,
    },
    /// A piece of a channel.
    Copy(ChannelCopy<'a, std::vec::IntoIter<PublicationRecord>>),
    /// A client of the other process is in the presence of the channel, or left it.
    Presence {
        channel: &'a str,
        is_in: bool,
        client_info: Bytes,
    },
    JoinLeave {
        channel: &'a str,
        is_join: bool,
        client_info: Bytes,
    },
    Publish {
        asked: Asked<'a>,
        forwarded: Forwarded<'a>,
    },
    History {
        asked: Asked<'a>,
        filter: HistoryFilter,
        range: TimeRange,
    },
    HistoryRemove(Asked<'a>),
    PresenceOf(Asked<'a>),
    PresenceStats(Asked<'a>),
    /// The ticket is the serial.
    Subscribe(Asked<'a>),
    Unsubscribe(Asked<'a>),
    Subscribed {
        channel: &'a str,
        serial: SubscribeSerial,
    },
    Keys(Vec<KnownKey>),
    Answer {
        ticket: Ticket,
        answer: Result<Answer, BrokerError>,
    },
    /// The epochs of names without a channel, with their slots.
    Epochs(Vec<(u16, u32)>),
}

pub(super) fn pack_removed(channel: &str) -> Vec<u8> {
    begin(Kind::Removed, channel)
}

pub(super) fn pack_copy<'a>(copy: ChannelCopy<'_, impl Iterator<Item = &'a PublicationRecord>>) -> Vec<u8> {
    let ChannelCopy { channel, is_first, top, version, version_epoch, published_ago, used_ago, records } = copy;
    let mut out = begin(Kind::Copy, channel);
    out.push(u8::from(is_first));
    put_position(&mut out, Some(top));
    for number in [version, published_ago, used_ago] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put(&mut out, version_epoch.as_bytes());
    put_list(&mut out, &records.collect::<Vec<_>>(), |out, record| put_record(out, record));
    out
}

/// Keys of one slot.
pub(super) fn pack_keys(slot: usize, keys: &[KnownKey]) -> Vec<u8> {
    let mut out = vec![Kind::Keys as u8];
    out.extend_from_slice(&(slot as u32).to_le_bytes());
    put_list(&mut out, keys, |out, key| {
        for number in [key.hash.0, key.hash.1, key.left] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_position(out, key.answer);
    });
    out
}

pub(super) fn pack_epochs(epochs: &[(u16, u32)]) -> Vec<u8> {
    let mut out = vec![Kind::Epochs as u8];
    put_list(&mut out, epochs, |out, (slot, number)| {
        out.extend_from_slice(&slot.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    });
    out
}

/// Whether a message is a publication with its place in the order.
pub fn is_stamped(message: &[u8]) -> bool {
    message.first() == Some(&(Kind::Stamped as u8))
}

/// Which shard a message is for. `None`: it is no message.
pub fn route(message: &[u8]) -> Option<MessageRoute<'_>> {
    let mut fields = Fields(message);
    Some(match Kind::from_byte(fields.byte()?)? {
        Kind::Answer => MessageRoute::Shard(ShardId(fields.u16()?)),
        Kind::Keys => MessageRoute::Slot(fields.u32()? as usize),
        Kind::Epochs => MessageRoute::EveryShard,
        _ => MessageRoute::HomeOf(fields.text()?),
    })
}

/// `None` if the bytes are not a message.
pub(super) fn unpack(bytes: &[u8]) -> Option<PeerMessage<'_>> {
    let mut fields = Fields(bytes);
    let kind = Kind::from_byte(fields.byte()?)?;
    let message = match kind {
        Kind::Keys => {
            fields.u32()?;
            let key = |fields: &mut Fields<'_>| {
                let (hash, left) = ((fields.u64()?, fields.u64()?), fields.u64()?);
                Some(KnownKey { hash, left, answer: fields.position()? })
            };
            PeerMessage::Keys(fields.list(key)?)
        }
        Kind::Epochs => PeerMessage::Epochs(fields.list(|fields| Some((fields.u16()?, fields.u32()?)))?),
        Kind::Answer => {
            fields.u16()?;
            let ticket = Ticket(fields.u32()?);
            PeerMessage::Answer { ticket, answer: unpack_answer(&mut fields)? }
        }
        _ => {
            let channel = fields.text()?;
            unpack_of_channel(kind, channel, &mut fields)?
        }
    };
    fields.0.is_empty().then_some(message)
}

fn unpack_of_channel<'a>(kind: Kind, channel: &'a str, fields: &mut Fields<'a>) -> Option<PeerMessage<'a>> {
    let forwarded = |fields: &mut Fields<'a>| {
        let forwarded = Forwarded::unpack(std::mem::take(&mut fields.0))?;
        (forwarded.channel == channel).then_some(forwarded)
    };
    Some(match kind {
        Kind::Stamped => {
            let (position, time_ms) = (fields.position()?, fields.u64()?);
            let mut forwarded = forwarded(fields)?;
            forwarded.publication.time_ms = time_ms;
            PeerMessage::Stamped { position, forwarded }
        }
        Kind::Removed => PeerMessage::Removed { channel },
        Kind::Copy => {
            let is_first = fields.flag()?;
            let top = fields.position()??;
            let (version, published_ago, used_ago) = (fields.u64()?, fields.u64()?, fields.u64()?);
            let version_epoch = fields.text()?;
            let records = fields.list(Fields::record)?.into_iter();
            PeerMessage::Copy(ChannelCopy {
                channel,
                is_first,
                top,
                version,
                version_epoch,
                published_ago,
                used_ago,
                records,
            })
        }
        Kind::Presence => {
            PeerMessage::Presence { channel, is_in: fields.flag()?, client_info: fields.packed_client_info()? }
        }
        Kind::JoinLeave => {
            PeerMessage::JoinLeave { channel, is_join: fields.flag()?, client_info: fields.packed_client_info()? }
        }
        Kind::Publish => {
            let asked = Asked::unpack(channel, fields)?;
            PeerMessage::Publish { asked, forwarded: forwarded(fields)? }
        }
        Kind::History => {
            let asked = Asked::unpack(channel, fields)?;
            let bits = fields.byte()?;
            let limit = i32::from_le_bytes(fields.array()?);
            let Position { epoch, offset } = fields.position()?.unwrap_or_default();
            let since = Since { epoch: Some(epoch).filter(|epoch| *epoch != Epoch::default()), offset };
            let filter = HistoryFilter { since: Some(since).filter(|_| bits & 2 != 0), limit, reverse: bits & 1 != 0 };
            let range = TimeRange { from_ms: fields.u64()?, to_ms: fields.u64()? };
            PeerMessage::History { asked, filter, range }
        }
        Kind::HistoryRemove => PeerMessage::HistoryRemove(Asked::unpack(channel, fields)?),
        Kind::PresenceOf => PeerMessage::PresenceOf(Asked::unpack(channel, fields)?),
        Kind::PresenceStats => PeerMessage::PresenceStats(Asked::unpack(channel, fields)?),
        Kind::Subscribe => PeerMessage::Subscribe(Asked::unpack(channel, fields)?),
        Kind::Unsubscribe => PeerMessage::Unsubscribe(Asked::unpack(channel, fields)?),
        Kind::Subscribed => PeerMessage::Subscribed { channel, serial: SubscribeSerial(fields.u32()?) },
        Kind::Keys | Kind::Epochs | Kind::Answer => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::{HistoryRead, PublishRequest, Published, Request, RequestKind};
    use crate::messaging::handover_peer::pack_stamped;
    use crate::messaging::handover_request::{pack_answer, pack_join_leave, pack_presence};
    use crate::protocol::RawClientInfo;
    use crate::pubsub::{HistoryOptions, Publication};

    fn info() -> Vec<u8> {
        let mut packed = Vec::new();
        RawClientInfo { client: [7; 16], user: "ann", conn_info: b"\x01{}", chan_info: b"" }.pack(&mut packed);
        packed
    }

    fn record(offset: u64) -> PublicationRecord {
        let (data, tags) = (Bytes::from_static(b"{}"), Bytes::from_static(b"\x01a\x01b"));
        PublicationRecord::of_broker(offset, data, Some(info().into()), tags, 3).with_json(true)
    }

    fn position() -> Position {
        Position { epoch: Epoch::from_broker("abcdef").expect("short"), offset: 9 }
    }

    fn requests() -> Vec<Request> {
        let ticket = Ticket(5);
        let history = HistoryOptions { namespace: 0, size: 1, ttl_ms: 1, meta_ttl_ms: 1 };
        let publish = PublishRequest {
            data: Bytes::from_static(b"{}"),
            client_info: info().into(),
            idempotency_key: "key".into(),
            history,
            ..PublishRequest::default()
        };
        let since = Some(Since { epoch: None, offset: 8 });
        let filter = HistoryFilter { since, limit: -1, reverse: true };
        let kinds = [
            RequestKind::Publish { ticket, publish: Box::new(publish) },
            RequestKind::History { ticket, filter, range: TimeRange { from_ms: 3, to_ms: 9 }, options: history },
            RequestKind::HistoryRemove { ticket },
            RequestKind::PresenceSet { client: [7; 16], client_info: info().into() },
            RequestKind::PresenceRemove { client: [7; 16], user: "ann".into() },
            RequestKind::Presence { ticket },
            RequestKind::PresenceStats { ticket },
            RequestKind::JoinLeave { is_join: true, client_info: info().into() },
            RequestKind::Subscribe(SubscribeSerial(8)),
            RequestKind::Unsubscribe,
        ];
        kinds.into_iter().map(|kind| Request { from: ShardId(2), channel: "news".into(), kind }).collect()
    }

    fn errors() -> [BrokerError; 5] {
        use BrokerError::*;
        [Unavailable, OutcomeUnknown, NotSupported, Refused("busy".into()), Missing(position())]
    }

    /// One of each kind.
    fn messages() -> Vec<Vec<u8>> {
        let mut all: Vec<_> = requests().iter().filter_map(pack_request).collect();
        let client = info();
        let publication = Publication { channel: "news", data: b"{}", ..Publication::default() };
        let forwarded = Forwarded { channel: "news", publication, client: Some(RawClientInfo::unpack(&client)) };
        let records = [record(8), record(9)];
        let copy = ChannelCopy {
            channel: "news",
            is_first: true,
            top: position(),
            version: 4,
            version_epoch: "v",
            published_ago: 5,
            used_ago: 6,
            records: records.iter(),
        };
        let key = KnownKey { hash: (1, 2), left: 3, answer: Some(position()) };
        let answers = [
            Ok(Answer::Published(Published { position: Some(position()), is_suppressed: true })),
            Ok(Answer::History(HistoryRead { records: vec![record(9)], top: position(), since_is_kept: false })),
            Ok(Answer::HistoryRemoved),
            Ok(Answer::Presence(vec![info().into()].into())),
            Ok(Answer::PresenceStats { clients: 2, users: 1 }),
        ];
        let answers = answers.into_iter().chain(errors().map(Err));
        all.extend([
            pack_stamped(&forwarded, Some(position())),
            pack_removed("news"),
            pack_copy(copy),
            pack_keys(7, &[key, KnownKey { answer: None, ..key }]),
            pack_epochs(&[(1, 2), (3, 4)]),
        ]);
        all.extend(answers.map(|answer| pack_answer(ShardId(2), Ticket(5), &answer)));
        all
    }

    #[test]
    fn messages_unpack_to_what_was_packed() {
        for message in messages() {
            let again = match unpack(&message).unwrap_or_else(|| panic!("{message:?}")) {
                PeerMessage::Stamped { position, forwarded } => pack_stamped(&forwarded, position),
                PeerMessage::Removed { channel } => pack_removed(channel),
                PeerMessage::Copy(copy) => {
                    let ChannelCopy { records, channel, is_first, top, version, version_epoch, .. } = copy;
                    let records = records.collect::<Vec<_>>();
                    let (published_ago, used_ago) = (copy.published_ago, copy.used_ago);
                    pack_copy(ChannelCopy {
                        records: records.iter(),
                        channel,
                        is_first,
                        top,
                        version,
                        version_epoch,
                        published_ago,
                        used_ago,
                    })
                }
                PeerMessage::Keys(keys) => pack_keys(7, &keys),
                PeerMessage::Epochs(epochs) => pack_epochs(&epochs),
                PeerMessage::Answer { ticket, answer } => pack_answer(ShardId(2), ticket, &answer),
                PeerMessage::Presence { channel, is_in, client_info } => pack_presence(channel, is_in, &client_info),
                PeerMessage::JoinLeave { channel, is_join, client_info } => {
                    pack_join_leave(channel, is_join, &client_info)
                }
                // The others have no field besides the request's.
                _ => message.clone(),
            };
            assert_eq!(again, message);
        }
    }

    /// A connect may bring a subscription to the channel with the empty name.
    #[test]
    fn empty_name_is_a_channel() {
        let message = pack_presence("", true, &info());
        assert_eq!(route(&message), Some(MessageRoute::HomeOf("")));
        assert!(matches!(unpack(&message), Some(PeerMessage::Presence { channel: "", .. })));
    }

    /// `Missing` makes a channel continue behind the loss; another error makes it ask again.
    #[test]
    fn error_arrives_as_it_was_sent() {
        for error in errors() {
            let message = pack_answer(ShardId(2), Ticket(5), &Err(error.clone()));
            let Some(PeerMessage::Answer { answer: Err(again), .. }) = unpack(&message) else { panic!("{error}") };
            assert_eq!(again, error);
        }
    }

    #[test]
    fn messages_name_the_shard_that_they_are_for() {
        for message in messages() {
            let wanted = match Kind::from_byte(message[0]).expect("a kind") {
                Kind::Answer => MessageRoute::Shard(ShardId(2)),
                Kind::Keys => MessageRoute::Slot(7),
                Kind::Epochs => MessageRoute::EveryShard,
                _ => MessageRoute::HomeOf("news"),
            };
            assert_eq!(route(&message), Some(wanted));
        }
    }

    #[test]
    fn message_that_is_cut_or_has_a_wrong_byte_does_not_panic() {
        for message in messages() {
            for length in 0..message.len() {
                assert!(unpack(&message[..length]).is_none(), "{length} of {message:?}");
                _ = route(&message[..length]);
            }
            for at in 0..message.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut broken = message.clone();
                    broken[at] = value;
                    _ = (unpack(&broken).is_some(), route(&broken));
                }
            }
        }
    }
}
