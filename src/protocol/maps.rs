//! The maps of a connect request, `Subs` and `Headers`: iterators that read the bytes only when they are used.
//!
//! No item follows an error. An error closes the connection, as for any malformed command.

use std::borrow::Cow;

use super::error::Entry;
use super::json::Members;
use super::protobuf::Entries;
use super::request::SubscribeRequest;

/// The bytes that a map is read from.
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

/// Subscriptions by channel. The key is the channel; the field `channel` of a request is ignored.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Subs<'a>(Source<'a>);

impl<'a> Subs<'a> {
    pub(super) fn json(object: &'a [u8]) -> Self {
        Self(Source::Json(Members::of(object)))
    }

    /// `request` is the whole connect request.
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

/// Header values by name, in the client's spelling.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Headers<'a>(Source<'a>);

impl<'a> Headers<'a> {
    pub(super) fn json(object: &'a [u8]) -> Self {
        Self(Source::Json(Members::of(object)))
    }

    /// `request` is the whole connect request.
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
