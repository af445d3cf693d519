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
use super::connect_reply;
use super::encodings::FrameEncoding;
use super::home_requests::{PendingSubscribe, Requester};
use super::keepalive;
use super::mail::{Mail, RecoverRequest};
use super::state::{Messaging, SubscriptionDetail};
use super::subscribe_reply::{DELTA_BYTES_MAX, Recovery, SubscribeReply};
use super::subscription_end::{self, Presence, post_join_or_leave};
use crate::engine::Context;
use crate::ids::{ConnId, GroupId, ShardId, SubscriptionId, SubscriptionKey};
use crate::protocol::{ErrorCode, Filter, Push, Reply, SubscribePush, kept_info};
use crate::pubsub::{
    Activation, AddedSubscription, ChannelTop, DeltaBase, NewSubscription, Position, Since, SubscriptionFlags,
    WireFormat,
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
    pub(super) fn new(requester: Requester) -> Self {
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
    let now_s = state.unix_s(cx);
    let expire_at = keepalive::bounded_end(options.expire_at, now_s);
    if expire_at > 0 && expire_at <= now_s {
        return Err(ErrorCode::Expired);
    }
    let encoding = state.sessions[conn].encoding;
    let wire = FrameEncoding { encoding, compression_class: cx.compression_class(conn) }.pack();
    let start = start(state, channel, wire, &options, &request);
    let SubscriptionOptions { flags, cache, slow_policy, chan_info, data, .. } = options;
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
        Box::new(SubscriptionDetail { info: kept_info(chan_info), expire_at, filter })
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
        let allows_small = state.home_requests.has_room_for_reply(state.home_of(channel), cx.config.mail_bytes_max);
        RecoverRequest { sub: added.id, group: added.group, since, cache, allows_small, filter }
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

/// The home shard has answered the recovery of one subscription.
pub(crate) fn recovered(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    sub: SubscriptionId,
    position: Position,
    recovery: Recovery,
) {
    let base = match &recovery {
        Recovery::Complete(records) if !records.is_empty() => DeltaBase::Known,
        _ => DeltaBase::Missing,
    };
    if state.subscribers.activate_recovered(sub, base) {
        go_live(state, cx, sub.key(), position, recovery);
    }
}

/// The broker is away: the subscribes that wait for a group fail. Returns the connections whose connect fails with them.
pub(crate) fn group_failed(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    home: ShardId,
    group: GroupId,
) -> Vec<ConnId> {
    state.home_requests.answered(home);
    let pending = state.subscribers.pending_of_group(group);
    let connects = pending.into_iter().filter_map(|sub| failed(state, cx, sub)).collect();
    // A recovery of the group is on its way and will fail too. Until then others may join the group.
    if let Some((channel, wire_format)) = state.subscribers.channel_of(group) {
        state.home_requests.sent(home);
        let channel = cx.mail.put(home, channel.as_bytes());
        cx.mail.post(home, Mail::Subscribe { channel, group, wire_format });
    }
    connects
}

/// A subscribe fails for a temporary reason: the client tries again. Returns the connection if its connect fails with it.
pub(crate) fn failed(state: &mut Messaging, cx: &mut Context<Mail>, sub: SubscriptionKey) -> Option<ConnId> {
    let conn = state.subscribers.get(sub).conn();
    let requester = state.home_requests.requester(sub);
    cx.counters.subscribes_failed += 1;
    subscription_end::end(state, cx, conn, sub);
    match requester {
        Some(Requester::Command(id)) => state.reply(cx, conn, id, &ErrorCode::Internal.into()),
        Some(Requester::Connect) => return Some(conn),
        Some(Requester::Server) | None => {}
    }
    state.close_if_settled(cx, conn);
    None
}

/// A subscription is live: its client gets the reply, and the commands behind it go on.
fn go_live(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    sub: SubscriptionKey,
    position: Position,
    recovery: Recovery,
) {
    let conn = state.subscribers.get(sub).conn();
    let Some(pending) = state.home_requests.end_subscribe(&mut state.sessions[conn], sub) else { return };
    let PendingSubscribe { requester, mut reply, reject_unrecovered, since_offset, blocks_reading, channel } = pending;
    reply.position = position;
    reply.offset = position.offset;
    match connect_reply::within_memory(state, cx, conn, requester, recovery) {
        Recovery::NotRequested => {}
        Recovery::Failed => {
            reply.recovered = false;
            cx.counters.recoveries_failed += 1;
        }
        Recovery::Complete(records) => {
            reply.recovered = true;
            reply.records = records;
            reply.offset = since_offset;
            cx.counters.recoveries += 1;
        }
    }
    if reject_unrecovered && reply.was_recovering && !reply.recovered {
        subscription_end::end(state, cx, conn, sub);
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
        cx.resume_when_written(conn);
    }
    state.close_if_settled(cx, conn);
}

pub(crate) fn send_reply(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, id: u32, reply: &SubscribeReply) {
    // Pushes of the channel go out until the close frame, and the reply comes before them.
    if !cx.takes_replies(conn) {
        return;
    }
    let encoding = state.sessions[conn].encoding;
    let parts = reply.parts(encoding, &mut { DELTA_BYTES_MAX });
    let publications = parts.publications();
    let result = Reply::Subscribe(parts.result(state.unix_s(cx), &publications));
    state.reply_of(cx, conn, id, reply.bytes(encoding), &result);
}

pub(crate) fn send_push(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    channel: &str,
    reply: &SubscribeReply,
) {
    let positioned = reply.flags.contains(SubscriptionFlags::POSITIONED);
    let epoch = reply.position.epoch.text();
    let push = SubscribePush {
        recoverable: reply.flags.contains(SubscriptionFlags::RECOVERABLE),
        epoch: if positioned { epoch.as_str() } else { "" },
        offset: if positioned { reply.offset } else { 0 },
        positioned,
        data: &reply.data,
    };
    state.push(cx, conn, |encoding, out| encoding.push(out, channel, &Push::Subscribe(push)));
    // A subscribe push has no field for publications: the recovered ones follow it.
    let encoding = state.sessions[conn].encoding;
    state.large_replies.encoded(cx.counters.turns, reply.bytes(encoding));
    let parts = reply.parts(encoding, &mut { DELTA_BYTES_MAX });
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
