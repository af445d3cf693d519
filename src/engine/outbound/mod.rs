//! What waits for a peer: a queue of items, in order, bounded in bytes.
//!
//! A connection owns a queue only while something waits for it (a reply until the end of the turn, a backlog while the peer is
//! slow). Queues come from a pool and go back to it, so that a busy shard allocates nothing here. A broadcast never copies: its
//! items are references to the channel's turn buffer, shared by all peers that could not take all of it.
//!
//! - `queue`: what is queued, and how it leaves. `frames`: the boundaries in it.
//! - `owner`: where frames come from, and what waits of each owner.
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

pub use frames::frames_in;
pub use owner::{Dropped, InFlight, Owner};
pub use pool::{Pool, QueueKey};
pub use queue::{Broadcast, Queue};

/// Gathered writes up to this many bytes go through one scratch buffer and one send, larger ones by writev.
pub(crate) const GATHER_COPY_BYTES_MAX: usize = 4 * 1024;
