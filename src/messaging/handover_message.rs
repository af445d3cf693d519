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

use super::handover_fields::{Fields, put_client_info, put_list, put_position, put_record};
use super::handover_peer::Forwarded;
pub use super::handover_peer::STAMPED;
use crate::broker::message::{Answer, BrokerError, HistoryRead, Published, Request, RequestKind, Ticket};
use crate::ids::ShardId;
use crate::protocol::{RawClientInfo, put};
use crate::pubsub::{
    ChannelCopy, HistoryFilter, KnownKey, Position, Publication, PublicationRecord, PublishOptions, Since, TimeRange,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    Stamped = STAMPED,
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
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
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
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

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
    Keys(Vec<KnownKey>),
    Answer {
        ticket: Ticket,
        answer: Result<Answer, BrokerError>,
    },
    /// The epochs of names without a channel, with their slots.
    Epochs(Vec<(u16, u32)>),
}

/// About which channel, and for which shard of the other process the answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked<'a> {
    pub(super) channel: &'a str,
    pub(super) from: ShardId,
    pub(super) ticket: Ticket,
}

impl<'a> Asked<'a> {
    fn unpack(channel: &'a str, fields: &mut Fields<'a>) -> Option<Self> {
        Some(Self { channel, from: ShardId(fields.u16()?), ticket: Ticket(fields.u32()?) })
    }
}

fn begin(kind: Kind, channel: &str) -> Vec<u8> {
    let mut out = vec![kind as u8];
    put(&mut out, channel.as_bytes());
    out
}

pub(super) fn pack_removed(channel: &str) -> Vec<u8> {
    begin(Kind::Removed, channel)
}

pub(super) fn pack_presence(channel: &str, is_in: bool, client_info: &[u8]) -> Vec<u8> {
    pack_client(Kind::Presence, channel, is_in, client_info)
}

pub(super) fn pack_join_leave(channel: &str, is_join: bool, client_info: &[u8]) -> Vec<u8> {
    pack_client(Kind::JoinLeave, channel, is_join, client_info)
}

fn pack_client(kind: Kind, channel: &str, flag: bool, client_info: &[u8]) -> Vec<u8> {
    let mut out = begin(kind, channel);
    out.push(u8::from(flag));
    put_client_info(&mut out, client_info);
    out
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

/// A request that a home shard of the process before makes of the process that orders. `None`: such a one is not sent.
pub fn pack_request(request: &Request) -> Option<Vec<u8>> {
    let Request { from, channel, kind } = request;
    let ask = |kind: Kind, ticket: &Ticket| {
        let mut out = begin(kind, channel);
        out.extend_from_slice(&from.0.to_le_bytes());
        out.extend_from_slice(&ticket.0.to_le_bytes());
        out
    };
    Some(match kind {
        // What is published reaches the other process in any case.
        RequestKind::Subscribe(_) | RequestKind::Unsubscribe | RequestKind::Query { .. } => return None,
        RequestKind::Publish { ticket, publish } => {
            let mut out = ask(Kind::Publish, ticket);
            let options = PublishOptions {
                skip_history: !publish.history.has_history(),
                use_delta: publish.use_delta,
                idempotency_key: &publish.idempotency_key,
                version_epoch: &publish.version_epoch,
            };
            let (data, tags, version) = (&*publish.data, &*publish.tags, publish.version);
            let publication = Publication { channel, data, tags, version, options, ..Publication::default() };
            let client = (!publish.client_info.is_empty()).then(|| RawClientInfo::unpack(&publish.client_info));
            out.extend_from_slice(&Forwarded { channel, publication, client }.pack());
            out
        }
        RequestKind::JoinLeave { is_join, client_info } => pack_join_leave(channel, *is_join, client_info),
        RequestKind::History { ticket, filter, range, .. } => {
            let mut out = ask(Kind::History, ticket);
            out.push(u8::from(filter.reverse) | u8::from(filter.since.is_some()) << 1);
            out.extend_from_slice(&filter.limit.to_le_bytes());
            for number in [filter.since.map_or(0, |since| since.offset), range.from_ms, range.to_ms] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out
        }
        RequestKind::HistoryRemove { ticket } => ask(Kind::HistoryRemove, ticket),
        RequestKind::PresenceSet { client_info, .. } => pack_presence(channel, true, client_info),
        RequestKind::PresenceRemove { client, user } => {
            let mut info = Vec::new();
            RawClientInfo { client: *client, user, conn_info: &[], chan_info: &[] }.pack(&mut info);
            pack_presence(channel, false, &info)
        }
        RequestKind::Presence { ticket } => ask(Kind::PresenceOf, ticket),
        RequestKind::PresenceStats { ticket } => ask(Kind::PresenceStats, ticket),
    })
}

const PUBLISHED: u8 = 0;
const HISTORY: u8 = 1;
const HISTORY_REMOVED: u8 = 2;
const PRESENCE: u8 = 3;
const PRESENCE_STATS: u8 = 4;
const ERROR: u8 = 5;

pub(super) fn pack_answer(to: ShardId, ticket: Ticket, answer: &Result<Answer, BrokerError>) -> Vec<u8> {
    let mut out = vec![Kind::Answer as u8];
    out.extend_from_slice(&to.0.to_le_bytes());
    out.extend_from_slice(&ticket.0.to_le_bytes());
    match answer {
        Ok(Answer::Published(Published { position, is_suppressed })) => {
            out.extend_from_slice(&[PUBLISHED, u8::from(*is_suppressed)]);
            put_position(&mut out, *position);
        }
        Ok(Answer::History(read)) => {
            out.push(HISTORY);
            put_position(&mut out, Some(read.top));
            put_list(&mut out, &read.records, put_record);
        }
        Ok(Answer::HistoryRemoved) => out.push(HISTORY_REMOVED),
        Ok(Answer::Presence(members)) => {
            out.push(PRESENCE);
            put_list(&mut out, members, |out, member| put_client_info(out, member));
        }
        Ok(Answer::PresenceStats { clients, users }) => {
            out.push(PRESENCE_STATS);
            out.extend_from_slice(&clients.to_le_bytes());
            out.extend_from_slice(&users.to_le_bytes());
        }
        // The memory has no index that a query needs.
        Ok(Answer::Query(_)) | Err(_) => out.push(ERROR),
    }
    out
}

fn unpack_answer(fields: &mut Fields<'_>) -> Option<Result<Answer, BrokerError>> {
    Some(Ok(match fields.byte()? {
        PUBLISHED => {
            let is_suppressed = fields.flag()?;
            Answer::Published(Published { position: fields.position()?, is_suppressed })
        }
        HISTORY => {
            let top = fields.position()?.unwrap_or_default();
            Answer::History(HistoryRead { top, records: fields.list(Fields::record)?, since_is_kept: false })
        }
        HISTORY_REMOVED => Answer::HistoryRemoved,
        PRESENCE => Answer::Presence(fields.list(Fields::packed_client_info)?),
        PRESENCE_STATS => Answer::PresenceStats { clients: fields.u32()?, users: fields.u32()? },
        ERROR => return Some(Err(BrokerError::OutcomeUnknown)),
        _ => return None,
    }))
}

/// Which shard a message is for. `None`: it is no message.
pub fn route(message: &[u8]) -> Option<MessageRoute<'_>> {
    let mut fields = Fields(message);
    Some(match Kind::from_byte(fields.byte()?)? {
        Kind::Answer => MessageRoute::Shard(ShardId(fields.u16()?)),
        Kind::Keys => MessageRoute::Slot(fields.u32()? as usize),
        Kind::Epochs => MessageRoute::EveryShard,
        _ => MessageRoute::HomeOf(fields.text().filter(|channel| !channel.is_empty())?),
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
            let channel = fields.text().filter(|channel| !channel.is_empty())?;
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
            let since = Since { epoch: None, offset: fields.u64()? };
            let filter = HistoryFilter { since: Some(since).filter(|_| bits & 2 != 0), limit, reverse: bits & 1 != 0 };
            let range = TimeRange { from_ms: fields.u64()?, to_ms: fields.u64()? };
            PeerMessage::History { asked, filter, range }
        }
        Kind::HistoryRemove => PeerMessage::HistoryRemove(Asked::unpack(channel, fields)?),
        Kind::PresenceOf => PeerMessage::PresenceOf(Asked::unpack(channel, fields)?),
        Kind::PresenceStats => PeerMessage::PresenceStats(Asked::unpack(channel, fields)?),
        Kind::Keys | Kind::Epochs | Kind::Answer => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::PublishRequest;
    use crate::messaging::handover_peer::pack_stamped;
    use crate::pubsub::{Epoch, HistoryOptions};

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
        ];
        kinds.into_iter().map(|kind| Request { from: ShardId(2), channel: "news".into(), kind }).collect()
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
            Ok(Answer::Presence(vec![info().into()])),
            Ok(Answer::PresenceStats { clients: 2, users: 1 }),
            Err(BrokerError::OutcomeUnknown),
        ];
        all.extend([
            pack_stamped(&forwarded, Some(position())),
            pack_removed("news"),
            pack_copy(copy),
            pack_keys(7, &[key, KnownKey { answer: None, ..key }]),
            pack_epochs(&[(1, 2), (3, 4)]),
        ]);
        all.extend(answers.iter().map(|answer| pack_answer(ShardId(2), Ticket(5), answer)));
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
