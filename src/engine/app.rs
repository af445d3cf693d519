//! What a shard asks of the layer above, and what it offers it.

use super::mailbox::Batch;
use super::outbound::Owner;
use super::stats::{Closed, Snapshot};
use super::{Context, Millis};
use crate::ids::ConnId;
use crate::ws::{Refusal, Request};

/// One behaviour on the engine. Every shard owns one; nothing of it is shared, and no call may block.
///
/// Of one connection the calls come in this order: `open`, then `message`, `pong` and `timer` as they happen, then
/// `closed`, then `leave` until it returns true; the slot is not used again before that.
pub trait App: 'static {
    /// What travels between the shards, for this app alone.
    type Mail: Send + 'static;
    /// What the control thread may ask.
    type Request: Send + 'static;

    /// Judges a complete request head.
    fn route(&mut self, cx: &mut Context<Self::Mail>, request: &Request<'_>) -> Route;

    /// The upgrade is answered; `route` is what `Route::Upgrade` said.
    fn open(&mut self, cx: &mut Context<Self::Mail>, conn: ConnId, route: u8);

    /// A whole message, text already checked as UTF-8.
    fn message(&mut self, cx: &mut Context<Self::Mail>, conn: ConnId, message: Message<'_>) -> Flow;

    /// A pong frame of the peer (RFC 6455, section 5.5.3).
    fn pong(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId) {}

    /// The deadline set with `Context::set_timer` has come.
    fn timer(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId) {}

    /// The connection is no longer open. Where we end it (`why` is `ByApp` or `Shutdown`) the app may still reply: it
    /// leaves before the close frame.
    fn closed(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId, _why: Closed) {}

    /// Forgets what is left of a closed connection, at most `budget` steps of it. True when nothing is.
    fn leave(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId, _budget: &mut u32) -> bool {
        true
    }

    /// Mail of one sender, in order. May stop early when `budget` is spent.
    fn mail(&mut self, cx: &mut Context<Self::Mail>, batch: &mut Batch<Self::Mail>, budget: &mut u32);

    fn request(&mut self, cx: &mut Context<Self::Mail>, request: Self::Request);

    /// Before mail is handed to the other shards.
    fn before_dispatch(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// Mail could not be posted for lack of room, and will be in `before_dispatch` when there is.
    fn waits_for_room(&self) -> bool {
        false
    }

    /// Once a turn, behind the timers: work that nobody's message or deadline brings, within bounds of its own.
    fn sweep(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// When `sweep` is wanted next at the latest; `None` where nothing waits for it.
    fn next_sweep(&self) -> Option<Millis> {
        None
    }

    /// No flush is open: cast what the turn gathered.
    fn turn_end(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// The flush has ended: members may change again, and the frames are free.
    fn end_flush(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// Bytes gathered for the next flush.
    fn turn_bytes(&self) -> usize {
        0
    }

    /// Of what an owner had waiting for this peer, which does not read, its policy dropped so many messages. Whatever of
    /// it must not be read behind such a gap the app purges now.
    fn dropped(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId, _owner: Owner, _messages: u64) {}

    /// Close code and reason for what the engine decides.
    fn close_reason(&self, conn: ConnId, why: EngineClose) -> (u16, &'static str);

    /// Fills what only the app knows.
    fn gauges(&self, _snapshot: &mut Snapshot) {}
}

/// Why the engine ends a connection of its own accord.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineClose {
    /// The backlog is full.
    Slow,
    /// The process is ending.
    Shutdown,
}

pub enum Route {
    Upgrade {
        protocol: Option<&'static str>,
        route: u8,
    },
    /// A plain HTTP answer, then the connection ends.
    Respond {
        status: u16,
        content_type: &'static str,
        body: &'static [u8],
    },
    Refuse(Refusal),
}

pub struct Message<'a> {
    pub text: bool,
    /// Unmasked; may be changed before `Flow::Reflect`.
    pub payload: &'a mut [u8],
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    Done,
    /// Send the payload back as it stands: no copy where it is large.
    Reflect,
    /// Only `consumed` bytes could be taken now. The rest is kept and offered again (`message` with the rest), and the
    /// socket is not read meanwhile: TCP tells the peer.
    Stall {
        consumed: usize,
    },
    /// As `Stall`, but the rest is offered when the app says so (`Context::resume`) and not before.
    Wait {
        consumed: usize,
    },
}
