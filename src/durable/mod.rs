//! The durable log: publications and the meta of channels in files, without threads and clocks; times are arguments.
//!
//! - `index`, `index_build`: what stands beside a sealed segment
//! - `checkpoint`: the meta of all channels of a lane in one file
//! - `codec`: varints and blocks with checksums, of the index and the checkpoint

mod checkpoint;
mod codec;
mod filter;
mod index;
mod index_build;
