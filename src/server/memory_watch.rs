//! Compares the process's memory with its limit: past the limit new connections are rejected, until the memory is well below
//! it again. The control thread reads the memory, since a shard reads no files; the shards see the result in one flag.
//!
//! What counts is the memory that the process has from the host. The allocator keeps freed memory, so that it would count
//! long after its clients have left: it is told to return it while connections are rejected, and after each growth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::admin::procfs;
use crate::config::Config;
use crate::engine::Admission;
use crate::sys::return_free_memory;

/// How often the memory is read. A storm of connections uses a few MiB in that time.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Checks between two returns of free memory while connections are rejected, at first; twice as many after each return
/// that was of little use.
const RETURN_CHECKS_MIN: u32 = 4;
const RETURN_CHECKS_MAX: u32 = 128;
/// Memory that grew by so much, and then not at all for so many checks, is returned as far as it is free.
const GROWTH_BYTES: u64 = 64 << 20;
const QUIET_CHECKS: u32 = 40;

#[derive(Clone)]
pub(crate) struct MemoryWatch {
    admission: Arc<Admission>,
    /// `NO_LIMIT` if nothing but the machine bounds the memory.
    bytes_max: Arc<AtomicU64>,
}

const NO_LIMIT: u64 = u64::MAX;

/// When the allocator has to return its free memory. It is told seldom, since shards that allocate wait meanwhile.
#[derive(Debug)]
struct ReturnSchedule {
    /// The memory after the last return.
    floor: u64,
    /// The most since then.
    highest: u64,
    checks_since_growth: u32,
    checks_since_return: u32,
    /// Checks between two returns while connections are rejected.
    wait_checks: u32,
}

impl ReturnSchedule {
    fn new(resident: u64) -> Self {
        Self {
            floor: resident,
            highest: resident,
            checks_since_growth: 0,
            checks_since_return: RETURN_CHECKS_MAX,
            wait_checks: RETURN_CHECKS_MIN,
        }
    }

    /// After each check.
    fn is_due(&mut self, resident: u64, is_full: bool) -> bool {
        self.checks_since_return = self.checks_since_return.saturating_add(1);
        self.checks_since_growth = if resident > self.highest { 0 } else { self.checks_since_growth.saturating_add(1) };
        self.highest = self.highest.max(resident);
        let is_quiet = resident >= self.floor + GROWTH_BYTES && self.checks_since_growth >= QUIET_CHECKS;
        is_quiet || is_full && self.checks_since_return >= self.wait_checks
    }

    fn returned(&mut self, before: u64, after: u64) {
        let was_of_use = before.saturating_sub(after) >= before / 64;
        let wait_checks = if was_of_use { RETURN_CHECKS_MIN } else { (self.wait_checks * 2).min(RETURN_CHECKS_MAX) };
        *self = Self { checks_since_return: 0, wait_checks, ..Self::new(after) };
    }
}

impl MemoryWatch {
    pub(crate) fn new(config: &Config, admission: Arc<Admission>) -> Self {
        let watch = Self { admission, bytes_max: Arc::new(AtomicU64::new(NO_LIMIT)) };
        watch.set(config);
        watch
    }

    /// Sets the limit: the setting, or else nine tenths of the control group's limit.
    pub(crate) fn set(&self, config: &Config) {
        let set = Some(config.limits.memory_bytes_max as u64).filter(|&bytes| bytes > 0);
        let bytes_max = set.or_else(|| Some(procfs::memory_limit()? / 10 * 9)).unwrap_or(NO_LIMIT);
        if self.bytes_max.swap(bytes_max, Ordering::Relaxed) != bytes_max && bytes_max != NO_LIMIT {
            log::info!("limits.memory_bytes_max: rejecting new connections past {} MiB of memory", bytes_max >> 20);
        }
    }

    /// Never returns.
    pub(crate) async fn run(self) {
        let mut schedule = ReturnSchedule::new(procfs::resident_bytes().unwrap_or(0));
        loop {
            if let Some(resident) = procfs::resident_bytes() {
                self.check(resident);
                if schedule.is_due(resident, self.admission.is_memory_full()) {
                    self.return_free_memory(resident, &mut schedule);
                }
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    fn return_free_memory(&self, before: u64, schedule: &mut ReturnSchedule) {
        return_free_memory();
        let after = procfs::resident_bytes().unwrap_or(before);
        schedule.returned(before, after);
        log::debug!("returned {} MiB of unused memory to the host", before.saturating_sub(after) >> 20);
        self.check(after);
    }

    /// Accepts connections again a twentieth below the limit, so that admission does not flap; at once if the limit was
    /// removed.
    fn check(&self, resident: u64) {
        let was_full = self.admission.is_memory_full();
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let accept_below = bytes_max / 20 * 19;
        let is_full = resident >= if was_full { accept_below } else { bytes_max };
        self.admission.set_memory_full(is_full);
        match (was_full, is_full) {
            (false, true) => log::warn!(
                "memory in use ({} MiB) exceeds limits.memory_bytes_max ({} MiB): rejecting new connections until it drops \
                 below {} MiB; existing connections are served",
                resident >> 20,
                bytes_max >> 20,
                accept_below >> 20
            ),
            (true, false) => {
                log::warn!("memory in use dropped to {} MiB: accepting new connections again", resident >> 20);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_stops_at_the_limit_and_resumes_below_it() {
        let mut config = Config::default();
        config.limits.memory_bytes_max = 1000;
        let admission = Arc::new(Admission::new(&crate::config::engine_config(&config), 1));
        let watch = MemoryWatch::new(&config, Arc::clone(&admission));
        for (resident, full) in [(999, false), (1000, true), (960, true), (949, false), (999, false)] {
            watch.check(resident);
            assert_eq!(admission.is_memory_full(), full, "{resident}");
        }
        config.limits.memory_bytes_max = 500;
        watch.set(&config);
        watch.check(600);
        assert!(admission.is_memory_full(), "the new limit is in force");
    }

    /// Checks until a return is due; `None` if that does not happen.
    fn checks_until_due(schedule: &mut ReturnSchedule, resident: u64, is_full: bool) -> Option<u32> {
        (1..=1_000).find(|_| schedule.is_due(resident, is_full))
    }

    #[test]
    fn free_memory_is_returned_while_connections_are_rejected_and_less_often_if_none_is_free() {
        let mut schedule = ReturnSchedule::new(1_000);
        assert_eq!(checks_until_due(&mut schedule, 1_000, true), Some(1));
        let mut waits = Vec::new();
        for _ in 0..7 {
            schedule.returned(1_000, 1_000);
            waits.push(checks_until_due(&mut schedule, 1_000, true).expect("it is due"));
        }
        assert_eq!(waits, [8, 16, 32, 64, 128, 128, 128]);
        schedule.returned(1_000, 500);
        assert_eq!(checks_until_due(&mut schedule, 500, true), Some(4), "it was of use");
        schedule.returned(500, 500);
        assert_eq!(checks_until_due(&mut schedule, 500, false), None, "connections are accepted again");
    }

    #[test]
    fn memory_that_grew_and_is_quiet_is_returned_once() {
        let mut schedule = ReturnSchedule::new(1_000);
        assert!((0..100).all(|n| !schedule.is_due(1_000 + GROWTH_BYTES + n, false)), "it still grows");
        assert_eq!(checks_until_due(&mut schedule, 1_000 + GROWTH_BYTES, false), Some(QUIET_CHECKS));
        schedule.returned(1_000 + GROWTH_BYTES, GROWTH_BYTES);
        assert_eq!(checks_until_due(&mut schedule, GROWTH_BYTES, false), None, "the rest is in use");
    }
}
