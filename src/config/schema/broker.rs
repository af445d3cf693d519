//! `broker` and `presence_manager`: what the servers of a cluster share.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::redis::{BrokerRedis, PresenceRedis};
use super::section::section;
use super::tls::BrokerTls;
use crate::config::parse::broker::{NatsUrl, Replacements};
use crate::config::parse::enums::{Word, Words};
use crate::config::parse::scalar::{Bool, Bytes, Count, Text, Time};

section! {
    /// The section `broker`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Broker {
        pub redis: BrokerRedis = BrokerRedis::default(),
        pub nats: Nats = Nats::default(),
    }

    /// Use the broker of this section for publications, instead of engine.type.
    enabled: bool as Bool = false, restart;

    /// The broker for publications: "memory", "redis" or "nats". broker.redis has the settings of engine.redis, except those that
    /// begin with presence. NATS keeps no history: namespaces that ask for one are an error.
    kind: BrokerType as Word = BrokerType::Memory, restart, named("type");

    /// Threads for connections to brokers, whatever section names the broker. Channels are spread over them, and each has
    /// connections of its own. One is enough until it uses a whole core.
    threads: usize as Count = 1, restart;

    /// Bytes of requests that may wait for one of these threads; past it publications fail with error 100, and the server API
    /// answers with an internal error.
    queue_bytes_max: usize as Bytes = 64 * 1024 * 1024, restart;

    /// Bytes that may wait on the way from a broker to one shard; past it publications are dropped. A channel with a history gets
    /// them from there, before any later one; the others are counted as lost.
    events_bytes_max: usize as Bytes = 64 * 1024 * 1024, restart;

    /// Time that a subscribe with a position or recovery waits for the broker; past it the client gets error 100 and tries again.
    subscribe_timeout: Duration as Time = Duration::from_secs(5), restart;

    /// Time without a message after which a PUB/SUB connection is tested by a publication to a channel of its own; if that does not
    /// arrive in the same time, the connection is made again and /health/ready reports it. 0s: never.
    probe_interval: Duration as Time = Duration::from_secs(30), restart;

    /// While the broker is away, deliver publications of channels without a history to the subscribers of this server. Otherwise
    /// they fail with error 100.
    publish_locally: bool as Bool = false, restart;
}

/// What carries publications.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum BrokerType {
    #[default]
    Memory,
    Redis,
    Nats,
    /// Brokers of the original that do not exist here; an error if they are used.
    Postgres,
    RedisNats,
}

impl Words for BrokerType {
    const WORDS: &'static [(&'static str, Self)] =
        &[("memory", Self::Memory), ("redis", Self::Redis), ("nats", Self::Nats)];
    const UNLISTED: &'static [(&'static str, Self)] = &[("postgres", Self::Postgres), ("redisnats", Self::RedisNats)];
}

section! {
    /// The section `presence_manager`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct PresenceManager {
        pub redis: PresenceRedis = PresenceRedis::default(),
    }

    /// Keep presence in the store of this section, instead of engine.type.
    enabled: bool as Bool = false, restart;

    /// Where presence is kept: "memory", which has only the clients of this server, or "redis". presence_manager.redis has the
    /// settings of engine.redis for servers and presence.
    kind: StoreType as Word = StoreType::Memory, restart, named("type");
}

/// Where something is kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum StoreType {
    #[default]
    Memory,
    Redis,
}

impl Words for StoreType {
    const WORDS: &'static [(&'static str, Self)] = &[("memory", Self::Memory), ("redis", Self::Redis)];
}

section! {
    /// The section `broker.nats`.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Nats {
        pub tls: BrokerTls = BrokerTls::default(),
        pub raw_mode: RawMode = RawMode::default(),
    }

    /// Addresses of the servers of one NATS cluster, with commas between them: nats://[user:password@]host:port or tls://. Empty:
    /// nats://localhost:4222.
    url: String as NatsUrl = "nats://localhost:4222".into(), restart;

    /// What all subjects begin with. All nodes of a cluster have the same prefix.
    prefix: String as Text = "centrifugo".into(), restart;

    /// Time to connect to a server; past it the server tries another one. 0s: 1s.
    dial_timeout: Duration as Time = Duration::from_secs(1), restart;

    /// Time for a write to a server; past it the connection counts as dead, and is made again. 0s: 1s.
    write_timeout: Duration as Time = Duration::from_secs(1), restart;

    /// Let clients subscribe to channels with the wildcards * and >, which match other channels. A client that may subscribe to such
    /// a name receives the publications of all channels that it matches.
    allow_wildcards: bool as Bool = false, restart;
}

/// Without the URL, which may contain a password.
impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

section! {
    /// The section `broker.nats.raw_mode`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct RawMode {}

    /// Exchange plain data with other programs on NATS: the subject is the channel's name after the settings of this section, and
    /// the payload is the data of the publication alone. Join and leave events are not sent.
    enabled: bool as Bool = false, restart;

    /// Texts in names of channels and what they are in subjects: { ":" = "." }.
    channel_replacements: BTreeMap<String, String> as Replacements = BTreeMap::new(), restart;

    /// What subjects begin with in this mode.
    prefix: String as Text = String::new(), restart;
}
