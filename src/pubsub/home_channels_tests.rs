//! The home, called as a node calls it.

use super::*;
use crate::ids::{GroupId, ShardId};

const FEED: GroupId = GroupId::new(3, 1);
const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);
const PLAIN: WireFormat = WireFormat::plain(0);
const NONE: StreamOptions = StreamOptions::NONE;
const TEN: StreamOptions = StreamOptions { size: 10, ttl: 60, meta_ttl: 600 };

fn home() -> HomeChannels {
    HomeChannels::new(7, usize::MAX)
}

fn draft(data: &[u8]) -> Draft<'_> {
    Draft { data, ..Draft::default() }
}

/// Publishes; returns who was handed which offset. The shards in `full` have no room.
fn publish(
    home: &mut HomeChannels,
    options: &StreamOptions,
    draft: Draft<'_>,
    full: &[ShardId],
) -> Vec<(ShardId, u64)> {
    let mut sent = Vec::new();
    home.publish("news", draft, options, 0, |i, delivery| {
        let room = !full.contains(&i.shard);
        sent.extend(room.then_some((i.shard, delivery.offset)));
        room
    });
    sent
}

fn stamp(home: &mut HomeChannels, data: &[u8], now: u64) -> Position {
    match home.publish("news", draft(data), &TEN, now, |_, _| true) {
        Outcome::Stamped(position) => position,
        other => panic!("{other:?}"),
    }
}

/// Sequence numbers sent, and ranges lost with the offsets they had.
type Repaired = (Vec<u64>, Vec<(u64, u64, u64, u64)>);

fn repair(home: &mut HomeChannels, mut room: usize) -> Repaired {
    let (mut sent, mut lost) = (Vec::new(), Vec::new());
    home.repair(|step| {
        let Some(left) = room.checked_sub(1) else { return false };
        room = left;
        match step {
            Repair::Send { seq, .. } => sent.push(seq),
            Repair::Lost { first, last, stamped, offset, .. } => lost.push((first, last, stamped, offset)),
        }
        true
    });
    (sent, lost)
}

fn offsets<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<u64> {
    records.map(|record| record.offset).collect()
}

fn recovered(
    home: &mut HomeChannels,
    epoch: Option<u32>,
    offset: u64,
    mode: RecoveryMode<'_>,
) -> (bool, Vec<u64>, u64) {
    let recovery = home.recover("news", Since { epoch, offset }, 300, mode, &TEN, 0);
    (recovery.recovered, offsets(recovery.publications), recovery.top.offset)
}

#[test]
fn a_channel_without_history_lives_while_somebody_wants_it_and_has_no_offsets() {
    let mut home = home();
    assert_eq!(home.publish("news", draft(b"1"), &NONE, 0, |_, _| panic!("nobody asked")), Outcome::Unwanted);
    let first = home.subscribe("news", A, FEED, PLAIN, &NONE, 0);
    assert_eq!(publish(&mut home, &NONE, draft(b"1"), &[]), [(A, 0)]);
    assert_eq!(home.subscribe("news", B, FEED, PLAIN, &NONE, 0), Top { seq: 1, ..first });
    assert_eq!(publish(&mut home, &NONE, draft(b"2"), &[]), [(A, 0), (B, 0)]);
    assert_eq!(home.interests("news").len(), 2);
    home.unsubscribe("news", A, FEED, 0);
    home.unsubscribe("news", B, FEED, 0);
    home.unsubscribe("news", B, FEED, 0);
    assert_eq!(home.channels(), 0);
    assert_ne!(home.subscribe("news", A, FEED, PLAIN, &NONE, 0).position.epoch, first.position.epoch);
    assert_eq!(home.memory(), Memory::default());
}

#[test]
fn a_skipped_shard_gets_all_it_missed_in_order() {
    let mut home = home();
    home.subscribe("news", A, FEED, PLAIN, &TEN, 0);
    home.subscribe("news", B, FEED, PLAIN, &TEN, 0);
    assert_eq!(publish(&mut home, &TEN, draft(b"1"), &[B]), [(A, 1)]);
    assert_eq!(publish(&mut home, &TEN, draft(b"2"), &[]), [(A, 2)], "B's order holds: 1 was not sent yet");
    assert!(home.is_lagging());
    assert_eq!(repair(&mut home, 9), (vec![1, 2], vec![]));
    assert!(!home.is_lagging());
    assert_eq!(publish(&mut home, &TEN, draft(b"3"), &[]), [(A, 3), (B, 3)]);
}

#[test]
fn what_history_does_not_have_is_said_to_be_lost() {
    let mut home = home();
    let two = StreamOptions { size: 2, ..TEN };
    home.subscribe("news", B, FEED, PLAIN, &two, 0);
    for i in 0..5u8 {
        publish(&mut home, &two, draft(&[i]), &[B]);
    }
    publish(&mut home, &two, Draft { skip_history: true, ..draft(b"6") }, &[]);
    assert_eq!(repair(&mut home, 9), (vec![4, 5], vec![(1, 3, 3, 3), (6, 6, 0, 5)]));
    publish(&mut home, &two, Draft { skip_history: true, ..draft(b"7") }, &[B]);
    publish(&mut home, &two, draft(b"8"), &[B]);
    home.history_remove("news");
    assert_eq!(repair(&mut home, 9), (vec![], vec![(7, 8, 1, 6)]));
}

#[test]
fn a_repair_stops_where_there_is_no_room_and_goes_on_there() {
    let mut home = home();
    home.subscribe("news", B, FEED, PLAIN, &TEN, 0);
    for i in 0..4u8 {
        publish(&mut home, &TEN, draft(&[i]), &[B]);
    }
    assert_eq!(repair(&mut home, 3), (vec![1, 2, 3], vec![]));
    assert_eq!(repair(&mut home, 9), (vec![4], vec![]));
}

#[test]
fn a_shard_that_left_while_it_lagged_is_forgotten() {
    let mut home = home();
    home.subscribe("news", B, FEED, PLAIN, &NONE, 0);
    publish(&mut home, &NONE, draft(b"1"), &[B]);
    home.unsubscribe("news", B, FEED, 0);
    assert!(!home.is_lagging());
    assert_eq!(home.channels(), 0);
}

#[test]
fn a_reader_recovers_all_or_nothing() {
    let mut home = home();
    let three = StreamOptions { size: 3, ..TEN };
    let epoch = home.position("news", &three, 0).epoch;
    let all = RecoveryMode::Stream;
    assert_eq!(recovered(&mut home, Some(epoch), 0, all), (true, vec![], 0));
    (0..5u8).for_each(|i| _ = publish(&mut home, &three, draft(&[i]), &[]));
    assert_eq!(recovered(&mut home, Some(epoch), 2, all), (true, vec![3, 4, 5], 5));
    assert_eq!(recovered(&mut home, None, 4, all), (true, vec![5], 5), "the empty epoch is any");
    assert_eq!(recovered(&mut home, Some(epoch), 5, all), (true, vec![], 5));
    for (epoch, offset) in
        [(Some(epoch), 1), (Some(epoch), 6), (Some(epoch), u64::MAX), (Some(epoch + 1), 4), (Some(0), 5)]
    {
        assert_eq!(recovered(&mut home, epoch, offset, all), (false, vec![], 5));
    }
    let since = Since { epoch: None, offset: 2 };
    assert!(!home.recover("news", since, 2, all, &TEN, 0).recovered, "more than may be owed");
    home.history_remove("news");
    assert_eq!(recovered(&mut home, Some(epoch), 5, all), (true, vec![], 5), "nothing was missed");
    assert_eq!(recovered(&mut home, Some(epoch), 4, all), (false, vec![], 5));
}

#[test]
fn a_cache_reader_gets_the_latest_unless_he_has_it() {
    let mut home = home();
    let cache = RecoveryMode::Cache { wanted: None };
    let epoch = home.position("news", &TEN, 0).epoch;
    assert_eq!(recovered(&mut home, Some(epoch), 0, cache), (false, vec![], 0));
    (1..=3u8).for_each(|i| _ = stamp(&mut home, &[i], 0));
    for (epoch, offset) in [(Some(epoch), 0), (Some(epoch + 1), 3), (None, 3), (None, 99)] {
        assert_eq!(recovered(&mut home, epoch, offset, cache), (true, vec![3], 3));
    }
    assert_eq!(recovered(&mut home, Some(epoch), 3, cache), (true, vec![], 3));
    let second = |record: &Record| record.data[0] == 2;
    let other = |_: &Record| false;
    assert_eq!(recovered(&mut home, None, 0, RecoveryMode::Cache { wanted: Some(&second) }), (true, vec![2], 3));
    assert_eq!(recovered(&mut home, None, 0, RecoveryMode::Cache { wanted: Some(&other) }), (false, vec![], 3));
    home.history_remove("news");
    assert_eq!(recovered(&mut home, Some(epoch), 3, cache), (true, vec![], 3));
    assert_eq!(recovered(&mut home, None, 3, cache), (false, vec![], 3));
}

#[test]
fn a_history_is_read_from_either_end() {
    let mut home = home();
    let epoch = Some(home.position("news", &TEN, 0).epoch);
    (1..=12u8).for_each(|i| _ = stamp(&mut home, &[i], 0));
    let mut read = |since: Option<(Option<u32>, u64)>, limit, reverse| {
        let since = since.map(|(epoch, offset)| Since { epoch, offset });
        let history = home.history("news", Query { since, limit, reverse }, &TEN, 0)?;
        assert_eq!(history.top.offset, 12);
        Ok::<_, Unrecoverable>(offsets(history.publications))
    };
    assert_eq!(read(None, 0, false), Ok(vec![]));
    assert_eq!(read(None, 3, false), Ok(vec![3, 4, 5]));
    assert_eq!(read(None, 3, true), Ok(vec![12, 11, 10]));
    assert_eq!(read(None, -1, true).unwrap().len(), 10);
    assert_eq!(read(Some((epoch, 10)), -1, false), Ok(vec![11, 12]));
    assert_eq!(read(Some((None, 0)), 2, false), Ok(vec![3, 4]), "the first there is");
    assert_eq!(read(Some((epoch, 12)), -1, false), Ok(vec![]));
    assert_eq!(read(Some((epoch, u64::MAX)), -1, false), Ok(vec![]));
    assert_eq!(read(Some((epoch, 5)), -1, true), Ok(vec![4, 3]));
    assert_eq!(read(Some((epoch, 13)), 1, true), Ok(vec![12]));
    assert_eq!(read(Some((epoch, 14)), 1, true), Ok(vec![]));
    assert_eq!(read(Some((epoch, 2)), -1, true), Ok(vec![]));
    assert_eq!(read(Some((epoch, 0)), -1, true), Ok(vec![]));
    assert_eq!(read(Some((Some(0), 5)), -1, false).map_err(|lost| lost.top.offset), Err(12));
    assert_eq!(Since::new("", 1).epoch, None);
    assert_eq!(Since::new("other", 1).epoch, Some(0));
    assert_eq!(Since::new(EpochText::of(9).as_str(), 1).epoch, Some(9));
}

#[test]
fn publications_expire_together_and_the_position_later() {
    let mut home = home();
    let first = stamp(&mut home, b"1", 0);
    stamp(&mut home, b"2", 59);
    assert_eq!(home.next_expiry(), Some(119));
    home.expire(118, &mut 9);
    assert_eq!(recovered(&mut home, None, 0, RecoveryMode::Stream).1, [1, 2]);
    let mut budget = 9;
    home.expire(119, &mut budget);
    assert_eq!(budget, 6, "a step for the channel and one for each publication");
    assert_eq!(home.position("news", &TEN, 100), Position { offset: 2, ..first });
    assert_eq!(home.next_expiry(), Some(700), "asking was a use");
    home.expire(700, &mut 9);
    assert_eq!((home.channels(), home.memory(), home.next_expiry()), (0, Memory::default(), None));
    assert_ne!(home.position("news", &TEN, 701).epoch, first.epoch);
}

#[test]
fn who_is_in_a_channel_keeps_its_position() {
    let mut home = home();
    let first = stamp(&mut home, b"1", 0);
    home.subscribe("news", A, FEED, PLAIN, &TEN, 1);
    home.presence_add("news", [1; 16], "ann", b"");
    home.unsubscribe("news", A, FEED, 2);
    home.expire(10_000, &mut 99);
    assert_eq!(home.position("news", &NONE, 0), first);
    assert!(home.presence_remove("news", [1; 16], 10_000).is_some());
    assert_eq!(home.next_expiry(), Some(10_600), "leaving was a use");
}

#[test]
fn a_version_that_is_not_above_the_last_is_stale() {
    let mut home = home();
    let mut publish = |version, version_epoch| {
        let draft = Draft { version, version_epoch, ..draft(b"") };
        home.publish("news", draft, &TEN, 0, |_, _| true)
    };
    assert!(matches!(publish(5, "a"), Outcome::Stamped(_)));
    assert!(matches!(publish(5, "a"), Outcome::Stale(Position { offset: 1, .. })));
    assert!(matches!(publish(4, ""), Outcome::Stale(_)), "the empty epoch is any");
    assert!(matches!(publish(1, "b"), Outcome::Stamped(_)), "another epoch begins anew");
    assert!(matches!(publish(2, "b"), Outcome::Stamped(_)));
    assert!(matches!(publish(0, ""), Outcome::Stamped(_)));
    assert!(matches!(publish(1, "b"), Outcome::Stamped(_)), "one without a version forgets the last");
}

#[test]
fn a_second_publication_with_the_same_key_is_told_what_the_first_was() {
    let mut home = home();
    let mut publish = |options, idempotency_key, version, now| {
        let draft = Draft { idempotency_key, version, ..draft(b"") };
        home.publish("news", draft, options, now, |_, _| true)
    };
    let Outcome::Stamped(first) = publish(&TEN, "a", 9, 0) else { panic!("it is the first") };
    assert_eq!(publish(&TEN, "a", 10, 1), Outcome::Duplicate(Some(first)));
    assert!(matches!(publish(&TEN, "stale", 9, 1), Outcome::Stale(_)));
    assert!(matches!(publish(&TEN, "stale", 10, 1), Outcome::Stamped(_)), "what was dropped was not made");
    assert_eq!(publish(&NONE, "c", 0, 1), Outcome::Unwanted);
    assert_eq!(publish(&NONE, "c", 0, 1), Outcome::Duplicate(None));
    assert!(matches!(publish(&TEN, "a", 11, idempotency::KEY_TTL), Outcome::Stamped(Position { offset: 3, .. })));
}

#[test]
fn a_delta_is_made_against_what_came_just_before() {
    let mut home = home();
    home.subscribe("news", A, FEED, PLAIN, &TEN, 0);
    let mut previous = |use_delta, skip_history| {
        let mut seen = None;
        let draft = Draft { use_delta, skip_history, ..draft(b"") };
        home.publish("news", draft, &TEN, 0, |_, delivery| {
            seen = delivery.previous.map(|record| record.offset);
            true
        });
        seen
    };
    assert_eq!(previous(true, false), None, "there is none");
    assert_eq!(previous(false, false), None, "it is not asked for");
    assert_eq!(previous(true, false), Some(2));
    assert_eq!(previous(true, true), None);
    assert_eq!(previous(true, false), None, "the one before is not in the history");
    assert_eq!(previous(true, false), Some(4));
}

#[test]
fn what_was_used_least_recently_makes_room() {
    let size = |home: &mut HomeChannels| {
        home.publish("a", draft(&[0; 1000]), &TEN, 0, |_, _| true);
        home.memory().history
    };
    let one = size(&mut self::home());
    let mut home = HomeChannels::new(7, 2 * one);
    home.subscribe("a", A, FEED, PLAIN, &TEN, 0);
    let mut publish = |name, now| home.publish(name, draft(&[0; 1000]), &TEN, now, |_, _| true).position();
    let [a, b, _, again] = [("a", 1), ("b", 2), ("c", 3), ("b", 4)].map(|(name, now)| publish(name, now).unwrap());
    assert_eq!(home.evictions(), 2);
    assert_eq!(home.position("a", &NONE, 0), a, "somebody is in it");
    assert_eq!(again, Position { offset: 2, ..b });
    assert_eq!(home.position("c", &NONE, 0), Position::default());
    assert!(home.memory().history <= 2 * one);
}
