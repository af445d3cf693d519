//! Power losses under seeds: what is kept is a prefix of each channel that has all strict publications that were acknowledged,
//! and no reader is told that it missed nothing if it has seen what is lost.

use std::collections::BTreeMap;

use super::*;
use crate::durable::types::LastEnd;
use crate::pubsub::{Position, Since};

#[derive(Default)]
struct Channel {
    /// What was shown, by position, of all epochs.
    shown: Vec<(Position, Vec<u8>)>,
    /// The publications of the history now, which a crash makes shorter.
    made: Vec<Vec<u8>>,
    /// So many of them are acknowledged as strict.
    strict: usize,
}

struct World {
    disk: SimDisk,
    lane: Option<Lane<SimDisk>>,
    channels: BTreeMap<String, Channel>,
    random: fastrand::Rng,
    boot: u8,
    now: u64,
    made: u64,
}

impl World {
    fn open(&mut self) -> LastEnd {
        let options = LaneOptions { segment_bytes: 12 << 10, checkpoint_interval_ms: 40, ..options(self.boot) };
        let (lane, report) = Lane::open(self.disk.clone(), options, self.now).expect("it opens");
        self.lane = Some(lane);
        assert!(report.quarantined.is_empty(), "{report:?}");
        report.last_end
    }

    /// A batch of a few publications, as a lane thread writes them.
    fn publish(&mut self) {
        let (mut staged, lane) = (Vec::new(), self.lane.as_mut().expect("it is open"));
        for _ in 0..self.random.usize(1..5) {
            let number = self.random.u8(..6);
            let (durability, name) = match number {
                0..3 => (Durability::Strict, format!("strict{number}")),
                _ => (Durability::Process, format!("process{number}")),
            };
            self.made += 1;
            let data = self.made.to_string().repeat(self.random.usize(1..200)).into_bytes();
            let history =
                HistoryOptions { size: 10_000, ttl_ms: [50_000, 5_000_000][usize::from(number % 2)], ..HISTORY };
            let new = NewPublication { history, ..publication(&data, durability) };
            let position = lane.publish(&name, &new, self.now).expect("there is room").position;
            staged.push((name, durability, position.expect("it has a history"), data));
        }
        let syncs =
            staged.iter().any(|(_, durability, ..)| *durability == Durability::Strict) || self.random.u8(..8) == 0;
        let stops = self.random.u8(..30) == 0;
        lane.commit().expect("it is written");
        if syncs && !stops {
            lane.sync().expect("it is synced");
        }
        for (name, durability, position, data) in staged {
            let channel = self.channels.entry(name).or_default();
            channel.made.push(data.clone());
            assert_eq!(position.offset, channel.made.len() as u64);
            if durability == Durability::Process || !stops {
                channel.shown.push((position, data));
            }
            if durability == Durability::Strict && !stops {
                channel.strict = channel.made.len();
            }
        }
        if stops {
            self.lose_power();
        }
    }

    fn lose_power(&mut self) {
        self.lane = None;
        self.disk = self.disk.after_power_loss(&mut self.random);
        self.boot += 1;
        let last_end = self.open();
        assert!([LastEnd::Crashed, LastEnd::New].contains(&last_end), "{last_end:?}");
        self.check();
    }

    fn kill(&mut self) {
        self.lane = None;
        self.disk = self.disk.after_kill();
        self.open();
        let lengths: Vec<_> = self.channels.values().map(|channel| channel.made.len()).collect();
        self.check();
        assert_eq!(lengths, self.channels.values().map(|channel| channel.made.len()).collect::<Vec<_>>());
    }

    fn check(&mut self) {
        let lane = self.lane.as_mut().expect("it is open");
        for (name, channel) in &mut self.channels {
            let kept = all(lane, name, self.now);
            let expected: Vec<_> = (1..).zip(channel.made.iter().cloned()).take(kept.len()).collect();
            assert!(kept == expected, "{name}: {} of {} are no prefix", kept.len(), channel.made.len());
            assert!(kept.len() >= channel.strict, "{name}: {} of {} strict ones", kept.len(), channel.strict);
            channel.made.truncate(kept.len());
            let top = lane.position(name, &HISTORY, self.now);
            assert_eq!(top.offset, kept.len() as u64);
            for (position, data) in &channel.shown {
                let since = Some(Since { epoch: Some(position.epoch), offset: position.offset });
                let found = read(lane, name, HistoryFilter { since, ..ALL }, self.now).expect("readable");
                // A reader that has seen this one must find it where it was, if it is told that nothing is missing.
                if found.since_is_kept && position.offset <= top.offset {
                    assert_eq!(channel.made.get(position.offset as usize - 1), Some(data), "{name} {position:?}");
                } else if found.since_is_kept {
                    panic!("{name}: {position:?} is above {top:?} and said to be kept");
                }
                if name.starts_with("strict") {
                    assert!(found.since_is_kept, "{name}: the epoch of a strict channel stays");
                }
            }
            channel.shown.drain(..channel.shown.len().saturating_sub(200));
        }
    }

    fn step(&mut self) {
        self.now += self.random.u64(..3);
        match self.random.u8(..40) {
            0 => self.lose_power(),
            1 => self.kill(),
            2 => {
                self.lane.take().expect("it is open").close(self.now).expect("closed");
                self.boot += self.random.u8(..2);
                assert_eq!(self.open(), LastEnd::Clean);
                self.check();
            }
            3..6 => _ = self.lane.as_mut().expect("it is open").maintain(self.now).expect("it works"),
            _ => self.publish(),
        }
    }
}

#[test]
fn power_loss_keeps_a_prefix_with_every_strict_publication() {
    for seed in seeds(300) {
        eprintln!("CORECAST_SEED={seed}");
        let mut world = World {
            disk: SimDisk::default(),
            lane: None,
            channels: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            boot: 1,
            now: 1_000,
            made: 0,
        };
        world.open();
        (0..120).for_each(|_| world.step());
        world.lose_power();
    }
}
