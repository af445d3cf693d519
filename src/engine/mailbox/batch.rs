//! A batch: many small messages for one shard, and one arena for their parts of variable size.
//!
//! A message costs no allocation: it is a value in `ops`, and refers to the arena by `Span`. The memory of a
//! batch circulates: maker → receiver → back to the maker with a later batch, so that the allocator never
//! sees a block freed by another thread than the one that asked for it.
//!
//! Invariants: a span is used only with the batch that it was put into; `returns` holds empty storages that the receiver of
//! this batch once made, and their own `returns` are empty.

use std::collections::VecDeque;

use crate::ids::ShardId;

/// Arena bytes past which an open batch is closed and a new one begun.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Messages past which an open batch is closed and a new one begun.
pub const BATCH_OPS_MAX: usize = 65_536;
/// Bytes of empty storages kept for reuse, at most, by their maker; what is more is freed by it.
pub(crate) const FREE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Empty storages kept until a batch goes to their maker; what is more is freed where it is.
pub(crate) const RETURNS_MAX: usize = 8;
/// Bytes of the same.
pub(crate) const RETURNS_BYTES_MAX: usize = 2 * 1024 * 1024;

const _: () = assert!(BATCH_BYTES_MAX < u32::MAX as usize);

/// A range of the arena of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub fn len(self) -> usize {
        self.len as usize
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// The memory of a batch.
pub(crate) struct Storage<M> {
    pub ops: VecDeque<M>,
    pub arena: Vec<u8>,
    pub returns: Vec<Storage<M>>,
}

impl<M> Default for Storage<M> {
    fn default() -> Self {
        Self { ops: VecDeque::new(), arena: Vec::new(), returns: Vec::new() }
    }
}

impl<M> Storage<M> {
    /// True if it owns no memory yet.
    pub(crate) fn is_bare(&self) -> bool {
        self.ops.capacity() == 0 && self.arena.capacity() == 0
    }

    /// Bytes that wait in it.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.arena.len() + self.ops.len() * size_of::<M>()
    }

    /// Bytes that it owns.
    pub(crate) fn owned_bytes(&self) -> usize {
        self.arena.capacity() + self.ops.capacity() * size_of::<M>()
    }

    pub(crate) fn put_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.arena.len();
        write(&mut self.arena);
        let len = self.arena.len().checked_sub(start).expect("a writer only appends");
        let end = u32::try_from(self.arena.len()).expect("an arena stays below 4 GiB");
        Span { start: end - len as u32, len: len as u32 }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.arena.len() >= BATCH_BYTES_MAX || self.ops.len() >= BATCH_OPS_MAX
    }

    fn clear(&mut self) {
        self.ops.clear();
        self.arena.clear();
    }
}

/// Empty storages, bounded by number and bytes.
pub(crate) fn keep<M>(kept: &mut Vec<Storage<M>>, mut storage: Storage<M>, count_max: usize, bytes_max: usize) {
    storage.clear();
    let owned: usize = kept.iter().map(Storage::owned_bytes).sum();
    if kept.len() < count_max && owned + storage.owned_bytes() <= bytes_max {
        kept.push(storage);
    }
}

/// A batch as its receiver sees it: an iterator over its messages, oldest first, that may be stopped and continued.
pub struct Batch<M> {
    pub(crate) from: ShardId,
    pub(crate) storage: Storage<M>,
}

impl<M> Batch<M> {
    /// The shard that made it.
    pub fn from(&self) -> ShardId {
        self.from
    }

    /// The bytes of a span. Panics if the span is of another batch and does not fit this one.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.storage.arena[span.start as usize..][..span.len as usize]
    }

    /// The message that was consumed last is the next one again.
    pub fn put_back(&mut self, message: M) {
        self.storage.ops.push_front(message);
    }

    /// Messages not consumed yet.
    pub fn remaining(&self) -> usize {
        self.storage.ops.len()
    }

    pub fn is_empty(&self) -> bool {
        self.storage.ops.is_empty()
    }

    /// Bytes that it brought in its arena, consumed or not: what a budget counts.
    pub fn arena_bytes(&self) -> usize {
        self.storage.arena.len()
    }
}

impl<M> Iterator for Batch<M> {
    type Item = M;

    #[inline]
    fn next(&mut self) -> Option<M> {
        self.storage.ops.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining(), Some(self.remaining()))
    }
}
