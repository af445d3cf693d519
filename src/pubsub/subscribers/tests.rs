//! The feeds' own tests: who gets which part of a turn.

use super::*;

fn conn(slot: u32) -> ConnId {
    ConnId::new(slot, slot + 100)
}

const FORM: WireFormat = WireFormat::plain(0);

fn wanted(slot: u32, name: &str, form: WireFormat) -> Wanted<'_, u8> {
    Wanted { conn: conn(slot), name, form, slow: SlowConsumerPolicy::Close, flags: 0, detail: None, own_answer: false }
}

fn join(feeds: &mut Subscribers<u8>, slot: u32) -> (Joined, u32) {
    let mut first = NO_SUB;
    (feeds.subscribe(&mut first, wanted(slot, "news", FORM)), first)
}

fn at(seq: u64) -> At {
    At { seq, offset: seq }
}

/// Opens the feed with one live member in slot 0.
fn live(feeds: &mut Subscribers<u8>) -> (GroupId, u32) {
    let (Joined { sub, feed, first, .. }, _) = join(feeds, 0);
    assert!(first, "the first subscriber opens the feed");
    assert_eq!(feeds.answer(feed, Top::default()), Some(vec![sub.slot]));
    (feed, sub.slot)
}

/// Ends the turn; returns shares by slot, and the casts.
fn end(feeds: &mut Subscribers<u8>) -> (Vec<(u32, Vec<u8>)>, Vec<PendingBroadcast>) {
    let (mut shares, mut turns) = (Vec::new(), Vec::new());
    feeds.end_turn(|out| match out {
        Out::One(share) => shares.push((share.conn.slot, share.frames.to_vec())),
        Out::All(turn) => turns.push(turn),
    });
    (shares, turns)
}

#[test]
fn who_waits_for_home_goes_live_with_its_answer_and_not_before() {
    let mut feeds = Subscribers::default();
    let (Joined { sub: first, feed: id, .. }, _) = join(&mut feeds, 0);
    let (Joined { sub: second, live: None, first: false, .. }, _) = join(&mut feeds, 1) else { panic!() };
    let top = Top { position: Position { epoch: 1, offset: 9 }, seq: 9 };
    assert_eq!(feeds.answer(id, top), Some(vec![first.slot, second.slot]));
    assert!(feeds.deliver(id, at(10), b"x"));
    let (_, turns) = end(&mut feeds);
    assert_eq!(**turns[0].members, [0, 1]);
    assert_eq!(join(&mut feeds, 2).0.live, Some(Position { epoch: 1, offset: 10 }));
}

#[test]
fn a_newcomer_gets_the_turn_from_its_own_place_on() {
    let mut feeds = Subscribers::default();
    let (id, _) = live(&mut feeds);
    feeds.deliver(id, at(1), b"old");
    join(&mut feeds, 1);
    feeds.deliver(id, at(2), b"new");
    let (shares, turns) = end(&mut feeds);
    assert_eq!(shares, [(1, b"new".to_vec())]);
    assert_eq!((&turns[0].members[..], &turns[0].frames[..]), (&[0][..], &b"oldnew"[..]));
    // While that cast is under way more comes; after it the newcomer is a member like the others.
    feeds.deliver(id, at(3), b"next");
    drop(turns);
    let (shares, turns) = end(&mut feeds);
    assert!(shares.is_empty());
    assert_eq!((&turns[0].members[..], &turns[0].frames[..]), (&[0, 1][..], &b"next"[..]));
}

#[test]
fn membership_stands_still_while_a_cast_is_under_way() {
    let mut feeds = Subscribers::default();
    let (id, _) = live(&mut feeds);
    let (Joined { sub: SubscriptionId { slot: second, .. }, .. }, mut first) = join(&mut feeds, 1);
    feeds.deliver(id, at(1), b"a");
    let (_, turns) = end(&mut feeds);
    assert_eq!(feeds.unsubscribe(second, &mut first), None);
    join(&mut feeds, 2);
    assert_eq!(**turns[0].members, [0, 1], "frozen");
    drop(turns);
    feeds.deliver(id, at(2), b"b");
    let (_, turns) = end(&mut feeds);
    assert_eq!(**turns[0].members, [0, 2]);
}

#[test]
fn the_last_to_leave_closes_the_feed_and_a_late_answer_finds_nobody() {
    let mut feeds = Subscribers::default();
    let (Joined { sub: SubscriptionId { slot: sub, .. }, feed: id, .. }, mut first) = join(&mut feeds, 0);
    let left = feeds.unsubscribe(sub, &mut first);
    assert_eq!(left, Some(Left { feed: id, name: "news".into() }));
    assert_eq!(feeds.answer(id, Top::default()), None);
    assert!(!feeds.deliver(id, at(1), b"late"));
    let (Joined { feed: again, .. }, _) = join(&mut feeds, 0);
    assert_ne!(again, id);
}

#[test]
fn leaving_while_pending_takes_nothing_from_the_others() {
    let mut feeds = Subscribers::default();
    let (Joined { sub: SubscriptionId { slot: sub, .. }, feed: id, .. }, mut first) = join(&mut feeds, 0);
    let (Joined { sub: SubscriptionId { slot: other, .. }, .. }, _) = join(&mut feeds, 1);
    assert_eq!(feeds.unsubscribe(sub, &mut first), None);
    assert_eq!(feeds.answer(id, Top::default()), Some(vec![other]));
    assert_eq!(feeds.subscriptions(), 1);
}

#[test]
fn who_leaves_by_our_decision_finds_its_share() {
    let mut feeds = Subscribers::default();
    let (id, member) = live(&mut feeds);
    feeds.deliver(id, at(1), b"one");
    let (Joined { sub: SubscriptionId { slot: newcomer, .. }, .. }, _) = join(&mut feeds, 1);
    feeds.deliver(id, at(2), b"two");
    assert_eq!((feeds.share(member), feeds.share(newcomer)), (&b"onetwo"[..], &b"two"[..]));
}

#[test]
fn a_turn_buffer_serves_again_unless_a_slow_peer_holds_it() {
    let mut feeds = Subscribers::default();
    let (id, _) = live(&mut feeds);
    for (offset, held) in [(1, true), (2, false)] {
        feeds.deliver(id, at(offset), b"frame");
        let (_, turns) = end(&mut feeds);
        let backlog = held.then(|| Rc::clone(&turns[0].frames));
        drop(turns);
        feeds.end_flush();
        assert_eq!(feeds.buffers.len(), usize::from(!held));
        drop(backlog);
    }
    assert_eq!(feeds.turn_bytes(), 0);
}

#[test]
fn a_connection_finds_its_subscriptions_by_name() {
    let mut feeds = Subscribers::default();
    let mut first = NO_SUB;
    for name in ["a", "b", "c"] {
        feeds.subscribe(&mut first, wanted(5, name, FORM));
    }
    let b = feeds.find(first, "b").expect("subscribed");
    assert!(feeds.is_pending(b));
    feeds.unsubscribe(b, &mut first);
    assert_eq!(feeds.find(first, "b"), None);
    assert_eq!(feeds.of_conn(first).count(), 2);
    while first != NO_SUB {
        assert!(feeds.unsubscribe(first, &mut first).is_some(), "each was its channel's only one");
    }
    assert!(feeds.feeds.is_empty() && feeds.subs.is_empty() && feeds.names.keys().next().is_none());
}

#[test]
fn who_recovers_goes_live_by_its_own_answer_alone() {
    let mut feeds = Subscribers::default();
    let (id, _) = live(&mut feeds);
    let mut first = NO_SUB;
    let joined = feeds.subscribe(&mut first, Wanted { own_answer: true, ..wanted(1, "news", FORM) });
    assert_eq!((joined.live, joined.first), (None, false));
    feeds.deliver(id, at(1), b"missed");
    assert!(feeds.go_live(joined.sub, true));
    assert!(!feeds.go_live(joined.sub, true), "once");
    feeds.deliver(id, at(2), b"live");
    let (shares, _) = end(&mut feeds);
    assert_eq!(shares, [(1, b"live".to_vec())]);
    let again = feeds.subscribe(&mut first, Wanted { own_answer: true, ..wanted(1, "news", FORM) });
    assert_eq!(feeds.unsubscribe(again.sub.slot, &mut first), None);
    assert!(!feeds.go_live(again.sub, true), "gone before its answer came");
}

#[test]
fn the_first_publication_of_a_delta_is_whole() {
    let form = WireFormat { delta: true, ..FORM };
    let mut feeds = Subscribers::default();
    let mut first = NO_SUB;
    let joined = feeds.subscribe(&mut first, wanted(0, "news", form));
    feeds.answer(joined.feed, Top::default());
    let mut each = Vec::new();
    feeds.deliver_delta(joined.feed, at(1), b"whole1", b"d1", |conn, frame| each.push((conn.slot, frame.to_vec())));
    assert_eq!(each, [(0, b"whole1".to_vec())]);
    let mut other = NO_SUB;
    feeds.subscribe(&mut other, wanted(1, "news", form));
    feeds.deliver_delta(joined.feed, at(2), b"whole2", b"d2", |conn, frame| each.push((conn.slot, frame.to_vec())));
    assert_eq!(each[1..], [(1, b"whole2".to_vec())]);
    let (_, turns) = end(&mut feeds);
    assert_eq!((&turns[0].members[..], &turns[0].frames[..]), (&[0][..], &b"d2"[..]));
    drop(turns);
    feeds.lost(joined.feed, 5, 5);
    feeds.deliver_delta(joined.feed, at(6), b"whole6", b"d6", |_, _| panic!("nobody is fresh"));
    let (_, turns) = end(&mut feeds);
    assert_eq!(&turns[0].frames[..], b"whole6");
}

#[test]
fn a_fresh_one_that_leaves_leaves_nothing_behind() {
    let form = WireFormat { delta: true, ..FORM };
    let mut feeds = Subscribers::default();
    let mut lists = [NO_SUB; 3];
    for (slot, first) in (0..).zip(&mut lists) {
        let joined = feeds.subscribe(first, wanted(slot, "news", form));
        feeds.answer(joined.feed, Top::default());
    }
    for first in &mut lists {
        feeds.unsubscribe(*first, first);
    }
    assert!(feeds.feeds.is_empty() && feeds.subs.is_empty());
}

#[test]
fn a_filtered_feed_asks_for_each() {
    let form = WireFormat { filtered: true, ..FORM };
    let mut feeds = Subscribers::default();
    let mut first = NO_SUB;
    let joined = feeds.subscribe(&mut first, Wanted { detail: Some(Box::new(7)), ..wanted(0, "news", form) });
    feeds.answer(joined.feed, Top::default());
    let mut asked = Vec::new();
    feeds.deliver_each(joined.feed, at(1), |conn, detail| asked.push((conn.slot, detail.copied())));
    assert_eq!(asked, [(0, Some(7))]);
    assert!(end(&mut feeds).1.is_empty());
}
