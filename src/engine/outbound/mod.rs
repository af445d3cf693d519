//! The queue of a peer: items in order, bounded in bytes.
//!
//! A connection owns a queue only while it is not empty (a reply until the end of the turn, a backlog while the peer is
//! slow). Queues come from a pool and return to it, so that a busy shard does not allocate. A broadcast is never
//! copied: its items are references to the channel's turn buffer, shared by all peers that did not accept all of it.
//!
//! - `queue`: the items, and how they are written. `frames`: the boundaries in them.
//! - `owner`: the sources of frames, and the backlog of each owner.
//! - `policy`: what is dropped while the peer does not read.
//! - `pool`: the queues of a shard, and the memory that they keep alive.

pub(crate) mod frames;
#[cfg(test)]
mod model_tests;
pub(crate) mod owner;
mod policy;
pub(crate) mod pool;
pub(crate) mod queue;
#[cfg(test)]
mod tests;

pub(crate) use frames::frames_in;
pub use owner::{Dropped, InFlight, Owner};
pub use pool::{Pool, QueueKey};
pub use queue::{Broadcast, Queue};

/// Gathered writes up to this many bytes go through one scratch buffer and one send, larger ones by writev.
pub(crate) const GATHER_COPY_BYTES_MAX: usize = 4 * 1024;
