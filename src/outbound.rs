//! What waits for a peer: a queue of chunks, in order, bounded in bytes.
//!
//! A connection owns a queue only while something waits for it (a reply until the flush pass, a backlog while the peer is
//! slow). Queues come from a pool and go back to it, so that a busy shard allocates nothing here. A cast never copies: its
//! chunks are references to the channel's turn buffer, shared by all who could not take all of it.
//!
//! Invariants: `bytes` is the sum of what is left of all chunks; `head` is below the first chunk's length; no chunk is
//! empty; every chunk holds whole WebSocket frames, so a frame is cut only by `head`.

use std::collections::VecDeque;
use std::rc::Rc;

use slab::Slab;

/// Bytes that are ready for the wire: whole frames, one after the other.
enum Chunk {
    /// Written for this peer alone.
    Own(Vec<u8>),
    /// A channel's turn buffer, shared by the peers of this shard.
    Turn(Rc<Vec<u8>>),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Turn(bytes) => bytes,
        }
    }
}

/// Frames for many peers of this shard: the same bytes to each member, by reference.
pub struct Cast {
    /// Slots of the receivers, each once. Frozen while the cast is under way.
    pub members: Rc<Vec<u32>>,
    pub frames: Rc<Vec<u8>>,
    /// Whose frames these are: the app's own name for the source, kept with what is queued.
    pub owner: u32,
    /// Messages in the frames, for the counters.
    pub messages: u32,
}

struct Item {
    chunk: Chunk,
    owner: u32,
}

/// The owner of replies: nobody's subscription.
pub const NO_OWNER: u32 = u32::MAX;
/// The index that stands for "no queue".
pub const NO_QUEUE: u32 = u32::MAX;
/// A pooled reply buffer above this is given back to the allocator when its queue empties.
const KEPT_BYTES_MAX: usize = 1024;
/// Pooled queues above this are given back to the allocator.
const KEPT_QUEUES_MAX: usize = 256;

/// What waits for one peer.
#[derive(Default)]
pub struct Queue {
    items: VecDeque<Item>,
    /// Bytes of the first item that are written already.
    head: usize,
    bytes: usize,
    /// While a cast to this peer is under way: the items before it. What is queued later follows the cast.
    cast_at: Option<usize>,
    /// A spare buffer for replies, kept from the queue's last use.
    spare: Vec<u8>,
}

impl Queue {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends frames that `write` makes, to the last reply if there is one, so that replies share a chunk.
    pub fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let joins = self.cast_at != Some(self.items.len())
            && matches!(self.items.back(), Some(Item { chunk: Chunk::Own(_), owner: NO_OWNER }));
        if !joins {
            let chunk = Chunk::Own(std::mem::take(&mut self.spare));
            self.items.push_back(Item { chunk, owner: NO_OWNER });
        }
        if let Some(Item { chunk: Chunk::Own(bytes), .. }) = self.items.back_mut() {
            let before = bytes.len();
            write(bytes);
            self.bytes += bytes.len() - before;
            if bytes.is_empty() {
                self.items.pop_back();
            }
        }
    }

    /// Puts frames before all that waits. Only where nothing of it was written yet.
    pub fn prepend(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert_eq!(self.head, 0, "the peer has no beginning of a frame");
        let mut bytes = std::mem::take(&mut self.spare);
        write(&mut bytes);
        self.bytes += bytes.len();
        self.items.push_front(Item { chunk: Chunk::Own(bytes), owner: NO_OWNER });
        self.cast_at = self.cast_at.map(|at| at + 1);
    }

    /// Says that a cast is under way to this peer: it belongs behind what waits now, before what is queued from here on.
    pub fn mark_cast(&mut self) {
        self.cast_at.get_or_insert(self.items.len());
    }

    /// Puts a cast where it belongs: at the mark, or at the end. `written` bytes of it have left already (which is possible
    /// only where nothing waits before it).
    pub fn insert_cast(&mut self, frames: &Rc<Vec<u8>>, owner: u32, written: usize) {
        let at = self.cast_at.unwrap_or(self.items.len());
        debug_assert!(written == 0 || at == 0 && self.head == 0 && written < frames.len());
        self.items.insert(at, Item { chunk: Chunk::Turn(Rc::clone(frames)), owner });
        self.bytes += frames.len() - written;
        if written > 0 {
            self.head = written;
        }
        self.cast_at = self.cast_at.map(|at| at + 1);
    }

    /// The cast has passed: what is queued from here on goes to the end.
    pub fn unmark_cast(&mut self) {
        self.cast_at = None;
    }

    /// What waits, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let from = |i| if i == 0 { self.head } else { 0 };
        self.items.iter().enumerate().map(move |(i, item)| &item.chunk.as_slice()[from(i)..])
    }

    /// `written` bytes of what waits have left.
    pub fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.bytes);
        self.bytes -= written;
        while let Some(first) = self.items.front() {
            let left = first.chunk.as_slice().len() - self.head;
            if written < left {
                self.head += written;
                return;
            }
            written -= left;
            self.head = 0;
            self.pop_first();
        }
        debug_assert_eq!(written, 0);
    }

    fn pop_first(&mut self) {
        if let Some(Item { chunk: Chunk::Own(mut bytes), .. }) = self.items.pop_front()
            && bytes.capacity() <= KEPT_BYTES_MAX
        {
            bytes.clear();
            self.spare = bytes;
        }
        self.cast_at = self.cast_at.map(|at| at.saturating_sub(1));
    }

    /// Drops all that waits, but not the rest of a frame of which the peer has the beginning.
    /// Returns the messages dropped.
    pub fn drop_unsent(&mut self) -> u64 {
        let mut dropped = 0;
        let rest = self.items.front().and_then(|first| {
            let bytes = first.chunk.as_slice();
            let end = frame_end_after(bytes, self.head);
            (self.head > 0 && end > self.head).then(|| bytes[self.head..end].to_vec())
        });
        for (i, item) in self.items.iter().enumerate() {
            let bytes = item.chunk.as_slice();
            let mut at = if i == 0 { frame_end_after(bytes, self.head) } else { 0 };
            while at < bytes.len() {
                at = frame_end_after(bytes, at + 1);
                dropped += 1;
            }
        }
        self.clear();
        if let Some(rest) = rest {
            self.bytes = rest.len();
            self.items.push_back(Item { chunk: Chunk::Own(rest), owner: NO_OWNER });
        }
        dropped
    }

    /// The owners of what waits: whose frames would be lost by a drop.
    pub fn owners(&self) -> impl Iterator<Item = u32> + '_ {
        self.items.iter().map(|item| item.owner).filter(|&owner| owner != NO_OWNER)
    }

    fn clear(&mut self) {
        while !self.items.is_empty() {
            self.pop_first();
        }
        self.head = 0;
        self.bytes = 0;
        self.cast_at = None;
    }
}

/// The first frame boundary at or behind `at`, in bytes that begin at a boundary. Server frames carry no masking key.
fn frame_end_after(bytes: &[u8], at: usize) -> usize {
    let mut end = 0;
    while end < at {
        let length = |n: usize| bytes[end + 2..end + 2 + n].iter().fold(0usize, |sum, &b| sum << 8 | usize::from(b));
        end += match bytes[end + 1] & 0x7f {
            126 => 4 + length(2),
            127 => 10 + length(8),
            short => 2 + usize::from(short),
        };
    }
    end
}

/// The queues of a shard. A connection holds an index, or `NO_QUEUE`.
#[derive(Default)]
pub struct Pool {
    queues: Slab<Queue>,
    idle: Vec<Queue>,
}

impl Pool {
    pub fn take(&mut self) -> u32 {
        let queue = self.idle.pop().unwrap_or_default();
        self.queues.insert(queue) as u32
    }

    pub fn give_back(&mut self, index: u32) {
        let mut queue = self.queues.remove(index as usize);
        queue.clear();
        if self.idle.len() < KEPT_QUEUES_MAX {
            self.idle.push(queue);
        }
        if self.queues.is_empty() && self.queues.capacity() > KEPT_QUEUES_MAX {
            self.queues.shrink_to_fit();
        }
    }

    pub fn get(&self, index: u32) -> &Queue {
        &self.queues[index as usize]
    }

    pub fn get_mut(&mut self, index: u32) -> &mut Queue {
        &mut self.queues[index as usize]
    }

    /// Bytes that wait for all peers of the shard, shared ones counted for each.
    pub fn bytes(&self) -> u64 {
        self.queues.iter().map(|(_, queue)| queue.bytes as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x82, payload.len() as u8];
        frame.extend_from_slice(payload);
        frame
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
        queue.insert_cast(&Rc::new(frame(b"cast")), 7, 0);
        queue.unmark_cast();
        let expected = [frame(b"before"), frame(b"cast"), frame(b"after")].concat();
        assert_eq!(left(&queue), expected);
        assert_eq!(queue.bytes(), expected.len());
        assert_eq!(queue.owners().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_cast_cut_short_keeps_only_what_was_not_written() {
        let mut queue = Queue::default();
        queue.insert_cast(&Rc::new([frame(b"first"), frame(b"second")].concat()), 1, 9);
        assert_eq!(left(&queue), frame(b"second")[2..]);
        assert_eq!(queue.bytes(), 6);
    }

    #[test]
    fn a_drop_spares_the_frame_that_is_half_on_the_wire() {
        let mut queue = Queue::default();
        let turn = [frame(b"aaaa"), frame(b"bbbb"), frame(b"cccc")].concat();
        queue.insert_cast(&Rc::new(turn), 1, 0);
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
        queue.insert_cast(&Rc::new([frame(b"a"), frame(b"b")].concat()), 1, 0);
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
}
