//! `HomeChannels`, called as `messaging` calls it.

use super::channel::InterestedShard;
use super::epoch::Epoch;
use super::history::{
    HistoryFilter, HistoryOptions, HistorySlice, RecoveryMode, RecoveryRequest, Since, Unrecoverable,
};
use super::home_channels::{HomeChannels, MemoryUse};
use super::idempotency;
use super::position::{ChannelTop, Position};
use super::publication::{Publication, PublicationRecord, PublishOptions};
use super::publish::PublishOutcome;
use super::resend::ResendStep;
use super::time::TimeRange;
use super::wire_format::WireFormat;
use crate::ids::{GroupId, ShardId};

const GROUP: GroupId = GroupId::new(3, 1);
const A: ShardId = ShardId(0);
const B: ShardId = ShardId(1);
const PLAIN: WireFormat = WireFormat::plain(0);
const NONE: HistoryOptions = HistoryOptions::NONE;
const TEN: HistoryOptions = HistoryOptions { namespace: 0, size: 10, ttl_ms: 60, meta_ttl_ms: 600 };

fn home() -> HomeChannels {
    HomeChannels::new(7, usize::MAX)
}

fn news(data: &[u8]) -> Publication<'_> {
    Publication { channel: "news", data, ..Publication::default() }
}

fn subscribe(home: &mut HomeChannels, shard: ShardId, options: &HistoryOptions, now: u64) -> ChannelTop {
    home.subscribe("news", InterestedShard::new(shard, GROUP, PLAIN), options, now)
}

/// A publication that the history does not store.
fn unstored(data: &[u8]) -> Publication<'_> {
    Publication { options: PublishOptions { skip_history: true, ..PublishOptions::default() }, ..news(data) }
}

/// Publishes; returns which shard got which offset. The shards in `full` have no room.
fn publish(
    home: &mut HomeChannels,
    options: &HistoryOptions,
    publication: Publication<'_>,
    full: &[ShardId],
) -> Vec<(ShardId, u64)> {
    let mut sent = Vec::new();
    home.publish(&publication, options, 0, |i, delivery| {
        let room = !full.contains(&i.shard);
        sent.extend(room.then_some((i.shard, delivery.at.offset)));
        room
    });
    sent
}

fn stamp(home: &mut HomeChannels, data: &[u8], now: u64) -> Position {
    match home.publish(&news(data), &TEN, now, |_, _| true) {
        PublishOutcome::Stored(position) => position,
        other => panic!("{other:?}"),
    }
}

/// Sequence numbers sent, and ranges lost with the number of their offsets and the last offset.
type Resent = (Vec<u64>, Vec<(u64, u64, u64, u64)>);

fn resend(home: &mut HomeChannels, mut room: usize) -> Resent {
    let (mut sent, mut lost) = (Vec::new(), Vec::new());
    home.resend(|step| {
        let Some(left) = room.checked_sub(1) else { return false };
        room = left;
        match step {
            ResendStep::Publication { delivery, .. } => sent.push(delivery.at.seq),
            ResendStep::Lost { lost: range, .. } => {
                lost.push((range.first_seq, range.last_seq, range.with_offset, range.offset));
            }
        }
        true
    });
    (sent, lost)
}

fn offsets<'a>(records: impl Iterator<Item = &'a PublicationRecord>) -> Vec<u64> {
    records.map(|record| record.offset).collect()
}

fn recovered(
    home: &mut HomeChannels,
    epoch: Option<Epoch>,
    offset: u64,
    mode: RecoveryMode<'_>,
) -> (bool, Vec<u64>, u64) {
    let recovery = home.recover("news", RecoveryRequest { since: Since { epoch, offset }, limit: 300, mode }, &TEN, 0);
    (recovery.recovered, offsets(recovery.publications), recovery.top.offset)
}

#[test]
fn channel_without_history_exists_while_a_shard_subscribes_and_has_no_offsets() {
    let mut home = home();
    assert_eq!(
        home.publish(&news(b"1"), &NONE, 0, |_, _| panic!("no shard subscribed")),
        PublishOutcome::NoSubscribers
    );
    let first = subscribe(&mut home, A, &NONE, 0);
    assert_eq!(publish(&mut home, &NONE, news(b"1"), &[]), [(A, 0)]);
    assert_eq!(subscribe(&mut home, B, &NONE, 0), ChannelTop { seq: 1, ..first });
    assert_eq!(publish(&mut home, &NONE, news(b"2"), &[]), [(A, 0), (B, 0)]);
    assert_eq!(home.interested_shards("news").len(), 2);
    home.unsubscribe("news", A, GROUP, 0);
    home.unsubscribe("news", B, GROUP, 0);
    home.unsubscribe("news", B, GROUP, 0);
    assert_eq!(home.len(), 0);
    assert_ne!(subscribe(&mut home, A, &NONE, 0).position.epoch, first.position.epoch);
    assert_eq!(home.memory(), MemoryUse::default());
}

#[test]
fn lagging_shard_gets_all_it_missed_in_order() {
    let mut home = home();
    subscribe(&mut home, A, &TEN, 0);
    subscribe(&mut home, B, &TEN, 0);
    assert_eq!(publish(&mut home, &TEN, news(b"1"), &[B]), [(A, 1)]);
    assert_eq!(publish(&mut home, &TEN, news(b"2"), &[]), [(A, 2)], "B gets 1 first");
    assert!(home.has_lagging_shards());
    assert_eq!(resend(&mut home, 9), (vec![1, 2], vec![]));
    assert!(!home.has_lagging_shards());
    assert_eq!(publish(&mut home, &TEN, news(b"3"), &[]), [(A, 3), (B, 3)]);
}

#[test]
fn lagging_shard_is_told_what_the_history_has_lost() {
    let mut home = home();
    let two = HistoryOptions { size: 2, ..TEN };
    subscribe(&mut home, B, &two, 0);
    for i in 0..5u8 {
        publish(&mut home, &two, news(&[i]), &[B]);
    }
    publish(&mut home, &two, unstored(b"6"), &[]);
    assert_eq!(resend(&mut home, 9), (vec![4, 5], vec![(1, 3, 3, 3), (6, 6, 0, 5)]));
    publish(&mut home, &two, unstored(b"7"), &[B]);
    publish(&mut home, &two, news(b"8"), &[B]);
    home.history_remove("news");
    assert_eq!(resend(&mut home, 9), (vec![], vec![(7, 8, 1, 6)]));
}

#[test]
fn resend_stops_when_there_is_no_room_and_continues_there() {
    let mut home = home();
    subscribe(&mut home, B, &TEN, 0);
    for i in 0..4u8 {
        publish(&mut home, &TEN, news(&[i]), &[B]);
    }
    assert_eq!(resend(&mut home, 3), (vec![1, 2, 3], vec![]));
    assert_eq!(resend(&mut home, 9), (vec![4], vec![]));
}

#[test]
fn lagging_shard_that_unsubscribes_is_forgotten() {
    let mut home = home();
    subscribe(&mut home, B, &NONE, 0);
    publish(&mut home, &NONE, news(b"1"), &[B]);
    home.unsubscribe("news", B, GROUP, 0);
    assert!(!home.has_lagging_shards());
    assert_eq!(home.len(), 0);
}

#[test]
fn recovery_brings_all_or_nothing() {
    let mut home = home();
    let three = HistoryOptions { size: 3, ..TEN };
    let epoch = home.position("news", &three, 0).epoch;
    let all = RecoveryMode::Stream;
    assert_eq!(recovered(&mut home, Some(epoch), 0, all), (true, vec![], 0));
    (0..5u8).for_each(|i| _ = publish(&mut home, &three, news(&[i]), &[]));
    assert_eq!(recovered(&mut home, Some(epoch), 2, all), (true, vec![3, 4, 5], 5));
    assert_eq!(recovered(&mut home, None, 4, all), (true, vec![5], 5), "the empty epoch matches any");
    assert_eq!(recovered(&mut home, Some(epoch), 5, all), (true, vec![], 5));
    for (epoch, offset) in [
        (Some(epoch), 1),
        (Some(epoch), 6),
        (Some(epoch), u64::MAX),
        (Some(Epoch::of_number(u32::MAX)), 4),
        (Some(Epoch::default()), 5),
    ] {
        assert_eq!(recovered(&mut home, epoch, offset, all), (false, vec![], 5));
    }
    let request = RecoveryRequest { since: Since { epoch: None, offset: 2 }, limit: 2, mode: all };
    assert!(!home.recover("news", request, &TEN, 0).recovered, "more than the limit");
    home.history_remove("news");
    assert_eq!(recovered(&mut home, Some(epoch), 5, all), (true, vec![], 5), "nothing was missed");
    assert_eq!(recovered(&mut home, Some(epoch), 4, all), (false, vec![], 5));
}

#[test]
fn cache_recovery_brings_the_latest_unless_the_reader_has_it() {
    let mut home = home();
    let cache = RecoveryMode::Cache { filter: None };
    let epoch = home.position("news", &TEN, 0).epoch;
    assert_eq!(recovered(&mut home, Some(epoch), 0, cache), (false, vec![], 0));
    (1..=3u8).for_each(|i| _ = stamp(&mut home, &[i], 0));
    for (epoch, offset) in [(Some(epoch), 0), (Some(Epoch::of_number(u32::MAX)), 3), (None, 3), (None, 99)] {
        assert_eq!(recovered(&mut home, epoch, offset, cache), (true, vec![3], 3));
    }
    assert_eq!(recovered(&mut home, Some(epoch), 3, cache), (true, vec![], 3));
    let second = |record: &PublicationRecord| record.data[0] == 2;
    let other = |_: &PublicationRecord| false;
    assert_eq!(recovered(&mut home, None, 0, RecoveryMode::Cache { filter: Some(&second) }), (true, vec![2], 3));
    assert_eq!(recovered(&mut home, None, 0, RecoveryMode::Cache { filter: Some(&other) }), (false, vec![], 3));
    home.history_remove("news");
    assert_eq!(recovered(&mut home, Some(epoch), 3, cache), (true, vec![], 3));
    assert_eq!(recovered(&mut home, None, 3, cache), (false, vec![], 3));
}

#[test]
fn history_is_read_from_either_end() {
    let mut home = home();
    let epoch = Some(home.position("news", &TEN, 0).epoch);
    (1..=12u8).for_each(|i| _ = stamp(&mut home, &[i], 0));
    let mut read = |since: Option<(Option<Epoch>, u64)>, limit, reverse| {
        let since = since.map(|(epoch, offset)| Since { epoch, offset });
        let history = home.history("news", HistoryFilter { since, limit, reverse }, &TEN, 0)?;
        assert_eq!(history.top.offset, 12);
        Ok::<_, Unrecoverable>(offsets(history.publications))
    };
    assert_eq!(read(None, 0, false), Ok(vec![]));
    assert_eq!(read(None, 3, false), Ok(vec![3, 4, 5]));
    assert_eq!(read(None, 3, true), Ok(vec![12, 11, 10]));
    assert_eq!(read(None, -1, true).unwrap().len(), 10);
    assert_eq!(read(Some((epoch, 10)), -1, false), Ok(vec![11, 12]));
    assert_eq!(read(Some((None, 0)), 2, false), Ok(vec![3, 4]), "begins at the oldest record");
    assert_eq!(read(Some((epoch, 12)), -1, false), Ok(vec![]));
    assert_eq!(read(Some((epoch, u64::MAX)), -1, false), Ok(vec![]));
    assert_eq!(read(Some((epoch, 5)), -1, true), Ok(vec![4, 3]));
    assert_eq!(read(Some((epoch, 13)), 1, true), Ok(vec![12]));
    assert_eq!(read(Some((epoch, 14)), 1, true), Ok(vec![]));
    assert_eq!(read(Some((epoch, 2)), -1, true), Ok(vec![]));
    assert_eq!(read(Some((epoch, 0)), -1, true), Ok(vec![]));
    assert_eq!(read(Some((Some(Epoch::default()), 5)), -1, false).map_err(|lost| lost.top.offset), Err(12));
    assert_eq!(Since::new("", 1).epoch, None);
    assert_eq!(Since::new("other", 1).epoch, Epoch::from_broker("other"));
    assert_eq!(Since::new(Epoch::of_number(9).text().as_str(), 1).epoch, Some(Epoch::of_number(9)));
}

#[test]
fn history_publications_expire_together_and_the_position_later() {
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
    assert_eq!(home.next_expiry(), Some(700), "reading is a use");
    home.expire(700, &mut 9);
    assert_eq!((home.len(), home.memory(), home.next_expiry()), (0, MemoryUse::default(), None));
    assert_ne!(home.position("news", &TEN, 701).epoch, first.epoch);
}

#[test]
fn channel_with_a_shard_or_a_member_keeps_its_position() {
    let mut home = home();
    let first = stamp(&mut home, b"1", 0);
    subscribe(&mut home, A, &TEN, 1);
    home.presence_add("news", [1; 16], "ann", b"");
    home.unsubscribe("news", A, GROUP, 2);
    home.expire(10_000, &mut 99);
    assert_eq!(home.position("news", &NONE, 0), first);
    assert!(home.presence_remove("news", [1; 16], 10_000).is_some());
    assert_eq!(home.next_expiry(), Some(10_600), "leaving is a use");
}

#[test]
fn publication_version_that_is_not_above_the_last_is_stale() {
    let mut home = home();
    let mut publish = |version, version_epoch| {
        let options = PublishOptions { version_epoch, ..PublishOptions::default() };
        home.publish(&Publication { version, options, ..news(b"") }, &TEN, 0, |_, _| true)
    };
    assert!(matches!(publish(5, "a"), PublishOutcome::Stored(_)));
    assert!(matches!(publish(5, "a"), PublishOutcome::StaleVersion(Position { offset: 1, .. })));
    assert!(matches!(publish(4, ""), PublishOutcome::StaleVersion(_)), "the empty epoch matches any");
    assert!(matches!(publish(1, "b"), PublishOutcome::Stored(_)), "another epoch starts again");
    assert!(matches!(publish(2, "b"), PublishOutcome::Stored(_)));
    assert!(matches!(publish(0, ""), PublishOutcome::Stored(_)));
    assert!(
        matches!(publish(1, "b"), PublishOutcome::Stored(_)),
        "a publication without a version forgets the last one"
    );
}

#[test]
fn publication_with_a_known_idempotency_key_gets_the_first_answer() {
    let mut home = home();
    let mut publish = |history, idempotency_key, version, now| {
        let options = PublishOptions { idempotency_key, ..PublishOptions::default() };
        home.publish(&Publication { version, options, ..news(b"") }, history, now, |_, _| true)
    };
    let PublishOutcome::Stored(first) = publish(&TEN, "a", 9, 0) else { panic!("the key is new") };
    assert_eq!(publish(&TEN, "a", 10, 1), PublishOutcome::Duplicate(Some(first)));
    assert!(matches!(publish(&TEN, "stale", 9, 1), PublishOutcome::StaleVersion(_)));
    assert!(
        matches!(publish(&TEN, "stale", 10, 1), PublishOutcome::Stored(_)),
        "a dropped publication does not use up its key"
    );
    assert_eq!(publish(&NONE, "c", 0, 1), PublishOutcome::NoSubscribers);
    assert_eq!(publish(&NONE, "c", 0, 1), PublishOutcome::Duplicate(None));
    assert!(matches!(publish(&TEN, "a", 11, idempotency::KEY_TTL), PublishOutcome::Stored(Position { offset: 3, .. })));
}

#[test]
fn delta_base_is_the_delivery_just_before() {
    let mut home = home();
    subscribe(&mut home, A, &TEN, 0);
    let mut previous = |use_delta, skip_history| {
        let mut seen = None;
        let options = PublishOptions { use_delta, skip_history, ..PublishOptions::default() };
        home.publish(&Publication { options, ..news(b"") }, &TEN, 0, |_, delivery| {
            seen = delivery.previous.map(|record| record.offset);
            true
        });
        seen
    };
    assert_eq!(previous(true, false), None, "there is no publication before");
    assert_eq!(previous(false, false), None, "the publication does not ask for a delta");
    assert_eq!(previous(true, false), Some(2));
    assert_eq!(previous(true, true), None);
    assert_eq!(previous(true, false), None, "the one before is not in the history");
    assert_eq!(previous(true, false), Some(4));
}

#[test]
fn eviction_takes_the_least_recently_used() {
    let size = |home: &mut HomeChannels| {
        home.publish(&Publication { channel: "a", ..news(&[0; 1000]) }, &TEN, 0, |_, _| true);
        home.memory().history
    };
    let one = size(&mut self::home());
    let mut home = HomeChannels::new(7, 2 * one);
    home.subscribe("a", InterestedShard::new(A, GROUP, PLAIN), &TEN, 0);
    let mut publish =
        |channel, now| home.publish(&Publication { channel, ..news(&[0; 1000]) }, &TEN, now, |_, _| true).position();
    let [a, b, _, again] = [("a", 1), ("b", 2), ("c", 3), ("b", 4)].map(|(name, now)| publish(name, now).unwrap());
    assert_eq!(home.evictions(), 2);
    assert_eq!(home.position("a", &NONE, 0), a, "a shard subscribes");
    assert_eq!(again, Position { offset: 2, ..b });
    assert_eq!(home.position("c", &NONE, 0), Position::default());
    assert!(home.memory().history <= 2 * one);
}

#[test]
fn channel_without_publications_costs_nothing_and_keeps_its_position() {
    let mut home = HomeChannels::new(7, 4_000);
    let kept = stamp(&mut home, b"kept", 0);
    let bytes = home.memory().history;
    let mut first = Vec::new();
    for n in 0..10_000 {
        let name = format!("made-up-{n}");
        let top = home.subscribe(&name, InterestedShard::new(A, GROUP, PLAIN), &TEN, n);
        home.unsubscribe(&name, A, GROUP, n);
        first.push(top.position);
        assert_eq!(home.position(&name, &TEN, n), top.position, "reading creates nothing");
    }
    assert_eq!((home.len(), home.memory().history, home.evictions()), (1, bytes, 0));
    assert_eq!(recovered(&mut home, Some(kept.epoch), 0, RecoveryMode::Stream), (true, vec![1], 1));
    // A reader of such a channel recovers what was published after it left.
    let name = "made-up-5";
    home.publish(&Publication { channel: name, ..news(b"1") }, &TEN, 0, |_, _| true);
    let since = Since { epoch: Some(first[5].epoch), offset: 0 };
    let request = RecoveryRequest { since, limit: 300, mode: RecoveryMode::Stream };
    let recovery = home.recover(name, request, &TEN, 0);
    assert_eq!((recovery.recovered, offsets(recovery.publications)), (true, vec![1]));
    // Once the channel is forgotten with its publications, the reader has missed something.
    home.expire(100_000, &mut 99);
    let recovery = home.recover(name, request, &TEN, 100_000);
    assert_eq!((recovery.recovered, recovery.top.offset), (false, 0));
}

#[test]
fn namespace_over_its_share_evicts_its_own_histories() {
    let other = HistoryOptions { namespace: 1, ..TEN };
    let mut home = HomeChannels::new(7, 10_000);
    let kept = stamp(&mut home, &[0; 2_000], 0);
    for n in 0..100 {
        let name = format!("flood-{n}");
        home.publish(&Publication { channel: &name, ..news(&[0; 1_000]) }, &other, 1 + n, |_, _| true);
    }
    assert!(home.evictions() > 80 && home.memory().history <= 10_000);
    assert_eq!(recovered(&mut home, Some(kept.epoch), 0, RecoveryMode::Stream), (true, vec![1], 1), "the older one");
    // One within its share has room made by the larger one.
    let again = stamp(&mut home, &[0; 2_000], 200);
    assert_eq!(recovered(&mut home, Some(again.epoch), 0, RecoveryMode::Stream).1, [1, 2]);
}

#[test]
fn history_of_a_time_is_read_by_the_times_of_publications_which_never_go_back() {
    let mut home = HomeChannels::new(1, usize::MAX);
    for time_ms in [100, 200, 150, 300, 300] {
        home.publish(&Publication { time_ms, ..news(b"") }, &TEN, 0, |_, _| true);
    }
    let mut read = |from_ms, to_ms, limit, reverse, after: Option<u64>| {
        let since = after.map(|offset| Since { epoch: None, offset });
        let range = TimeRange { from_ms, to_ms };
        let found = home.history_within("news", HistoryFilter { since, limit, reverse }, range, &TEN, 0);
        let HistorySlice { publications, top } = found.expect("any epoch");
        assert_eq!(top.offset, 5);
        publications.map(|record| (record.offset, record.time_ms())).collect::<Vec<_>>()
    };
    assert_eq!(read(0, u64::MAX, -1, false, None), [(1, 100), (2, 200), (3, 200), (4, 300), (5, 300)]);
    assert_eq!(read(200, 300, -1, false, None), [(2, 200), (3, 200)]);
    assert_eq!(read(101, 301, 2, true, None), [(5, 300), (4, 300)]);
    assert_eq!(read(100, 300, -1, true, Some(3)), [(2, 200), (1, 100)]);
    assert_eq!(read(100, 301, 1, false, Some(2)), [(3, 200)]);
    assert_eq!(read(100, 200, -1, false, Some(3)), []);
    assert_eq!(read(300, 400, -1, true, Some(2)), []);
    assert_eq!(read(300, 100, -1, false, None), []);
    assert_eq!(read(301, u64::MAX, -1, false, None), []);
    assert_eq!(read(0, 100, -1, true, None), []);
    assert_eq!(read(0, u64::MAX, 0, false, None), []);
}
