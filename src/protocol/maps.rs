//! The maps of a connect request, read when and if somebody asks: `Subs` and `Headers`.
//!
//! Both are iterators over the bytes as they came. Nothing comes after an error, which closes the connection as any malformed
//! command does.

use std::borrow::Cow;

use super::command::{Malformed, SubscribeRequest};
use super::json::Members;
use super::protobuf::Entries;

/// A key and its value.
pub(super) type Entry<'a, T> = Result<(Cow<'a, str>, T), Malformed>;

/// What a map is read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source<'a> {
    Json(Members<'a>),
    Protobuf(Entries<'a>),
}

impl Default for Source<'_> {
    fn default() -> Self {
        Self::Json(Members::of(b""))
    }
}

/// Subscriptions by channel. The `channel` inside a request is not the map's key; the key counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Subs<'a>(Source<'a>);

impl<'a> Subs<'a> {
    pub(super) fn json(object: &'a [u8]) -> Self {
        Self(Source::Json(Members::of(object)))
    }

    /// `request`: the connect request around the map.
    pub(super) fn protobuf(request: &'a [u8]) -> Self {
        Self(Source::Protobuf(Entries::subs(request)))
    }
}

impl<'a> Iterator for Subs<'a> {
    type Item = Entry<'a, SubscribeRequest<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Json(members) => members.next_message(),
            Source::Protobuf(entries) => entries.next_sub(),
        }
    }
}

/// Header values by name, as the client spelled it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Headers<'a>(Source<'a>);

impl<'a> Headers<'a> {
    pub(super) fn json(object: &'a [u8]) -> Self {
        Self(Source::Json(Members::of(object)))
    }

    /// `request`: the connect request around the map.
    pub(super) fn protobuf(request: &'a [u8]) -> Self {
        Self(Source::Protobuf(Entries::headers(request)))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Entry<'a, Cow<'a, str>>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Json(members) => members.next_text(),
            Source::Protobuf(entries) => entries.next_header(),
        }
    }
}
