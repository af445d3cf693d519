//! The settings of the engine, one copy for each shard: bounds, timeouts, the use of the host. Each field has its unit
//! and the behavior past its limit.
//!
//! Constants that cannot be configured are declared in the code that uses them.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::ws::{self, RequestBounds};

/// Bytes of the receive buffer of a shard. One read takes at most this much from one socket.
pub const RECEIVE_BYTES: usize = 256 * 1024;

/// The most that `request_head_bytes_max` may be: a request head fits the receive buffer, with room for a read.
pub const REQUEST_HEAD_BYTES_MAX: usize = RECEIVE_BYTES / 2;
/// The most that `request_fields_max` may be.
pub const REQUEST_FIELDS_MAX: usize = ws::REQUEST_FIELDS_MAX;
const REQUEST_BOUNDS: RequestBounds = RequestBounds::DEFAULT;

/// permessage-deflate (RFC 7692).
#[derive(Clone, Copy, Debug)]
pub struct CompressionConfig {
    pub enabled: bool,
    /// Shorter messages are not compressed: the header and the time cost more than it saves.
    pub min_bytes: usize,
    /// `1..=9`.
    pub level: u32,
    /// `9..=15`: the base-2 logarithm of the largest window.
    pub window_bits: u32,
    /// Each direction of a connection may have a context of its own: up to 300 KiB towards the client, 40 KiB from it.
    pub server_takeover: bool,
    pub client_takeover: bool,
    /// Connections of a shard that have contexts; later ones have none.
    pub contexts_max: u32,
    /// Bytes of one inflated message; past it the connection closes with 1009. 0: as `message_bytes_max`.
    pub inflated_bytes_max: usize,
}

impl Default for CompressionConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            min_bytes: 256,
            level: 1,
            window_bits: 15,
            server_takeover: false,
            client_takeover: false,
            contexts_max: 1024,
            inflated_bytes_max: 0,
        }
    }
}

/// How the engine uses the host. Read at start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// A connection belongs to the shard on whose core its packets arrive (SO_INCOMING_CPU).
    pub incoming_cpu: bool,
    /// How long an idle shard polls for events before it sleeps.
    pub spin: Duration,
    /// How long `epoll_wait` polls the queues of the network devices itself; how many packets at a time; whether their
    /// interrupts stay off meanwhile.
    pub busy_poll: Duration,
    pub busy_poll_budget: u32,
    pub busy_poll_prefer: bool,
    /// The kernel reports a connection when its first bytes have come, or after this (TCP_DEFER_ACCEPT). Zero: at once.
    pub defer_accept: Duration,
    /// Unsent bytes in the send buffer of a socket, past which it takes no more (TCP_NOTSENT_LOWAT). So a slow peer shows
    /// early, and its backlog waits in the shard, where it is bounded and shared.
    pub notsent_bytes_max: u32,
    /// How long sent bytes may stay without an acknowledgment (TCP_USER_TIMEOUT). Zero: as long as the kernel tries.
    pub user_timeout: Duration,
    /// Each shard has a file table of its own. The app's mail and requests must then carry no descriptors: a descriptor
    /// that is opened later is not open in the other tables.
    pub own_file_tables: bool,
    /// The kernel is asked for huge pages under the tables of connections.
    pub huge_pages: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            incoming_cpu: false,
            spin: Duration::ZERO,
            busy_poll: Duration::ZERO,
            busy_poll_budget: 8,
            busy_poll_prefer: false,
            defer_accept: Duration::ZERO,
            // Two of the largest messages. With room for one, a peer with several under way is blocked at each (a fifth more CPU).
            notsent_bytes_max: 128 * 1024,
            user_timeout: Duration::ZERO,
            own_file_tables: false,
            huge_pages: false,
        }
    }
}

/// The settings of the engine: one copy for each shard.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Connections of one shard; past it new ones are refused with 503.
    pub connections_max: u32,
    /// Bytes of one message, all fragments together; past it the connection closes with 1009.
    pub message_bytes_max: usize,
    /// Bytes that may wait for a peer that does not read; past it the connection closes as slow.
    pub outbound_bytes_max: usize,
    /// Bytes that may be kept alive for all such peers together, shared ones counted once; each shard has an equal part.
    /// Past it the connections with the longest backlogs close as slow.
    pub backlog_bytes_max: usize,
    /// From accept to the whole request head; past it 408.
    pub upgrade_timeout: Duration,
    /// Bytes of one request head, at most `REQUEST_HEAD_BYTES_MAX`, and its fields, at most `REQUEST_FIELDS_MAX`; past them 431.
    pub request_head_bytes_max: usize,
    pub request_fields_max: usize,
    /// Bytes of the target of a request; past it 414.
    pub request_target_bytes_max: usize,
    /// Bytes of all incomplete request heads together; each shard has an equal part. Past it, those that keep more than an
    /// equal part of that are refused with 503.
    pub pending_heads_bytes_max: usize,
    /// From the server's close frame to the peer's; past it the socket is closed.
    pub close_timeout: Duration,
    /// From the server's FIN to the peer's; past it the socket is closed.
    pub linger_timeout: Duration,
    /// Connections accepted from one listener in a turn.
    pub accepts_per_turn: u32,
    /// TLS handshakes begun in a turn; the others wait for the next.
    pub handshakes_per_turn: u32,
    /// Bytes taken from one socket in a turn.
    pub read_bytes_per_turn: usize,
    /// Time that the reads of a turn may take, and its mail as well; past it the kernel is asked for events first.
    pub time_per_turn: Duration,
    /// Of it, the part of one connection; past it the rest of its bytes waits for a later turn, behind the others.
    pub time_per_connection: Duration,
    /// Units of work (a byte of input is one) after which the clock is read in a turn.
    pub work_per_look: u32,
    /// Messages taken from the mailbox in a turn.
    pub mail_per_turn: u32,
    /// Deliveries written before the next reads and mail, at most; fewer if they take too long.
    pub deliveries_per_slice: u32,
    /// Batches in the mailbox of a shard; past it senders keep theirs in an overflow of their own.
    pub mailbox_batches_max: usize,
    /// Bytes that may wait for one other shard before publications for it are held back or skipped.
    pub mail_bytes_max: usize,
    /// Subscribe requests that may wait for the answer of one home shard; past it their sockets are not read.
    pub subscribe_requests_max: u32,
    /// Bytes of turn buffers; past it no more mail is taken until the open flush has ended.
    pub turn_bytes_max: usize,
    pub compression: CompressionConfig,
    pub machine: Machine,
    /// Connections of one address (v4, or /64 of v6); past it 429. 0: no limit.
    pub connections_per_address: u32,
    /// Handshakes of one address in a second, and at once; past it 429. 0: no limit.
    pub handshakes_per_address: u32,
    pub handshakes_per_address_burst: u32,
    /// Networks whose addresses these two limits do not apply to.
    pub exempt: Vec<IpNet>,
    /// Networks of proxies that may name their client (`X-Forwarded-For`).
    pub trusted_proxies: Vec<IpNet>,
    /// Event-loop lag: how long a ready socket waits until it is served, on the average. Past it new connections are refused.
    /// Zero: no limit.
    pub lag_max: Duration,
    /// Bytes that one connection may send in a second, and at once; past it the connection is not read. 0: no limit.
    pub bytes_per_second: u64,
    pub bytes_burst: u64,
    /// An excess is only counted.
    pub bytes_dry_run: bool,
}

impl EngineConfig {
    pub(crate) fn request_bounds(&self) -> RequestBounds {
        RequestBounds {
            head_bytes_max: self.request_head_bytes_max,
            fields_max: self.request_fields_max,
            target_bytes_max: self.request_target_bytes_max,
        }
    }

    /// Bytes of one inflated message.
    pub fn inflated_bytes_max(&self) -> usize {
        match self.compression.inflated_bytes_max {
            0 => self.message_bytes_max,
            bytes => bytes,
        }
    }
}

/// This host: health checks, a local proxy, load generators.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

impl EngineConfig {
    /// A proxy with this address may name its client.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    /// The limits per address do not apply to this address.
    pub(crate) fn exempts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|net| net.contains(&address))
    }

    /// The part of `wanted` that a running engine applies: everything except the settings that its memory layout
    /// depends on.
    pub fn reloaded(&self, wanted: &Self) -> Self {
        Self {
            connections_max: self.connections_max,
            mailbox_batches_max: self.mailbox_batches_max,
            mail_bytes_max: self.mail_bytes_max,
            turn_bytes_max: self.turn_bytes_max,
            compression: self.compression,
            machine: self.machine.clone(),
            ..wanted.clone()
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            connections_max: 1 << 20,
            message_bytes_max: 64 * 1024,
            outbound_bytes_max: 1024 * 1024,
            backlog_bytes_max: 1024 * 1024 * 1024,
            upgrade_timeout: Duration::from_secs(5),
            request_head_bytes_max: REQUEST_BOUNDS.head_bytes_max,
            request_fields_max: REQUEST_BOUNDS.fields_max,
            request_target_bytes_max: REQUEST_BOUNDS.target_bytes_max,
            pending_heads_bytes_max: 64 * 1024 * 1024,
            close_timeout: Duration::from_secs(5),
            linger_timeout: Duration::from_secs(2),
            accepts_per_turn: 64,
            handshakes_per_turn: 8,
            read_bytes_per_turn: RECEIVE_BYTES,
            time_per_turn: Duration::from_millis(4),
            time_per_connection: Duration::from_micros(500),
            work_per_look: 8 * 1024,
            mail_per_turn: 4096,
            deliveries_per_slice: 512,
            mailbox_batches_max: 256,
            mail_bytes_max: 16 * 1024 * 1024,
            subscribe_requests_max: 4096,
            turn_bytes_max: 16 * 1024 * 1024,
            compression: CompressionConfig::default(),
            machine: Machine::default(),
            connections_per_address: 0,
            handshakes_per_address: 0,
            handshakes_per_address_burst: 100,
            exempt: LOOPBACK.map(|net| net.parse().expect("a network")).into(),
            trusted_proxies: Vec::new(),
            lag_max: Duration::from_millis(500),
            bytes_per_second: 0,
            bytes_burst: 0,
            bytes_dry_run: false,
        }
    }
}
