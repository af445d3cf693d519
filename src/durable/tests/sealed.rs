//! Sealed segments: they are read through their index files, whatever happens to those, and a start does not read them.

use super::*;
use crate::durable::sim_disk::{Call, Fault};
use crate::pubsub::Since;

const CHANNELS: [&str; 3] = ["a", "b", "c"];

fn data(channel: &str, offset: u64) -> Vec<u8> {
    format!("{channel} {offset}").repeat(40).into_bytes()
}

/// A lane with some 25 sealed segments, of three channels.
fn written(disk: &SimDisk) -> Lane<SimDisk> {
    let small = LaneOptions { segment_bytes: 16 << 10, ..options(1) };
    let (mut lane, _) = Lane::open(disk.clone(), small, 1).expect("it opens");
    for offset in 1..=400 {
        for channel in CHANNELS {
            let history = HistoryOptions { size: 1_000, ..HISTORY };
            let data = data(channel, offset);
            let new = NewPublication { history, user: "ann", ..publication(&data, Durability::Process) };
            lane.publish(channel, &new, offset).expect("there is room");
        }
        lane.commit().expect("it is written");
    }
    assert!(lane.stats().segments > 20, "{:?}", lane.stats());
    lane
}

fn check(lane: &mut Lane<SimDisk>, place: &str) {
    for channel in CHANNELS {
        let expected: Vec<_> = (1..=400).map(|offset| (offset, data(channel, offset))).collect();
        assert!(all(lane, channel, 500) == expected, "{place}: {channel}");
        let top = lane.position(channel, &HISTORY, 500);
        let since = Some(Since { epoch: Some(top.epoch), offset: 7 });
        let old = read(lane, channel, HistoryFilter { since, limit: 3, reverse: false }, 500).expect("readable");
        assert_eq!(old.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [8, 9, 10], "{place}");
        let last = read(lane, channel, HistoryFilter { since: None, limit: 2, reverse: true }, 500).expect("readable");
        assert_eq!(last.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [400, 399], "{place}");
    }
}

fn indexes(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".idx")).collect()
}

#[test]
fn start_reads_the_segments_after_the_checkpoint_and_no_others() {
    let disk = SimDisk::default();
    let mut lane = written(&disk);
    check(&mut lane, "written");
    let now = 400_000;
    while lane.maintain(now).expect("it works") {}
    while let Some(task) = lane.take_index_task() {
        task.run();
    }
    assert_eq!((lane.stats().checkpoints, indexes(&disk).len()), (1, lane.stats().segments - 1));
    let (mut killed, report) = open(&disk.after_kill(), 1, now);
    assert!(report.scanned_bytes < 20 << 10, "only the segment with the position of the checkpoint: {report:?}");
    assert_eq!(report.notes.len(), 1, "the segment that was written has no index yet: {report:?}");
    check(&mut killed, "killed");
    lane.close(now).expect("closed");
    let (mut closed, report) = open(&disk, 1, now);
    assert_eq!((report.scanned_bytes, report.notes.len()), (0, 0), "{report:?}");
    check(&mut closed, "closed");
}

#[test]
fn index_that_is_missing_corrupt_or_of_another_segment_is_made_again() {
    let disk = SimDisk::default();
    written(&disk).close(500).expect("closed");
    let names = indexes(&disk);
    for damage in 0..4 {
        let damaged = disk.after_kill();
        for (at, name) in names.iter().enumerate() {
            let mut bytes = damaged.content(name);
            match damage {
                0 => bytes.clear(),
                1 => bytes[60 + at] ^= 1,
                // In a block: it is found by a read.
                2 => bytes[140 + at * 3] ^= 1,
                _ => bytes = disk.content(&names[(at + 1) % names.len()]),
            }
            damaged.set_content(name, bytes);
        }
        let (mut lane, report) = open(&damaged, 1, 500);
        assert_eq!((report.scanned_bytes, report.quarantined.len()), (0, 0), "{report:?}");
        check(&mut lane, &format!("damage {damage}"));
        drop(lane);
        assert!(names.iter().all(|name| damaged.content(name) == disk.content(name)), "damage {damage}");
    }
}

#[test]
fn every_flipped_byte_of_an_index_gives_the_same_answers() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 1);
    (0..4).for_each(|number| _ = publish(&mut lane, "news", &[number; 20], 1));
    lane.close(2).expect("closed");
    let expected: Vec<_> = (0..4_u8).map(|number| (u64::from(number) + 1, vec![number; 20])).collect();
    for name in indexes(&disk) {
        for at in 0..disk.content(&name).len() {
            let flipped = disk.after_kill();
            let mut bytes = disk.content(&name);
            bytes[at] ^= 1 << (at % 8);
            flipped.set_content(&name, bytes);
            let (mut lane, _) = open(&flipped, 1, 3);
            assert_eq!(all(&mut lane, "news", 3), expected, "byte {at}");
        }
    }
}

#[test]
fn index_that_cannot_be_written_stays_in_memory() {
    for (call, fault) in [(Call::Create, Fault::Enospc), (Call::Write, Fault::Eio), (Call::Rename, Fault::Eio)] {
        let disk = SimDisk::default();
        let mut lane = written(&disk);
        disk.fail(call, 0, u64::MAX, fault);
        while let Some(task) = lane.take_index_task() {
            task.run();
        }
        check(&mut lane, &format!("{call:?}"));
        assert!(indexes(&disk).is_empty() && !disk.names().iter().any(|name| name.ends_with(".new")));
    }
}

#[test]
fn other_life_of_a_channel_in_the_same_segment_is_not_read() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 1);
    let history = HistoryOptions { meta_ttl_ms: 100, ttl_ms: 50, ..HISTORY };
    let put = |lane: &mut Lane<SimDisk>, data: &[u8], now| {
        let new = NewPublication { history, ..publication(data, Durability::Process) };
        lane.publish("news", &new, now).expect("there is room");
        lane.commit().expect("it is written");
    };
    (0..5).for_each(|_| put(&mut lane, b"old", 10));
    (0..2).for_each(|_| put(&mut lane, b"new", 200));
    (0..200).for_each(|_| _ = publish(&mut lane, "other", &[1; 1_000], 201));
    let expected = [(1, b"new".to_vec()), (2, b"new".to_vec())];
    assert_eq!(all(&mut lane, "news", 201), expected);
    lane.close(202).expect("closed");
    let (mut lane, _) = open(&disk, 1, 203);
    assert_eq!(all(&mut lane, "news", 203), expected);
    let files = || disk.names().into_iter().filter(|name| name.starts_with("0-0000000000000001.")).count();
    while lane.maintain(249).expect("it works") {}
    assert_eq!(files(), 2, "the new life is read: a segment and its index");
    while lane.maintain(250).expect("it works") {}
    assert_eq!(files(), 0);
}

#[test]
fn segment_stays_while_one_of_many_channels_reads_from_it() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 1);
    let new = |ttl_ms| NewPublication {
        history: HistoryOptions { ttl_ms, ..HISTORY },
        ..publication(&[7; 30], Durability::Process)
    };
    for number in 0..10_000 {
        let ttl_ms = if number == 9_000 { 3_600_000 } else { 700_000 };
        lane.publish(&format!("channel {number}"), &new(ttl_ms), 1).expect("there is room");
    }
    lane.commit().expect("it is written");
    let before = lane.stats().segments;
    let now = 1_000_000;
    // The first checkpoint ends the need of the segments for the meta.
    (0..3).for_each(|_| while lane.maintain(now).expect("it works") {});
    let after = lane.stats().segments;
    assert!(after < before, "{after} of {before}");
    assert_eq!(all(&mut lane, "channel 9000", now).len(), 1);
    (0..3).for_each(|_| while lane.maintain(4_000_000).expect("it works") {});
    assert!(lane.stats().segments <= 1, "{:?}", lane.stats());
}
