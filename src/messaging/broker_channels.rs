//! Channels that a broker orders, in their home shard: `Messaging` without a broker orders them itself (`home_shard`).
//!
//! ```text
//! subscribed ──acknowledged──► position read ──► live ──a hole, or the connection was lost──► repair ──► live
//!     └──the broker is away──► delayed ──too long──► the waiting subscribes fail
//! ```
//!
//! - A publication goes to the broker, and is delivered when it comes back from there: the same order on every server.
//! - Without a live channel no shard gets deliveries. A live one is at the position of its last delivery; what follows has the
//!   next offset, or a hole is before it. The home shard reads the missing part once for all its subscribers, and holds what
//!   came meanwhile. If the part is gone or large, or the epoch is another one, the channel restarts at the broker's position, and
//!   positioned subscriptions end with 2500.
//! - Every 40 s without a publication the home shard compares its position with the broker's.
//!
//! The state is in `home_broker`; `broker_events` calls what is here, and `broker_calls` with what was read.

use std::collections::VecDeque;

use super::home_broker::{Call, ChannelState, HELD_MAX, SharedChannel, TimerKind, Waiting};
use super::home_shard;
use super::large_replies::PaidRecovery;
use super::mail::Mail;
use super::state::Messaging;
use crate::broker::message::{RequestKind, SubscribeSerial};
use crate::engine::log_ring::RestartCause;
use crate::engine::{Context, Millis};
use crate::ids::{GroupId, ShardId};
use crate::pubsub::{ChannelTop, HistoryFilter, Position, PublicationRecord, Since};

/// A channel without a publication for so long is compared with the broker, as the original does.
pub(super) const CHECK_INTERVAL: Millis = 40_000;
/// How long a publication may be on its way before a difference is a hole.
const CHECK_AGAIN: Millis = 1_000;
/// After a read failed.
const RETRY: Millis = 500;

/// A shard's group joins the channel.
pub(crate) fn group_joins(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    (to, group): (ShardId, GroupId),
    channel: &str,
    top: ChannelTop,
) {
    let has_history = state.settings.history_options(channel).has_history();
    let is_logged = state.is_logged(channel);
    let Some(broker) = &mut state.broker else { return };
    if broker.links.follows_peer && !is_logged {
        cx.mail.post(to, Mail::Subscribed { group, top });
        return;
    }
    let now = cx.now();
    if !broker.channels.contains_key(channel) {
        broker.last_serial = broker.last_serial.wrapping_add(1);
        let serial = SubscribeSerial(broker.last_serial);
        let state = ChannelState::Subscribing;
        let shared = SharedChannel { serial, state, has_history, heard: now, last_arrived: 0, busy: None };
        broker.channels.insert(channel.into(), shared);
        broker.tell(channel, RequestKind::Subscribe(serial));
    }
    let Some(shared) = broker.channels.get_mut(channel) else { return };
    if shared.is_open() {
        cx.mail.post(to, Mail::Subscribed { group, top });
        return;
    }
    let (serial, busy) = (shared.serial, shared.busy());
    let is_first = busy.waiting.is_empty();
    busy.waiting.push(Waiting::Group { to, group });
    if is_first {
        let at = now + broker.links.subscribe_timeout;
        broker.set_timer(at, TimerKind::SubscribeTimeout, channel, serial);
    }
}

/// A shard's group has left. With the last one the broker's subscription ends. What waits for an answer gets one.
pub(crate) fn group_left(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, group: GroupId, channel: &str) {
    let has_shards = !state.home_channels.interested_shards(channel).is_empty();
    let is_logged = state.is_logged(channel);
    let Some(broker) = state.broker.as_mut().filter(|broker| is_logged || !broker.links.follows_peer) else { return };
    if has_shards {
        let busy = broker.channels.get_mut(channel).and_then(|shared| shared.busy.as_mut());
        let is_gone = |one: &Waiting| matches!(one, Waiting::Group { to, group: own } if (*to, *own) == (from, group));
        if let Some(at) = busy.as_ref().and_then(|busy| busy.waiting.iter().position(is_gone)) {
            busy.map(|busy| busy.waiting.remove(at));
            cx.mail.post(from, Mail::SubscribeFailed { group });
        }
        return;
    }
    if broker.channels.contains_key(channel) {
        fail_waiting(state, cx, channel);
        state.home_channels.forget(channel, cx.now());
        let Some(broker) = &mut state.broker else { return };
        broker.channels.remove(channel);
        broker.tell(channel, RequestKind::Unsubscribe);
    }
}

/// A recovery waits until the hole before it is repaired.
pub(super) fn recover_after_repair(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    to: ShardId,
    channel: &str,
    recovery: PaidRecovery,
) {
    let Some(shared) = state.broker.as_mut().and_then(|broker| broker.channels.get_mut(channel)) else {
        return home_shard::fail_recovery(cx, to, &recovery);
    };
    shared.busy().waiting.push(Waiting::Recovery { to, recovery });
    if shared.state == ChannelState::Live {
        begin_repair(state, cx, channel);
    }
}

/// From here on every publication of the channel arrives.
pub(super) fn subscribed(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, serial: SubscribeSerial) {
    let Some(shared) = state.broker.as_mut().and_then(|broker| broker.channel(channel, serial)) else { return };
    match shared.state {
        _ if !shared.has_history => {
            shared.state = ChannelState::Live;
            answer_waiting(state, cx, channel);
        }
        ChannelState::Subscribing | ChannelState::Delayed | ChannelState::Positioning => {
            shared.state = ChannelState::Positioning;
            read_position(state, cx, channel);
        }
        ChannelState::Live => begin_repair(state, cx, channel),
        // The read under way may have been before the loss.
        ChannelState::Repairing => shared.busy().is_behind = true,
    }
}

pub(super) fn read_position(state: &mut Messaging, cx: &Context<Mail>, channel: &str) {
    let options = state.settings.history_options(channel);
    let Some(broker) = &mut state.broker else { return };
    let Some(serial) = broker.channels.get(channel).map(|shared| shared.serial) else { return };
    let call = Call::Position { channel: channel.into(), serial };
    if !broker.read(channel, call, HistoryFilter::default(), options) {
        broker.set_timer(cx.now() + RETRY, TimerKind::Retry, channel, serial);
    }
}

/// The position of a channel that was subscribed to. What arrived meanwhile is before it, or has moved it.
pub(super) fn position_read(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    serial: SubscribeSerial,
    top: Option<Position>,
) {
    let Some(broker) = &mut state.broker else { return };
    let Some(shared) = broker.channel(channel, serial).filter(|shared| shared.state == ChannelState::Positioning)
    else {
        return;
    };
    let Some(top) = top else {
        return broker.set_timer(cx.now() + RETRY, TimerKind::Retry, channel, serial);
    };
    shared.state = ChannelState::Live;
    shared.heard = cx.now();
    let held = std::mem::take(&mut shared.busy().held);
    shared.busy().held_bytes = 0;
    state.home_channels.begin_at(channel, top);
    broker.set_timer(cx.now() + CHECK_INTERVAL, TimerKind::Check, channel, serial);
    answer_waiting(state, cx, channel);
    deliver_held(state, cx, channel, held);
}

/// Answers what waited for a channel that is open now.
pub(super) fn answer_waiting(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str) {
    let Some(shared) = state.broker.as_mut().and_then(|broker| broker.channels.get_mut(channel)) else { return };
    let waiting = shared.busy.as_mut().map(|busy| std::mem::take(&mut busy.waiting)).unwrap_or_default();
    if shared.state == ChannelState::Live {
        shared.busy = None;
    }
    let Some(top) = state.home_channels.channel_top(channel) else { return };
    for one in waiting {
        match one {
            Waiting::Group { to, group } => _ = cx.mail.post(to, Mail::Subscribed { group, top }),
            Waiting::Recovery { to, recovery } => home_shard::recover(state, cx, to, channel, recovery),
            Waiting::JoinLeave { is_join, client_info } => {
                if let Some(broker) = &state.broker {
                    broker.tell(channel, RequestKind::JoinLeave { is_join, client_info });
                }
            }
        }
    }
}

/// The waiting subscribes of a channel fail: the broker is away for too long.
pub(super) fn fail_waiting(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str) {
    let Some(shared) = state.broker.as_mut().and_then(|broker| broker.channels.get_mut(channel)) else { return };
    let waiting = shared.busy.as_mut().map(|busy| std::mem::take(&mut busy.waiting)).unwrap_or_default();
    // The recoveries first: a group ends with its last subscription.
    for one in &waiting {
        if let Waiting::Recovery { to, recovery } = one {
            home_shard::fail_recovery(cx, *to, recovery);
        }
    }
    for one in waiting {
        if let Waiting::Group { to, group } = one {
            state.home_channels.unsubscribe(channel, to, group, cx.now());
            cx.mail.post(to, Mail::SubscribeFailed { group });
        }
    }
}

/// A publication has come from the broker.
pub(super) fn arrived(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    record: PublicationRecord,
    position: Option<Position>,
) {
    let now = cx.now();
    let Some(broker) = &mut state.broker else { return };
    let Some(shared) = broker.channels.get_mut(channel) else { return };
    let Some(position) = position else {
        if shared.is_open() {
            home_shard::deliver_stamped(state, cx, record.publication(channel), false);
        }
        return;
    };
    match shared.state {
        ChannelState::Subscribing | ChannelState::Delayed | ChannelState::Positioning | ChannelState::Repairing => {
            shared.hold(record, position);
        }
        ChannelState::Live => {
            let Some(top) = state.home_channels.top(channel) else { return };
            let is_same = position.epoch == top.epoch;
            let goes_back = is_same && position.offset <= shared.last_arrived;
            shared.last_arrived = position.offset;
            if is_same && position.offset == top.offset + 1 {
                shared.heard = now;
                home_shard::deliver_stamped(state, cx, record.publication(channel), true);
            } else if !is_same || goes_back || position.offset > top.offset {
                shared.hold(record, position);
                begin_repair(state, cx, channel);
            }
        }
    }
}

/// Something may be missing: reads what came after the last delivery.
pub(super) fn begin_repair(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str) {
    let options = state.settings.history_options(channel);
    let limit = (state.settings.client.recovery_max_publication_limit as i32).max(HELD_MAX as i32);
    let Some(top) = state.home_channels.top(channel) else { return };
    let Some(broker) = &mut state.broker else { return };
    let Some(shared) = broker.channels.get_mut(channel) else { return };
    let serial = shared.serial;
    if !options.has_history() {
        // The settings have changed: there is nothing to read.
        shared.state = ChannelState::Live;
        return;
    }
    shared.state = ChannelState::Repairing;
    shared.busy().is_behind = false;
    let since = Some(Since { epoch: None, offset: top.offset });
    let filter = HistoryFilter { since, limit, reverse: false };
    let call = Call::Repair { channel: channel.into(), serial };
    if !broker.read(channel, call, filter, options) {
        broker.set_timer(cx.now() + RETRY, TimerKind::Retry, channel, serial);
    }
}

/// What a repair has read: `None` if the broker did not answer.
pub(super) fn repair_read(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    (channel, serial): (&str, SubscribeSerial),
    read: Option<(Vec<PublicationRecord>, Position)>,
) {
    let now = cx.now();
    let Some(broker) = &mut state.broker else { return };
    let Some(shared) = broker.channel(channel, serial).filter(|shared| shared.state == ChannelState::Repairing) else {
        return;
    };
    let Some((records, top)) = read else { return broker.set_timer(now + RETRY, TimerKind::Retry, channel, serial) };
    shared.heard = now;
    let busy = shared.busy();
    let (held, is_behind) = (std::mem::take(&mut busy.held), std::mem::take(&mut busy.is_behind));
    busy.held_bytes = 0;
    shared.state = ChannelState::Live;
    if let Err(cause) = absorb(state, cx, channel, &records, top) {
        restart(state, cx, channel, top, cause);
    }
    deliver_held(state, cx, channel, held);
    if is_behind {
        begin_repair(state, cx, channel);
    }
    let shared = state.broker.as_ref().and_then(|broker| broker.channels.get(channel));
    if shared.is_some_and(|shared| shared.state == ChannelState::Live) {
        answer_waiting(state, cx, channel);
    }
}

/// Delivers what was read and follows the last delivery. An error if the channel cannot continue to `top`: what a client gets at
/// once is bounded by half of what may wait for it, so that a repair closes no client. It recovers more than that by a reply.
pub(super) fn absorb(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    records: &[PublicationRecord],
    top: Position,
) -> Result<(), RestartCause> {
    let Some(before) = state.home_channels.top(channel) else { return Ok(()) };
    if before.epoch != top.epoch || before.offset > top.offset {
        return Err(RestartCause::NewEpoch);
    }
    let missed = records.iter().skip_while(|record| record.offset <= before.offset);
    let is_whole = missed.clone().count() as u64 == top.offset - before.offset
        && missed.clone().zip(before.offset + 1..).all(|(record, offset)| record.offset == offset);
    let count = top.offset - before.offset;
    if !is_whole {
        return Err(RestartCause::NotKept(count));
    }
    if missed.clone().map(PublicationRecord::bytes).sum::<usize>() > cx.config.outbound_bytes_max / 2 {
        return Err(RestartCause::TooLarge(count));
    }
    for record in missed {
        cx.counters.publications_repaired += 1;
        home_shard::deliver_stamped(state, cx, record.publication(channel), true);
    }
    Ok(())
}

/// A hole that cannot be repaired here: the channel goes on at the broker's position.
fn restart(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, top: Position, cause: RestartCause) {
    if let Some(shared) = state.broker.as_mut().and_then(|broker| broker.channels.get_mut(channel)) {
        shared.last_arrived = 0;
    }
    let (shards, at) = state.home_channels.restart_at(channel, top);
    for to in shards {
        cx.mail.post(to.shard, Mail::Restart { group: to.group, top: at, cause });
    }
}

/// Publications that came while the channel was not live, in their order. The position was read after they came: one of another
/// epoch is from before. Should it be of a later one, the next read finds that.
fn deliver_held(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    held: VecDeque<(PublicationRecord, Position)>,
) {
    for (record, position) in held {
        let Some(top) = state.home_channels.top(channel) else { return };
        let Some(broker) = &mut state.broker else { return };
        let Some(shared) = broker.channels.get_mut(channel) else { return };
        if position.epoch != top.epoch {
            let serial = shared.serial;
            broker.set_timer(cx.now() + CHECK_AGAIN, TimerKind::Repair, channel, serial);
        } else if position.offset > top.offset {
            arrived(state, cx, channel, record, Some(position));
        } else if shared.state == ChannelState::Live {
            // It was in what was read.
            shared.last_arrived = position.offset;
        }
    }
}

/// The broker's position of a channel that was silent, or `None` if it did not answer.
pub(super) fn position_compared(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    (channel, serial): (&str, SubscribeSerial),
    from: Position,
    top: Option<Position>,
) {
    let now = cx.now();
    let at = state.home_channels.top(channel);
    let Some(broker) = &mut state.broker else { return };
    let Some(shared) = broker.channel(channel, serial).filter(|shared| shared.state == ChannelState::Live) else {
        return;
    };
    let (Some(top), Some(at)) = (top, at) else { return };
    shared.heard = now;
    if top.epoch != at.epoch || top.offset < from.offset {
        begin_repair(state, cx, channel);
    } else if top.offset > at.offset {
        // It may be on its way.
        broker.set_timer(now + CHECK_AGAIN, TimerKind::Repair, channel, serial);
    }
}
