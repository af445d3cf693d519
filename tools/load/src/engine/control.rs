//! What the coordinator and the workers of a run share: the phase, and one slot per worker.

use crate::engine::clock::now;
use crate::engine::connection::Io;
use crate::engine::counters::{Counters, SharedCounters};
use crate::measure::latency_series::{Seconds, merge};
use crate::measure::results::Results;
use crate::measure::server::run_time;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The phase of all workers. It only moves forward, except that a search goes from `Pause` back to `Warmup`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug, Serialize, Deserialize)]
pub enum Phase {
    Open,
    /// Traffic without measurement.
    Warmup,
    Measure,
    /// Nothing new is sent; messages in flight may arrive.
    Drain,
    /// Nothing is in flight, and results are handed over.
    Pause,
    Stop,
}

const PHASES: [Phase; 6] = [Phase::Open, Phase::Warmup, Phase::Measure, Phase::Drain, Phase::Pause, Phase::Stop];

/// What a worker hands to the coordinator.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Results up to the last pause.
    pub(super) results: Option<Results>,
    pub(super) seconds: Seconds,
    /// Only of another process: nanoseconds on a processor per worker.
    pub(super) cpu: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    counters: SharedCounters,
    /// How many connections the worker may begin.
    pub(super) allowed: AtomicUsize,
    waker: OnceLock<mio::Waker>,
    pub(super) tid: AtomicU32,
    /// The phase of the last turn whose counters are visible.
    seen: AtomicU8,
    handover: Mutex<Handover>,
}

impl Slot {
    pub(super) fn lock(&self) -> MutexGuard<'_, Handover> {
        self.handover.lock().expect("never poisoned: no code panics while holding the lock")
    }
}

/// What coordinator and workers share.
#[derive(Debug)]
pub struct Control {
    /// The moment from which seconds are counted.
    pub origin: u64,
    pub(super) phase: AtomicU8,
    /// When the measured time began; 0: not yet.
    pub(super) measured_from: AtomicU64,
    /// The bits of the rate per second over all workers, if it changes from one measurement to the next.
    pub(super) rate: AtomicU64,
    pub(super) slots: Vec<Slot>,
    /// A worker ended by an error of its own.
    pub(super) broken: AtomicBool,
}

impl Control {
    /// Seconds are counted from `origin`, or from now.
    pub fn new(workers: usize, origin: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            origin: origin.unwrap_or_else(now),
            phase: AtomicU8::new(Phase::Open as u8),
            measured_from: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            slots: (0..workers).map(|_| Slot::default()).collect(),
            broken: AtomicBool::new(false),
        })
    }

    pub fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Acquire))]
    }

    pub fn measured_from(&self) -> u64 {
        self.measured_from.load(Relaxed)
    }

    /// Messages per second over all workers, instead of the rate of the scenarios; 0: the rate of the scenarios.
    pub fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Relaxed))
    }

    /// A worker cannot go on.
    pub fn set_broken(&self) {
        self.broken.store(true, Relaxed);
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    pub fn hand_over(&self, worker: usize, results: Results) {
        self.slots[worker].lock().results = Some(results);
    }

    pub fn allowed(&self, worker: usize) -> usize {
        self.slots[worker].allowed.load(Relaxed)
    }

    /// Makes the counters of a worker visible, and its finished seconds.
    pub fn publish(&self, worker: usize, io: &mut Io) {
        let slot = &self.slots[worker];
        if !io.seconds.done.is_empty() {
            merge(&mut slot.lock().seconds, std::mem::take(&mut io.seconds.done));
        }
        slot.counters.store(&io.counters);
    }

    /// The same for a worker in another process.
    pub fn publish_remote(&self, worker: usize, counters: &Counters, cpu: Vec<u64>, seconds: Seconds) {
        let mut handover = self.slots[worker].lock();
        handover.cpu = cpu;
        merge(&mut handover.seconds, seconds);
        self.slots[worker].counters.store(counters);
    }

    /// The seconds that finished since the last call.
    pub fn take_seconds(&self) -> Seconds {
        let mut sum = Seconds::new();
        self.slots.iter().for_each(|slot| merge(&mut sum, std::mem::take(&mut slot.lock().seconds)));
        sum
    }

    pub fn counters(&self) -> Counters {
        self.slots.iter().fold(Counters::default(), |sum, slot| sum.plus(&slot.counters.load()))
    }

    /// Nanoseconds on a processor, per worker.
    pub fn cpu(&self) -> Vec<u64> {
        let run_time = |slot: &Slot| match slot.tid.load(Relaxed) {
            0 => slot.lock().cpu.clone(),
            tid => vec![run_time(&format!("/proc/self/task/{tid}/schedstat"))],
        };
        self.slots.iter().flat_map(run_time).collect()
    }

    /// The last turn of a worker was in that phase, and its counters are visible.
    pub fn saw(&self, worker: usize, phase: Phase) {
        self.slots[worker].seen.store(phase as u8, Release);
    }

    /// Whether the counters of every worker are those of a turn in the current phase.
    pub fn all_saw_phase(&self) -> bool {
        let phase = self.phase.load(Relaxed);
        self.slots.iter().all(|slot| slot.seen.load(Acquire) == phase)
    }

    pub fn set_waker(&self, worker: usize, waker: mio::Waker) {
        let _ = self.slots[worker].waker.set(waker);
    }

    pub fn wake(&self, worker: usize) {
        if let Some(waker) = self.slots[worker].waker.get() {
            let _ = waker.wake();
        }
    }
}
