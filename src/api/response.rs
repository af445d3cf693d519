//! What came of calls, as the dialect writes it in JSON: which fields are there when they are zero, and in which order, is
//! what backends were written against.

use std::collections::BTreeMap;

use serde::ser::{Error, Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::dispatch::{Info, Outcome};
use super::shard_api::{AskError, Asked};
use crate::messaging::control_request::{History, Kept, Member, Place};

/// An answer's bytes in most cases.
const ANSWER_BYTES: usize = 64;

/// `{"result":…}` or `{"error":…}`.
pub fn alone(outcome: &Asked<Outcome>) -> Vec<u8> {
    let mut out = Vec::with_capacity(ANSWER_BYTES);
    put(&mut out, 0, outcome, |_| "result");
    out
}

/// The error with nothing around it.
pub fn bare(error: &AskError) -> Vec<u8> {
    serde_json::to_vec(&Fault(error)).expect("a number and a text")
}

/// `{"replies":[…]}`, each `{"<method>":…}` or `{"error":…}`.
pub fn batch(outcomes: &[Asked<Outcome>]) -> Vec<u8> {
    if outcomes.is_empty() {
        return b"{}".to_vec();
    }
    let mut out = Vec::with_capacity(outcomes.len() * ANSWER_BYTES);
    out.extend_from_slice(b"{\"replies\":[");
    for (number, outcome) in outcomes.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        put(&mut out, 0, outcome, method);
    }
    out.extend_from_slice(b"]}");
    out
}

/// The old style's: a line for each, with its id where that is not 0.
pub fn lines<'a>(outcomes: impl Iterator<Item = (u32, &'a Asked<Outcome>)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(ANSWER_BYTES);
    for (id, outcome) in outcomes {
        if !out.is_empty() {
            out.push(b'\n');
        }
        put(&mut out, id, outcome, |_| "result");
    }
    out
}

/// What cannot be written as JSON becomes an error in its place.
fn put(out: &mut Vec<u8>, id: u32, outcome: &Asked<Outcome>, name: fn(&Outcome) -> &'static str) {
    let before = out.len();
    let written = match outcome {
        Ok(outcome) => write(out, id, name(outcome), outcome),
        Err(error) => write(out, id, "error", &Fault(error)),
    };
    if written.is_err() {
        out.truncate(before);
        let what = "it holds bytes that are no JSON, ask over gRPC";
        write(out, id, "error", &Fault(&AskError::NotAvailable(what.into()))).expect("a number and a text");
    }
}

fn write(out: &mut Vec<u8>, id: u32, name: &str, what: &impl Serialize) -> serde_json::Result<()> {
    let mut to = serde_json::Serializer::new(out);
    let mut object = to.serialize_map(None)?;
    if id > 0 {
        object.serialize_entry("id", &id)?;
    }
    object.serialize_entry(name, what)?;
    SerializeMap::end(object)
}

/// The method that a reply in a batch is named for.
fn method(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Publish(_) => "publish",
        Outcome::Broadcast(_) => "broadcast",
        Outcome::Subscribe => "subscribe",
        Outcome::Unsubscribe => "unsubscribe",
        Outcome::Disconnect => "disconnect",
        Outcome::Refresh => "refresh",
        Outcome::Presence(_) => "presence",
        Outcome::PresenceStats(_) => "presence_stats",
        Outcome::History(_) => "history",
        Outcome::HistoryRemove => "history_remove",
        Outcome::Channels(_) => "channels",
        Outcome::Info(_) => "info",
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Publish(place) => Position::from(place).serialize(to),
            Self::Broadcast(responses) => {
                One { name: "responses", value: List(responses.iter().map(Response)) }.serialize(to)
            }
            Self::Presence(members) => {
                let members = members.iter().map(|member| (member.client.as_str(), Seen::from(member)));
                One { name: "presence", value: members.collect::<BTreeMap<_, _>>() }.serialize(to)
            }
            Self::PresenceStats(stats) => Counts { num_clients: stats.clients, num_users: stats.users }.serialize(to),
            Self::History(history) => Stream::from(history).serialize(to),
            Self::Channels(channels) => {
                let channels = channels.iter().map(|(name, clients)| (name, Subscribers { num_clients: *clients }));
                One { name: "channels", value: channels.collect::<BTreeMap<_, _>>() }.serialize(to)
            }
            Self::Info(info) => One { name: "nodes", value: [Node::from(info)] }.serialize(to),
            Self::Subscribe | Self::Unsubscribe | Self::Disconnect | Self::Refresh | Self::HistoryRemove => {
                Empty {}.serialize(to)
            }
        }
    }
}

#[derive(serde::Serialize)]
struct Empty {}

/// An object with one field.
struct One<T> {
    name: &'static str,
    value: T,
}

impl<T: Serialize> Serialize for One<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(Some(1))?;
        object.serialize_entry(self.name, &self.value)?;
        object.end()
    }
}

struct List<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for List<I> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.clone())
    }
}

struct Fault<'a>(&'a AskError);

impl Serialize for Fault<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_map(Some(2))?;
        object.serialize_entry("code", &self.0.code().code())?;
        object.serialize_entry("message", &self.0.message())?;
        object.end()
    }
}

/// One channel's answer within a broadcast's.
struct Response<'a>(&'a Asked<Option<Place>>);

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Ok(place) => One { name: "result", value: Position::from(place) }.serialize(to),
            Err(error) => One { name: "error", value: Fault(error) }.serialize(to),
        }
    }
}

/// JSON that goes out as it came in.
struct Raw<'a>(&'a [u8]);

impl Raw<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        serde_json::from_slice::<&RawValue>(self.0).map_err(S::Error::custom)?.serialize(to)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_none(number: &u32) -> bool {
    *number == 0
}

#[derive(serde::Serialize)]
struct Position<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    epoch: &'a str,
}

impl<'a> From<&'a Option<Place>> for Position<'a> {
    fn from(place: &'a Option<Place>) -> Self {
        place.as_ref().map_or(Self { offset: 0, epoch: "" }, |place| Self { offset: place.offset, epoch: &place.epoch })
    }
}

#[derive(serde::Serialize)]
struct Seen<'a> {
    user: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "Raw::is_empty")]
    conn_info: Raw<'a>,
    #[serde(skip_serializing_if = "Raw::is_empty")]
    chan_info: Raw<'a>,
}

impl<'a> From<&'a Member> for Seen<'a> {
    fn from(member: &'a Member) -> Self {
        let Member { client, user, conn_info, chan_info } = member;
        Self { user, client, conn_info: Raw(conn_info), chan_info: Raw(chan_info) }
    }
}

#[derive(serde::Serialize)]
struct Counts {
    num_clients: u32,
    num_users: u32,
}

#[derive(serde::Serialize)]
struct Subscribers {
    #[serde(skip_serializing_if = "is_none")]
    num_clients: u32,
}

#[derive(serde::Serialize)]
struct Stream<'a> {
    publications: Vec<Publication<'a>>,
    epoch: &'a str,
    offset: u64,
}

impl<'a> From<&'a History> for Stream<'a> {
    fn from(history: &'a History) -> Self {
        let publications = history.publications.iter().map(Publication::from).collect();
        Self { publications, epoch: &history.top.epoch, offset: history.top.offset }
    }
}

#[derive(serde::Serialize)]
struct Publication<'a> {
    #[serde(skip_serializing_if = "Raw::is_empty")]
    data: Raw<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Seen<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, &'a str>,
}

impl<'a> From<&'a Kept> for Publication<'a> {
    fn from(kept: &'a Kept) -> Self {
        Self {
            data: Raw(&kept.data),
            info: kept.info.as_ref().map(Seen::from),
            offset: kept.offset,
            tags: kept.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}

#[derive(serde::Serialize)]
struct Node<'a> {
    uid: &'a str,
    name: &'a str,
    version: &'static str,
    num_clients: u32,
    num_users: u32,
    num_channels: u32,
    #[serde(skip_serializing_if = "is_none")]
    uptime: u32,
    num_subs: u32,
}

impl<'a> From<&'a Info> for Node<'a> {
    fn from(info: &'a Info) -> Self {
        Self {
            uid: &info.uid,
            name: &info.name,
            version: info.version,
            num_clients: info.clients,
            num_users: info.users,
            num_channels: info.channels,
            uptime: info.uptime_s,
            num_subs: info.subscriptions,
        }
    }
}
