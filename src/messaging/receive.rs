//! The mail that a shard receives, from other shards and from itself: requests to home shards are carried out, answers go to
//! the connection that waits, deliveries to the subscribers.

use super::arena::unpack_options;
use super::connect;
use super::home_queries::{self, Asker};
use super::home_shard;
use super::mail::{Mail, ReplyTo};
use super::state::{Messaging, owner};
use super::subscription::{self, Recovery};
use crate::engine::Context;
use crate::engine::log_ring::LogRecord;
use crate::engine::mailbox::Batch;
use crate::ids::{ConnId, GroupId, ShardId};
use crate::protocol::{Disconnect, Encoding, Reply, Tags};
use crate::pubsub::{InterestedShard, LostDeliveries, Publication};

/// Handles one message. `batch` holds its bytes.
pub(crate) fn receive(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, mail: Mail, batch: &Batch<Mail>) {
    let name = |span| std::str::from_utf8(batch.bytes(span)).expect("names are put into the mail as str");
    match mail {
        Mail::Deliver { group, at, frame } => _ = state.subscribers.deliver(group, at, batch.bytes(frame)),
        Mail::Subscribe { channel, group, wire_format } => {
            let options = state.settings.history_options(name(channel));
            let shard = InterestedShard::new(from, group, wire_format);
            let top = state.home_channels.subscribe(name(channel), shard, &options, cx.now());
            cx.mail.post(from, Mail::Subscribed { group, top });
        }
        Mail::Unsubscribe { channel, group } => {
            state.home_channels.unsubscribe(name(channel), from, group, cx.now());
        }
        Mail::Recover { channel, request } => home_shard::recover(state, cx, from, name(channel), request),
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
            home_shard::publish(state, cx, &unpack_options(batch.bytes(options), publication));
            cx.mail.post(from, Mail::Published { reply_to });
        }
        Mail::Query { channel, query, reply_to, wire } => {
            let encoding = Encoding::from_index(wire).unwrap_or(Encoding::Json);
            home_queries::answer(state, cx, name(channel), query, Asker { shard: from, reply_to, encoding });
        }
        Mail::Subscribed { group, top } => subscription::group_subscribed(state, cx, from, group, top),
        Mail::Recovered { sub, position, recovered, records } => {
            state.home_requests.answered(from);
            let recovery = if recovered { Recovery::Complete(batch.bytes(records)) } else { Recovery::Failed };
            subscription::recovered(state, cx, sub, position, recovery);
        }
        Mail::Published { reply_to: ReplyTo { conn, id } } => {
            if cx.is_open(conn) {
                state.reply(cx, conn, id, &Reply::Publish);
                state.reply_received(cx, conn);
            }
        }
        Mail::Reply { conn, frame } => {
            state.home_requests.answered(from);
            cx.reply_frame(conn, batch.bytes(frame));
            state.reply_received(cx, conn);
        }
        Mail::UserConnect { user, conn } => user_connects(state, cx, from, name(user), conn),
        Mail::UserDisconnect { user, conn } => state.users.remove_at_home(name(user), from, conn),
        Mail::UserAdmission { conn, admitted } => connect::user_home_answered(state, cx, conn, admitted),
        Mail::Replaced { conn } => {
            if cx.is_open(conn) {
                state.close(cx, conn, Disconnect::ConnectionLimit);
            }
        }
        delivery => receive_delivery(state, cx, delivery, batch),
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
        subscription::insufficient_state(state, cx, sub);
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
