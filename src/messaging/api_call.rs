//! One call of the server API: the same type in the HTTP and gRPC front-ends, in the shards and on the handover link.
//!
//! - A front-end checks its request and makes an `ApiCall` of it. Everything that can be rejected without a shard (limits,
//!   base64, close codes, globs) is rejected there, so that a shard only looks at what it alone knows.
//! - `ApiCall::scope` says which shards carry the call out. Each answers with an `ApiReply` or an `ErrorCode`, and
//!   `ApiReply::merge` joins the replies of several shards.
//! - `ApiCall::is_forwarded` says whether the peer process of a handover carries it out as well. `Serialize` and
//!   `Deserialize` are the form of that link only: variant and field names are part of its version (`handover::wire::VERSION`).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::handover_peer::PeerOrder;
use crate::auth::grant::{Publish, RefreshGrant, SubscribeGrant};

/// A checked call. Channel names are not empty unless stated, and within the limit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ApiCall {
    Publish {
        channel: Box<str>,
        publish: Publish,
    },
    /// The front-end splits it into one `Publish` per channel, since each has a reply of its own.
    Broadcast {
        channels: Vec<Box<str>>,
        publish: Publish,
    },
    /// Subscribes the selected connections to a channel.
    Subscribe {
        #[serde(rename = "who")]
        connections: ConnectionSelector,
        channel: Box<str>,
        grant: SubscribeGrant,
        since: Option<StreamPosition>,
    },
    /// An empty channel means every channel.
    Unsubscribe {
        #[serde(rename = "who")]
        connections: ConnectionSelector,
        channel: Box<str>,
    },
    Disconnect {
        #[serde(rename = "who")]
        connections: ConnectionSelector,
        /// Client ids that stay connected.
        #[serde(rename = "spared")]
        except_clients: Vec<Box<str>>,
        code: u16,
        reason: Box<str>,
    },
    Refresh {
        #[serde(rename = "who")]
        connections: ConnectionSelector,
        renewal: RefreshGrant,
    },
    Presence {
        channel: Box<str>,
    },
    PresenceStats {
        channel: Box<str>,
    },
    History {
        channel: Box<str>,
        query: HistoryQuery,
    },
    HistoryRemove {
        channel: Box<str>,
    },
    /// Publications of the past, across channels. The home shard of the channel asks the log; that of the empty name if the
    /// query names none.
    HistoryQuery {
        query: Box<PastQuery>,
    },
    /// Channels with subscribers whose names match the glob; an empty pattern matches all. Costs a pass over all names.
    Channels {
        pattern: Box<str>,
    },
    /// A shard's part of `info` that its gauges do not hold: its users. Costs a pass over all user ids.
    Info,
}

/// Which shards carry a call out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallScope<'a> {
    /// The home shard of this channel.
    HomeOf(&'a str),
    EveryShard,
    /// None as it is: the front-end splits the call first.
    Split,
}

impl ApiCall {
    pub fn scope(&self) -> CallScope<'_> {
        match self {
            Self::Publish { channel, .. }
            | Self::Presence { channel }
            | Self::PresenceStats { channel }
            | Self::History { channel, .. }
            | Self::HistoryRemove { channel } => CallScope::HomeOf(channel),
            Self::HistoryQuery { query } => CallScope::HomeOf(&query.channel),
            Self::Broadcast { .. } => CallScope::Split,
            Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::Disconnect { .. }
            | Self::Refresh { .. }
            | Self::Channels { .. }
            | Self::Info => CallScope::EveryShard,
        }
    }

    /// Whether the peer process of a handover carries the call out too, since it concerns connections or channels of both.
    /// Each of these calls may be carried out twice without harm. Publications go another way (`handover_peer`).
    pub fn is_forwarded(&self, order: PeerOrder) -> bool {
        match self {
            Self::Subscribe { .. } | Self::Unsubscribe { .. } | Self::Disconnect { .. } | Self::Refresh { .. } => true,
            // With one order of channels it has its place among the publications.
            Self::HistoryRemove { .. } => order == PeerOrder::Separate,
            _ => false,
        }
    }
}

/// What a call results in on one shard, or on all of them together.
#[derive(Clone, PartialEq, Debug)]
pub enum ApiReply {
    /// `None`: the publication was stamped, and the channel keeps no history, so that there is no position.
    Publish(Option<StreamPosition>),
    /// How many connections `Subscribe`, `Unsubscribe`, `Disconnect` or `Refresh` selected.
    Connections(u32),
    Presence(Vec<MemberInfo>),
    PresenceStats(PresenceStats),
    History(HistoryPage),
    PastPage(PastPage),
    /// For a call without a result.
    Done,
    /// Channels by name, with the number of their subscribers.
    Channels(BTreeMap<Box<str>, u32>),
    /// The distinct users that are connected.
    Info {
        users: HashSet<Box<str>>,
    },
}

impl ApiReply {
    /// Adds the reply of another shard to the same call. A call for one home shard has a single reply.
    pub fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Connections(sum), Self::Connections(more)) => *sum = sum.saturating_add(more),
            (Self::Channels(channels), Self::Channels(more)) => {
                for (name, subscribers) in more {
                    let sum = channels.entry(name).or_default();
                    *sum = sum.saturating_add(subscribers);
                }
            }
            (Self::Info { users }, Self::Info { users: more }) => users.extend(more),
            _ => {}
        }
    }
}

/// Selects the connections of a user, less those that do not match the other fields. If the user is empty and a client or
/// a session is named, it selects that one alone. If all are empty it selects no connection.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionSelector {
    pub user: Box<str>,
    /// A client id; empty for any.
    pub client: Box<str>,
    /// A session id, which unidirectional connections have; empty for any.
    pub session: Box<str>,
}

/// A position in a channel's stream, as peers see it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamPosition {
    pub offset: u64,
    pub epoch: Box<str>,
}

#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Publications wanted: 0 for the position alone, -1 for all there are.
    pub limit: i32,
    pub since: Option<StreamPosition>,
    pub reverse: bool,
    /// Milliseconds since 1970, the first included and the second not; 0 is no bound.
    pub time_from: u64,
    pub time_to: u64,
}

/// Publications in one page of a past query: if the request names no number, and at most.
pub const PAST_LIMIT_DEFAULT: u32 = 100;
pub const PAST_LIMIT_MAX: u32 = 1000;

/// Asks for publications of the past.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PastQuery {
    /// Empty for every channel of the namespace.
    pub channel: Box<str>,
    /// Without one, every namespace that has the index.
    pub namespace: Option<Box<str>>,
    pub key: PastKey,
    /// As in `HistoryQuery`.
    pub time_from: u64,
    pub time_to: u64,
    /// 1 to `PAST_LIMIT_MAX`.
    pub limit: u32,
    pub reverse: bool,
    /// From the page before; empty for the first page.
    pub cursor: Box<str>,
}

/// What a past query looks for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum PastKey {
    /// Everything in the one channel.
    Channel,
    /// What a user published.
    User(Box<str>),
    Tag {
        key: Box<str>,
        value: Box<str>,
    },
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct PastPage {
    pub publications: Vec<PastPublication>,
    /// Where the next page begins; empty after the last one.
    pub cursor: Box<str>,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct PastPublication {
    pub channel: Box<str>,
    pub publication: HistoryPublication,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct HistoryPage {
    pub publications: Vec<HistoryPublication>,
    pub top: StreamPosition,
}

/// A publication that the history keeps.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct HistoryPublication {
    pub offset: u64,
    pub data: Bytes,
    /// The publisher, if it was a client.
    pub info: Option<MemberInfo>,
    pub tags: Vec<(String, String)>,
    /// Milliseconds since 1970; 0 leaves it out.
    pub time_ms: u64,
}

/// A client as other clients see it.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct MemberInfo {
    pub client: String,
    pub user: String,
    pub conn_info: Bytes,
    pub chan_info: Bytes,
}

/// How many clients are in a channel, and how many distinct users they are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PresenceStats {
    pub clients: u32,
    pub users: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_on_the_handover_link_has_this_form() {
        let connections = ConnectionSelector { user: "ann".into(), ..ConnectionSelector::default() };
        let call =
            ApiCall::Disconnect { connections, except_clients: vec!["x".into()], code: 3503, reason: "bye".into() };
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(
            text,
            r#"{"Disconnect":{"who":{"user":"ann","client":"","session":""},"spared":["x"],"code":3503,"reason":"bye"}}"#
        );
        assert_eq!(serde_json::from_str::<ApiCall>(&text).unwrap(), call);
    }

    #[test]
    fn replies_of_several_shards_add_up() {
        let mut sum = ApiReply::Connections(2);
        sum.merge(ApiReply::Connections(3));
        assert_eq!(sum, ApiReply::Connections(5));
        let channels =
            |of: &[(&str, u32)]| ApiReply::Channels(of.iter().map(|&(name, count)| (Box::from(name), count)).collect());
        let mut all = channels(&[("a", 1), ("b", 2)]);
        all.merge(channels(&[("b", 1)]));
        assert_eq!(all, channels(&[("a", 1), ("b", 3)]));
    }
}
