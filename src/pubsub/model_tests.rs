//! `HomeChannels` against a model that keeps everything in plain lists and scans all of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fastrand::Rng;

use super::channel::{IDLE_BYTES, InterestedShard};
use super::epoch::Epoch;
use super::history::{HistoryFilter, HistoryOptions, RecoveryMode, RecoveryRequest, Since, Unrecoverable};
use super::home_channels::HomeChannels;
use super::idempotency::KEY_TTL;
use super::position::{ChannelTop, Position};
use super::publication::{Publication, PublicationRecord, PublishOptions};
use super::publish::PublishOutcome;
use super::resend::ResendStep;
use super::wire_format::WireFormat;
use crate::ids::{GroupId, ShardId};

const NAMES: [&str; 4] = ["a", "bb", "ccc", "dddd"];
const OPTIONS: [HistoryOptions; 4] = [
    HistoryOptions::NONE,
    HistoryOptions { namespace: 1, size: 3, ttl_ms: 40, meta_ttl_ms: 150 },
    HistoryOptions { namespace: 4, size: 8, ttl_ms: 90, meta_ttl_ms: 60 },
    HistoryOptions { namespace: 4, size: 2, ttl_ms: 40, meta_ttl_ms: 0 },
];
const BYTES_MAX: usize = 1_400;
const STEPS: usize = 20_000;

#[derive(Default)]
struct Channel {
    top: Position,
    /// All deliveries: the offset (0 for none) and the data.
    made: Vec<(u64, Vec<u8>)>,
    /// The indices of the deliveries that the history keeps.
    kept: Vec<usize>,
    published: u64,
    ttl: u64,
    /// Whether the channel keeps a position (it was published to), for which namespace, for how long, and when it was last
    /// used.
    keeps: bool,
    namespace: u16,
    meta_ttl: u64,
    used: u64,
    version: u64,
    shards: BTreeMap<ShardId, Subscribed>,
    members: BTreeSet<u8>,
}

/// A shard that subscribed.
struct Subscribed {
    group: GroupId,
    /// The number of deliveries that it got or that were reported as lost.
    known: usize,
    lagging: bool,
}

impl Channel {
    fn is_idle(&self) -> bool {
        self.shards.is_empty() && self.members.is_empty()
    }

    fn bytes(&self, name: &str) -> usize {
        let records: usize = self.kept.iter().map(|&at| size_of::<PublicationRecord>() + self.made[at].1.len()).sum();
        records + if self.keeps && self.is_idle() { IDLE_BYTES + name.len() } else { 0 }
    }

    fn kept_offsets(&self) -> Vec<u64> {
        self.kept.iter().map(|&at| self.made[at].0).collect()
    }
}

struct Pair {
    random: Rng,
    now: u64,
    home: HomeChannels,
    channels: BTreeMap<&'static str, Channel>,
    /// The epoch that a name has or would have if it existed, and after how many ended epochs that was seen.
    epochs: BTreeMap<&'static str, (Epoch, usize)>,
    /// The epochs that ended with publications.
    ended: HashSet<(&'static str, Epoch)>,
    /// How many ended.
    ends: usize,
    /// Expiry, channel, key and answer.
    keys: Vec<(u64, &'static str, u8, Option<Position>)>,
}

#[test]
fn home_channels_do_what_the_model_does() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut pair = Pair {
        random: Rng::with_seed(seed),
        now: 0,
        home: HomeChannels::new(0, BYTES_MAX),
        channels: BTreeMap::new(),
        epochs: BTreeMap::new(),
        ended: HashSet::new(),
        ends: 0,
        keys: Vec::new(),
    };
    for _ in 0..STEPS {
        // Never twice the same time, so that exactly one entry is the oldest.
        pair.now += 1 + pair.random.u64(..8);
        let name = NAMES[pair.random.usize(..NAMES.len())];
        match pair.random.u8(..20) {
            0..6 => pair.publish(name),
            6..8 => pair.subscribe(name),
            8..10 => pair.unsubscribe(name),
            10 => pair.resend(),
            11..13 => pair.recover(name),
            13..15 => pair.history(name),
            15..17 => pair.presence(name),
            17 => {
                pair.home.history_remove(name);
                _ = pair.channels.get_mut(name).map(|channel| channel.kept.clear());
            }
            18 if pair.random.u8(..100) == 0 => pair.now += KEY_TTL / 2,
            _ => pair.expire(),
        }
        pair.compare();
    }
    assert!(pair.home.evictions() > 100, "the limit was reached");
}

impl Pair {
    fn options(&mut self) -> HistoryOptions {
        OPTIONS[self.random.usize(..OPTIONS.len())]
    }

    /// The channel in the model. The home chooses the epoch.
    fn open(&mut self, name: &'static str, position: Position, has_history: bool) -> &mut Channel {
        if has_history && !self.channels.contains_key(name) {
            self.begins(name, position.epoch);
        }
        self.channels.entry(name).or_insert_with(|| {
            assert!(position.epoch != Epoch::default());
            Channel { top: Position { offset: 0, ..position }, ..Channel::default() }
        })
    }

    /// A channel that does not exist begins with this epoch: one in which it lost nothing, and the same as long as no epoch
    /// of any channel ends.
    fn begins(&mut self, name: &'static str, epoch: Epoch) {
        assert!(epoch != Epoch::default() && !self.ended.contains(&(name, epoch)));
        let (known, ends) = *self.epochs.get(name).unwrap_or(&(epoch, self.ends));
        assert!(known == epoch || ends != self.ends);
        self.epochs.insert(name, (epoch, self.ends));
    }

    fn remove(&mut self, name: &'static str) {
        let channel = self.channels.remove(name).expect("the channel exists");
        if channel.top.offset > 0 {
            self.ended.insert((name, channel.top.epoch));
            self.ends += 1;
        }
    }

    fn touch(&mut self, name: &str, options: &HistoryOptions) {
        if let Some(channel) = self.channels.get_mut(name).filter(|channel| channel.keeps) {
            (channel.meta_ttl, channel.used) = (options.meta_ttl_ms, self.now);
        }
    }

    fn left(&mut self, name: &'static str) {
        let channel = self.channels.get_mut(name).expect("the channel exists");
        if !channel.is_idle() {
            return;
        }
        channel.used = self.now;
        let (keeps, namespace) = (channel.keeps, channel.namespace);
        if keeps { self.evict(namespace) } else { self.remove(name) }
    }

    fn bytes(&self) -> usize {
        self.channels.iter().map(|(name, channel)| channel.bytes(name)).sum()
    }

    /// The namespace that makes room for one that grows.
    fn gives_way(&self, growing: u16) -> u16 {
        let mut bytes = BTreeMap::<u16, usize>::new();
        for (name, channel) in &self.channels {
            *bytes.entry(channel.namespace).or_default() += channel.bytes(name);
        }
        bytes.retain(|_, bytes| *bytes > 0);
        let share = BYTES_MAX / bytes.len();
        if bytes.get(&growing).is_some_and(|&own| own > share) {
            return growing;
        }
        bytes.into_iter().map(|(namespace, bytes)| (bytes, namespace)).max().expect("something uses the memory").1
    }

    fn evict(&mut self, growing: u16) {
        while self.bytes() > BYTES_MAX {
            let namespace = self.gives_way(growing);
            let own = self.channels.iter().filter(|(_, channel)| channel.namespace == namespace);
            let published = own.clone().filter(|(_, c)| !c.kept.is_empty()).map(|(n, c)| (c.published, 0, *n));
            let idle = own.filter(|(_, c)| c.keeps && c.is_idle()).map(|(n, c)| (c.used, 1, *n));
            let (_, _, name) = published.chain(idle).min().expect("the namespace uses memory");
            let channel = self.channels.get_mut(name).expect("it is there");
            channel.kept.clear();
            if channel.is_idle() {
                self.remove(name);
            }
        }
    }

    fn publish(&mut self, name: &'static str) {
        let options = self.options();
        let data = vec![7; self.random.usize(..200)];
        let key = if self.random.u8(..4) == 0 { self.random.u8(1..6) } else { 0 };
        let publish_options = PublishOptions {
            skip_history: self.random.u8(..5) == 0,
            idempotency_key: &"k".repeat(usize::from(key)),
            ..PublishOptions::default()
        };
        let publication = Publication {
            channel: name,
            data: &data,
            version: if self.random.u8(..3) == 0 { self.random.u64(..20) } else { 0 },
            options: publish_options,
            ..Publication::default()
        };
        let (mut given, random) = (Vec::new(), &mut self.random);
        let outcome = self.home.publish(&publication, &options, self.now, |to, delivery| {
            let room = random.u8(..4) > 0;
            given.push((to.shard, delivery.at.seq, delivery.at.offset, room));
            room
        });
        let known = self.keys.iter().rev().find(|&&(due, n, k, _)| due > self.now && (n, k) == (name, key));
        if let Some(&(_, _, _, answer)) = known {
            assert_eq!(outcome, PublishOutcome::Duplicate(answer));
            return;
        }
        if options.has_history() && !publish_options.skip_history {
            self.stored(&publication, name, &options, outcome);
        } else {
            let subscribed = self.channels.get(name).is_some_and(|channel| !channel.shards.is_empty());
            let expected = if subscribed { PublishOutcome::NotStored } else { PublishOutcome::NoSubscribers };
            assert_eq!(outcome, expected);
            _ = self.channels.get_mut(name).filter(|_| subscribed).map(|channel| channel.made.push((0, data.clone())));
        }
        if !matches!(outcome, PublishOutcome::StaleVersion(_)) {
            _ = (key > 0).then(|| self.keys.push((self.now + KEY_TTL, name, key, outcome.position())));
            self.delivered(name, &given);
        }
        if matches!(outcome, PublishOutcome::Stored(_)) {
            self.evict(options.namespace);
        }
    }

    fn stored(
        &mut self,
        publication: &Publication<'_>,
        name: &'static str,
        options: &HistoryOptions,
        outcome: PublishOutcome,
    ) {
        let position = outcome.position().expect("a history has positions");
        let now = self.now;
        let channel = self.open(name, position, true);
        (channel.keeps, channel.namespace) = (true, options.namespace);
        (channel.published, channel.ttl) = (now, options.ttl_ms);
        (channel.meta_ttl, channel.used) = (options.meta_ttl_ms, now);
        if publication.version > 0 && publication.version <= channel.version {
            assert_eq!(outcome, PublishOutcome::StaleVersion(channel.top));
            return;
        }
        channel.version = publication.version;
        channel.top.offset += 1;
        assert_eq!(outcome, PublishOutcome::Stored(channel.top));
        channel.kept.push(channel.made.len());
        channel.made.push((channel.top.offset, publication.data.to_vec()));
        let excess = channel.kept.len().saturating_sub(options.size as usize);
        channel.kept.drain(..excess);
    }

    /// Every shard that did not lag got the delivery, once.
    fn delivered(&mut self, name: &str, given: &[(ShardId, u64, u64, bool)]) {
        let Some(channel) = self.channels.get_mut(name) else { return assert!(given.is_empty()) };
        let mut rest = given.to_vec();
        for (shard, subscribed) in channel.shards.iter_mut().filter(|(_, subscribed)| !subscribed.lagging) {
            let at = rest.iter().position(|(to, ..)| to == shard).expect("the shard got the delivery");
            let (_, seq, offset, room) = rest.swap_remove(at);
            assert_eq!((seq, offset), (channel.made.len() as u64, channel.made.last().expect("a delivery was made").0));
            (subscribed.lagging, subscribed.known) = (!room, if room { channel.made.len() } else { subscribed.known });
        }
        assert!(rest.is_empty());
    }

    fn subscribe(&mut self, name: &'static str) {
        let (shard, options) = (ShardId(self.random.u16(..3)), self.options());
        if self.channels.get(name).is_some_and(|channel| channel.shards.contains_key(&shard)) {
            return;
        }
        let group = GroupId::new(self.random.u32(..), 1);
        let interested = InterestedShard::new(shard, group, WireFormat::plain(0));
        let top = self.home.subscribe(name, interested, &options, self.now);
        let channel = self.open(name, top.position, options.has_history());
        let known = channel.made.len();
        assert_eq!(top, ChannelTop { position: channel.top, seq: known as u64 });
        channel.shards.insert(shard, Subscribed { group, known, lagging: false });
        if options.has_history() {
            self.touch(name, &options);
        }
    }

    fn unsubscribe(&mut self, name: &'static str) {
        let shard = ShardId(self.random.u16(..3));
        let Some(subscribed) = self.channels.get_mut(name).and_then(|channel| channel.shards.remove(&shard)) else {
            return;
        };
        self.home.unsubscribe(name, shard, subscribed.group, self.now);
        self.left(name);
    }

    fn resend(&mut self) {
        let (channels, mut room) = (&mut self.channels, self.random.u32(..8));
        self.home.resend(|step| {
            let (ResendStep::Publication { to, .. } | ResendStep::Lost { to, .. }) = step;
            let Some(left) = room.checked_sub(1) else { return false };
            room = left;
            let mut of_group = channels.iter_mut().filter_map(|(name, channel)| {
                let Channel { made, kept, shards, .. } = channel;
                let subscribed = shards.get_mut(&to.shard).filter(|subscribed| subscribed.group == to.group)?;
                Some((*name, made, kept, subscribed))
            });
            let (name, made, kept, subscribed) = of_group.next().expect("the shard is subscribed");
            assert!(subscribed.lagging);
            let from = subscribed.known;
            match step {
                ResendStep::Publication { delivery, .. } => {
                    let (at, publication) = (delivery.at, delivery.publication);
                    assert!(kept.contains(&from) && at.seq == from as u64 + 1 && publication.channel == name);
                    assert_eq!((at.offset, publication.data), (made[from].0, &made[from].1[..]));
                    subscribed.known = at.seq as usize;
                }
                ResendStep::Lost { lost, .. } => {
                    let range = from..lost.last_seq as usize;
                    assert!(lost.first_seq == from as u64 + 1 && !range.is_empty());
                    assert!(!kept.iter().any(|at| range.contains(at)));
                    let offsets = made[range.clone()].iter().filter(|(offset, _)| *offset > 0).count();
                    assert_eq!(lost.with_offset, offsets as u64);
                    assert_eq!(lost.offset, made[..range.end].iter().map(|(offset, _)| *offset).max().unwrap_or(0));
                    subscribed.known = range.end;
                }
            }
            subscribed.lagging = subscribed.known < made.len();
            true
        });
    }

    /// The position that a reader claims, near the true one more often than not.
    fn since(&mut self, name: &str) -> Since {
        let top = self.channels.get(name).map_or(Position::default(), |channel| channel.top);
        let epoch = [None, Some(top.epoch), Some(top.epoch), Some(top.epoch), Some(Epoch::of_number(u32::MAX))];
        Since { epoch: epoch[self.random.usize(..5)], offset: (top.offset + 3).saturating_sub(self.random.u64(..12)) }
    }

    /// Every read is a use of the history, and creates none.
    fn asked(&mut self, name: &'static str, options: &HistoryOptions, top: Position) {
        if options.has_history() {
            self.touch(name, options);
        }
        match self.channels.get(name) {
            Some(channel) => assert_eq!(top, channel.top),
            None if options.has_history() => {
                assert_eq!(top.offset, 0);
                self.begins(name, top.epoch);
            }
            None => assert_eq!(top, Position::default()),
        }
    }

    fn recover(&mut self, name: &'static str) {
        let (options, since, limit) = (self.options(), self.since(name), self.random.usize(1..6));
        let cache = self.random.u8(..3) == 0;
        let mode = if cache { RecoveryMode::Cache { filter: None } } else { RecoveryMode::Stream };
        let recovery = self.home.recover(name, RecoveryRequest { since, limit, mode }, &options, self.now);
        let (recovered, top) = (recovery.recovered, recovery.top);
        let offsets: Vec<_> = recovery.publications.map(|record| record.offset).collect();
        self.asked(name, &options, top);
        let kept = self.channels.get(name).map_or(Vec::new(), Channel::kept_offsets);
        let expected = if cache {
            let has = since.offset > 0 && since == Since { epoch: Some(top.epoch), offset: top.offset };
            let latest = kept.last().copied().into_iter().filter(|_| !has).collect();
            (has || !kept.is_empty(), latest)
        } else {
            let behind: Vec<_> = kept.into_iter().filter(|&offset| offset > since.offset).take(limit).collect();
            let whole = match behind[..] {
                [] => top.offset == since.offset,
                [first, ..] => first == since.offset + 1 && behind.last() == Some(&top.offset),
            };
            let whole = whole && since.epoch.is_none_or(|epoch| epoch == top.epoch);
            (whole, if whole { behind } else { Vec::new() })
        };
        assert_eq!((recovered, offsets), expected);
    }

    fn history(&mut self, name: &'static str) {
        let (options, reverse, limit) = (self.options(), self.random.bool(), self.random.i32(-1..4));
        let since = self.random.bool().then(|| self.since(name));
        let found = self.home.history(name, HistoryFilter { since, limit, reverse }, &options, self.now);
        let found =
            found.map(|history| (history.publications.map(|record| record.offset).collect::<Vec<_>>(), history.top));
        let top = found.as_ref().map_or_else(|lost| lost.top, |(_, top)| *top);
        self.asked(name, &options, top);
        let mut run = self.channels.get(name).map_or(Vec::new(), Channel::kept_offsets);
        if let Some(since) = since {
            if since.epoch.is_some_and(|epoch| epoch != top.epoch) {
                return assert_eq!(found, Err(Unrecoverable { top }));
            }
            // Backwards, the publication before `since` must be kept.
            let begins = !reverse || since.offset > 0 && run.contains(&(since.offset - 1));
            run.retain(|&offset| begins && if reverse { offset < since.offset } else { offset > since.offset });
        }
        if reverse {
            run.reverse();
        }
        run.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        assert_eq!(found, Ok((run, top)));
    }

    fn presence(&mut self, name: &'static str) {
        let client = self.random.u8(..6);
        if self.random.bool() {
            let new = self.home.presence_add(name, [client; 16], &(client / 2).to_string(), &[client]);
            let position = self.home.position(name, &HistoryOptions::NONE, self.now);
            assert_eq!(new, self.open(name, position, true).members.insert(client));
        } else {
            let was = self.channels.get_mut(name).is_some_and(|channel| channel.members.remove(&client));
            let removed = self.home.presence_remove(name, [client; 16], self.now);
            assert_eq!(removed.as_deref(), was.then_some(&[client][..]));
            if was && self.channels[name].members.is_empty() {
                self.left(name);
            }
        }
        let members = self.channels.get(name).map_or(BTreeSet::new(), |channel| channel.members.clone());
        let users: BTreeSet<_> = members.iter().map(|client| client / 2).collect();
        assert_eq!(self.home.presence_stats(name), (members.len() as u32, users.len() as u32));
        let (mut seen, mut from) = (BTreeSet::new(), Some(0));
        while let Some(at) = from {
            let (slice, next) = self.home.presence_slice(name, at, 2);
            slice.for_each(|member| assert!(seen.insert(member.client[0])));
            from = next;
        }
        assert_eq!(seen, members);
    }

    fn expire(&mut self) {
        let now = self.now;
        self.home.expire(now, &mut 1_000);
        let due = |c: &Channel| c.keeps && c.is_idle() && c.meta_ttl > 0 && c.used + c.meta_ttl <= now;
        let due: Vec<_> = self.channels.iter().filter(|(_, channel)| due(channel)).map(|(name, _)| *name).collect();
        due.into_iter().for_each(|name| self.remove(name));
        self.channels.values_mut().filter(|c| c.published + c.ttl <= now).for_each(|c| c.kept.clear());
        self.keys.retain(|&(due, ..)| due > now);
    }

    fn compare(&self) {
        assert_eq!(self.home.len(), self.channels.len());
        assert_eq!(self.home.memory().history, self.bytes());
        assert_eq!(
            self.home.has_lagging_shards(),
            self.channels.values().any(|c| c.shards.values().any(|i| i.lagging))
        );
        let channels = self.channels.values();
        let histories = channels.clone().filter(|c| !c.kept.is_empty()).map(|c| c.published + c.ttl);
        let idle = channels.filter(|c| c.keeps && c.is_idle() && c.meta_ttl > 0).map(|c| c.used + c.meta_ttl);
        assert_eq!(self.home.next_expiry(), histories.chain(idle).chain(self.keys.iter().map(|key| key.0)).min());
    }
}
