//! Encodes results as JSON. Which fields are present when they are zero, and their order, is what clients of the API were
//! written against.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::dispatch::{ApiResponse, PublishResult};
use super::shard_api::{ApiError, ApiResult};
use crate::cluster::view::{NodeInfo, NodeMetrics};
use crate::messaging::api_call::{ApiReply, StreamPosition};
use crate::messaging::publication_json::{HistoryBody, MemberBody, PastPageBody, is_zero};

/// Bytes of most replies.
const REPLY_BYTES: usize = 64;

/// `{"result":…}` or `{"error":…}`.
pub(crate) fn encode(result: &ApiResult<ApiResponse>) -> Vec<u8> {
    let mut out = Vec::with_capacity(REPLY_BYTES);
    append(&mut out, 0, "result", result);
    out
}

/// An error without a wrapper.
pub(crate) fn encode_bare(error: &ApiError) -> Vec<u8> {
    serde_json::to_vec(&ErrorBody(error)).expect("a number and a text have a JSON form")
}

/// `{"replies":[…]}`, each `{"<method>":…}` or `{"error":…}`. The items are the names of the methods and their results.
pub(crate) fn encode_batch<'a>(
    results: impl ExactSizeIterator<Item = (&'static str, &'a ApiResult<ApiResponse>)>,
) -> Vec<u8> {
    if results.len() == 0 {
        return b"{}".to_vec();
    }
    let mut out = Vec::with_capacity(results.len() * REPLY_BYTES);
    out.extend_from_slice(b"{\"replies\":[");
    for (index, (method, result)) in results.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append(&mut out, 0, method, result);
    }
    out.extend_from_slice(b"]}");
    out
}

/// The old style: one line for each command, with its id unless that is 0.
pub(crate) fn encode_lines<'a>(results: impl Iterator<Item = (u32, &'a ApiResult<ApiResponse>)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(REPLY_BYTES);
    for (id, result) in results {
        if !out.is_empty() {
            out.push(b'\n');
        }
        append(&mut out, id, "result", result);
    }
    out
}

/// A response that has no JSON form is replaced by an error.
fn append(out: &mut Vec<u8>, id: u32, name: &str, result: &ApiResult<ApiResponse>) {
    let start = out.len();
    let written = match result {
        Ok(response) => append_object(out, id, name, response),
        Err(error) => append_object(out, id, "error", &ErrorBody(error)),
    };
    if written.is_err() {
        out.truncate(start);
        let error = ApiError::NotAvailable("the reply holds bytes that are not JSON; use the gRPC API".into());
        append_object(out, id, "error", &ErrorBody(&error)).expect("a number and a text have a JSON form");
    }
}

fn append_object(out: &mut Vec<u8>, id: u32, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
    let mut to = serde_json::Serializer::new(out);
    let mut object = to.serialize_map(None)?;
    if id > 0 {
        object.serialize_entry("id", &id)?;
    }
    object.serialize_entry(name, value)?;
    SerializeMap::end(object)
}

impl Serialize for ApiResponse {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Shards(reply) => serialize_reply(reply, to),
            Self::Broadcast(results) => {
                OneField { name: "responses", value: Sequence(results.iter().map(ChannelResult)) }.serialize(to)
            }
            Self::Info(nodes) => {
                OneField { name: "nodes", value: Sequence(nodes.iter().map(NodeBody::from)) }.serialize(to)
            }
        }
    }
}

fn serialize_reply<S: Serializer>(reply: &ApiReply, to: S) -> Result<S::Ok, S::Error> {
    match reply {
        ApiReply::Publish(position) => PositionBody::from(position).serialize(to),
        ApiReply::Presence(members) => {
            let members = members.iter().map(|member| (member.client.as_str(), MemberBody::from(member)));
            OneField { name: "presence", value: members.collect::<BTreeMap<_, _>>() }.serialize(to)
        }
        ApiReply::PresenceStats(stats) => {
            PresenceStatsBody { num_clients: stats.clients, num_users: stats.users }.serialize(to)
        }
        ApiReply::History(page) => HistoryBody::from(page).serialize(to),
        ApiReply::PastPage(page) => PastPageBody::from(page).serialize(to),
        ApiReply::Channels(channels) => {
            let channels = channels.iter().map(|(name, count)| (name, ChannelBody { num_clients: *count }));
            OneField { name: "channels", value: channels.collect::<BTreeMap<_, _>>() }.serialize(to)
        }
        ApiReply::Connections(_) | ApiReply::Done | ApiReply::Info { .. } => EmptyBody {}.serialize(to),
    }
}

#[derive(serde::Serialize)]
struct EmptyBody {}

/// An object with one field.
struct OneField<T> {
    name: &'static str,
    value: T,
}

impl<T: Serialize> Serialize for OneField<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(Some(1))?;
        object.serialize_entry(self.name, &self.value)?;
        object.end()
    }
}

struct Sequence<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for Sequence<I> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.clone())
    }
}

struct ErrorBody<'a>(&'a ApiError);

impl Serialize for ErrorBody<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(Some(2))?;
        object.serialize_entry("code", &self.0.code().code())?;
        object.serialize_entry("message", &self.0.message())?;
        object.end()
    }
}

/// The result for one channel of a broadcast.
struct ChannelResult<'a>(&'a PublishResult);

impl Serialize for ChannelResult<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Ok(position) => OneField { name: "result", value: PositionBody::from(position) }.serialize(to),
            Err(error) => OneField { name: "error", value: ErrorBody(error) }.serialize(to),
        }
    }
}

#[derive(serde::Serialize)]
struct PositionBody<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    epoch: &'a str,
}

impl<'a> From<&'a Option<StreamPosition>> for PositionBody<'a> {
    fn from(position: &'a Option<StreamPosition>) -> Self {
        let none = Self { offset: 0, epoch: "" };
        position.as_ref().map_or(none, |position| Self { offset: position.offset, epoch: &position.epoch })
    }
}

#[derive(serde::Serialize)]
struct PresenceStatsBody {
    num_clients: u32,
    num_users: u32,
}

#[derive(serde::Serialize)]
struct ChannelBody {
    #[serde(skip_serializing_if = "is_zero")]
    num_clients: u32,
}

#[derive(serde::Serialize)]
struct NodeBody<'a> {
    uid: &'a str,
    name: &'a str,
    version: &'a str,
    num_clients: u32,
    num_users: u32,
    num_channels: u32,
    #[serde(skip_serializing_if = "is_zero")]
    uptime: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<MetricsBody<'a>>,
    num_subs: u32,
}

impl<'a> From<&'a NodeInfo> for NodeBody<'a> {
    fn from(info: &'a NodeInfo) -> Self {
        Self {
            uid: &info.uid,
            name: &info.name,
            version: &info.version,
            num_clients: info.clients,
            num_users: info.users,
            num_channels: info.channels,
            uptime: info.uptime_s,
            metrics: info.metrics.as_ref().map(MetricsBody::from),
            num_subs: info.subscriptions,
        }
    }
}

#[derive(serde::Serialize)]
struct MetricsBody<'a> {
    interval: Number,
    items: BTreeMap<&'a str, Number>,
}

impl<'a> From<&'a NodeMetrics> for MetricsBody<'a> {
    fn from(metrics: &'a NodeMetrics) -> Self {
        let items = metrics.items.iter().map(|(name, &value)| (name.as_str(), Number(value))).collect();
        Self { interval: Number(metrics.interval_s), items }
    }
}

/// A whole number is written without a fraction, as JSON libraries of other languages do.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const WHOLE_MAX: f64 = (1u64 << 53) as f64;
        match self.0 {
            whole if whole.fract() == 0.0 && whole.abs() <= WHOLE_MAX => to.serialize_i64(whole as i64),
            other => to.serialize_f64(other),
        }
    }
}
