//! The mail that a shard receives, from other shards and from itself: requests to home shards are carried out, answers go to
//! the connection that waits, deliveries to the subscribers.

use super::arena::unpack_options;
use super::broker_calls;
use super::broker_channels;
use super::connect;
use super::emulation;
use super::home_broker::Publisher;
use super::home_queries;
use super::home_shard;
use super::large_replies::{PaidRecovery, SMALL_REPLY_BYTES_MAX};
use super::mail::{Inquiry, Mail, ReplyTo, Reserved};
use super::past;
use super::past_home;
use super::queries;
use super::reply_payment;
use super::state::{Messaging, owner};
use super::subscribe_reply::Recovery;
use super::subscription;
use super::subscription_end;
use crate::engine::Context;
use crate::engine::log_ring::{LogRecord, RestartCause};
use crate::engine::mailbox::Batch;
use crate::ids::{ConnId, GroupId, ShardId};
use crate::protocol::{Disconnect, Encoding, Reply, Tags};
use crate::pubsub::{ChannelTop, InterestedShard, LostDeliveries, Publication};

/// Handles one message. `batch` holds its bytes. `budget` is what may be handled in this turn; a reply
/// that is put off ends it.
pub(crate) fn receive(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    from: ShardId,
    mail: Mail,
    batch: &Batch<Mail>,
    budget: &mut u32,
) {
    let name = |span| std::str::from_utf8(batch.bytes(span)).expect("names are put into the mail as str");
    match mail {
        Mail::Deliver { group, at, frame } => _ = state.subscribers.deliver(group, at, batch.bytes(frame)),
        Mail::Subscribe { channel, group, wire_format } => {
            subscribe_group(state, cx, name(channel), InterestedShard::new(from, group, wire_format));
        }
        Mail::Unsubscribe { channel, group } => unsubscribe_group(state, cx, name(channel), from, group),
        Mail::Recover { channel, request } => {
            let bytes_max = small_reply_bytes(request.allows_small);
            let recovery = PaidRecovery { request, bytes_max, reserved: Reserved(0), is_refused: false };
            home_shard::recover(state, cx, from, name(channel), recovery);
        }
        Mail::Join { channel, client_info, options } => {
            home_shard::client_joined(state, cx, name(channel), batch.bytes(client_info), options);
        }
        Mail::Leave { channel, client_info, options } => {
            home_shard::client_left(state, cx, name(channel), batch.bytes(client_info), options);
        }
        Mail::Publish { channel, data, client_info, options, reply_to, is_json } => {
            let (channel, data) = (name(channel), batch.bytes(data));
            let client_info = Some(batch.bytes(client_info));
            let publication = Publication { channel, data, is_json, client_info, ..Publication::default() };
            let publication = unpack_options(batch.bytes(options), publication);
            if state.is_brokered(channel) {
                return broker_calls::publish(state, cx, &publication, Publisher::Client { shard: from, reply_to });
            }
            home_shard::publish(state, cx, &publication);
            cx.mail.post(from, Mail::Published { reply_to });
        }
        Mail::Query { channel, query, reply_to, wire, allows_small } => {
            let encoding = Encoding::from_index(wire).unwrap_or(Encoding::Json);
            let bytes_max = small_reply_bytes(allows_small);
            let inquiry = Inquiry { shard: from, query, reply_to, encoding, bytes_max, reserved: Reserved(0) };
            home_queries::answer(state, cx, name(channel), inquiry);
        }
        Mail::PaidRequest(request) => home_shard::paid_request(state, cx, from, *request),
        Mail::Past(request) => past_home::answer(state, cx, from, *request),
        Mail::Subscribed { group, top } => subscription::group_subscribed(state, cx, from, group, top),
        reply @ (Mail::TooLarge(_)
        | Mail::RecoveryFailed { .. }
        | Mail::QueryFailed { .. }
        | Mail::Recovered { .. }
        | Mail::History(_)
        | Mail::PastReply(_)
        | Mail::Presence { .. }
        | Mail::Reply { .. }) => {
            if has_content(&reply) && state.large_replies.is_turn_spent(cx.counters.turns) {
                // Behind it comes only what must not overtake it.
                state.large_replies.put_off = Some(reply);
                *budget = 0;
                return;
            }
            receive_reply(state, cx, from, reply, batch);
        }
        Mail::Published { reply_to } => published(state, cx, reply_to),
        Mail::UserConnect { user, conn } => user_connects(state, cx, from, name(user), conn),
        Mail::UserDisconnect { user, conn } => state.users.remove_at_home(name(user), from, conn),
        Mail::UserAdmission { conn, admitted } => connect::user_home_answered(state, cx, conn, admitted),
        Mail::Replaced { conn } => replaced(state, cx, conn),
        Mail::Emulate { conn, by, data } => emulation::receive(state, cx, (from, by), conn, batch.bytes(data)),
        Mail::Emulated { by, outcome } => emulation::answer(state, cx, by, outcome),
        failure @ (Mail::SubscribeFailed { .. } | Mail::PublishFailed { .. }) => {
            receive_failure(state, cx, from, failure)
        }
        delivery => receive_delivery(state, cx, delivery, batch),
    }
}

/// Another connection of its user has replaced this one.
fn replaced(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    if cx.is_open(conn) {
        state.close(cx, conn, Disconnect::ConnectionLimit);
    }
}

/// At home: a shard wants the channel's publications.
fn subscribe_group(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, shard: InterestedShard) {
    let options = state.settings.history_options(channel);
    let InterestedShard { shard: from, group, .. } = shard;
    let top = state.home_channels.subscribe(channel, shard, &options, cx.now());
    match state.is_brokered(channel) {
        true => broker_channels::group_joins(state, cx, (from, group), channel, top),
        false => _ = cx.mail.post(from, Mail::Subscribed { group, top }),
    }
}

fn unsubscribe_group(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, from: ShardId, group: GroupId) {
    state.home_channels.unsubscribe(channel, from, group, cx.now());
    if state.broker.is_some() {
        broker_channels::group_left(state, cx, from, group, channel);
    }
}

fn published(state: &mut Messaging, cx: &mut Context<Mail>, ReplyTo { conn, id }: ReplyTo) {
    if cx.is_open(conn) {
        state.reply(cx, conn, id, &Reply::Publish);
        state.reply_received(cx, conn);
    }
}

/// The broker is away.
fn receive_failure(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, failure: Mail) {
    match failure {
        Mail::SubscribeFailed { group } => {
            for conn in subscription::group_failed(state, cx, from, group) {
                connect::subscription_failed(state, cx, conn);
            }
        }
        Mail::PublishFailed { reply_to: ReplyTo { conn, id }, error } if cx.is_open(conn) => {
            state.reply(cx, conn, id, &error.into());
            state.reply_received(cx, conn);
        }
        _ => {}
    }
}

/// A reply that takes time to encode.
fn has_content(reply: &Mail) -> bool {
    match reply {
        Mail::Recovered { records, .. } => !records.is_empty(),
        Mail::History(answer) => answer.reserved == Reserved(0),
        Mail::Presence { .. } => true,
        Mail::PastReply(reply) => reply.result.is_ok(),
        _ => false,
    }
}

/// What a reply may take that was not paid for.
fn small_reply_bytes(allows_small: bool) -> usize {
    if allows_small { SMALL_REPLY_BYTES_MAX } else { 0 }
}

/// Replies of home shards to queries and recoveries. Nothing is queued for a connection that is being closed.
fn receive_reply(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, reply: Mail, batch: &Batch<Mail>) {
    match reply {
        Mail::TooLarge(request) => reply_payment::too_large(state, cx, from, request),
        Mail::Recovered { sub, position, recovered, records, reserved } => {
            state.home_requests.answered(from);
            reply_payment::release(state, cx, reserved);
            let recovery = if recovered { Recovery::Complete(records) } else { Recovery::Failed };
            subscription::recovered(state, cx, sub, position, recovery);
            reply_payment::ask(state, cx);
        }
        Mail::RecoveryFailed { sub, reserved } => {
            state.home_requests.answered(from);
            reply_payment::release(state, cx, reserved);
            if state.subscribers.is_recovering(sub)
                && let Some(conn) = subscription::failed(state, cx, sub.key())
            {
                connect::subscription_failed(state, cx, conn);
            }
            reply_payment::ask(state, cx);
        }
        Mail::QueryFailed { reply_to: ReplyTo { conn, id }, error, reserved } => {
            state.home_requests.answered(from);
            reply_payment::release(state, cx, reserved);
            if cx.is_open(conn) {
                state.reply(cx, conn, id, &error.into());
                reply_payment::query_answered(state, cx, conn);
            }
            reply_payment::ask(state, cx);
        }
        Mail::History(answer) => queries::history_answered(state, cx, from, *answer),
        Mail::PastReply(reply) => past::answered(state, cx, from, *reply),
        Mail::Presence { reply_to, entries, reserved } => {
            state.home_requests.answered(from);
            reply_payment::release(state, cx, reserved);
            queries::presence_answered(state, cx, reply_to, &entries);
        }
        Mail::Reply { conn, frame } => {
            state.home_requests.answered(from);
            if cx.is_open(conn) {
                cx.reply_frame(conn, batch.bytes(frame));
                state.reply_received(cx, conn);
            }
        }
        _ => {}
    }
}

/// Deliveries that are not the same for all subscribers of a group.
fn receive_delivery(state: &mut Messaging, cx: &mut Context<Mail>, mail: Mail, batch: &Batch<Mail>) {
    let owner = |state: &Messaging, group| owner(group, state.subscribers.slow_policy(group));
    match mail {
        Mail::DeliverDelta { group, at, whole, delta } => {
            let (whole, delta) = (batch.bytes(whole), batch.bytes(delta));
            let owner = owner(state, group);
            state.subscribers.deliver_delta(group, at, whole, delta, |conn, frame| {
                cx.deliver(conn, owner, frame, Some(0));
            });
        }
        Mail::DeliverTagged { group, at, frame, tags } => {
            let (frame, tags) = (batch.bytes(frame), Tags::from_bytes(batch.bytes(tags)));
            let owner = owner(state, group);
            state.subscribers.deliver_filtered(group, at, |conn, detail| {
                let filter = detail.and_then(|detail| detail.filter.as_ref());
                if filter.is_none_or(|filter| filter.matches(tags)) {
                    cx.counters.deliveries += 1;
                    cx.deliver(conn, owner, frame, Some(0));
                }
            });
        }
        Mail::JoinLeavePush { group, frame } => {
            let owner = owner(state, group);
            let frame = batch.bytes(frame);
            state.subscribers.deliver_join_leave(group, frame, |conn, frame| cx.deliver(conn, owner, frame, None));
        }
        Mail::Restart { group, top, cause } => restarted(state, cx, group, top, cause),
        Mail::Lost { group, lost } => deliveries_lost(state, cx, group, lost),
        _ => {}
    }
}

/// The home shard could not keep deliveries for this shard. They are counted here, where the subscribers are.
fn deliveries_lost(state: &mut Messaging, cx: &mut Context<Mail>, group: GroupId, lost: LostDeliveries) {
    let Some(subscribers) = state.subscribers.skip_lost(group, lost) else { return };
    let count = lost.count();
    cx.counters.publications_lost += count * u64::from(subscribers);
    cx.log(LogRecord::Gap { count, subscribers });
    for sub in if lost.with_offset > 0 { state.subscribers.of_group(group) } else { Vec::new() } {
        subscription_end::insufficient_state(state, cx, sub);
    }
}

/// The broker has lost what came between, or began anew: positioned subscribers have to load their state.
fn restarted(state: &mut Messaging, cx: &mut Context<Mail>, group: GroupId, top: ChannelTop, cause: RestartCause) {
    let Some(subscribers) = state.subscribers.restart(group, top) else { return };
    if let RestartCause::NotKept(count) = cause {
        cx.counters.publications_lost += count * u64::from(subscribers);
    }
    cx.log(LogRecord::Restarted { cause, subscribers });
    for sub in state.subscribers.of_group(group) {
        subscription_end::insufficient_state(state, cx, sub);
    }
}

/// At the user's home shard: a connection asks to be admitted.
fn user_connects(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, user: &str, conn: ConnId) {
    let client = &state.settings.client;
    let personal = &client.subscribe_to_user_personal_channel;
    let connections = state.users.at_home(user);
    if personal.enabled && personal.single_connection {
        for (shard, other) in connections.drain(..) {
            cx.mail.post(shard, Mail::Replaced { conn: other });
        }
    }
    let limit = client.user_connection_limit;
    let admitted = limit == 0 || connections.len() < limit as usize;
    // One that is not admitted sends `UserDisconnect` like the others.
    connections.push((from, conn));
    cx.mail.post(from, Mail::UserAdmission { conn, admitted });
}
