//! Commands, the same in every encoding. Everything is borrowed from the frame; only text with escapes is copied.
//!
//! A field that is absent or null has the zero value: empty, 0 or false. Payloads are the bytes of the frame: a whole JSON
//! value in JSON, any bytes in Protobuf, empty if absent. Unknown fields are ignored. `kind` is the protocol's `type`: 0 for a
//! stream, the only kind that this server supports.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};

use super::json::fields::{raw, raw_object, text, zero};
use super::maps::{Headers, Subs};
use super::request::{HistoryRequest, SubscribeRequest};

/// One command. `id` is 0 for commands without a reply: `Send` and `Pong`.
#[derive(Clone, PartialEq, Debug)]
pub struct Command<'a> {
    pub id: u32,
    pub body: Body<'a>,
}

/// The body of a command. If a command has several bodies, the first in this order counts.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant)] // on the stack while one command is handled
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
    /// The answer to a ping: a command without an id that is not a `Send`.
    Pong,
    /// A command with an id and no known body.
    Unknown,
}

impl Body<'_> {
    /// The channel that the command is about.
    pub fn channel(&self) -> Option<&str> {
        match self {
            Self::Subscribe(request) => Some(&request.channel),
            Self::History(request) => Some(&request.channel),
            Self::Unsubscribe { channel }
            | Self::Publish { channel, .. }
            | Self::Presence { channel }
            | Self::PresenceStats { channel }
            | Self::SubRefresh { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// The name of the command.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Publish { .. } => "publish",
            Self::Presence { .. } => "presence",
            Self::PresenceStats { .. } => "presence_stats",
            Self::History(_) => "history",
            Self::Rpc { .. } => "rpc",
            Self::Send { .. } => "send",
            Self::Refresh { .. } => "refresh",
            Self::SubRefresh { .. } => "sub_refresh",
            Self::Pong => "pong",
            Self::Unknown => "an unknown command",
        }
    }
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
    /// The positions of server-side subscriptions to recover.
    #[serde(borrow, deserialize_with = "subs")]
    pub subs: Subs<'a>,
    /// Headers from a client that cannot set headers of its upgrade request.
    #[serde(borrow, deserialize_with = "headers")]
    pub headers: Headers<'a>,
    /// Requested features, as bits.
    #[serde(deserialize_with = "zero")]
    pub flag: i64,
}

fn subs<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Subs<'a>, D::Error> {
    raw_object(from).map(Subs::json)
}

fn headers<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Headers<'a>, D::Error> {
    raw_object(from).map(Headers::json)
}
