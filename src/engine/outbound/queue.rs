//! The queue of one connection: the bytes that wait for its peer, in order, and how they are written.
//!
//! Invariants: `bytes` is the sum of the remaining bytes of all items; `head` is below the first item's length; no item
//! is empty; every item contains whole frames, of a WebSocket or a stream, so only `head` can split a frame (and `Rest` is
//! the remainder of such a split); `owners` has the backlog of each owner with a policy.

use std::collections::VecDeque;
use std::rc::Rc;

use super::frames::frame_end_after;
use super::owner::{InFlight, Owner, OwnerBacklog};
use crate::http::StreamFraming;
use crate::slow_policy::SlowConsumerPolicy;

/// Bytes that are ready for the wire: whole frames, one after the other.
pub(super) enum Chunk {
    /// Written for this peer alone.
    Own(Vec<u8>),
    /// A channel's turn buffer, shared by the peers of this shard.
    Shared(Rc<Vec<u8>>),
    /// The rest of a frame that the peer has in part: always first, and never dropped.
    Rest(Vec<u8>),
}

impl Chunk {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) | Self::Rest(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// Bytes that only this item keeps alive.
    pub(super) fn own_bytes(&self) -> usize {
        match self {
            Self::Own(bytes) | Self::Rest(bytes) => bytes.len(),
            Self::Shared(_) => 0,
        }
    }
}

/// Frames for many peers of this shard: the same bytes to each member, by reference.
pub struct Broadcast {
    /// Slots of the receivers, each once. It does not change while the broadcast is under way.
    pub members: Rc<Vec<u32>>,
    pub frames: Rc<Vec<u8>>,
    pub owner: Owner,
    /// Where the newest publication begins in the frames, if one is among them.
    pub latest: Option<usize>,
    /// Messages in the frames, for the counters.
    pub messages: u32,
}

pub(super) struct Item {
    pub chunk: Chunk,
    /// Where in the chunk the waiting frames begin and end.
    pub from: usize,
    pub to: usize,
    /// None for what no policy may drop.
    pub owner: Option<u64>,
    /// Where the newest publication begins in the chunk. Without meaning if it is before `from`.
    pub latest: Option<usize>,
}

/// A pooled reply buffer above this is given back to the allocator when its queue empties.
const KEPT_BYTES_MAX: usize = 1024;

/// Frames join a chunk up to this: moving a longer one to a larger buffer would take twice its memory.
const JOINED_BYTES_MAX: usize = 64 * 1024;

/// What waits for one peer.
#[derive(Default)]
pub struct Queue {
    pub(super) items: VecDeque<Item>,
    /// Bytes of the first item that are written already.
    pub(super) head: usize,
    pub(super) bytes: usize,
    /// Bytes of the chunks that are not shared.
    pub(super) own: usize,
    /// While a broadcast to this peer is under way: the items before it. What is queued later follows the broadcast.
    pub(super) broadcast_at: Option<usize>,
    /// Owners whose items a policy may drop.
    pub(super) owners: Vec<OwnerBacklog>,
    /// What happens to broadcasts under way whose subscription has ended, by owner.
    pub(super) in_flight: Vec<(u64, InFlight)>,
    /// The memory of this queue that the pool has counted.
    pub(super) counted: usize,
    /// The connection that it belongs to.
    pub(super) slot: u32,
    /// How the messages of a stream are marked off. `None`: they are frames of a WebSocket.
    pub(super) framing: Option<StreamFraming>,
    /// A spare buffer for replies, kept from the queue's last use.
    pub(super) spare: Vec<u8>,
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
        self.append(None, write);
    }

    /// Appends a copy of an owner's frames. `latest`: where the newest publication begins in them.
    pub fn put(&mut self, owner: Owner, frames: &[u8], latest: Option<usize>) {
        let items = self.items.len();
        let id = owner.droppable_id();
        self.append(id, |out| out.extend_from_slice(frames));
        let new = self.items.len() - items;
        if let Some(item) = self.items.back_mut().filter(|_| !frames.is_empty()) {
            item.latest = latest.map(|at| item.to - frames.len() + at).or(item.latest);
            self.add_to_owner(owner, frames.len(), new);
        }
    }

    fn append(&mut self, owner: Option<u64>, write: impl FnOnce(&mut Vec<u8>)) {
        let joins = self.broadcast_at != Some(self.items.len())
            && self.items.back().is_some_and(|item| {
                let has_room = |bytes: &Vec<u8>| bytes.len() == item.to && bytes.len() < JOINED_BYTES_MAX;
                item.owner == owner && matches!(&item.chunk, Chunk::Own(bytes) if has_room(bytes))
            });
        if !joins {
            let chunk = Chunk::Own(std::mem::take(&mut self.spare));
            self.items.push_back(Item { chunk, from: 0, to: 0, owner, latest: None });
        }
        if let Some(Item { chunk: Chunk::Own(bytes), to, .. }) = self.items.back_mut() {
            write(bytes);
            let added = bytes.len() - *to;
            *to = bytes.len();
            self.bytes += added;
            self.own += added;
            if bytes.is_empty() {
                self.items.pop_back();
            }
        }
    }

    /// Appends a buffer whose whole frames begin at `from`.
    pub fn push_buffer(&mut self, buffer: Vec<u8>, from: usize) {
        let to = buffer.len();
        if from < to {
            self.bytes += to - from;
            self.own += to;
            self.items.push_back(Item { chunk: Chunk::Own(buffer), from, to, owner: None, latest: None });
        }
    }

    /// Whether so many bytes are left of a reply in a buffer of its own.
    pub fn has_large_reply_of(&self, least: usize) -> bool {
        self.items.iter().enumerate().any(|(at, item)| {
            let left = item.to - item.from - if at == 0 { self.head } else { 0 };
            item.owner.is_none() && item.chunk.own_bytes() > JOINED_BYTES_MAX && left >= least
        })
    }

    /// Bytes that are left of a frame that the peer has in part.
    pub fn partial_frame_bytes(&self) -> usize {
        match self.items.front() {
            Some(first) if self.head > 0 => match &first.chunk {
                Chunk::Rest(bytes) => bytes.len() - self.head,
                chunk => frame_end_after(self.framing, &chunk.as_slice()[first.from..first.to], self.head) - self.head,
            },
            Some(Item { chunk: Chunk::Rest(bytes), .. }) => bytes.len(),
            _ => 0,
        }
    }

    /// Puts frames before all that waits, of which nothing may be written yet.
    pub fn prepend(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert_eq!(self.head, 0, "the peer has no part of a frame");
        let mut bytes = std::mem::take(&mut self.spare);
        write(&mut bytes);
        self.bytes += bytes.len();
        self.own += bytes.len();
        let to = bytes.len();
        self.items.push_front(Item { chunk: Chunk::Own(bytes), from: 0, to, owner: None, latest: None });
        self.broadcast_at = self.broadcast_at.map(|at| at + 1);
    }

    /// A broadcast is under way to this peer: it belongs after the current items and before later ones.
    pub fn mark_broadcast(&mut self) {
        self.broadcast_at.get_or_insert(self.items.len());
    }

    /// Puts a broadcast where it belongs: at the mark, or at the end. `written` bytes of it have left already (which is
    /// possible only if nothing waits before it). Returns the messages that were refused.
    pub fn insert_broadcast(&mut self, broadcast: &Broadcast, written: usize) -> u64 {
        let at = self.broadcast_at.unwrap_or(self.items.len());
        debug_assert!(written == 0 || at == 0 && self.head == 0 && written < broadcast.frames.len());
        let owner = match self.in_flight_of(broadcast.owner.id) {
            Some(InFlight::Refused) => return u64::from(broadcast.messages),
            Some(InFlight::Disowned) => Owner { policy: SlowConsumerPolicy::Close, ..broadcast.owner },
            None => broadcast.owner,
        };
        let id = owner.droppable_id();
        let (chunk, to) = (Chunk::Shared(Rc::clone(&broadcast.frames)), broadcast.frames.len());
        self.items.insert(at, Item { chunk, from: 0, to, owner: id, latest: broadcast.latest });
        self.bytes += to - written;
        if written > 0 {
            self.head = written;
        }
        self.add_to_owner(owner, to, 1);
        self.broadcast_at = self.broadcast_at.map(|at| at + 1);
        0
    }

    /// The broadcast has passed: later items go to the end.
    pub fn unmark_broadcast(&mut self) {
        self.broadcast_at = None;
        self.in_flight.clear();
    }

    /// What waits, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let from = |i, item: &Item| item.from + if i == 0 { self.head } else { 0 };
        self.items.iter().enumerate().map(move |(i, item)| &item.chunk.as_slice()[from(i, item)..item.to])
    }

    /// The turn buffers that this queue keeps alive.
    pub fn shared_buffers(&self) -> impl Iterator<Item = &Rc<Vec<u8>>> {
        self.items.iter().filter_map(|item| if let Chunk::Shared(frames) = &item.chunk { Some(frames) } else { None })
    }

    /// `written` bytes of the queue have left.
    pub fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.bytes);
        self.bytes -= written;
        while let Some(first) = self.items.front() {
            let left = first.to - first.from - self.head;
            if written < left {
                self.head += written;
                return;
            }
            written -= left;
            self.head = 0;
            self.take_out(0);
        }
        debug_assert_eq!(written, 0);
    }

    /// Takes an item out. The caller adjusts `bytes`.
    pub(super) fn take_out(&mut self, index: usize) {
        let Some(Item { chunk, from, to, owner, .. }) = self.items.remove(index) else { return };
        self.broadcast_at = self.broadcast_at.map(|at| at - usize::from(index < at));
        self.own -= chunk.own_bytes();
        if let Some(owner) = owner {
            self.take_from_owner(owner, to - from, 1);
        }
        if let Chunk::Own(mut bytes) = chunk
            && bytes.capacity() <= KEPT_BYTES_MAX
        {
            bytes.clear();
            self.spare = bytes;
        }
    }

    pub(super) fn clear(&mut self) {
        while !self.items.is_empty() {
            self.take_out(0);
        }
        self.head = 0;
        self.bytes = 0;
        self.unmark_broadcast();
    }
}
