//! The handshake of the mailboxes under a model checker: every interleaving, and every value that a weak memory model
//! allows.
//!
//! The code under test is the production code, over loom's atomics and a queue of one slot that orders only the
//! transfer of an item. A shard that sleeps while it has work is reported as a deadlock. Two tests prove that the
//! models find such a deadlock: without the fences they must report one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corecast::engine::mailbox::wake::{Mailbox, Outgoing, Queue, Wake, Word};
use loom::sync::Notify;
use loom::sync::atomic::{AtomicU64, AtomicUsize, fence};
use loom::thread;

/// loom's atomics; `FENCED` is false where the models must fail.
struct Atomic<const FENCED: bool>(AtomicU64);

impl<const FENCED: bool> Word for Atomic<FENCED> {
    fn zero() -> Self {
        Self(AtomicU64::new(0))
    }
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_or(bits, order)
    }
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_and(bits, order)
    }
    fn fence(order: Ordering) {
        if FENCED {
            fence(order);
        }
    }
}

/// Room for one item; 0: empty. It may look full or empty longer than it is, as far as the memory model allows.
struct Slot(AtomicUsize);

impl Queue<usize> for Slot {
    fn try_push(&self, item: usize) -> Result<(), usize> {
        if self.is_full() {
            return Err(item);
        }
        self.0.compare_exchange(0, item, Ordering::AcqRel, Ordering::Relaxed).map(drop).map_err(|_| item)
    }
    fn try_pop(&self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        Some(self.0.swap(0, Ordering::AcqRel))
    }
    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
    fn is_full(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

/// An eventfd: a wake before the wait ends the wait at once. Counts wakes outside of the model.
#[derive(Clone)]
struct Waker {
    event: Arc<Notify>,
    wakes: Arc<std::sync::atomic::AtomicUsize>,
}

impl Wake for Waker {
    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.event.notify();
    }
}

type Shard<const FENCED: bool> = Mailbox<Slot, Atomic<FENCED>, Waker>;
type Shards<const FENCED: bool> = Arc<Vec<Shard<FENCED>>>;

fn shards<const FENCED: bool>(count: usize) -> Shards<FENCED> {
    let waker = || Waker { event: Arc::new(Notify::new()), wakes: Arc::default() };
    Arc::new((0..count).map(|_| Mailbox::new(Slot(AtomicUsize::new(0)), waker(), count)).collect())
}

struct Waiting(VecDeque<usize>);

impl Outgoing<usize> for Waiting {
    fn take(&mut self) -> Option<usize> {
        self.0.pop_front()
    }
    fn put_back(&mut self, item: usize) {
        self.0.push_front(item);
    }
}

/// Shard 0: takes items until it has `count`, and sleeps while the queue is empty. Returns how often it announced a
/// sleep.
fn receive<const FENCED: bool>(shards: &Shards<FENCED>, count: usize) -> usize {
    let (mut taken, mut sleeps) = (0, 0);
    while taken < count {
        let room = |sender: usize| {
            shards[sender].notify();
        };
        if shards[0].take(room).is_some() {
            taken += 1;
            continue;
        }
        sleeps += 1;
        if shards[0].may_sleep(0, std::iter::empty()) {
            shards[0].waker().event.wait();
            shards[0].awake();
        }
    }
    sleeps
}

/// Any other shard: sends its items to shard 0, and sleeps while there is no room.
fn send<const FENCED: bool>(shards: &Shards<FENCED>, me: usize, items: &[usize]) {
    let mut waiting = Waiting(items.iter().copied().collect());
    while shards[0].send(me, &mut waiting).full {
        if shards[me].may_sleep(me, std::iter::once(&shards[0])) {
            shards[me].waker().event.wait();
            shards[me].awake();
        }
    }
    shards[0].unmark_starved(me);
}

/// Runs shard 0 against one sender per list of items. The bound on preemptions keeps the whole file within half a minute;
/// `LOOM_MAX_PREEMPTIONS` sets another.
fn run<const FENCED: bool>(preemptions: usize, senders: &'static [&'static [usize]]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.check(move || {
        let shards = shards::<FENCED>(senders.len() + 1);
        let spawn = |(index, items): (usize, &&'static [usize])| {
            let (shards, items) = (Arc::clone(&shards), *items);
            thread::spawn(move || send(&shards, index + 1, items))
        };
        let threads: Vec<_> = senders.iter().enumerate().map(spawn).collect();
        let sleeps = receive(&shards, senders.iter().map(|items| items.len()).sum());
        threads.into_iter().for_each(|thread| thread.join().expect("a sender ends"));
        assert!(shards[0].waker().wakes.load(Ordering::Relaxed) <= sleeps, "a wake needs a sleep");
    });
}

#[test]
fn receiver_does_not_sleep_on_a_pushed_item() {
    run::<true>(5, &[&[1]]);
    run::<true>(2, &[&[1], &[2]]);
}

#[test]
fn starved_sender_is_woken_when_there_is_room() {
    run::<true>(4, &[&[1, 2]]);
    run::<true>(3, &[&[1, 2, 3]]);
}

#[test]
fn all_starved_senders_get_room() {
    run::<true>(1, &[&[1, 2], &[3]]);
}

#[test]
fn awake_receiver_is_not_woken() {
    loom::model(|| {
        let shards = shards::<true>(2);
        let sender = {
            let shards = Arc::clone(&shards);
            thread::spawn(move || shards[0].send(1, &mut Waiting([1].into())).woke)
        };
        let _ = shards[0].take(|_| ());
        assert!(!sender.join().expect("the sender ends"));
        assert_eq!(shards[0].waker().wakes.load(Ordering::Relaxed), 0);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn model_without_fences_finds_a_sleeping_receiver() {
    run::<false>(3, &[&[1]]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn model_without_fences_finds_a_sleeping_sender() {
    // The receiver does not sleep before the last item, so that the model can only find a sleeping sender.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shards = shards::<false>(2);
        assert!(!shards[0].send(1, &mut Waiting([1].into())).full);
        let sender = {
            let shards = Arc::clone(&shards);
            thread::spawn(move || send(&shards, 1, &[2]))
        };
        let woken = |sender: usize| {
            shards[sender].notify();
        };
        assert!(shards[0].take(woken).is_some());
        sender.join().expect("the sender ends");
    });
}
