//! One subscription, whoever asked for it (a command, a connect, the server API), from the question to its end.
//!
//! ```text
//! join ──feed is live, nothing missed──► live
//!   └──home is asked──► waiting ──Subscribed or Recovered──► live ──unsubscribe, expiry, loss──► ended
//! ```
//!
//! The answer to whoever asked is written at the moment at which the subscription goes live: what is delivered follows it.

use std::rc::Rc;

use super::access::Options;
use super::arena::Who;
use super::commands::Done;
use super::encodings::Wire;
use super::mail::Missed;
use super::session::Phase;
use super::subscribe_reply::Outcome;
use super::{Mail, Messaging, owner};
use crate::engine::Context;
use crate::engine::outbound::{Owner, frames_in};
use crate::engine::stats::dropped_index;
use crate::ids::{ConnId, GroupId, SubscriptionId, SubscriptionKey};
use crate::protocol::{Disconnect, ErrorCode, Filter, Push, Reply, SubscribePush, Unsubscribed};
use crate::pubsub::{
    Activation, AddedSubscription, DeltaBase, EpochText, NewSubscription, Position, Since, SubscriptionFlags,
    WireFormat,
};

/// What is kept with a subscription that is more than ordinary.
#[derive(Default)]
pub(crate) struct Detail {
    pub info: Box<[u8]>,
    pub expire_at: u64,
    pub filter: Option<Filter>,
}

/// Who gets the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Command(u32),
    Connect,
    /// The server's own wish: the client is told in a push.
    Push,
}

/// What was asked for, beside the options.
pub(crate) struct Request {
    pub purpose: Purpose,
    pub since: Option<Since>,
    pub delta: bool,
    pub filter: Option<Filter>,
    pub reject_unrecovered: bool,
}

impl Request {
    pub fn new(purpose: Purpose) -> Self {
        Self { purpose, since: None, delta: false, filter: None, reject_unrecovered: false }
    }
}

/// A subscription that waits for home's answer.
pub(crate) struct Waiting {
    purpose: Purpose,
    outcome: Outcome,
    reject_unrecovered: bool,
    since: u64,
    /// A command behind it waits for the answer.
    pub holds: bool,
    channel: Rc<str>,
}

impl Messaging {
    /// Adds the subscription. `None`: its home is asked, and `go_live` follows.
    pub(crate) fn join(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        channel: &str,
        options: Options,
        request: Request,
    ) -> Result<Option<Outcome>, ErrorCode> {
        let now = self.unix_s(cx);
        if options.expire_at > 0 && options.expire_at <= now {
            return Err(ErrorCode::Expired);
        }
        let delta = request.delta && options.allow_delta;
        let filtered = request.filter.is_some() && !delta;
        let wire = Wire { encoding: self.session(conn).encoding, class: cx.compression_class(conn) }.pack();
        let form = WireFormat { wire, delta, filtered, join_leave: options.join_leave };
        let recoverable = options.flags.contains(SubscriptionFlags::RECOVERABLE);
        let since = request.since.or(options.auto_cache.then_some(Since { offset: 0, epoch: None }));
        let since = since.filter(|_| recoverable);
        let missed_nothing = since.is_some_and(|since| {
            self.feeds.live_position(channel, form).is_some_and(|at| {
                let epoch = since.epoch.map_or(!options.cache, |epoch| epoch == at.epoch);
                epoch && since.offset == at.offset && (at.offset > 0 || !options.cache)
            })
        });
        let own_answer = since.is_some() && !missed_nothing;
        let mut outcome = Outcome {
            flags: options.flags,
            expire_at: options.expire_at,
            data: options.data.into(),
            delta,
            was_recovering: request.since.is_some() || since.is_some(),
            recovered: missed_nothing,
            ..Outcome::default()
        };
        let detail = !options.chan_info.is_empty() || options.expire_at > 0 || filtered;
        let detail = detail.then(|| {
            let filter = if filtered { request.filter.clone() } else { None };
            Box::new(Detail { info: options.chan_info.into(), expire_at: options.expire_at, filter })
        });
        outcome.filter = request.filter;
        let session = &mut self.sessions[conn.index()];
        session.channels += 1;
        let new = NewSubscription {
            conn,
            channel,
            wire_format: form,
            slow_policy: options.slow,
            flags: options.flags,
            detail,
            activation: if own_answer { Activation::ByRecovery } else { Activation::WithGroup },
        };
        let joined = self.feeds.subscribe(&mut session.first_sub, new);
        let missed = since.filter(|_| own_answer).map(|since| {
            let filter = if options.cache { outcome.filter.clone().map(Box::new) } else { None };
            Missed { sub: joined.id, feed: joined.group, since, cache: options.cache, filter }
        });
        self.ask_home(cx, channel, form, &joined, missed);
        // Behind the question, so that its coming is told before whatever it does next.
        if options.flags.intersects(SubscriptionFlags::PRESENCE | SubscriptionFlags::JOIN_LEAVE) {
            self.tell_home(cx, conn, joined.id.key(), true);
        }
        if let Some(position) = joined.live_at {
            outcome.position = position;
            outcome.offset = position.offset;
            if missed_nothing {
                cx.counters.recoveries += 1;
            }
            self.went_live(cx, conn, joined.id.key());
            return Ok(Some(outcome));
        }
        self.session(conn).pending += 1;
        self.waiting.insert(
            joined.id.key(),
            Waiting {
                purpose: request.purpose,
                outcome,
                reject_unrecovered: request.reject_unrecovered,
                since: since.map_or(0, |since| since.offset),
                holds: false,
                channel: self.feeds.get(joined.id.key()).channel().clone(),
            },
        );
        Ok(None)
    }

    fn ask_home(
        &mut self,
        cx: &mut Context<Mail>,
        channel: &str,
        form: WireFormat,
        joined: &AddedSubscription,
        missed: Option<Missed>,
    ) {
        let home = self.home_of(channel);
        if joined.opened_group {
            self.requests[home.index()] += 1;
            let channel = cx.mail.put(home, channel.as_bytes());
            cx.mail.post(home, Mail::Subscribe { channel, feed: joined.group, form });
        }
        if let Some(missed) = missed {
            self.requests[home.index()] += 1;
            let channel = cx.mail.put(home, channel.as_bytes());
            cx.mail.post(home, Mail::Recover { channel, missed });
        }
    }

    /// The subscription is live: whoever asked is told, and what waited behind it goes on.
    pub(crate) fn go_live(
        &mut self,
        cx: &mut Context<Mail>,
        sub: SubscriptionKey,
        position: Position,
        recovery: Option<(bool, &[u8])>,
    ) {
        let Some(waiting) = self.waiting.remove(&sub) else { return };
        let Waiting { purpose, mut outcome, reject_unrecovered, since, holds, channel } = waiting;
        let conn = self.feeds.get(sub).conn();
        self.session(conn).pending -= 1;
        outcome.position = position;
        outcome.offset = position.offset;
        if let Some((recovered, records)) = recovery {
            outcome.recovered = recovered;
            cx.counters.recoveries += u64::from(recovered);
            cx.counters.recoveries_failed += u64::from(!recovered);
            if recovered {
                outcome.records = records.into();
                outcome.offset = since;
            }
        }
        if reject_unrecovered && outcome.was_recovering && !outcome.recovered {
            self.end_subscription(cx, conn, sub);
            if let Purpose::Command(id) = purpose {
                self.reply(cx, conn, id, &ErrorCode::UnrecoverablePosition.into());
            }
        } else {
            match purpose {
                Purpose::Command(id) => self.answer_subscribe(cx, conn, id, &outcome),
                Purpose::Connect => self.joined_at_connect(cx, conn, Rc::clone(&channel), outcome),
                Purpose::Push => self.push_subscribed(cx, conn, &channel, &outcome),
            }
            self.went_live(cx, conn, sub);
        }
        if holds {
            cx.resume(conn);
        }
        self.settle(cx, conn);
    }

    pub(crate) fn answer_subscribe(&self, cx: &mut Context<Mail>, conn: ConnId, id: u32, outcome: &Outcome) {
        let texts = outcome.texts(self.sessions[conn.index()].encoding);
        let publications = texts.publications();
        self.reply(cx, conn, id, &Reply::Subscribe(texts.result(self.unix_s(cx), &publications)));
    }

    pub(crate) fn push_subscribed(&self, cx: &mut Context<Mail>, conn: ConnId, channel: &str, outcome: &Outcome) {
        let positioned = outcome.flags.contains(SubscriptionFlags::POSITIONED);
        let epoch = EpochText::of(outcome.position.epoch);
        let push = SubscribePush {
            recoverable: outcome.flags.contains(SubscriptionFlags::RECOVERABLE),
            epoch: if positioned { epoch.as_str() } else { "" },
            offset: if positioned { outcome.offset } else { 0 },
            positioned,
            data: &outcome.data,
        };
        self.push(cx, conn, |encoding, out| encoding.push(out, channel, &Push::Subscribe(push)));
        // A push has no place for publications: what was recovered follows it.
        let texts = outcome.texts(self.sessions[conn.index()].encoding);
        for publication in &texts.publications() {
            self.push(cx, conn, |encoding, out| encoding.publication(out, channel, publication));
        }
    }

    /// Its end is watched.
    fn went_live(&mut self, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
        let expire_at = self.feeds.get(sub).detail().map_or(0, |detail| detail.expire_at);
        if expire_at > 0 {
            self.watch_subscription(cx, conn, expire_at);
        }
    }

    /// That the subscriber has come, or goes.
    pub(crate) fn tell_home(&mut self, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey, comes: bool) {
        let subscription = self.feeds.get(sub);
        let (name, flags) = (subscription.channel(), subscription.flags());
        let home = self.home_of(name);
        let session = &self.sessions[conn.index()];
        let who = Who {
            client: session.client,
            user: session.user(),
            conn_info: session.identity.as_ref().map_or(&[], |identity| &identity.info),
            chan_info: subscription.detail().map_or(&[], |detail| &detail.info),
        };
        let channel = cx.mail.put(home, name.as_bytes());
        let who = cx.mail.put_with(home, |out| who.pack(out));
        let (presence, tell) =
            (flags.contains(SubscriptionFlags::PRESENCE), flags.contains(SubscriptionFlags::JOIN_LEAVE));
        cx.mail.post(
            home,
            match comes {
                true => Mail::Enter { channel, who, presence, tell },
                false => Mail::Exit { channel, who, presence, tell },
            },
        );
    }

    /// Ends a subscription, in whatever state it is. Nothing is said to the client here.
    pub(crate) fn end_subscription(&mut self, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
        let waiting = self.waiting.remove(&sub);
        if waiting.as_ref().is_some_and(|waiting| waiting.holds) {
            cx.resume(conn);
        }
        let waited = waiting.is_some();
        let subscription = self.feeds.get(sub);
        let owner = owner(subscription.group_id(), subscription.slow_policy());
        if subscription.flags().intersects(SubscriptionFlags::PRESENCE | SubscriptionFlags::JOIN_LEAVE) {
            self.tell_home(cx, conn, sub, false);
        }
        self.cut_behind_a_gap(cx, conn, sub);
        cx.disown(conn, owner);
        let session = &mut self.sessions[conn.index()];
        session.channels -= 1;
        session.pending -= u16::from(waited);
        if let Some(left) = self.feeds.unsubscribe(sub, &mut session.first_sub) {
            let home = self.homes.shard_of(&left.channel);
            let channel = cx.mail.put(home, left.channel.as_bytes());
            cx.mail.post(home, Mail::Unsubscribe { channel, feed: left.id });
        }
        if waited {
            self.settle(cx, conn);
        }
    }

    pub(crate) fn unsubscribe(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, channel: &str) -> Done {
        if let Some(sub) = self.subscription(conn, channel) {
            self.end_subscription(cx, conn, sub);
        }
        self.reply(cx, conn, id, &Reply::Unsubscribe);
        Done::Yes
    }

    /// The server ends a subscription: the client gets its share, then is told.
    pub(crate) fn unsubscribe_by_server(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        sub: SubscriptionKey,
        why: Unsubscribed,
    ) {
        self.give_share(cx, conn, sub);
        self.end_and_tell(cx, conn, sub, why);
    }

    /// What the turn has for it, as its frames: a gap that this makes is before them.
    pub(crate) fn give_share(&self, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
        let subscription = self.feeds.get(sub);
        let (owner, share) = (owner(subscription.group_id(), subscription.slow_policy()), subscription.turn_share());
        cx.deliver(conn, owner, share.frames, share.latest);
    }

    fn end_and_tell(&mut self, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey, why: Unsubscribed) {
        let name = self.feeds.get(sub).channel().clone();
        self.end_subscription(cx, conn, sub);
        if self.session(conn).phase == Phase::Connected {
            let push = Push::Unsubscribe { code: why.code(), reason: why.reason() };
            self.push(cx, conn, |encoding, out| encoding.push(out, &name, &push));
        }
    }

    /// What a subscriber missed is not kept: a positioned one must come again.
    pub(crate) fn insufficient_state(&mut self, cx: &mut Context<Mail>, sub: SubscriptionKey) {
        let (conn, flags) = (self.feeds.get(sub).conn(), self.feeds.get(sub).flags());
        if !flags.contains(SubscriptionFlags::POSITIONED) {
            return;
        }
        if flags.contains(SubscriptionFlags::SERVER_SIDE) {
            // It ends here, so that nothing from behind the gap precedes the close.
            self.give_share(cx, conn, sub);
            self.end_subscription(cx, conn, sub);
            return self.close(cx, conn, Disconnect::InsufficientState);
        }
        self.unsubscribe_by_server(cx, conn, sub, Unsubscribed::InsufficientState);
    }

    /// A policy dropped what a subscriber had waiting, and not the newest. Of a position nothing may be read behind the gap: it
    /// must come again, and recovers, unless that would bring it no more than the newest. A delta cannot be read behind the
    /// gap: all go, and the next comes whole. For all others it is a loss, and counted.
    pub(crate) fn fell_behind(&mut self, cx: &mut Context<Mail>, conn: ConnId, owner: Owner) {
        let first = self.sessions[conn.index()].first_sub;
        let Some(sub) = self.feeds.find_live(first, GroupId::unpack(owner.id)) else { return };
        let flags = self.feeds.get(sub).flags();
        if !self.minds_gaps(sub) {
            return;
        }
        cx.purge(conn, owner);
        if !flags.contains(SubscriptionFlags::POSITIONED) {
            cx.counters.dropped[dropped_index(owner.policy)] += frames_in(self.feeds.get(sub).turn_share().frames);
            return self.feeds.reset_delta_base(sub);
        }
        cx.counters.subscriptions_cut += 1;
        if flags.contains(SubscriptionFlags::SERVER_SIDE) {
            self.end_subscription(cx, conn, sub);
            return self.close(cx, conn, Disconnect::InsufficientState);
        }
        self.end_and_tell(cx, conn, sub, Unsubscribed::InsufficientState);
    }

    /// Nothing from behind a gap may be read: for the position's sake, unless to come again would bring no more than the
    /// newest, or since it is a difference to what is missing.
    fn minds_gaps(&self, sub: SubscriptionKey) -> bool {
        let subscription = self.feeds.get(sub);
        let by_cache = subscription.flags().contains(SubscriptionFlags::CACHE | SubscriptionFlags::RECOVERABLE);
        subscription.is_delta() || subscription.flags().contains(SubscriptionFlags::POSITIONED) && !by_cache
    }

    /// What a policy dropped and `fell_behind` was not told of yet comes to nobody: what is behind it goes too, where it must
    /// not be read.
    pub(crate) fn cut_behind_a_gap(&self, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
        let subscription = self.feeds.get(sub);
        let owner = owner(subscription.group_id(), subscription.slow_policy());
        if cx.has_gap(conn, owner) && self.minds_gaps(sub) {
            cx.purge(conn, owner);
        }
    }

    /// The answer of one subscription's own question.
    pub(crate) fn recovered(
        &mut self,
        cx: &mut Context<Mail>,
        sub: SubscriptionId,
        position: Position,
        recovered: bool,
        records: &[u8],
    ) {
        let base = if recovered && !records.is_empty() { DeltaBase::Known } else { DeltaBase::Missing };
        if self.feeds.activate_recovered(sub, base) {
            self.go_live(cx, sub.key(), position, Some((recovered, records)));
        }
    }
}
