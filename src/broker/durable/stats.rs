//! Numbers of the log. Lane and reader threads write them; metrics and health checks read them.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::broker::clock::now_ms;
use crate::broker::port::QueueGauge;
use crate::broker::stats::{Histogram, add};
use crate::durable::{Files, Lane};

/// Upper bounds of the buckets of publications in one write. One more bucket counts larger ones.
pub(crate) const BATCH_BUCKETS: [u64; 8] = [1, 4, 16, 64, 256, 1024, 2048, 4096];

/// How a lane is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogState {
    Opening = 0,
    Open = 1,
    /// Another process has it.
    Closed = 2,
    /// It takes nothing any more.
    Failed = 3,
}

impl LogState {
    /// Each with its name in metrics, in the order of the discriminants.
    pub(crate) const ALL: [(Self, &'static str); 4] =
        [(Self::Opening, "opening"), (Self::Open, "open"), (Self::Closed, "closed"), (Self::Failed, "failed")];
}

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogRefusal {
    DiskFull,
    TooLarge,
    /// The lane has failed, or the write has.
    Failed,
    /// Too many reads wait.
    ReadsFull,
    /// The disk has returned an error for a read.
    ReadFailed,
    /// What was to be read is in a corrupt file.
    Missing,
}

impl LogRefusal {
    /// Each with its name in metrics, in the order of the discriminants.
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (Self::DiskFull, "disk_full"),
        (Self::TooLarge, "too_large"),
        (Self::Failed, "failed"),
        (Self::ReadsFull, "reads_full"),
        (Self::ReadFailed, "read_failed"),
        (Self::Missing, "missing"),
    ];
}

/// All lanes of this process.
#[derive(Default)]
pub struct LogStats {
    lanes: RwLock<Vec<Arc<LaneStats>>>,
}

/// One lane.
pub(crate) struct LaneStats {
    /// The directory.
    pub(crate) name: Box<str>,
    state: AtomicU8,
    cause: Mutex<Box<str>>,
    is_full: AtomicU8,
    pub(crate) channels: AtomicUsize,
    pub(crate) segments: AtomicUsize,
    pub(crate) bytes: AtomicU64,
    pub(crate) quarantined: AtomicUsize,
    pub(crate) file_failures: AtomicU64,
    pub(crate) evicted_segments: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    /// Of the last start, in milliseconds.
    pub(crate) opening_ms: AtomicU64,
    /// When the oldest write that is not synced was made, in milliseconds since 1970; 0 for none.
    unsynced_since_ms: AtomicU64,
    pub(crate) write_time: Histogram,
    pub(crate) sync_time: Histogram,
    /// Bucket `i` ends at `BATCH_BUCKETS[i]`.
    pub(crate) batches: [AtomicU64; BATCH_BUCKETS.len() + 1],
    pub(crate) batched: AtomicU64,
    /// By `LogRefusal as usize`.
    pub(crate) refusals: [AtomicU64; LogRefusal::ALL.len()],
    /// Publications that were kept in memory only, since the lane has failed.
    pub(crate) in_memory: AtomicU64,
    queue: QueueGauge,
}

impl LogStats {
    pub(crate) fn register(&self, name: &str, queue: QueueGauge) -> Arc<LaneStats> {
        let lane = Arc::new(LaneStats::new(name, queue));
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&lane));
        lane
    }

    pub(crate) fn lanes(&self) -> Vec<Arc<LaneStats>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether every lane serves, or what is wrong with which ones.
    pub(crate) fn health(&self) -> Result<(), String> {
        let faults: Vec<_> = self.lanes().iter().filter_map(|lane| lane.fault()).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

impl std::fmt::Debug for LogStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lanes().iter().map(|lane| &lane.name)).finish()
    }
}

impl LaneStats {
    pub(super) fn new(name: &str, queue: QueueGauge) -> Self {
        Self {
            name: name.into(),
            state: AtomicU8::new(LogState::Opening as u8),
            cause: Mutex::default(),
            is_full: AtomicU8::new(0),
            channels: AtomicUsize::new(0),
            segments: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            quarantined: AtomicUsize::new(0),
            file_failures: AtomicU64::new(0),
            evicted_segments: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            opening_ms: AtomicU64::new(0),
            unsynced_since_ms: AtomicU64::new(0),
            write_time: Histogram::default(),
            sync_time: Histogram::default(),
            batches: Default::default(),
            batched: AtomicU64::new(0),
            refusals: Default::default(),
            in_memory: AtomicU64::new(0),
            queue,
        }
    }

    pub(crate) fn state(&self) -> LogState {
        LogState::ALL[usize::from(self.state.load(Ordering::Relaxed))].0
    }

    /// `cause` says why, in words for an operator.
    pub(super) fn set_state(&self, state: LogState, cause: &str) {
        self.state.store(state as u8, Ordering::Relaxed);
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause.into();
    }

    pub(super) fn opened(&self, took: Duration) {
        self.opening_ms.store(took.as_millis() as u64, Ordering::Relaxed);
    }

    /// A write of so many publications.
    pub(super) fn written(&self, publications: usize, took: Duration) {
        let count = publications as u64;
        add(&self.batches[BATCH_BUCKETS.partition_point(|&bound| count > bound)], 1);
        add(&self.batched, count);
        self.write_time.record(took);
    }

    pub(super) fn refuse(&self, reason: LogRefusal) {
        add(&self.refusals[reason as usize], 1);
    }

    /// What the lane itself counts.
    pub(super) fn update<F: Files>(&self, lane: &Lane<F>) {
        let (stats, health) = (lane.stats(), lane.health());
        self.channels.store(stats.channels, Ordering::Relaxed);
        self.segments.store(stats.segments, Ordering::Relaxed);
        self.bytes.store(stats.bytes, Ordering::Relaxed);
        self.file_failures.store(stats.file_failures, Ordering::Relaxed);
        self.evicted_segments.store(stats.evicted_segments, Ordering::Relaxed);
        self.checkpoints.store(stats.checkpoints, Ordering::Relaxed);
        self.unsynced_since_ms.store(stats.oldest_unsynced.unwrap_or(0), Ordering::Relaxed);
        self.quarantined.store(health.quarantined, Ordering::Relaxed);
        self.is_full.store(u8::from(health.is_full), Ordering::Relaxed);
    }

    pub(super) fn set_unsynced_since(&self, unix_ms: u64) {
        self.unsynced_since_ms.store(unix_ms, Ordering::Relaxed);
    }

    /// The age of the oldest write that is not synced.
    pub(crate) fn unsynced_age(&self) -> Duration {
        match self.unsynced_since_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(now_ms().saturating_sub(since)),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed) != 0
    }

    /// Bytes of requests that the lane thread has not taken.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// What is wrong, in words.
    fn fault(&self) -> Option<String> {
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &self.name;
        match self.state() {
            LogState::Opening => Some(format!("durable log {name}: it is being opened")),
            LogState::Closed => Some(format!("durable log {name}: another process has it")),
            LogState::Failed => Some(format!("durable log {name}: {cause}")),
            LogState::Open if self.is_full() => Some(format!("durable log {name}: the disk is full")),
            LogState::Open => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::port::request_queue;

    #[test]
    fn reasons_and_states_are_listed_in_the_order_of_their_discriminants() {
        assert!(LogRefusal::ALL.iter().enumerate().all(|(index, (reason, _))| *reason as usize == index));
        assert!(LogState::ALL.iter().enumerate().all(|(index, (state, _))| *state as usize == index));
    }

    #[test]
    fn health_names_the_directory_and_the_cause() {
        let stats = LogStats::default();
        assert_eq!(stats.health(), Ok(()), "there is no log");
        let lane = stats.register("/data", request_queue(1).1.gauge());
        assert_eq!(stats.health().unwrap_err(), "durable log /data: it is being opened");
        lane.set_state(LogState::Open, "");
        assert_eq!(stats.health(), Ok(()));
        lane.is_full.store(1, Ordering::Relaxed);
        assert_eq!(stats.health().unwrap_err(), "durable log /data: the disk is full");
        lane.set_state(LogState::Failed, "a sync failed twice");
        assert_eq!(stats.health().unwrap_err(), "durable log /data: a sync failed twice");
    }
}
