//! What one lane does: publishing, reading, restarts.

use super::*;
use crate::durable::types::{LastEnd, OpenError, RefuseReason};
use crate::durable::{Directory, KeptPublication, LockError, OnFull, export, lock_holder};
use crate::pubsub::Since;

#[test]
fn publications_are_read_back_after_a_clean_stop_a_kill_and_a_crash() {
    let disk = SimDisk::default();
    let (mut lane, report) = open(&disk, 1, 10);
    assert_eq!(report.last_end, LastEnd::New);
    let first = publish(&mut lane, "news", b"a", 10).position.expect("it has a history");
    lane.close(11).expect("closed");
    let (mut lane, report) = open(&disk, 1, 12);
    assert_eq!((report.last_end, report.channels, report.scanned_bytes), (LastEnd::Clean, 1, 0));
    assert_eq!(all(&mut lane, "news", 12), [(1, b"a".to_vec())]);
    let second = publish(&mut lane, "news", b"b", 13).position.expect("it has a history");
    assert_eq!((second.epoch, second.offset), (first.epoch, 2));
    let (mut lane, report) = open(&disk.after_kill(), 1, 14);
    assert_eq!((report.last_end, report.torn_bytes), (LastEnd::Killed, 0));
    assert_eq!(all(&mut lane, "news", 14), [(1, b"a".to_vec()), (2, b"b".to_vec())]);
    let (mut lane, report) = open(&disk.after_power_loss(&mut fastrand::Rng::with_seed(1)), 2, 14);
    assert_eq!(report.last_end, LastEnd::Crashed);
    assert_eq!(all(&mut lane, "news", 14).len(), 2);
    assert_eq!(lane.position("news", &HISTORY, 14), second, "a strict channel keeps its epoch");
}

#[test]
fn process_channel_has_a_new_generation_after_a_crash_and_keeps_what_was_synced() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 10);
    let first = lane.publish("news", &publication(b"a", Durability::Process), 10).expect("there is room");
    lane.commit().and_then(|()| lane.sync()).expect("it is synced");
    lane.publish("news", &publication(b"b", Durability::Process), 10).expect("there is room");
    lane.commit().expect("it is written");
    let epoch = first.position.expect("it has a history").epoch;
    let empty = lane.position("empty", &HISTORY, 10);
    let (mut killed, _) = open(&disk.after_kill(), 1, 10);
    assert_eq!((killed.position("news", &HISTORY, 10).epoch, killed.position("empty", &HISTORY, 10)), (epoch, empty));
    let lost = disk.after_power_loss(&mut fastrand::Rng::with_seed(5));
    let (mut lane, _) = open(&lost, 2, 10);
    assert_ne!(lane.position("empty", &HISTORY, 10), empty, "publications of it may be lost");
    let top = lane.position("news", &HISTORY, 10);
    assert!(top.epoch != epoch && top.offset >= 1);
    let since = |epoch, offset| HistoryFilter { since: Some(Since { epoch: Some(epoch), offset }), ..ALL };
    assert!(read(&mut lane, "news", since(epoch, 1), 10).expect("readable").since_is_kept);
    assert!(!read(&mut lane, "news", since(epoch, top.offset + 1), 10).expect("readable").since_is_kept);
    let (mut again, _) = open(&lost.after_kill(), 2, 10);
    assert_eq!(again.position("news", &HISTORY, 10), top, "a kill begins no generation");
}

#[test]
fn idempotency_keys_and_versions_survive() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 10);
    let keyed = |key| NewPublication { idempotency_key: key, version: 3, ..publication(b"a", Durability::Strict) };
    let first = lane.publish("news", &keyed("k"), 10).expect("there is room");
    lane.commit().and_then(|()| lane.sync()).expect("it is synced");
    let check = |lane: &mut Lane<SimDisk>, now| {
        let again = lane.publish("news", &keyed("k"), now).expect("answered");
        assert!(again.is_suppressed && again.position == first.position);
        let stale = lane.publish("news", &keyed("other"), now).expect("answered");
        assert!(stale.is_suppressed && stale.position == first.position);
    };
    check(&mut lane, 11);
    lane.commit().expect("it is written");
    let (mut killed, _) = open(&disk.after_kill(), 1, 12);
    check(&mut killed, 12);
    killed.close(12).expect("closed");
    lane.close(12).expect("closed");
    let (mut lane, _) = open(&disk, 1, 13);
    check(&mut lane, 13);
    assert!(!lane.publish("news", &NewPublication { version: 4, ..keyed("k") }, 400_000).expect("room").is_suppressed);
}

#[test]
fn removed_and_expired_histories_keep_their_positions() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 10);
    publish(&mut lane, "a", b"x", 10);
    publish(&mut lane, "b", b"x", 10);
    lane.remove_history("a", 11).expect("it is staged");
    lane.commit().expect("it is written");
    let (mut lane, _) = open(&disk.after_kill(), 1, 12);
    assert_eq!((all(&mut lane, "a", 12).len(), all(&mut lane, "b", 12).len()), (0, 1));
    assert_eq!(all(&mut lane, "b", 10 + HISTORY.ttl_ms - 1).len(), 1);
    assert_eq!(all(&mut lane, "b", 10 + HISTORY.ttl_ms).len(), 0);
    assert_eq!(lane.position("a", &HISTORY, 12).offset, 1);
}

#[test]
fn position_that_expires_begins_another_epoch_that_survives() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 10);
    let history = HistoryOptions { meta_ttl_ms: 100, ..HISTORY };
    let new = NewPublication { history, ..publication(b"a", Durability::Process) };
    let first = lane.publish("news", &new, 10).expect("there is room").position.expect("it has a history");
    lane.commit().expect("it is written");
    let second = lane.position("news", &history, 110);
    assert!(second.epoch != first.epoch && second.offset == 0);
    let (mut killed, _) = open(&disk.after_kill(), 1, 110);
    assert_eq!(killed.position("news", &history, 110), second, "the record of the end was not written");
    let third = lane.publish("news", &new, 111).expect("there is room").position.expect("it has a history");
    assert_eq!((third.epoch, third.offset), (second.epoch, 1));
    lane.commit().expect("it is written");
    let (mut killed, _) = open(&disk.after_kill(), 1, 112);
    assert_eq!((killed.position("news", &history, 112), all(&mut killed, "news", 112).len()), (third, 1));
}

#[test]
fn segments_roll_and_are_removed_when_nothing_in_them_can_be_read() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 10);
    let data = [7; 1_000];
    for now in 0..500 {
        publish(&mut lane, "news", &data, now);
    }
    let before = lane.stats();
    assert!(before.segments > 5, "{before:?}");
    assert_eq!(all(&mut lane, "news", 500).first().map(|record| record.0), Some(401));
    let now = 500 + 300_000;
    while lane.maintain(now).expect("it works") {}
    while lane.maintain(now).expect("it works") {}
    let after = lane.stats();
    assert!(after.segments <= 3 && after.checkpoints == 1, "{after:?}");
    let (mut lane, _) = open(&disk.after_kill(), 1, now);
    assert_eq!(all(&mut lane, "news", now).len(), 100);
    assert_eq!(lane.position("news", &HISTORY, now).offset, 500);
}

#[test]
fn full_disk_refuses_or_evicts_and_takes_removals() {
    let disk = SimDisk::default();
    let (mut lane, _) = open(&disk, 1, 10);
    publish(&mut lane, "news", &[1; 1000], 10);
    lane.maintain(10).expect("it works");
    assert!(disk.names().contains(&"reserve".to_string()));
    disk.set_free(0);
    let mut refused = None;
    for now in 11..400 {
        match lane.publish("news", &publication(&[1; 1000], Durability::Process), now) {
            Ok(_) => lane.commit().expect("the reserve has room for what was taken"),
            Err(reason) => refused = Some(reason),
        }
    }
    assert_eq!((refused, lane.health().is_full), (Some(RefuseReason::DiskFull), true));
    lane.remove_history("news", 400).expect("it is staged");
    lane.commit().expect("the reserve has room");
    disk.set_free(u64::MAX / 2);
    lane.maintain(400).expect("it works");
    publish(&mut lane, "news", b"x", 401);
    let evicting = LaneOptions { on_full: OnFull::EvictOldest, bytes_max: 200 << 10, ..options(1) };
    let (mut lane, _) = Lane::open(SimDisk::default(), evicting, 1).expect("it opens");
    for now in 0..600 {
        publish(&mut lane, "news", &[1; 1000], now);
        lane.maintain(now).expect("it works");
    }
    assert!(lane.stats().evicted_segments > 0 && lane.stats().bytes < 400 << 10, "{:?}", lane.stats());
    let kept = all(&mut lane, "news", 600);
    assert!(!kept.is_empty() && kept.last().map(|record| record.0) == Some(600));
}

#[test]
fn what_was_evicted_is_not_missing_after_a_kill() {
    let evicting = LaneOptions { on_full: OnFull::EvictOldest, bytes_max: 200 << 10, ..options(1) };
    let history = HistoryOptions { size: 10_000, ..HISTORY };
    let new = NewPublication { history, ..publication(&[1; 1000], Durability::Process) };
    let write = |lane: &mut Lane<SimDisk>, channel, now| {
        lane.publish(channel, &new, now).expect("the oldest ones give way");
        lane.commit().expect("there is room");
    };
    let check = |disk: &SimDisk, lane: &mut Lane<SimDisk>| {
        let (mut killed, _) = Lane::open(disk.after_kill(), evicting.clone(), 600).expect("it opens");
        for channel in ["news", "idle"] {
            assert!(all(&mut killed, channel, 600) == all(lane, channel, 600));
        }
    };
    let disk = SimDisk::default();
    let (mut lane, _) = Lane::open(disk.clone(), evicting.clone(), 1).expect("it opens");
    for now in 0..600 {
        write(&mut lane, "news", now);
        write(&mut lane, "idle", now);
        let before = lane.stats().evicted_segments;
        lane.maintain(now).expect("it works");
        if lane.stats().evicted_segments > before {
            assert!(all(&mut lane, "news", now)[0].0 > 1);
            check(&disk, &mut lane);
        }
    }
    // While a segment is made: the next commit says so.
    let (before, first) = (lane.stats().evicted_segments, all(&mut lane, "idle", 600)[0].0);
    assert!(before > 0);
    disk.set_free(0);
    while lane.stats().evicted_segments == before {
        write(&mut lane, "news", 600);
    }
    write(&mut lane, "news", 600);
    assert!(all(&mut lane, "idle", 600)[0].0 > first);
    check(&disk, &mut lane);
}

#[test]
fn locked_directory_names_its_process_and_newer_files_are_refused() {
    let path = std::env::temp_dir().join(format!("corecast-lane-{}", std::process::id()));
    let directory = || Directory::new(&path).expect("it can be made");
    let (mut lane, _) = Lane::open(directory(), options(1), 1).expect("it opens");
    publish(&mut lane, "news", b"on a real disk", 1);
    match Lane::open(directory(), options(1), 1).map(|_| ()) {
        Err(OpenError::Lock(LockError::Held(pid))) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    assert_eq!(lock_holder(&path).expect("readable"), Some(Some(std::process::id())));
    drop(lane);
    std::fs::write(path.join("LOCK"), "7\n").expect("writable");
    assert_eq!(lock_holder(&path).expect("readable"), None);
    assert_eq!(std::fs::read_to_string(path.join("LOCK")).expect("readable"), "7\n", "who asks writes nothing");
    let (mut lane, _) = Lane::open(directory(), options(1), 2).expect("it opens");
    assert_eq!(all(&mut lane, "news", 2), [(1, b"on a real disk".to_vec())]);
    lane.close(3).expect("closed");
    let name = directory().list().expect("listed").into_iter().find(|name| name.ends_with(".seg")).expect("one");
    let mut bytes = std::fs::read(path.join(&name)).expect("readable");
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path.join(&name), bytes).expect("writable");
    assert!(matches!(Lane::open(directory(), options(1), 4), Err(OpenError::NewerFormat { version: 9, .. })));
    std::fs::remove_dir_all(&path).expect("it can be removed");
}

#[test]
fn export_has_what_the_lane_has_whatever_class_a_channel_was_in() {
    let path = std::env::temp_dir().join(format!("corecast-export-{}", std::process::id()));
    let (mut lane, _) = Lane::open(Directory::new(&path).expect("it can be made"), options(1), 1).expect("it opens");
    let mut put = |channel, ttl_ms, size, now| {
        let history = HistoryOptions { ttl_ms, size, meta_ttl_ms: 4_000_000, ..HISTORY };
        let new = NewPublication { history, ..publication(b"a", Durability::Process) };
        lane.publish(channel, &new, now).expect("there is room");
        lane.commit().expect("it is written");
    };
    // A life that has ended in a later class, and a history that has become longer in an earlier one.
    put("again", 3_600_000, 5, 1);
    put("longer", 3_600_000, 1, 2_000_000);
    put("again", 50_000, 5, 5_000_000);
    (0..3).for_each(|_| put("longer", 50_000, 5, 5_000_001));
    let now = 5_000_002;
    let mut exported = Vec::new();
    let mut take = |kept: KeptPublication| {
        exported.push((kept.channel.to_string(), kept.offset, kept.history_size));
        Ok(())
    };
    export(&path, now, &mut take).expect("readable");
    let longer = |offset| ("longer".to_string(), offset, 5);
    assert_eq!(exported, [longer(1), ("again".to_string(), 1, 5), longer(2), longer(3), longer(4)]);
    assert_eq!((all(&mut lane, "again", now).len(), all(&mut lane, "longer", now).len()), (1, 4));
    std::fs::remove_dir_all(&path).expect("it can be removed");
}

#[test]
fn clock_that_jumps_back_changes_no_order_of_times() {
    let (mut lane, _) = open(&SimDisk::default(), 1, 1_000);
    publish(&mut lane, "news", b"a", 1_000);
    assert_eq!(publish(&mut lane, "news", b"b", 10).time, 1_000);
    assert_eq!(all(&mut lane, "news", 10).len(), 2);
}
