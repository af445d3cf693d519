//! Channels on their way to the process that takes over: what a home shard gives, in bounded pieces, and what it takes.
//!
//! The shard that gives goes on publishing. What it publishes meanwhile follows piece by piece in the same order, so that the
//! copy is exact at each moment. Order in the lists of expiry is the one thing that is restored at the end (`sort_copies`).

use std::collections::HashSet;

use super::channel::InterestedShard;
use super::history::{HistoryOptions, RecordIter};
use super::home_channels::HomeChannels;
use super::idempotency::KnownKey;
use super::position::{ChannelTop, Position};
use super::publication::{PublicationRecord, count_within};
use super::retention::ListClass;

/// A piece of a channel's history, with what else is known of the channel.
#[derive(Clone, Debug)]
pub(crate) struct ChannelCopy<'a, R> {
    pub(crate) channel: &'a str,
    /// The first piece replaces what was known of the channel.
    pub(crate) is_first: bool,
    /// In the last piece: the channel's position. Before: that of the last record.
    pub(crate) top: Position,
    /// The publisher's version of the last publication with its epoch; 0 for none.
    pub(crate) version: u64,
    pub(crate) version_epoch: &'a str,
    /// How long ago the last publication was made, and the channel was used. 0 where that does not count.
    pub(crate) published_ago: u64,
    pub(crate) used_ago: u64,
    /// Consecutive.
    pub(crate) records: R,
}

impl HomeChannels {
    /// A piece of about `bytes_max` of the channel in this slot: the records after an offset. `None`: no such channel, or it has
    /// nothing to keep. With it: the offset after which the next piece begins, if there is one.
    pub(crate) fn copy_at(
        &self,
        slot: usize,
        after: Option<u64>,
        bytes_max: usize,
        now: u64,
    ) -> Option<(ChannelCopy<'_, impl Iterator<Item = &PublicationRecord>>, Option<u64>)> {
        let channel = self.channels.get(slot)?;
        let history = channel.history.as_deref()?;
        let all: RecordIter<'_> = history.records_after(after.unwrap_or(0));
        let count = count_within(all.clone(), bytes_max);
        // The last record of all is at the top.
        let offset = all.clone().take(count).last().map_or(channel.top.offset, |record| record.offset);
        let next = (count < all.len()).then_some(offset);
        let (version, version_epoch) = history.version();
        let key = crate::ids::ChannelKey::new(slot);
        let copy = ChannelCopy {
            channel: &channel.name,
            is_first: after.is_none(),
            top: Position { offset, ..channel.top },
            version,
            version_epoch,
            published_ago: self.with_records.age(&self.channels, key, now).unwrap_or(0),
            used_ago: self.idle.age(&self.channels, key, now).unwrap_or(0),
            records: all.take(count),
        };
        Some((copy, next))
    }

    /// Takes a piece of a channel over. Without a history in `options` it is ignored.
    pub(crate) fn take_over_channel(
        &mut self,
        copy: ChannelCopy<'_, impl Iterator<Item = PublicationRecord>>,
        options: &HistoryOptions,
        now: u64,
    ) {
        if !options.has_history() {
            return;
        }
        let key = self.find_or_create(copy.channel, true);
        self.open_history(key, options, now);
        if copy.is_first {
            self.clear_history(key);
        }
        let channel = &mut self.channels[key.index()];
        let history = channel.history.as_mut().expect("open_history has created the history");
        let bytes = history.bytes();
        for mut record in copy.records {
            if history.last().is_some_and(|last| last.offset.checked_add(1) != Some(record.offset)) {
                // Its history was cut while the pieces were on their way.
                history.clear();
            }
            channel.seq += 1;
            record.seq = channel.seq;
            history.push(record, options.size);
        }
        channel.top = copy.top;
        if history.last().is_some_and(|last| last.offset != copy.top.offset) {
            history.clear();
        }
        history.set_version(copy.version, copy.version_epoch);
        let (after, has_records) = (history.bytes(), history.len() > 0);
        self.history_bytes.replace(options.namespace, bytes, after);
        if has_records {
            let class = ListClass { namespace: options.namespace, span: options.ttl_ms };
            self.with_records.touch(&mut self.channels, key, class, now);
            self.with_records.set_age(&mut self.channels, key, copy.published_ago, now);
        } else {
            self.with_records.remove(&mut self.channels, key);
        }
        if self.channels[key.index()].is_idle() {
            self.list_idle(key, now);
            self.idle.set_age(&mut self.channels, key, copy.used_ago, now);
        }
        self.evict(options.namespace);
    }

    /// Every channel and key is here: what expires first comes first again.
    pub(crate) fn sort_copies(&mut self) {
        self.with_records.sort(&mut self.channels);
        self.idle.sort(&mut self.channels);
        self.idempotency_keys.sort();
    }

    /// Up to `max` idempotency keys from the one with this number on, and the number of the next.
    pub(crate) fn known_keys(&self, from: u64, max: usize, now: u64) -> (Vec<KnownKey>, Option<u64>) {
        self.idempotency_keys.known(from, max, now)
    }

    pub(crate) fn take_over_key(&mut self, key: KnownKey, now: u64) {
        self.idempotency_keys.take_over(key, now);
    }

    /// A publication with this key was made elsewhere.
    pub(crate) fn remember_key(&mut self, channel: &str, key: &str, answer: Option<Position>, now: u64) {
        let hash = self.idempotency_keys.hash(channel, key);
        self.idempotency_keys.insert(hash, answer, now);
    }

    /// The numbers of the epochs of names without a channel, by slot of the placement.
    pub(crate) fn epoch_numbers(&self) -> &[u32] {
        self.epochs.numbers()
    }

    pub(crate) fn take_over_epoch(&mut self, slot: usize, number: u32) {
        self.epochs.take_over(slot, number);
    }

    /// The position of a channel whose next publication comes from elsewhere; it begins at `before` if it is not known. The
    /// caller publishes to it at once.
    pub(crate) fn find_or_begin_at(&mut self, name: &str, before: Position) -> Position {
        if let Some(key) = self.find(name) {
            return self.channels[key.index()].top;
        }
        let key = self.find_or_create(name, true);
        self.channels[key.index()].top = before;
        before
    }

    /// What another process has published last is not known: every channel that this shard orders begins another epoch, and
    /// keeps its offset and its publications. Returns the shards that have to learn of it. Costs a pass over all channels.
    pub(crate) fn renew_epochs(&mut self, is_own: impl Fn(&str) -> bool) -> Vec<(InterestedShard, ChannelTop)> {
        self.epochs.end_all();
        let mut changed = Vec::new();
        let mut renewed = HashSet::new();
        for (key, channel) in &mut self.channels {
            if !is_own(&channel.name) {
                continue;
            }
            renewed.insert(key);
            channel.top.epoch = self.epochs.of(&channel.name);
            channel.seq += 1;
            channel.shards.iter_mut().for_each(|shard| shard.lagging = false);
            let top = ChannelTop { position: channel.top, seq: channel.seq };
            changed.extend(channel.shards.iter().map(|shard| (*shard, top)));
        }
        self.lagging.retain(|lagging| !renewed.contains(&lagging.channel.index()));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::{HistoryFilter, Publication, PublishOptions, PublishOutcome};

    const OPTIONS: HistoryOptions = HistoryOptions { namespace: 0, size: 5, ttl_ms: 1_000, meta_ttl_ms: 5_000 };

    fn publish(home: &mut HomeChannels, channel: &str, data: &[u8], now: u64) -> PublishOutcome {
        let options = PublishOptions { version_epoch: "v", ..PublishOptions::default() };
        let version = home.top(channel).map_or(0, |top| top.offset) + 10;
        let publication = Publication { channel, data, version, options, ..Publication::default() };
        home.publish(&publication, &OPTIONS, now, |_, _| true)
    }

    /// Copies every channel in pieces of one byte, which is one record.
    fn copy_all(from: &HomeChannels, to: &mut HomeChannels, (then, now): (u64, u64)) {
        for slot in 0..from.channel_slots() {
            let mut after = None;
            while let Some((copy, next)) = from.copy_at(slot, after, 1, then) {
                let ChannelCopy { channel, is_first, top, version, version_epoch, published_ago, used_ago, records } =
                    copy;
                let records = records.cloned();
                let copy =
                    ChannelCopy { channel, is_first, top, version, version_epoch, published_ago, used_ago, records };
                to.take_over_channel(copy, &OPTIONS, now);
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        to.sort_copies();
    }

    fn offsets(home: &mut HomeChannels, channel: &str, now: u64) -> Vec<u64> {
        let filter = HistoryFilter { limit: -1, ..HistoryFilter::default() };
        let found = home.history(channel, filter, &OPTIONS, now).expect("no epoch is asked for");
        found.publications.map(|record| record.offset).collect()
    }

    #[test]
    fn copied_channels_have_their_history_position_version_and_age() {
        let mut from = HomeChannels::new(7, 1 << 20);
        (0..8).for_each(|n| _ = publish(&mut from, "a", &[n], 3_000));
        publish(&mut from, "b", b"b", 3_500);
        let mut to = HomeChannels::new(900, 1 << 20);
        copy_all(&from, &mut to, (3_900, 20));
        assert_eq!((to.top("a"), to.top("b")), (from.top("a"), from.top("b")));
        assert_eq!((offsets(&mut to, "a", 20), offsets(&mut to, "b", 20)), ((4..=8).collect(), vec![1]));
        let options = PublishOptions { version_epoch: "v", ..PublishOptions::default() };
        let stale = Publication { channel: "a", version: 17, options, ..Publication::default() };
        assert!(matches!(to.publish(&stale, &OPTIONS, 20, |_, _| true), PublishOutcome::StaleVersion(_)));
        assert_eq!(to.memory().history, from.memory().history);
        // "a" was published to 900 ms before; the stale publication was a use of it, so that only "b" expires with its time.
        to.expire(20 + 599, &mut { 100 });
        assert_eq!(offsets(&mut to, "b", 619), [1]);
        to.expire(20 + 600, &mut { 100 });
        assert_eq!((offsets(&mut to, "b", 620), offsets(&mut to, "a", 620).len()), (vec![], 5));
    }

    #[test]
    fn copied_channel_that_is_older_than_the_clock_expires_in_time() {
        let mut from = HomeChannels::new(7, 1 << 20);
        publish(&mut from, "a", b"1", 10_000);
        let mut to = HomeChannels::new(900, 1 << 20);
        copy_all(&from, &mut to, (10_900, 0));
        assert_eq!(to.next_expiry(), Some(100));
        to.expire(100, &mut { 100 });
        assert!(offsets(&mut to, "a", 100).is_empty());
        assert_eq!(to.top("a"), from.top("a"), "the position is kept for longer");
        to.expire(4_099, &mut { 100 });
        assert_eq!(to.len(), 1);
    }

    #[test]
    fn piece_that_does_not_continue_the_one_before_begins_the_history() {
        let mut from = HomeChannels::new(7, 1 << 20);
        (0..3).for_each(|n| _ = publish(&mut from, "a", &[n], 0));
        let record = |offset| PublicationRecord::of_broker(offset, Default::default(), None, Default::default(), 0);
        let mut to = HomeChannels::new(900, 1 << 20);
        let epoch = from.top("a").expect("it exists").epoch;
        for (is_first, offset) in [(true, 1), (false, 7)] {
            let top = Position { epoch, offset };
            let records = [record(offset)].into_iter();
            let (version, version_epoch, published_ago, used_ago) = (0, "", 0, 0);
            let copy =
                ChannelCopy { channel: "a", is_first, top, version, version_epoch, published_ago, used_ago, records };
            to.take_over_channel(copy, &OPTIONS, 0);
        }
        assert_eq!(offsets(&mut to, "a", 0), [7]);
    }

    #[test]
    fn renewed_epochs_keep_offsets_and_publications() {
        let mut home = HomeChannels::new(7, 1 << 20);
        (0..3).for_each(|n| _ = publish(&mut home, "a", &[n], 0));
        let before = home.top("a").expect("it exists");
        home.renew_epochs(|_| true);
        let after = home.top("a").expect("it exists");
        assert_ne!(after.epoch, before.epoch);
        assert_eq!((after.offset, offsets(&mut home, "a", 0)), (3, vec![1, 2, 3]));
    }
}
