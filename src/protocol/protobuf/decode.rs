//! Decodes commands. A frame has length-delimited messages, one after the other; an empty frame is malformed.
//!
//! A message is read once, from front to back, and all of it must be well-formed, also fields that are ignored. Of a repeated
//! field the last one counts, also for messages in messages; of several bodies the first in the protocol's order counts.
//! Strings are UTF-8.

use std::borrow::Cow;

use super::requests::{history_request, subscribe_request, text};
use super::wire::{Field, Fields, delimited};
use crate::protocol::command::{Body, Command, ConnectRequest};
use crate::protocol::error::Malformed;
use crate::protocol::maps::{Headers, Subs};

/// The command in the message at the beginning of these bytes, and the length of the message with its length prefix.
pub(crate) fn command(bytes: &[u8]) -> Result<(Command<'_>, usize), Malformed> {
    let mut rest = bytes;
    let message = delimited(&mut rest).ok_or(Malformed)?;
    Ok((command_of(message)?, bytes.len() - rest.len()))
}

fn command_of(message: &[u8]) -> Result<Command<'_>, Malformed> {
    let mut id = 0;
    let mut first = u32::MAX;
    let mut body = Body::Unknown;
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 1 {
            id = field.varint()? as u32;
        } else if let Some(found) = read_body(field)? {
            let precedence = precedence(field.number);
            if precedence <= first {
                (first, body) = (precedence, found);
            }
        }
    }
    if id == 0 && !matches!(body, Body::Send { .. }) {
        body = Body::Pong;
    }
    Ok(Command { id, body })
}

/// The precedence of bodies is that of their numbers, except that an RPC (13) precedes a message (12).
fn precedence(number: u32) -> u32 {
    match number {
        12 => 13,
        13 => 12,
        other => other,
    }
}

/// The body in a field; `None` if the field is unknown.
fn read_body(field: Field<'_>) -> Result<Option<Body<'_>>, Malformed> {
    let body = match field.number {
        4 => Body::Connect(connect_request(field.bytes()?)?),
        5 => Body::Subscribe(subscribe_request(field.bytes()?)?),
        6 => Body::Unsubscribe { channel: channel_fields(field)?.channel },
        7 => {
            let ChannelFields { channel, data, kind } = channel_fields(field)?;
            Body::Publish { channel, data, kind }
        }
        8 => Body::Presence { channel: channel_fields(field)?.channel },
        9 => Body::PresenceStats { channel: channel_fields(field)?.channel },
        10 => Body::History(history_request(field.bytes()?)?),
        12 => Body::Send { data: rpc(field)?.1 },
        13 => {
            let (method, data) = rpc(field)?;
            Body::Rpc { method, data }
        }
        14 => Body::Refresh { token: token(field.bytes()?)? },
        15 => {
            let (channel, token, kind) = sub_refresh(field.bytes()?)?;
            Body::SubRefresh { channel, token, kind }
        }
        _ => return Ok(None),
    };
    Ok(Some(body))
}

/// The fields of the requests that name a channel and little else. Only a publish has `data` and `kind`; in the other
/// requests these fields are unknown and ignored, whatever their type.
#[derive(Default)]
struct ChannelFields<'a> {
    channel: Cow<'a, str>,
    data: &'a [u8],
    kind: i32,
}

fn channel_fields(request: Field<'_>) -> Result<ChannelFields<'_>, Malformed> {
    let mut fields = ChannelFields::default();
    let is_publish = request.number == 7;
    for field in Fields::of(request.bytes()?) {
        let field = field?;
        match field.number {
            1 => fields.channel = text(field)?,
            2 if is_publish => fields.data = field.bytes()?,
            3 if is_publish => fields.kind = field.int32()?,
            _ => (),
        }
    }
    Ok(fields)
}

/// The method and the data of an RPC, or the data of a message.
fn rpc(request: Field<'_>) -> Result<(Cow<'_, str>, &[u8]), Malformed> {
    let (mut method, mut data) = (Cow::default(), &[][..]);
    for field in Fields::of(request.bytes()?) {
        let field = field?;
        match field.number {
            1 => data = field.bytes()?,
            2 if request.number == 13 => method = text(field)?,
            _ => (),
        }
    }
    Ok((method, data))
}

fn token(message: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let mut token = Cow::default();
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 1 {
            token = text(field)?;
        }
    }
    Ok(token)
}

fn sub_refresh(message: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>, i32), Malformed> {
    let (mut channel, mut token, mut kind) = (Cow::default(), Cow::default(), 0);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => channel = text(field)?,
            2 => token = text(field)?,
            3 => kind = field.int32()?,
            _ => (),
        }
    }
    Ok((channel, token, kind))
}

fn connect_request(message: &[u8]) -> Result<ConnectRequest<'_>, Malformed> {
    let mut request = ConnectRequest::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => request.token = text(field)?,
            2 => request.data = field.bytes()?,
            // The entries of a map may be anywhere in the message, so the iterators get all of it.
            3 => request.subs = field.bytes().map(|_| Subs::protobuf(message))?,
            4 => request.name = text(field)?,
            5 => request.version = text(field)?,
            6 => request.headers = field.bytes().map(|_| Headers::protobuf(message))?,
            7 => request.flag = field.varint()? as i64,
            _ => (),
        }
    }
    Ok(request)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
