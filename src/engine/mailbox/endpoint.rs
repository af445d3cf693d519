//! The mailbox endpoint of one shard: messages for other shards, and messages from them.
//!
//! A message for a destination waits in one of three places: the open batch, batches that were closed because they grew
//! large, and the receiver's mailbox. Closed batches leave before the open one. If the mailbox is full, the open batch
//! stays open and takes more messages, so that overflow means fewer, larger batches.
//!
//! Invariants: `active` holds exactly the destinations with a message that did not leave; `waiting_bytes` of a
//! destination is the sum over its open and closed batches; the own queue never exceeds the mailbox's bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::batch::{Batch, FREE_BYTES_MAX, RETURNS_BYTES_MAX, RETURNS_MAX, Span, Storage, keep};
use super::wake::{Mailbox, Outgoing, Queue, Wake};
use crate::ids::ShardId;

/// Shards of one process: fits the id, and the bitmask of starved senders.
pub const SHARDS_MAX: usize = 256;

/// The settings of the mailboxes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Batches in a mailbox; past it senders keep theirs. At least 1.
    pub mailbox_batches_max: usize,
}

/// What `dispatch` did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Dispatch {
    /// Batches moved into mailboxes, the own one included.
    pub pushes: u32,
    /// Destinations whose mailbox was found full in this call and not in the last one.
    pub overflows: u32,
    /// Shards woken since the last call, with those that waited for room in this mailbox.
    pub wakes: u32,
}

/// Both ends of the channel of one mailbox: neither end is ever disconnected.
struct Ring<M> {
    tx: Sender<Batch<M>>,
    rx: Receiver<Batch<M>>,
    /// In all its batches, for `is_receiver_behind`. Nothing is ordered by it.
    messages: AtomicUsize,
}

impl<M> Queue<Batch<M>> for Ring<M> {
    #[inline]
    fn try_push(&self, batch: Batch<M>) -> Result<(), Batch<M>> {
        // Before the receiver can take them off.
        let messages = batch.remaining();
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.tx.try_send(batch).map_err(|full| {
            self.messages.fetch_sub(messages, Ordering::Relaxed);
            full.into_inner()
        })
    }
    #[inline]
    fn try_pop(&self) -> Option<Batch<M>> {
        let batch = self.rx.try_recv().ok()?;
        self.messages.fetch_sub(batch.remaining(), Ordering::Relaxed);
        Some(batch)
    }
    fn is_empty(&self) -> bool {
        self.rx.is_empty()
    }
    fn is_full(&self) -> bool {
        self.tx.is_full()
    }
}

type ShardMailbox<M, W> = Mailbox<Ring<M>, AtomicU64, W>;

/// A set of shards.
#[derive(Clone, Copy, Default)]
struct Shards([u64; SHARDS_MAX.div_ceil(64)]);

impl Shards {
    #[inline]
    fn insert(&mut self, shard: usize) {
        self.0[shard / 64] |= 1 << (shard % 64);
    }
    fn remove(&mut self, shard: usize) {
        self.0[shard / 64] &= !(1 << (shard % 64));
    }
    fn is_empty(&self) -> bool {
        self.0 == Self::default().0
    }
    fn iter(self) -> impl Iterator<Item = usize> + Clone {
        self.0.into_iter().enumerate().flat_map(|(index, word)| {
            std::iter::successors(Some(word), |bits| Some(bits & bits.wrapping_sub(1)))
                .take_while(|&bits| bits != 0)
                .map(move |bits| index * 64 + bits.trailing_zeros() as usize)
        })
    }
}

/// What waits for one shard.
struct Outbox<M> {
    me: ShardId,
    open: Storage<M>,
    closed: VecDeque<Storage<M>>,
    bytes: usize,
    /// The last dispatch left something here.
    overflow: bool,
    /// Empty storages that this destination made.
    returns: Vec<Storage<M>>,
}

impl<M> Outgoing<Batch<M>> for Outbox<M> {
    fn take(&mut self) -> Option<Batch<M>> {
        let mut storage = match self.closed.pop_front() {
            Some(storage) => storage,
            None if self.open.ops.is_empty() => return None,
            None => std::mem::take(&mut self.open),
        };
        self.bytes -= storage.waiting_bytes();
        if storage.returns.is_empty() {
            std::mem::swap(&mut storage.returns, &mut self.returns);
        }
        Some(Batch { from: self.me, storage })
    }

    fn put_back(&mut self, batch: Batch<M>) {
        self.bytes += batch.storage.waiting_bytes();
        // Closed ones are those that grew past the limits; the open one stays open and takes more.
        if self.closed.is_empty() && self.open.is_bare() && !batch.storage.is_closing() {
            self.open = batch.storage;
        } else {
            self.closed.push_front(batch.storage);
        }
    }
}

/// One shard's end of the mesh. Only its thread touches it.
pub struct Endpoint<M, W> {
    me: ShardId,
    mailboxes: Arc<[ShardMailbox<M, W>]>,
    outboxes: Vec<Outbox<M>>,
    /// Destinations with a message that did not leave.
    active: Shards,
    /// Other shards whose mailbox may hold much that this shard sent, and whether there are any.
    sent_to: Shards,
    has_sent: bool,
    own: VecDeque<Batch<M>>,
    own_batches_max: usize,
    /// Which source `receive` looks at first.
    own_first: bool,
    /// Empty storages that this shard made.
    free: Vec<Storage<M>>,
    /// Wakes by `receive` that no `dispatch` reported yet.
    wakes: u32,
}

/// One endpoint per waker; the index is the `ShardId`. Panics on more than `SHARDS_MAX` or a bound of zero.
pub fn mesh<M: Send, W: Wake>(wakers: Vec<W>, bounds: Bounds) -> Vec<Endpoint<M, W>> {
    let shards = wakers.len();
    assert!(shards <= SHARDS_MAX, "a mesh has at most {SHARDS_MAX} shards");
    assert!(bounds.mailbox_batches_max > 0, "a mailbox holds at least one batch");
    let mailbox = |waker| {
        let (tx, rx) = bounded(bounds.mailbox_batches_max);
        Mailbox::new(Ring { tx, rx, messages: AtomicUsize::new(0) }, waker, shards)
    };
    let mailboxes: Arc<[_]> = wakers.into_iter().map(mailbox).collect();
    let endpoint = |index| Endpoint::new(ShardId(index as u16), Arc::clone(&mailboxes), bounds);
    (0..shards).map(endpoint).collect()
}

impl<M: Send, W: Wake> Endpoint<M, W> {
    fn new(me: ShardId, mailboxes: Arc<[ShardMailbox<M, W>]>, bounds: Bounds) -> Self {
        let outbox = |_| Outbox {
            me,
            open: Storage::default(),
            closed: VecDeque::new(),
            bytes: 0,
            overflow: false,
            returns: Vec::new(),
        };
        Self {
            me,
            outboxes: (0..mailboxes.len()).map(outbox).collect(),
            mailboxes,
            active: Shards::default(),
            sent_to: Shards::default(),
            has_sent: false,
            own: VecDeque::new(),
            own_batches_max: bounds.mailbox_batches_max,
            own_first: true,
            free: Vec::new(),
            wakes: 0,
        }
    }

    pub fn me(&self) -> ShardId {
        self.me
    }

    pub fn shards(&self) -> usize {
        self.outboxes.len()
    }

    /// What wakes this shard: for threads that are not shards, such as the control thread.
    pub fn waker(&self) -> &W {
        self.mailboxes[self.me.index()].waker()
    }

    /// Copies bytes into the open batch for `to`. The span is valid for messages posted to `to` until a `post` reports
    /// that the batch was closed, or until `dispatch`. Only `post` closes a batch, so the bytes of a message and the
    /// message itself always share a batch.
    #[inline]
    pub fn put(&mut self, to: ShardId, bytes: &[u8]) -> Span {
        self.put_with(to, |arena| arena.extend_from_slice(bytes))
    }

    /// As `put`, for what is encoded in place. `write` may only append.
    #[inline]
    pub fn put_with(&mut self, to: ShardId, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let outbox = open(&mut self.outboxes, &mut self.free, to);
        let span = outbox.open.put_with(write);
        outbox.bytes += span.len();
        span
    }

    /// Appends a message to the open batch for `to`. False if this closed the batch: spans put so far are used up.
    #[inline]
    pub fn post(&mut self, to: ShardId, message: M) -> bool {
        let outbox = open(&mut self.outboxes, &mut self.free, to);
        outbox.open.ops.push_back(message);
        outbox.bytes += size_of::<M>();
        self.active.insert(to.index());
        let closing = outbox.open.is_closing();
        if closing {
            outbox.closed.push_back(std::mem::take(&mut outbox.open));
        }
        !closing
    }

    /// Bytes for `to` that did not reach its mailbox: arenas, and messages by their size.
    pub fn waiting_bytes(&self, to: ShardId) -> usize {
        self.outboxes[to.index()].bytes
    }

    /// True if a mailbox had no room for all at the last `dispatch`. The shard may still sleep: room wakes it.
    pub fn has_overflow(&self) -> bool {
        self.outboxes.iter().any(|outbox| outbox.overflow)
    }

    /// Messages of this shard to itself in batches that were not received yet.
    #[inline]
    pub fn own_messages(&self) -> usize {
        // Mostly there are none, and nothing to add up.
        if self.own.is_empty() { 0 } else { self.own.iter().map(Batch::remaining).sum() }
    }

    /// A mailbox that this shard has sent to holds more than so many messages, of any sender.
    #[inline]
    pub fn is_receiver_behind(&mut self, messages_max: usize) -> bool {
        self.has_sent && self.look_at_receivers(messages_max)
    }

    fn look_at_receivers(&mut self, messages_max: usize) -> bool {
        for index in self.sent_to.iter() {
            if self.mailboxes[index].queue().messages.load(Ordering::Relaxed) <= messages_max {
                self.sent_to.remove(index);
            }
        }
        self.has_sent = !self.sent_to.is_empty();
        self.has_sent
    }

    /// Moves everything posted into the mailboxes, as far as there is room. At most one wake per destination, none
    /// if it is awake. Never blocks. Cost: per destination with mail, one push and one fence.
    pub fn dispatch(&mut self) -> Dispatch {
        let mut done = Dispatch { wakes: std::mem::take(&mut self.wakes), ..Dispatch::default() };
        for index in self.active.iter() {
            let outbox = &mut self.outboxes[index];
            let full = if index == self.me.index() {
                deliver_own(outbox, &mut self.own, self.own_batches_max, &mut done.pushes)
            } else {
                let sent = self.mailboxes[index].send(self.me.index(), outbox);
                done.pushes += sent.pushes;
                done.wakes += u32::from(sent.woke);
                self.sent_to.insert(index);
                self.has_sent = true;
                if outbox.overflow && !sent.full {
                    self.mailboxes[index].unmark_starved(self.me.index());
                }
                sent.full
            };
            done.overflows += u32::from(full && !outbox.overflow);
            outbox.overflow = full;
            if !full {
                self.active.remove(index);
            }
        }
        done
    }

    /// The next batch, from the own shard and from the others alternately. Wakes senders that waited for the room. Give it
    /// back by `recycle` when it is consumed.
    pub fn receive(&mut self) -> Option<Batch<M>> {
        self.own_first = !self.own_first;
        if self.own_first {
            self.receive_own().or_else(|| self.receive_mail())
        } else {
            self.receive_mail().or_else(|| self.receive_own())
        }
    }

    /// The next batch of those that this shard sent itself.
    pub fn receive_own(&mut self) -> Option<Batch<M>> {
        let mut batch = self.own.pop_front()?;
        self.take_back(&mut batch);
        Some(batch)
    }

    fn receive_mail(&mut self) -> Option<Batch<M>> {
        let Self { me, mailboxes, wakes, .. } = self;
        let room = |sender: usize| *wakes += u32::from(mailboxes[sender].notify());
        let mut batch = mailboxes[me.index()].take(room)?;
        self.take_back(&mut batch);
        Some(batch)
    }

    fn take_back(&mut self, batch: &mut Batch<M>) {
        let count_max = self.free_max();
        for storage in batch.storage.returns.drain(..) {
            keep(&mut self.free, storage, count_max, FREE_BYTES_MAX);
        }
    }

    /// A batch for every destination of a turn, and a few for those on the way.
    fn free_max(&self) -> usize {
        self.shards() + RETURNS_MAX
    }

    /// Gives an emptied batch's memory back to its maker, with the next batch that goes there. Messages left in it are lost.
    pub fn recycle(&mut self, batch: Batch<M>) {
        debug_assert!(batch.is_empty(), "a batch is consumed before its memory is reused");
        if batch.from == self.me {
            let count_max = self.free_max();
            keep(&mut self.free, batch.storage, count_max, FREE_BYTES_MAX);
        } else {
            let returns = &mut self.outboxes[batch.from.index()].returns;
            keep(returns, batch.storage, RETURNS_MAX, RETURNS_BYTES_MAX);
        }
    }

    /// Announces that this shard is about to wait. False, and nothing is announced, if there is mail or
    /// if something posted could leave. A half-consumed batch does not count here.
    pub fn may_sleep(&mut self) -> bool {
        let me = self.me.index();
        let mut blocked = self.active;
        blocked.remove(me);
        if !self.own.is_empty() || self.outboxes[me].has_messages() {
            return false;
        }
        let mailboxes = &self.mailboxes;
        if blocked.is_empty() {
            return mailboxes[me].may_sleep(me, std::iter::empty());
        }
        mailboxes[me].may_sleep(me, blocked.iter().map(|index| &mailboxes[index]))
    }

    /// The wait is over. Senders no longer write to the eventfd.
    pub fn awake(&mut self) {
        self.mailboxes[self.me.index()].awake();
    }
}

impl<M> Outbox<M> {
    fn has_messages(&self) -> bool {
        !self.closed.is_empty() || !self.open.ops.is_empty()
    }
}

/// The outbox for `to`, its open batch with reused memory if there is some.
#[inline]
fn open<'a, M>(outboxes: &'a mut [Outbox<M>], free: &mut Vec<Storage<M>>, to: ShardId) -> &'a mut Outbox<M> {
    let outbox = &mut outboxes[to.index()];
    if outbox.open.is_bare()
        && let Some(storage) = free.pop()
    {
        outbox.open = storage;
    }
    outbox
}

/// `Mailbox::send` for the own shard: the same bound, no fence. True if something is left.
fn deliver_own<M>(outbox: &mut Outbox<M>, own: &mut VecDeque<Batch<M>>, batches_max: usize, pushes: &mut u32) -> bool {
    while own.len() < batches_max {
        let Some(batch) = outbox.take() else { return false };
        own.push_back(batch);
        *pushes += 1;
    }
    outbox.has_messages()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
