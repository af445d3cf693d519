//! The mailboxes between shards: batches, order, wakes. Independent of channels and sockets.
//!
//! Each shard owns one `Endpoint`. A message is posted into the open batch for its destination; `dispatch`, once per
//! turn, moves batches into the receivers' bounded mailboxes and wakes a receiver only if it sleeps. If a mailbox is
//! full, mail waits in the sender, in order, in batches that continue to grow; the receiver wakes the sender when there
//! is room. The own shard is a destination like the others, with a plain queue as its mailbox.
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
