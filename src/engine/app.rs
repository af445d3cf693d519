//! The callbacks that a shard makes into the layer above it.

use super::context::Context;
use super::mailbox::Batch;
use super::outbound::Owner;
use super::stats::{Closed, Snapshot};
use super::timer_wheel::Millis;
use crate::http::{Response, StreamFraming};
use crate::ids::ConnId;
use crate::ws::{CloseCode, Refusal, Request};

/// The behavior of a server on the engine. Every shard owns one; nothing of it is shared, and no call may block.
///
/// For one connection the calls come in this order: `route`, `open`, then `message`, `pong` and `timer` as they happen, then
/// `closed`, then `leave` until it returns true; the slot is not used again before that.
pub trait App: 'static {
    /// What the shards of this app send each other. `Infallible` for an app whose shards do not talk.
    type Mail: Send + 'static;
    /// What the control thread may ask of this app. `Infallible` for an app that it never asks.
    type Request: Send + 'static;

    /// Judges a complete request head, of a GET or a HEAD. The response to a HEAD is sent without its body.
    fn route(&mut self, _cx: &mut Context<Self::Mail>, _request: &Request<'_>) -> Route {
        Route::Upgrade { protocol: None, route: 0 }
    }

    /// Judges a complete request head with another method than GET and HEAD. The default refuses it with 405.
    fn other_method(&mut self, _cx: &mut Context<Self::Mail>, _request: &Request<'_>) -> Route {
        Route::Refuse(Refusal::MethodNotAllowed)
    }

    /// Judges a request whose body is whole, after `Route::ReadBody`.
    fn with_body(
        &mut self,
        _cx: &mut Context<Self::Mail>,
        _conn: ConnId,
        _request: &Request<'_>,
        _body: &[u8],
    ) -> Route {
        Route::Refuse(Refusal::MethodNotAllowed)
    }

    /// Appends the last message of a stream that the server ends: the code and the reason that a WebSocket gets in its
    /// close frame. Nothing is sent if nothing is appended.
    fn write_end(&self, _conn: ConnId, _code: u16, _reason: &str, _out: &mut Vec<u8>) {}

    /// Whether `Context::address_key` is needed for new connections; it costs a system call for each.
    fn wants_address_keys(&self) -> bool {
        false
    }

    /// The connection is open. `route` is that of `Route::Upgrade`.
    fn open(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId, _route: u8) {}

    /// A whole message, text already checked as UTF-8.
    fn message(&mut self, cx: &mut Context<Self::Mail>, conn: ConnId, message: Message<'_>) -> Flow;

    /// A pong frame of the peer (RFC 6455, section 5.5.3).
    fn pong(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId) {}

    /// The deadline set with `Context::set_timer` has come.
    fn timer(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId) {}

    /// The connection is no longer open. If this side closed it (`why` is `ByApp` or `Shutdown`) the app may still
    /// reply: the reply leaves before the close frame.
    fn closed(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId, _why: Closed) {}

    /// Frees the state of a closed connection, at most `budget` steps of it. True when nothing is left.
    fn leave(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId, _budget: &mut u32) -> bool {
        true
    }

    /// Mail of one sender, in order. It may stop early when `budget` is spent, and is called again with the rest. If it takes
    /// nothing, all mail waits for the next turn.
    fn mail(&mut self, _cx: &mut Context<Self::Mail>, batch: &mut Batch<Self::Mail>, _budget: &mut u32) {
        batch.for_each(drop);
    }

    /// A command of the control thread.
    fn request(&mut self, _cx: &mut Context<Self::Mail>, _request: Self::Request) {}

    /// Before mail leaves for the other shards.
    fn before_dispatch(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// Once a turn, after all of its mail was handled: other threads get what the turn has gathered for them.
    fn after_mail(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// Mail could not be posted for lack of room, and will be posted in `before_dispatch` when there is room.
    fn waits_for_room(&self) -> bool {
        false
    }

    /// Once a turn, after the deadlines: work that no message or deadline brings, within bounds of its own.
    fn sweep(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// When `sweep` has to be called next, at the latest. `None` if nothing waits for it.
    fn next_sweep(&self) -> Option<Millis> {
        None
    }

    /// Whether replies to this open connection are still to come. A shard that drains reads no more from it, and closes it
    /// behind them.
    fn owes_replies(&self, _conn: ConnId) -> bool {
        false
    }

    /// No flush is open: broadcast what the turn gathered.
    fn turn_end(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// The flush has ended: members may change again, and the frames are free.
    fn end_flush(&mut self, _cx: &mut Context<Self::Mail>) {}

    /// Bytes gathered for the next flush.
    fn turn_bytes(&self) -> usize {
        0
    }

    /// The policy of an owner dropped this many messages from the backlog of this peer, which does not read. The app
    /// now purges messages that must not follow such a gap.
    fn dropped(&mut self, _cx: &mut Context<Self::Mail>, _conn: ConnId, _owner: Owner, _messages: u64) {}

    /// Close code and reason of a close that the engine decides.
    fn close_reason(&self, _conn: ConnId, why: EngineClose) -> (u16, &'static str) {
        match why {
            EngineClose::Slow => (CloseCode::PolicyViolation.code(), "slow"),
            EngineClose::Shutdown => (CloseCode::GoingAway.code(), "shutdown"),
        }
    }

    /// Fills in the gauges that only the app knows.
    fn gauges(&self, _snapshot: &mut Snapshot) {}
}

/// Why the engine ends a connection of its own accord.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineClose {
    /// The backlog is full.
    Slow,
    /// The process is shutting down.
    Shutdown,
}

/// The answer to a request head.
pub enum Route {
    /// The connection becomes a WebSocket.
    Upgrade {
        /// The subprotocol that was chosen of those that the client offered.
        protocol: Option<&'static str>,
        /// The app's own id of the requested endpoint; passed to `App::open`.
        route: u8,
    },
    /// The connection becomes a stream: the response never ends by itself, and each message of the server is a part of it.
    Stream(Box<Stream>),
    /// The body of the request is read, of so many bytes at most. `App::with_body` follows when it is whole.
    ReadBody {
        /// A longer one is refused with 413.
        bytes_max: usize,
    },
    /// A whole response. The connection goes on if the client wants that.
    Answer(Response),
    /// The response follows by `Context::answer`. Nothing is read until then.
    Later,
    /// A plain HTTP response, then the connection ends.
    Respond {
        /// The status code.
        status: u16,
        /// The value of `Content-Type`.
        content_type: &'static str,
        /// The whole body.
        body: &'static [u8],
    },
    /// An HTTP error, then the connection ends.
    Refuse(Refusal),
}

/// A stream that begins.
pub struct Stream {
    /// How its messages are marked off.
    pub framing: StreamFraming,
    /// As in `Route::Upgrade`.
    pub route: u8,
    /// The head of the response and the first bytes of its body. Empty: `Context::release_with_head` or
    /// `Context::close_with_response` follows.
    pub head: Vec<u8>,
    /// Handed to `App::message` behind `App::open`.
    pub message: Vec<u8>,
}

/// A whole message of a client.
pub struct Message<'a> {
    /// Text, which is valid UTF-8; else binary.
    pub text: bool,
    /// Unmasked; may be changed before `Flow::Reflect`.
    pub payload: &'a mut [u8],
}

/// What the engine does after a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Goes on.
    Done,
    /// Sends the payload back in its current state. A large one is not copied.
    Reflect,
    /// The app took only `consumed` bytes. The rest is kept and offered again (`message` with the rest), and until then
    /// the socket is not read: TCP slows the peer down.
    Stall {
        /// Bytes taken, from the front.
        consumed: usize,
    },
    /// As `Stall`, because the connection has used up its share of the turn (`Context::work`): the rest is offered again in
    /// a later turn, after the bytes of other connections.
    Yield {
        /// Bytes taken, from the front; all of them if the message is done and the bytes behind it are to wait.
        consumed: usize,
    },
    /// As `Stall`, but the rest is offered only after the app calls `Context::resume`.
    Wait {
        /// Bytes taken, from the front.
        consumed: usize,
    },
}
