//! The state of messaging on one shard, and what every part of it needs: lookups, replies and closes.
//!
//! `Messaging` is made of components with their own state and tests; the functions of the other files connect them. A
//! function for one client command takes a `CommandContext`, the others take `&mut Messaging` and the engine's `Context`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::encodings::EncodedFrames;
use super::handover_peer::{HandoverRest, PeerState};
use super::home_broker::{BrokerLinks, HomeBroker};
use super::home_requests::HomeRequests;
use super::large_replies::{LargeReplies, PaidRecovery, SMALL_REPLY_BYTES_MAX};
use super::mail::Mail;
use super::pending::PendingConnections;
use super::presence_snapshots::PresenceSnapshots;
use super::proxy_calls::ProxyCalls;
use super::rejections::{self, Action, Fault};
use super::session::{Phase, Session, Sessions, Transport};
use super::settings::Settings;
use super::token_checks::TokenChecks;
use super::users::Users;
use crate::backend::call::{Answer, Fetched};
use crate::engine::outbound::Owner;
use crate::engine::{Context, Response};
use crate::ids::{ConnId, GroupId, ShardId, SubscriptionKey};
use crate::protocol::{Command, Disconnect, Encoding, ErrorCode, Filter, Push, Reply};
use crate::pubsub::{HomeChannels, Placement, Subscribers};
use crate::slow_policy::SlowConsumerPolicy;

/// What is kept for a subscription that is more than ordinary.
#[derive(Default)]
pub(crate) struct SubscriptionDetail {
    /// The client's info in this channel, in the form of `kept_info`.
    pub info: Box<[u8]>,
    /// Seconds since 1970; 0 is never.
    pub expire_at: u64,
    pub filter: Option<Filter>,
}

/// Messaging on one shard.
pub struct Messaging {
    pub(super) settings: Arc<Settings>,
    /// The zero of the shard's clock in wall-clock time, which may be set while the server runs.
    pub(super) clock_zero_unix_ms: u64,
    pub(super) placement: Placement,
    /// The channels whose home is this shard.
    pub(super) home_channels: HomeChannels,
    /// Brokers that keep publications or presence for several servers.
    pub(super) broker: Option<Box<HomeBroker>>,
    /// The subscriptions of this shard's connections.
    pub(super) subscribers: Subscribers<SubscriptionDetail>,
    pub(super) sessions: Sessions,
    pub(super) pending: PendingConnections,
    pub(super) proxy_calls: ProxyCalls<OnAnswer>,
    pub(super) home_requests: HomeRequests,
    pub(super) token_checks: TokenChecks,
    pub(super) users: Users,
    /// At home: recoveries for shards to which skipped publications must be sent again first.
    pub(super) delayed_recoveries: VecDeque<(ShardId, Box<str>, PaidRecovery)>,
    pub(super) large_replies: LargeReplies,
    pub(super) presence_snapshots: PresenceSnapshots,
    /// Buffers for the publication that is being delivered.
    pub(super) frames: EncodedFrames,
    /// The other process while one takes over from the other.
    pub(super) handover_peer: Option<Box<PeerState>>,
    /// What is left to do after a change of that process; none after the last of it.
    pub(super) handover_rest: Option<Box<HandoverRest>>,
    /// `/health` at the clients' address: load balancers may send clients.
    pub(super) is_ready: bool,
}

/// How far a command got, which says what happens to the commands behind it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It is answered, or its reply is on the way and nothing needs to wait for it.
    Done,
    /// There is no room for it now: it is not taken, and offered again.
    NoRoom,
    /// It is taken, and nothing behind it is read until it is answered.
    Pending,
    /// It is taken, and its reply may be large: nothing behind it is read until the reply has left.
    Replying,
    /// It is not taken: it is offered again when the subscribe before it is answered, or the signature of its token is due.
    Deferred,
    /// The connection ends: commands behind it are ignored.
    Ended,
}

/// What to do with the backend's answer to a command.
pub(crate) type OnAnswer = fn(&mut CommandContext<'_>, Answer) -> Progress;

/// Whether the key sets were fetched for the token of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyFetch {
    NotRequested,
    Done(Fetched),
    Failed,
}

/// One command of one connection, with all that it works on.
pub(crate) struct CommandContext<'a> {
    pub state: &'a mut Messaging,
    pub engine: &'a mut Context<Mail>,
    pub conn: ConnId,
    /// The command's id; 0 if the client expects no reply, or the server asks on its own.
    pub id: u32,
    /// The command as it was received; for a question of the server, what it is about.
    pub raw: &'a [u8],
    /// Whether the key sets were fetched for this command.
    pub keys: KeyFetch,
    /// Why it is about to be rejected, where the error or the close code does not say it all.
    pub fault: Option<Fault>,
}

impl<'a> CommandContext<'a> {
    pub(super) fn new(
        state: &'a mut Messaging,
        engine: &'a mut Context<Mail>,
        conn: ConnId,
        id: u32,
        raw: &'a [u8],
    ) -> Self {
        Self { state, engine, conn, id, raw, keys: KeyFetch::NotRequested, fault: None }
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.state.sessions[self.conn]
    }

    pub(super) fn unix_s(&self) -> u64 {
        self.state.unix_s(self.engine)
    }

    pub(super) fn reply(&mut self, reply: &Reply<'_>) -> Progress {
        self.state.reply(self.engine, self.conn, self.id, reply);
        Progress::Done
    }

    pub(super) fn reject(&mut self, error: ErrorCode) -> Progress {
        self.report(rejections::of_error(error), Action::Error(error.code()));
        self.reply(&error.into())
    }

    /// Ends the connection, behind the replies to the commands before this one.
    pub(super) fn end(&mut self, disconnect: Disconnect) -> Progress {
        self.report(rejections::of_disconnect(disconnect), Action::Close(disconnect.code()));
        self.state.end(self.engine, self.conn, disconnect);
        Progress::Ended
    }

    /// Decodes the command again after a wait.
    pub(super) fn decode(&self) -> Option<Command<'a>> {
        self.state.sessions[self.conn].encoding.command(self.raw)
    }

    /// Counts a rejection, and logs it now and then. A fault that was left in the command comes before `general`.
    pub(super) fn report(&mut self, general: Option<Fault>, action: Action) {
        let Some(fault) = self.fault.take().or(general) else { return };
        let session = &self.state.sessions[self.conn];
        self.engine.rejected(fault.why, self.conn, || rejections::describe(session, self.raw, fault, action));
    }
}

/// A group as the owner of frames that wait for a peer.
pub(crate) fn owner(group: GroupId, policy: SlowConsumerPolicy) -> Owner {
    Owner { id: group.pack(), policy }
}

impl Messaging {
    pub fn new(settings: Arc<Settings>, placement: Placement, shards: usize) -> Self {
        let epoch = uuid::Uuid::new_v4().as_u64_pair().0 as u32;
        Self {
            handover_peer: settings.handover_peer.clone().map(|link| Box::new(PeerState::new(link))),
            handover_rest: None,
            home_channels: HomeChannels::with_key(epoch, settings.history_bytes_max / shards.max(1), placement.key()),
            clock_zero_unix_ms: settings.clock_zero_unix_ms,
            settings,
            placement,
            broker: None,
            subscribers: Subscribers::default(),
            sessions: Sessions::default(),
            pending: PendingConnections::default(),
            proxy_calls: ProxyCalls::default(),
            home_requests: HomeRequests::new(shards),
            token_checks: TokenChecks::default(),
            users: Users::default(),
            delayed_recoveries: VecDeque::new(),
            large_replies: LargeReplies::default(),
            presence_snapshots: PresenceSnapshots::default(),
            frames: EncodedFrames::default(),
            is_ready: true,
        }
    }

    /// The same with brokers, for the shard with this number.
    pub fn with_brokers(mut self, links: BrokerLinks, me: ShardId) -> Self {
        self.broker = Some(Box::new(HomeBroker::new(links, me)));
        self
    }

    /// Whether a broker orders the publications of every channel.
    pub(super) fn has_broker(&self) -> bool {
        self.broker.as_ref().is_some_and(|broker| broker.links.publications.is_some())
    }

    /// Whether a broker, or the log, orders the publications of a channel.
    #[inline]
    pub(super) fn is_brokered(&self, channel: &str) -> bool {
        self.broker.as_ref().is_some_and(|broker| {
            let BrokerLinks { publications, log, .. } = &broker.links;
            publications.is_some() || (log.is_some() && self.settings.is_durable(channel))
        })
    }

    /// Whether the log has the channel.
    pub(super) fn is_logged(&self, channel: &str) -> bool {
        let has_log = self.broker.as_ref().is_some_and(|broker| broker.links.log.is_some());
        has_log && (!self.has_broker() || self.follows_peer()) && self.settings.is_durable(channel)
    }

    /// The process that takes over from this one orders the publications.
    pub(super) fn follows_peer(&self) -> bool {
        self.broker.as_ref().is_some_and(|broker| broker.links.follows_peer)
    }

    /// Whether a history can be read by time. Redis and NATS cannot.
    pub(super) fn finds_by_time(&self) -> bool {
        !self.has_broker() || self.follows_peer()
    }

    /// The home shard of a channel or a user.
    pub(super) fn home_of(&self, name: &str) -> ShardId {
        self.placement.shard_of(name)
    }

    /// Seconds since 1970.
    pub(super) fn unix_s(&self, cx: &Context<Mail>) -> u64 {
        (self.clock_zero_unix_ms + cx.now()) / 1000
    }

    /// The connection's subscription to a channel.
    pub(super) fn subscription(&self, conn: ConnId, channel: &str) -> Option<SubscriptionKey> {
        let list = self.sessions[conn].subscriptions;
        if list.is_empty() { None } else { self.subscribers.find(list, channel) }
    }

    /// The connection's subscriptions.
    pub(super) fn subscriptions_of(&self, conn: ConnId) -> Vec<SubscriptionKey> {
        self.subscribers.of_connection(self.sessions[conn].subscriptions).collect()
    }

    pub(super) fn has_credit(&self, cx: &Context<Mail>, channel: &str) -> bool {
        self.home_requests.has_credit(self.home_of(channel), cx.config.subscribe_requests_max)
    }

    /// Publishers wait while this is true, so that the link to the peer process stays within its bound.
    pub(super) fn is_handover_peer_full(&self) -> bool {
        self.handover_peer.as_ref().is_some_and(|peer| peer.link.is_full())
    }

    pub(super) fn reply(&self, cx: &mut Context<Mail>, conn: ConnId, id: u32, reply: &Reply<'_>) {
        let session = &self.sessions[conn];
        let encoding = session.encoding;
        if encoding != Encoding::UniJson {
            cx.reply_with(conn, session.opcode(), |out| encoding.reply(out, id, reply));
        }
    }

    /// As `reply`, for a reply of about so many bytes, which count against the turn.
    pub(super) fn reply_of(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, bytes: usize, reply: &Reply<'_>) {
        let encoding = self.sessions[conn].encoding;
        if encoding != Encoding::UniJson {
            self.send_of(cx, conn, bytes, |out| encoding.reply(out, id, reply));
        }
    }

    /// Sends a message of about so many bytes, which count against the turn.
    pub(super) fn send_of(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.large_replies.encoded(cx.counters.turns, bytes);
        let opcode = self.sessions[conn].opcode();
        match bytes > SMALL_REPLY_BYTES_MAX {
            true => cx.reply_large(conn, opcode, bytes, write),
            false => cx.reply_with(conn, opcode, write),
        }
    }

    pub(super) fn push(&self, cx: &mut Context<Mail>, conn: ConnId, write: impl FnOnce(Encoding, &mut Vec<u8>)) {
        let session = &self.sessions[conn];
        cx.reply_with(conn, session.opcode(), |out| write(session.encoding, out));
    }

    pub(super) fn close(&mut self, cx: &mut Context<Mail>, conn: ConnId, disconnect: Disconnect) {
        self.close_with(cx, conn, disconnect.code(), disconnect.reason().into());
    }

    /// Closes a connection. A unidirectional client gets the code in a push too, since it may not see the close frame.
    pub(super) fn close_with(&mut self, cx: &mut Context<Mail>, conn: ConnId, code: u16, reason: Cow<'static, str>) {
        if self.respond_to_connect(cx, conn, u32::from(code), &reason) {
            return;
        }
        let session = &self.sessions[conn];
        let pushes = !self.settings.uni_websocket.disable_disconnect_push;
        // The end of a stream is such a push itself.
        if pushes && session.transport == Transport::UniWebSocket && session.phase != Phase::New {
            // The code says whether to reconnect, as in a close frame.
            let push = Push::Disconnect { code: u32::from(code), reason: &reason, reconnect: false };
            self.push(cx, conn, |encoding, out| encoding.push(out, "", &push));
        }
        cx.close(conn, code, reason);
    }

    /// Answers a connect that fails by an HTTP response, if the stream waits for its head. False if it does not.
    pub(super) fn respond_to_connect(&mut self, cx: &mut Context<Mail>, conn: ConnId, code: u32, reason: &str) -> bool {
        let Some(held) = self.pending.take_held_head(conn) else { return false };
        let codes = self.settings.response_codes(self.sessions[conn].transport);
        let rule = codes.transforms.iter().find(|rule| rule.code == code);
        let (status, body) = match rule {
            Some(rule) if rule.to_body.is_empty() => (rule.to_status_code as u16, reason),
            Some(rule) => (rule.to_status_code as u16, rule.to_body.as_str()),
            None => (500, "Internal Server Error"),
        };
        let close_code = u16::try_from(code).unwrap_or_default();
        cx.close_with_response(conn, close_code, Response::text(status, held.fields, body));
        true
    }

    /// Closes a connection once home shards have answered the commands before.
    pub(super) fn end(&mut self, cx: &mut Context<Mail>, conn: ConnId, disconnect: Disconnect) {
        let session = &self.sessions[conn];
        if session.phase == Phase::Connected && !session.is_settled() {
            self.pending.close_later(conn, disconnect);
        } else {
            self.close(cx, conn, disconnect);
        }
    }

    /// After a reply: closes the connection if it was the last one that `end` waits for.
    pub(super) fn close_if_settled(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        if self.sessions[conn].is_settled()
            && cx.is_open(conn)
            && let Some(disconnect) = self.pending.take_close(conn)
        {
            self.close(cx, conn, disconnect);
        }
    }

    /// A home shard has answered a command of the connection.
    pub(super) fn reply_received(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        if cx.is_open(conn) {
            self.sessions[conn].replies_owed -= 1;
            self.close_if_settled(cx, conn);
        }
    }
}
