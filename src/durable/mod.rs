//! The durable log: publications and the meta of channels in files, without threads and clocks; times are arguments.
//!
//! - `files`: the directory of a lane, behind a trait
//! - `types`: what goes into a lane and comes out of it
//! - `lane`: publishing, reading and keeping the channels of one directory
//! - `index`, `index_build`, `filter`: what stands beside a sealed segment
//! - `checkpoint`: the meta of all channels of a lane in one file
//! - `codec`: varints and blocks with checksums, of the index and the checkpoint

mod checkpoint;
mod codec;
mod files;
mod filter;
mod index;
mod index_build;
mod lane;
mod types;

pub use files::{Directory, File, Files, LockError};
pub use lane::{Lane, ReadPlan};
pub use types::{
    Durability, LaneError, LaneHealth, LaneOptions, LaneStats, LastEnd, LogRead, NewPublication, OnFull, OpenError,
    OpenReport, ReadError, RefuseReason, Staged,
};
