//! The home against a model that keeps everything in plain lists and looks at all of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fastrand::Rng;

use super::idempotency::KEY_TTL;
use super::lifecycle::IDLE_BYTES;
use super::*;
use crate::ids::{GroupId, ShardId};

const NAMES: [&str; 4] = ["a", "bb", "ccc", "dddd"];
const OPTIONS: [StreamOptions; 4] = [
    StreamOptions::NONE,
    StreamOptions { size: 3, ttl: 40, meta_ttl: 150 },
    StreamOptions { size: 8, ttl: 90, meta_ttl: 60 },
    StreamOptions { size: 2, ttl: 40, meta_ttl: 0 },
];
const BYTES_MAX: usize = 1_500;
const STEPS: usize = 20_000;

#[derive(Default)]
struct Channel {
    top: Position,
    /// All deliveries: the offset (0 for none) and what it brought.
    made: Vec<(u64, Vec<u8>)>,
    /// Of those made, the ones that are kept.
    kept: Vec<usize>,
    published: u64,
    ttl: u64,
    /// Whether it keeps a position, for how long, and since when nobody used it.
    keeps: bool,
    meta_ttl: u64,
    used: u64,
    version: u64,
    inside: BTreeMap<ShardId, Inside>,
    members: BTreeSet<u8>,
}

/// What an interest knows of.
struct Inside {
    feed: GroupId,
    /// Deliveries it was given or told to be lost.
    known: usize,
    lagging: bool,
}

impl Channel {
    fn is_idle(&self) -> bool {
        self.inside.is_empty() && self.members.is_empty()
    }

    fn bytes(&self, name: &str) -> usize {
        let records: usize = self.kept.iter().map(|&at| size_of::<Record>() + self.made[at].1.len()).sum();
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
    /// Epochs there were.
    epochs: HashSet<u32>,
    /// Until when, of which channel, with what answer.
    keys: Vec<(u64, &'static str, u8, Option<Position>)>,
}

#[test]
fn the_home_does_what_the_model_does() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut pair = Pair {
        random: Rng::with_seed(seed),
        now: 0,
        home: HomeChannels::new(0, BYTES_MAX),
        channels: BTreeMap::new(),
        epochs: HashSet::new(),
        keys: Vec::new(),
    };
    for _ in 0..STEPS {
        // Never twice the same, so that what is oldest is never two.
        pair.now += 1 + pair.random.u64(..8);
        let name = NAMES[pair.random.usize(..NAMES.len())];
        match pair.random.u8(..20) {
            0..6 => pair.publish(name),
            6..8 => pair.subscribe(name),
            8..10 => pair.unsubscribe(name),
            10 => pair.repair(),
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
    assert!(pair.home.evictions() > 100, "there was need of room");
}

impl Pair {
    fn options(&mut self) -> StreamOptions {
        OPTIONS[self.random.usize(..OPTIONS.len())]
    }

    /// The channel in the model; its epoch is the home's affair, as long as it is new.
    fn open(&mut self, name: &'static str, position: Position) -> &mut Channel {
        let epochs = &mut self.epochs;
        self.channels.entry(name).or_insert_with(|| {
            assert!(position.epoch != 0 && epochs.insert(position.epoch));
            Channel { top: Position { offset: 0, ..position }, ..Channel::default() }
        })
    }

    fn touch(&mut self, name: &'static str, position: Position, options: &StreamOptions) {
        let now = self.now;
        let channel = self.open(name, position);
        (channel.keeps, channel.meta_ttl, channel.used) = (true, options.meta_ttl, now);
    }

    fn left(&mut self, name: &str) {
        let channel = self.channels.get_mut(name).expect("it was there");
        if channel.is_idle() {
            channel.used = self.now;
            if !channel.keeps {
                self.channels.remove(name);
            }
        }
        self.shed();
    }

    fn bytes(&self) -> usize {
        self.channels.iter().map(|(name, channel)| channel.bytes(name)).sum()
    }

    fn shed(&mut self) {
        while self.bytes() > BYTES_MAX {
            let published = self.channels.iter().filter(|(_, c)| !c.kept.is_empty()).map(|(n, c)| (c.published, 0, *n));
            let idle = self.channels.iter().filter(|(_, c)| c.keeps && c.is_idle()).map(|(n, c)| (c.used, 1, *n));
            let (_, _, name) = published.chain(idle).min().expect("something takes the room");
            let channel = self.channels.get_mut(name).expect("it is there");
            channel.kept.clear();
            if channel.is_idle() {
                self.channels.remove(name);
            }
        }
    }

    fn publish(&mut self, name: &'static str) {
        let options = self.options();
        let data = vec![7; self.random.usize(..200)];
        let key = if self.random.u8(..4) == 0 { self.random.u8(1..6) } else { 0 };
        let draft = Draft {
            data: &data,
            skip_history: self.random.u8(..5) == 0,
            idempotency_key: &"k".repeat(usize::from(key)),
            version: if self.random.u8(..3) == 0 { self.random.u64(..20) } else { 0 },
            ..Draft::default()
        };
        let (mut given, random) = (Vec::new(), &mut self.random);
        let outcome = self.home.publish(name, draft, &options, self.now, |interest, delivery| {
            let room = random.u8(..4) > 0;
            given.push((interest.shard, delivery.seq, delivery.offset, room));
            room
        });
        let known = self.keys.iter().rev().find(|&&(due, n, k, _)| due > self.now && (n, k) == (name, key));
        if let Some(&(_, _, _, answer)) = known {
            assert_eq!(outcome, Outcome::Duplicate(answer));
            return;
        }
        if options.keeps() && !draft.skip_history {
            self.kept(name, &draft, &options, outcome);
        } else {
            let somebody = self.channels.get(name).is_some_and(|channel| !channel.inside.is_empty());
            assert_eq!(outcome, if somebody { Outcome::Passed } else { Outcome::Unwanted });
            _ = self.channels.get_mut(name).filter(|_| somebody).map(|channel| channel.made.push((0, data.clone())));
        }
        if !matches!(outcome, Outcome::Stale(_)) {
            _ = (key > 0).then(|| self.keys.push((self.now + KEY_TTL, name, key, outcome.position())));
            self.given(name, &given);
        }
        self.shed_after(outcome);
    }

    fn shed_after(&mut self, outcome: Outcome) {
        if matches!(outcome, Outcome::Stamped(_)) {
            self.shed();
        }
    }

    fn kept(&mut self, name: &'static str, draft: &Draft<'_>, options: &StreamOptions, outcome: Outcome) {
        let position = outcome.position().expect("a history has positions");
        let now = self.now;
        self.touch(name, position, options);
        let channel = self.channels.get_mut(name).expect("it was touched");
        (channel.published, channel.ttl) = (now, options.ttl);
        if draft.version > 0 && draft.version <= channel.version {
            assert_eq!(outcome, Outcome::Stale(channel.top));
            return;
        }
        channel.version = draft.version;
        channel.top.offset += 1;
        assert_eq!(outcome, Outcome::Stamped(channel.top));
        channel.kept.push(channel.made.len());
        channel.made.push((channel.top.offset, draft.data.to_vec()));
        let excess = channel.kept.len().saturating_sub(options.size as usize);
        channel.kept.drain(..excess);
    }

    /// Whoever did not lag was given the delivery, once.
    fn given(&mut self, name: &str, given: &[(ShardId, u64, u64, bool)]) {
        let Some(channel) = self.channels.get_mut(name) else { return assert!(given.is_empty()) };
        let mut rest = given.to_vec();
        for (shard, inside) in channel.inside.iter_mut().filter(|(_, inside)| !inside.lagging) {
            let at = rest.iter().position(|(to, ..)| to == shard).expect("it was given");
            let (_, seq, offset, room) = rest.swap_remove(at);
            assert_eq!((seq, offset), (channel.made.len() as u64, channel.made.last().expect("it was made").0));
            (inside.lagging, inside.known) = (!room, if room { channel.made.len() } else { inside.known });
        }
        assert!(rest.is_empty());
    }

    fn subscribe(&mut self, name: &'static str) {
        let (shard, options) = (ShardId(self.random.u16(..3)), self.options());
        if self.channels.get(name).is_some_and(|channel| channel.inside.contains_key(&shard)) {
            return;
        }
        let feed = GroupId::new(self.random.u32(..), 1);
        let top = self.home.subscribe(name, shard, feed, WireFormat::plain(0), &options, self.now);
        let channel = self.open(name, top.position);
        let known = channel.made.len();
        assert_eq!(top, Top { position: channel.top, seq: known as u64 });
        channel.inside.insert(shard, Inside { feed, known, lagging: false });
        if options.keeps() {
            self.touch(name, top.position, &options);
        }
    }

    fn unsubscribe(&mut self, name: &'static str) {
        let shard = ShardId(self.random.u16(..3));
        let Some(inside) = self.channels.get_mut(name).and_then(|channel| channel.inside.remove(&shard)) else {
            return;
        };
        self.home.unsubscribe(name, shard, inside.feed, self.now);
        self.left(name);
    }

    fn repair(&mut self) {
        let (channels, mut room) = (&mut self.channels, self.random.u32(..8));
        self.home.repair(|step| {
            let (Repair::Send { channel: name, interest, .. } | Repair::Lost { channel: name, interest, .. }) = step;
            let Some(left) = room.checked_sub(1) else { return false };
            room = left;
            let Channel { made, kept, inside, .. } = channels.get_mut(name).expect("somebody is in it");
            let inside = inside.get_mut(&interest.shard).expect("it is in it");
            assert!(inside.lagging && inside.feed == interest.feed);
            let from = inside.known;
            match step {
                Repair::Send { seq, record, .. } => {
                    assert!(kept.contains(&from) && seq == from as u64 + 1);
                    assert_eq!((record.offset, &record.data[..]), (made[from].0, &made[from].1[..]));
                    inside.known = seq as usize;
                }
                Repair::Lost { first, last, stamped, offset, .. } => {
                    let lost = from..last as usize;
                    assert!(first == from as u64 + 1 && !lost.is_empty() && !kept.iter().any(|at| lost.contains(at)));
                    assert_eq!(stamped, made[lost.clone()].iter().filter(|(offset, _)| *offset > 0).count() as u64);
                    assert_eq!(offset, made[..lost.end].iter().map(|(offset, _)| *offset).max().unwrap_or(0));
                    inside.known = lost.end;
                }
            }
            inside.lagging = inside.known < made.len();
            true
        });
    }

    /// What a reader says he has read, near the truth more often than not.
    fn since(&mut self, name: &str) -> Since {
        let top = self.channels.get(name).map_or(Position::default(), |channel| channel.top);
        let epoch = [None, Some(top.epoch), Some(top.epoch), Some(top.epoch), Some(u32::MAX)];
        Since { epoch: epoch[self.random.usize(..5)], offset: (top.offset + 3).saturating_sub(self.random.u64(..12)) }
    }

    /// The use of a stream that every question about it is.
    fn asked(&mut self, name: &'static str, options: &StreamOptions, top: Position) {
        if options.keeps() {
            self.touch(name, top, options);
        }
        assert_eq!(top, self.channels.get(name).map_or(Position::default(), |channel| channel.top));
    }

    fn recover(&mut self, name: &'static str) {
        let (options, since, limit) = (self.options(), self.since(name), self.random.usize(1..6));
        let cache = self.random.u8(..3) == 0;
        if options.keeps() {
            self.shed();
        }
        let mode = if cache { RecoveryMode::Cache { wanted: None } } else { RecoveryMode::Stream };
        let recovery = self.home.recover(name, since, limit, mode, &options, self.now);
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
        if options.keeps() {
            self.shed();
        }
        let found = self.home.history(name, Query { since, limit, reverse }, &options, self.now);
        let found =
            found.map(|history| (history.publications.map(|record| record.offset).collect::<Vec<_>>(), history.top));
        let top = found.as_ref().map_or_else(|lost| lost.top, |(_, top)| *top);
        self.asked(name, &options, top);
        let mut run = self.channels.get(name).map_or(Vec::new(), Channel::kept_offsets);
        if let Some(since) = since {
            if since.epoch.is_some_and(|epoch| epoch != top.epoch) {
                return assert_eq!(found, Err(Unrecoverable { top }));
            }
            // Backwards it begins at a publication that must be kept.
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
            let position = self.home.position(name, &StreamOptions::NONE, self.now);
            assert_eq!(new, self.open(name, position).members.insert(client));
        } else {
            let was = self.channels.get_mut(name).is_some_and(|channel| channel.members.remove(&client));
            let who = self.home.presence_remove(name, [client; 16], self.now);
            assert_eq!(who.as_deref(), was.then_some(&[client][..]));
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
        self.channels.retain(|_, channel| !due(channel));
        self.channels.values_mut().filter(|c| c.published + c.ttl <= now).for_each(|c| c.kept.clear());
        self.keys.retain(|&(due, ..)| due > now);
    }

    fn compare(&self) {
        assert_eq!(self.home.channels(), self.channels.len());
        assert_eq!(self.home.memory().history, self.bytes());
        assert_eq!(self.home.is_lagging(), self.channels.values().any(|c| c.inside.values().any(|i| i.lagging)));
        let channels = self.channels.values();
        let histories = channels.clone().filter(|c| !c.kept.is_empty()).map(|c| c.published + c.ttl);
        let idle = channels.filter(|c| c.keeps && c.is_idle() && c.meta_ttl > 0).map(|c| c.used + c.meta_ttl);
        assert_eq!(self.home.next_expiry(), histories.chain(idle).chain(self.keys.iter().map(|key| key.0)).min());
    }
}
