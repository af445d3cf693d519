//! Unit tests of the queue.

use std::rc::Rc;

use super::frames::{frame_length, frames_in};
use super::queue::Item;
use super::*;
use crate::slow_policy::SlowConsumerPolicy;

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

/// Frames of one owner, of which the last is a publication.
fn broadcast_by(frames: Vec<u8>, id: u64, policy: SlowConsumerPolicy) -> Broadcast {
    let (mut at, mut latest) = (0, None);
    while at < frames.len() {
        latest = Some(at);
        at += frame_length(None, &frames[at..]);
    }
    broadcast_of(frames, Owner { id, policy }, latest)
}

pub(crate) fn broadcast_of(frames: Vec<u8>, owner: Owner, latest: Option<usize>) -> Broadcast {
    let messages = frames_in(None, &frames) as u32;
    Broadcast { members: Rc::default(), frames: Rc::new(frames), owner, latest, messages }
}

fn broadcast(frames: Vec<u8>, id: u64) -> Broadcast {
    broadcast_by(frames, id, SlowConsumerPolicy::Close)
}

pub(crate) fn left(queue: &Queue) -> Vec<u8> {
    queue.slices().collect::<Vec<_>>().concat()
}

#[test]
fn replies_share_a_chunk_and_leave_in_order_whatever_a_write_takes() {
    for step in 1..9 {
        let mut queue = Queue::default();
        queue.reply(|out| out.extend(frame(b"one")));
        queue.reply(|out| out.extend(frame(b"two")));
        assert_eq!(queue.items.len(), 1);
        let mut seen = Vec::new();
        while !queue.is_empty() {
            let rest = left(&queue);
            let n = step.min(rest.len());
            seen.extend_from_slice(&rest[..n]);
            queue.advance(n);
        }
        assert_eq!(seen, [frame(b"one"), frame(b"two")].concat());
        assert_eq!(queue.bytes(), 0);
    }
}

#[test]
fn large_reply_is_what_is_left_of_a_buffer_of_its_own() {
    let mut queue = Queue::default();
    queue.reply(|out| out.extend_from_slice(&frame(b"short")));
    // Its frames are not looked at.
    let publications = broadcast_of([0x82, 0].repeat(50_000), Owner { id: 1, policy: SlowConsumerPolicy::Close }, None);
    queue.insert_broadcast(&publications, 0);
    assert!(!queue.has_large_reply_of(0), "a publication is no large reply");
    let before = queue.bytes();
    queue.push_buffer(vec![0; 80_000], 10_000);
    let left = |queue: &Queue, bytes| queue.has_large_reply_of(bytes) && !queue.has_large_reply_of(bytes + 1);
    assert!(left(&queue, 70_000));
    assert_eq!(queue.bytes(), before + 70_000);
    queue.advance(before + 1_000);
    assert!(left(&queue, 69_000));
}

#[test]
fn frames_queued_while_a_broadcast_is_under_way_follow_it() {
    let mut queue = Queue::default();
    queue.reply(|out| out.extend(frame(b"before")));
    queue.mark_broadcast();
    queue.reply(|out| out.extend(frame(b"after")));
    queue.insert_broadcast(&broadcast(frame(b"broadcast"), 7), 0);
    queue.unmark_broadcast();
    let expected = [frame(b"before"), frame(b"broadcast"), frame(b"after")].concat();
    assert_eq!(left(&queue), expected);
    assert_eq!(queue.bytes(), expected.len());
}

#[test]
fn broadcast_cut_short_keeps_only_the_unwritten_part() {
    let mut queue = Queue::default();
    queue.insert_broadcast(&broadcast([frame(b"first"), frame(b"second")].concat(), 1), 9);
    assert_eq!(left(&queue), frame(b"second")[2..]);
    assert_eq!(queue.bytes(), 6);
}

#[test]
fn drop_spares_the_frame_that_is_partly_written() {
    let mut queue = Queue::default();
    let turn = [frame(b"aaaa"), frame(b"bbbb"), frame(b"cccc")].concat();
    queue.insert_broadcast(&broadcast(turn, 1), 0);
    queue.advance(8);
    queue.reply(|out| out.extend(frame(b"dddd")));
    assert_eq!(queue.drop_unsent(), 2);
    assert_eq!(left(&queue), frame(b"bbbb")[2..]);
    queue.advance(4);
    assert!(queue.is_empty());
}

#[test]
fn drop_at_a_boundary_leaves_nothing() {
    let mut queue = Queue::default();
    queue.insert_broadcast(&broadcast([frame(b"a"), frame(b"b")].concat(), 1), 0);
    queue.advance(3);
    assert_eq!(queue.drop_unsent(), 1);
    assert!(queue.is_empty());
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn queue_comes_back_empty_from_the_pool() {
    let mut pool = Pool::default();
    let index = pool.take(0, None);
    pool.get_mut(index).reply(|out| out.extend(frame(b"left over")));
    pool.get_mut(index).mark_broadcast();
    pool.give_back(index);
    let index = pool.take(0, None);
    assert!(pool.get(index).is_empty());
    assert_eq!((pool.get(index).bytes(), pool.get(index).broadcast_at), (0, None));
}

fn frames(names: &[&[u8]]) -> Vec<u8> {
    names.iter().flat_map(|name| frame(name)).collect()
}

/// Applies the policies. Returns how many messages of each owner were dropped.
fn apply_policies(queue: &mut Queue, bytes_max: usize) -> Vec<(u64, u64)> {
    let mut dropped = Vec::new();
    queue.apply_policies(bytes_max, |drop| dropped.push((drop.owner.id, drop.messages)));
    dropped
}

#[test]
fn oldest_frames_of_one_owner_are_dropped_and_none_of_others() {
    let mut queue = Queue::default();
    queue.reply(|out| out.extend(frame(b"reply")));
    queue.insert_broadcast(&broadcast(frame(b"other"), 1), 0);
    queue.insert_broadcast(
        &broadcast_by(frames(&[b"a1", b"a2"]), 2, SlowConsumerPolicy::DropOldest { bytes_max: 9 }),
        0,
    );
    queue.insert_broadcast(&broadcast_by(frames(&[b"a3"]), 2, SlowConsumerPolicy::DropOldest { bytes_max: 9 }), 0);
    assert_eq!(apply_policies(&mut queue, 1000), [(2, 1)]);
    assert_eq!(left(&queue), frames(&[b"reply", b"other", b"a2", b"a3"]));
    assert_eq!(apply_policies(&mut queue, 1000), [], "no frames came since");
}

#[test]
fn past_the_bound_of_the_connection_the_oldest_are_dropped_but_no_newest() {
    let mut queue = Queue::default();
    let unbounded = SlowConsumerPolicy::DropOldest { bytes_max: u32::MAX };
    queue.insert_broadcast(&broadcast_by(frames(&[b"a1", b"a2"]), 1, unbounded), 0);
    queue.insert_broadcast(&broadcast_by(frames(&[b"b1", b"b2", b"b3"]), 2, unbounded), 0);
    assert_eq!(apply_policies(&mut queue, 13), [(1, 1), (2, 1)]);
    assert_eq!(left(&queue), frames(&[b"a2", b"b2", b"b3"]));
    queue.reply(|out| out.extend(frame(b"a reply that fills all of it")));
    assert_eq!(apply_policies(&mut queue, 13), [(2, 1)]);
    assert_eq!(left(&queue), frames(&[b"a2", b"b3", b"a reply that fills all of it"]));
}

#[test]
fn only_the_newest_publication_waits_and_a_partly_written_frame_stays() {
    let mut queue = Queue::default();
    queue.insert_broadcast(&broadcast_by(frames(&[b"one", b"two", b"three"]), 1, SlowConsumerPolicy::KeepLatest), 0);
    queue.advance(7);
    assert_eq!(apply_policies(&mut queue, 1000), []);
    queue.put(Owner { id: 1, policy: SlowConsumerPolicy::KeepLatest }, &frames(&[b"four", b"join"]), Some(0));
    assert_eq!(apply_policies(&mut queue, 1000), [(1, 2)]);
    assert_eq!(left(&queue), [&frame(b"two")[2..], &frame(b"four")].concat());
}

#[test]
fn purge_drops_all_of_an_owner_also_broadcasts_under_way() {
    let mut queue = Queue::default();
    let policy = SlowConsumerPolicy::DropOldest { bytes_max: 100 };
    queue.insert_broadcast(&broadcast_by(frames(&[b"a1", b"a2"]), 1, policy), 0);
    queue.advance(1);
    queue.mark_broadcast();
    assert_eq!(queue.purge(1), 1);
    queue.decide(1, InFlight::Refused);
    queue.reply(|out| out.extend(frame(b"told")));
    assert_eq!(queue.insert_broadcast(&broadcast_by(frames(&[b"a3"]), 1, policy), 0), 1);
    queue.unmark_broadcast();
    assert_eq!(left(&queue), [&frame(b"a1")[1..], &frame(b"told")].concat());
}

#[test]
fn frames_of_an_ended_subscription_are_not_dropped() {
    let mut queue = Queue::default();
    let policy = SlowConsumerPolicy::KeepLatest;
    queue.insert_broadcast(&broadcast_by(frames(&[b"old"]), 1, policy), 0);
    queue.mark_broadcast();
    queue.disown(1);
    queue.decide(1, InFlight::Disowned);
    queue.insert_broadcast(&broadcast_by(frames(&[b"on its way"]), 1, policy), 0);
    queue.unmark_broadcast();
    queue.put(Owner { id: 1, policy }, &frame(b"new"), Some(0));
    queue.put(Owner { id: 1, policy }, &frame(b"newer"), Some(0));
    assert_eq!(apply_policies(&mut queue, 1000), [(1, 1)]);
    assert_eq!(left(&queue), frames(&[b"old", b"on its way", b"newer"]));
}

#[test]
fn kept_memory_is_counted_once_and_whole() {
    let mut pool = Pool::default();
    let mut big = Vec::with_capacity(1000);
    big.extend(frame(b"big"));
    let shared = broadcast(big, 1);
    let queues: Vec<QueueKey> = (0..3).map(|slot| pool.take(slot, None)).collect();
    for &index in &queues {
        pool.get_mut(index).insert_broadcast(&shared, 0);
        pool.hold(&shared.frames);
        pool.keep(index);
    }
    let items = 3 * size_of::<Item>();
    assert_eq!(pool.kept_bytes(), 1000 + items);
    assert_eq!(pool.excess(900), 100 + items);
    drop(shared);
    assert_eq!(pool.kept_bytes(), 1000 + items);
    queues.into_iter().for_each(|index| pool.give_back(index));
    assert_eq!(pool.kept_bytes(), 0);
    assert_eq!(pool.excess(0), 0);
}

#[test]
fn longest_backlogs_are_closed_first_and_no_more_than_needed() {
    let mut pool = Pool::default();
    for (slot, bytes) in [(3, 10), (4, 50), (5, 40), (6, 100), (7, 1)] {
        let index = pool.take(slot, None);
        pool.get_mut(index).reply(|out| out.extend(frame(&vec![b'x'; bytes])));
        if slot != 7 {
            pool.keep(index);
        }
    }
    assert_eq!(pool.longest(1, |_| true), [6], "it frees enough");
    assert_eq!(pool.longest(1, |slot| slot != 6), [4], "a connection that closes already is not chosen");
    assert_eq!(pool.longest(120 + size_of::<Item>(), |_| true), [6, 4]);
    assert_eq!(pool.longest(1 << 20, |_| true), [6, 4], "backlogs below the average stay");
    // Shared bytes are freed only with the last reference.
    let shared = broadcast(frame(&[b'x'; 120]), 1);
    let index = pool.take(8, None);
    pool.get_mut(index).insert_broadcast(&shared, 0);
    pool.keep(index);
    assert_eq!(pool.longest(100, |_| true), [8, 6]);
}
