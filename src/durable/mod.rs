//! The durable log: publications and the meta of channels in files, without threads and clocks; times are arguments.
//!
//! - `files`: the directory of a lane, behind a trait
//! - `types`: what goes into a lane and comes out of it
//! - `lane`: publishing and reading the channels of one directory, with `commit`, `open` and `retention`
//! - `replay`: what the records say of the channels, for `open` and `inspect`
//! - `format`, `segment`, `class_log`, `memory_index`: batches in files
//! - `meta`, `keys`, `state`: what a lane remembers of channels, of idempotency keys, and of itself
//! - `read`: a part of a history, read on any thread
//! - `index`, `index_build`, `filter`: what stands beside a sealed segment
//! - `sealed`, `survey`: a sealed segment with its index, and whether it is still read
//! - `query`, `cursor`: queries by user or tag
//! - `checkpoint`: the meta of all channels of a lane in one file
//! - `inspect`: a log without a lane, for the command line
//! - `codec`: varints, texts and hashes, of records, the index and the checkpoint

mod checkpoint;
mod class_log;
mod codec;
mod commit;
mod cursor;
mod files;
mod filter;
mod format;
mod index;
mod index_build;
mod inspect;
mod keys;
mod lane;
mod memory_index;
mod meta;
mod open;
mod query;
#[cfg(test)]
mod query_tests;
mod read;
mod replay;
mod retention;
mod sealed;
mod segment;
mod state;
mod survey;
mod types;

#[cfg(test)]
mod sim_disk;
#[cfg(test)]
mod tests;

pub use files::{Directory, File, Files, LockError};
pub use inspect::{BadPart, Inspection, KeptPublication, Seen, export, inspect, lock_holder};
pub use lane::Lane;
pub use query::{AcceptChannel, BadCursor, FoundPage, FoundPublication, Query, QueryBy, QueryPlan};
pub use read::ReadPlan;
pub use sealed::IndexTask;
pub use types::{
    Durability, LaneError, LaneHealth, LaneOptions, LaneStats, LastEnd, LogRead, NewPublication, OnFull, OpenError,
    OpenReport, ReadError, RefuseReason, Staged,
};
