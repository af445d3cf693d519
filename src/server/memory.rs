//! The process's memory against its mark: past it nobody new is let in, until it is well below again. The control thread
//! looks, since a shard reads no files; what it found the shards see in one flag.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::control::process;
use crate::shard::Door;

/// How often the memory is looked at. A storm of connections brings a few MiB in that time.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

pub struct Watch {
    door: Arc<Door>,
    bytes_max: u64,
}

impl Watch {
    /// None where there is no mark: nothing is set, and nothing bounds this process's memory but the machine.
    pub fn new(config: &Config, door: Arc<Door>) -> Option<Self> {
        let set = config.memory_bytes_max as u64;
        let bytes_max = if set > 0 { set } else { process::memory_limit()? / 10 * 9 };
        log::info!("nobody new is let in past {} MiB of memory (limits.memory_bytes_max)", bytes_max >> 20);
        Some(Self { door, bytes_max })
    }

    /// Looks for ever.
    pub async fn run(self) {
        loop {
            if let Some(resident) = process::resident_bytes() {
                self.judge(resident);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The door opens again a twentieth below the mark, so that it does not swing.
    fn judge(&self, resident: u64) {
        let was_full = self.door.is_memory_full();
        let mark = if was_full { self.bytes_max / 20 * 19 } else { self.bytes_max };
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
        let config = Config { memory_bytes_max: 1000, ..Config::default() };
        let door = Arc::new(Door::new(&config.engine, 1));
        let watch = Watch::new(&config, Arc::clone(&door)).expect("a mark");
        for (resident, full) in [(999, false), (1000, true), (960, true), (949, false), (999, false)] {
            watch.judge(resident);
            assert_eq!(door.is_memory_full(), full, "{resident}");
        }
    }
}
