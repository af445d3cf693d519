//! Frames in, commands out. A frame is split at line breaks, one at its end is allowed; each line is one object.
//!
//! A line is read once, front to back. Unknown fields are checked for their form and read over; a field that comes twice, or
//! anything behind the object but blanks, is malformed. An empty frame is malformed, since it has one empty line.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::fields::{Object, raw, text, zero};
use crate::protocol::command::{Body, Command, ConnectRequest, Malformed};

/// The commands of a frame.
pub fn commands(frame: &[u8]) -> Commands<'_> {
    commands_from(frame, 0)
}

/// The commands of a frame from `start` on, where one begins: 0, or the end that an item named.
pub fn commands_from(frame: &[u8], start: usize) -> Commands<'_> {
    Commands { frame, next: Some(start).filter(|&start| start == 0 || start < frame.len()) }
}

/// The request of a unidirectional client: an object by itself, or null for one without fields.
pub fn connect_request(bytes: &[u8]) -> Result<ConnectRequest<'_>, Malformed> {
    let request: Option<Object<_>> = serde_json::from_slice(bytes).map_err(|_| Malformed)?;
    Ok(request.map(|object| object.0).unwrap_or_default())
}

/// Each item is a command and where in the frame the next one begins; nothing comes after an error.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    frame: &'a [u8],
    /// `None` behind the last line.
    next: Option<usize>,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<(Command<'a>, usize), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next.take()?;
        let rest = &self.frame[start..];
        let (line, end) = match memchr::memchr(b'\n', rest) {
            Some(at) => (&rest[..at], start + at + 1),
            None => (rest, self.frame.len()),
        };
        let Ok(Line(command)) = serde_json::from_slice(line) else { return Some(Err(Malformed)) };
        self.next = Some(end).filter(|&end| end < self.frame.len());
        Some(Ok((command, end)))
    }
}

/// The fields of a command, bodies in the order in which they count.
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

/// The fields that the small requests share.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Small<'a> {
    #[serde(borrow, deserialize_with = "text")]
    channel: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    data: &'a [u8],
    #[serde(rename = "type", deserialize_with = "zero")]
    kind: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Call<'a> {
    #[serde(borrow, deserialize_with = "text")]
    method: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    data: &'a [u8],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Renewal<'a> {
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
                return Err(A::Error::custom("a field twice"));
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

/// The body under a key; nothing where it is null or unknown.
fn read_body<'de, A: MapAccess<'de>>(key: Key, map: &mut A) -> Result<Option<Body<'de>>, A::Error> {
    Ok(match key {
        Key::Connect => value(map)?.map(Body::Connect),
        Key::Subscribe => value(map)?.map(Body::Subscribe),
        Key::Unsubscribe => value(map)?.map(|Small { channel, .. }| Body::Unsubscribe { channel }),
        Key::Publish => value(map)?.map(|Small { channel, data, kind }| Body::Publish { channel, data, kind }),
        Key::Presence => value(map)?.map(|Small { channel, .. }| Body::Presence { channel }),
        Key::PresenceStats => value(map)?.map(|Small { channel, .. }| Body::PresenceStats { channel }),
        Key::History => value(map)?.map(Body::History),
        Key::Rpc => value(map)?.map(|Call { method, data }| Body::Rpc { method, data }),
        Key::Send => value(map)?.map(|Small { data, .. }| Body::Send { data }),
        Key::Refresh => value(map)?.map(|Renewal { token, .. }| Body::Refresh { token }),
        Key::SubRefresh => {
            value(map)?.map(|Renewal { channel, token, kind }| Body::SubRefresh { channel, token, kind })
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
