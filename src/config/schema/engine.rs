//! The engine's bounds, and where it keeps what servers share: `websocket`, `uni_websocket`, `engine` and `limits`.

use std::time::Duration;

use ipnet::IpNet;

use super::broker::StoreType;
use super::redis::EngineRedis;
use super::section::section;
use crate::config::parse::enums::Word;
use crate::config::parse::net::Networks;
use crate::config::parse::scalar::{Bool, Bytes, Count, Time};

section! {
    /// The section `websocket`.
    #[derive(Clone, Debug)]
    pub struct Websocket {}

    /// Bytes of one message from a client, all fragments together; past it the connection closes with 1009.
    message_size_limit: usize as Bytes = 64 * 1024;

    /// Offer permessage-deflate. It saves traffic and costs CPU: a few microseconds per message of one client, and once per
    /// publication, however many subscribers it has.
    compression: bool as Bool = false, restart;

    /// Messages with fewer bytes are not compressed.
    compression_min_size: usize as Bytes = 256, restart;

    /// 1 is the fastest, 9 the smallest.
    compression_level: u32 as Count = 1, restart;

    /// Bytes of one decompressed message from a client; past it the server stops decompressing and the connection closes with
    /// 1009. 0: the same as websocket.message_size_limit.
    decompressed_message_size_limit: usize as Bytes = 0, restart;

    /// The largest window in bits, 9 to 15: 15 is 32 KiB. The server uses windows of 15, 12 and 9 bits; a client that asks for
    /// another gets the next smaller one.
    compression_window_bits: u32 as Count = 15, restart;

    /// Let messages to a client refer to earlier ones: smaller messages, and a compressor of up to 300 KiB per connection until
    /// its first subscription, since publications are compressed once for all subscribers.
    compression_server_takeover: bool as Bool = false, restart;

    /// Let messages of a client refer to earlier ones: 40 KiB per connection.
    compression_client_takeover: bool as Bool = false, restart;

    /// Connections per shard that may have compression contexts of their own; past it new connections get none.
    compression_contexts_max: u32 as Count = 1024, restart;
}

section! {
    /// The section `uni_websocket`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct UniWebsocket {}

    /// Serve /connection/uni_websocket, for clients that only receive.
    enabled: bool as Bool = false;

    /// Do not send a disconnect push before the close frame.
    disable_disconnect_push: bool as Bool = false;
}

section! {
    /// The section `engine`.
    #[derive(Clone, Debug)]
    pub struct Engine {
        pub redis: EngineRedis = EngineRedis::default(),
    }

    /// Where publications, histories and presence are kept: "memory", which one server has for itself, or "redis" (also Valkey),
    /// which the servers of a cluster share. broker and presence_manager override it for one of the two.
    kind: StoreType as Word = StoreType::Memory, restart, named("type");

    /// Connections of one shard; past it new ones are rejected with status 503.
    connections_max: u32 as Count = 1 << 20, restart;

    /// Time from accept to the complete request head; past it the request gets status 408.
    upgrade_timeout: Duration as Time = Duration::from_secs(5);

    /// Bytes of a request head; a longer one gets status 431. The default passes what nginx passes: cookies of single sign-on
    /// have up to 16 KiB. At most 128 KiB.
    request_head_bytes_max: usize as Bytes = 32 * 1024;

    /// Header fields of a request; more get status 431. At most 256.
    request_fields_max: usize as Count = 128;

    /// Bytes of a request target (path and query); a longer one gets status 414.
    request_target_bytes_max: usize as Bytes = 8 * 1024;

    /// Bytes of all incomplete request heads together; past it those that keep more than an equal part get status 503. Each
    /// shard has an equal part.
    pending_heads_bytes_max: usize as Bytes = 64 * 1024 * 1024;

    /// Time from the server's close frame to the client's; past it the socket is closed.
    close_timeout: Duration as Time = Duration::from_secs(5);

    /// Time from the server's last byte to the end of the client's stream; past it the socket is closed.
    linger_timeout: Duration as Time = Duration::from_secs(2);

    /// Connections to accept from one listener per turn of the event loop. The rest of a storm waits, so that open connections
    /// are served.
    accepts_per_turn: u32 as Count = 64;

    /// TLS handshakes to begin per turn of a shard; each costs up to a millisecond with an RSA key. The rest of a storm waits, so
    /// that open connections are served.
    handshakes_per_turn: u32 as Count = 8;

    /// Bytes to read from one socket per turn, so that a flood from one client does not delay the others.
    read_bytes_per_turn: usize as Bytes = 256 * 1024;

    /// Messages of other shards to handle per turn.
    mail_per_turn: u32 as Count = 4096;

    /// Deliveries to write before the shard reads sockets and mail again. More is faster for huge channels, fewer gives lower
    /// latency to everything else.
    deliveries_per_slice: u32 as Count = 512;

    /// Batches in the mailbox of a shard; past it senders keep further batches in order on their own side.
    mailbox_batches_max: usize as Count = 256, restart;

    /// Bytes that may wait for one other shard; past it publications for it are held back, or skipped and counted. A quarter of it
    /// bounds the large replies that a shard requests at a time.
    mail_bytes_max: usize as Bytes = 16 * 1024 * 1024, restart;

    /// Bytes kept for all clients that do not read and reserved for replies, shared messages counted once; past it the clients with
    /// the largest backlog close with 3008. Each shard has an equal part, which also bounds one reply.
    backlog_bytes_max: usize as Bytes = 1024 * 1024 * 1024;

    /// Bytes of publications being written in one turn; past it the shard takes no more mail until they are written.
    turn_bytes_max: usize as Bytes = 16 * 1024 * 1024, restart;

    /// Bytes of all histories of all shards; past it the oldest publications are removed first.
    history_bytes_max: usize as Bytes = 1 << 30, restart;
}

section! {
    /// The section `limits`: when new connections are rejected.
    #[derive(Clone, Debug)]
    pub struct Limits {}

    /// Connections of one address (IPv4, or a /64 of IPv6); past it new ones get status 429. 0: no limit, since company and
    /// mobile networks put thousands of users behind one address.
    connections_per_address: u32 as Count = 0;

    /// New connections per second of one address; past it they get status 429. Each request that a trusted proxy passes on
    /// counts as one. 0: no limit.
    handshakes_per_address: u32 as Count = 0;

    /// New connections that one address may open at once, such as those of a company after a network failure.
    handshakes_per_address_burst: u32 as Count = 100;

    /// Networks to which the limits per address do not apply. The default is this machine, where health checks and tools run.
    exempt: Vec<IpNet> as Networks = LOOPBACK.map(|net| net.parse().expect("a network")).into();

    /// Networks of proxies in front of this server. The rightmost address in X-Forwarded-For that is not in these networks is
    /// the client's address, for the limits. The header is ignored on connections from other networks.
    trusted_proxies: Vec<IpNet> as Networks = Vec::new(), example("[\"10.0.0.0/8\"]");

    /// Average time that ready sockets of a shard wait to be served; past it the shard rejects new connections (status 503 with
    /// Retry-After) until the time is half of it. 0s: no limit.
    lag_max: Duration as Time = Duration::from_millis(500);

    /// Memory of the process in bytes; past it new connections are rejected (status 503 with Retry-After) until it is 5 % lower.
    /// 0: 90 % of the memory limit of the control group, if there is one.
    memory_bytes_max: usize as Bytes = 0;
}

/// This machine.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
