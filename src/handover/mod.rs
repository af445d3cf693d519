//! A rolling restart on one host: the next process takes over the listening sockets while this one still serves, so that no
//! connection attempt is refused.
//!
//! ```text
//!  new process                                  old process
//!   │ Hello ──────────────────────────────────►  │ its home shards forward publications from now on
//!   │ ◄──────────────── ListenSockets …, Go      │
//!   │ its shards listen, and forward as well     │
//!   │ Ready ──────────────────────────────────►  │ goes on: both accept
//!   │ Proven, after handover.trial_time ──────►  │ closes its listening sockets, drains, ends
//!   │ ◄───── Publication, Call, both ways ────►  │
//! ```
//!
//! If the new process ends before it has proven itself, the old process goes on as before. Both processes hold the same sockets, so
//! that either can accept a connection that waits in one of them.
//!
//! - `listener`   the old process's side · `inherited` the new process's side
//! - `link`       publications and calls between the two · `wire` frames and descriptors

pub(crate) mod inherited;
pub(crate) mod link;
pub(crate) mod listener;
pub(crate) mod wire;

pub use inherited::{HandoverError, Inherited};
pub use link::Link;
pub use listener::{HandoverListener, PassedSockets, SuccessorEvent};
