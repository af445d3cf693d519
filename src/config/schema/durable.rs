//! `durable`: the log in which histories survive the process.

use std::time::Duration;

use super::section::section;
use crate::config::parse::enums::{Word, Words};
use crate::config::parse::scalar::{Bool, Bytes, Files, Time};

section! {
    /// The section `durable`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Durable {}

    /// Keep the log. Namespaces whose durability is not memory use it.
    enabled: bool as Bool = false, restart;

    /// Directories of the log, best one on each disk; the server creates them. Channels are spread over them by their names, so
    /// the list must stay the same while its files are in use.
    data_dirs: Vec<String> as Files = Vec::new(), restart, example("[\"/var/lib/corecast\"]");

    /// Time between two syncs of what namespaces with the durability process have written: what a crash of the machine may cost.
    sync_interval: Duration as Time = Duration::from_secs(1), restart;

    /// Bytes of one file of the log. Histories are removed file by file. Those of up to 10 minutes have files of at most 8 MiB.
    segment_size: usize as Bytes = 64 << 20, restart;

    /// Bytes of all files in one directory; past it durable.on_full applies. 0: no limit.
    bytes_max: usize as Bytes = 0, restart;

    /// What happens when the disk, or durable.bytes_max, is full: "refuse" rejects publications with error 100, "evict_oldest"
    /// removes the oldest file of histories.
    on_full: OnFull as Word = OnFull::Refuse, restart;

    /// What happens to publications with the durability process after the disk has failed: "refuse" rejects them with error 100,
    /// "memory" keeps them in memory only, with a new epoch, until a restart. Strict ones are always rejected.
    on_failure: OnFailure as Word = OnFailure::Refuse, restart;

    /// Time between two checkpoints. A start after a crash reads what was written since the last one.
    checkpoint_interval: Duration as Time = Duration::from_secs(300), restart;

    /// Bytes of requests that may wait for one directory; past it publications are rejected with error 100.
    queue_bytes_max: usize as Bytes = 64 << 20, restart;
}

/// What happens when there is no space.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum OnFull {
    #[default]
    Refuse,
    EvictOldest,
}

impl Words for OnFull {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("evict_oldest", Self::EvictOldest)];
}

/// What happens to `process` publications once the log has failed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum OnFailure {
    #[default]
    Refuse,
    Memory,
}

impl Words for OnFailure {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("memory", Self::Memory)];
}
