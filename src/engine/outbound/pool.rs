//! The queues of a shard, and what they keep alive: bytes of their own, and turn buffers, each counted once however many
//! wait for it, and whole however little of it they need.

use std::rc::{Rc, Weak};

use slab::Slab;

use super::{Item, Queue};

/// Pooled queues above this are given back to the allocator.
const KEPT_QUEUES_MAX: usize = 256;
/// Turn buffers that are looked through for those that nobody holds any more, at least.
const HELD_WORTH_A_LOOK: usize = 64;

/// The queues of a shard. A connection holds an index, or `NO_QUEUE`.
#[derive(Default)]
pub struct Pool {
    queues: Slab<Queue>,
    idle: Vec<Queue>,
    /// Bytes of the queues' own, as they were told.
    own: usize,
    /// Turn buffers that a peer waits for or waited for, with their size; and the sum of these sizes.
    held: Vec<(Weak<Vec<u8>>, usize)>,
    held_bytes: usize,
    /// So many are looked through when there are twice as many.
    looked: usize,
}

impl Pool {
    /// A queue for the connection of this slot.
    pub fn take(&mut self, slot: u32) -> u32 {
        let queue = self.idle.pop().unwrap_or_default();
        self.queues.insert(Queue { slot, ..queue }) as u32
    }

    pub fn give_back(&mut self, index: u32) {
        let mut queue = self.queues.remove(index as usize);
        queue.clear();
        self.own -= std::mem::take(&mut queue.told);
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

    /// Queues that there are: one for each connection that something waits for.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Bytes that wait for all peers of the shard, shared ones counted for each.
    pub fn bytes(&self) -> u64 {
        self.queues.iter().map(|(_, queue)| queue.bytes as u64).sum()
    }

    /// Counts what a blocked peer's queue keeps alive.
    pub fn keep(&mut self, index: u32) {
        let queue = &mut self.queues[index as usize];
        let own = queue.own + queue.items.len() * size_of::<Item>();
        self.own = self.own + own - queue.told;
        queue.told = own;
    }

    /// A turn buffer is kept alive by a peer that waits for it. Cheap where that is known.
    pub fn hold(&mut self, frames: &Rc<Vec<u8>>) {
        if Rc::weak_count(frames) == 0 {
            self.held.push((Rc::downgrade(frames), frames.capacity()));
            self.held_bytes += frames.capacity();
        }
    }

    /// As `hold`, for all that one queue waits for.
    pub fn hold_all_of(&mut self, index: u32) {
        let Self { queues, held, held_bytes, .. } = self;
        for frames in queues[index as usize].turns().filter(|frames| Rc::weak_count(frames) == 0) {
            held.push((Rc::downgrade(frames), frames.capacity()));
            *held_bytes += frames.capacity();
        }
    }

    /// Bytes that queues keep alive, shared ones counted once.
    pub fn kept_bytes(&self) -> usize {
        self.own + self.held.iter().filter(|(frames, _)| frames.strong_count() > 0).map(|(_, size)| size).sum::<usize>()
    }

    /// Nothing was counted that a slow peer keeps alive.
    pub fn keeps_nothing(&self) -> bool {
        self.own == 0 && self.held.is_empty()
    }

    /// Once a turn: how much more than `bytes_max` all queues together keep. Looks through the buffers only where that may
    /// be, or where there are twice as many as at the last look.
    pub fn excess(&mut self, bytes_max: usize) -> usize {
        let may_be = self.own + self.held_bytes > bytes_max;
        if may_be || self.held.len() > 2 * self.looked.max(HELD_WORTH_A_LOOK) {
            self.held.retain(|(frames, _)| frames.strong_count() > 0);
            self.held_bytes = self.held.iter().map(|(_, size)| size).sum();
            self.looked = self.held.len();
        }
        (self.own + self.held_bytes).saturating_sub(bytes_max)
    }

    /// The slots with most waiting, of the peers that do not read and that `may_go` names: as many as free so much of what
    /// is theirs alone. Where that is not enough, since they share it, all with more than the average. At least one, so that
    /// it ends, and in the order of what waits.
    pub fn longest(&self, excess: usize, may_go: impl Fn(u32) -> bool) -> Vec<u32> {
        let slow = self.queues.iter().map(|(_, queue)| queue).filter(|queue| queue.told > 0 && may_go(queue.slot));
        let mut slow: Vec<&Queue> = slow.collect();
        slow.sort_unstable_by_key(|queue| std::cmp::Reverse(queue.bytes));
        let average = slow.iter().map(|queue| queue.bytes).sum::<usize>() / slow.len().max(1);
        let mut freed = 0;
        let enough = |queue: &&&Queue| {
            let wanted = freed < excess && queue.bytes >= average;
            freed += queue.told;
            wanted
        };
        slow.iter().take_while(enough).map(|queue| queue.slot).collect()
    }
}
