//! One subscription, whatever it was made for (a command, a connect, the server API), from the request to its end.
//!
//! ```text
//! begin ──the group is live and nothing was missed──► live
//!   └──home shard is asked──► pending ──Subscribed or Recovered──► live ──unsubscribe, expiry, loss──► ended
//! ```
//!
//! Why nothing is lost and nothing comes twice: the home shard stamps, delivers and answers in one order, and a mailbox keeps
//! it. A subscription becomes live at the moment at which the answer is handled, and its reply is written at that moment.
//! Publications before the answer are in the reply, or before its position; publications behind it follow the reply.
//!
//! The state of a pending subscribe: `Subscribers` (pubsub) holds its place in the group, `HomeRequests` what to tell the
//! client, and at the home shard `delayed_recoveries` a recovery that must wait.

use std::rc::Rc;

use super::access::SubscriptionOptions;
use super::arena::RawClientInfo;
use super::connect_reply;
use super::encodings::FrameEncoding;
use super::home_requests::{PendingSubscribe, Requester};
use super::keepalive;
use super::mail::{JoinOptions, Mail, RecoverRequest};
use super::session::Phase;
use super::state::{CommandContext, Messaging, Progress, SubscriptionDetail, owner};
use super::subscribe_reply::SubscribeReply;
use crate::engine::Context;
use crate::engine::outbound::{Owner, frames_in};
use crate::engine::stats::dropped_index;
use crate::ids::{ConnId, GroupId, ShardId, SubscriptionId, SubscriptionKey};
use crate::protocol::{Disconnect, ErrorCode, Filter, Push, Reply, SubscribePush, Unsubscribed};
use crate::pubsub::{
    Activation, AddedSubscription, ChannelTop, DeltaBase, EpochText, NewSubscription, Position, Since,
    SubscriptionFlags, WireFormat,
};

/// What is requested besides the options.
pub(crate) struct SubscriptionRequest {
    pub requester: Requester,
    pub since: Option<Since>,
    pub delta: bool,
    pub filter: Option<Filter>,
    pub reject_unrecovered: bool,
}

impl SubscriptionRequest {
    pub fn new(requester: Requester) -> Self {
        Self { requester, since: None, delta: false, filter: None, reject_unrecovered: false }
    }
}

/// Where a subscription begins.
struct Start {
    wire_format: WireFormat,
    /// The position to recover from; `None` if nothing is to be recovered.
    since: Option<Since>,
    /// This shard knows that nothing came after `since`.
    is_up_to_date: bool,
}

impl Start {
    /// The home shard must say what came after this position.
    fn recover_since(&self) -> Option<Since> {
        self.since.filter(|_| !self.is_up_to_date)
    }
}

fn start(
    state: &Messaging,
    channel: &str,
    wire: u8,
    options: &SubscriptionOptions,
    request: &SubscriptionRequest,
) -> Start {
    let delta = request.delta && options.allow_delta;
    let filtered = request.filter.is_some() && !delta;
    let wire_format = WireFormat { wire, delta, filtered, join_leave: options.join_leave };
    let is_recoverable = options.flags.contains(SubscriptionFlags::RECOVERABLE);
    let since = request.since.or(options.auto_cache.then_some(Since { offset: 0, epoch: None }));
    let since = since.filter(|_| is_recoverable);
    let is_up_to_date = since.is_some_and(|since| {
        state.subscribers.live_position(channel, wire_format).is_some_and(|at| {
            let same_epoch = since.epoch.map_or(!options.cache, |epoch| epoch == at.epoch);
            same_epoch && since.offset == at.offset && (at.offset > 0 || !options.cache)
        })
    });
    Start { wire_format, since, is_up_to_date }
}

/// Adds a subscription. Returns the reply if it is live at once. With `None` its home shard is asked, and `go_live` follows.
pub(crate) fn begin(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    channel: &str,
    options: SubscriptionOptions,
    request: SubscriptionRequest,
) -> Result<Option<SubscribeReply>, ErrorCode> {
    if options.expire_at > 0 && options.expire_at <= state.unix_s(cx) {
        return Err(ErrorCode::Expired);
    }
    let encoding = state.sessions[conn].encoding;
    let wire = FrameEncoding { encoding, compression_class: cx.compression_class(conn) }.pack();
    let start = start(state, channel, wire, &options, &request);
    let SubscriptionOptions { flags, cache, slow_policy, chan_info, data, expire_at, .. } = options;
    let mut reply = SubscribeReply {
        flags,
        expire_at,
        data: data.into(),
        delta: start.wire_format.delta,
        was_recovering: request.since.is_some() || start.since.is_some(),
        recovered: start.is_up_to_date,
        ..SubscribeReply::default()
    };
    let has_detail = !chan_info.is_empty() || expire_at > 0 || start.wire_format.filtered;
    let detail = has_detail.then(|| {
        let filter = if start.wire_format.filtered { request.filter.clone() } else { None };
        Box::new(SubscriptionDetail { info: chan_info.into(), expire_at, filter })
    });
    reply.filter = request.filter;
    let session = &mut state.sessions[conn];
    session.channels += 1;
    let wire_format = start.wire_format;
    let recover_since = start.recover_since();
    let activation = if recover_since.is_some() { Activation::ByRecovery } else { Activation::WithGroup };
    let new = NewSubscription { conn, channel, wire_format, slow_policy, flags, detail, activation };
    let added = state.subscribers.subscribe(&mut session.subscriptions, new);
    let sub = added.id.key();
    let recovery = recover_since.map(|since| {
        let filter = if cache { reply.filter.clone().map(Box::new) } else { None };
        RecoverRequest { sub: added.id, group: added.group, since, cache, filter }
    });
    ask_home(state, cx, channel, wire_format, &added, recovery);
    // Behind the request, so that the home shard knows of the client before whatever it does next.
    if flags.intersects(SubscriptionFlags::PRESENCE | SubscriptionFlags::JOIN_LEAVE) {
        post_join_or_leave(state, cx, conn, sub, Presence::Joins);
    }
    if let Some(position) = added.live_at {
        reply.position = position;
        reply.offset = position.offset;
        if start.is_up_to_date {
            cx.counters.recoveries += 1;
        }
        watch_end(state, cx, conn, sub);
        return Ok(Some(reply));
    }
    let pending = PendingSubscribe {
        requester: request.requester,
        reply,
        reject_unrecovered: request.reject_unrecovered,
        since_offset: start.since.map_or(0, |since| since.offset),
        blocks_reading: false,
        channel: Rc::clone(state.subscribers.get(sub).channel()),
    };
    state.home_requests.begin_subscribe(&mut state.sessions[conn], sub, pending);
    Ok(None)
}

fn ask_home(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    wire_format: WireFormat,
    added: &AddedSubscription,
    recovery: Option<RecoverRequest>,
) {
    let home = state.home_of(channel);
    if added.opened_group {
        state.home_requests.sent(home);
        let channel = cx.mail.put(home, channel.as_bytes());
        cx.mail.post(home, Mail::Subscribe { channel, group: added.group, wire_format });
    }
    if let Some(request) = recovery {
        state.home_requests.sent(home);
        let channel = cx.mail.put(home, channel.as_bytes());
        cx.mail.post(home, Mail::Recover { channel, request });
    }
}

/// The home shard has answered for a group: its pending subscriptions are live, unless they wait for an answer of their own.
pub(crate) fn group_subscribed(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    home: ShardId,
    group: GroupId,
    top: ChannelTop,
) {
    state.home_requests.answered(home);
    for sub in state.subscribers.activate_group(group, top).unwrap_or_default() {
        go_live(state, cx, sub, top.position, Recovery::NotRequested);
    }
}

/// What the home shard says about the publications that a subscription missed.
#[derive(Clone, Copy)]
pub(crate) enum Recovery<'a> {
    NotRequested,
    Failed,
    /// The missed publications, packed.
    Complete(&'a [u8]),
}

/// The home shard has answered the recovery of one subscription.
pub(crate) fn recovered(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    sub: SubscriptionId,
    position: Position,
    recovery: Recovery<'_>,
) {
    let base = match recovery {
        Recovery::Complete(records) if !records.is_empty() => DeltaBase::Known,
        _ => DeltaBase::Missing,
    };
    if state.subscribers.activate_recovered(sub, base) {
        go_live(state, cx, sub.key(), position, recovery);
    }
}

/// A subscription is live: its client is told, and what waits behind it goes on.
fn go_live(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    sub: SubscriptionKey,
    position: Position,
    recovery: Recovery<'_>,
) {
    let conn = state.subscribers.get(sub).conn();
    let Some(pending) = state.home_requests.end_subscribe(&mut state.sessions[conn], sub) else { return };
    let PendingSubscribe { requester, mut reply, reject_unrecovered, since_offset, blocks_reading, channel } = pending;
    reply.position = position;
    reply.offset = position.offset;
    match recovery {
        Recovery::NotRequested => {}
        Recovery::Failed => {
            reply.recovered = false;
            cx.counters.recoveries_failed += 1;
        }
        Recovery::Complete(records) => {
            reply.recovered = true;
            reply.records = records.into();
            reply.offset = since_offset;
            cx.counters.recoveries += 1;
        }
    }
    if reject_unrecovered && reply.was_recovering && !reply.recovered {
        end(state, cx, conn, sub);
        if let Requester::Command(id) = requester {
            state.reply(cx, conn, id, &ErrorCode::UnrecoverablePosition.into());
        }
    } else {
        match requester {
            Requester::Command(id) => send_reply(state, cx, conn, id, &reply),
            Requester::Connect => connect_reply::subscription_live(state, cx, conn, channel, reply),
            Requester::Server => send_push(state, cx, conn, &channel, &reply),
        }
        watch_end(state, cx, conn, sub);
    }
    if blocks_reading {
        cx.resume(conn);
    }
    state.close_if_settled(cx, conn);
}

pub(crate) fn send_reply(state: &Messaging, cx: &mut Context<Mail>, conn: ConnId, id: u32, reply: &SubscribeReply) {
    let parts = reply.parts(state.sessions[conn].encoding);
    let publications = parts.publications();
    state.reply(cx, conn, id, &Reply::Subscribe(parts.result(state.unix_s(cx), &publications)));
}

pub(crate) fn send_push(
    state: &Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    channel: &str,
    reply: &SubscribeReply,
) {
    let positioned = reply.flags.contains(SubscriptionFlags::POSITIONED);
    let epoch = EpochText::of(reply.position.epoch);
    let push = SubscribePush {
        recoverable: reply.flags.contains(SubscriptionFlags::RECOVERABLE),
        epoch: if positioned { epoch.as_str() } else { "" },
        offset: if positioned { reply.offset } else { 0 },
        positioned,
        data: &reply.data,
    };
    state.push(cx, conn, |encoding, out| encoding.push(out, channel, &Push::Subscribe(push)));
    // A subscribe push has no field for publications: the recovered ones follow it.
    let parts = reply.parts(state.sessions[conn].encoding);
    for publication in &parts.publications() {
        state.push(cx, conn, |encoding, out| encoding.publication(out, channel, publication));
    }
}

fn watch_end(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
    let expire_at = state.subscribers.get(sub).detail().map_or(0, |detail| detail.expire_at);
    if expire_at > 0 {
        keepalive::watch_subscription(state, cx, conn, expire_at);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    Joins,
    Leaves,
}

/// Tells the home shard that the subscriber joins or leaves.
fn post_join_or_leave(
    state: &Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    sub: SubscriptionKey,
    presence: Presence,
) {
    let subscription = state.subscribers.get(sub);
    let (channel, flags) = (subscription.channel(), subscription.flags());
    let home = state.home_of(channel);
    let session = &state.sessions[conn];
    let info = RawClientInfo {
        client: session.client,
        user: session.user(),
        conn_info: session.info(),
        chan_info: subscription.detail().map_or(&[], |detail| &detail.info),
    };
    let channel = cx.mail.put(home, channel.as_bytes());
    let client_info = cx.mail.put_with(home, |out| info.pack(out));
    let options = JoinOptions {
        presence: flags.contains(SubscriptionFlags::PRESENCE),
        push: flags.contains(SubscriptionFlags::JOIN_LEAVE),
    };
    cx.mail.post(
        home,
        match presence {
            Presence::Joins => Mail::Join { channel, client_info, options },
            Presence::Leaves => Mail::Leave { channel, client_info, options },
        },
    );
}

/// Ends a subscription in any state. The client is not told here.
pub(crate) fn end(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
    let pending = state.home_requests.end_subscribe(&mut state.sessions[conn], sub);
    if pending.as_ref().is_some_and(|pending| pending.blocks_reading) {
        cx.resume(conn);
    }
    let flags = state.subscribers.get(sub).flags();
    if flags.intersects(SubscriptionFlags::PRESENCE | SubscriptionFlags::JOIN_LEAVE) {
        post_join_or_leave(state, cx, conn, sub, Presence::Leaves);
    }
    purge_behind_gap(state, cx, conn, sub);
    cx.disown(conn, owner_of(state, sub));
    let session = &mut state.sessions[conn];
    session.channels -= 1;
    if let Some(closed) = state.subscribers.unsubscribe(sub, &mut session.subscriptions) {
        let home = state.home_of(&closed.channel);
        let channel = cx.mail.put(home, closed.channel.as_bytes());
        cx.mail.post(home, Mail::Unsubscribe { channel, group: closed.id });
    }
    if pending.is_some() {
        state.close_if_settled(cx, conn);
    }
}

/// The unsubscribe command.
pub(crate) fn unsubscribe(cx: &mut CommandContext<'_>, channel: &str) -> Progress {
    if let Some(sub) = cx.state.subscription(cx.conn, channel) {
        end(cx.state, cx.engine, cx.conn, sub);
    }
    cx.reply(&Reply::Unsubscribe)
}

/// The server ends a subscription: the client gets what this turn has gathered for it, then the push.
pub(crate) fn unsubscribe_by_server(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    sub: SubscriptionKey,
    reason: Unsubscribed,
) {
    deliver_turn(state, cx, conn, sub);
    end_with_push(state, cx, conn, sub, reason);
}

/// Delivers what this turn has gathered for a subscription, as frames of its group. If that makes a gap, the gap is before
/// them.
pub(crate) fn deliver_turn(state: &Messaging, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
    let share = state.subscribers.get(sub).turn_share();
    cx.deliver(conn, owner_of(state, sub), share.frames, share.latest);
}

fn end_with_push(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    sub: SubscriptionKey,
    reason: Unsubscribed,
) {
    let channel = Rc::clone(state.subscribers.get(sub).channel());
    end(state, cx, conn, sub);
    if state.sessions[conn].phase == Phase::Connected {
        let push = Push::Unsubscribe { code: reason.code(), reason: reason.reason() };
        state.push(cx, conn, |encoding, out| encoding.push(out, &channel, &push));
    }
}

/// What a subscriber missed cannot be sent again: a positioned one must subscribe again.
pub(crate) fn insufficient_state(state: &mut Messaging, cx: &mut Context<Mail>, sub: SubscriptionKey) {
    let subscription = state.subscribers.get(sub);
    let (conn, flags) = (subscription.conn(), subscription.flags());
    if !flags.contains(SubscriptionFlags::POSITIONED) {
        return;
    }
    if flags.contains(SubscriptionFlags::SERVER_SIDE) {
        // The subscription ends first, so that nothing from behind the gap precedes the close.
        deliver_turn(state, cx, conn, sub);
        end(state, cx, conn, sub);
        return state.close(cx, conn, Disconnect::InsufficientState);
    }
    unsubscribe_by_server(state, cx, conn, sub, Unsubscribed::InsufficientState);
}

/// The slow-consumer policy dropped frames of a subscriber, and not the newest ones. A positioned subscriber must not read
/// past the gap: it subscribes again and recovers, unless that would bring it only the newest. A delta cannot be applied
/// behind the gap: the waiting frames go, and the next publication comes whole. For others it is a loss, and counted.
pub(crate) fn frames_dropped(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, owner: Owner) {
    let list = state.sessions[conn].subscriptions;
    let Some(sub) = state.subscribers.find_live(list, GroupId::unpack(owner.id)) else { return };
    let flags = state.subscribers.get(sub).flags();
    if !forbids_gaps(state, sub) {
        return;
    }
    cx.purge(conn, owner);
    if !flags.contains(SubscriptionFlags::POSITIONED) {
        let share = state.subscribers.get(sub).turn_share();
        cx.counters.dropped[dropped_index(owner.policy)] += frames_in(share.frames);
        return state.subscribers.reset_delta_base(sub);
    }
    cx.counters.subscriptions_cut += 1;
    if flags.contains(SubscriptionFlags::SERVER_SIDE) {
        end(state, cx, conn, sub);
        return state.close(cx, conn, Disconnect::InsufficientState);
    }
    end_with_push(state, cx, conn, sub, Unsubscribed::InsufficientState);
}

/// Whether nothing behind a gap may be read: because of the position, unless subscribing again would bring only the newest
/// publication; or because it is a difference to what is missing.
fn forbids_gaps(state: &Messaging, sub: SubscriptionKey) -> bool {
    let subscription = state.subscribers.get(sub);
    let flags = subscription.flags();
    let recovers_latest = flags.contains(SubscriptionFlags::CACHE | SubscriptionFlags::RECOVERABLE);
    subscription.is_delta() || flags.contains(SubscriptionFlags::POSITIONED) && !recovers_latest
}

/// If a policy dropped frames and `frames_dropped` was not called yet, what is behind the gap goes too where it must not be
/// read.
pub(crate) fn purge_behind_gap(state: &Messaging, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) {
    let owner = owner_of(state, sub);
    if cx.has_gap(conn, owner) && forbids_gaps(state, sub) {
        cx.purge(conn, owner);
    }
}

fn owner_of(state: &Messaging, sub: SubscriptionKey) -> Owner {
    let subscription = state.subscribers.get(sub);
    owner(subscription.group_id(), subscription.slow_policy())
}
