//! An open lane with its reader, its ports and its timers, and what is due in it: the sync of `process` channels, and the maintenance of the
//! files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fallback::Fallback;
use super::opening::LogOptions;
use super::reader::{Job, Reader};
use super::shards::{RETRY, Shards};
use super::stats::{LaneStats, LogState};
use crate::broker::clock::now_ms;
use crate::config::OnFailure;
use crate::durable::{Files, Lane, LaneError};

/// Between two maintenances: after a write, and without one.
const MAINTENANCE: Duration = Duration::from_secs(1);
const IDLE_MAINTENANCE: Duration = Duration::from_secs(60);
/// An error that may come with every write is logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// An open lane with its reader, its ports and its timers.
pub(super) struct Driver<F: Files> {
    pub(super) lane: Lane<F>,
    pub(super) reader: Reader<F>,
    pub(super) shards: Shards,
    pub(super) fallback: Option<Box<Fallback>>,
    pub(super) options: LogOptions,
    pub(super) stats: Arc<LaneStats>,
    /// When the oldest write has to be synced.
    sync_at: Option<Instant>,
    maintain_at: Instant,
    logged: Option<Instant>,
}

impl<F: Files> Driver<F> {
    /// Nothing is due yet.
    pub(super) fn new(
        lane: Lane<F>,
        reader: Reader<F>,
        shards: Shards,
        options: &LogOptions,
        stats: &Arc<LaneStats>,
    ) -> Self {
        stats.update(&lane);
        Self {
            lane,
            reader,
            shards,
            fallback: None,
            options: options.clone(),
            stats: Arc::clone(stats),
            sync_at: None,
            maintain_at: Instant::now() + MAINTENANCE,
            logged: None,
        }
    }

    /// When something is due.
    pub(super) fn wake_at(&self) -> Instant {
        let flush_at = self.shards.needs_flush().then(|| Instant::now() + RETRY);
        [self.sync_at, flush_at].into_iter().flatten().fold(self.maintain_at, Instant::min)
    }

    pub(super) fn do_what_is_due(&mut self) {
        if self.shards.needs_flush() {
            self.shards.flush();
        }
        let now = Instant::now();
        if self.sync_at.is_some_and(|at| at <= now)
            && let Err(error) = self.sync()
        {
            self.disk_failed(&error);
        }
        if self.maintain_at <= now {
            self.maintain();
        }
    }

    /// Something was written: it is synced in time.
    pub(super) fn wrote(&mut self) {
        let now = Instant::now();
        if self.sync_at.is_none() {
            self.sync_at = Some(now + self.options.sync_interval);
            self.stats.set_unsynced_since(now_ms());
        }
        self.maintain_at = self.maintain_at.min(now + MAINTENANCE);
    }

    pub(super) fn sync(&mut self) -> Result<(), LaneError> {
        let began = Instant::now();
        self.sync_at = None;
        let result = self.lane.sync();
        self.stats.sync_time.record(began.elapsed());
        if result.is_ok() {
            self.stats.set_unsynced_since(0);
        }
        result
    }

    fn maintain(&mut self) {
        let again = match self.lane.maintain(now_ms()) {
            Ok(has_more) => has_more,
            Err(error) => {
                if matches!(error, LaneError::Failed(_)) {
                    self.disk_failed(&error);
                } else if self.may_log() {
                    let dir = &self.options.name;
                    log::error!(
                        "durable log {dir}: {error}; its old files stay until they can be removed, and nothing is rejected"
                    );
                }
                false
            }
        };
        while let Some(task) = self.lane.take_index_task() {
            // Without room, the first read that needs the index makes it.
            if let Err(Job::Index(task)) = self.reader.read(Job::Index(task)) {
                task.give_up();
                break;
            }
        }
        self.stats.update(&self.lane);
        let pause = match (again, self.sync_at) {
            (true, _) => Duration::ZERO,
            (false, Some(_)) => MAINTENANCE,
            (false, None) => IDLE_MAINTENANCE,
        };
        self.maintain_at = Instant::now() + pause;
    }

    /// For errors that may come with every write.
    pub(super) fn may_log(&mut self) -> bool {
        let may = self.logged.is_none_or(|at| at.elapsed() > LOG_INTERVAL);
        if may {
            self.logged = Some(Instant::now());
        }
        may
    }

    /// The lane could not write or sync. It may go on with another file, or have failed for good.
    pub(super) fn disk_failed(&mut self, error: &LaneError) {
        self.stats.update(&self.lane);
        let dir = self.options.name.clone();
        let channels = self.lane.stats().channels;
        if let LaneError::Failed(reason) = error {
            if self.stats.state() == LogState::Failed {
                return;
            }
            self.stats.set_state(LogState::Failed, reason);
            if self.options.on_failure == OnFailure::Memory {
                self.fallback = Some(Box::new(Fallback::new(now_ms())));
            }
            let process = match self.options.on_failure {
                OnFailure::Refuse => "every publication is rejected with error 100",
                OnFailure::Memory => {
                    "process publications are kept in memory only, strict ones are rejected with error 100"
                }
            };
            log::error!(
                "durable log {dir}: failed: {reason}; its {channels} channels can be read, and {process} until the disk is \
                 replaced and this server restarted"
            );
        } else if self.may_log() {
            log::error!(
                "durable log {dir}: {error}; what was being published in its {channels} channels is rejected with error 100"
            );
        }
    }
}
