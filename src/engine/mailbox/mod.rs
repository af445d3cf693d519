//! The mailboxes between shards: batches, order, wakes. Knows nothing of channels or sockets.
//!
//! Each shard owns one `Endpoint`. A message is posted into the open batch for its destination; `dispatch`, once
//! per turn, moves batches into the receivers' bounded mailboxes and wakes a receiver only if it sleeps. Mail
//! that finds the mailbox full waits here, in order, in batches that go on growing; the receiver wakes us when there is room.
//! The own shard is a destination like the others, with a plain queue for its mailbox.
//!
//! - `batch`: the messages and their memory.
//! - `wake`: which shards sleep, wake, or wait for room. Checked by a model checker.
//! - `endpoint`: the side of one shard.
//!
//! Invariants: first in, first out for each pair of sender and receiver. No call blocks. No message is dropped.

pub(crate) mod batch;
pub(crate) mod endpoint;
pub mod wake;

pub use batch::{BATCH_BYTES_MAX, BATCH_OPS_MAX, Batch, Span};
pub use endpoint::{Bounds, Dispatch, Endpoint, SHARDS_MAX, mesh};
pub use wake::Wake;
