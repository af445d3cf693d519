//! A broker's presence forgets clients that are not renewed. The home shard renews those of this server, spread evenly over the
//! interval.

use bytes::Bytes;

use super::state::Messaging;
use crate::broker::message::RequestKind;
use crate::engine::Millis;

/// Time between two portions.
const STEP: Millis = 250;

/// Renews the portion that is due: so many clients that each has its turn once in an interval.
pub(crate) fn renew(state: &mut Messaging, now: Millis) {
    let Some(broker) = state.broker.as_mut().filter(|broker| broker.links.presence.is_some()) else { return };
    if broker.renewal.at > now {
        return;
    }
    broker.renewal.at = now + STEP;
    let (mut channel, mut slot) = (broker.renewal.channel, broker.renewal.slot);
    let steps = (broker.links.presence_interval / STEP).max(1);
    let mut left = state.home_channels.members().div_ceil(steps as usize) as u32;
    let slots = state.home_channels.channel_slots();
    let mut looked_at = 0;
    while left > 0 && looked_at <= slots {
        let (members, next) = state.home_channels.members_at(channel, slot, left);
        if let Some((name, members)) = members {
            for member in members {
                let client_info = Bytes::copy_from_slice(&member.client_info);
                broker.tell_presence(name, RequestKind::PresenceSet { client: member.client(), client_info });
                left -= 1;
            }
        }
        match next {
            Some(next) => slot = next,
            None => {
                (channel, slot) = ((channel + 1) % slots.max(1), 0);
                looked_at += 1;
            }
        }
    }
    (broker.renewal.channel, broker.renewal.slot) = (channel, slot);
}
