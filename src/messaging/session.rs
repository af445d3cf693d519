//! A connection's state in the client protocol, and the table of all connections of a shard.
//!
//! ```text
//! New ──connect, granted──► Connecting ──all its subscriptions live──► Connected
//!  └──connect, rejected with an error──► Rejected: further commands are ignored, closed a little later
//! New or Connecting, and the stale delay over: closed with 3502
//! Connected: a ping due ──► sent ──pong──► due; sent, and the pong timeout over: closed with 3012
//! Echo: another endpoint without the protocol; messages are sent back, pings are frames
//! ```

use std::ops::{Index, IndexMut};
use std::rc::Rc;

use crate::engine::Millis;
use crate::engine::token_bucket::{Rate, TokenBucket};
use crate::ids::ConnId;
use crate::protocol::{Encoding, RawClientInfo};
use crate::pubsub::SubscriptionList;
use crate::ws::Opcode;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    New,
    Connecting,
    Connected,
    Rejected,
    Echo,
}

pub(crate) struct Session {
    /// The client's id; nil until connect.
    pub client: [u8; 16],
    /// None for an anonymous client of which nothing is known.
    pub identity: Option<Box<Identity>>,
    /// When the next ping is due, or when the wait for a pong ends.
    pub ping_at: Millis,
    pub subscriptions: SubscriptionList,
    pub channels: u16,
    /// Of `channels`, those whose home shard has not answered.
    pub pending_subscribes: u16,
    /// Other replies that home shards owe to its commands.
    pub replies_owed: u32,
    pub encoding: Encoding,
    pub phase: Phase,
    pub transport: Transport,
    /// A ping was sent and not answered.
    pub awaits_pong: bool,
}

const _: () = assert!(size_of::<Session>() <= 48);

/// What carries the messages of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Transport {
    WebSocket = 0,
    /// The same; its pings are frames, not messages.
    WebSocketFramePings = 1,
    UniWebSocket = 2,
    HttpStream = 3,
    Sse = 4,
    UniHttpStream = 5,
    UniSse = 6,
}

impl Transport {
    const ALL: [Self; 7] = [
        Self::WebSocket,
        Self::WebSocketFramePings,
        Self::UniWebSocket,
        Self::HttpStream,
        Self::Sse,
        Self::UniHttpStream,
        Self::UniSse,
    ];

    pub(crate) fn from_index(index: u8) -> Self {
        Self::ALL.get(usize::from(index)).copied().unwrap_or(Self::WebSocket)
    }

    /// As backends know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket | Self::WebSocketFramePings => "websocket",
            Self::UniWebSocket => "uni_websocket",
            Self::HttpStream => "http_stream",
            Self::Sse => "sse",
            Self::UniHttpStream => "uni_http_stream",
            Self::UniSse => "uni_sse",
        }
    }

    /// Its commands come by other connections.
    pub(crate) fn is_emulated(self) -> bool {
        matches!(self, Self::HttpStream | Self::Sse)
    }

    pub(crate) fn is_stream(self) -> bool {
        self as u8 >= Self::HttpStream as u8
    }
}

/// The user of a connection, and what is known of it.
#[derive(Default)]
pub(crate) struct Identity {
    pub user: Rc<str>,
    /// In the form of `protocol::kept_info`.
    pub info: Box<[u8]>,
    /// For the backend alone.
    pub meta: Box<[u8]>,
    pub headers: Headers,
    /// Seconds since 1970; 0 is never.
    pub expire_at: u64,
    /// When the first of its subscriptions ends, with the grace period, in the same form.
    pub subs_expire_at: u64,
    /// Its neighbors among the user's connections.
    pub before: Option<u32>,
    pub after: Option<u32>,
    /// The user's home shard counts it.
    pub is_counted: bool,
    /// The session id that the server API knows a unidirectional connection by.
    pub session: Box<str>,
}

/// Header fields that some backend is to see: names in lower case, and values.
pub(crate) type Headers = Option<Box<[(String, String)]>>;

impl Session {
    pub(crate) fn new(encoding: Encoding, phase: Phase, transport: Transport) -> Self {
        Self {
            client: [0; 16],
            identity: None,
            ping_at: 0,
            subscriptions: SubscriptionList::default(),
            channels: 0,
            pending_subscribes: 0,
            replies_owed: 0,
            encoding,
            phase,
            transport,
            awaits_pong: false,
        }
    }

    pub(crate) fn user(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.user)
    }

    pub(crate) fn info(&self) -> &[u8] {
        self.identity.as_ref().map_or(&[], |identity| &identity.info)
    }

    /// The client as others see it, apart from its info in a channel.
    pub(crate) fn raw_info(&self) -> RawClientInfo<'_> {
        RawClientInfo { client: self.client, user: self.user(), conn_info: self.info(), chan_info: b"" }
    }

    pub(crate) fn is_uni(&self) -> bool {
        self.encoding == Encoding::UniJson
    }

    pub(crate) fn frame_pings(&self) -> bool {
        self.transport == Transport::WebSocketFramePings
    }

    pub(crate) fn opcode(&self) -> Opcode {
        opcode(self.encoding)
    }

    /// No home shard owes it a reply.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending_subscribes == 0 && self.replies_owed == 0
    }
}

pub(crate) fn opcode(encoding: Encoding) -> Opcode {
    if encoding.is_text() { Opcode::Text } else { Opcode::Binary }
}

pub(crate) fn millis(duration: std::time::Duration) -> Millis {
    duration.as_millis() as Millis
}

/// The sessions of a shard, by the slot of their connection.
#[derive(Default)]
pub(crate) struct Sessions {
    by_slot: Vec<Session>,
    /// Token buckets of the command rate; grown only where commands are limited.
    command_rates: Vec<TokenBucket>,
}

impl Sessions {
    /// Replaces the session of the slot's last connection.
    pub(super) fn insert(&mut self, conn: ConnId, session: Session) {
        match self.by_slot.get_mut(conn.index()) {
            Some(last) => *last = session,
            None => {
                self.by_slot
                    .resize_with(conn.index(), || Session::new(Encoding::Json, Phase::New, Transport::WebSocket));
                self.by_slot.push(session);
            }
        }
        if let Some(bucket) = self.command_rates.get_mut(conn.index()) {
            *bucket = TokenBucket::FULL;
        }
    }

    /// One past the highest slot that was in use.
    pub(super) fn slots(&self) -> u32 {
        self.by_slot.len() as u32
    }

    pub(super) fn at(&self, slot: u32) -> &Session {
        &self.by_slot[slot as usize]
    }

    pub(super) fn identity_at(&mut self, slot: u32) -> Option<&mut Identity> {
        self.by_slot[slot as usize].identity.as_deref_mut()
    }

    /// Counts a command. False if the rate does not allow it.
    pub(super) fn take_command(&mut self, conn: ConnId, rate: Rate, now: Millis) -> bool {
        if self.command_rates.len() <= conn.index() {
            self.command_rates.resize(conn.index() + 1, TokenBucket::FULL);
        }
        rate.take(&mut self.command_rates[conn.index()], 1, now)
    }
}

impl Index<ConnId> for Sessions {
    type Output = Session;

    fn index(&self, conn: ConnId) -> &Session {
        &self.by_slot[conn.index()]
    }
}

impl IndexMut<ConnId> for Sessions {
    fn index_mut(&mut self, conn: ConnId) -> &mut Session {
        &mut self.by_slot[conn.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_starts_over_with_its_next_connection() {
        let conn = ConnId::new(2, 1);
        let rate = Rate::new(1, 1).expect("a rate");
        let mut sessions = Sessions::default();
        sessions.insert(conn, Session::new(Encoding::Protobuf, Phase::New, Transport::WebSocketFramePings));
        sessions[conn].channels = 3;
        assert!(sessions.take_command(conn, rate, 0));
        assert!(!sessions.take_command(conn, rate, 0));
        sessions.insert(ConnId::new(2, 2), Session::new(Encoding::Json, Phase::New, Transport::WebSocket));
        assert_eq!((sessions[conn].channels, sessions[conn].encoding, sessions.slots()), (0, Encoding::Json, 3));
        assert!(sessions.take_command(conn, rate, 0));
    }
}
