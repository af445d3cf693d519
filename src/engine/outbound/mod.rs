//! What waits for a peer: a queue of items, in order, bounded in bytes.
//!
//! A connection owns a queue only while something waits for it (a reply until the flush pass, a backlog while the peer is
//! slow). Queues come from a pool and go back to it, so that a busy shard allocates nothing here. A cast never copies: its
//! items are references to the channel's turn buffer, shared by all who could not take all of it.
//!
//! Invariants: `bytes` is the sum of what is left of all items; `head` is below the first item's length; no item is empty;
//! every item holds whole WebSocket frames, so a frame is cut only by `head` (and `Rest` is what such a cut left);
//! `wards` says of every owner with a policy how much waits of it.
//!
//! - here: what is queued, and how it leaves.
//! - `policy`: what is dropped where the peer does not read.
//! - `pool`: the queues of a shard, and the memory that they keep alive.

#[cfg(test)]
mod model_tests;
pub(crate) mod policy;
pub(crate) mod pool;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

use crate::slow_policy::SlowConsumerPolicy;
use policy::Ward;
pub use policy::{Fate, Lost};
pub use pool::Pool;

/// Gathered writes up to this many bytes go through one scratch buffer and one send, larger ones by writev.
pub(crate) const GATHER_COPY_BYTES_MAX: usize = 4 * 1024;

/// Bytes that are ready for the wire: whole frames, one after the other.
enum Chunk {
    /// Written for this peer alone.
    Own(Vec<u8>),
    /// A channel's turn buffer, shared by the peers of this shard.
    Turn(Rc<Vec<u8>>),
    /// The rest of a frame of which the peer has the beginning: always first, and never dropped.
    Rest(Vec<u8>),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) | Self::Rest(bytes) => bytes,
            Self::Turn(bytes) => bytes,
        }
    }

    /// Bytes that nobody else keeps alive.
    fn own_bytes(&self) -> usize {
        match self {
            Self::Own(bytes) | Self::Rest(bytes) => bytes.len(),
            Self::Turn(_) => 0,
        }
    }
}

/// Whose frames these are, by the app's own name for the source, which is never used again for another; and what becomes of
/// them where the peer does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    pub id: u64,
    pub policy: SlowConsumerPolicy,
}

/// Frames for many peers of this shard: the same bytes to each member, by reference.
pub struct Broadcast {
    /// Slots of the receivers, each once. Frozen while the cast is under way.
    pub members: Rc<Vec<u32>>,
    pub frames: Rc<Vec<u8>>,
    pub owner: Owner,
    /// Where the newest publication begins in the frames, if one is among them.
    pub latest: Option<usize>,
    /// Messages in the frames, for the counters.
    pub messages: u32,
}

struct Item {
    chunk: Chunk,
    /// Where in the chunk the waiting frames begin and end.
    from: usize,
    to: usize,
    /// `NO_OWNER` for what no policy may drop.
    owner: u64,
    /// Where the newest publication begins in the chunk. Of no meaning before `from`.
    latest: Option<usize>,
}

/// The owner of replies, and of whatever no policy may drop.
const NO_OWNER: u64 = u64::MAX;
/// The index that stands for "no queue".
pub const NO_QUEUE: u32 = u32::MAX;
/// A pooled reply buffer above this is given back to the allocator when its queue empties.
const KEPT_BYTES_MAX: usize = 1024;

/// What waits for one peer.
#[derive(Default)]
pub struct Queue {
    items: VecDeque<Item>,
    /// Bytes of the first item that are written already.
    head: usize,
    bytes: usize,
    /// Bytes of the chunks that are not shared.
    own: usize,
    /// While a cast to this peer is under way: the items before it. What is queued later follows the cast.
    cast_at: Option<usize>,
    /// Owners whose items a policy may drop.
    wards: Vec<Ward>,
    /// What becomes of casts under way whose subscription has ended.
    fates: Vec<(u64, Fate)>,
    /// What the pool was told last of the memory this queue keeps.
    told: usize,
    /// Whose it is.
    slot: u32,
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
        self.append(NO_OWNER, write);
    }

    /// Appends a copy of an owner's frames. `latest`: where the newest publication begins in them.
    pub fn put(&mut self, owner: Owner, frames: &[u8], latest: Option<usize>) {
        let items = self.items.len();
        let id = if owner.policy == SlowConsumerPolicy::Close { NO_OWNER } else { owner.id };
        self.append(id, |out| out.extend_from_slice(frames));
        let new = self.items.len() - items;
        if let Some(item) = self.items.back_mut().filter(|_| !frames.is_empty()) {
            item.latest = latest.map(|at| item.to - frames.len() + at).or(item.latest);
            self.enlist(owner, frames.len(), new);
        }
    }

    fn append(&mut self, owner: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let joins = self.cast_at != Some(self.items.len())
            && self.items.back().is_some_and(|item| {
                item.owner == owner && matches!(&item.chunk, Chunk::Own(bytes) if bytes.len() == item.to)
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

    /// Puts frames before all that waits. Only where nothing of it was written yet.
    pub fn prepend(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert_eq!(self.head, 0, "the peer has no beginning of a frame");
        let mut bytes = std::mem::take(&mut self.spare);
        write(&mut bytes);
        self.bytes += bytes.len();
        self.own += bytes.len();
        let to = bytes.len();
        self.items.push_front(Item { chunk: Chunk::Own(bytes), from: 0, to, owner: NO_OWNER, latest: None });
        self.cast_at = self.cast_at.map(|at| at + 1);
    }

    /// Says that a cast is under way to this peer: it belongs behind what waits now, before what is queued from here on.
    pub fn mark_cast(&mut self) {
        self.cast_at.get_or_insert(self.items.len());
    }

    /// Puts a cast where it belongs: at the mark, or at the end. `written` bytes of it have left already (which is possible
    /// only where nothing waits before it). Returns the messages that were refused.
    pub fn insert_broadcast(&mut self, cast: &Broadcast, written: usize) -> u64 {
        let at = self.cast_at.unwrap_or(self.items.len());
        debug_assert!(written == 0 || at == 0 && self.head == 0 && written < cast.frames.len());
        let owner = match self.fate_of(cast.owner.id) {
            Some(Fate::Refused) => return u64::from(cast.messages),
            Some(Fate::Left) => Owner { policy: SlowConsumerPolicy::Close, ..cast.owner },
            None => cast.owner,
        };
        let id = if owner.policy == SlowConsumerPolicy::Close { NO_OWNER } else { owner.id };
        let (chunk, to) = (Chunk::Turn(Rc::clone(&cast.frames)), cast.frames.len());
        self.items.insert(at, Item { chunk, from: 0, to, owner: id, latest: cast.latest });
        self.bytes += to - written;
        if written > 0 {
            self.head = written;
        }
        self.enlist(owner, to, 1);
        self.cast_at = self.cast_at.map(|at| at + 1);
        0
    }

    /// The cast has passed: what is queued from here on goes to the end.
    pub fn unmark_cast(&mut self) {
        self.cast_at = None;
        self.fates.clear();
    }

    /// What waits, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let from = |i, item: &Item| item.from + if i == 0 { self.head } else { 0 };
        self.items.iter().enumerate().map(move |(i, item)| &item.chunk.as_slice()[from(i, item)..item.to])
    }

    /// The turn buffers that what waits keeps alive.
    pub fn turns(&self) -> impl Iterator<Item = &Rc<Vec<u8>>> {
        self.items.iter().filter_map(|item| if let Chunk::Turn(frames) = &item.chunk { Some(frames) } else { None })
    }

    /// `written` bytes of what waits have left.
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

    /// Takes an item out. `bytes` is the caller's affair.
    fn take_out(&mut self, index: usize) {
        let Some(Item { chunk, from, to, owner, .. }) = self.items.remove(index) else { return };
        self.cast_at = self.cast_at.map(|at| at - usize::from(index < at));
        self.own -= chunk.own_bytes();
        if owner != NO_OWNER {
            self.strike(owner, to - from, 1);
        }
        if let Chunk::Own(mut bytes) = chunk
            && bytes.capacity() <= KEPT_BYTES_MAX
        {
            bytes.clear();
            self.spare = bytes;
        }
    }

    fn clear(&mut self) {
        while !self.items.is_empty() {
            self.take_out(0);
        }
        self.head = 0;
        self.bytes = 0;
        self.unmark_cast();
    }
}

/// Bytes of the frame that the bytes begin with. Server frames carry no masking key.
fn frame_length(bytes: &[u8]) -> usize {
    let length = |n: usize| bytes[2..2 + n].iter().fold(0usize, |sum, &b| sum << 8 | usize::from(b));
    match bytes[1] & 0x7f {
        126 => 4 + length(2),
        127 => 10 + length(8),
        short => 2 + usize::from(short),
    }
}

/// The first frame boundary at or behind `at`, in bytes that begin at a boundary.
fn frame_end_after(bytes: &[u8], at: usize) -> usize {
    let mut end = 0;
    while end < at {
        end += frame_length(&bytes[end..]);
    }
    end
}

/// How many frames there are. The bytes are whole frames.
pub fn frames_in(bytes: &[u8]) -> u64 {
    let (mut at, mut frames) = (0, 0);
    while at < bytes.len() {
        at += frame_length(&bytes[at..]);
        frames += 1;
    }
    frames
}
