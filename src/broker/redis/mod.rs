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
mod cluster;
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
mod partition_tags;
mod payload;
mod probe;
mod pub_sub_link;
mod pub_sub_links;
mod publisher;
mod pushes;
mod random;
mod receiver;
mod scripts;
mod sentinel;
mod service;
mod shard;
mod subscriptions;
mod target;
#[cfg(test)]
mod tests;
mod topology;

use std::rc::Rc;
use std::sync::Arc;

use super::control::ControlPort;
use super::port::{EventPort, RequestQueue};
use super::stats::BrokerStats;
use crate::config::Redis;
use command_link::{LinkContext, Tasks};
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
    let (events, tasks) = (EventSink::new(events), Rc::default());
    let context = LinkContext { events: events.clone(), stats, bytes_max: queue_bytes_max, tasks };
    context.spawn_endless(async move { events.keep_posting().await });
    let (incoming, outgoing, uid) = match control {
        Some(ControlPort { incoming, outgoing, uid }) => (Some(incoming), Some(outgoing), Some(uid)),
        None => (None, None, None),
    };
    let io_timeout = config.shards.iter().map(|shard| shard.io_timeout).max().unwrap_or_default();
    let config = Rc::new(config);
    let shards: Vec<Rc<Shard>> = (0..config.shards.len())
        .map(|index| {
            let (config, context) = (Rc::clone(&config), context.clone());
            let (incoming, uid) = (incoming.clone(), uid.clone());
            Shard::start(ShardArgs { config, index, context, has_pub_sub, incoming, uid })
        })
        .collect();
    if let Some(outgoing) = outgoing {
        context.spawn_endless(control::send_outgoing(outgoing, shards.clone(), config.prefix.clone()));
    }

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
    let Tasks { ending, endless } = std::mem::take(&mut *context.tasks.borrow_mut());
    for task in endless {
        task.abort();
        // It ends as cancelled.
        _ = task.await;
    }
    let all = async {
        for task in ending {
            // A task that panicked has ended too.
            _ = task.await;
        }
    };
    // What is unanswered then stays so.
    _ = tokio::time::timeout(io_timeout, all).await;
}
