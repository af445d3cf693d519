//! What is dropped from a backlog while the peer does not read: whole frames, and only those of owners with a policy
//! for it.
//!
//! An owner with the policy "close" has no `OwnerBacklog`: its frames wait like replies, and past the bound of the
//! connection the connection closes. Policies apply while the socket accepts nothing; a frame that is partly written
//! stays.

use super::frames::{frame_end_after, frame_length, frames_in};
use super::owner::{Dropped, InFlight, Owner, OwnerBacklog};
use super::queue::{Chunk, Item, Queue};
use crate::slow_policy::SlowConsumerPolicy;

/// A drop makes room for a while, an eighth of the bound, so that a queue is not searched for every frame.
fn with_room(bytes_max: usize) -> usize {
    bytes_max - bytes_max / 8
}

impl Item {
    fn waiting(&self) -> &[u8] {
        &self.chunk.as_slice()[self.from..self.to]
    }

    /// Where its newest publication begins, if that still waits whole.
    fn newest(&self) -> Option<usize> {
        self.latest.filter(|&at| at >= self.from)
    }
}

impl Queue {
    /// Applies the policies of all owners that got frames: the peer does not read. If more than `bytes_max` wait in all, the
    /// oldest frames of owners that may drop go too, but not the newest of any owner.
    pub fn apply_policies(&mut self, bytes_max: usize, mut on_drop: impl FnMut(Dropped)) {
        let mut at = 0;
        while let Some(&mut OwnerBacklog { owner, ref mut changed, .. }) = self.owners.get_mut(at) {
            let messages = match (std::mem::take(changed), owner.policy) {
                (true, SlowConsumerPolicy::DropOldest { bytes_max }) => self.drop_oldest(owner.id, bytes_max as usize),
                (true, SlowConsumerPolicy::KeepLatest) => self.keep_latest(owner.id),
                _ => 0,
            };
            if messages > 0 {
                on_drop(Dropped { owner, messages });
            }
            // An owner of which nothing waits any more is gone: another one has its place.
            at += usize::from(self.owners.get(at).is_some_and(|backlog| backlog.owner == owner));
        }
        if self.bytes > bytes_max {
            self.drop_oldest_of_all(bytes_max, on_drop);
        }
    }

    /// True where a policy may have something to drop.
    pub fn has_owners(&self) -> bool {
        !self.owners.is_empty()
    }

    fn drop_oldest(&mut self, id: u64, bytes_max: usize) -> u64 {
        let waiting = |queue: &Self| queue.owner(id).map_or(0, |backlog| backlog.bytes);
        if waiting(self) > bytes_max {
            self.split_partial_frame(Some(id));
        }
        if waiting(self) <= bytes_max {
            return 0;
        }
        let mut messages = 0;
        for at in 0..self.items.len() {
            let excess = waiting(self).saturating_sub(with_room(bytes_max));
            if excess == 0 {
                break;
            }
            if self.items[at].owner == Some(id) {
                messages += self.shorten(at, excess);
            }
        }
        self.remove_empty();
        messages
    }

    fn drop_oldest_of_all(&mut self, bytes_max: usize, mut on_drop: impl FnMut(Dropped)) {
        let droppable = |queue: &Self, at: usize| {
            let owner = queue.items[at].owner.and_then(|id| queue.owner(id)).map(|backlog| backlog.owner);
            owner.filter(|owner| matches!(owner.policy, SlowConsumerPolicy::DropOldest { .. }))
        };
        if let Some(owner) = droppable(self, 0) {
            self.split_partial_frame(Some(owner.id));
        }
        for at in 0..self.items.len() {
            let excess = self.bytes.saturating_sub(with_room(bytes_max));
            if excess == 0 {
                break;
            }
            if let Some(owner) = droppable(self, at) {
                let messages = self.shorten(at, excess);
                if messages > 0 {
                    on_drop(Dropped { owner, messages });
                }
            }
        }
        self.remove_empty();
    }

    /// Drops frames from the beginning of an item until `excess` bytes are gone, but not the newest of its owner. Returns how
    /// many. An item that is left empty waits for `remove_empty`.
    fn shorten(&mut self, index: usize, excess: usize) -> u64 {
        let item = &mut self.items[index];
        let Some(backlog) = self.owners.iter_mut().find(|backlog| Some(backlog.owner.id) == item.owner) else {
            return 0;
        };
        let bytes = item.chunk.as_slice();
        let (mut at, mut messages) = (item.from, 0);
        while at < item.to && at - item.from < excess {
            let next = at + frame_length(self.framing, &bytes[at..]);
            if backlog.items == 1 && next == item.to {
                break;
            }
            (at, messages) = (next, messages + 1);
        }
        let gone = at - item.from;
        item.from = at;
        self.bytes -= gone;
        backlog.bytes -= gone;
        if item.from == item.to {
            backlog.items -= 1;
            self.own -= item.chunk.own_bytes();
        }
        messages
    }

    /// Takes out the items that were left empty, in one pass.
    fn remove_empty(&mut self) {
        let (mut place, mut gone_before) = (0, 0);
        let broadcast_at = self.broadcast_at.unwrap_or(0);
        self.items.retain(|item| {
            let is_empty = item.from == item.to;
            gone_before += usize::from(is_empty && place < broadcast_at);
            place += 1;
            !is_empty
        });
        self.broadcast_at = self.broadcast_at.map(|at| at - gone_before);
    }

    /// Drops all of an owner but its newest publication. What came of it since the last time is at the end of the queue.
    fn keep_latest(&mut self, id: u64) -> u64 {
        self.split_partial_frame(Some(id));
        let (mut messages, mut kept) = (0, false);
        self.each_from_the_end(id, |queue, index| {
            let item = &mut queue.items[index];
            messages += frames_in(queue.framing, item.waiting());
            let before = item.to - item.from;
            if let Some(newest) = item.newest().filter(|_| !kept) {
                (kept, messages) = (true, messages - 1);
                item.from = newest;
                item.to = newest + frame_length(queue.framing, &item.chunk.as_slice()[newest..]);
                let gone = before - (item.to - item.from);
                queue.bytes -= gone;
                queue.take_from_owner(id, gone, 0);
            } else {
                queue.bytes -= before;
                queue.take_out(index);
            }
        });
        messages
    }

    /// Visits the items of an owner, the last first, and stops at its first. `visit` may take the item out.
    fn each_from_the_end(&mut self, id: u64, mut visit: impl FnMut(&mut Self, usize)) {
        let mut items = self.owner(id).map_or(0, |backlog| backlog.items);
        for index in (0..self.items.len()).rev() {
            if items == 0 {
                break;
            }
            if self.items[index].owner == Some(id) {
                items -= 1;
                visit(self, index);
            }
        }
    }

    /// Drops all that waits of an owner: it follows a gap, or cannot be read without what was dropped. Returns the messages.
    pub fn purge(&mut self, id: u64) -> u64 {
        self.split_partial_frame(Some(id));
        let mut messages = 0;
        self.each_from_the_end(id, |queue, index| {
            let item = &queue.items[index];
            messages += frames_in(queue.framing, item.waiting());
            queue.bytes -= item.to - item.from;
            queue.take_out(index);
        });
        messages
    }

    /// The subscription has ended: what waits of it still reaches the peer, and no policy may drop it.
    pub fn disown(&mut self, id: u64) {
        let owners = self.owners.len();
        self.owners.retain(|backlog| backlog.owner.id != id);
        if self.owners.len() < owners {
            self.items.iter_mut().filter(|item| item.owner == Some(id)).for_each(|item| item.owner = None);
        }
    }

    /// Decides what happens to a broadcast of this owner that is under way. The first decision holds.
    pub fn decide(&mut self, id: u64, in_flight: InFlight) {
        if self.in_flight_of(id).is_none() {
            self.in_flight.push((id, in_flight));
        }
    }

    pub(crate) fn in_flight_of(&self, id: u64) -> Option<InFlight> {
        self.in_flight.iter().find(|(other, _)| *other == id).map(|(_, in_flight)| *in_flight)
    }

    /// Drops all that waits, but not the rest of a frame that the peer has in part. Returns the messages dropped.
    pub fn drop_unsent(&mut self) -> u64 {
        if let Some(first) = self.items.front() {
            self.split_partial_frame(first.owner);
        }
        let kept = usize::from(matches!(self.items.front(), Some(Item { chunk: Chunk::Rest(_), .. })));
        let mut messages = 0;
        while self.items.len() > kept {
            let last = self.items.len() - 1;
            messages += frames_in(self.framing, self.items[last].waiting());
            self.bytes -= self.items[last].to - self.items[last].from;
            self.take_out(last);
        }
        self.unmark_broadcast();
        messages
    }

    /// If the peer has a part of an owner's first frame, its rest becomes an item of its own, so that all others of the owner
    /// are whole.
    fn split_partial_frame(&mut self, owner: Option<u64>) {
        let head = std::mem::take(&mut self.head);
        let first = self.items.front_mut().filter(|item| item.owner == owner && !matches!(item.chunk, Chunk::Rest(_)));
        let Some(first) = first.filter(|_| head > 0) else {
            self.head = head;
            return;
        };
        let (bytes, cut) = (first.chunk.as_slice(), first.from + head);
        let end = first.from + frame_end_after(self.framing, &bytes[first.from..first.to], head);
        let rest = bytes[cut..end].to_vec();
        let gone = end - first.from;
        first.from = end;
        let is_empty = first.from == first.to;
        if let Some(owner) = owner {
            self.take_from_owner(owner, gone, 0);
        }
        if is_empty {
            self.take_out(0);
        }
        if !rest.is_empty() {
            self.own += rest.len();
            let to = rest.len();
            self.items.push_front(Item { chunk: Chunk::Rest(rest), from: 0, to, owner: None, latest: None });
            self.broadcast_at = self.broadcast_at.map(|at| at + 1);
        }
    }

    /// So much more waits of an owner.
    pub(crate) fn add_to_owner(&mut self, owner: Owner, bytes: usize, items: usize) {
        if owner.policy == SlowConsumerPolicy::Close {
            return;
        }
        match self.owners.iter_mut().find(|backlog| backlog.owner.id == owner.id) {
            Some(backlog) => {
                backlog.bytes += bytes;
                backlog.items += items;
                backlog.changed = true;
            }
            None => self.owners.push(OwnerBacklog { owner, bytes, items, changed: true }),
        }
    }

    /// So much less waits of an owner.
    pub(crate) fn take_from_owner(&mut self, id: u64, bytes: usize, items: usize) {
        let Some(at) = self.owners.iter().position(|backlog| backlog.owner.id == id) else { return };
        let backlog = &mut self.owners[at];
        backlog.bytes -= bytes;
        backlog.items -= items;
        if backlog.items == 0 {
            self.owners.swap_remove(at);
        }
    }

    #[cfg(test)]
    pub(crate) fn owned_items(&self) -> usize {
        self.owners.iter().map(|backlog| backlog.items).sum()
    }

    fn owner(&self, id: u64) -> Option<&OwnerBacklog> {
        self.owners.iter().find(|backlog| backlog.owner.id == id)
    }
}
