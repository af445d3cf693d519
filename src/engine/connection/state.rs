//! A connection as its shard knows it: plain data that owns no buffer while idle.
//!
//! ```text
//! Proxied ──the proxy's header──► Upgrading (both end alike)
//! Upgrading ──101──► Open ──our close──► Closing ──the peer's close──► Finishing
//!     │                └──the peer's close, a violation──────────────► Finishing
//!     └──refused, a plain answer─────────────────────────────────────► Finishing
//! Finishing ──queue empty, FIN sent──► Lingering ──the peer's FIN──► Dead ──slot released──► gone
//! any ──error, reset, deadline──► Dead
//! ```

use crate::engine::deflate::Deflate;
use crate::ws::Decoder;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The listener is for proxies, and the header of one is not complete. Deadline: the upgrade's.
    Proxied,
    /// The request head is not complete. Deadline: the upgrade's.
    Upgrading,
    /// The app's. Deadline: the app's.
    Open,
    /// Our close frame is queued or sent; the peer's is awaited, its messages are dropped.
    Closing,
    /// Nothing more is parsed; what is queued leaves, then our FIN.
    Finishing,
    /// Our FIN is sent; bytes are dropped until the peer's, so that no reset eats what we sent.
    Lingering,
    /// The socket is closed; the slot waits until nothing names it any more.
    Dead,
}

/// What the kernel said and what we want; a connection runs where they meet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Edges(u16);

impl Edges {
    /// A connection that the app does not know yet.
    pub fn fresh() -> Self {
        Self(Self::LEFT)
    }

    /// Bytes may be there: no new edge will come until we have read to the end.
    pub const READABLE: u16 = 1;
    /// The peer sends no more: read until zero.
    pub const READ_CLOSED: u16 = 2;
    /// The app could not take a message whole: its rest is spilled, and the socket is not read.
    pub const STALLED: u16 = 4;
    /// Stands in the ready list.
    pub const IN_READY: u16 = 8;
    /// Stands in the list of queues to write.
    pub const IN_WANTS: u16 = 16;
    /// A close was asked for and waits for a safe moment: nothing more is parsed or queued by the app.
    pub const CLOSE_ASKED: u16 = 32;
    /// Zero was read.
    pub const ENDED: u16 = 64;
    /// The app has forgotten the connection, or never knew it.
    pub const LEFT: u16 = 128;
    /// Sent more than it may: not read until it has rested.
    pub const RESTING: u16 = 256;

    pub fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    pub fn set(&mut self, bits: u16) {
        self.0 |= bits;
    }

    pub fn clear(&mut self, bits: u16) {
        self.0 &= !bits;
    }
}

/// Bytes that were read and could not be used yet.
pub(crate) struct Spill {
    /// The rest of a message that the app began (`rest` bytes), then raw bytes from a frame's start on.
    pub bytes: Vec<u8>,
    /// Bytes of the whole frame that the raw bytes begin, where its header is known; else 0.
    pub frame_bytes: usize,
    /// Leading bytes that are message, decoded already. 0 unless the connection is stalled.
    pub rest: usize,
    /// The stalled message is text.
    pub text: bool,
}

pub(crate) struct Conn {
    pub generation: u32,
    /// Index of what waits for the peer, or `NO_QUEUE`.
    pub queue: u32,
    pub spill: Option<Box<Spill>>,
    pub decoder: Decoder,
    /// Bytes dropped since our close, at most `LINGER_BYTES_MAX`.
    pub lingered: u32,
    pub phase: Phase,
    pub edges: Edges,
    pub deflate: Deflate,
}

impl Conn {
    pub fn fresh(generation: u32, phase: Phase) -> Self {
        Self {
            generation,
            queue: crate::engine::outbound::NO_QUEUE,
            spill: None,
            decoder: Decoder::new(),
            lingered: 0,
            phase,
            edges: Edges::fresh(),
            deflate: Deflate::default(),
        }
    }
}

const _: () = assert!(size_of::<Conn>() <= 64, "a connection fits a cache line");

/// The gate of a slot: what the delivery loop looks at, one byte, dense. 0 is idle, `TOUCHED` alone the fast path.
pub(crate) mod gate {
    /// A cast of the open flush is on its way to this slot.
    pub const TOUCHED: u8 = 1;
    /// More than one is.
    pub const MULTI: u8 = 2;
    /// A queue exists.
    pub const QUEUED: u8 = 4;
    /// The socket took less than it was given; an edge will come.
    pub const BLOCKED: u8 = 8;
    /// No longer open: no new cast may touch it.
    pub const DEAF: u8 = 16;
    /// The socket is gone.
    pub const DEAD: u8 = 32;
    /// The app holds back what is queued until it releases it with what comes first.
    pub const HELD: u8 = 64;
    /// Nothing may be written now.
    pub const SHUT: u8 = BLOCKED | HELD;
}
