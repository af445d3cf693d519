//! Redis and Valkey as a broker, in the layout of Centrifugo v6, so that both kinds of servers work on the same data.
//!
//! One broker thread runs [`run`]. It has its own connections, and the channels that are hashed to it.
//!
//! - `connection`, `dial`: sockets, values, logins
//! - `hash`, `names`: shards, slots, keys and channels of the layout
//! - `messages`, `payload`: what servers exchange
//! - `scripts`: what runs in Redis

mod answers;
mod backoff;
mod command_link;
mod commands;
mod connection;
mod control;
mod dial;
mod events;
mod hash;
mod in_flight;
mod job;
mod messages;
mod names;
mod payload;
mod probe;
mod pub_sub_link;
mod pushes;
mod random;
mod receiver;
mod scripts;
mod service;
mod shard;
mod subscriptions;
mod target;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::control::ControlPort;
use super::port::{EventPort, RequestQueue};
use super::stats::BrokerStats;
use crate::config::Redis;
use command_link::LinkContext;
use events::EventSink;
use shard::{Shard, ShardArgs};

/// Requests taken from the queue at once.
const BATCH: usize = 512;

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
    let ThreadArgs { config, mut requests, events, control, stats, has_pub_sub, queue_bytes_max } = args;
    let events = EventSink::new(events);
    let context = LinkContext { events: events.clone(), stats, bytes_max: queue_bytes_max };
    let (incoming, outgoing, uid) = match control {
        Some(ControlPort { incoming, outgoing, uid }) => (Some(incoming), Some(outgoing), Some(uid)),
        None => (None, None, None),
    };
    let io_timeout = config.shards.iter().map(|shard| shard.io_timeout).max().unwrap_or_default();
    let config = Rc::new(config);
    let mut tasks = Vec::new();
    let mut shards: Vec<Shard> = Vec::new();
    for index in 0..config.shards.len() {
        let incoming = incoming.clone();
        let args = ShardArgs { config: &config, index, context: &context, has_pub_sub, incoming, uid: uid.as_deref() };
        shards.push(Shard::start(args, &mut tasks));
    }
    let posting = tokio::task::spawn_local(async move { events.keep_posting().await });
    let sending = outgoing.map(|outgoing| {
        let commanders = shards.iter().map(Shard::commander).collect();
        tokio::task::spawn_local(control::send_outgoing(outgoing, commanders, config.prefix.clone()))
    });

    let mut batch = Vec::new();
    while requests.receive(&mut batch, BATCH).await > 0 {
        for request in batch.drain(..) {
            let index = hash::bucket_of(&request.channel, shards.len());
            shards[index].send(request);
        }
        context.events.flush();
    }

    // The links end when nothing can reach them any more and their answers are in.
    drop(shards);
    if let Some(sending) = sending {
        sending.abort();
    }
    end(tasks, io_timeout).await;
    posting.abort();
}

async fn end(tasks: Vec<JoinHandle<()>>, limit: std::time::Duration) {
    let all = async {
        for task in tasks {
            // A task that panicked has ended too.
            _ = task.await;
        }
    };
    // What is unanswered then stays so.
    _ = tokio::time::timeout(limit, all).await;
}
