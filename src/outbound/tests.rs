//! The queue's own tests.

use super::*;

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

/// Frames of one owner, of which the last is a publication.
fn cast_by(frames: Vec<u8>, id: u64, policy: SlowPolicy) -> Cast {
    let (mut at, mut latest) = (0, None);
    while at < frames.len() {
        latest = Some(at);
        at += frame_length(&frames[at..]);
    }
    let messages = frames_in(&frames) as u32;
    Cast { members: Rc::default(), frames: Rc::new(frames), owner: Owner { id, policy }, latest, messages }
}

fn cast(frames: Vec<u8>, id: u64) -> Cast {
    cast_by(frames, id, SlowPolicy::Close)
}

fn left(queue: &Queue) -> Vec<u8> {
    queue.slices().collect::<Vec<_>>().concat()
}

#[test]
fn replies_share_a_chunk_and_leave_in_order_whatever_the_writes_take() {
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
fn what_is_queued_while_a_cast_is_under_way_follows_it() {
    let mut queue = Queue::default();
    queue.reply(|out| out.extend(frame(b"before")));
    queue.mark_cast();
    queue.reply(|out| out.extend(frame(b"after")));
    queue.insert_cast(&cast(frame(b"cast"), 7), 0);
    queue.unmark_cast();
    let expected = [frame(b"before"), frame(b"cast"), frame(b"after")].concat();
    assert_eq!(left(&queue), expected);
    assert_eq!(queue.bytes(), expected.len());
}

#[test]
fn a_cast_cut_short_keeps_only_what_was_not_written() {
    let mut queue = Queue::default();
    queue.insert_cast(&cast([frame(b"first"), frame(b"second")].concat(), 1), 9);
    assert_eq!(left(&queue), frame(b"second")[2..]);
    assert_eq!(queue.bytes(), 6);
}

#[test]
fn a_drop_spares_the_frame_that_is_half_on_the_wire() {
    let mut queue = Queue::default();
    let turn = [frame(b"aaaa"), frame(b"bbbb"), frame(b"cccc")].concat();
    queue.insert_cast(&cast(turn, 1), 0);
    queue.advance(8);
    queue.reply(|out| out.extend(frame(b"dddd")));
    assert_eq!(queue.drop_unsent(), 2);
    assert_eq!(left(&queue), frame(b"bbbb")[2..]);
    queue.advance(4);
    assert!(queue.is_empty());
}

#[test]
fn a_drop_at_a_boundary_leaves_nothing() {
    let mut queue = Queue::default();
    queue.insert_cast(&cast([frame(b"a"), frame(b"b")].concat(), 1), 0);
    queue.advance(3);
    assert_eq!(queue.drop_unsent(), 1);
    assert!(queue.is_empty());
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_queue_comes_back_empty_from_the_pool() {
    let mut pool = Pool::default();
    let index = pool.take();
    pool.get_mut(index).reply(|out| out.extend(frame(b"left over")));
    pool.get_mut(index).mark_cast();
    pool.give_back(index);
    let index = pool.take();
    assert!(pool.get(index).is_empty());
    assert_eq!((pool.get(index).bytes(), pool.get(index).cast_at), (0, None));
}
