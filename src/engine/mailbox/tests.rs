//! Unit tests of the mailboxes: order, bounds, memory, wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::batch::{BATCH_BYTES_MAX, BATCH_OPS_MAX};
use super::*;

#[derive(Clone, Default)]
struct CountingWaker(Arc<AtomicU32>);

impl Wake for CountingWaker {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl CountingWaker {
    fn wakes(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct TestMessage {
    number: u32,
    text: Span,
}

type End = Endpoint<TestMessage, CountingWaker>;

fn ring<const N: usize>(mailbox_batches_max: usize) -> ([End; N], [CountingWaker; N]) {
    let wakers: [CountingWaker; N] = std::array::from_fn(|_| CountingWaker::default());
    let ends = mesh(wakers.to_vec(), Bounds { mailbox_batches_max });
    (ends.try_into().unwrap_or_else(|_| unreachable!("one endpoint per waker")), wakers)
}

fn post(end: &mut End, to: u16, number: u32) -> bool {
    let text = end.put(ShardId(to), format!("note {number}").as_bytes());
    end.post(ShardId(to), TestMessage { number, text })
}

fn read(batch: &mut Batch<TestMessage>) -> Option<u32> {
    let note = batch.next()?;
    assert_eq!(batch.bytes(note.text), format!("note {}", note.number).as_bytes());
    Some(note.number)
}

fn drain(end: &mut End) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some(mut batch) = end.receive() {
        numbers.extend(std::iter::from_fn(|| read(&mut batch)));
        end.recycle(batch);
    }
    numbers
}

#[test]
fn nothing_leaves_before_dispatch_and_a_turn_is_one_batch() {
    let ([mut a, mut b], _) = ring(8);
    (0..5).for_each(|number| {
        post(&mut a, 1, number);
    });
    assert!(b.receive().is_none());
    assert_eq!(a.dispatch(), Dispatch { pushes: 1, overflows: 0, wakes: 0 });
    let mut batch = b.receive().expect("one batch");
    assert_eq!((batch.from(), batch.remaining()), (ShardId(0), 5));
    assert_eq!(std::iter::from_fn(|| read(&mut batch)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(b.receive().is_none());
    assert_eq!(a.dispatch(), Dispatch::default());
}

#[test]
fn order_holds_through_overflow() {
    let ([mut a, mut b], _) = ring(2);
    let mut seen = Vec::new();
    let mut overflows = 0;
    for number in 0..200 {
        post(&mut a, 1, number);
        overflows += a.dispatch().overflows;
        if number % 5 == 4
            && let Some(mut batch) = b.receive()
        {
            seen.extend(std::iter::from_fn(|| read(&mut batch)));
            b.recycle(batch);
        }
    }
    assert!(overflows > 1 && a.has_overflow());
    while a.has_overflow() {
        seen.extend(drain(&mut b));
        a.dispatch();
    }
    seen.extend(drain(&mut b));
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    assert_eq!(a.waiting_bytes(ShardId(1)), 0);
}

#[test]
fn batch_is_stopped_and_continued_while_others_arrive() {
    let ([mut a, mut b, mut c], _) = ring(8);
    (0..3).for_each(|number| {
        post(&mut a, 2, number);
    });
    a.dispatch();
    let mut batch = c.receive().expect("from a");
    assert_eq!(read(&mut batch), Some(0));
    post(&mut b, 2, 9);
    b.dispatch();
    assert!(!batch.is_empty());
    assert_eq!((read(&mut batch), read(&mut batch), read(&mut batch)), (Some(1), Some(2), None));
    c.recycle(batch);
    assert_eq!(drain(&mut c), [9]);
}

#[test]
fn memory_goes_back_to_its_maker_with_the_next_batch() {
    let ([mut a, mut b], _) = ring(8);
    post(&mut a, 1, 1);
    a.dispatch();
    assert_eq!(drain(&mut b), [1]);
    assert!(a.free.is_empty());
    post(&mut b, 0, 2);
    b.dispatch();
    assert_eq!(drain(&mut a), [2]);
    assert_eq!(a.free.len(), 1, "its own came back");
    let arena = a.free[0].arena.as_ptr();
    post(&mut a, 1, 3);
    assert_eq!(a.outboxes[1].open.arena.as_ptr(), arena, "and is used again");
    assert!(a.free.is_empty());
}

#[test]
fn memory_kept_for_others_is_bounded() {
    let ([mut a, mut b], _) = ring(64);
    for number in 0..40 {
        post(&mut a, 1, number);
        a.dispatch();
    }
    assert_eq!(drain(&mut b).len(), 40);
    assert_eq!(b.outboxes[0].returns.len(), RETURNS_MAX);
    post(&mut b, 0, 0);
    b.dispatch();
    drain(&mut a);
    assert_eq!(a.free.len(), RETURNS_MAX);
    assert!(b.outboxes[0].returns.len() <= 1);
}

#[test]
fn own_shard_is_a_destination_like_the_others() {
    let ([mut a, mut b], wakers) = ring(2);
    post(&mut a, 0, 1);
    assert!(!a.may_sleep());
    assert!(a.receive_own().is_none());
    assert_eq!(a.dispatch().pushes, 1);
    assert!(!a.may_sleep());
    for number in 2..5 {
        post(&mut a, 0, number);
        a.dispatch();
    }
    assert!(a.has_overflow(), "its queue has the same bound");
    post(&mut b, 0, 100);
    b.dispatch();
    let mut own = a.receive_own().expect("the own batch");
    assert_eq!((own.from(), read(&mut own)), (ShardId(0), Some(1)));
    a.recycle(own);
    assert_eq!(a.dispatch().pushes, 1);
    let mut numbers = drain(&mut a);
    assert!(numbers.iter().position(|&n| n == 100) < Some(2), "mail waits for one own batch at most: {numbers:?}");
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 100]);
    assert_eq!((a.has_overflow(), a.may_sleep()), (false, true));
    assert_eq!(wakers[0].wakes(), 0);
}

#[test]
fn waiting_bytes_are_what_did_not_reach_the_mailbox() {
    let ([mut a, mut b], _) = ring(1);
    let to = ShardId(1);
    let one = size_of::<TestMessage>() + 10;
    let note = |a: &mut End| {
        let text = a.put(to, &[7; 10]);
        a.post(to, TestMessage { number: 0, text });
    };
    note(&mut a);
    assert_eq!((a.waiting_bytes(to), a.waiting_bytes(ShardId(0))), (one, 0));
    a.dispatch();
    assert_eq!(a.waiting_bytes(to), 0);
    note(&mut a);
    a.dispatch();
    note(&mut a);
    a.dispatch();
    assert_eq!(a.waiting_bytes(to), 2 * one);
    assert!(b.receive().is_some());
    a.dispatch();
    assert_eq!((a.waiting_bytes(to), a.has_overflow()), (0, false));
}

#[test]
fn large_batch_is_closed_by_post_so_that_a_message_and_its_bytes_share_one() {
    let ([mut a, mut b], _) = ring(8);
    let to = ShardId(1);
    let large = vec![1; BATCH_BYTES_MAX + 1];
    let text = a.put(to, &large);
    assert_eq!(a.put(to, b"tail").len(), 4);
    assert!(!a.post(to, TestMessage { number: 1, text }));
    assert!(post(&mut a, 1, 2));
    let empty = Span::default();
    let closings = (0..2 * BATCH_OPS_MAX).filter(|_| !a.post(to, TestMessage { number: 3, text: empty })).count();
    assert_eq!(closings, 2);
    assert_eq!(a.dispatch().pushes, 4);
    let mut first = b.receive().expect("the large one");
    let note = first.next().expect("its message");
    assert!(first.bytes(note.text) == large && first.is_empty());
    let mut second = b.receive().expect("the next");
    assert_eq!((read(&mut second), second.remaining()), (Some(2), BATCH_OPS_MAX - 1));
}

#[test]
fn sleeping_shard_is_woken_once_and_an_awake_one_never() {
    let ([mut a, mut b, mut c], wakers) = ring(8);
    post(&mut a, 2, 1);
    assert_eq!((a.dispatch().wakes, wakers[2].wakes()), (0, 0), "awake");
    assert!(!c.may_sleep(), "there is mail");
    post(&mut a, 2, 2);
    assert_eq!(a.dispatch().wakes, 0, "and no sleep was announced");
    drain(&mut c);
    assert!(c.may_sleep());
    post(&mut a, 2, 3);
    post(&mut b, 2, 4);
    assert_eq!((a.dispatch().wakes, b.dispatch().wakes), (1, 0));
    assert_eq!(wakers[2].wakes(), 1);
    c.awake();
    assert_eq!(drain(&mut c), [3, 4]);
    assert!(c.may_sleep());
    c.awake();
    post(&mut a, 2, 5);
    assert_eq!((a.dispatch().wakes, wakers[2].wakes()), (0, 0), "woken by something else");
}

#[test]
fn starved_sender_sleeps_and_is_woken_by_room() {
    let ([mut a, mut b], wakers) = ring(1);
    (1..=3).for_each(|number| {
        post(&mut a, 1, number);
        a.dispatch();
    });
    assert!(a.may_sleep(), "overflow for a full mailbox is no work");
    let mut first = b.receive().expect("the first");
    assert_eq!((read(&mut first), wakers[0].wakes()), (Some(1), 1));
    assert_eq!(b.dispatch().wakes, 1, "reported with the next dispatch");
    a.awake();
    assert!(!a.may_sleep(), "there is room now");
    assert_eq!(a.dispatch(), Dispatch { pushes: 1, overflows: 0, wakes: 0 });
    assert!(a.may_sleep());
    assert_eq!(drain(&mut b), [2, 3]);
    assert_eq!(wakers[0].wakes(), 0, "no sender waits for room any more");
}

#[test]
fn mark_taken_while_its_sender_was_awake_is_set_again_before_sleep() {
    let ([mut a, mut b, mut c], wakers) = ring(1);
    post(&mut a, 2, 1);
    a.dispatch();
    post(&mut a, 2, 2);
    a.dispatch();
    assert!(c.receive().is_some(), "takes the mark of a, which is awake");
    post(&mut b, 2, 3);
    b.dispatch();
    assert!(a.may_sleep(), "the room went to b");
    assert!(c.receive().is_some());
    assert_eq!(wakers[0].wakes(), 1);
    a.awake();
    a.dispatch();
    assert_eq!(drain(&mut c), [2]);
}

#[test]
fn marks_reach_past_one_word_of_shards() {
    let wakers: Vec<CountingWaker> = (0..SHARDS_MAX).map(|_| CountingWaker::default()).collect();
    let mut ends: Vec<End> = mesh(wakers.clone(), Bounds { mailbox_batches_max: 1 });
    for from in [255, 64, 3] {
        post(&mut ends[from], 128, from as u32);
        ends[from].dispatch();
    }
    assert!(ends[64].may_sleep() && ends[3].may_sleep());
    assert_eq!(drain(&mut ends[128]), [255]);
    assert_eq!((wakers[64].wakes(), wakers[3].wakes(), wakers[255].wakes()), (1, 1, 0));
    ends[64].dispatch();
    ends[3].dispatch();
    assert_eq!(drain(&mut ends[128]), [64]);
    ends[3].dispatch();
    assert_eq!(drain(&mut ends[128]), [3]);
}

#[test]
fn receiver_is_behind_while_its_mailbox_holds_more_messages_than_allowed() {
    let ([mut a, mut b], _) = ring(1);
    assert!(!a.is_receiver_behind(0), "nothing was sent");
    (0..3).for_each(|number| _ = post(&mut a, 1, number));
    assert!(!a.is_receiver_behind(0), "nothing has left");
    a.dispatch();
    // The mailbox is full: what does not fit is not counted.
    (3..9).for_each(|number| _ = post(&mut a, 1, number));
    a.dispatch();
    assert!(a.is_receiver_behind(2) && a.is_receiver_behind(2));
    assert!(!a.is_receiver_behind(3) && !a.is_receiver_behind(2), "it is forgotten until more is sent");
    assert_eq!(drain(&mut b), [0, 1, 2]);
    a.dispatch();
    assert!(a.is_receiver_behind(5));
    assert_eq!(drain(&mut b), [3, 4, 5, 6, 7, 8]);
    assert!(!a.is_receiver_behind(0));
}

#[test]
fn own_messages_are_those_that_were_not_received() {
    let ([mut a], _) = ring(1);
    (0..3).for_each(|number| _ = post(&mut a, 0, number));
    assert_eq!(a.own_messages(), 0);
    a.dispatch();
    assert_eq!(a.own_messages(), 3);
    assert_eq!((drain(&mut a), a.own_messages()), (vec![0, 1, 2], 0));
}
