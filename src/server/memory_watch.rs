//! The process's memory against its mark: past it nobody new is let in, until it is well below again. The control thread
//! looks, since a shard reads no files; what it found the shards see in one flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::admin::procfs;
use crate::config::Config;
use crate::engine::Admission;

/// How often the memory is looked at. A storm of connections brings a few MiB in that time.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub struct Watch {
    door: Arc<Admission>,
    /// `NONE` where there is no mark.
    bytes_max: Arc<AtomicU64>,
}

/// Nothing is set, and nothing bounds this process's memory but the machine.
const NONE: u64 = u64::MAX;

impl Watch {
    pub fn new(config: &Config, door: Arc<Admission>) -> Self {
        let watch = Self { door, bytes_max: Arc::new(AtomicU64::new(NONE)) };
        watch.set(config);
        watch
    }

    /// The mark from now on.
    pub fn set(&self, config: &Config) {
        let set = Some(config.limits.memory_bytes_max as u64).filter(|&bytes| bytes > 0);
        let bytes_max = set.or_else(|| Some(procfs::memory_limit()? / 10 * 9)).unwrap_or(NONE);
        if self.bytes_max.swap(bytes_max, Ordering::Relaxed) != bytes_max && bytes_max != NONE {
            log::info!("nobody new is let in past {} MiB of memory (limits.memory_bytes_max)", bytes_max >> 20);
        }
    }

    /// Looks for ever.
    pub async fn run(self) {
        loop {
            let has_mark = self.bytes_max.load(Ordering::Relaxed) != NONE;
            // A door that was shut by a mark that is gone opens.
            if (has_mark || self.door.is_memory_full())
                && let Some(resident) = procfs::resident_bytes()
            {
                self.judge(resident);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The door opens again a twentieth below the mark, so that it does not swing.
    fn judge(&self, resident: u64) {
        let was_full = self.door.is_memory_full();
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let mark = if was_full { bytes_max / 20 * 19 } else { bytes_max };
        let full = resident >= mark;
        self.door.set_memory_full(full);
        let mib = resident >> 20;
        match (was_full, full) {
            (false, true) => log::warn!(
                "{mib} MiB of memory are in use (limits.memory_bytes_max): nobody new is let in until it is less, those \
                 who are here are served"
            ),
            (true, false) => log::warn!("{mib} MiB of memory are in use: new connections are let in again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_shuts_at_the_mark_and_opens_below_it() {
        let mut config = Config::default();
        config.limits.memory_bytes_max = 1000;
        let door = Arc::new(Admission::new(&crate::config::engine_config(&config), 1));
        let watch = Watch::new(&config, Arc::clone(&door));
        for (resident, full) in [(999, false), (1000, true), (960, true), (949, false), (999, false)] {
            watch.judge(resident);
            assert_eq!(door.is_memory_full(), full, "{resident}");
        }
        config.limits.memory_bytes_max = 500;
        watch.set(&config);
        watch.judge(600);
        assert!(door.is_memory_full(), "the new mark holds");
    }
}
