//! Requests for a channel: subscribe and history. `command` says what absent fields are.

use std::borrow::Cow;

use serde::Deserialize;

use super::filter::RawFilter;
use super::json::fields::{filter, object, raw, text, zero};

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
    /// The tag filter, not parsed.
    #[serde(borrow, deserialize_with = "filter")]
    pub tf: RawFilter<'a>,
    /// Requested features, as bits.
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

/// A position in a channel's history.
#[derive(Clone, Default, PartialEq, Debug, Deserialize)]
#[serde(default)]
pub struct StreamPosition<'a> {
    #[serde(deserialize_with = "zero")]
    pub offset: u64,
    #[serde(borrow, deserialize_with = "text")]
    pub epoch: Cow<'a, str>,
}

/// Commands for a session.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct EmulationRequest<'a> {
    /// The node that has the session, as its connect reply named it.
    pub node: Cow<'a, str>,
    /// The session id of the connect reply.
    pub session: Cow<'a, str>,
    /// Commands in the encoding of the session.
    pub data: Cow<'a, [u8]>,
}
