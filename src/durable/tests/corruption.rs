//! Every byte of every file flipped: no panic, and no publication that was not made.

use super::*;
use crate::durable::types::OpenError;
use crate::pubsub::Since;

fn written(close: bool) -> (SimDisk, crate::pubsub::Position) {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 1);
    for number in 0..6_u8 {
        publish(&mut lane, "news", &[number; 20], 10);
        publish(&mut lane, "other", &[100 + number; 20], 10);
    }
    let top = lane.position("news", &HISTORY, 10);
    if close {
        lane.close(11).expect("closed");
    }
    (disk, top)
}

#[test]
fn flipped_byte_gives_no_wrong_publication_and_no_false_recovery() {
    for close in [true, false] {
        let (disk, top) = written(close);
        for name in disk.names() {
            let whole = disk.content(&name);
            let end = whole.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 9).min(whole.len());
            for at in 0..end {
                let flipped = disk.after_kill();
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                flipped.set_content(&name, bytes);
                let (mut lane, report) = match Lane::open(flipped, options(1), 20) {
                    Ok(opened) => opened,
                    // It looks like a format that this program does not know.
                    Err(OpenError::NewerFormat { .. }) => continue,
                    Err(error) => panic!("{name} {at}: {error}"),
                };
                check(&mut lane, top, &format!("{name} {at} closed: {close} {report:?}"));
            }
        }
    }
}

fn check(lane: &mut Lane<SimDisk>, seen: crate::pubsub::Position, place: &str) {
    for (channel, base) in [("news", 0), ("other", 100)] {
        // Missing ones are an error, which is right.
        let Ok(read) = read(lane, channel, ALL, 20) else { continue };
        for record in read.records {
            assert_eq!(record.data, vec![base + record.offset as u8 - 1; 20], "{place}");
        }
    }
    // A client that has seen everything must not be told that it missed nothing, if there is less now.
    let since = Some(Since { epoch: Some(seen.epoch), offset: seen.offset });
    if let Ok(read) = read(lane, "news", HistoryFilter { since, ..ALL }, 20)
        && read.since_is_kept
    {
        assert!(read.top.offset >= seen.offset || is_last_batch(place), "{place}: {:?} {seen:?}", read.top);
    }
}

/// The last batch of a segment may be one that a kill has torn: it cannot be told apart.
fn is_last_batch(place: &str) -> bool {
    place.contains("torn_bytes") && !place.contains("torn_bytes: 0")
}
