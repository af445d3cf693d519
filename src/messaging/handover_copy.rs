//! Gives the channels of a home shard to the process that takes over, piece by piece while this process serves.
//!
//! - What a turn sends is bounded (`TURN_BYTES`, `TURN_STEPS`), and so is what waits in the link.
//! - Channels go in the order of their slots: for each its history, then its presence. Idempotency keys are last.
//! - Publications that are made meanwhile follow at once (`PeerState::forward`). A channel that is sent before its slot is
//!   reached is replaced by its copy. Of a channel that is sent in part, new publications are in its next piece.
//! - The end of the copy changes nothing: this process orders until `handover_follow::follow`.

use super::handover_message::{pack_copy, pack_keys};
use super::handover_peer::{Copying, HomeProgress, PeerState};
use super::handover_request::pack_presence;
use super::mail::Mail;
use super::state::Messaging;
use crate::broker::message::RequestKind;
use crate::engine::{Context, Millis};
use crate::pubsub::{HomeChannels, KnownKey};

/// Bytes of pieces in a turn, and of one piece if its channel has more. The last record may go past it.
const TURN_BYTES: usize = 128 * 1024;
/// Slots and clients that a turn looks at.
const TURN_STEPS: u32 = 1024;
/// Idempotency keys in a turn.
const TURN_KEYS: usize = 1024;
/// Channels of the log that a turn subscribes to again.
const RESUBSCRIPTIONS: usize = 512;
/// Pause while the link has no room.
const ROOM_PAUSE: Millis = 2;
/// Clients of a process that is gone that leave the presences in a turn.
const DEPARTURES: usize = 1024;

/// The next portion of the copy, and of what a process that is gone has left.
pub(crate) fn sweep(state: &mut Messaging, cx: &mut Context<Mail>) {
    let now = cx.now();
    if let Some(mut rest) = state.handover_rest.take() {
        for _ in 0..DEPARTURES.min(rest.departed.len()) {
            if let Some((channel, client)) = rest.departed.pop() {
                state.home_channels.presence_remove(&channel, client, now);
            }
        }
        resubscribe(state, &mut rest.resubscribed);
        state.handover_rest = Some(rest).filter(|rest| !rest.departed.is_empty() || !rest.resubscribed.is_empty());
    }
    let has_broker = state.has_broker();
    let Some(peer) = state.handover_peer.as_mut() else { return };
    let PeerState { link, copying: Some(copying), .. } = &mut **peer else { return };
    if copying.is_complete {
        return;
    }
    if !has_broker {
        if !link.has_room_for_copy() {
            copying.retry_at = now + ROOM_PAUSE;
            return;
        }
        copying.retry_at = 0;
        let mut send = |message| link.send_message(message);
        let settings = &state.settings;
        // The log has them.
        let is_copied = |channel: &str| !settings.is_durable(channel);
        if !copy_turn(&state.home_channels, copying, now, (&is_copied, &mut send)) {
            return;
        }
    }
    copying.is_complete = true;
    link.report(HomeProgress::Copied);
}

/// Subscribes to channels of the log again, after the process that has it has changed.
fn resubscribe(state: &Messaging, channels: &mut Vec<Box<str>>) {
    let Some(broker) = &state.broker else { return channels.clear() };
    for _ in 0..RESUBSCRIPTIONS.min(channels.len()) {
        let Some(channel) = channels.pop() else { return };
        if let Some(serial) = broker.channels.get(&channel).map(|shared| shared.serial) {
            broker.tell(&channel, RequestKind::Subscribe(serial));
        }
    }
}

/// What one turn sends. True when everything was sent.
fn copy_turn(
    channels: &HomeChannels,
    copying: &mut Copying,
    now: Millis,
    (is_copied, send): (&impl Fn(&str) -> bool, &mut impl FnMut(Vec<u8>)),
) -> bool {
    let (mut bytes, mut steps) = (0, TURN_STEPS);
    let mut send = |message: Vec<u8>| {
        bytes += message.len();
        send(message);
        bytes < TURN_BYTES
    };
    let mut has_room = true;
    while copying.slot < channels.channel_slots() {
        if !has_room || steps == 0 {
            return false;
        }
        steps -= 1;
        if copying.member.is_none() {
            let piece = channels.copy_at(copying.slot, copying.after, TURN_BYTES, now);
            let Some((copy, next)) = piece.filter(|(copy, _)| is_copied(copy.channel)) else {
                (copying.after, copying.partial, copying.member) = (None, None, Some(0));
                continue;
            };
            copying.partial = next.map(|_| copy.channel.into());
            has_room = send(pack_copy(copy));
            copying.after = next;
            if next.is_none() {
                copying.member = Some(0);
            }
            continue;
        }
        let (members, next) = channels.members_at(copying.slot, copying.member.unwrap_or(0), steps.max(1));
        if let Some((channel, members)) = members {
            for member in members {
                has_room = send(pack_presence(channel, true, &member.client_info));
                steps = steps.saturating_sub(1);
            }
        }
        copying.member = next;
        copying.slot += usize::from(next.is_none());
    }
    has_room && copy_keys(channels, copying, now, &mut send)
}

/// True when all idempotency keys were sent.
fn copy_keys(
    channels: &HomeChannels,
    copying: &mut Copying,
    now: Millis,
    send: &mut impl FnMut(Vec<u8>) -> bool,
) -> bool {
    let (mut keys, next) = channels.known_keys(copying.key.unwrap_or(0), TURN_KEYS, now);
    keys.sort_unstable_by_key(KnownKey::slot);
    for of_slot in keys.chunk_by(|one, other| one.slot() == other.slot()) {
        send(pack_keys(of_slot[0].slot(), of_slot));
    }
    copying.key = next;
    next.is_none()
}
