//! Frames in, commands out. A frame is a row of messages, each behind its length; a frame of no bytes is malformed.
//!
//! A message is read once, front to back, and whatever stands in it must be well-formed, also what does not count. A field
//! that comes twice counts as it came last, messages in messages included; of several bodies the first in the protocol's
//! order counts. Strings are UTF-8.

use std::borrow::Cow;

use super::wire::{Field, Fields, delimited};
use crate::protocol::command::{
    Body, Command, ConnectRequest, HistoryRequest, Malformed, StreamPosition, SubscribeRequest,
};
use crate::protocol::filter::RawFilter;
use crate::protocol::maps::{Entry, Headers, Subs};

/// The commands of a frame from `start` on, where one begins: 0, or the end that an item named.
pub fn commands_from(frame: &[u8], start: usize) -> Commands<'_> {
    Commands { frame, next: Some(start).filter(|&start| start == 0 || start < frame.len()) }
}

/// Each item is a command and where in the frame the next one begins; nothing comes after an error.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    frame: &'a [u8],
    /// `None` behind the last message.
    next: Option<usize>,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<(Command<'a>, usize), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next.take()?;
        let mut rest = &self.frame[start..];
        let Some(Ok(command)) = delimited(&mut rest).map(command) else { return Some(Err(Malformed)) };
        let end = self.frame.len() - rest.len();
        self.next = Some(end).filter(|&end| end < self.frame.len());
        Some(Ok((command, end)))
    }
}

fn command(message: &[u8]) -> Result<Command<'_>, Malformed> {
    let mut id = 0;
    let mut first = u32::MAX;
    let mut body = Body::Unknown;
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 1 {
            id = field.varint()? as u32;
        } else if let Some(found) = read_body(field)? {
            let rank = rank(field.number);
            if rank <= first {
                (first, body) = (rank, found);
            }
        }
    }
    if id == 0 && !matches!(body, Body::Send { .. }) {
        body = Body::Pong;
    }
    Ok(Command { id, body })
}

/// The order in which bodies count is that of their numbers, but for the call, which comes before the message.
fn rank(number: u32) -> u32 {
    match number {
        12 => 13,
        13 => 12,
        other => other,
    }
}

/// The body in a field; nothing where it is unknown.
fn read_body(field: Field<'_>) -> Result<Option<Body<'_>>, Malformed> {
    let body = match field.number {
        4 => Body::Connect(connect_request(field.bytes()?)?),
        5 => Body::Subscribe(subscribe_request(field.bytes()?)?),
        6 => Body::Unsubscribe { channel: named(field)?.channel },
        7 => {
            let Named { channel, data, kind } = named(field)?;
            Body::Publish { channel, data, kind }
        }
        8 => Body::Presence { channel: named(field)?.channel },
        9 => Body::PresenceStats { channel: named(field)?.channel },
        10 => Body::History(history_request(field.bytes()?)?),
        12 => Body::Send { data: call(field)?.1 },
        13 => {
            let (method, data) = call(field)?;
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

fn text(field: Field<'_>) -> Result<Cow<'_, str>, Malformed> {
    field.text().map(Cow::Borrowed)
}

/// The requests that name a channel and little else. Only a publish has more, and fields that a message does not know are
/// read over, whatever they are.
#[derive(Default)]
struct Named<'a> {
    channel: Cow<'a, str>,
    data: &'a [u8],
    kind: i32,
}

fn named(request: Field<'_>) -> Result<Named<'_>, Malformed> {
    let mut named = Named::default();
    let publishes = request.number == 7;
    for field in Fields::of(request.bytes()?) {
        let field = field?;
        match field.number {
            1 => named.channel = text(field)?,
            2 if publishes => named.data = field.bytes()?,
            3 if publishes => named.kind = field.int32()?,
            _ => (),
        }
    }
    Ok(named)
}

/// A call's method and data, or a message's data.
fn call(request: Field<'_>) -> Result<(Cow<'_, str>, &[u8]), Malformed> {
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
            // The entries of a map stand about in the message, so that whoever asks for them is given the whole.
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

fn subscribe_request(message: &[u8]) -> Result<SubscribeRequest<'_>, Malformed> {
    let mut request = SubscribeRequest::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => request.channel = text(field)?,
            2 => request.token = text(field)?,
            3 => request.recover = field.flag()?,
            6 => request.epoch = text(field)?,
            7 => request.offset = field.varint()?,
            8 => request.data = field.bytes()?,
            9 => request.positioned = field.flag()?,
            10 => request.recoverable = field.flag()?,
            11 => request.join_leave = field.flag()?,
            12 => request.delta = text(field)?,
            13 => request.tf = RawFilter::Protobuf(field.bytes()?),
            14 => request.flag = field.varint()? as i64,
            15 => request.kind = field.int32()?,
            _ => (),
        }
    }
    Ok(request)
}

fn history_request(message: &[u8]) -> Result<HistoryRequest<'_>, Malformed> {
    let mut request = HistoryRequest::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => request.channel = text(field)?,
            7 => request.limit = field.int32()?,
            8 => request.since = Some(position(field.bytes()?)?),
            9 => request.reverse = field.flag()?,
            _ => (),
        }
    }
    Ok(request)
}

fn position(message: &[u8]) -> Result<StreamPosition<'_>, Malformed> {
    let mut position = StreamPosition::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => position.offset = field.varint()?,
            2 => position.epoch = text(field)?,
            _ => (),
        }
    }
    Ok(position)
}

/// The entries of one of a connect request's maps: key and value of each; nothing comes after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entries<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<'a> Entries<'a> {
    pub fn subs(request: &'a [u8]) -> Self {
        Self { fields: Fields::of(request), number: 3 }
    }

    pub fn headers(request: &'a [u8]) -> Self {
        Self { fields: Fields::of(request), number: 6 }
    }

    pub fn next_sub(&mut self) -> Option<Entry<'a, SubscribeRequest<'a>>> {
        self.next_entry(subscribe_request)
    }

    pub fn next_header(&mut self) -> Option<Entry<'a, Cow<'a, str>>> {
        let text = |bytes| simdutf8::basic::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Malformed);
        self.next_entry(text)
    }

    fn next_entry<T: Default>(&mut self, read: impl Fn(&'a [u8]) -> Result<T, Malformed>) -> Option<Entry<'a, T>> {
        let number = self.number;
        let field = self.fields.find(|field| field.is_ok_and(|field| field.number == number))?.ok()?;
        let entry = field.bytes().and_then(|entry| {
            let (mut key, mut value) = (Cow::default(), T::default());
            for field in Fields::of(entry) {
                let field = field?;
                match field.number {
                    1 => key = text(field)?,
                    2 => value = read(field.bytes()?)?,
                    _ => (),
                }
            }
            Ok((key, value))
        });
        if entry.is_err() {
            self.fields = Fields::of(&[]);
        }
        Some(entry)
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
