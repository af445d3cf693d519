//! Brokers: channels that several servers share. A channel's home shard sends requests, and gets events.
//!
//! Without a broker the home shard itself is what orders and keeps publications. With one, the broker owns offsets, epochs and
//! histories, and the home shard delivers what arrives from it (`messaging::home_broker`).
//!
//! - `message`: requests and events
//! - `query`: queries over the past of a log
//! - `port`: the queues between shards and broker threads, bounded in bytes
//! - `control`: messages between the servers of a cluster
//! - `wire`: what servers exchange, in Protobuf
//! - `thread`, `stats`: the threads, and the numbers of their connections
//! - `client_tls`: TLS towards brokers
//! - `durable`: the log of this server
//! - `redis`: Redis and Valkey
//! - `nats`: NATS

pub(crate) mod client_tls;
pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod durable;
pub mod message;
pub(crate) mod nats;
pub mod port;
pub mod query;
pub(crate) mod redis;
pub(crate) mod stats;
pub(crate) mod thread;
mod wire;

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use message::{Request, RequestKind};
pub(crate) use nats::ChannelUse;
use nats::Subjects;
use port::RequestPort;

/// The broker threads, as a home shard sees them.
#[derive(Clone)]
pub struct Broker {
    threads: Box<[RequestPort]>,
    /// Of NATS, which has no subject for some names of channels.
    subjects: Option<Arc<Subjects>>,
}

impl Broker {
    /// `threads` is not empty.
    pub fn new(threads: Vec<RequestPort>) -> Self {
        Self { threads: threads.into(), subjects: None }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// The broker is NATS.
    pub(crate) fn with_subjects(self, subjects: Subjects) -> Self {
        Self { subjects: Some(Arc::new(subjects)), ..self }
    }

    /// Whether the broker can have such a channel. What it cannot have is a bad request.
    pub(crate) fn accepts(&self, channel: &str, channel_use: ChannelUse) -> bool {
        self.subjects.as_ref().is_none_or(|subjects| subjects.accepts(channel, channel_use))
    }

    /// The thread of a channel: always the same one, so that the requests about a channel keep their order.
    fn thread_of(&self, channel: &str) -> &RequestPort {
        let mut hasher = SipHasher13::new();
        hasher.write(channel.as_bytes());
        &self.threads[hasher.finish() as usize % self.threads.len()]
    }

    /// Takes a request for the next flush. It is given back if there is no room for it; one that has no answer is taken in any
    /// case, and lost only if the thread has ended.
    pub(crate) fn send(&self, request: Request) -> Result<(), Request> {
        let port = match &request.kind {
            RequestKind::Query { query, .. } => query.log.and_then(|log| self.threads.get(log)),
            _ => None,
        };
        let port = port.unwrap_or_else(|| self.thread_of(&request.channel));
        if request.ticket().is_some() { port.try_send(request) } else { port.send(request) }
    }
    /// The threads get what was taken since the last flush.
    pub(crate) fn flush(&self) {
        self.threads.iter().for_each(RequestPort::flush);
    }
}
