//! The message server's part on a shard: the one joint of the dialect, the channels and the engine.
//!
//! - `session`   a connection's state, its pings and its expiry
//! - `connect`   who may connect, and what its connection begins with
//! - `commands`  what clients ask, one after the other · `publish`, `queries`, `renew` what each means
//! - `subscribe` who may have a subscription · `access` by what rules · `live` its life · `outcome` what is told of it
//! - `home`      a home's side of what shards tell each other · `forms` its publications · `arrive` the subscribers' side
//! - `users`     whose connections these are · `calls` questions to the backend · `asks` those of the control thread
//! - `twin`      the other server while one takes over from the other
//! - `mail`      the messages between shards · `packed` the pieces of bytes in them
//! - `settings`  what the operator decided

pub(crate) mod access;
pub mod api_call;
pub(crate) mod arena;
pub(crate) mod commands;
pub(crate) mod connect;
pub(crate) mod control;
pub mod control_request;
pub(crate) mod encodings;
pub(crate) mod handover_peer;
pub(crate) mod home_shard;
pub(crate) mod mail;
pub(crate) mod proxy_calls;
pub(crate) mod publish;
pub(crate) mod queries;
pub(crate) mod receive;
pub(crate) mod refresh;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod subscribe;
pub(crate) mod subscribe_reply;
pub(crate) mod subscription;
pub(crate) mod users;

pub use api_call::{ApiCall, ApiReply};
pub use control_request::Ask;
pub use handover_peer::{Forwarded, HandoverPeer};
pub use mail::Mail;
pub use settings::{Settings, Shared};

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::engine::mailbox::Batch;
use crate::engine::outbound::{Broadcast, Owner};
use crate::engine::stats::{Closed, Snapshot};
use crate::engine::{App, Context, EngineClose, Flow, Message, Millis, Route};
use crate::ids::{ConnId, GroupId, ShardId, SubscriptionKey};
use crate::protocol::{Disconnect, Encoding, Push};
use crate::pubsub::{HomeChannels, PendingBroadcast, Placement, Subscribers, TurnOutput};
use crate::slow_policy::SlowConsumerPolicy;
use crate::ws::Request;
use session::{Phase, Session};
use subscription::Detail;

/// Signatures of public keys that a shard checks in a turn, some 100 µs each. Tokens behind them wait for the next turn.
const COSTLY_TOKENS_PER_TURN: u32 = 16;

/// The message server's part on one shard.
pub struct Messaging {
    settings: Arc<Settings>,
    /// The zero of the shard's clock by the wall clock, which may be set meanwhile.
    began_unix_ms: u64,
    homes: Placement,
    home: HomeChannels,
    feeds: Subscribers<Detail>,
    /// By slot.
    sessions: Vec<Session>,
    /// Subscriptions that wait for home's answer, and the commands that wait for them.
    waiting: HashMap<SubscriptionKey, crate::messaging::subscription::Waiting>,
    /// By slot: connects that are under way. By serial: commands that wait for the backend.
    connecting: HashMap<u32, connect::Connecting>,
    calling: HashMap<u32, crate::messaging::proxy_calls::Calling>,
    /// By slot: connections that end when the commands before the fatal one are answered.
    ending: HashMap<u32, Disconnect>,
    calls: u32,
    /// Of the upgrade that is being judged, then by slot until the connect: what the backend may see, and a connect request
    /// that came in the URL.
    upgrade: session::Kept,
    kept: HashMap<u32, session::Kept>,
    users: users::Users,
    /// Requests that each home has not answered.
    requests: Vec<u32>,
    /// Costly signatures that may still be checked in this turn, whether somebody found none left, and whether the next turn
    /// comes at once for that.
    costly_left: u32,
    costly_waits: bool,
    costly_next: bool,
    /// Recoveries that wait for a repair, with whom they are for.
    held_back: VecDeque<(ShardId, Box<str>, mail::Missed)>,
    /// Presence replies that are being made, a slice at a time.
    rosters: VecDeque<queries::Roster>,
    asked_rolls: VecDeque<crate::messaging::control::AskedRoll>,
    scratch: crate::messaging::encodings::Frames,
    keys: settings::Keys,
    /// By slot, as far as commands are limited: of those that each may send.
    command_rates: Vec<crate::engine::token_bucket::TokenBucket>,
    /// Set while another server takes over from this one, or this one from another.
    twin: Option<Arc<dyn HandoverPeer>>,
    /// Load balancers may send clients.
    ready: bool,
}

/// The endpoint of the bidirectional protocol.
pub const PATH: &str = "/connection/websocket";
/// The endpoint of the unidirectional one.
pub const UNI_PATH: &str = "/connection/uni_websocket";

/// Steps of expiry in a turn.
const EXPIRY_STEPS: u32 = 256;

/// A feed as the owner of what waits for a peer.
fn owner(feed: GroupId, policy: SlowConsumerPolicy) -> Owner {
    Owner { id: feed.pack(), policy }
}

impl Messaging {
    pub fn new(settings: Arc<Settings>, homes: Placement, shards: usize) -> Self {
        let epoch = uuid::Uuid::new_v4().as_u64_pair().0 as u32;
        Self {
            twin: settings.twin.clone(),
            home: HomeChannels::new(epoch, settings.history_bytes_max / shards.max(1)),
            began_unix_ms: settings.began_unix_ms,
            settings,
            homes,
            feeds: Subscribers::default(),
            sessions: Vec::new(),
            waiting: HashMap::new(),
            connecting: HashMap::new(),
            calling: HashMap::new(),
            ending: HashMap::new(),
            calls: 0,
            upgrade: session::Kept::default(),
            kept: HashMap::new(),
            users: users::Users::default(),
            requests: vec![0; shards],
            costly_left: COSTLY_TOKENS_PER_TURN,
            costly_waits: false,
            costly_next: false,
            held_back: VecDeque::new(),
            rosters: VecDeque::new(),
            asked_rolls: VecDeque::new(),
            scratch: crate::messaging::encodings::Frames::default(),
            keys: settings::Keys::default(),
            command_rates: Vec::new(),
            ready: true,
        }
    }

    fn session(&mut self, conn: ConnId) -> &mut Session {
        &mut self.sessions[conn.index()]
    }

    fn close(&mut self, cx: &mut Context<Mail>, conn: ConnId, disconnect: Disconnect) {
        self.close_with(cx, conn, disconnect.code(), disconnect.reason().into());
    }

    /// Ends a connection. A unidirectional client is told in a push what a close frame tells the others.
    fn close_with(&mut self, cx: &mut Context<Mail>, conn: ConnId, code: u16, reason: std::borrow::Cow<'static, str>) {
        let told = !self.settings.uni_websocket.disable_disconnect_push;
        let session = self.session(conn);
        if told && session.encoding == Encoding::UniJson && session.phase != Phase::New {
            // Whether to come again the code says, as elsewhere.
            let push = Push::Disconnect { code: u32::from(code), reason: &reason, reconnect: false };
            self.push(cx, conn, |encoding, out| encoding.push(out, "", &push));
        }
        cx.close(conn, code, reason);
    }

    /// Where a channel or a user lives.
    fn home_of(&self, name: &str) -> ShardId {
        self.homes.shard_of(name)
    }

    /// Seconds since 1970.
    fn unix_s(&self, cx: &Context<Mail>) -> u64 {
        (self.began_unix_ms + cx.now()) / 1000
    }
}

impl App for Messaging {
    type Mail = Mail;
    type Request = Ask;

    fn route(&mut self, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
        match request.path {
            PATH => self.judge_upgrade(cx, request, false),
            UNI_PATH if self.settings.uni_websocket.enabled => self.judge_upgrade(cx, request, true),
            "/health" => {
                let status = if self.ready { 200 } else { 503 };
                Route::Respond { status, content_type: "application/json", body: b"{}" }
            }
            _ => Route::Refuse(crate::ws::Refusal::NotFound),
        }
    }

    fn open(&mut self, cx: &mut Context<Mail>, conn: ConnId, route: u8) {
        self.begin_session(cx, conn, route);
    }

    fn message(&mut self, cx: &mut Context<Mail>, conn: ConnId, message: Message<'_>) -> Flow {
        self.commands(cx, conn, &message)
    }

    fn pong(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        // RFC 6455, section 5.5.3: a pong frame that nobody asked for is no fault.
        let session = self.session(conn);
        if session.frame_pings || session.is_uni() {
            self.answered(cx, conn);
        }
    }

    fn timer(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        self.session_timer(cx, conn);
    }

    fn closed(&mut self, cx: &mut Context<Mail>, conn: ConnId, why: Closed) {
        self.settings.shared.left();
        // What comes before the connect reply is not for the client, whatever was held back up to now.
        if self.session(conn).phase == Phase::Connecting {
            cx.drop_held(conn);
        }
        let session = &self.sessions[conn.index()];
        if matches!(why, Closed::ByApp | Closed::Shutdown) && session.phase == Phase::Connected {
            for sub in self.feeds.of_connection(session.first_sub) {
                self.give_share(cx, conn, sub);
            }
            // One's share may be too much for another's, and nobody is told of that any more.
            for sub in self.feeds.of_connection(session.first_sub) {
                self.cut_behind_a_gap(cx, conn, sub);
            }
        }
    }

    fn leave(&mut self, cx: &mut Context<Mail>, conn: ConnId, budget: &mut u32) -> bool {
        self.leave_channels(cx, conn, budget)
    }

    fn mail(&mut self, cx: &mut Context<Mail>, batch: &mut Batch<Mail>, budget: &mut u32) {
        let from = batch.from();
        while *budget > 0
            && let Some(mail) = batch.next()
        {
            *budget -= 1;
            self.receive(cx, from, mail, batch);
        }
    }

    fn request(&mut self, cx: &mut Context<Mail>, request: Ask) {
        self.asked(cx, request);
    }

    fn before_dispatch(&mut self, cx: &mut Context<Mail>) {
        if self.home.has_lagging_shards() {
            self.repair(cx);
        }
        if !self.held_back.is_empty() {
            self.recover_held_back(cx);
        }
    }

    fn waits_for_room(&self) -> bool {
        self.home.has_lagging_shards()
    }

    fn sweep(&mut self, cx: &mut Context<Mail>) {
        self.costly_left = COSTLY_TOKENS_PER_TURN;
        self.costly_next = std::mem::take(&mut self.costly_waits);
        if self.home.next_expiry().is_some_and(|at| at <= cx.now()) {
            self.home.expire(cx.now(), &mut { EXPIRY_STEPS });
        }
        if !self.rosters.is_empty() {
            self.call_rolls(cx);
        }
        if !self.asked_rolls.is_empty() {
            self.call_asked_rolls();
        }
    }

    fn next_sweep(&self) -> Option<Millis> {
        let rolls = !self.rosters.is_empty() || !self.asked_rolls.is_empty();
        if !rolls && !self.costly_next { self.home.next_expiry() } else { Some(0) }
    }

    fn turn_end(&mut self, cx: &mut Context<Mail>) {
        self.feeds.end_turn(|out| match out {
            TurnOutput::Unicast(one) => {
                cx.deliver(one.conn, owner(one.group, one.slow_policy), one.share.frames, one.share.latest);
            }
            TurnOutput::Broadcast(PendingBroadcast { group, slow_policy, member_slots, frames, latest, messages }) => {
                let (members, owner) = (member_slots, owner(group, slow_policy));
                cx.broadcast(Broadcast { members, frames, owner, latest, messages })
            }
        });
    }

    fn end_flush(&mut self, _cx: &mut Context<Mail>) {
        self.feeds.end_flush();
    }

    fn turn_bytes(&self) -> usize {
        self.feeds.turn_bytes()
    }

    fn dropped(&mut self, cx: &mut Context<Mail>, conn: ConnId, owner: Owner, _messages: u64) {
        self.fell_behind(cx, conn, owner);
    }

    fn close_reason(&self, _conn: ConnId, why: EngineClose) -> (u16, &'static str) {
        let disconnect = match why {
            EngineClose::Slow => Disconnect::Slow,
            EngineClose::Shutdown => Disconnect::Shutdown,
        };
        (disconnect.code(), disconnect.reason())
    }

    fn gauges(&self, snapshot: &mut Snapshot) {
        snapshot.subscriptions = self.feeds.len() as u64;
        snapshot.channels = self.home.len() as u64;
        snapshot.users = self.users.len() as u64;
        snapshot.history_bytes = self.home.memory().history as u64;
        snapshot.history_evicted = self.home.evictions();
    }
}
