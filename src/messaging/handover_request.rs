//! What a home shard of the process that follows asks of the process that orders, in a handover, and the answers.

use super::handover_fields::{Fields, Kind, begin, pack_client, put_client_info, put_list, put_position, put_record};
use super::handover_peer::{Forwarded, pack_stamped};
use crate::broker::message::{Answer, BrokerError, Event, HistoryRead, Published, Request, RequestKind, Ticket};
use crate::ids::ShardId;
use crate::protocol::{RawClientInfo, put};
use crate::pubsub::{Position, Publication, PublishOptions};

/// About which channel, and for which shard of the other process the answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked<'a> {
    pub(super) channel: &'a str,
    pub(super) from: ShardId,
    pub(super) ticket: Ticket,
}

impl<'a> Asked<'a> {
    pub(super) fn unpack(channel: &'a str, fields: &mut Fields<'a>) -> Option<Self> {
        Some(Self { channel, from: ShardId(fields.u16()?), ticket: Ticket(fields.u32()?) })
    }
}

pub(super) fn pack_presence(channel: &str, is_in: bool, client_info: &[u8]) -> Vec<u8> {
    pack_client(Kind::Presence, channel, is_in, client_info)
}

pub(super) fn pack_join_leave(channel: &str, is_join: bool, client_info: &[u8]) -> Vec<u8> {
    pack_client(Kind::JoinLeave, channel, is_join, client_info)
}

/// A request that a home shard of the process before makes of the process that orders. `None`: it answers no queries.
pub fn pack_request(request: &Request) -> Option<Vec<u8>> {
    let Request { from, channel, kind } = request;
    let ask = |kind: Kind, ticket: &Ticket| {
        let mut out = begin(kind, channel);
        out.extend_from_slice(&from.0.to_le_bytes());
        out.extend_from_slice(&ticket.0.to_le_bytes());
        out
    };
    Some(match kind {
        RequestKind::Subscribe(serial) => ask(Kind::Subscribe, &Ticket(serial.0)),
        RequestKind::Unsubscribe => ask(Kind::Unsubscribe, &Ticket(0)),
        RequestKind::Query { .. } => return None,
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
            let since =
                filter.since.map(|since| Position { epoch: since.epoch.unwrap_or_default(), offset: since.offset });
            put_position(&mut out, since);
            for number in [range.from_ms, range.to_ms] {
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

/// Behind `ERROR`.
const UNAVAILABLE: u8 = 0;
const OUTCOME_UNKNOWN: u8 = 1;
const NOT_SUPPORTED: u8 = 2;
const REFUSED: u8 = 3;
const MISSING: u8 = 4;

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
            out.extend_from_slice(&[HISTORY, u8::from(read.since_is_kept)]);
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
        // No query is asked.
        Ok(Answer::Query(_)) => put_error(&mut out, &BrokerError::NotSupported),
        Err(error) => put_error(&mut out, error),
    }
    out
}

fn put_error(out: &mut Vec<u8>, error: &BrokerError) {
    out.push(ERROR);
    match error {
        BrokerError::Unavailable => out.push(UNAVAILABLE),
        BrokerError::OutcomeUnknown => out.push(OUTCOME_UNKNOWN),
        BrokerError::NotSupported => out.push(NOT_SUPPORTED),
        BrokerError::Refused(reason) => {
            out.push(REFUSED);
            put(out, reason.as_bytes());
        }
        BrokerError::Missing(top) => {
            out.push(MISSING);
            put_position(out, Some(*top));
        }
    }
}

fn error(fields: &mut Fields<'_>) -> Option<BrokerError> {
    Some(match fields.byte()? {
        UNAVAILABLE => BrokerError::Unavailable,
        OUTCOME_UNKNOWN => BrokerError::OutcomeUnknown,
        NOT_SUPPORTED => BrokerError::NotSupported,
        REFUSED => BrokerError::Refused(fields.text()?.into()),
        MISSING => BrokerError::Missing(fields.position()?.unwrap_or_default()),
        _ => return None,
    })
}

pub(super) fn unpack_answer(fields: &mut Fields<'_>) -> Option<Result<Answer, BrokerError>> {
    Some(Ok(match fields.byte()? {
        PUBLISHED => {
            let is_suppressed = fields.flag()?;
            Answer::Published(Published { position: fields.position()?, is_suppressed })
        }
        HISTORY => {
            let since_is_kept = fields.flag()?;
            let top = fields.position()?.unwrap_or_default();
            Answer::History(HistoryRead { top, records: fields.list(Fields::record)?, since_is_kept })
        }
        HISTORY_REMOVED => Answer::HistoryRemoved,
        PRESENCE => Answer::Presence(fields.list(Fields::packed_client_info)?.into()),
        PRESENCE_STATS => Answer::PresenceStats { clients: fields.u32()?, users: fields.u32()? },
        ERROR => return error(fields).map(Err),
        _ => return None,
    }))
}

/// What the durable log of the process that orders tells a home shard of the other one. `None`: a log says no such thing.
pub fn pack_event(to: ShardId, event: &Event) -> Option<Vec<u8>> {
    Some(match event {
        Event::Subscribed { channel, serial } => {
            let mut out = begin(Kind::Subscribed, channel);
            out.extend_from_slice(&serial.0.to_le_bytes());
            out
        }
        Event::Publication { channel, record, position } => {
            let client = record.client_info.as_deref().map(RawClientInfo::unpack);
            pack_stamped(&Forwarded { channel, publication: record.publication(channel), client }, *position)
        }
        Event::Answer { ticket, answer } => pack_answer(to, *ticket, answer),
        Event::SubscribeDelayed { .. } | Event::PatternPublication { .. } | Event::JoinLeave { .. } => return None,
    })
}
