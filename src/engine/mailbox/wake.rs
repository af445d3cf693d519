//! No shard sleeps while it has mail: the protocol of sleep and wake around the mailbox of one shard.
//!
//! The receiver: set `sleeping`, fence, check the mailbox again, wait. The sender: push, fence, read `sleeping`, and if its
//! swap clears the flag, wake. One of the two fences comes first, so either the receiver sees the push or the sender sees the
//! flag.
//!
//! A full mailbox works the same way in the other direction. The sender: mark itself starved, fence, check for room
//! again. The receiver: take, fence, read the marks, and notify every sender whose mark its swap cleared. A mark may be
//! cleared while its sender is awake, and the room may go to another sender, so a sender that announced its sleep marks
//! itself again.
//!
//! The receiver changes `sleeping` by swaps, too. Stores would be enough, since no swap can come between the read and
//! the write of another one. But then only this argument would keep a late notification from clearing the next sleep,
//! and the model checker does not verify it.
//!
//! All of it is generic over the atomics and the queue, so that the model checker (loom) checks the production code.
//!
//! Invariants: `sleeping` is set by its own shard only; another shard that clears it wakes exactly once; a shard sleeps
//! only if, after the flag was set, its mailbox was empty and every mailbox that it has overflow for was full.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What wakes a shard: `mio::Waker` (an eventfd) in production, a counter in tests and simulation.
pub trait Wake: Send + Sync + 'static {
    /// Ends the wait of the shard, or its next one. Must not block. Cost: one `write` to an eventfd.
    fn wake(&self);
}

impl Wake for Box<dyn Wake> {
    fn wake(&self) {
        (**self).wake();
    }
}

/// An atomic word and its fence: the standard library's, or the model checker's.
pub trait Word: Send + Sync {
    fn zero() -> Self;
    fn load(&self, order: Ordering) -> u64;
    fn swap(&self, value: u64, order: Ordering) -> u64;
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
    fn fence(order: Ordering);
}

impl Word for AtomicU64 {
    fn zero() -> Self {
        Self::new(0)
    }
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    #[inline]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
    #[inline]
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.fetch_or(bits, order)
    }
    #[inline]
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.fetch_and(bits, order)
    }
    #[inline]
    fn fence(order: Ordering) {
        fence(order);
    }
}

/// A bounded queue with many senders and one receiver. Its operations need no order beyond what hands an item over.
pub trait Queue<T> {
    /// Gives the item back if there is no room.
    fn try_push(&self, item: T) -> Result<(), T>;
    fn try_pop(&self) -> Option<T>;
    fn is_empty(&self) -> bool;
    fn is_full(&self) -> bool;
}

/// Where the items of a sender come from, and go back to when the mailbox is full.
pub trait Outgoing<T> {
    fn take(&mut self) -> Option<T>;
    /// The item that `take` returned last: it is the first again.
    fn put_back(&mut self, item: T);
}

/// What one `send` did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sent {
    pub pushes: u32,
    pub woke: bool,
    /// Something was put back. This sender is marked and will be woken when there is room.
    pub full: bool,
}

/// The queue of a shard, whether the shard sleeps, and which senders wait for room. Aligned so that the flags of two shards
/// never share a cache line, nor the pair of lines that the hardware fetches together.
#[repr(align(128))]
pub struct Mailbox<Q, A, W> {
    queue: Q,
    sleeping: A,
    /// One bit for each sender that waits for room.
    starved: Box<[A]>,
    waker: W,
}

impl<Q, A: Word, W: Wake> Mailbox<Q, A, W> {
    pub fn new(queue: Q, waker: W, shards: usize) -> Self {
        Self { queue, sleeping: A::zero(), starved: (0..shards.div_ceil(64)).map(|_| A::zero()).collect(), waker }
    }

    pub fn waker(&self) -> &W {
        &self.waker
    }

    pub fn queue(&self) -> &Q {
        &self.queue
    }

    /// Sender: pushes until nothing is left or the mailbox is full, then wakes the receiver if it sleeps. Never blocks.
    pub fn send<T>(&self, me: usize, items: &mut impl Outgoing<T>) -> Sent
    where
        Q: Queue<T>,
    {
        let mut sent = Sent::default();
        sent.full = !self.push_while_room(items, &mut sent.pushes);
        if sent.full {
            self.mark_starved(me);
            A::fence(Ordering::SeqCst);
            sent.full = !self.push_while_room(items, &mut sent.pushes);
        }
        sent.woke = sent.pushes > 0 && self.notify();
        sent
    }

    fn push_while_room<T>(&self, items: &mut impl Outgoing<T>, pushes: &mut u32) -> bool
    where
        Q: Queue<T>,
    {
        while let Some(item) = items.take() {
            if let Err(item) = self.queue.try_push(item) {
                items.put_back(item);
                return false;
            }
            *pushes += 1;
        }
        true
    }

    fn mark_starved(&self, sender: usize) {
        self.starved[sender / 64].fetch_or(1 << (sender % 64), Ordering::Release);
    }

    /// Sender: nothing of it waits any more. This only saves a needless wake.
    pub fn unmark_starved(&self, sender: usize) {
        self.starved[sender / 64].fetch_and(!(1 << (sender % 64)), Ordering::Relaxed);
    }

    /// To call after a change that this shard may be waiting for. True if it had to be woken.
    pub fn notify(&self) -> bool {
        A::fence(Ordering::SeqCst);
        // A plain load first: while the shard is awake, senders only read its cache line.
        let woke = self.sleeping.load(Ordering::Relaxed) != 0 && self.sleeping.swap(0, Ordering::AcqRel) != 0;
        if woke {
            self.waker.wake();
        }
        woke
    }

    /// Receiver: the oldest item. `room` is called with each sender that waits for the room that this made, and must notify it.
    pub fn take<T>(&self, mut room: impl FnMut(usize)) -> Option<T>
    where
        Q: Queue<T>,
    {
        let item = self.queue.try_pop()?;
        A::fence(Ordering::SeqCst);
        for (index, word) in self.starved.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                room(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        Some(item)
    }

    /// Receiver: announces that shard `me` is about to wait. False, and nothing is announced, if its mailbox holds
    /// something or if one of the `blocked` ones, for which it has overflow, has room.
    pub fn may_sleep<'a, T>(&'a self, me: usize, blocked: impl Iterator<Item = &'a Self> + Clone) -> bool
    where
        Q: Queue<T>,
    {
        self.sleeping.swap(1, Ordering::AcqRel);
        // After the announcement, not before: a receiver that clears the mark must find us asleep.
        for other in blocked.clone() {
            other.mark_starved(me);
        }
        A::fence(Ordering::SeqCst);
        let work = !self.queue.is_empty() || blocked.clone().any(|other| !other.queue.is_full());
        if work {
            self.awake();
        }
        !work
    }

    /// Receiver: the wait is over, or did not begin.
    pub fn awake(&self) {
        self.sleeping.swap(0, Ordering::AcqRel);
    }
}
