//! What clients ask, the same in every encoding. Everything is borrowed from the frame; only a name that was written
//! with escapes is a copy.
//!
//! What is absent or null is the zero value: empty, 0 or false. Payloads are the bytes as they came: whole JSON
//! values in JSON, anything in Protobuf, empty where there was none. Fields that are not named here are read over.
//! `kind` is the protocol's `type`: 0 for a stream, which is all that this server knows.

use std::borrow::Cow;

use serde::Deserialize;

use super::filter::RawFilter;
use super::json::fields::{filter, headers, object, raw, subs, text, zero};
use super::maps::{Headers, Subs};

/// A frame, or a command in it, that breaks the protocol. The connection closes with `Disconnect::BadRequest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// One command. `id` is 0 for those that get no reply: `Send` and `Pong`.
#[derive(Clone, PartialEq, Debug)]
pub struct Command<'a> {
    pub id: u32,
    pub body: Body<'a>,
}

/// What is asked. Where a command carries several bodies, the first in this order counts.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant)] // lives on the stack for the length of one command
pub enum Body<'a> {
    Connect(ConnectRequest<'a>),
    Subscribe(SubscribeRequest<'a>),
    Unsubscribe {
        channel: Cow<'a, str>,
    },
    Publish {
        channel: Cow<'a, str>,
        data: &'a [u8],
        kind: i32,
    },
    Presence {
        channel: Cow<'a, str>,
    },
    PresenceStats {
        channel: Cow<'a, str>,
    },
    History(HistoryRequest<'a>),
    Rpc {
        method: Cow<'a, str>,
        data: &'a [u8],
    },
    Send {
        data: &'a [u8],
    },
    Refresh {
        token: Cow<'a, str>,
    },
    SubRefresh {
        channel: Cow<'a, str>,
        token: Cow<'a, str>,
        kind: i32,
    },
    /// The answer to a ping: no id, and nothing to send.
    Pong,
    /// An id, and nothing that is known.
    Unknown,
}

#[derive(Clone, Default, PartialEq, Debug, Deserialize)]
#[serde(default)]
pub struct ConnectRequest<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub token: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "raw")]
    pub data: &'a [u8],
    /// The client library's name and version.
    #[serde(borrow, deserialize_with = "text")]
    pub name: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    pub version: Cow<'a, str>,
    /// Positions of server-side subscriptions to recover.
    #[serde(borrow, deserialize_with = "subs")]
    pub subs: Subs<'a>,
    /// What a client that cannot set headers of its upgrade request would have set.
    #[serde(borrow, deserialize_with = "headers")]
    pub headers: Headers<'a>,
    /// Features wanted, a bit each.
    #[serde(deserialize_with = "zero")]
    pub flag: i64,
}

#[derive(Clone, Default, PartialEq, Debug, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub channel: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "text")]
    pub token: Cow<'a, str>,
    #[serde(deserialize_with = "zero")]
    pub recover: bool,
    #[serde(borrow, deserialize_with = "text")]
    pub epoch: Cow<'a, str>,
    #[serde(deserialize_with = "zero")]
    pub offset: u64,
    #[serde(borrow, deserialize_with = "raw")]
    pub data: &'a [u8],
    #[serde(deserialize_with = "zero")]
    pub positioned: bool,
    #[serde(deserialize_with = "zero")]
    pub recoverable: bool,
    #[serde(deserialize_with = "zero")]
    pub join_leave: bool,
    #[serde(borrow, deserialize_with = "text")]
    pub delta: Cow<'a, str>,
    /// The tag filter, not looked into.
    #[serde(borrow, deserialize_with = "filter")]
    pub tf: RawFilter<'a>,
    /// Features wanted, a bit each.
    #[serde(deserialize_with = "zero")]
    pub flag: i64,
    #[serde(rename = "type", deserialize_with = "zero")]
    pub kind: i32,
}

#[derive(Clone, Default, PartialEq, Debug, Deserialize)]
#[serde(default)]
pub struct HistoryRequest<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub channel: Cow<'a, str>,
    #[serde(deserialize_with = "zero")]
    pub limit: i32,
    #[serde(borrow, deserialize_with = "object")]
    pub since: Option<StreamPosition<'a>>,
    #[serde(deserialize_with = "zero")]
    pub reverse: bool,
}

/// A place in a channel's stream.
#[derive(Clone, Default, PartialEq, Debug, Deserialize)]
#[serde(default)]
pub struct StreamPosition<'a> {
    #[serde(deserialize_with = "zero")]
    pub offset: u64,
    #[serde(borrow, deserialize_with = "text")]
    pub epoch: Cow<'a, str>,
}
