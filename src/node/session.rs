//! A connection's state in the message protocol, and its pings.
//!
//! ```text
//! New ──connect──► Connected          New, and the stale delay over: closed with 3502
//! Due ──ping sent──► Sent ──pong──► Due      Sent, and the pong timeout over: closed with 3012
//! ```

use uuid::Uuid;

use super::{Mail, Node};
use crate::hub::NO_SUB;
use crate::ids::ConnId;
use crate::protocol::{ConnectResult, Disconnect, Encoding, Expiry, Reply};
use crate::shard::{Cx, Millis};
use crate::ws::Opcode;

/// Told in the connect reply.
const VERSION: &str = concat!("corecast ", env!("CARGO_PKG_VERSION"));

pub(super) struct Session {
    /// The client's id; nil until connect.
    pub client: [u8; 16],
    /// Its first subscription; the others are linked behind.
    pub first_sub: u32,
    pub channels: u16,
    pub connected: bool,
    /// Pings are WebSocket frames, not messages.
    pub frame_pings: bool,
    /// A ping is out that was not answered.
    pinged: bool,
}

const _: () = assert!(size_of::<Session>() <= 32);

impl Session {
    fn new(frame_pings: bool) -> Self {
        let client = [0; 16];
        Self { client, first_sub: NO_SUB, channels: 0, connected: false, frame_pings, pinged: false }
    }
}

impl Node {
    pub(super) fn encoding(&self, _conn: ConnId) -> Encoding {
        Encoding::Json
    }

    pub(super) fn begin_session(&mut self, cx: &mut Cx<Mail>, conn: ConnId, frame_pings: bool) {
        let fresh = Session::new(frame_pings);
        match self.sessions.get_mut(conn.index()) {
            Some(session) => *session = fresh,
            None => {
                self.sessions.resize_with(conn.index(), || Session::new(false));
                self.sessions.push(fresh);
            }
        }
        let stale_at = cx.now() + millis(self.settings.stale_close_delay);
        cx.set_timer(conn, stale_at);
    }

    /// The first command. False where the connection ends.
    pub(super) fn connect(&mut self, cx: &mut Cx<Mail>, conn: ConnId, id: u32) -> bool {
        if self.session(conn).connected || !self.settings.insecure {
            self.close(cx, conn, Disconnect::BadRequest);
            return false;
        }
        let client = Uuid::new_v4();
        let interval = millis(self.settings.ping_interval);
        let session = self.session(conn);
        session.client = client.into_bytes();
        session.connected = true;
        let reported_ping_s = if session.frame_pings { 0 } else { (interval / 1000) as u32 };
        // The first ping comes in the second half of an interval, spread so that a storm of connects is no storm of pings.
        let spread = client.as_u64_pair().1 % (interval / 2).max(1);
        cx.set_timer(conn, cx.now() + interval - interval / 2 + spread);
        let mut text = Uuid::encode_buffer();
        let shard = if self.settings.tell_shard { format!("{{\"shard\":{}}}", cx.me()) } else { String::new() };
        let result = ConnectResult {
            client: client.hyphenated().encode_lower(&mut text),
            version: VERSION,
            expiry: Expiry(None),
            data: shard.as_bytes(),
            subs: &[],
            ping_s: reported_ping_s,
            pong: reported_ping_s > 0,
        };
        self.reply(cx, conn, id, &Reply::Connect(result));
        true
    }

    pub(super) fn reply(&self, cx: &mut Cx<Mail>, conn: ConnId, id: u32, reply: &Reply<'_>) {
        let encoding = self.encoding(conn);
        cx.reply_with(conn, Opcode::Text, |out| encoding.reply(out, id, reply));
    }

    pub(super) fn session_timer(&mut self, cx: &mut Cx<Mail>, conn: ConnId) {
        let timeout = millis(self.settings.pong_timeout);
        // While we are the ones not reading, silence proves nothing.
        if cx.is_stalled(conn) {
            return cx.set_timer(conn, cx.now() + timeout);
        }
        let ping = self.encoding(conn).ping();
        let session = &mut self.sessions[conn.index()];
        if !session.connected {
            return self.close(cx, conn, Disconnect::Stale);
        }
        if session.pinged {
            return self.close(cx, conn, Disconnect::NoPong);
        }
        session.pinged = true;
        if session.frame_pings {
            cx.reply(conn, Opcode::Ping, b"");
        } else {
            cx.reply(conn, Opcode::Text, ping);
        }
        cx.set_timer(conn, cx.now() + timeout);
    }

    /// The answer to a ping: exactly one per ping. False where none was asked for. The next ping is due an interval from
    /// now: set here, while the connection is at hand, and not by a second look at it later.
    pub(super) fn answered(&mut self, cx: &mut Cx<Mail>, conn: ConnId) -> bool {
        let asked = std::mem::replace(&mut self.session(conn).pinged, false);
        if asked {
            cx.set_timer(conn, cx.now() + millis(self.settings.ping_interval));
        }
        asked
    }

    /// Ends a gone connection's subscriptions, one step of the budget each.
    pub(super) fn leave_channels(&mut self, cx: &mut Cx<Mail>, conn: ConnId, budget: &mut u32) -> bool {
        let mut first = self.session(conn).first_sub;
        while first != NO_SUB && *budget > 0 {
            *budget -= 1;
            self.waiting.remove(&first);
            if let Some(left) = self.feeds.unsubscribe_first(&mut first) {
                self.tell_home_left(cx, &left);
            }
        }
        self.session(conn).first_sub = first;
        first == NO_SUB
    }
}

fn millis(duration: std::time::Duration) -> Millis {
    duration.as_millis() as Millis
}
