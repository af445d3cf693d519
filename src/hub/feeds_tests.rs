//! The feeds' own tests: who gets which part of a turn.

use super::*;

fn conn(slot: u32) -> ConnId {
    ConnId { slot, generation: slot + 100 }
}

fn join(feeds: &mut Feeds, slot: u32) -> (Joined, u32) {
    let mut first = NO_SUB;
    (feeds.subscribe(conn(slot), &mut first, "news", Form::Json), first)
}

/// Opens the feed with one live member in slot 0.
fn live(feeds: &mut Feeds) -> (FeedId, u32) {
    let (Joined::First(sub, id), _) = join(feeds, 0) else { panic!("the first subscriber opens the feed") };
    assert_eq!(feeds.answer(id, Position::default()), Some(vec![sub]));
    (id, sub)
}

/// Ends the turn; returns shares by slot, and the casts.
fn end(feeds: &mut Feeds) -> (Vec<(u32, Vec<u8>)>, Vec<Turn>) {
    let (mut shares, mut turns) = (Vec::new(), Vec::new());
    feeds.end_turn(|out| match out {
        Out::One(share) => shares.push((share.conn.slot, share.frames.to_vec())),
        Out::All(turn) => turns.push(turn),
    });
    (shares, turns)
}

#[test]
fn who_waits_for_home_goes_live_with_its_answer_and_not_before() {
    let mut feeds = Feeds::default();
    let (Joined::First(first, id), _) = join(&mut feeds, 0) else { panic!() };
    let (Joined::Pending(second), _) = join(&mut feeds, 1) else { panic!() };
    let at = Position { epoch: 1, offset: 9 };
    assert_eq!(feeds.answer(id, at), Some(vec![first, second]));
    assert!(feeds.deliver(id, 10, b"x"));
    let (_, turns) = end(&mut feeds);
    assert_eq!(**turns[0].members, [0, 1]);
    assert!(matches!(join(&mut feeds, 2).0, Joined::Live(_, Position { epoch: 1, offset: 10 })));
}

#[test]
fn a_newcomer_gets_the_turn_from_its_own_place_on() {
    let mut feeds = Feeds::default();
    let (id, _) = live(&mut feeds);
    feeds.deliver(id, 1, b"old");
    join(&mut feeds, 1);
    feeds.deliver(id, 2, b"new");
    let (shares, turns) = end(&mut feeds);
    assert_eq!(shares, [(1, b"new".to_vec())]);
    assert_eq!((&turns[0].members[..], &turns[0].frames[..]), (&[0][..], &b"oldnew"[..]));
    // While that cast is under way more comes; after it the newcomer is a member like the others.
    feeds.deliver(id, 2 + 1, b"next");
    drop(turns);
    let (shares, turns) = end(&mut feeds);
    assert!(shares.is_empty());
    assert_eq!((&turns[0].members[..], &turns[0].frames[..]), (&[0, 1][..], &b"next"[..]));
}

#[test]
fn membership_stands_still_while_a_cast_is_under_way() {
    let mut feeds = Feeds::default();
    let (id, _) = live(&mut feeds);
    let (Joined::Live(second, _), mut first) = join(&mut feeds, 1) else { panic!() };
    feeds.deliver(id, 1, b"a");
    let (_, turns) = end(&mut feeds);
    assert_eq!(feeds.unsubscribe(second, &mut first), None);
    join(&mut feeds, 2);
    assert_eq!(**turns[0].members, [0, 1], "frozen");
    drop(turns);
    feeds.deliver(id, 2, b"b");
    let (_, turns) = end(&mut feeds);
    assert_eq!(**turns[0].members, [0, 2]);
}

#[test]
fn the_last_to_leave_closes_the_feed_and_a_late_answer_finds_nobody() {
    let mut feeds = Feeds::default();
    let (Joined::First(sub, id), mut first) = join(&mut feeds, 0) else { panic!() };
    let left = feeds.unsubscribe(sub, &mut first);
    assert_eq!(left, Some(Left { feed: id, name: "news".into() }));
    assert_eq!(feeds.answer(id, Position::default()), None);
    assert!(!feeds.deliver(id, 1, b"late"));
    let (Joined::First(_, again), _) = join(&mut feeds, 0) else { panic!() };
    assert_ne!(again, id);
}

#[test]
fn leaving_while_pending_takes_nothing_from_the_others() {
    let mut feeds = Feeds::default();
    let (Joined::First(sub, id), mut first) = join(&mut feeds, 0) else { panic!() };
    let (Joined::Pending(other), _) = join(&mut feeds, 1) else { panic!() };
    assert_eq!(feeds.unsubscribe(sub, &mut first), None);
    assert_eq!(feeds.answer(id, Position::default()), Some(vec![other]));
    assert_eq!(feeds.subscriptions(), 1);
}

#[test]
fn who_leaves_by_our_decision_finds_its_share() {
    let mut feeds = Feeds::default();
    let (id, member) = live(&mut feeds);
    feeds.deliver(id, 1, b"one");
    let (Joined::Live(newcomer, _), _) = join(&mut feeds, 1) else { panic!() };
    feeds.deliver(id, 2, b"two");
    assert_eq!((feeds.share(member), feeds.share(newcomer)), (&b"onetwo"[..], &b"two"[..]));
}

#[test]
fn a_turn_buffer_serves_again_unless_a_slow_peer_holds_it() {
    let mut feeds = Feeds::default();
    let (id, _) = live(&mut feeds);
    for (offset, held) in [(1, true), (2, false)] {
        feeds.deliver(id, offset, b"frame");
        let (_, turns) = end(&mut feeds);
        let backlog = held.then(|| Rc::clone(&turns[0].frames));
        drop(turns);
        feeds.thaw();
        assert_eq!(feeds.buffers.len(), usize::from(!held));
        drop(backlog);
    }
    assert_eq!(feeds.turn_bytes(), 0);
}

#[test]
fn a_connection_finds_its_subscriptions_by_name() {
    let mut feeds = Feeds::default();
    let mut first = NO_SUB;
    for name in ["a", "b", "c"] {
        feeds.subscribe(conn(5), &mut first, name, Form::Json);
    }
    let b = feeds.find(first, "b").expect("subscribed");
    assert!(feeds.is_pending(b));
    feeds.unsubscribe(b, &mut first);
    assert_eq!(feeds.find(first, "b"), None);
    assert_eq!(feeds.of_conn(first).count(), 2);
    while first != NO_SUB {
        assert!(feeds.unsubscribe_first(&mut first).is_some(), "each was its channel's only one");
    }
    assert!(feeds.feeds.is_empty() && feeds.subs.is_empty() && feeds.names.is_empty());
}
