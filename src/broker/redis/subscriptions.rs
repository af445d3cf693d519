//! The channels of a PUB/SUB connection, through all its reconnects.
//!
//! | phase | what Redis knows |
//! |---|---|
//! | wanted | nothing yet, or nothing any more |
//! | sent | the subscription is on its way |
//! | active | it is acknowledged: from there on every message arrives |
//!
//! Redis acknowledges in the order of the commands, so each acknowledgement is matched with what was sent. An acknowledgement of
//! an earlier life of a channel's entry says nothing about the present one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::message::SubscribeSerial;
use crate::ids::ShardId;

/// A channel that is left stays subscribed for this long, so that clients that come and go do not reach Redis.
const LEAVE_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Wanted,
    Sent,
    Active,
}

#[derive(Debug)]
struct Entry {
    subscriber: Subscriber,
    phase: Phase,
    /// Tells the lives of an entry apart.
    life: u64,
    /// The home shard has left: the number of its leave. Messages are dropped.
    leave: Option<u64>,
    /// The home shard has got an event about this serial.
    is_told: bool,
    /// A message was dropped for lack of room.
    is_lagging: bool,
}

/// The home shard of a channel, with the serial of its subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Subscriber {
    pub(super) from: ShardId,
    pub(super) serial: SubscribeSerial,
}

/// What is to be done for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivery {
    Now(Subscriber),
    /// Messages before it were dropped: the home shard is told first.
    AfterGap(Subscriber),
}

#[derive(Default)]
pub(super) struct Subscriptions {
    entries: HashMap<Rc<str>, Entry>,
    /// Channels to subscribe to, by partition. Some may have left or come twice.
    wanted: BTreeMap<usize, VecDeque<Rc<str>>>,
    /// When, which channel, and the number of the leave.
    leaving: VecDeque<(Instant, Rc<str>, u64)>,
    lagging: Vec<Rc<str>>,
    /// The last life or leave.
    number: u64,
}

/// Channels of one partition for one command.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) partition: usize,
    pub(super) channels: VecDeque<(Rc<str>, u64)>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if the channel is active already.
    pub(super) fn subscribe(&mut self, channel: &str, partition: usize, subscriber: Subscriber) -> bool {
        if let Some(entry) = self.entries.get_mut(channel) {
            let is_active = entry.phase == Phase::Active;
            entry.subscriber = subscriber;
            (entry.leave, entry.is_told) = (None, is_active);
            entry.is_lagging &= !is_active;
            return is_active;
        }
        let channel: Rc<str> = channel.into();
        self.number += 1;
        let entry = Entry {
            subscriber,
            phase: Phase::Wanted,
            life: self.number,
            leave: None,
            is_told: false,
            is_lagging: false,
        };
        self.entries.insert(Rc::clone(&channel), entry);
        self.wanted.entry(partition).or_default().push_back(channel);
        false
    }

    pub(super) fn unsubscribe(&mut self, channel: &str, now: Instant) {
        let Some((channel, _)) = self.entries.get_key_value(channel) else { return };
        let channel = Rc::clone(channel);
        if let Some(entry) = self.entries.get_mut(&channel).filter(|entry| entry.leave.is_none()) {
            self.number += 1;
            entry.leave = Some(self.number);
            self.leaving.push_back((now + LEAVE_DELAY, channel, self.number));
        }
    }

    /// The channels of the next command; they count as sent.
    pub(super) fn next_batch(&mut self, max: usize) -> Option<Batch> {
        while let Some(mut partition) = self.wanted.first_entry() {
            let (number, names) = (*partition.key(), partition.get_mut());
            let mut channels = VecDeque::new();
            while channels.len() < max
                && let Some(channel) = names.pop_front()
            {
                if let Some(entry) = self.entries.get_mut(&channel).filter(|entry| entry.phase == Phase::Wanted) {
                    entry.phase = Phase::Sent;
                    channels.push_back((channel, entry.life));
                }
            }
            if names.is_empty() {
                partition.remove();
            }
            if !channels.is_empty() {
                return Some(Batch { partition: number, channels });
            }
        }
        None
    }

    pub(super) fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Redis acknowledges a subscription of this life. Returns the home shard that is to be told.
    pub(super) fn acknowledge(&mut self, channel: &str, life: u64) -> Option<Subscriber> {
        let entry = self.entries.get_mut(channel).filter(|entry| entry.life == life)?;
        entry.phase = Phase::Active;
        if entry.leave.is_some() {
            return None;
        }
        (entry.is_told, entry.is_lagging) = (true, false);
        Some(entry.subscriber)
    }

    /// Redis refused, or has ended, subscriptions: they are wanted again.
    pub(super) fn want_again(&mut self, batch: Batch) {
        for (channel, life) in batch.channels {
            if let Some(entry) = self.entries.get_mut(&channel).filter(|entry| entry.life == life) {
                entry.phase = Phase::Wanted;
                self.wanted.entry(batch.partition).or_default().push_back(channel);
            }
        }
    }

    /// Redis has ended the subscription of an active channel. Returns false if there is none.
    pub(super) fn end(&mut self, channel: &str, partition: usize) -> bool {
        let Some((name, entry)) = self.entries.get_key_value(channel) else { return false };
        let again = Batch { partition, channels: [(Rc::clone(name), entry.life)].into() };
        let is_active = entry.phase == Phase::Active;
        if is_active {
            self.want_again(again);
        }
        is_active
    }

    /// Removes the channels that were left long enough ago. Returns those that Redis knows.
    pub(super) fn take_left(&mut self, now: Instant) -> Vec<Rc<str>> {
        let mut left = Vec::new();
        while let Some((when, ..)) = self.leaving.front()
            && *when <= now
            && let Some((_, channel, number)) = self.leaving.pop_front()
        {
            let is_gone = |entry: &&mut Entry| entry.leave == Some(number);
            if let Some(entry) = self.entries.get_mut(&channel).filter(is_gone) {
                let is_known = entry.phase != Phase::Wanted;
                self.entries.remove(&channel);
                left.extend(is_known.then_some(channel));
            }
        }
        left
    }

    /// The connection is lost: everything is wanted again. Returns how many channels were active.
    pub(super) fn lose_connection(&mut self, partition_of: impl Fn(&str) -> usize) -> usize {
        self.entries.retain(|_, entry| entry.leave.is_none());
        self.leaving.clear();
        self.wanted.clear();
        let mut active = 0;
        for (channel, entry) in &mut self.entries {
            active += usize::from(entry.phase == Phase::Active);
            entry.phase = Phase::Wanted;
            self.wanted.entry(partition_of(channel)).or_default().push_back(Rc::clone(channel));
        }
        active
    }

    /// The channels whose home shards have not got an event yet; they count as told.
    pub(super) fn untold(&mut self) -> Vec<(Rc<str>, Subscriber)> {
        let untold = self.entries.iter_mut().filter(|(_, entry)| !entry.is_told && entry.leave.is_none());
        untold
            .map(|(channel, entry)| {
                entry.is_told = true;
                (Rc::clone(channel), entry.subscriber)
            })
            .collect()
    }

    /// Counts the channel as told that the broker is away.
    #[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
    pub(super) fn tell(&mut self, channel: &str) {
        if let Some(entry) = self.entries.get_mut(channel) {
            entry.is_told = true;
        }
    }

    /// The home shard of a message. `None`: it wants none.
    pub(super) fn subscriber(&self, channel: &str) -> Option<Delivery> {
        let entry = self.entries.get(channel).filter(|entry| entry.phase == Phase::Active && entry.leave.is_none())?;
        Some(if entry.is_lagging { Delivery::AfterGap(entry.subscriber) } else { Delivery::Now(entry.subscriber) })
    }

    /// A message was dropped for lack of room.
    pub(super) fn set_lagging(&mut self, channel: &str) {
        let Some((name, _)) = self.entries.get_key_value(channel) else { return };
        let name = Rc::clone(name);
        if let Some(entry) = self.entries.get_mut(channel).filter(|entry| !entry.is_lagging) {
            entry.is_lagging = true;
            self.lagging.push(name);
        }
    }

    /// The home shard is told about the gap.
    pub(super) fn clear_lagging(&mut self, channel: &str) {
        if let Some(entry) = self.entries.get_mut(channel) {
            entry.is_lagging = false;
        }
    }

    pub(super) fn has_lagging(&self) -> bool {
        !self.lagging.is_empty()
    }

    /// The channels with a gap whose home shards have room: they are to be told.
    pub(super) fn take_lagging(&mut self, has_room: impl Fn(ShardId) -> bool) -> Vec<(Rc<str>, Subscriber)> {
        let mut caught_up = Vec::new();
        let entries = &mut self.entries;
        self.lagging.retain(|channel| {
            let is_due = |entry: &&mut Entry| entry.is_lagging && entry.phase == Phase::Active && entry.leave.is_none();
            let Some(entry) = entries.get_mut(channel).filter(is_due) else { return false };
            if !has_room(entry.subscriber.from) {
                return true;
            }
            entry.is_lagging = false;
            caught_up.push((Rc::clone(channel), entry.subscriber));
            false
        });
        caught_up
    }
}
