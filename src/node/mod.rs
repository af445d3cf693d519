//! The message server: the one joint of dialect and hub, as an `App` on the engine.
//!
//! - `session`  a connection's state: connect, pings, what it subscribes to
//! - `commands` what clients ask, one after the other
//! - `channels` what shards tell each other: the home's side and the subscribers'
//! - `mail`     the messages between shards

pub mod ask;
mod channels;
mod commands;
mod mail;
mod session;

pub use mail::Mail;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Batch;
use crate::counters::{Closed, Snapshot};
use crate::hub::{Feeds, Home, Homes, Out, Position, Turn};
use crate::ids::{ConnId, ShardId};
use crate::outbound::Cast;
use crate::protocol::Disconnect;
use crate::shard::{App, Cx, Farewell, Flow, Message, Route};
use crate::ws::Request;
use session::Session;

/// What the operator decided about the message protocol.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everybody may connect without a token.
    pub insecure: bool,
    pub allow_subscribe: bool,
    pub allow_publish: bool,
    /// Names with a namespace are unknown unless everything is open.
    pub any_namespace: bool,
    /// The connect reply tells the shard.
    pub tell_shard: bool,
    /// Patterns of whole origins in which `*` stands for any text. Empty: only requests without an Origin pass.
    pub allowed_origins: Vec<String>,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub stale_close_delay: Duration,
    pub channels_max: usize,
    pub channel_bytes_max: usize,
    /// Publications kept per channel to bring a lagging shard up to date.
    pub history_max: usize,
}

/// What the control thread asks of a node.
pub enum Ask {
    /// Publishes to a channel of which this shard is home. The data is valid JSON.
    Publish { channel: Box<str>, data: Box<str>, answer: Box<dyn FnOnce(Option<Position>) + Send> },
}

/// The message server's part on one shard.
pub struct Node {
    settings: Arc<Settings>,
    homes: Homes,
    home: Home,
    feeds: Feeds,
    /// By slot.
    sessions: Vec<Session>,
    /// Subscriptions that wait for home's answer, and the commands that wait for them.
    waiting: HashMap<u32, commands::Waiting>,
    /// Subscribe requests that each home has not answered.
    requests: Vec<u32>,
    /// A publication's frame, encoded once.
    frame: Vec<u8>,
}

/// The endpoint of the bidirectional protocol.
pub const PATH: &str = "/connection/websocket";
/// The routes of this app.
const ROUTE_PINGS: u8 = 0;
const ROUTE_FRAME_PINGS: u8 = 1;

impl Node {
    pub fn new(settings: Arc<Settings>, homes: Homes, shards: usize) -> Self {
        let epoch = uuid::Uuid::new_v4().as_u64_pair().0 as u32;
        Self {
            home: Home::new(epoch, settings.history_max),
            settings,
            homes,
            feeds: Feeds::default(),
            sessions: Vec::new(),
            waiting: HashMap::new(),
            requests: vec![0; shards],
            frame: Vec::new(),
        }
    }

    fn session(&mut self, conn: ConnId) -> &mut Session {
        &mut self.sessions[conn.index()]
    }

    fn close(&self, cx: &mut Cx<Mail>, conn: ConnId, disconnect: Disconnect) {
        cx.close(conn, disconnect.code(), disconnect.reason());
    }

    /// Where a channel lives.
    fn home_of(&self, channel: &str) -> ShardId {
        self.homes.of(channel)
    }

    fn judge_upgrade(&self, request: &Request<'_>) -> Route {
        if let Some(origin) = request.origin
            && !self.settings.allowed_origins.iter().any(|pattern| matches(pattern, origin))
        {
            return refusal(403, b"this origin is not among client.allowed_origins\n");
        }
        let mut offered = request.upgrade.iter().flat_map(|upgrade| upgrade.protocols()).peekable();
        let offers = offered.peek().is_some();
        let protocol = offered.find(|&name| name == "centrifuge-json").map(|_| "centrifuge-json");
        let asked = query(request.query, "cf_protocol").or_else(|| query(request.query, "format"));
        if asked == Some("protobuf") || offers && protocol.is_none() {
            return refusal(400, b"this server speaks the JSON protocol only (centrifuge-json)\n");
        }
        let frame_pings = query(request.query, "cf_ws_frame_ping_pong") == Some("true");
        Route::Upgrade { protocol, route: if frame_pings { ROUTE_FRAME_PINGS } else { ROUTE_PINGS } }
    }
}

fn refusal(status: u16, body: &'static [u8]) -> Route {
    Route::Respond { status, content_type: "text/plain; charset=utf-8", body }
}

/// The value of a query parameter, as it stands.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// True where `pattern`, in which `*` stands for any text, describes all of `text`; letters' case is ignored.
fn matches(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| go(rest, &text[skip..])),
            Some((byte, rest)) => {
                text.split_first().is_some_and(|(t, after)| t.eq_ignore_ascii_case(byte) && go(rest, after))
            }
        }
    }
    // More than a few wildcards make the search long; no origin needs them.
    pattern.bytes().filter(|&byte| byte == b'*').count() <= 4 && go(pattern.as_bytes(), text.as_bytes())
}

impl App for Node {
    type Mail = Mail;
    type Request = Ask;

    fn route(&mut self, _cx: &mut Cx<Mail>, request: &Request<'_>) -> Route {
        match request.path {
            PATH => self.judge_upgrade(request),
            "/health" => Route::Respond { status: 200, content_type: "application/json", body: b"{}" },
            _ => Route::Refuse(crate::ws::Refusal::NotFound),
        }
    }

    fn open(&mut self, cx: &mut Cx<Mail>, conn: ConnId, route: u8) {
        self.begin_session(cx, conn, route == ROUTE_FRAME_PINGS);
    }

    fn message(&mut self, cx: &mut Cx<Mail>, conn: ConnId, message: Message<'_>) -> Flow {
        self.commands(cx, conn, &message)
    }

    fn pong(&mut self, cx: &mut Cx<Mail>, conn: ConnId) {
        // RFC 6455, section 5.5.3: a pong frame that nobody asked for is no fault.
        if self.session(conn).frame_pings {
            self.answered(cx, conn);
        }
    }

    fn timer(&mut self, cx: &mut Cx<Mail>, conn: ConnId) {
        self.session_timer(cx, conn);
    }

    fn closed(&mut self, cx: &mut Cx<Mail>, conn: ConnId, why: Closed) {
        if matches!(why, Closed::ByApp | Closed::Shutdown) {
            for sub in self.feeds.of_conn(self.sessions[conn.index()].first_sub) {
                cx.reply_frames(conn, self.feeds.share(sub));
            }
        }
    }

    fn leave(&mut self, cx: &mut Cx<Mail>, conn: ConnId, budget: &mut u32) -> bool {
        self.leave_channels(cx, conn, budget)
    }

    fn mail(&mut self, cx: &mut Cx<Mail>, batch: &mut Batch<Mail>, budget: &mut u32) {
        let from = batch.from();
        while *budget > 0
            && let Some(mail) = batch.next()
        {
            *budget -= 1;
            self.receive(cx, from, mail, batch);
        }
    }

    fn request(&mut self, cx: &mut Cx<Mail>, request: Ask) {
        match request {
            Ask::Publish { channel, data, answer } => answer(self.publish_at_home(cx, &channel, data.as_bytes(), None)),
        }
    }

    fn before_dispatch(&mut self, cx: &mut Cx<Mail>) {
        if self.home.is_lagging() {
            self.repair(cx);
        }
    }

    fn waits_for_room(&self) -> bool {
        self.home.is_lagging()
    }

    fn turn_end(&mut self, cx: &mut Cx<Mail>) {
        self.feeds.end_turn(|out| match out {
            Out::One(share) => cx.reply_frames(share.conn, share.frames),
            Out::All(Turn { feed, members, frames, messages }) => {
                cx.cast(Cast { members, frames, owner: feed, messages })
            }
        });
    }

    fn thaw(&mut self, _cx: &mut Cx<Mail>) {
        self.feeds.thaw();
    }

    fn turn_bytes(&self) -> usize {
        self.feeds.turn_bytes()
    }

    fn farewell(&self, _conn: ConnId, why: Farewell) -> (u16, &'static str) {
        let disconnect = match why {
            Farewell::Slow => Disconnect::Slow,
            Farewell::Shutdown => Disconnect::Shutdown,
        };
        (disconnect.code(), disconnect.reason())
    }

    fn gauges(&self, snapshot: &mut Snapshot) {
        snapshot.subscriptions = self.feeds.subscriptions() as u64;
        snapshot.channels = self.home.channels() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_by_pattern() {
        for (pattern, origin, expected) in [
            ("*", "https://anything.example", true),
            ("https://*.example.com", "https://chat.Example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://example.com.evil.net", false),
            ("*example*", "https://an.example.org:8080", true),
        ] {
            assert_eq!(matches(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        assert_eq!(query("a=1&cf_protocol=protobuf", "cf_protocol"), Some("protobuf"));
        assert_eq!(query("xcf_protocol=protobuf", "cf_protocol"), None);
        assert_eq!(query("", "a"), None);
    }
}
