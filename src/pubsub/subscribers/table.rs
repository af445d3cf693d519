//! All subscriptions and groups of a shard, and how they are found.

use std::rc::Rc;

use slab::Slab;

use super::subscription_ref::SubscriptionRef;
use super::types::{State, SubscriberGroup, Subscription, SubscriptionList};
use crate::ids::{GroupId, GroupKey, SubscriptionId, SubscriptionKey, kind};
use crate::pubsub::name_index::NameIndex;
use crate::pubsub::position::Position;
use crate::pubsub::wire_format::WireFormat;
use crate::slow_policy::SlowConsumerPolicy;

/// All subscriptions of a shard. `D` is what the caller keeps with a subscription.
pub(crate) struct Subscribers<D> {
    pub(super) groups: Slab<SubscriberGroup>,
    /// The first group of each channel: nearly always the only one.
    pub(super) name_index: NameIndex<kind::Group>,
    pub(super) subscriptions: Slab<Subscription<D>>,
    pub(super) last_group_generation: u32,
    pub(super) last_subscription_generation: u32,
    /// Groups that the end of the turn goes through.
    pub(super) touched: Vec<GroupKey>,
    pub(super) turn_bytes: usize,
    /// Buffers that the flush shares.
    pub(super) in_flush: Vec<Rc<Vec<u8>>>,
    /// Empty buffers for the next turns.
    pub(super) spare_buffers: Vec<Vec<u8>>,
    /// Subscriptions that did not leave.
    pub(super) count: usize,
}

impl<D> Default for Subscribers<D> {
    fn default() -> Self {
        Self {
            groups: Slab::new(),
            name_index: NameIndex::default(),
            subscriptions: Slab::new(),
            last_group_generation: 0,
            last_subscription_generation: 0,
            touched: Vec::new(),
            turn_bytes: 0,
            in_flush: Vec::new(),
            spare_buffers: Vec::new(),
            count: 0,
        }
    }
}

impl<D> Subscribers<D> {
    /// The number of subscriptions, pending ones included.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The bytes that the next flush will broadcast, each counted once.
    pub(crate) fn turn_bytes(&self) -> usize {
        self.turn_bytes
    }

    /// The subscription must exist.
    pub(crate) fn get(&self, key: SubscriptionKey) -> SubscriptionRef<'_, D> {
        let subscription = &self.subscriptions[key.index()];
        SubscriptionRef { subscription, group: &self.groups[subscription.group.index()] }
    }

    /// The identity of a subscription, which must exist.
    pub(crate) fn id(&self, key: SubscriptionKey) -> SubscriptionId {
        key.with(self.subscriptions[key.index()].generation)
    }

    /// The subscription with this identity, if it has not ended.
    pub(crate) fn find_id(&self, id: SubscriptionId) -> Option<SubscriptionKey> {
        let subscription = self.subscriptions.get(id.index())?;
        (subscription.generation == id.generation && subscription.state != State::Left).then(|| id.key())
    }

    /// What the caller keeps with the subscription, which must exist.
    pub(crate) fn detail_mut(&mut self, key: SubscriptionKey) -> &mut Option<Box<D>> {
        &mut self.subscriptions[key.index()].detail
    }

    /// The subscriptions of a connection.
    pub(crate) fn of_connection(&self, list: SubscriptionList) -> impl Iterator<Item = SubscriptionKey> + '_ {
        let next = |&key: &SubscriptionKey| self.subscriptions.get(key.index())?.next.get();
        std::iter::successors(list.first.get(), next)
    }

    /// The connection's subscription to a channel, in any wire format.
    pub(crate) fn find(&self, list: SubscriptionList, channel: &str) -> Option<SubscriptionKey> {
        let first = self.first_of_channel(channel)?;
        let is_of_channel = |group: GroupKey| self.with_siblings(Some(first)).any(|one| one == group);
        self.of_connection(list).find(|key| is_of_channel(self.subscriptions[key.index()].group))
    }

    /// The connection's live subscription in a group.
    pub(crate) fn find_live(&self, list: SubscriptionList, id: GroupId) -> Option<SubscriptionKey> {
        self.group(id)?;
        self.of_connection(list).find(|key| {
            let subscription = &self.subscriptions[key.index()];
            let is_live = !matches!(subscription.state, State::Pending | State::Recovering | State::Left);
            subscription.group == id.key() && is_live
        })
    }

    /// The live subscriptions of a group.
    pub(crate) fn of_group(&self, id: GroupId) -> Vec<SubscriptionKey> {
        let Some(group) = self.group(id) else { return Vec::new() };
        let lists = group.members.iter().chain(&group.joining).chain(&group.awaiting_base);
        lists.copied().filter(|key| self.subscriptions[key.index()].state != State::Left).collect()
    }

    /// The subscriptions that wait for the answer for a group.
    pub(crate) fn pending_of_group(&self, id: GroupId) -> Vec<SubscriptionKey> {
        let Some(group) = self.group(id) else { return Vec::new() };
        let pending = group.pending.iter().copied();
        pending.filter(|key| self.subscriptions[key.index()].state == State::Pending).collect()
    }

    /// A group that exists: its channel, and its wire format.
    pub(crate) fn channel_of(&self, id: GroupId) -> Option<(Rc<str>, WireFormat)> {
        self.group(id).map(|group| (Rc::clone(&group.channel), group.wire_format))
    }

    /// The policy of a group's channel; to close, if the group is gone.
    pub(crate) fn slow_policy(&self, id: GroupId) -> SlowConsumerPolicy {
        self.group(id).map_or(SlowConsumerPolicy::Close, |group| group.slow_policy)
    }

    /// True while the subscription waits for its recovery.
    pub(crate) fn is_recovering(&self, id: SubscriptionId) -> bool {
        self.subscriptions.get(id.index()).is_some_and(|subscription| {
            subscription.generation == id.generation && subscription.state == State::Recovering
        })
    }

    /// The position of a channel, if its group in this format is live: a new subscription to it is live at once.
    pub(crate) fn live_position(&self, channel: &str, wire_format: WireFormat) -> Option<Position> {
        let group = &self.groups[self.find_group(channel, wire_format)?.index()];
        group.is_live.then_some(group.position)
    }

    /// The channels with subscriptions, and how many each has.
    pub(crate) fn channels(&self) -> impl Iterator<Item = (&str, u32)> + '_ {
        self.name_index.keys().map(|first| {
            let count = self.with_siblings(Some(first)).map(|key| self.groups[key.index()].count).sum();
            (&*self.groups[first.index()].channel, count)
        })
    }

    /// `None` if the group is gone.
    fn group(&self, id: GroupId) -> Option<&SubscriberGroup> {
        self.groups.get(id.index()).filter(|group| group.generation == id.generation)
    }

    /// `None` if the group is gone.
    pub(super) fn group_mut(&mut self, id: GroupId) -> Option<&mut SubscriberGroup> {
        self.groups.get_mut(id.index()).filter(|group| group.generation == id.generation)
    }

    pub(super) fn find_group(&self, channel: &str, wire_format: WireFormat) -> Option<GroupKey> {
        self.groups_of_channel(channel).find(|key| self.groups[key.index()].wire_format == wire_format)
    }

    /// The groups of a channel, in all wire formats.
    pub(super) fn groups_of_channel(&self, channel: &str) -> impl Iterator<Item = GroupKey> + '_ {
        self.with_siblings(self.first_of_channel(channel))
    }

    fn first_of_channel(&self, channel: &str) -> Option<GroupKey> {
        self.name_index.find(channel, |key| &self.groups[key.index()].channel)
    }

    fn with_siblings(&self, first: Option<GroupKey>) -> impl Iterator<Item = GroupKey> + '_ {
        std::iter::successors(first, |last| self.groups[last.index()].next_of_channel.get())
    }

    /// The end of the turn will go through the group.
    pub(super) fn touch(&mut self, key: GroupKey) {
        let group = &mut self.groups[key.index()];
        if !group.is_touched {
            group.is_touched = true;
            self.touched.push(key);
        }
    }
}
