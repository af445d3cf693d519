//! The members of an object, one after the other and without a copy: for maps that are only sometimes looked into.
//!
//! The object was checked for its form when its command was read, so that only the values' types are in question here.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::StreamDeserializer;
use serde_json::de::SliceRead;

use super::fields::{Object, Text};
use crate::protocol::command::Malformed;
use crate::protocol::maps::Entry;

/// Each item is a key and its value; nothing comes after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Members<'a> {
    /// From the brace or the comma before a member on; empty behind the last.
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    /// `object`: a whole JSON object, or nothing.
    pub fn of(object: &'a [u8]) -> Self {
        Self { rest: object }
    }

    /// The next member, its value a message or null.
    pub fn next_message<T: Deserialize<'a> + Default>(&mut self) -> Option<Entry<'a, T>> {
        let member = self.next_value::<Option<Object<T>>>()?;
        Some(member.map(|(key, value)| (key, value.map(|object| object.0).unwrap_or_default())))
    }

    /// The next member, its value a string or null.
    pub fn next_text(&mut self) -> Option<Entry<'a, Cow<'a, str>>> {
        let member = self.next_value::<Text<'a>>()?;
        Some(member.map(|(key, value)| (key, value.0)))
    }

    fn next_value<T: Deserialize<'a>>(&mut self) -> Option<Entry<'a, T>> {
        let inside = std::mem::take(&mut self.rest).get(1..)?.trim_ascii_start();
        if inside.is_empty() || inside[0] == b'}' {
            return None;
        }
        let Some((Text(key), rest)) = first(inside) else { return Some(Err(Malformed)) };
        let Some(rest) = rest.trim_ascii_start().strip_prefix(b":") else { return Some(Err(Malformed)) };
        let Some((value, rest)) = first(rest) else { return Some(Err(Malformed)) };
        self.rest = rest.trim_ascii_start();
        Some(Ok((key, value)))
    }
}

/// The value that the bytes begin with, and what follows it.
fn first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let mut values = StreamDeserializer::new(SliceRead::new(bytes));
    let value = values.next()?.ok()?;
    Some((value, &bytes[values.byte_offset()..]))
}
