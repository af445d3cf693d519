//! A rolling restart on one host: the next process takes over the listening sockets while this one still serves, so that no
//! connection attempt is refused.
//!
//! ```text
//!  new process                                  old process
//!   │ Hello ──────────────────────────────────►  │ its home shards send their channels, and what they publish
//!   │ ◄─────── Welcome, ListenSockets …, Go      │
//!   │ its shards run, and do not accept yet      │
//!   │ ◄──────────────── Message …, Copied        │ (Copied: from each shard)
//!   │ Switch: it has all channels ────────────►  │ its home shards order nothing from here on: they follow
//!   │ ◄──────────────────────────── Switched     │ (from each shard)
//!   │ Ready; its shards accept ───────────────►  │ goes on: both accept
//!   │ Proven, after handover.trial_time ──────►  │ closes its listening sockets, drains, ends
//!   │ ◄──────── Message, Call, both ways ─────►  │
//! ```
//!
//! With a process of an earlier version there is no `Welcome`: then both forward what they publish (`Publication`), each with
//! offsets of its own.
//!
//! If the new process ends before it has proven itself, the old process goes on as before. Both processes hold the same sockets, so
//! that either can accept a connection that waits in one of them.
//!
//! - `listener`   the old process's side · `inherited` the new process's side
//! - `link`, `connection` messages and calls between the two · `transfer` the order of channels goes over · `wire` frames, descriptors

pub(crate) mod connection;
pub(crate) mod inherited;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod transfer;
pub(crate) mod wire;

pub use inherited::{HandoverError, Inherited, Takeover};
pub use link::Link;
pub use listener::{HandoverListener, PassedSockets, SuccessorEvent};
