//! Ending a subscription. It is freed at once if no vector or list names it; otherwise it is marked and freed later.

use std::rc::Rc;

use super::table::Subscribers;
use super::types::{ClosedGroup, State, Subscription, SubscriptionFlags, SubscriptionList};
use crate::ids::{GroupKey, OptionU32, SubscriptionKey};

impl<D> Subscribers<D> {
    /// Ends a subscription and takes it out of its connection's list. It gets nothing more of the turn. Returns the group if
    /// the subscription was its last.
    pub(crate) fn unsubscribe(&mut self, key: SubscriptionKey, list: &mut SubscriptionList) -> Option<ClosedGroup> {
        let next = self.subscriptions[key.index()].next;
        if list.first == OptionU32::some(key) {
            list.first = next;
        } else {
            let is_before = |one: &SubscriptionKey| self.subscriptions[one.index()].next == OptionU32::some(key);
            let before = self.of_connection(*list).find(is_before);
            let before = before.expect("a subscription is in its connection's list");
            self.subscriptions[before.index()].next = next;
        }
        self.leave_group(key)
    }

    fn leave_group(&mut self, key: SubscriptionKey) -> Option<ClosedGroup> {
        self.count -= 1;
        let Subscription { group: group_key, state, index, .. } = self.subscriptions[key.index()];
        let group = &mut self.groups[group_key.index()];
        group.count -= 1;
        if state == State::AwaitingBase {
            group.awaiting_base.swap_remove(index as usize);
            if let Some(moved) = group.awaiting_base.get(index as usize) {
                self.subscriptions[moved.index()].index = index;
            }
        }
        let is_unnamed = matches!(state, State::Recovering | State::AwaitingBase);
        if is_unnamed {
            self.subscriptions.remove(key.index());
        }
        if group.count == 0 {
            return Some(self.close_group(group_key));
        }
        match state {
            State::Recovering | State::AwaitingBase => {}
            State::Member if Rc::get_mut(&mut group.member_slots).is_some() => self.remove_member(key),
            State::Member => {
                self.subscriptions[key.index()].state = State::Left;
                group.leaving.push(key);
                self.touch(group_key);
            }
            // The list that names it frees it.
            State::Pending | State::Joining | State::Left => self.subscriptions[key.index()].state = State::Left,
        }
        None
    }

    /// The connection dropped something of a subscription with deltas: it gets the next publication whole. What the turn has
    /// for it is dropped too.
    pub(crate) fn reset_delta_base(&mut self, key: SubscriptionKey) {
        let Subscription { conn, group: group_key, state, index, generation, .. } = self.subscriptions[key.index()];
        let group = &mut self.groups[group_key.index()];
        match state {
            State::Pending | State::Recovering | State::AwaitingBase | State::Left => return,
            State::Joining => group.joining.retain(|&other| other != key),
            State::Member => match Rc::get_mut(&mut group.member_slots) {
                Some(_) => self.detach_member(group_key, index),
                // A broadcast is under way: a subscription that has left takes the place until it has passed.
                None => {
                    let (next, flags) = (OptionU32::NONE, SubscriptionFlags::empty());
                    let (state, group_ref) = (State::Left, group_key);
                    let left =
                        Subscription { conn, group: group_ref, index, next, generation, state, flags, detail: None };
                    let left = SubscriptionKey::new(self.subscriptions.insert(left));
                    group.members[index as usize] = left;
                    group.leaving.push(left);
                    self.touch(group_key);
                }
            },
        }
        let group = &mut self.groups[group_key.index()];
        let subscription = &mut self.subscriptions[key.index()];
        (subscription.state, subscription.index) = (State::AwaitingBase, group.awaiting_base.len() as u32);
        group.awaiting_base.push(key);
    }

    pub(super) fn remove_member(&mut self, key: SubscriptionKey) {
        let Subscription { group, index, .. } = self.subscriptions.remove(key.index());
        self.detach_member(group, index);
    }

    /// Takes a member out of the group's vectors. No broadcast is under way.
    fn detach_member(&mut self, key: GroupKey, index: u32) {
        let group = &mut self.groups[key.index()];
        let slots = Rc::get_mut(&mut group.member_slots).expect("no broadcast shares the members");
        slots.swap_remove(index as usize);
        group.members.swap_remove(index as usize);
        if let Some(moved) = group.members.get(index as usize) {
            self.subscriptions[moved.index()].index = index;
        }
    }

    /// Frees a group without subscriptions and all that it names. A broadcast under way holds its own references.
    fn close_group(&mut self, key: GroupKey) -> ClosedGroup {
        let channel = &self.groups[key.index()].channel;
        let is_before = |other: &GroupKey| self.groups[other.index()].next_of_channel == OptionU32::some(key);
        let before = self.groups_of_channel(channel).find(is_before);
        let group = self.groups.remove(key.index());
        // Leaving members are still in `members`, so that every subscription is named once.
        for one in group.members.into_iter().chain(group.pending).chain(group.joining).chain(group.awaiting_base) {
            self.subscriptions.remove(one.index());
        }
        self.turn_bytes -= group.turn.len();
        self.recycle(group.turn);
        if group.is_touched {
            self.touched.retain(|&other| other != key);
        }
        match (before, group.next_of_channel.get()) {
            (Some(before), _) => self.groups[before.index()].next_of_channel = group.next_of_channel,
            (None, Some(next)) => self.name_index.replace(&group.channel, key, next),
            (None, None) => self.name_index.remove(&group.channel, key),
        }
        self.shrink();
        ClosedGroup { id: key.with(group.generation), channel: group.channel }
    }

    /// Frees memory after many subscriptions have ended.
    fn shrink(&mut self) {
        const KEPT_ENTRIES: usize = 1024;
        if self.subscriptions.is_empty() && self.subscriptions.capacity() > KEPT_ENTRIES {
            self.subscriptions.shrink_to_fit();
        }
        if self.groups.is_empty() && self.groups.capacity() > KEPT_ENTRIES {
            self.groups.shrink_to_fit();
            self.name_index.shrink();
        }
    }
}
