//! A disk whose nth call fails: nothing that was acknowledged is lost, nothing that was refused is read, and no panic.

use super::*;
use crate::durable::sim_disk::{Call, Fault};
use crate::durable::types::LaneError;

const CALLS: [Call; 6] = [Call::Create, Call::Write, Call::Sync, Call::Rename, Call::Remove, Call::SyncDirectory];

/// Publishes while a call fails. Returns what was acknowledged, by channel.
fn run(lane: &mut Lane<SimDisk>) -> Vec<Vec<Vec<u8>>> {
    let mut kept = vec![Vec::new(); 3];
    for number in 0..60_u64 {
        let at = (number % 3) as usize;
        let data = number.to_string().repeat(200).into_bytes();
        let new = publication(&data, Durability::Strict);
        let Ok(staged) = lane.publish(["a", "b", "c"][at], &new, number) else {
            _ = lane.maintain(number * 10_000);
            continue;
        };
        if lane.commit().and_then(|()| lane.sync()).is_ok() {
            assert_eq!(staged.position.map(|position| position.offset), Some(kept[at].len() as u64 + 1));
            kept[at].push(data);
        } else {
            // After a failure of the lane it is not known what the disk has.
            assert!(lane.health().has_failed || lane.health().is_full || number > 0);
        }
        if number % 10 == 0 {
            _ = lane.maintain(number * 10_000);
        }
    }
    kept
}

#[test]
fn every_call_may_fail_once_and_nothing_acknowledged_is_lost() {
    // With the small ones a segment ends after each few publications.
    for (call, segment_bytes) in CALLS.into_iter().flat_map(|call| [(call, 64 << 10), (call, 12 << 10)]) {
        for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
            for (after, times) in (0..40).flat_map(|after| [(after, 1), (after, 3)]) {
                let disk = SimDisk::default();
                let options = LaneOptions { segment_bytes, ..options(1) };
                let (mut lane, _) = Lane::open(disk.clone(), options, 0).expect("it opens");
                disk.fail(call, after, times, fault);
                let kept = run(&mut lane);
                let place = format!("{call:?} {fault:?} {after} {times} {segment_bytes}");
                check(&mut lane, &kept, &place);
                disk.heal();
                for restarted in [disk.after_kill(), disk.after_power_loss(&mut fastrand::Rng::with_seed(after))] {
                    let boot = 1 + u8::from(after % 2 == 0);
                    let (mut lane, _) = open(&restarted, boot, 0);
                    check(&mut lane, &kept, &format!("{place} boot {boot}"));
                }
            }
        }
    }
}

/// A publication whose outcome was an error may be there, after those that were acknowledged.
fn check(lane: &mut Lane<SimDisk>, kept: &[Vec<Vec<u8>>], place: &str) {
    for (at, kept) in kept.iter().enumerate() {
        let found: Vec<_> = all(lane, ["a", "b", "c"][at], 0).into_iter().map(|record| record.1).collect();
        assert!(
            found.len() >= kept.len() && &found[..kept.len()] == kept.as_slice(),
            "{place}: {at} {} of {}",
            found.len(),
            kept.len()
        );
    }
}

#[test]
fn lane_fails_when_the_second_file_fails_too_and_goes_on_reading() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 0);
    publish(&mut lane, "news", b"a", 1);
    lane.publish("news", &publication(b"b", Durability::Strict), 2).expect("there is room");
    lane.commit().expect("it is written");
    disk.fail(Call::Sync, 0, 2, Fault::Eio);
    assert!(matches!(lane.sync(), Err(LaneError::Failed(_))));
    assert!(lane.health().has_failed);
    assert!(lane.publish("news", &publication(b"c", Durability::Strict), 3).is_err());
    assert_eq!(all(&mut lane, "news", 3).first().map(|record| record.0), Some(1));
}

#[test]
fn lane_that_fails_while_a_segment_ends_acknowledges_nothing_more() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 0);
    let new = publication(&[7; 1_000], Durability::Process);
    let fill = |lane: &mut Lane<SimDisk>, count: u64| {
        (0..count).try_for_each(|number| {
            lane.publish("news", &new, number).expect("there is room");
            lane.commit()
        })
    };
    fill(&mut lane, 50).expect("it is written");
    assert_eq!((lane.stats().segments, lane.stats().oldest_unsynced), (1, Some(0)));
    disk.fail(Call::Sync, 0, 2, Fault::Eio);
    assert!(matches!(fill(&mut lane, 50), Err(LaneError::Failed(_))), "the commit that ends the segment");
    assert_eq!(lane.stats().file_failures, 1);
    assert!(matches!(lane.commit(), Err(LaneError::Failed(_))));
    let (mut killed, _) = open(&disk.after_kill(), 1, 50);
    assert!(all(&mut killed, "news", 50).len() >= 50);
}

#[test]
fn class_that_fails_takes_back_nothing_of_another_one() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 0);
    let new = |ttl_ms| NewPublication {
        history: HistoryOptions { ttl_ms, ..HISTORY },
        ..publication(b"a", Durability::Strict)
    };
    lane.publish("short", &new(1_000), 1).expect("there is room");
    lane.publish("long", &new(3_600_000), 1).expect("there is room");
    disk.fail(Call::Create, 1, 1, Fault::Enospc);
    assert!(matches!(lane.commit(), Err(LaneError::DiskFull)));
    assert!(lane.stats().oldest_unsynced.is_some(), "it has to be synced");
    lane.sync().expect("it is synced");
    assert_eq!((all(&mut lane, "short", 2).len(), all(&mut lane, "long", 2).len()), (1, 0));
    lane.maintain(3).expect("it works");
    assert_eq!(publish(&mut lane, "long", b"b", 3).position.map(|position| position.offset), Some(1));
}

#[test]
fn sync_that_fails_is_never_retried_on_the_same_file() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 0);
    publish(&mut lane, "news", b"a", 1);
    let before = disk.names();
    lane.publish("news", &publication(b"b", Durability::Strict), 2).expect("there is room");
    lane.commit().expect("it is written");
    disk.fail(Call::Sync, 0, 1, Fault::Eio);
    lane.sync().expect("another file has it");
    assert_eq!((lane.stats().file_failures, disk.names().len()), (1, before.len() + 1));
    assert_eq!(all(&mut lane, "news", 3), [(1, b"a".to_vec()), (2, b"b".to_vec())]);
    let (mut lane, _) = open(&disk.after_power_loss(&mut fastrand::Rng::with_seed(3)), 2, 3);
    assert_eq!(all(&mut lane, "news", 3), [(1, b"a".to_vec()), (2, b"b".to_vec())]);
}

#[test]
fn read_that_fails_is_an_error_and_the_next_one_answers() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 0);
    publish(&mut lane, "news", b"a", 1);
    disk.fail(Call::Read, 0, 1, Fault::Eio);
    assert!(matches!(read(&mut lane, "news", ALL, 2), Err(ReadError::Io(_))));
    assert_eq!(all(&mut lane, "news", 2).len(), 1);
}
