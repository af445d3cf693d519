//! Decodes commands. A frame has one object per line; a line break at its end is allowed.
//!
//! A line is read once, from front to back. Unknown fields are checked for their syntax and ignored. A repeated field is
//! malformed, and so is anything but whitespace after the object. An empty frame is malformed: it has one empty line.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::fields::{Object, raw, text, zero};
use crate::protocol::command::{Body, Command, ConnectRequest};
use crate::protocol::error::Malformed;

/// The command in the line at the beginning of these bytes, and the length of the line with its line break.
pub(crate) fn command(bytes: &[u8]) -> Result<(Command<'_>, usize), Malformed> {
    let (line, end) = match memchr::memchr(b'\n', bytes) {
        Some(at) => (&bytes[..at], at + 1),
        None => (bytes, bytes.len()),
    };
    let Line(command) = serde_json::from_slice(line).map_err(|_| Malformed)?;
    Ok((command, end))
}

/// The request of a unidirectional client: an object, or null for a request without fields.
pub(crate) fn connect_request(bytes: &[u8]) -> Result<ConnectRequest<'_>, Malformed> {
    let request: Option<Object<_>> = serde_json::from_slice(bytes).map_err(|_| Malformed)?;
    Ok(request.map(|object| object.0).unwrap_or_default())
}

/// The fields of a command; bodies in the order of precedence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Id,
    Connect,
    Subscribe,
    Unsubscribe,
    Publish,
    Presence,
    PresenceStats,
    History,
    Rpc,
    Send,
    Refresh,
    SubRefresh,
    #[serde(other)]
    Other,
}

/// The fields of the requests that name a channel and little else.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ChannelFields<'a> {
    #[serde(borrow, deserialize_with = "text")]
    channel: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    data: &'a [u8],
    #[serde(rename = "type", deserialize_with = "zero")]
    kind: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RpcFields<'a> {
    #[serde(borrow, deserialize_with = "text")]
    method: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    data: &'a [u8],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefreshFields<'a> {
    #[serde(borrow, deserialize_with = "text")]
    channel: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    token: Cow<'a, str>,
    #[serde(rename = "type", deserialize_with = "zero")]
    kind: i32,
}

struct Line<'a>(Command<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Line<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(LineVisitor).map(Line)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Command<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Command<'de>, A::Error> {
        let mut id = None;
        let mut seen = 0u16;
        let mut first = Key::Other;
        let mut body = Body::Unknown;
        while let Some(key) = map.next_key::<Key>()? {
            if key != Key::Other && seen & (1 << key as u16) != 0 {
                return Err(A::Error::custom("a repeated field"));
            }
            seen |= 1 << key as u16;
            if key == Key::Id {
                id = map.next_value::<Option<u32>>()?;
            } else if let Some(found) = read_body(key, &mut map)?
                && key < first
            {
                (first, body) = (key, found);
            }
        }
        let id = id.unwrap_or(0);
        if id == 0 && first != Key::Send {
            body = Body::Pong;
        }
        Ok(Command { id, body })
    }
}

/// The body under a key; `None` if it is null or unknown.
fn read_body<'de, A: MapAccess<'de>>(key: Key, map: &mut A) -> Result<Option<Body<'de>>, A::Error> {
    Ok(match key {
        Key::Connect => value(map)?.map(Body::Connect),
        Key::Subscribe => value(map)?.map(Body::Subscribe),
        Key::Unsubscribe => value(map)?.map(|ChannelFields { channel, .. }| Body::Unsubscribe { channel }),
        Key::Publish => value(map)?.map(|ChannelFields { channel, data, kind }| Body::Publish { channel, data, kind }),
        Key::Presence => value(map)?.map(|ChannelFields { channel, .. }| Body::Presence { channel }),
        Key::PresenceStats => value(map)?.map(|ChannelFields { channel, .. }| Body::PresenceStats { channel }),
        Key::History => value(map)?.map(Body::History),
        Key::Rpc => value(map)?.map(|RpcFields { method, data }| Body::Rpc { method, data }),
        Key::Send => value(map)?.map(|ChannelFields { data, .. }| Body::Send { data }),
        Key::Refresh => value(map)?.map(|RefreshFields { token, .. }| Body::Refresh { token }),
        Key::SubRefresh => {
            value(map)?.map(|RefreshFields { channel, token, kind }| Body::SubRefresh { channel, token, kind })
        }
        Key::Id | Key::Other => {
            map.next_value::<IgnoredAny>()?;
            None
        }
    })
}

fn value<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: &mut A) -> Result<Option<T>, A::Error> {
    Ok(map.next_value::<Option<Object<T>>>()?.map(|object| object.0))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
