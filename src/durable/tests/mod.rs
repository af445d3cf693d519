//! The log as a whole: against a model, over power losses, with a disk that fails, and with flipped bytes.

mod corruption;
mod faults;
mod lane;
mod model;
mod power_loss;
mod versions;

use super::sim_disk::SimDisk;
use super::types::{Durability, LaneOptions, LogRead, NewPublication, OpenReport, ReadError, Staged};
use super::{Files, Lane};
use crate::pubsub::{HistoryFilter, HistoryOptions, TimeRange};

const HISTORY: HistoryOptions = HistoryOptions { namespace: 0, size: 100, ttl_ms: 3_600_000, meta_ttl_ms: 0 };

fn options(boot: u8) -> LaneOptions {
    LaneOptions { segment_bytes: 64 << 10, free_bytes_min: 0, boot_id: [boot; 16], seed: 7, ..LaneOptions::default() }
}

fn open(disk: &SimDisk, boot: u8, now: u64) -> (Lane<SimDisk>, OpenReport) {
    match Lane::open(disk.clone(), options(boot), now) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}"),
    }
}

fn publication<'a>(data: &'a [u8], durability: Durability) -> NewPublication<'a> {
    NewPublication {
        data,
        client_info: b"",
        tags: b"",
        user: "",
        tag: "",
        version: 0,
        version_epoch: "",
        idempotency_key: "",
        history: HISTORY,
        durability,
    }
}

/// Publishes, writes and syncs.
fn publish<F: Files>(lane: &mut Lane<F>, channel: &str, data: &[u8], now: u64) -> Staged {
    let staged = lane.publish(channel, &publication(data, Durability::Strict), now).expect("there is room");
    lane.commit().expect("it is written");
    lane.sync().expect("it is synced");
    staged
}

const ALL: HistoryFilter = HistoryFilter { since: None, limit: -1, reverse: false };

fn read<F: Files>(lane: &mut Lane<F>, channel: &str, filter: HistoryFilter, now: u64) -> Result<LogRead, ReadError> {
    lane.plan_read(channel, filter, TimeRange::ALL, &HISTORY, now).run()
}

/// The offsets and the data of a whole history.
fn all<F: Files>(lane: &mut Lane<F>, channel: &str, now: u64) -> Vec<(u64, Vec<u8>)> {
    let read = match read(lane, channel, ALL, now) {
        Ok(read) => read,
        Err(error) => {
            panic!("{channel}: {error:?}, top {:?}, {:?}", lane.position(channel, &HISTORY, now), lane.stats())
        }
    };
    read.records.iter().map(|record| (record.offset, record.data.to_vec())).collect()
}

/// Seeds of a test: `CORECAST_SEED=n` repeats one, `CORECAST_WORLDS=n` runs more.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let given = std::env::var("CORECAST_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let count = std::env::var("CORECAST_WORLDS").map_or(count, |count| count.parse().expect("a number"));
    given.map_or(0..count, |seed| seed..seed + 1)
}
