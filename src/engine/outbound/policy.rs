//! What is dropped of what waits, where the peer does not read: whole frames, and of nobody but who has a policy for it.
//!
//! An owner whose policy is to close has no ward here: its frames wait like replies, and past the connection's bound the
//! connection ends. Policies are carried out while the socket takes nothing; a frame of which it has taken a part stays.

use super::{Chunk, Item, NO_OWNER, Owner, Queue, frame_end_after, frame_length, frames_in};
use crate::slow_policy::SlowConsumerPolicy;

/// An owner whose frames a policy may drop, as far as they wait for this peer.
pub(crate) struct Ward {
    owner: Owner,
    bytes: usize,
    items: usize,
    /// Something came since its policy was carried out.
    changed: bool,
}

/// Messages that a policy dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    pub owner: Owner,
    pub messages: u64,
}

/// What becomes of a cast under way to a peer whose subscription has ended meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was the peer's before: it still gets it, and no policy of a later subscription takes it for its own.
    Left,
    /// It comes behind a gap: it goes.
    Refused,
}

/// Whoever drops makes room for a while, so that a queue is not gone through for every frame: an eighth of the bound.
fn less_a_slack(bytes_max: usize) -> usize {
    bytes_max - bytes_max / 8
}

impl Item {
    fn waiting(&self) -> &[u8] {
        &self.chunk.as_slice()[self.from..self.to]
    }

    /// Where its newest publication begins, where that still waits whole.
    fn newest(&self) -> Option<usize> {
        self.latest.filter(|&at| at >= self.from)
    }
}

impl Queue {
    /// Carries out the policies of all who got something: the peer does not read. Where more than `bytes_max` wait in all,
    /// the oldest frames of those that may drop go too, but nobody's newest.
    pub fn thin(&mut self, bytes_max: usize, mut lost: impl FnMut(Lost)) {
        let mut at = 0;
        while let Some(&mut Ward { owner, ref mut changed, .. }) = self.wards.get_mut(at) {
            let messages = match (std::mem::take(changed), owner.policy) {
                (true, SlowConsumerPolicy::DropOldest { bytes_max }) => self.drop_oldest(owner.id, bytes_max as usize),
                (true, SlowConsumerPolicy::KeepLatest) => self.keep_latest(owner.id),
                _ => 0,
            };
            if messages > 0 {
                lost(Lost { owner, messages });
            }
            // Who has nothing left has no ward any more: another stands in its place.
            at += usize::from(self.wards.get(at).is_some_and(|ward| ward.owner == owner));
        }
        if self.bytes > bytes_max {
            self.drop_oldest_of_all(bytes_max, lost);
        }
    }

    /// True where a policy may have something to drop.
    pub fn has_wards(&self) -> bool {
        !self.wards.is_empty()
    }

    fn drop_oldest(&mut self, id: u64, bytes_max: usize) -> u64 {
        let waiting = |queue: &Self| queue.ward(id).map_or(0, |ward| ward.bytes);
        if waiting(self) > bytes_max {
            self.detach(id);
        }
        if waiting(self) <= bytes_max {
            return 0;
        }
        let mut messages = 0;
        for at in 0..self.items.len() {
            let excess = waiting(self).saturating_sub(less_a_slack(bytes_max));
            if excess == 0 {
                break;
            }
            if self.items[at].owner == id {
                messages += self.shorten(at, excess);
            }
        }
        self.sweep();
        messages
    }

    fn drop_oldest_of_all(&mut self, bytes_max: usize, mut lost: impl FnMut(Lost)) {
        let droppable = |queue: &Self, at: usize| {
            let owner = queue.ward(queue.items[at].owner).map(|ward| ward.owner);
            owner.filter(|owner| matches!(owner.policy, SlowConsumerPolicy::DropOldest { .. }))
        };
        if let Some(owner) = droppable(self, 0) {
            self.detach(owner.id);
        }
        for at in 0..self.items.len() {
            let excess = self.bytes.saturating_sub(less_a_slack(bytes_max));
            if excess == 0 {
                break;
            }
            if let Some(owner) = droppable(self, at) {
                let messages = self.shorten(at, excess);
                if messages > 0 {
                    lost(Lost { owner, messages });
                }
            }
        }
        self.sweep();
    }

    /// Drops frames from an item's beginning until `excess` bytes are gone, all but its owner's newest. Returns how many. An
    /// item that is left empty waits for `sweep`.
    fn shorten(&mut self, index: usize, excess: usize) -> u64 {
        let item = &mut self.items[index];
        let Some(ward) = self.wards.iter_mut().find(|ward| ward.owner.id == item.owner) else { return 0 };
        let bytes = item.chunk.as_slice();
        let (mut at, mut messages) = (item.from, 0);
        while at < item.to && at - item.from < excess {
            let next = at + frame_length(&bytes[at..]);
            if ward.items == 1 && next == item.to {
                break;
            }
            (at, messages) = (next, messages + 1);
        }
        let gone = at - item.from;
        item.from = at;
        self.bytes -= gone;
        ward.bytes -= gone;
        if item.from == item.to {
            ward.items -= 1;
            self.own -= item.chunk.own_bytes();
        }
        messages
    }

    /// Takes out what was left empty, all in one pass.
    fn sweep(&mut self) {
        let (mut place, mut gone_before) = (0, 0);
        let cast_at = self.cast_at.unwrap_or(0);
        self.items.retain(|item| {
            let is_empty = item.from == item.to;
            gone_before += usize::from(is_empty && place < cast_at);
            place += 1;
            !is_empty
        });
        self.cast_at = self.cast_at.map(|at| at - gone_before);
    }

    /// Drops all of an owner but its newest publication. What of it came since this was last done stands at the end.
    fn keep_latest(&mut self, id: u64) -> u64 {
        self.detach(id);
        let (mut messages, mut kept) = (0, false);
        self.each_from_the_end(id, |queue, index| {
            let item = &mut queue.items[index];
            messages += frames_in(item.waiting());
            let before = item.to - item.from;
            if let Some(newest) = item.newest().filter(|_| !kept) {
                (kept, messages) = (true, messages - 1);
                item.from = newest;
                item.to = newest + frame_length(&item.chunk.as_slice()[newest..]);
                let gone = before - (item.to - item.from);
                queue.bytes -= gone;
                queue.strike(id, gone, 0);
            } else {
                queue.bytes -= before;
                queue.take_out(index);
            }
        });
        messages
    }

    /// Visits the items of an owner, the last first; what stands before its first is not looked at. `visit` may take the
    /// item out.
    fn each_from_the_end(&mut self, id: u64, mut visit: impl FnMut(&mut Self, usize)) {
        let mut items = self.ward(id).map_or(0, |ward| ward.items);
        for index in (0..self.items.len()).rev() {
            if items == 0 {
                break;
            }
            if self.items[index].owner == id {
                items -= 1;
                visit(self, index);
            }
        }
    }

    /// Drops all that waits of an owner: it follows a gap, or cannot be read without what went before. Returns the messages.
    pub fn purge(&mut self, id: u64) -> u64 {
        self.detach(id);
        let mut messages = 0;
        self.each_from_the_end(id, |queue, index| {
            let item = &queue.items[index];
            messages += frames_in(item.waiting());
            queue.bytes -= item.to - item.from;
            queue.take_out(index);
        });
        messages
    }

    /// The subscription has ended: what waits of it is the peer's, and no policy's any more.
    pub fn disown(&mut self, id: u64) {
        let wards = self.wards.len();
        self.wards.retain(|ward| ward.owner.id != id);
        if self.wards.len() < wards {
            self.items.iter_mut().filter(|item| item.owner == id).for_each(|item| item.owner = NO_OWNER);
        }
    }

    /// What becomes of a cast of this owner that is under way. The first word holds.
    pub fn decide(&mut self, id: u64, fate: Fate) {
        if self.fate_of(id).is_none() {
            self.fates.push((id, fate));
        }
    }

    pub(crate) fn fate_of(&self, id: u64) -> Option<Fate> {
        self.fates.iter().find(|(other, _)| *other == id).map(|(_, fate)| *fate)
    }

    /// Drops all that waits, but not the rest of a frame of which the peer has the beginning. Returns the messages dropped.
    pub fn drop_unsent(&mut self) -> u64 {
        if let Some(first) = self.items.front() {
            self.detach(first.owner);
        }
        let kept = usize::from(matches!(self.items.front(), Some(Item { chunk: Chunk::Rest(_), .. })));
        let mut messages = 0;
        while self.items.len() > kept {
            let last = self.items.len() - 1;
            messages += frames_in(self.items[last].waiting());
            self.bytes -= self.items[last].to - self.items[last].from;
            self.take_out(last);
        }
        self.unmark_cast();
        messages
    }

    /// Where the peer has a part of an owner's first frame: what is left of it stands alone from here on, so that all
    /// others of the owner are whole.
    fn detach(&mut self, id: u64) {
        let head = std::mem::take(&mut self.head);
        let first = self.items.front_mut().filter(|item| item.owner == id && !matches!(item.chunk, Chunk::Rest(_)));
        let Some(first) = first.filter(|_| head > 0) else {
            self.head = head;
            return;
        };
        let (bytes, cut) = (first.chunk.as_slice(), first.from + head);
        let end = first.from + frame_end_after(&bytes[first.from..first.to], head);
        let rest = bytes[cut..end].to_vec();
        let gone = end - first.from;
        first.from = end;
        let is_empty = first.from == first.to;
        self.strike(id, gone, 0);
        if is_empty {
            self.take_out(0);
        }
        if !rest.is_empty() {
            self.own += rest.len();
            let to = rest.len();
            self.items.push_front(Item { chunk: Chunk::Rest(rest), from: 0, to, owner: NO_OWNER, latest: None });
            self.cast_at = self.cast_at.map(|at| at + 1);
        }
    }

    /// So much more waits of an owner.
    pub(crate) fn enlist(&mut self, owner: Owner, bytes: usize, items: usize) {
        if owner.policy == SlowConsumerPolicy::Close {
            return;
        }
        match self.wards.iter_mut().find(|ward| ward.owner.id == owner.id) {
            Some(ward) => {
                ward.bytes += bytes;
                ward.items += items;
                ward.changed = true;
            }
            None => self.wards.push(Ward { owner, bytes, items, changed: true }),
        }
    }

    /// So much less does.
    pub(crate) fn strike(&mut self, id: u64, bytes: usize, items: usize) {
        let Some(at) = self.wards.iter().position(|ward| ward.owner.id == id) else { return };
        let ward = &mut self.wards[at];
        ward.bytes -= bytes;
        ward.items -= items;
        if ward.items == 0 {
            self.wards.swap_remove(at);
        }
    }

    #[cfg(test)]
    pub(crate) fn wards_items(&self) -> usize {
        self.wards.iter().map(|ward| ward.items).sum()
    }

    fn ward(&self, id: u64) -> Option<&Ward> {
        self.wards.iter().find(|ward| ward.owner.id == id)
    }
}
