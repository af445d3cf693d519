//! A connection's state in the message protocol: what it is, when it must say something, when it ends.
//!
//! ```text
//! New ──connect, granted──► Connecting ──all its subscriptions live──► Connected
//!  └──connect, refused with an error──► Refused: nothing more is looked at, closed a little later
//! New or Connecting, and the stale delay over: closed with 3502
//! Connected: a ping due ──► sent ──pong──► due; sent, and the pong timeout over: closed with 3012
//! ```

use std::rc::Rc;

use uuid::Uuid;

use super::{Mail, Messaging};
use crate::engine::stats::Bound;
use crate::engine::{Context, Millis, Route};
use crate::ids::ConnId;
use crate::protocol::{Disconnect, Encoding, Reply};
use crate::pubsub::SubscriptionList;
use crate::ws::{Opcode, Refusal, Request};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    New,
    Connecting,
    Connected,
    Refused,
}

pub(crate) struct Session {
    /// The client's id; nil until connect.
    pub client: [u8; 16],
    /// Who it is; none for an anonymous one of whom nothing is known.
    pub identity: Option<Box<Identity>>,
    /// The next ping, or the end of the wait for its answer.
    ping_at: Millis,
    pub first_sub: SubscriptionList,
    pub channels: u16,
    /// Of them, those that wait for home.
    pub pending: u16,
    /// Other answers that homes owe to its commands.
    pub owed: u32,
    pub encoding: Encoding,
    pub phase: Phase,
    /// Pings are WebSocket frames, not messages.
    pub frame_pings: bool,
    /// A ping is out that was not answered.
    pinged: bool,
}

const _: () = assert!(size_of::<Session>() <= 48);

/// Who a connection is.
#[derive(Default)]
pub(crate) struct Identity {
    pub user: Rc<str>,
    pub info: Box<[u8]>,
    /// For the backend alone.
    pub meta: Box<[u8]>,
    pub headers: Headers,
    /// Seconds since 1970; 0 is never.
    pub expire_at: u64,
    /// The earliest end of one of its subscriptions, the same way.
    pub subs_expire_at: u64,
    /// Its neighbours among the user's connections.
    pub before: Option<u32>,
    pub after: Option<u32>,
    /// The user's home counts it.
    pub counted: bool,
    /// What it names itself by to the server API, where it is unidirectional.
    pub session: Box<str>,
}

pub(crate) type Headers = Option<Box<[(String, String)]>>;

/// What an upgrade request leaves for the connect.
#[derive(Default)]
pub(crate) struct Kept {
    pub headers: Headers,
    /// A connect request in the URL, decoded.
    pub connect: Option<Box<[u8]>>,
}

/// The routes of this app: an encoding, and whether pings are frames.
const FRAME_PINGS: u8 = 0x10;

impl Session {
    fn new(encoding: Encoding, frame_pings: bool) -> Self {
        Self {
            client: [0; 16],
            identity: None,
            ping_at: 0,
            first_sub: SubscriptionList::default(),
            channels: 0,
            pending: 0,
            owed: 0,
            encoding,
            phase: Phase::New,
            frame_pings,
            pinged: false,
        }
    }

    pub fn user(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.user)
    }

    pub fn is_uni(&self) -> bool {
        self.encoding == Encoding::UniJson
    }

    pub fn opcode(&self) -> Opcode {
        opcode(self.encoding)
    }
}

pub(crate) fn opcode(encoding: Encoding) -> Opcode {
    if encoding.is_text() { Opcode::Text } else { Opcode::Binary }
}

impl Messaging {
    pub(crate) fn judge_upgrade(&mut self, cx: &mut Context<Mail>, request: &Request<'_>, uni: bool) -> Route {
        if !self.settings.origins.allows(request.origin) {
            return refusal(403, b"this origin is not among client.allowed_origins\n");
        }
        if let Err(bound) = self.settings.shared.may_enter(&self.settings.client) {
            cx.reached_now(bound);
            return Route::Refuse(match bound {
                Bound::ConnectionRate => Refusal::TooManyNow { retry_after_s: 1 },
                _ => Refusal::Unavailable { retry_after_s: 1 },
            });
        }
        self.upgrade = Kept { headers: self.settings.keep_headers(request), connect: None };
        if uni {
            let connect = query(request.query, "cf_connect").map(decoded);
            if connect.as_deref().is_some_and(|bytes| Encoding::connect_request(bytes).is_err()) {
                return refusal(400, b"cf_connect is no connect request\n");
            }
            self.upgrade.connect = connect;
            let route = Encoding::UniJson.index();
            return Route::Upgrade { protocol: None, route };
        }
        let mut offered = request.upgrade.iter().flat_map(|upgrade| upgrade.protocols()).peekable();
        let offers = offered.peek().is_some();
        let known = [("centrifuge-json", Encoding::Json), ("centrifuge-protobuf", Encoding::Protobuf)];
        let chosen = offered.find_map(|name| known.iter().find(|(known, _)| *known == name));
        let asked = query(request.query, "cf_protocol").or_else(|| query(request.query, "format"));
        let encoding = match (chosen, asked) {
            (Some((_, encoding)), _) => *encoding,
            (None, _) if offers => {
                return refusal(400, b"the subprotocols are centrifuge-json and centrifuge-protobuf\n");
            }
            (None, Some("protobuf")) => Encoding::Protobuf,
            (None, _) => Encoding::Json,
        };
        let frame_pings = query(request.query, "cf_ws_frame_ping_pong") == Some("true");
        let route = encoding.index() | if frame_pings { FRAME_PINGS } else { 0 };
        Route::Upgrade { protocol: chosen.map(|(name, _)| *name), route }
    }

    pub(crate) fn begin_session(&mut self, cx: &mut Context<Mail>, conn: ConnId, route: u8) {
        self.settings.shared.entered();
        let encoding = Encoding::from_index(route & !FRAME_PINGS).unwrap_or(Encoding::Json);
        let fresh = Session::new(encoding, route & FRAME_PINGS != 0);
        match self.sessions.get_mut(conn.index()) {
            Some(session) => *session = fresh,
            None => {
                self.sessions.resize_with(conn.index(), || Session::new(Encoding::Json, false));
                self.sessions.push(fresh);
            }
        }
        if let Some(full) = self.command_rates.get_mut(conn.index()) {
            *full = crate::engine::token_bucket::TokenBucket::FULL;
        }
        let stale_at = cx.now() + millis(self.settings.client.stale_close_delay);
        cx.set_timer(conn, stale_at);
        let kept = std::mem::take(&mut self.upgrade);
        let connect = kept.connect.clone();
        if kept.headers.is_some() {
            self.kept.insert(conn.slot, kept);
        }
        if let Some(request) = connect {
            self.uni_connect(cx, conn, &request);
        }
    }

    pub(crate) fn reply(&self, cx: &mut Context<Mail>, conn: ConnId, id: u32, reply: &Reply<'_>) {
        let session = &self.sessions[conn.index()];
        let encoding = session.encoding;
        if encoding != Encoding::UniJson {
            cx.reply_with(conn, session.opcode(), |out| encoding.reply(out, id, reply));
        }
    }

    /// What is no answer.
    pub(crate) fn push(&self, cx: &mut Context<Mail>, conn: ConnId, write: impl FnOnce(Encoding, &mut Vec<u8>)) {
        let session = &self.sessions[conn.index()];
        cx.reply_with(conn, session.opcode(), |out| write(session.encoding, out));
    }

    /// Connected: the first ping comes in the second half of an interval, spread so that a storm of connects is no storm of pings.
    pub(crate) fn begin_pings(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let interval = millis(self.settings.client.ping_interval);
        let session = self.session(conn);
        let spread = Uuid::from_bytes(session.client).as_u64_pair().1 % (interval / 2).max(1);
        session.ping_at = cx.now() + interval - interval / 2 + spread;
        self.arm(cx, conn);
    }

    /// Sets the timer for whatever comes first.
    pub(crate) fn arm(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let session = &self.sessions[conn.index()];
        let mut at = session.ping_at;
        if let Some(identity) = &session.identity {
            let ends = [self.connection_ends(identity), self.subscription_ends(identity)];
            at = ends
                .into_iter()
                .flatten()
                .fold(at, |at, end_s| at.min((end_s * 1000).saturating_sub(self.began_unix_ms).max(cx.now() + 1)));
        }
        cx.set_timer(conn, at);
    }

    pub(crate) fn session_timer(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let timeout = millis(self.settings.client.pong_timeout);
        let session = &mut self.sessions[conn.index()];
        match session.phase {
            Phase::Connected => {}
            Phase::Refused => return self.close(cx, conn, Disconnect::ConnectionClosed),
            Phase::New | Phase::Connecting => return self.close(cx, conn, Disconnect::Stale),
        }
        if session.identity.is_some() && !self.check_expiry(cx, conn) {
            return;
        }
        let stalled = cx.is_stalled(conn);
        let session = &mut self.sessions[conn.index()];
        if session.ping_at > cx.now() {
            return self.arm(cx, conn);
        }
        if session.pinged {
            // While we are the ones not reading, silence proves nothing.
            if stalled {
                session.ping_at = cx.now() + timeout;
                return self.arm(cx, conn);
            }
            return self.close(cx, conn, Disconnect::NoPong);
        }
        let answers = timeout > 0;
        session.pinged = answers;
        session.ping_at = cx.now() + if answers { timeout } else { millis(self.settings.client.ping_interval) };
        // A unidirectional client never writes, but its WebSocket answers pings by itself.
        if session.frame_pings || session.is_uni() {
            cx.reply(conn, Opcode::Ping, b"");
        }
        if !session.frame_pings {
            cx.reply(conn, session.opcode(), session.encoding.ping());
        }
        self.arm(cx, conn);
    }

    /// The answer to a ping: exactly one per ping. False where none was asked for. The next ping is due an interval from
    /// now: set here, while the connection is at hand, and not by a second look at it later.
    pub(crate) fn answered(&mut self, cx: &mut Context<Mail>, conn: ConnId) -> bool {
        let next = cx.now() + millis(self.settings.client.ping_interval);
        let session = self.session(conn);
        let asked = std::mem::replace(&mut session.pinged, false);
        if asked {
            session.ping_at = next;
            self.arm(cx, conn);
        }
        asked
    }

    /// Ends a gone connection's subscriptions, one step of the budget each, then forgets who it was.
    pub(crate) fn leave_channels(&mut self, cx: &mut Context<Mail>, conn: ConnId, budget: &mut u32) -> bool {
        while let Some(sub) = self.session(conn).first_sub.first()
            && *budget > 0
        {
            *budget -= 1;
            self.end_subscription(cx, conn, sub);
        }
        if !self.session(conn).first_sub.is_empty() {
            return false;
        }
        self.connecting.remove(&conn.slot);
        self.ending.remove(&conn.slot);
        self.kept.remove(&conn.slot);
        self.forget_user(cx, conn);
        true
    }
}

fn refusal(status: u16, body: &'static [u8]) -> Route {
    Route::Respond { status, content_type: "text/plain; charset=utf-8", body }
}

/// The value of a query parameter, as it stands.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// RFC 3986, section 2.1, and the `+` of forms.
fn decoded(value: &str) -> Box<[u8]> {
    let value: Vec<u8> = value.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_encoding::percent_decode(&value).collect()
}

pub(crate) fn millis(duration: std::time::Duration) -> Millis {
    duration.as_millis() as Millis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        assert_eq!(query("a=1&cf_protocol=protobuf", "cf_protocol"), Some("protobuf"));
        assert_eq!(query("xcf_protocol=protobuf", "cf_protocol"), None);
        assert_eq!(query("", "a"), None);
    }

    #[test]
    fn a_connect_request_in_the_url_is_decoded() {
        assert_eq!(&*decoded("%7B%22token%22:+%22a%22%7D"), br#"{"token": "a"}"#);
    }
}
