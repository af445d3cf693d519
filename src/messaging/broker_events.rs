//! What a broker sends to a home shard, and what is due: up to a bound in each turn.

use std::cmp::Reverse;

use super::broker_calls;
use super::broker_channels::{self, CHECK_INTERVAL};
use super::home_broker::{Call, ChannelState, Timer, TimerKind};
use super::home_shard;
use super::mail::Mail;
use super::presence_renewal;
use super::state::Messaging;
use crate::broker::message::{Event, SubscribeSerial};
use crate::engine::Context;
use crate::pubsub::{HistoryFilter, Publication};

/// Events that are handled in one turn.
const EVENTS_PER_TURN: usize = 1024;

/// Handles what the broker sent, up to the bound of a turn, and what is due.
pub(crate) fn sweep(state: &mut Messaging, cx: &mut Context<Mail>) {
    let mut left = EVENTS_PER_TURN;
    while left > 0
        && let Some(batch) = state.broker.as_mut().and_then(|broker| broker.events.front_mut())
    {
        match batch.events.next() {
            Some(event) => {
                left -= 1;
                handle(state, cx, event);
            }
            None => _ = state.broker.as_mut().and_then(|broker| broker.events.pop_front()),
        }
    }
    let now = cx.now();
    while let Some(broker) = &mut state.broker
        && broker.timers.peek().is_some_and(|Reverse(timer)| timer.at <= now)
        && let Some(Reverse(timer)) = broker.timers.pop()
    {
        due(state, cx, &timer);
    }
    if let Some(broker) = &mut state.broker {
        cx.counters.broker_reads_merged += broker.reads.take_merged();
    }
    presence_renewal::renew(state, now);
}

fn handle(state: &mut Messaging, cx: &mut Context<Mail>, event: Event) {
    match event {
        Event::Publication { channel, record, position } => {
            broker_channels::arrived(state, cx, &channel, record, position)
        }
        Event::PatternPublication { channel, record, published_to } => {
            if state.broker.as_ref().is_some_and(|broker| broker.is_open(&channel)) {
                let publication = Publication { published_to: &published_to, ..record.publication(&channel) };
                home_shard::deliver_stamped(state, cx, publication, false);
            }
        }
        Event::Answer { ticket, answer } => broker_calls::answered(state, cx, ticket, answer),
        Event::JoinLeave { channel, is_join, client_info } => {
            if state.broker.as_ref().is_some_and(|broker| broker.is_open(&channel)) {
                home_shard::push_join_or_leave(state, cx, &channel, &client_info, is_join);
            }
        }
        Event::Subscribed { channel, serial } => broker_channels::subscribed(state, cx, &channel, serial),
        Event::SubscribeDelayed { channel, serial } => {
            let Some(shared) = state.broker.as_mut().and_then(|broker| broker.channel(&channel, serial)) else {
                return;
            };
            if shared.state == ChannelState::Subscribing {
                shared.state = ChannelState::Delayed;
            }
            if shared.is_open() {
                broker_channels::answer_waiting(state, cx, &channel);
            }
        }
    }
}

fn due(state: &mut Messaging, cx: &mut Context<Mail>, timer: &Timer) {
    let (channel, serial) = (&*timer.channel, SubscribeSerial(timer.serial));
    let options = state.settings.history_options(channel);
    let at = state.home_channels.top(channel);
    let Some(broker) = &mut state.broker else { return };
    let Some(shared) = broker.channel(channel, serial) else { return };
    match (timer.what, shared.state) {
        (TimerKind::SubscribeTimeout, _) if !shared.is_open() => broker_channels::fail_waiting(state, cx, channel),
        (TimerKind::Retry, ChannelState::Positioning) => broker_channels::read_position(state, cx, channel),
        (TimerKind::Retry, ChannelState::Repairing) => broker_channels::begin_repair(state, cx, channel),
        (TimerKind::Check, state) => {
            let quiet_until = shared.heard + CHECK_INTERVAL;
            let is_quiet = state == ChannelState::Live && quiet_until <= cx.now();
            let next = if quiet_until > cx.now() { quiet_until } else { cx.now() + CHECK_INTERVAL };
            broker.set_timer(next, TimerKind::Check, channel, serial);
            if let Some(from) = at.filter(|_| is_quiet) {
                let call = Call::Compare { channel: channel.into(), serial, from };
                broker.read(channel, call, HistoryFilter::default(), options);
            }
        }
        (TimerKind::Repair, ChannelState::Live) => broker_channels::begin_repair(state, cx, channel),
        _ => {}
    }
}
