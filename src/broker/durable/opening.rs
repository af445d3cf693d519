//! The directories of the log as the settings name them, and what was found when one was opened.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::stats::{LaneStats, LogState};
use crate::broker::clock::now_ms;
use crate::config::{Durable, OnFailure, OnFull};
use crate::durable::{self, Directory, Files, Lane, LaneOptions, LastEnd, LockError, OpenError, OpenReport};

/// What a lane thread needs to know of the settings.
#[derive(Clone)]
pub(crate) struct LogOptions {
    /// The directory.
    pub(crate) name: Box<str>,
    pub(crate) lane: LaneOptions,
    pub(crate) sync_interval: Duration,
    pub(crate) on_failure: OnFailure,
}

/// The options of each directory. Errors: a directory that cannot be used.
pub(crate) fn log_options(durable: &Durable) -> Result<Vec<LogOptions>, String> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    // Without an id each start is one after a crash of the machine.
    let boot_id = boot_id.and_then(|text| Uuid::parse_str(text.trim()).ok()).unwrap_or_else(Uuid::new_v4);
    let options = durable.data_dirs.iter().enumerate().map(|(number, dir)| {
        fs::create_dir_all(dir).map_err(|error| cannot_use(dir, &error))?;
        let lane = LaneOptions {
            lane: number as u16,
            segment_bytes: durable.segment_size as u64,
            bytes_max: durable.bytes_max as u64,
            free_bytes_min: free_bytes_min(Path::new(dir)).map_err(|error| cannot_use(dir, &error))?,
            on_full: match durable.on_full {
                OnFull::Refuse => durable::OnFull::Refuse,
                OnFull::EvictOldest => durable::OnFull::EvictOldest,
            },
            checkpoint_interval_ms: durable.checkpoint_interval.as_millis() as u64,
            boot_id: boot_id.into_bytes(),
            seed: Uuid::new_v4().as_u64_pair().0,
        };
        let (sync_interval, on_failure) = (durable.sync_interval, durable.on_failure);
        Ok(LogOptions { name: dir.as_str().into(), lane, sync_interval, on_failure })
    });
    options.collect()
}

fn cannot_use(dir: &str, error: &io::Error) -> String {
    format!(
        "durable.data_dirs: {dir}: {error}\n  Name a directory in which this process may create files, or create it for its user."
    )
}

/// 5 % of the file system, at most 1 GiB.
fn free_bytes_min(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok((found.f_blocks.saturating_mul(found.f_frsize) / 20).min(1 << 30))
}

/// Opens a directory. Errors: what is wrong, with the fix.
pub(crate) fn open(options: &LogOptions, stats: &LaneStats) -> Result<Lane<Directory>, String> {
    let files = || Directory::new(&*options.name).map_err(|error| cannot_use(&options.name, &error));
    open_lane(files()?, options, stats).map_err(|error| open_error(&options.name, &error))
}

pub(super) fn open_error(dir: &str, error: &OpenError) -> String {
    let fix = match error {
        OpenError::Lock(LockError::Held(_)) => {
            "Each server needs a directory of its own. To replace a running server, set handover.take (--takeover)."
        }
        OpenError::NewerFormat { .. } => "Name another directory to begin a new log.",
        _ => "Check the disk, and that this process may read and write the files.",
    };
    format!("durable.data_dirs: {dir}: {error}\n  {fix}")
}

/// Opens a lane, and says in the log what was found.
pub(super) fn open_lane<F: Files>(files: F, options: &LogOptions, stats: &LaneStats) -> Result<Lane<F>, OpenError> {
    let began = Instant::now();
    stats.set_state(LogState::Opening, "");
    let (lane, report) = Lane::open(files, options.lane.clone(), now_ms())?;
    stats.set_state(LogState::Open, "");
    stats.opened(began.elapsed());
    report_open(&options.name, &report, began.elapsed());
    Ok(lane)
}

fn report_open(dir: &str, report: &OpenReport, took: Duration) {
    let OpenReport { last_end, channels, segments, scanned_bytes, torn_bytes, quarantined, notes } = report;
    let before = match last_end {
        LastEnd::New => "it is new",
        LastEnd::Clean => "it was closed",
        LastEnd::Killed => "the process before was killed",
        LastEnd::Crashed => "the machine has crashed: channels with the durability process have a new generation",
    };
    log::info!(
        "durable log {dir}: open with {channels} channels in {segments} files after {} ms; {before}; {scanned_bytes} bytes read",
        took.as_millis()
    );
    if *torn_bytes > 0 {
        log::warn!(
            "durable log {dir}: {torn_bytes} bytes after the last whole batch are dropped; nothing of them was acknowledged"
        );
    }
    for file in quarantined {
        log::error!(
            "durable log {dir}: {file} is corrupt: reads of what it had fail with error 112, and its clients get recovered: false"
        );
    }
    for note in notes {
        log::info!("durable log {dir}: {note}");
    }
}
