//! The queues of a shard, and the memory that they keep alive: their own bytes, and turn buffers. A turn buffer counts
//! once, for any number of waiting peers, and with its whole size, even if they need little of it.

use std::rc::{Rc, Weak};

use slab::Slab;

use super::queue::{Item, Queue};
use crate::http::StreamFraming;
use crate::ids::Key;

/// Pooled queues above this are given back to the allocator.
const KEPT_QUEUES_MAX: usize = 256;
/// Turn buffers from which on those that no queue holds any more are searched for.
const HELD_SEARCH_MIN: usize = 64;

/// The kind of a `QueueKey`.
pub enum QueueKind {}

/// A queue of the pool.
pub type QueueKey = Key<QueueKind>;

/// The queues of a shard. A connection that something waits for has the key of one.
#[derive(Default)]
pub struct Pool {
    queues: Slab<Queue>,
    idle: Vec<Queue>,
    /// Bytes of the queues' own, as far as they are counted.
    own: usize,
    /// Bytes of messages that are not produced yet.
    pub(crate) reserved: usize,
    /// Turn buffers that a peer waits for or waited for, with their sizes; and the sum of these sizes.
    held: Vec<(Weak<Vec<u8>>, usize)>,
    held_bytes: usize,
    /// Turn buffers that were held after the last search. The next search is at twice as many.
    held_at_search: usize,
}

impl Pool {
    /// A queue for the connection of this slot. `framing`: that of a stream, none of a WebSocket.
    pub fn take(&mut self, slot: u32, framing: Option<StreamFraming>) -> QueueKey {
        let queue = self.idle.pop().unwrap_or_default();
        QueueKey::new(self.queues.insert(Queue { slot, framing, ..queue }))
    }

    /// Takes a queue back, with what waits in it.
    pub fn give_back(&mut self, key: QueueKey) {
        let mut queue = self.queues.remove(key.index());
        queue.clear();
        self.own -= std::mem::take(&mut queue.counted);
        if self.idle.len() < KEPT_QUEUES_MAX {
            self.idle.push(queue);
        }
        if self.queues.is_empty() && self.queues.capacity() > KEPT_QUEUES_MAX {
            self.queues.shrink_to_fit();
        }
    }

    pub fn get(&self, key: QueueKey) -> &Queue {
        &self.queues[key.index()]
    }

    pub fn get_mut(&mut self, key: QueueKey) -> &mut Queue {
        &mut self.queues[key.index()]
    }

    /// The number of queues: one for each connection that something waits for.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Bytes that wait for all peers of the shard. Shared ones count for each.
    pub fn bytes(&self) -> u64 {
        self.queues.iter().map(|(_, queue)| queue.bytes as u64).sum()
    }

    /// Counts the memory that the queue of a blocked peer keeps alive.
    pub fn keep(&mut self, key: QueueKey) {
        let queue = &mut self.queues[key.index()];
        let own = queue.own + queue.items.len() * size_of::<Item>();
        self.own = self.own + own - queue.counted;
        queue.counted = own;
    }

    /// Counts a turn buffer that a peer waits for, once.
    pub fn hold(&mut self, frames: &Rc<Vec<u8>>) {
        if Rc::weak_count(frames) == 0 {
            self.held.push((Rc::downgrade(frames), frames.capacity()));
            self.held_bytes += frames.capacity();
        }
    }

    /// As `hold`, for all turn buffers in one queue.
    pub fn hold_all_of(&mut self, key: QueueKey) {
        let Self { queues, held, held_bytes, .. } = self;
        for frames in queues[key.index()].shared_buffers().filter(|frames| Rc::weak_count(frames) == 0) {
            held.push((Rc::downgrade(frames), frames.capacity()));
            *held_bytes += frames.capacity();
        }
    }

    /// Bytes that queues keep alive. Shared ones count once.
    pub fn kept_bytes(&self) -> usize {
        self.own + self.held.iter().filter(|(frames, _)| frames.strong_count() > 0).map(|(_, size)| size).sum::<usize>()
    }

    /// Nothing is counted that a slow peer keeps alive.
    pub fn keeps_nothing(&self) -> bool {
        self.own == 0 && self.held.is_empty()
    }

    /// How much more than `bytes_max` all queues together keep and reserve. Searches the buffers only if that may be more, or
    /// if there are twice as many as after the last search.
    pub fn excess(&mut self, bytes_max: usize) -> usize {
        let may_be = self.own + self.reserved + self.held_bytes > bytes_max;
        if may_be || self.held.len() > 2 * self.held_at_search.max(HELD_SEARCH_MIN) {
            self.held.retain(|(frames, _)| frames.strong_count() > 0);
            self.held_bytes = self.held.iter().map(|(_, size)| size).sum();
            self.held_at_search = self.held.len();
        }
        (self.own + self.reserved + self.held_bytes).saturating_sub(bytes_max)
    }

    /// The slots with the longest backlogs, of the peers that do not read and that `may_close` accepts: as many as free `excess`
    /// bytes of memory that is theirs alone. If that is not enough, because they share it, all that are longer than the
    /// average. At least one, so that the shard gets below its bound in the end, and the longest first.
    pub fn longest(&self, excess: usize, may_close: impl Fn(u32) -> bool) -> Vec<u32> {
        let slow =
            self.queues.iter().map(|(_, queue)| queue).filter(|queue| queue.counted > 0 && may_close(queue.slot));
        let mut slow: Vec<&Queue> = slow.collect();
        slow.sort_unstable_by_key(|queue| std::cmp::Reverse(queue.bytes));
        let average = slow.iter().map(|queue| queue.bytes).sum::<usize>() / slow.len().max(1);
        let mut freed = 0;
        let enough = |queue: &&&Queue| {
            let wanted = freed < excess && queue.bytes >= average;
            freed += queue.counted;
            wanted
        };
        slow.iter().take_while(enough).map(|queue| queue.slot).collect()
    }
}
