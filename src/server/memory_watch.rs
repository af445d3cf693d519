//! Compares the process's memory with its limit: past the limit new connections are rejected, until the memory is well below
//! it again. The control thread reads the memory, since a shard reads no files; the shards see the result in one flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::admin::procfs;
use crate::config::Config;
use crate::engine::Admission;

/// How often the memory is read. A storm of connections uses a few MiB in that time.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub(crate) struct MemoryWatch {
    admission: Arc<Admission>,
    /// `NO_LIMIT` if nothing but the machine bounds the memory.
    bytes_max: Arc<AtomicU64>,
}

const NO_LIMIT: u64 = u64::MAX;

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
        loop {
            let has_limit = self.bytes_max.load(Ordering::Relaxed) != NO_LIMIT;
            // Also if a limit that was exceeded has been removed: connections must be accepted again.
            if (has_limit || self.admission.is_memory_full())
                && let Some(resident) = procfs::resident_bytes()
            {
                self.check(resident);
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Accepts connections again a twentieth below the limit, so that admission does not flap.
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
}
