//! What a channel's home shard knows: its stream, and who wants it.
//!
//! Interests are shards in a wire form, not subscribers: a million subscribers on eight shards are eight interests. A shard
//! that does not keep up is skipped: home remembers the range, and when there is room sends what history still has, and
//! says what it has not. What is published meanwhile extends the range, so the order holds.
//!
//! Invariants: offsets of a channel grow by one; an interest's skipped range ends at the channel's top; a channel with
//! no interest and no history does not exist.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use slab::Slab;

use super::{Form, Position};
use crate::ids::{FeedId, ShardId};

/// One shard that wants a channel in one form, under the shard's own name for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    pub shard: ShardId,
    pub feed: FeedId,
    pub form: Form,
    /// The first offset that was not queued for it; the last is the channel's top.
    skipped_from: Option<u64>,
}

/// A publication as history keeps it: what every form is encoded from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset: u64,
    /// The payload, valid JSON. Shared by whoever is still to be sent it.
    pub data: Bytes,
    /// The client that published it, if one did.
    pub client: Option<[u8; 16]>,
}

struct Channel {
    name: Box<str>,
    top: Position,
    interests: Vec<Interest>,
    history: VecDeque<Record>,
}

/// One step of bringing a lagging shard up to date.
pub enum Repair<'a> {
    /// Send this publication.
    Send { channel: &'a str, interest: Interest, record: &'a Record },
    /// History does not have these any more.
    Lost { channel: &'a str, interest: Interest, first: u64, last: u64 },
}

/// All channels of which this shard is home.
pub struct Home {
    names: HashMap<Box<str>, u32>,
    channels: Slab<Channel>,
    epochs: u32,
    /// Publications kept per channel; 0 keeps none.
    history_max: usize,
    /// Interests that were skipped: the channel's key, the shard, the feed. Looked at when there is room.
    lagging: VecDeque<(u32, ShardId, FeedId)>,
}

impl Home {
    /// `epoch` is where this home's epochs begin: unlike an earlier process's.
    pub fn new(epoch: u32, history_max: usize) -> Self {
        Self { names: HashMap::new(), channels: Slab::new(), epochs: epoch, history_max, lagging: VecDeque::new() }
    }

    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// A shard wants the channel. Returns the position behind which its deliveries begin.
    pub fn subscribe(&mut self, name: &str, shard: ShardId, feed: FeedId, form: Form) -> Position {
        let key = self.open(name);
        let channel = &mut self.channels[key as usize];
        channel.interests.push(Interest { shard, feed, form, skipped_from: None });
        channel.top
    }

    /// Ends what `subscribe` with the same shard and feed began. One follows every subscribe.
    pub fn unsubscribe(&mut self, name: &str, shard: ShardId, feed: FeedId) {
        let Some(&key) = self.names.get(name) else { return };
        let channel = &mut self.channels[key as usize];
        if let Some(at) = channel.interests.iter().position(|i| i.shard == shard && i.feed == feed) {
            let gone = channel.interests.swap_remove(at);
            if gone.skipped_from.is_some() {
                self.lagging.retain(|&(_, s, f)| (s, f) != (shard, feed));
            }
        }
        self.forget_if_unused(key);
    }

    fn open(&mut self, name: &str) -> u32 {
        if let Some(&key) = self.names.get(name) {
            return key;
        }
        self.epochs = self.epochs.wrapping_add(1);
        let top = Position { epoch: self.epochs, offset: 0 };
        let channel = Channel { name: name.into(), top, interests: Vec::new(), history: VecDeque::new() };
        let key = self.channels.insert(channel) as u32;
        self.names.insert(name.into(), key);
        key
    }

    fn forget_if_unused(&mut self, key: u32) {
        let channel = &self.channels[key as usize];
        if channel.interests.is_empty() && channel.history.is_empty() {
            self.names.remove(&channel.name);
            self.channels.remove(key as usize);
        }
    }

    /// Stamps a publication and keeps it. `deliver` queues it for an interest, or says false: there is no room, and the
    /// shard is skipped. `None` where nobody wants it and nothing is kept: there is no offset then.
    pub fn publish(
        &mut self,
        name: &str,
        data: &[u8],
        client: Option<[u8; 16]>,
        mut deliver: impl FnMut(Interest, u64) -> bool,
    ) -> Option<Position> {
        let key = match self.names.get(name) {
            Some(&key) => key,
            None if self.history_max > 0 => self.open(name),
            None => return None,
        };
        let channel = &mut self.channels[key as usize];
        channel.top.offset += 1;
        let offset = channel.top.offset;
        for interest in &mut channel.interests {
            if interest.skipped_from.is_none() && !deliver(*interest, offset) {
                interest.skipped_from = Some(offset);
                self.lagging.push_back((key, interest.shard, interest.feed));
            }
        }
        if self.history_max > 0 {
            if channel.history.len() == self.history_max {
                channel.history.pop_front();
            }
            channel.history.push_back(Record { offset, data: Bytes::copy_from_slice(data), client });
        }
        Some(channel.top)
    }

    pub fn is_lagging(&self) -> bool {
        !self.lagging.is_empty()
    }

    /// Brings skipped shards up to date, as far as there is room (`each` says false where there is none): each gets what it
    /// missed, in order, and is told what is lost at the place where it was.
    pub fn repair(&mut self, mut each: impl FnMut(Repair<'_>) -> bool) {
        for _ in 0..self.lagging.len() {
            let Some((key, shard, feed)) = self.lagging.pop_front() else { return };
            let Channel { name: channel, top, interests, history } = &mut self.channels[key as usize];
            let found = interests.iter_mut().find(|i| i.shard == shard && i.feed == feed);
            let interest = found.expect("an interest that ends leaves the list");
            let mut next = interest.skipped_from.expect("who stands in the list was skipped");
            let kept_from = history.front().map_or(top.offset + 1, |record| record.offset);
            let lost = Repair::Lost { channel, interest: *interest, first: next, last: kept_from - 1 };
            if next < kept_from && each(lost) {
                next = kept_from;
            }
            while let Some(record) = next.checked_sub(kept_from).and_then(|i| history.get(i as usize)) {
                if !each(Repair::Send { channel, interest: *interest, record }) {
                    break;
                }
                next += 1;
            }
            if next > top.offset {
                interest.skipped_from = None;
            } else {
                interest.skipped_from = Some(next);
                self.lagging.push_back((key, shard, feed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: FeedId = FeedId { slot: 3, generation: 1 };
    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    fn publish(home: &mut Home, data: &[u8], full: &[ShardId]) -> Vec<(ShardId, u64)> {
        let mut sent = Vec::new();
        home.publish("news", data, None, |i, offset| {
            let room = !full.contains(&i.shard);
            sent.extend(room.then_some((i.shard, offset)));
            room
        });
        sent
    }

    fn repair(home: &mut Home, mut room: usize) -> (Vec<u64>, Vec<(u64, u64)>) {
        let (mut sent, mut lost) = (Vec::new(), Vec::new());
        home.repair(|step| {
            let Some(left) = room.checked_sub(1) else { return false };
            room = left;
            match step {
                Repair::Send { record, .. } => sent.push(record.offset),
                Repair::Lost { first, last, .. } => lost.push((first, last)),
            }
            true
        });
        (sent, lost)
    }

    #[test]
    fn a_channel_lives_while_somebody_wants_it() {
        let mut home = Home::new(7, 0);
        assert_eq!(home.publish("news", b"1", None, |_, _| panic!("nobody asked")), None);
        let first = home.subscribe("news", A, FEED, Form::Json);
        assert_eq!(publish(&mut home, b"1", &[]), [(A, 1)]);
        assert_eq!(home.subscribe("news", B, FEED, Form::Json), Position { offset: 1, ..first });
        assert_eq!(publish(&mut home, b"2", &[]), [(A, 2), (B, 2)]);
        home.unsubscribe("news", A, FEED);
        home.unsubscribe("news", B, FEED);
        home.unsubscribe("news", B, FEED);
        assert_eq!(home.channels(), 0);
        assert_ne!(home.subscribe("news", A, FEED, Form::Json).epoch, first.epoch);
    }

    #[test]
    fn a_skipped_shard_gets_all_it_missed_in_order() {
        let mut home = Home::new(0, 10);
        home.subscribe("news", A, FEED, Form::Json);
        home.subscribe("news", B, FEED, Form::Json);
        assert_eq!(publish(&mut home, b"1", &[B]), [(A, 1)]);
        assert_eq!(publish(&mut home, b"2", &[]), [(A, 2)], "B's order holds: 1 was not sent yet");
        assert!(home.is_lagging());
        assert_eq!(repair(&mut home, 9), (vec![1, 2], vec![]));
        assert!(!home.is_lagging());
        assert_eq!(publish(&mut home, b"3", &[]), [(A, 3), (B, 3)]);
    }

    #[test]
    fn what_history_no_longer_has_is_said_to_be_lost() {
        let mut home = Home::new(0, 2);
        home.subscribe("news", B, FEED, Form::Json);
        for i in 0..5u8 {
            publish(&mut home, &[i], &[B]);
        }
        assert_eq!(repair(&mut home, 9), (vec![4, 5], vec![(1, 3)]));
        let mut without = Home::new(0, 0);
        without.subscribe("news", B, FEED, Form::Json);
        publish(&mut without, b"1", &[B]);
        assert_eq!(repair(&mut without, 9), (vec![], vec![(1, 1)]));
    }

    #[test]
    fn a_repair_stops_where_there_is_no_room_and_goes_on_there() {
        let mut home = Home::new(0, 10);
        home.subscribe("news", B, FEED, Form::Json);
        for i in 0..4u8 {
            publish(&mut home, &[i], &[B]);
        }
        assert_eq!(repair(&mut home, 3), (vec![1, 2, 3], vec![]));
        assert_eq!(repair(&mut home, 9), (vec![4], vec![]));
    }

    #[test]
    fn a_shard_that_left_while_it_lagged_is_forgotten() {
        let mut home = Home::new(0, 0);
        home.subscribe("news", B, FEED, Form::Json);
        publish(&mut home, b"1", &[B]);
        home.unsubscribe("news", B, FEED);
        assert!(!home.is_lagging());
        assert_eq!(home.channels(), 0);
    }
}
