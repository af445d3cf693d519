//! What the engine calls on a shard: the life of a connection, its messages, and the steps of a turn.

use super::broker_events;
use super::commands;
use super::connect;
use super::connect_reply;
use super::control;
use super::control_request::ControlRequest;
use super::handover_copy;
use super::handshake;
use super::home_queries;
use super::home_shard;
use super::keepalive::{self, PingCheck};
use super::mail::Mail;
use super::queries;
use super::receive;
use super::refresh;
use super::reply_payment;
use super::request_checks;
use super::session::{Phase, Session, millis};
use super::state::{Messaging, owner};
use super::streams;
use super::subscription_end;
use crate::auth::Verifier;
use crate::engine::mailbox::Batch;
use crate::engine::outbound::{Broadcast, Owner};
use crate::engine::stats::{Closed, Snapshot};
use crate::engine::{App, Context, EngineClose, Flow, Message, Millis, Route};
use crate::ids::ConnId;
use crate::protocol::{Disconnect, Push};
use crate::pubsub::{PendingBroadcast, TurnOutput};
use crate::ws::{CloseCode, Request};

/// Steps of channel expiry in one turn.
const EXPIRY_STEPS: u32 = 256;

impl App for Messaging {
    type Mail = Mail;
    type Request = ControlRequest;

    fn route(&mut self, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
        handshake::route(self, cx, request)
    }

    fn other_method(&mut self, _cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
        handshake::other_method(self, request)
    }

    fn with_body(&mut self, cx: &mut Context<Mail>, conn: ConnId, request: &Request<'_>, body: &[u8]) -> Route {
        streams::with_body(self, cx, conn, request, body)
    }

    fn write_end(&self, conn: ConnId, code: u16, reason: &str, out: &mut Vec<u8>) {
        let push = Push::Disconnect { code: u32::from(code), reason, reconnect: false };
        self.sessions[conn].encoding.push(out, "", &push);
    }

    fn wants_address_keys(&self) -> bool {
        let own = self.settings.subscription_tokens.as_ref();
        self.settings.tokens.has_public_keys() || own.is_some_and(Verifier::has_public_keys)
    }

    fn open(&mut self, cx: &mut Context<Mail>, conn: ConnId, route: u8) {
        let (encoding, phase, transport) = request_checks::session_of(route);
        self.sessions.insert(conn, Session::new(encoding, phase, transport));
        if phase == Phase::Echo {
            return keepalive::begin_echo_pings(cx, conn);
        }
        self.settings.connection_counts.opened();
        cx.set_timer(conn, cx.now() + millis(self.settings.client.stale_close_delay));
        let data = std::mem::take(&mut self.pending.handshake);
        self.pending.set_headers(conn, data.headers);
        self.pending.hold_head(conn, data.held_head);
        if let Some(request) = data.connect {
            connect::connect_by_url(self, cx, conn, request);
        }
    }

    fn message(&mut self, cx: &mut Context<Mail>, conn: ConnId, message: Message<'_>) -> Flow {
        commands::receive(self, cx, conn, &message)
    }

    fn pong(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let session = &mut self.sessions[conn];
        if session.phase == Phase::Echo {
            session.awaits_pong = false;
        } else if session.frame_pings() || session.is_uni() {
            // RFC 6455, section 5.5.3: an unsolicited pong frame is allowed.
            keepalive::pong_received(self, cx, conn);
        }
    }

    fn timer(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let session = &self.sessions[conn];
        match session.phase {
            Phase::Connected => {}
            Phase::Echo => return keepalive::echo_timer(self, cx, conn),
            Phase::Rejected => return self.close(cx, conn, Disconnect::ConnectionClosed),
            // The server is what makes its connect wait.
            Phase::New if self.token_checks.signatures.has_place(conn) => {
                return cx.set_timer(conn, cx.now() + millis(self.settings.client.stale_close_delay));
            }
            Phase::New => return self.close(cx, conn, Disconnect::Stale),
            // The client has sent its connect, and a backend, a key set or a shard is slow: SDKs must try again.
            Phase::Connecting => return self.close(cx, conn, Disconnect::InternalError),
        }
        if session.identity.is_some() && !refresh::check_expiry(self, cx, conn) {
            return;
        }
        if keepalive::check_ping(self, cx, conn) == PingCheck::NoPong {
            self.close(cx, conn, Disconnect::NoPong);
        }
    }

    fn closed(&mut self, cx: &mut Context<Mail>, conn: ConnId, why: Closed) {
        let phase = self.sessions[conn].phase;
        if phase == Phase::Echo {
            return;
        }
        self.settings.connection_counts.closed();
        // Frames that were held back for the connect reply must not be sent without it.
        if phase == Phase::Connecting {
            cx.drop_held(conn);
        }
        if matches!(why, Closed::ByApp | Closed::Shutdown) && phase == Phase::Connected {
            let subs = self.subscriptions_of(conn);
            for &sub in &subs {
                subscription_end::deliver_turn(self, cx, conn, sub);
            }
            // The frames of one subscription may have pushed out those of another, which `dropped` does not report any more.
            for &sub in &subs {
                subscription_end::purge_behind_gap(self, cx, conn, sub);
            }
        }
    }

    fn leave(&mut self, cx: &mut Context<Mail>, conn: ConnId, budget: &mut u32) -> bool {
        while let Some(sub) = self.sessions[conn].subscriptions.first() {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            subscription_end::end(self, cx, conn, sub);
        }
        connect_reply::abandon(self, cx, conn);
        self.pending.remove(conn);
        self.token_checks.signatures.remove(conn);
        if let Some(identity) = self.users.remove(&mut self.sessions, conn)
            && identity.is_counted
        {
            let home = self.home_of(&identity.user);
            let user = cx.mail.put(home, identity.user.as_bytes());
            cx.mail.post(home, Mail::UserDisconnect { user, conn });
        }
        true
    }

    fn mail(&mut self, cx: &mut Context<Mail>, batch: &mut Batch<Mail>, budget: &mut u32) {
        let from = batch.from();
        while *budget > 0
            && let Some(mail) = batch.next()
        {
            *budget -= 1;
            receive::receive(self, cx, from, mail, batch, budget);
        }
        if self.large_replies.put_off.is_some() {
            put_back(self, batch);
        }
    }

    fn request(&mut self, cx: &mut Context<Mail>, request: ControlRequest) {
        control::handle(self, cx, request);
    }

    fn before_dispatch(&mut self, cx: &mut Context<Mail>) {
        if self.home_channels.has_lagging_shards() {
            home_shard::resend(self, cx);
        }
        if !self.delayed_recoveries.is_empty() {
            home_shard::recover_delayed(self, cx);
        }
    }

    fn after_mail(&mut self, _cx: &mut Context<Mail>) {
        if let Some(broker) = &self.broker {
            broker.links.flush();
        }
    }

    fn waits_for_room(&self) -> bool {
        self.home_channels.has_lagging_shards()
    }

    fn sweep(&mut self, cx: &mut Context<Mail>) {
        for conn in self.token_checks.signatures.begin_turn(cx.now()) {
            match self.pending.take_request(conn) {
                Some(request) => connect::connect_by_url(self, cx, conn, request),
                None => cx.resume(conn),
            }
        }
        if self.home_channels.next_expiry().is_some_and(|at| at <= cx.now()) {
            self.home_channels.expire(cx.now(), &mut { EXPIRY_STEPS });
        }
        if self.broker.is_some() {
            broker_events::sweep(self, cx);
        }
        if self.handover_peer.is_some() || self.handover_rest.is_some() {
            handover_copy::sweep(self, cx);
        }
        if !self.large_replies.histories.is_empty() {
            queries::send_histories(self, cx);
        }
        if !self.large_replies.waiting.is_empty() {
            reply_payment::ask(self, cx);
        }
        if !self.presence_snapshots.is_empty() {
            home_queries::copy_presence_slices(self, cx);
        }
    }

    fn next_sweep(&self) -> Option<Millis> {
        let has_work = !self.presence_snapshots.is_empty() || self.token_checks.signatures.has_waiting();
        if has_work || self.handover_rest.is_some() {
            return Some(0);
        }
        let never = Millis::MAX;
        let mut next = self.home_channels.next_expiry().unwrap_or(never);
        if let Some(retry_at) = self.large_replies.next_sweep() {
            next = next.min(retry_at);
        }
        if let Some(broker) = &self.broker {
            next = next.min(broker.next_sweep().unwrap_or(never));
        }
        if let Some(peer) = &self.handover_peer {
            next = next.min(peer.next_sweep().unwrap_or(never));
        }
        Some(next).filter(|&next| next != never)
    }

    fn owes_replies(&self, conn: ConnId) -> bool {
        let session = &self.sessions[conn];
        session.phase == Phase::Connected && (!session.is_settled() || self.proxy_calls.has_command_of(conn))
    }

    fn turn_end(&mut self, cx: &mut Context<Mail>) {
        self.subscribers.end_turn(|output| match output {
            TurnOutput::Unicast(one) => {
                cx.deliver(one.conn, owner(one.group, one.slow_policy), one.share.frames, one.share.latest);
            }
            TurnOutput::Broadcast(PendingBroadcast { group, slow_policy, member_slots, frames, latest, messages }) => {
                let owner = owner(group, slow_policy);
                cx.broadcast(Broadcast { members: member_slots, frames, owner, latest, messages });
            }
        });
    }

    fn end_flush(&mut self, _cx: &mut Context<Mail>) {
        self.subscribers.end_flush();
    }

    fn turn_bytes(&self) -> usize {
        self.subscribers.turn_bytes()
    }

    fn dropped(&mut self, cx: &mut Context<Mail>, conn: ConnId, owner: Owner, _messages: u64) {
        subscription_end::frames_dropped(self, cx, conn, owner);
    }

    fn close_reason(&self, conn: ConnId, why: EngineClose) -> (u16, &'static str) {
        if self.sessions[conn].phase == Phase::Echo {
            return match why {
                EngineClose::Slow => (CloseCode::PolicyViolation.code(), "slow"),
                EngineClose::Shutdown => (CloseCode::GoingAway.code(), "shutdown"),
            };
        }
        let disconnect = match why {
            EngineClose::Slow => Disconnect::Slow,
            EngineClose::Shutdown => Disconnect::Shutdown,
        };
        (disconnect.code(), disconnect.reason())
    }

    fn gauges(&self, snapshot: &mut Snapshot) {
        snapshot.subscriptions = self.subscribers.len() as u64;
        snapshot.channels = self.home_channels.len() as u64;
        snapshot.users = self.users.len() as u64;
        snapshot.history_bytes = self.home_channels.memory().history as u64;
        snapshot.history_evicted = self.home_channels.evictions();
        snapshot.replies_waiting = self.large_replies.waiting.len() as u64;
    }
}

/// The reply that was put off is the first of the next turn.
#[cold]
fn put_back(state: &mut Messaging, batch: &mut Batch<Mail>) {
    if let Some(reply) = state.large_replies.put_off.take() {
        batch.put_back(reply);
    }
}
