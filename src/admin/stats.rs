//! `/stats`: the numbers that the page shows, as JSON. They are totals since the start, with the server's own time, so that
//! a client computes rates from two responses and clients do not affect each other.

use serde::Serialize;

use super::settings::Settings;
use crate::cluster::view::{NodeInfo, NodeState, NodeView};
use crate::engine::stats::{Snapshot, TURN_BUCKETS_US};

#[derive(Serialize, Debug)]
pub(crate) struct Stats<'a> {
    pub version: &'static str,
    /// Milliseconds since the admin address began to serve.
    pub at_ms: u64,
    pub draining: bool,
    pub client: Option<Client<'a>>,
    /// Upper bounds of `turn_counts`, in microseconds; one more bucket counts longer turns.
    pub turn_bounds_us: &'static [u32],
    pub shards: Vec<Shard>,
    /// The other servers of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
}

/// What the page needs in order to connect as a client.
#[derive(Serialize, Debug)]
pub(crate) struct Client<'a> {
    /// "ws" or "wss".
    pub scheme: &'static str,
    /// `None`: the host of the page's own URL.
    pub host: Option<String>,
    pub port: u16,
    pub path: &'a str,
    /// Clients may connect without a token.
    pub anonymous: bool,
}

#[derive(Serialize, Debug)]
pub(crate) struct Shard {
    pub shard: u16,
    pub core: Option<usize>,
    pub connections: u64,
    pub subscriptions: u64,
    pub channels: u64,
    pub backlog_bytes: u64,
    pub messages: u64,
    pub publications: u64,
    pub deliveries: u64,
    pub reads: u64,
    pub writes: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub turn_counts: [u64; TURN_BUCKETS_US.len() + 1],
}

impl From<Snapshot> for Shard {
    fn from(from: Snapshot) -> Self {
        let Snapshot { shard, core, counters, connections, subscriptions, channels, backlog_bytes, .. } = from;
        Self {
            shard,
            core,
            connections,
            subscriptions,
            channels,
            backlog_bytes,
            messages: counters.messages_in,
            publications: counters.publications,
            deliveries: counters.deliveries,
            reads: counters.reads,
            writes: counters.writes,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            turn_counts: counters.turn_us,
        }
    }
}

/// Another server, as it announced itself.
#[derive(Serialize, Debug)]
pub(crate) struct Node {
    pub uid: String,
    pub name: String,
    pub version: String,
    pub state: &'static str,
    pub heard_ms_ago: u64,
    pub connections: u32,
    pub subscriptions: u32,
    pub channels: u32,
}

pub(crate) fn nodes(nodes: Vec<NodeView>) -> Vec<Node> {
    let node = |NodeView { info, state, heard_ms_ago }| {
        let NodeInfo { uid, name, version, clients: connections, subscriptions, channels, .. } = info;
        Node { uid, name, version, state: NodeState::name(state), heard_ms_ago, connections, subscriptions, channels }
    };
    nodes.into_iter().map(node).collect()
}

/// How the page, which is served at the admin address, reaches the clients' address.
pub(crate) fn client(settings: &Settings) -> Option<Client<'_>> {
    let address = settings.client?;
    let host = (!address.ip().is_unspecified()).then(|| match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    });
    let scheme = settings.client_scheme();
    Some(Client { scheme, host, port: address.port(), path: CLIENT_PATH, anonymous: settings.anonymous })
}

/// The path at which clients connect.
pub(crate) const CLIENT_PATH: &str = "/connection/websocket";
