//! The durable log as a broker: one lane thread and one reader thread for each directory.
//!
//! A lane thread takes what waits, stages it in the lane, and writes it at once. Then it answers: for `process` after the write,
//! for `strict` after the sync. While it writes, the next requests gather, so that many share a write and a sync. A read is
//! planned behind the writes before it, and the reader thread carries it out.
//!
//! - `lane_thread`: the loop, with its times · `round`: what one turn of it does
//! - `reader`: the reader thread
//! - `shards`: the way back to the home shards
//! - `fallback`: what `process` channels get after the disk has failed, if the settings say so
//! - `stats`: the numbers of all lanes
//!
//! Bounds: requests by the queue of the lane (`durable.queue_bytes_max`), reads by their number (`reader`), events by the queue
//! of the shard. Without requests a thread wakes up only to sync, and once a minute to remove what has expired.

#[cfg(test)]
mod driver_tests;
mod fallback;
mod lane_thread;
mod queries;
mod reader;
mod round;
mod shards;
mod stats;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::port::{EventPort, RequestQueue};
use crate::config::{Durable, OnFailure, OnFull};
use crate::durable::{self, Directory, Files, Lane, LaneOptions, LastEnd, LockError, OpenError, OpenReport};

pub(crate) use lane_thread::run;
pub(crate) use stats::{BATCH_BUCKETS, LaneStats, LogRefusal, LogState, LogStats};

/// What one lane thread works with.
pub(crate) struct ThreadArgs<F: Files> {
    pub(crate) source: Source<F>,
    pub(crate) options: LogOptions,
    pub(crate) requests: RequestQueue,
    /// By `ShardId`: those of the lane thread and those of the reader thread.
    pub(crate) events: Vec<EventPort>,
    pub(crate) reader_events: Vec<EventPort>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) stats: Arc<LaneStats>,
}

/// The lane of a thread.
pub(crate) enum Source<F: Files> {
    Open(Box<Lane<F>>),
    /// Another process has it, and gives it away: it is opened when its lock is free.
    Awaited,
}

/// What a lane thread needs to know of the settings.
#[derive(Clone)]
pub(crate) struct LogOptions {
    /// The directory.
    pub(crate) name: Box<str>,
    pub(crate) lane: LaneOptions,
    pub(crate) sync_interval: Duration,
    pub(crate) on_failure: OnFailure,
}

/// What the process asks of a lane thread.
pub(crate) enum Command {
    /// Carry out what waits, and close the log. Requests wait from then on.
    Close(oneshot::Sender<Result<(), String>>),
    /// Open it again, once no other process has it.
    Open(oneshot::Sender<()>),
}

/// All lanes, as the process commands them. Clones command the same lanes.
#[derive(Clone, Default)]
pub(crate) struct LogHandle {
    lanes: Vec<mpsc::UnboundedSender<Command>>,
}

impl LogHandle {
    pub(crate) fn new(lanes: Vec<mpsc::UnboundedSender<Command>>) -> Self {
        Self { lanes }
    }

    /// Closes every lane: another process may open the log afterwards. What is asked of it meanwhile waits for `open`.
    pub(crate) async fn close(&self) -> Result<(), String> {
        let mut answers = Vec::new();
        for lane in &self.lanes {
            let (sender, answer) = oneshot::channel();
            _ = lane.send(Command::Close(sender));
            answers.push(answer);
        }
        let mut result = Ok(());
        for answer in answers {
            // A thread that has ended has closed its lane.
            result = result.and(answer.await.unwrap_or(Ok(())));
        }
        result
    }

    /// Opens every lane again.
    pub(crate) async fn open(&self) {
        let mut answers = Vec::new();
        for lane in &self.lanes {
            let (sender, answer) = oneshot::channel();
            _ = lane.send(Command::Open(sender));
            answers.push(answer);
        }
        for answer in answers {
            _ = answer.await;
        }
    }
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

fn open_error(dir: &str, error: &OpenError) -> String {
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
fn open_lane<F: Files>(files: F, options: &LogOptions, stats: &LaneStats) -> Result<Lane<F>, OpenError> {
    let began = Instant::now();
    stats.set_state(LogState::Opening, "");
    let (lane, report) = Lane::open(files, options.lane.clone(), now_ms())?;
    stats.set_state(LogState::Open, "");
    stats.opened(began.elapsed(), report.quarantined.len());
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

fn now_ms() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
