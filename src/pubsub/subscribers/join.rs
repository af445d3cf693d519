//! Adding a subscription, and making it live.

use std::rc::Rc;

use thin_vec::ThinVec;

use super::table::Subscribers;
use super::types::{
    Activation, AddedSubscription, DeltaBase, NewSubscription, State, SubscriberGroup, Subscription, SubscriptionList,
};
use crate::ids::{GroupId, GroupKey, OptionU32, SubscriptionId, SubscriptionKey};
use crate::pubsub::position::{ChannelTop, Position};
use crate::pubsub::wire_format::WireFormat;
use crate::slow_policy::SlowConsumerPolicy;

impl<D> Subscribers<D> {
    /// Adds a subscription, at the head of its connection's list.
    pub(crate) fn subscribe(&mut self, list: &mut SubscriptionList, new: NewSubscription<'_, D>) -> AddedSubscription {
        let NewSubscription { conn, channel, wire_format, slow_policy, flags, detail, activation } = new;
        let (group_key, opened_group) = match self.find_group(channel, wire_format) {
            Some(key) => (key, false),
            None => (self.open_group(channel, wire_format, slow_policy), true),
        };
        self.last_subscription_generation = self.last_subscription_generation.wrapping_add(1);
        let generation = self.last_subscription_generation;
        let state = match activation {
            Activation::WithGroup => State::Pending,
            Activation::ByRecovery => State::Recovering,
        };
        let (next, group) = (list.first, group_key);
        let subscription = Subscription { conn, group, index: 0, next, generation, state, flags, detail };
        let key = SubscriptionKey::new(self.subscriptions.insert(subscription));
        list.first = OptionU32::some(key);
        self.count += 1;
        let group = &mut self.groups[group_key.index()];
        group.count += 1;
        let id = group_key.with(group.generation);
        let mut live_at = None;
        if activation == Activation::WithGroup && group.is_live {
            live_at = Some(group.position);
            self.start_delivery(key, DeltaBase::Missing);
        } else if activation == Activation::WithGroup {
            group.pending.push(key);
        }
        AddedSubscription { id: key.with(generation), group: id, opened_group, live_at }
    }

    fn open_group(&mut self, channel: &str, wire_format: WireFormat, slow_policy: SlowConsumerPolicy) -> GroupKey {
        self.last_group_generation = self.last_group_generation.wrapping_add(1);
        let last = self.groups_of_channel(channel).last();
        let shared = last.map_or_else(|| Rc::from(channel), |last| Rc::clone(&self.groups[last.index()].channel));
        let key = GroupKey::new(self.groups.insert(SubscriberGroup {
            generation: self.last_group_generation,
            next_of_channel: OptionU32::NONE,
            channel: shared,
            wire_format,
            slow_policy,
            is_live: false,
            base_lost: false,
            seq: 0,
            position: Position::default(),
            count: 0,
            member_slots: Rc::default(),
            members: Vec::new(),
            pending: ThinVec::new(),
            joining: ThinVec::new(),
            awaiting_base: ThinVec::new(),
            leaving: ThinVec::new(),
            turn: Vec::new(),
            turn_messages: 0,
            turn_latest: OptionU32::NONE,
            is_touched: false,
        }));
        match last {
            Some(last) => self.groups[last.index()].next_of_channel = OptionU32::some(key),
            None => self.name_index.insert(channel, key, |key| &self.groups[key.index()].channel),
        }
        key
    }

    /// The home shard's answer: the pending subscriptions of the group go live, in the order in which they were added.
    /// `None` if the group is gone.
    pub(crate) fn activate_group(&mut self, id: GroupId, top: ChannelTop) -> Option<Vec<SubscriptionKey>> {
        let group = self.group_mut(id)?;
        group.is_live = true;
        (group.position, group.seq) = (top.position, top.seq);
        let pending = std::mem::take(&mut group.pending);
        let mut live = Vec::with_capacity(pending.len());
        for key in pending {
            if self.subscriptions[key.index()].state == State::Left {
                self.subscriptions.remove(key.index());
            } else {
                self.start_delivery(key, DeltaBase::Missing);
                live.push(key);
            }
        }
        Some(live)
    }

    /// The answer that one recovering subscription waited for. False if the subscription is gone or already live.
    pub(crate) fn activate_recovered(&mut self, id: SubscriptionId, base: DeltaBase) -> bool {
        let waits = self.is_recovering(id);
        if waits {
            debug_assert!(
                self.groups[self.subscriptions[id.index()].group.index()].is_live,
                "home answers for the group first"
            );
            self.start_delivery(id.key(), base);
        }
        waits
    }

    /// The subscription gets all deliveries from now on.
    pub(super) fn start_delivery(&mut self, key: SubscriptionKey, base: DeltaBase) {
        let subscription = &mut self.subscriptions[key.index()];
        let group = &mut self.groups[subscription.group.index()];
        if group.wire_format.delta && base == DeltaBase::Missing {
            subscription.state = State::AwaitingBase;
            subscription.index = group.awaiting_base.len() as u32;
            return group.awaiting_base.push(key);
        }
        match Rc::get_mut(&mut group.member_slots) {
            Some(slots) if group.turn.is_empty() => {
                subscription.index = slots.len() as u32;
                subscription.state = State::Member;
                slots.push(subscription.conn.slot);
                group.members.push(key);
            }
            // A broadcast shares the vector, or the turn has frames that are not for this subscription.
            _ => {
                subscription.index = group.turn.len() as u32;
                subscription.state = State::Joining;
                group.joining.push(key);
                let group = subscription.group;
                self.touch(group);
            }
        }
    }
}
