//! Which subscription gets which part of a turn.

use std::rc::Rc;

use super::table::Subscribers;
use super::types::{
    Activation, AddedSubscription, ClosedGroup, DeltaBase, NewSubscription, PendingBroadcast, SubscriptionFlags,
    SubscriptionList, TurnOutput,
};
use crate::ids::{ConnId, GroupId, SubscriptionKey};
use crate::pubsub::epoch::Epoch;
use crate::pubsub::position::{ChannelTop, DeliveryPosition, LostDeliveries, Position};
use crate::pubsub::wire_format::WireFormat;
use crate::slow_policy::SlowConsumerPolicy;

fn conn(slot: u32) -> ConnId {
    ConnId::new(slot, slot + 100)
}

const PLAIN: WireFormat = WireFormat::plain(0);

fn new(slot: u32, channel: &str, wire_format: WireFormat) -> NewSubscription<'_, u8> {
    NewSubscription {
        conn: conn(slot),
        channel,
        wire_format,
        slow_policy: SlowConsumerPolicy::Close,
        flags: SubscriptionFlags::empty(),
        detail: None,
        activation: Activation::WithGroup,
    }
}

fn join(subscribers: &mut Subscribers<u8>, slot: u32) -> (AddedSubscription, SubscriptionList) {
    let mut list = SubscriptionList::default();
    (subscribers.subscribe(&mut list, new(slot, "news", PLAIN)), list)
}

fn at(seq: u64) -> DeliveryPosition {
    DeliveryPosition { seq, offset: seq }
}

/// Opens the group with one live member in slot 0.
fn live(subscribers: &mut Subscribers<u8>) -> (GroupId, SubscriptionKey) {
    let (AddedSubscription { id, group, opened_group, .. }, _) = join(subscribers, 0);
    assert!(opened_group, "the first subscription opens the group");
    assert_eq!(subscribers.activate_group(group, ChannelTop::default()), Some(vec![id.key()]));
    (group, id.key())
}

/// Ends the turn; returns the unicasts by slot, and the broadcasts.
fn end(subscribers: &mut Subscribers<u8>) -> (Vec<(u32, Vec<u8>)>, Vec<PendingBroadcast>) {
    let (mut shares, mut turns) = (Vec::new(), Vec::new());
    subscribers.end_turn(|out| match out {
        TurnOutput::Unicast(one) => shares.push((one.conn.slot, one.share.frames.to_vec())),
        TurnOutput::Broadcast(turn) => turns.push(turn),
    });
    (shares, turns)
}

#[test]
fn subscription_goes_live_with_the_answer_of_home_and_not_before() {
    let mut subscribers = Subscribers::default();
    let (AddedSubscription { id: first, group: id, .. }, _) = join(&mut subscribers, 0);
    let (second, _) = join(&mut subscribers, 1);
    assert_eq!((second.live_at, second.opened_group), (None, false));
    let top = ChannelTop { position: Position { epoch: Epoch::of_number(1), offset: 9 }, seq: 9 };
    assert_eq!(subscribers.activate_group(id, top), Some(vec![first.key(), second.id.key()]));
    assert!(subscribers.deliver(id, at(10), b"x"));
    let (_, turns) = end(&mut subscribers);
    assert_eq!(**turns[0].member_slots, [0, 1]);
    assert_eq!(join(&mut subscribers, 2).0.live_at, Some(Position { epoch: Epoch::of_number(1), offset: 10 }));
}

#[test]
fn joining_subscription_gets_the_turn_from_its_own_place_on() {
    let mut subscribers = Subscribers::default();
    let (id, _) = live(&mut subscribers);
    subscribers.deliver(id, at(1), b"old");
    join(&mut subscribers, 1);
    subscribers.deliver(id, at(2), b"new");
    let (shares, turns) = end(&mut subscribers);
    assert_eq!(shares, [(1, b"new".to_vec())]);
    assert_eq!((&turns[0].member_slots[..], &turns[0].frames[..]), (&[0][..], &b"oldnew"[..]));
    // More comes while that broadcast is under way; after it the subscription is a member like the others.
    subscribers.deliver(id, at(3), b"next");
    drop(turns);
    let (shares, turns) = end(&mut subscribers);
    assert!(shares.is_empty());
    assert_eq!((&turns[0].member_slots[..], &turns[0].frames[..]), (&[0, 1][..], &b"next"[..]));
}

#[test]
fn members_do_not_change_while_a_broadcast_is_under_way() {
    let mut subscribers = Subscribers::default();
    let (id, _) = live(&mut subscribers);
    let (AddedSubscription { id: second, .. }, mut list) = join(&mut subscribers, 1);
    subscribers.deliver(id, at(1), b"a");
    let (_, turns) = end(&mut subscribers);
    assert_eq!(subscribers.unsubscribe(second.key(), &mut list), None);
    join(&mut subscribers, 2);
    assert_eq!(**turns[0].member_slots, [0, 1], "shared with the flush");
    drop(turns);
    subscribers.deliver(id, at(2), b"b");
    let (_, turns) = end(&mut subscribers);
    assert_eq!(**turns[0].member_slots, [0, 2]);
}

#[test]
fn group_closes_with_its_last_subscription_and_ignores_a_late_answer() {
    let mut subscribers = Subscribers::default();
    let (AddedSubscription { id: subscription, group: id, .. }, mut list) = join(&mut subscribers, 0);
    let closed = subscribers.unsubscribe(subscription.key(), &mut list);
    assert_eq!(closed, Some(ClosedGroup { id, channel: "news".into() }));
    assert_eq!(subscribers.activate_group(id, ChannelTop::default()), None);
    assert!(!subscribers.deliver(id, at(1), b"late"));
    let (AddedSubscription { group: again, .. }, _) = join(&mut subscribers, 0);
    assert_ne!(again, id);
}

#[test]
fn pending_subscription_that_leaves_takes_nothing_from_the_others() {
    let mut subscribers = Subscribers::default();
    let (AddedSubscription { id: subscription, group: id, .. }, mut list) = join(&mut subscribers, 0);
    let (AddedSubscription { id: other, .. }, _) = join(&mut subscribers, 1);
    assert_eq!(subscribers.unsubscribe(subscription.key(), &mut list), None);
    assert_eq!(subscribers.activate_group(id, ChannelTop::default()), Some(vec![other.key()]));
    assert_eq!(subscribers.len(), 1);
}

#[test]
fn turn_share_is_what_the_turn_has_for_the_subscription() {
    let mut subscribers = Subscribers::default();
    let (id, member) = live(&mut subscribers);
    subscribers.deliver(id, at(1), b"one");
    let (AddedSubscription { id: joining, .. }, _) = join(&mut subscribers, 1);
    subscribers.deliver(id, at(2), b"two");
    let share = |key| subscribers.get(key).turn_share();
    assert_eq!((share(member).frames, share(joining.key()).frames), (&b"onetwo"[..], &b"two"[..]));
    assert_eq!((share(member).latest, share(joining.key()).latest), (Some(3), Some(0)));
}

#[test]
fn turn_buffer_is_used_again_unless_a_backlog_holds_it() {
    let mut subscribers = Subscribers::default();
    let (id, _) = live(&mut subscribers);
    for (offset, held) in [(1, true), (2, false)] {
        subscribers.deliver(id, at(offset), b"frame");
        let (_, turns) = end(&mut subscribers);
        let backlog = held.then(|| Rc::clone(&turns[0].frames));
        drop(turns);
        subscribers.end_flush();
        assert_eq!(subscribers.spare_buffers.len(), usize::from(!held));
        drop(backlog);
    }
    assert_eq!(subscribers.turn_bytes(), 0);
}

#[test]
fn connection_finds_its_subscriptions_by_channel() {
    let mut subscribers = Subscribers::default();
    let mut list = SubscriptionList::default();
    for name in ["a", "b", "c"] {
        subscribers.subscribe(&mut list, new(5, name, PLAIN));
    }
    let b = subscribers.find(list, "b").expect("subscribed");
    assert!(subscribers.get(b).is_pending());
    subscribers.unsubscribe(b, &mut list);
    assert_eq!(subscribers.find(list, "b"), None);
    assert_eq!(subscribers.of_connection(list).count(), 2);
    while let Some(key) = list.first() {
        assert!(subscribers.unsubscribe(key, &mut list).is_some(), "each is the only one of its channel");
    }
    assert!(
        subscribers.groups.is_empty()
            && subscribers.subscriptions.is_empty()
            && subscribers.name_index.keys().next().is_none()
    );
}

#[test]
fn recovering_subscription_goes_live_only_by_its_own_answer() {
    let mut subscribers = Subscribers::default();
    let (id, _) = live(&mut subscribers);
    let mut list = SubscriptionList::default();
    let joined = subscribers
        .subscribe(&mut list, NewSubscription { activation: Activation::ByRecovery, ..new(1, "news", PLAIN) });
    assert_eq!((joined.live_at, joined.opened_group), (None, false));
    subscribers.deliver(id, at(1), b"missed");
    assert!(subscribers.activate_recovered(joined.id, DeltaBase::Known));
    assert!(!subscribers.activate_recovered(joined.id, DeltaBase::Known), "once");
    subscribers.deliver(id, at(2), b"live");
    let (shares, _) = end(&mut subscribers);
    assert_eq!(shares, [(1, b"live".to_vec())]);
    let again = subscribers
        .subscribe(&mut list, NewSubscription { activation: Activation::ByRecovery, ..new(1, "news", PLAIN) });
    assert_eq!(subscribers.unsubscribe(again.id.key(), &mut list), None);
    assert!(!subscribers.activate_recovered(again.id, DeltaBase::Known), "gone before its answer came");
}

#[test]
fn delta_subscription_gets_its_first_publication_whole() {
    let wire_format = WireFormat { delta: true, ..PLAIN };
    let mut subscribers = Subscribers::default();
    let mut list = SubscriptionList::default();
    let joined = subscribers.subscribe(&mut list, new(0, "news", wire_format));
    subscribers.activate_group(joined.group, ChannelTop::default());
    let mut each = Vec::new();
    subscribers
        .deliver_delta(joined.group, at(1), b"whole1", b"d1", |conn, frame| each.push((conn.slot, frame.to_vec())));
    assert_eq!(each, [(0, b"whole1".to_vec())]);
    let mut other = SubscriptionList::default();
    subscribers.subscribe(&mut other, new(1, "news", wire_format));
    subscribers
        .deliver_delta(joined.group, at(2), b"whole2", b"d2", |conn, frame| each.push((conn.slot, frame.to_vec())));
    assert_eq!(each[1..], [(1, b"whole2".to_vec())]);
    let (_, turns) = end(&mut subscribers);
    assert_eq!((&turns[0].member_slots[..], &turns[0].frames[..]), (&[0][..], &b"d2"[..]));
    drop(turns);
    subscribers.skip_lost(joined.group, LostDeliveries { first_seq: 3, last_seq: 5, with_offset: 3, offset: 5 });
    subscribers.deliver_delta(joined.group, at(6), b"whole6", b"d6", |_, _| panic!("none awaits its base"));
    let (_, turns) = end(&mut subscribers);
    assert_eq!(&turns[0].frames[..], b"whole6");
}

#[test]
fn subscription_awaiting_its_base_leaves_nothing_behind() {
    let wire_format = WireFormat { delta: true, ..PLAIN };
    let mut subscribers = Subscribers::default();
    let mut lists = [SubscriptionList::default(); 3];
    for (slot, first) in (0..).zip(&mut lists) {
        let joined = subscribers.subscribe(first, new(slot, "news", wire_format));
        subscribers.activate_group(joined.group, ChannelTop::default());
    }
    for first in &mut lists {
        subscribers.unsubscribe(first.first().expect("subscribed"), first);
    }
    assert!(subscribers.groups.is_empty() && subscribers.subscriptions.is_empty());
}

#[test]
fn filtered_group_asks_for_each_subscription() {
    let wire_format = WireFormat { filtered: true, ..PLAIN };
    let mut subscribers = Subscribers::default();
    let mut list = SubscriptionList::default();
    let joined =
        subscribers.subscribe(&mut list, NewSubscription { detail: Some(Box::new(7)), ..new(0, "news", wire_format) });
    subscribers.activate_group(joined.group, ChannelTop::default());
    let mut asked = Vec::new();
    subscribers.deliver_filtered(joined.group, at(1), |conn, detail| asked.push((conn.slot, detail.copied())));
    assert_eq!(asked, [(0, Some(7))]);
    assert!(end(&mut subscribers).1.is_empty());
}
