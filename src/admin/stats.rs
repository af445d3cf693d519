//! `/stats`: the numbers that the page draws, as JSON. Totals since the start, with the server's own time beside them,
//! so that whoever asks twice can make rates of them and no asker disturbs another.

use serde::Serialize;

use super::Settings;
use crate::engine::stats::{Snapshot, TURN_BUCKETS_US};

#[derive(Serialize, Debug)]
pub struct Stats<'a> {
    pub version: &'static str,
    /// Milliseconds since the control thread began.
    pub at_ms: u64,
    pub draining: bool,
    pub client: Option<Client<'a>>,
    /// Upper bounds of `turn_counts`, in microseconds; one more bucket is for what is above.
    pub turn_bounds_us: &'static [u32],
    pub shards: Vec<Shard>,
}

/// What the page needs to be a client.
#[derive(Serialize, Debug)]
pub struct Client<'a> {
    /// None: the host under which the page was asked for.
    /// "ws" or "wss".
    pub scheme: &'static str,
    pub host: Option<String>,
    pub port: u16,
    pub path: &'a str,
    /// Clients may connect without a token.
    pub anonymous: bool,
}

#[derive(Serialize, Debug)]
pub struct Shard {
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

/// How a page that was asked for at the admin address reaches the clients' address.
pub fn client(settings: &Settings) -> Option<Client<'_>> {
    let address = settings.client?;
    let host = (!address.ip().is_unspecified()).then(|| match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    });
    let scheme = settings.client_scheme();
    Some(Client { scheme, host, port: address.port(), path: CLIENT_PATH, anonymous: settings.anonymous })
}

/// Where clients of the dialect connect.
pub const CLIENT_PATH: &str = "/connection/websocket";
