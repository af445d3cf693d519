//! The state of one connection: plain data, without a buffer while the connection is idle.
//!
//! ```text
//! ProxyHeader ──the proxy's header──► Upgrading (both end alike)
//! Upgrading ──a whole response, kept alive──► Upgrading
//! Upgrading ──the head of a stream──► Open ──our last chunk──► Finishing
//! Upgrading ──101──► Open ──our close──► Closing ──the peer's close──► Finishing
//!     │                └──the peer's close, a violation──────────────► Finishing
//!     └──a refusal, a plain response─────────────────────────────────► Finishing
//! Finishing ──queue empty, FIN sent──► Lingering ──the peer's FIN──► Closed ──slot freed──► gone
//! any ──error, reset, deadline──► Closed
//! ```

use bitflags::bitflags;

use crate::engine::deflate::ConnCompression;
use crate::engine::outbound::QueueKey;
use crate::ids::OptionU32;
use crate::ws::Decoder;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The listener is for proxies, and the PROXY header is not complete. Deadline: that of the upgrade.
    ProxyHeader,
    /// The request is not complete, or is not answered. Deadline: that of the upgrade; longer between two requests.
    Upgrading,
    /// The app handles the messages. Deadline: that of the app.
    Open,
    /// Our close frame is queued or sent, the peer's is awaited. Its messages are dropped.
    Closing,
    /// Nothing more is parsed. The queue leaves, then the FIN.
    Finishing,
    /// The FIN is sent. Bytes are dropped until the peer's FIN, so that no reset destroys bytes that were sent.
    Lingering,
    /// The socket is closed. The slot waits until the app has forgotten it and no flush names it.
    Closed,
}

bitflags! {
    /// What the kernel reported about a connection, and what the shard has to do with it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct ConnFlags: u32 {
        /// Bytes may be available: no new edge comes until the socket is read to the end.
        const READABLE = 1;
        /// The peer sends no more: read until zero.
        const READ_CLOSED = 2;
        /// The app could not take a message whole: its rest is spilled, and the socket is not read.
        const STALLED = 4;
        /// The connection is in one of the two lists of those that are to be read without a new edge.
        const IN_READY = 8;
        /// The connection is in the list of queues to write.
        const IN_TO_WRITE = 16;
        /// A close was requested and waits for a safe moment: nothing more is parsed or queued by the app.
        const CLOSE_REQUESTED = 32;
        /// Zero was read.
        const READ_ENDED = 64;
        /// The app has forgotten the connection, or never knew it.
        const FORGOTTEN = 128;
        /// It sent more than `bytes_per_second`: not read until its time has come.
        const RATE_LIMITED = 256;
        /// Stalled because it has used up its share of a turn: a later turn offers the rest again.
        const OUT_OF_TIME = 512;
        /// The rest of a stalled message is offered again when the peer has taken most of what waits for it.
        const RESUMES_WHEN_WRITTEN = 1024;
        /// A close was requested because the peer does not read: its backlog will be dropped, so nothing more is queued.
        const CLOSES_AS_SLOW = 2048;
        /// The shard drains, and the app owes the peer replies: nothing more is read, and the close follows the replies.
        const LAST_REPLIES = 4096;
        /// A request waits for the app's answer: nothing is read behind it.
        const AWAITS_ANSWER = 8192;
        /// Its client may send another request behind the answer to this one.
        const KEEPS_ALIVE = 16384;
        /// The client was told to send the body of its request.
        const CONTINUED = 32768;
        /// The head of the stream is not sent: it may still become another response.
        const HEAD_HELD = 65536;
    }
}

bitflags! {
    /// What the delivery loop looks at: one byte for each slot, dense. Empty is idle; `IN_FLUSH` alone is the fast path.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct WriteFlags: u8 {
        /// A broadcast of the open flush has yet to reach this slot.
        const IN_FLUSH = 1;
        /// More than one has.
        const IN_FLUSH_MULTIPLE = 2;
        /// A queue exists.
        const QUEUED = 4;
        /// The socket took less than it was given. An edge will come.
        const BLOCKED = 8;
        /// Not open, or no longer: no new broadcast may reach it.
        const NOT_OPEN = 16;
        /// The socket is closed.
        const CLOSED = 32;
        /// The app holds the queue until it releases it after its first message.
        const HELD = 64;
        /// Nothing may be written now.
        const BLOCKED_OR_HELD = Self::BLOCKED.bits() | Self::HELD.bits();
    }
}

/// Spills up to this are copied in front of the next read; longer ones are read into.
pub(crate) const SPILL_COPY_BYTES_MAX: usize = 4 * 1024;

/// Bytes that were read and could not be used yet.
pub(crate) struct Spill {
    /// The rest of a message that the app took in part (`rest` bytes), then raw bytes that begin at a frame.
    pub bytes: Vec<u8>,
    /// Bytes of the whole frame that the raw bytes begin, where its header is known; the most that a long request head may
    /// have; else 0.
    pub frame_bytes: usize,
    /// Leading bytes that are a decoded message. 0 unless the connection is stalled.
    pub rest: usize,
    /// The type of the stalled message.
    pub text: bool,
    /// A request head that is not complete.
    pub is_head: bool,
}

/// The request heads of a shard that are not complete.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PendingHeads {
    /// Bytes of their buffers.
    pub bytes: usize,
    pub count: usize,
}

pub(crate) struct Conn {
    pub generation: u32,
    /// What waits for the peer.
    pub queue: OptionU32<QueueKey>,
    pub spill: Option<Box<Spill>>,
    pub decoder: Decoder,
    /// Bytes dropped since the server's close, at most `LINGER_BYTES_MAX`.
    pub lingered: u32,
    pub phase: Phase,
    pub flags: ConnFlags,
    pub compression: ConnCompression,
}

impl Conn {
    /// A connection that the app does not know yet.
    pub(crate) fn new(generation: u32, phase: Phase) -> Self {
        Self {
            generation,
            queue: OptionU32::NONE,
            spill: None,
            decoder: Decoder::new(),
            lingered: 0,
            phase,
            flags: ConnFlags::FORGOTTEN,
            compression: ConnCompression::default(),
        }
    }

    /// Open, and no close is requested.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.flags.contains(ConnFlags::CLOSE_REQUESTED)
    }
}

const _: () = assert!(size_of::<Conn>() <= 64, "a connection fits a cache line");
