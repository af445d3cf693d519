//! The end of a subscription: by its client, by the server, or because of a gap that no publication may follow.

use std::rc::Rc;

use super::mail::{JoinOptions, Mail};
use super::session::Phase;
use super::state::{CommandContext, Messaging, Progress, owner};
use crate::engine::Context;
use crate::engine::outbound::Owner;
use crate::engine::stats::dropped_index;
use crate::ids::{ConnId, GroupId, SubscriptionKey};
use crate::protocol::{Disconnect, Push, RawClientInfo, Reply, Unsubscribed};
use crate::pubsub::SubscriptionFlags;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Joins,
    Leaves,
}

/// Tells the home shard that the subscriber joins or leaves.
pub(crate) fn post_join_or_leave(
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

/// Ends a subscription in any state. Sends nothing to the client.
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
    // Before the connect reply, the push is held with what was delivered, and follows the reply.
    if matches!(state.sessions[conn].phase, Phase::Connecting | Phase::Connected) {
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
        cx.counters.dropped[dropped_index(owner.policy)] += cx.count_frames(conn, share.frames);
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

/// If a policy dropped frames and `frames_dropped` was not called yet, what is behind the gap goes too if it must not be
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
