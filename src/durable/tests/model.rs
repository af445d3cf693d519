//! Random operations and restarts against a simple model with the rules of the histories in memory.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::pubsub::{Position, Since};

#[derive(Clone)]
struct Channel {
    top: Position,
    kept: Vec<(u64, Vec<u8>)>,
    expiry: u64,
    version: u64,
}

struct Model {
    disk: SimDisk,
    lane: Option<Lane<SimDisk>>,
    channels: BTreeMap<&'static str, Channel>,
    keys: HashMap<(&'static str, u8), (u64, Position)>,
    /// How long the history of a channel lives.
    lives: HashMap<&'static str, u64>,
    random: fastrand::Rng,
    now: u64,
    made: u64,
}

const NAMES: [&str; 4] = ["a", "b", "c", "news"];

impl Model {
    fn lane(&mut self) -> &mut Lane<SimDisk> {
        self.lane.as_mut().expect("it is open")
    }

    fn history(&mut self) -> HistoryOptions {
        HistoryOptions { size: self.random.u32(1..6), ttl_ms: [50, 200, 100_000][self.random.usize(..3)], ..HISTORY }
    }

    fn step(&mut self) {
        self.now += self.random.u64(..10);
        let name = NAMES[self.random.usize(..NAMES.len())];
        match self.random.u8(..20) {
            0..9 => self.publish(name),
            9..14 => self.read(name),
            14 => {
                let now = self.now;
                self.lane().remove_history(name, now).expect("it is staged");
                self.lane().commit().expect("it is written");
                if let Some(channel) = self.channels.get_mut(name) {
                    channel.kept.clear();
                }
            }
            15 => {
                let now = self.now;
                while self.lane().maintain(now).expect("it works") {}
            }
            16 => {
                self.lane.take().expect("it is open").close(self.now).expect("closed");
                self.reopen();
            }
            17 => {
                self.lane = None;
                self.disk = self.disk.after_kill();
                self.reopen();
            }
            18 => self.now += self.random.u64(..400),
            _ => self.lane().sync().expect("it is synced"),
        }
    }

    fn reopen(&mut self) {
        let options = LaneOptions { segment_bytes: 16 << 10, checkpoint_interval_ms: 500, ..options(1) };
        let (lane, report) = Lane::open(self.disk.clone(), options, self.now).expect("it opens");
        assert!(report.quarantined.is_empty() && report.torn_bytes == 0, "{report:?}");
        self.lane = Some(lane);
    }

    fn publish(&mut self, name: &'static str) {
        let (history, now) = (self.history(), self.now);
        self.made += 1;
        let data = self.made.to_string().repeat(self.random.usize(1..60)).into_bytes();
        let (key, version) = (
            self.random.u8(..40),
            if self.random.bool() { self.made - self.random.u64(..3).min(self.made) } else { 0 },
        );
        let key_text = if key < 5 { key.to_string() } else { String::new() };
        let new =
            NewPublication { history, version, idempotency_key: &key_text, ..publication(&data, Durability::Process) };
        let staged = self.lane().publish(name, &new, now).expect("there is room");
        self.lane().commit().expect("it is written");
        if let Some((time, position)) = self.keys.get(&(name, key)).filter(|_| key < 5)
            && time + 300_000 > now
        {
            assert!(staged.is_suppressed && staged.position == Some(*position));
            return;
        }
        let position = staged.position.expect("it has a history");
        let new = || Channel { top: Position { offset: 0, ..position }, kept: Vec::new(), expiry: 0, version: 0 };
        let channel = self.channels.entry(name).or_insert_with(new);
        if channel.expiry <= now {
            channel.kept.clear();
        }
        if version > 0 && channel.version > 0 && version <= channel.version {
            assert!(staged.is_suppressed && position == channel.top);
            if !channel.kept.is_empty() {
                channel.expiry = now + self.lives[name];
            }
            return;
        }
        assert!(!staged.is_suppressed);
        channel.top.offset += 1;
        assert_eq!(position, channel.top);
        channel.kept.push((position.offset, data));
        let over = channel.kept.len().saturating_sub(history.size as usize);
        channel.kept.drain(..over);
        (channel.expiry, channel.version) = (now + history.ttl_ms, version);
        self.lives.insert(name, history.ttl_ms);
        if key < 5 {
            self.keys.insert((name, key), (now, position));
        }
    }

    fn read(&mut self, name: &'static str) {
        let now = self.now;
        let reverse = self.random.bool();
        let limit = self.random.i32(-1..4);
        let kept = self.channels.get(name).filter(|channel| channel.expiry > now);
        let mut expected = kept.map_or_else(Vec::new, |channel| channel.kept.clone());
        let top = self.channels.get(name).map(|channel| channel.top);
        let since = top
            .filter(|_| self.random.bool())
            .map(|top| Since { epoch: Some(top.epoch), offset: (top.offset + 2).saturating_sub(self.random.u64(..8)) });
        if let Some(since) = since {
            let begins = !reverse || since.offset > 0 && expected.iter().any(|record| record.0 == since.offset - 1);
            expected.retain(|record| begins && if reverse { record.0 < since.offset } else { record.0 > since.offset });
        }
        if reverse {
            expected.reverse();
        }
        expected.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let filter = HistoryFilter { since, limit, reverse };
        let found = read(self.lane(), name, filter, now).expect("it can be read");
        let records: Vec<_> = found.records.iter().map(|record| (record.offset, record.data.to_vec())).collect();
        assert_eq!(records, expected);
        assert!(found.since_is_kept && top.is_none_or(|top| top == found.top));
    }
}

#[test]
fn log_answers_as_the_histories_in_memory_over_restarts() {
    for seed in seeds(200) {
        eprintln!("CORECAST_SEED={seed}");
        let mut model = Model {
            disk: SimDisk::default(),
            lane: None,
            channels: BTreeMap::new(),
            keys: HashMap::new(),
            lives: HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
            now: 1_000,
            made: 0,
        };
        model.reopen();
        (0..400).for_each(|_| model.step());
    }
}
