//! Reads the members of an object one after the other and without a copy, for maps that are rarely used.
//!
//! The syntax of the object was checked when its command was read; only the types of the values can be wrong here.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::StreamDeserializer;
use serde_json::de::SliceRead;

use super::fields::{Object, Text};
use crate::protocol::error::{Entry, Malformed};

/// The remaining members. The iterator ends after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Members<'a> {
    /// Begins with the brace or the comma before a member; empty after the last.
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    /// `object` is a whole JSON object or empty.
    pub(crate) fn of(object: &'a [u8]) -> Self {
        Self { rest: object }
    }

    /// The next member; its value is an object or null.
    pub(crate) fn next_message<T: Deserialize<'a> + Default>(&mut self) -> Option<Entry<'a, T>> {
        let member = self.next_value::<Option<Object<T>>>()?;
        Some(member.map(|(key, value)| (key, value.map(|object| object.0).unwrap_or_default())))
    }

    /// The next member; its value is a string or null.
    pub(crate) fn next_text(&mut self) -> Option<Entry<'a, Cow<'a, str>>> {
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

/// The value at the beginning of the bytes, and the bytes after it.
fn first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let mut values = StreamDeserializer::new(SliceRead::new(bytes));
    let value = values.next()?.ok()?;
    Some((value, &bytes[values.byte_offset()..]))
}
