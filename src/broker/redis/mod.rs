//! Redis and Valkey as a broker, in the layout of Centrifugo v6, so that both kinds of servers work on the same data.
//!
//! One broker thread runs [`run`]. It has its own connections, and the channels that are hashed to it.
//!
//! - `connection`, `dial`: sockets, values, logins
//! - `hash`, `names`: shards, slots, keys and channels of the layout
//! - `messages`, `payload`: what servers exchange
//! - `scripts`: what runs in Redis

mod connection;
mod dial;
mod hash;
mod messages;
mod names;
mod payload;
mod scripts;

use std::sync::Arc;

use super::control::ControlPort;
use super::message::{BrokerError, Event};
use super::port::{EventPort, RequestQueue};
use super::stats::BrokerStats;
use crate::config::Redis;

/// What one broker thread works with.
pub(crate) struct ThreadArgs {
    pub(crate) config: Redis,
    pub(crate) requests: RequestQueue,
    /// By `ShardId`.
    pub(crate) events: Vec<EventPort>,
    /// Of one thread only.
    pub(crate) control: Option<ControlPort>,
    pub(crate) stats: Arc<BrokerStats>,
    /// False if this thread only keeps presence.
    pub(crate) has_pub_sub: bool,
    /// Bytes of requests that may be without an answer.
    pub(crate) queue_bytes_max: usize,
}

/// Serves requests until every sender of them is gone. It runs on the runtime of `thread::spawn`.
pub(crate) async fn run(args: ThreadArgs) {
    let ThreadArgs { mut requests, mut events, .. } = args;
    let mut batch = Vec::new();
    while requests.receive(&mut batch, 512).await > 0 {
        for request in batch.drain(..) {
            let port = &mut events[request.from.index()];
            if let Some(ticket) = request.ticket() {
                port.push(Event::Answer { ticket, answer: Err(BrokerError::Unavailable) });
            }
            port.flush();
        }
    }
}
