//! What Redis answers, as answers to requests.

use std::collections::HashSet;

use bytes::Bytes;
use redis::Value;

use super::messages;
use super::payload::{self, Payload, number};
use crate::broker::message::{Answer, BrokerError, HistoryRead, PublishRequest, Published, Request, RequestKind};
use crate::protocol::RawClientInfo;
use crate::pubsub::{Epoch, HistoryFilter, Position, PublicationRecord};

/// An answer, and how many of its parts could not be read and are left out.
pub(super) type ReadAnswer = (Result<Answer, BrokerError>, u64);

/// The answer to a request with a ticket. `value` is not an error.
pub(super) fn read(request: &Request, value: Value, has_user_mapping: bool) -> ReadAnswer {
    match &request.kind {
        RequestKind::Publish { publish, .. } => (published(value, publish), 0),
        RequestKind::History { filter, .. } => match history(value, *filter) {
            Some((read, malformed)) => (Ok(Answer::History(read)), malformed),
            None => (Err(unexpected()), 0),
        },
        RequestKind::HistoryRemove { .. } => (Ok(Answer::HistoryRemoved), 0),
        RequestKind::PresenceStats { .. } if has_user_mapping => (stats(&value).ok_or_else(unexpected), 0),
        RequestKind::PresenceStats { .. } => match members(value) {
            Some((members, malformed)) => (Ok(count(&members)), malformed),
            None => (Err(unexpected()), 0),
        },
        RequestKind::Presence { .. } => match members(value) {
            Some((members, malformed)) => (Ok(Answer::Presence(members.into())), malformed),
            None => (Err(unexpected()), 0),
        },
        _ => (Err(BrokerError::NotSupported), 0),
    }
}

fn unexpected() -> BrokerError {
    BrokerError::Refused("the answer has another form than expected".into())
}

/// `PUBLISH` answers a number of receivers, our scripts a number that is 0 if the key is known, or a position with flags.
fn published(value: Value, publish: &PublishRequest) -> Result<Answer, BrokerError> {
    let parts = match value {
        Value::Int(number) => {
            let is_suppressed = number == 0 && !publish.idempotency_key.is_empty();
            return Ok(Answer::Published(Published { position: None, is_suppressed }));
        }
        Value::Array(parts) => parts,
        _ => return Err(unexpected()),
    };
    let [offset, epoch, known_key, old_version] = &parts[..] else { return Err(unexpected()) };
    if bytes_of(old_version) == Some(b"u") {
        return Err(BrokerError::OutcomeUnknown);
    }
    let position = position(offset, epoch).ok_or_else(unexpected)?;
    let is_suppressed = [known_key, old_version].iter().any(|flag| bytes_of(flag) == Some(b"1"));
    Ok(Answer::Published(Published { position: Some(position), is_suppressed }))
}

fn position(offset: &Value, epoch: &Value) -> Option<Position> {
    let epoch = std::str::from_utf8(bytes_of(epoch)?).ok()?;
    Some(Position { epoch: Epoch::from_broker(epoch)?, offset: number_of(offset)? })
}

/// Entries that cannot be read are left out and counted.
fn history(value: Value, filter: HistoryFilter) -> Option<(HistoryRead, u64)> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let top = position(&parts.next()?, &parts.next()?)?;
    let entries = match parts.next() {
        Some(Value::Array(entries)) => entries,
        None | Some(Value::Nil) => Vec::new(),
        Some(_) => return None,
    };
    let count = entries.len();
    let is_list = matches!(entries.first(), Some(Value::BulkString(_)));
    let mut records: Vec<_> =
        entries.into_iter().filter_map(if is_list { list_record } else { stream_record }).collect();
    let malformed = (count - records.len()) as u64;
    if is_list {
        select(&mut records, filter);
    }
    Some((HistoryRead { records, top, since_is_kept: false }, malformed))
}

/// An entry of a stream: `[ID, [field, value...]]`, where the ID begins with the offset.
fn stream_record(entry: Value) -> Option<PublicationRecord> {
    let Value::Array(parts) = entry else { return None };
    let [id, Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let id = bytes_of(&id)?;
    let offset = number(&id[..memchr::memchr(b'-', id)?])?;
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if bytes_of(&name) == Some(b"d")
            && let Value::BulkString(message) = value
        {
            return record(message.into(), offset);
        }
    }
    None
}

/// An entry of a list is a PUB/SUB payload.
fn list_record(entry: Value) -> Option<PublicationRecord> {
    let Value::BulkString(entry) = entry else { return None };
    let Payload::Publication { position: Some(position), message } = payload::parse(entry.into())? else { return None };
    record(message, position.offset)
}

/// In the history an offset is always that of the entry.
fn record(message: Bytes, offset: u64) -> Option<PublicationRecord> {
    let mut record = messages::read_publication(message, offset)?.record;
    record.offset = offset;
    Some(record)
}

/// Applies the filter to the records of a list, which come newest first and all at once.
fn select(records: &mut Vec<PublicationRecord>, filter: HistoryFilter) {
    if !filter.reverse {
        records.reverse();
    }
    if let Some(since) = filter.since {
        let is_after = |record: &PublicationRecord| record.offset > since.offset;
        let is_before = |record: &PublicationRecord| record.offset < since.offset;
        records.retain(|record| if filter.reverse { is_before(record) } else { is_after(record) });
    }
    records.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
}

/// Client infos, which Redis names by client. Those that cannot be read are left out and counted.
fn members(value: Value) -> Option<(Vec<Bytes>, u64)> {
    let infos: Vec<Value> = match value {
        Value::Array(parts) if parts.len() % 2 == 0 => parts.into_iter().skip(1).step_by(2).collect(),
        Value::Map(pairs) => pairs.into_iter().map(|(_, info)| info).collect(),
        _ => return None,
    };
    let count = infos.len();
    let read = |info| if let Value::BulkString(info) = info { messages::read_client_info(info.into()) } else { None };
    let members: Vec<_> = infos.into_iter().filter_map(read).collect();
    let malformed = (count - members.len()) as u64;
    Some((members, malformed))
}

fn count(members: &[Bytes]) -> Answer {
    let users: HashSet<&str> = members.iter().map(|member| RawClientInfo::unpack(member).user).collect();
    Answer::PresenceStats { clients: to_u32(members.len() as u64), users: to_u32(users.len() as u64) }
}

fn stats(value: &Value) -> Option<Answer> {
    let Value::Array(parts) = value else { return None };
    let [clients, users] = &parts[..] else { return None };
    Some(Answer::PresenceStats { clients: to_u32(number_of(clients)?), users: to_u32(number_of(users)?) })
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn number_of(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => number(bytes_of(other)?),
    }
}

pub(super) fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}
