//! The durable log as a broker: one lane thread and one reader thread for each directory.
//!
//! A lane thread takes what waits, stages it in the lane, and writes it at once. Then it answers: for `process` after the write,
//! for `strict` after the sync. While it writes, the next requests gather, so that many share a write and a sync. A read is
//! planned behind the writes before it, and the reader thread carries it out.
//!
//! - `lane_thread`: the loop · `driver`: an open lane, with what is due · `round`: what one turn does
//! - `reader`: the reader thread · `queries`: those over the past of all channels
//! - `shards`: the way back to the home shards
//! - `fallback`: what `process` channels get after the disk has failed, if the settings say so
//! - `stats`: the numbers of all lanes
//! - `opening`: the directories of the settings, and what their logs were when they were opened
//! - `handle`: how the process closes and opens the log
//!
//! Bounds: requests by the queue of the lane (`durable.queue_bytes_max`), reads by their number (`reader`), events by the queue
//! of the shard. Without requests a thread wakes up only to sync, and once a minute to remove what has expired.

mod driver;
#[cfg(test)]
mod driver_tests;
mod fallback;
mod handle;
mod lane_thread;
mod opening;
mod queries;
mod reader;
mod round;
mod shards;
mod stats;

pub(crate) use handle::{Command, LogHandle};
pub(crate) use lane_thread::{Source, ThreadArgs, run};
pub(crate) use opening::{LogOptions, log_options, open};
pub(crate) use stats::{BATCH_BUCKETS, LaneStats, LogRefusal, LogState, LogStats};
