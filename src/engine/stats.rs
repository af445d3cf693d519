//! The counters of a shard: plain numbers that only its own thread writes. Other threads get a copy, taken between two
//! turns.

use super::rejection::{Closes, Rejection};
use crate::slow_policy::SlowConsumerPolicy;

/// Why a connection was refused before it became a WebSocket. The index is the place in `Counters::refused`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Refused {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    Timeout,
    TargetTooLong,
    UpgradeRequired,
    HeadTooLarge,
    BodyTooLarge,
    Full,
    Draining,
    /// Too many new connections in this second.
    ConnectionRate,
    /// The address has as many connections as it may.
    Address,
    /// The address sends too many handshakes.
    AddressRate,
    /// Lag or memory is past its mark.
    Overloaded,
    /// The PROXY header is malformed, or did not come in time.
    ProxyHeader,
    /// A browser page of an origin that is not allowed.
    Origin,
    /// The kernel had no memory, or no epoll watch, for its socket.
    Kernel,
}

impl Refused {
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::BadRequest, "bad_request"),
        (Self::NotFound, "not_found"),
        (Self::MethodNotAllowed, "method_not_allowed"),
        (Self::Timeout, "timeout"),
        (Self::TargetTooLong, "target_too_long"),
        (Self::UpgradeRequired, "upgrade_required"),
        (Self::HeadTooLarge, "head_too_large"),
        (Self::BodyTooLarge, "body_too_large"),
        (Self::Full, "full"),
        (Self::Draining, "draining"),
        (Self::ConnectionRate, "connection_rate"),
        (Self::Address, "address"),
        (Self::AddressRate, "address_rate"),
        (Self::Overloaded, "overloaded"),
        (Self::ProxyHeader, "proxy_header"),
        (Self::Origin, "origin"),
        (Self::Kernel, "kernel"),
    ];

    /// The request itself is at fault. It is logged as such; everything else is logged as a limit, or as what the server
    /// goes through.
    pub fn is_fault_of_request(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::NotFound
                | Self::MethodNotAllowed
                | Self::TargetTooLong
                | Self::UpgradeRequired
                | Self::HeadTooLarge
                | Self::BodyTooLarge
                | Self::Origin
        )
    }
}

/// A limit, by the name of its setting. The index is the place in `Counters::reached`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Bound {
    ShardConnections,
    Connections,
    ConnectionRate,
    UserConnections,
    AddressConnections,
    AddressHandshakes,
    /// The address table had no room: a connection was admitted uncounted.
    AddressTable,
    UpgradeTimeout,
    /// All incomplete request heads together.
    PendingHeads,
    ProxyHeader,
    Message,
    Channels,
    CommandRate,
    ByteRate,
    Backlog,
    /// All backlogs together.
    Backlogs,
    TagsFilters,
}

impl Bound {
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::ShardConnections, "engine.connections_max"),
        (Self::Connections, "client.connection_limit"),
        (Self::ConnectionRate, "client.connection_rate_limit"),
        (Self::UserConnections, "client.user_connection_limit"),
        (Self::AddressConnections, "limits.connections_per_address"),
        (Self::AddressHandshakes, "limits.handshakes_per_address"),
        (Self::AddressTable, "address_table"),
        (Self::UpgradeTimeout, "engine.upgrade_timeout"),
        (Self::PendingHeads, "engine.pending_heads_bytes_max"),
        (Self::ProxyHeader, "proxy_header"),
        (Self::Message, "websocket.message_size_limit"),
        (Self::Channels, "client.channel_limit"),
        (Self::CommandRate, "client.command_rate_limit"),
        (Self::ByteRate, "client.byte_rate_limit"),
        (Self::Backlog, "client.queue_max_size"),
        (Self::Backlogs, "engine.backlog_bytes_max"),
        (Self::TagsFilters, "client.tags_filter_bytes_max"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Why an open connection ended. The index is the place in `Counters::closed`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Closed {
    /// The peer sent a close frame.
    ByPeer,
    /// The peer's side ended without a close frame.
    Vanished,
    /// The socket reported an error, a reset among them.
    Reset,
    /// The peer broke RFC 6455.
    Protocol,
    /// The layer above closed it.
    ByApp,
    /// The backlog was full.
    Slow,
    /// The process is shutting down.
    Shutdown,
}

impl Closed {
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::ByPeer, "by_peer"),
        (Self::Vanished, "vanished"),
        (Self::Reset, "reset"),
        (Self::Protocol, "protocol"),
        (Self::ByApp, "by_app"),
        (Self::Slow, "slow"),
        (Self::Shutdown, "shutdown"),
    ];
}

/// Why a TLS handshake failed, or a session ended. The index is the place in `TlsCounts::failed`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum TlsFailed {
    /// The peer spoke in the clear.
    NotTls,
    /// The bytes are not TLS.
    Malformed,
    /// No version, cipher, curve or signature that both sides know.
    Incompatible,
    /// No application protocol that both sides know (ALPN).
    Protocol,
    /// The peer rejected what it got, most often the certificate.
    Alert,
    /// A record that does not decrypt.
    Decrypt,
    /// The connection ended within its handshake.
    Unfinished,
    Other,
}

impl TlsFailed {
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::NotTls, "not_tls"),
        (Self::Malformed, "malformed"),
        (Self::Incompatible, "incompatible"),
        (Self::Protocol, "protocol"),
        (Self::Alert, "alert"),
        (Self::Decrypt, "decrypt"),
        (Self::Unfinished, "unfinished"),
        (Self::Other, "other"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// What a shard counts of TLS.
#[derive(Clone, Default, Debug)]
pub struct TlsCounts {
    /// Handshakes with a signature.
    pub full: u64,
    /// Handshakes that resumed a session.
    pub resumed: u64,
    /// Of the latter, those whose request came as early data.
    pub early: u64,
    /// Handshakes that waited for a later turn.
    pub put_off: u64,
    /// Failures, by `TlsFailed`.
    pub failed: [u64; TlsFailed::ALL.len()],
}

/// The policies that drop, by their names in the configuration.
pub const DROPPED_POLICIES: [&str; 2] = ["drop_oldest", "keep_latest"];

/// The place of a policy in `Counters::dropped`.
pub fn dropped_index(policy: SlowConsumerPolicy) -> usize {
    usize::from(policy == SlowConsumerPolicy::KeepLatest)
}

/// Upper bounds of the buckets of the turn histogram, in microseconds. One more bucket is for longer turns.
pub const TURN_BUCKETS_US: [u32; 12] = [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000];

/// The counters of one shard since its start.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    /// Connections taken from the listeners.
    pub accepted: u64,
    /// Connections refused before they became WebSockets, by `Refused`.
    pub refused: [u64; Refused::ALL.len()],
    /// WebSockets that ended, by `Closed`.
    pub closed: [u64; Closed::ALL.len()],
    /// Commands and frames that were refused, by `Rejection`.
    pub rejections: [u64; Rejection::ALL.len()],
    /// Closes by the server, by code.
    pub closes: Closes,
    /// How often each limit was reached.
    pub reached: [u64; Bound::ALL.len()],
    /// Messages received whole, control frames not counted.
    pub messages_in: u64,
    /// Messages queued for peers one by one (replies, pongs not counted).
    pub replies: u64,
    /// Publications times their subscribers.
    pub deliveries: u64,
    /// Reads of sockets.
    pub reads: u64,
    /// How often a connection used up its share of a turn, so that the rest of its bytes waited for a later one.
    pub shares_spent: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Writes that the socket took in part or not at all.
    pub writes_short: u64,
    /// Turns of the event loop.
    pub turns: u64,
    /// Waits for events.
    pub epoll_waits: u64,
    /// Of them, those that were allowed to block.
    pub epoll_waits_blocking: u64,
    /// Registrations with epoll.
    pub epoll_ctls: u64,
    /// Batches put into other shards' mailboxes.
    pub mail_pushes: u64,
    /// Of them, those that found the mailbox full first.
    pub mail_overflows: u64,
    /// Wakes of other shards: each one eventfd write.
    pub mail_wakes: u64,
    /// Publications that this shard numbered as home.
    pub publications: u64,
    /// Publications encoded: once for each wire format in use.
    pub encodings: u64,
    /// Deliveries that home did not queue for a slow shard and sent later from history.
    pub publications_repaired: u64,
    /// Deliveries that home did not queue for a slow shard and could not send later.
    pub publications_lost: u64,
    /// Publications that the broker did not take.
    pub publications_refused: u64,
    /// Publications that only this server's subscribers got, since the broker was away.
    pub publications_local: u64,
    /// Reads of a history or presence that shared the request of another one to the broker.
    pub broker_reads_merged: u64,
    /// Subscribes that failed because the broker was away.
    pub subscribes_failed: u64,
    /// Subscriptions that got all that they had missed.
    pub recoveries: u64,
    /// Subscriptions that could not.
    pub recoveries_failed: u64,
    /// Replies that were not produced because there is no memory for them.
    pub replies_refused: u64,
    /// Tokens that were rejected; expired ones not counted.
    pub tokens_refused: u64,
    /// Calls to the backend.
    pub backend_calls: u64,
    /// Calls to the backend that failed.
    pub backend_failures: u64,
    /// Messages that went through a compressor.
    pub deflates: u64,
    /// Their bytes before compression.
    pub deflate_bytes_in: u64,
    /// Their bytes after compression.
    pub deflate_bytes_out: u64,
    /// Compressed messages of clients.
    pub inflates: u64,
    /// Their inflated bytes.
    pub inflate_bytes_out: u64,
    /// Connections that agreed to compression.
    pub deflate_agreed: u64,
    /// Messages that a policy dropped while the peer did not read, by `dropped_index`.
    pub dropped: [u64; DROPPED_POLICIES.len()],
    /// Subscriptions that were ended because of it, so that they recover.
    pub subscriptions_cut: u64,
    /// Flushes that ended in a later turn than they began in.
    pub flushes_cut: u64,
    /// Waves of closes since the drain began.
    pub drain_waves: u64,
    /// Log records that were lost because the ring to the control thread was full.
    pub log_lost: u64,
    /// Turns by how long they worked, waiting not counted; `TURN_BUCKETS_US` and one above.
    pub turn_us: [u64; TURN_BUCKETS_US.len() + 1],
    /// Microseconds of work in all turns.
    pub turn_us_sum: u64,
}

/// The counters of a shard at one moment, and its gauges.
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// The shard.
    pub shard: u16,
    /// The core that its thread is pinned to.
    pub core: Option<usize>,
    /// The counters since the start.
    pub counters: Counters,
    /// Open WebSockets.
    pub connections: u64,
    /// Connections in any phase, closed ones that wait until their slot is free among them.
    pub occupied: u64,
    /// No connection is left and nothing is on its way out.
    pub idle: bool,
    /// No new connection is admitted, and open ones are closed in waves.
    pub draining: bool,
    /// Live subscriptions of this shard's connections.
    pub subscriptions: u64,
    /// Channels that this shard is home to.
    pub channels: u64,
    /// Users with a connection here, anonymous ones not counted.
    pub users: u64,
    /// Bytes of the histories that this shard keeps.
    pub history_bytes: u64,
    /// Histories that were evicted because all together took too much.
    pub history_evicted: u64,
    /// Bytes that wait for slow peers; shared ones count for each.
    pub backlog_bytes: u64,
    /// Bytes that are kept alive for slow peers; shared ones count once.
    pub backlog_kept_bytes: u64,
    /// Bytes that are reserved for replies that are not produced yet.
    pub backlog_reserved_bytes: u64,
    /// Requests whose replies wait for memory.
    pub replies_waiting: u64,
    /// Connections that something waits for.
    pub backlog_connections: u64,
    /// Bytes held in partly received messages.
    pub spill_bytes: u64,
    /// Connections with compression contexts of their own.
    pub deflate_contexts: u64,
    /// How long a ready socket waits until it is served.
    pub lag_us: u64,
    /// No new connection is admitted, because of the lag or the memory.
    pub shedding: bool,
    /// The counters of TLS.
    pub tls: TlsCounts,
    /// Bytes that TLS connections keep: partial records, and what their peers do not take.
    pub tls_held_bytes: u64,
}

impl Counters {
    /// A message went through a compressor.
    pub fn deflated(&mut self, bytes_in: usize, bytes_out: usize) {
        self.deflates += 1;
        self.deflate_bytes_in += bytes_in as u64;
        self.deflate_bytes_out += bytes_out as u64;
    }

    /// A turn worked so long.
    pub fn turn(&mut self, us: u32) {
        let bucket = TURN_BUCKETS_US.iter().position(|&bound| us <= bound).unwrap_or(TURN_BUCKETS_US.len());
        self.turn_us[bucket] += 1;
        self.turn_us_sum += u64::from(us);
    }
}
