//! Corecast: a thread-per-core WebSocket message server on raw epoll. This is the map.
//!
//! ```text
//!  sockets ─► shard 0 on core 0 ─┐  each: one epoll, its own listeners, a slab of connections,
//!  sockets ─► shard 1 on core 1 ─┼─►       the channels it is home to, one mailbox
//!  sockets ─► shard n on core n ─┘
//!                   ▲ orders and answers, nothing else
//!  control thread: HTTP API, metrics, page, signals
//! ```
//!
//! The way of one message:
//!
//! 1. `shard`: a socket is readable; one read into the shard's one buffer.
//! 2. `ws`: the frame is decoded in place, the payload borrowed.
//! 3. `node` with `protocol`: the command, still borrowed.
//! 4. `bus`: to the channel's home shard, at most one hop.
//! 5. `hub::Home`: the stamp; the frame is encoded once per wire form in use.
//! 6. `bus`: to every shard that wants it, in a batch.
//! 7. `hub::Feeds`: into the channel's turn buffer there.
//! 8. `shard`'s flush: one write per subscriber for all the turn had; what a socket did not take waits in `outbound`.
//!
//! Modules, in the order in which they may know each other (a test holds it): `limits`, `ids`, `rate`, `raw` ← `ws`, `protocol`,
//! `hub`, `outbound`, `delta`, `grant`, `backend`, `auth` (which do not see one another, but that the last two see what is
//! granted) ← `config`, `bus` ← `shard` ← `node`, `echo` ← `site` ← `control`, `server`.
//!
//! Beside all that, `doctor` looks at the host for the command line; it sees `config` and nothing of a server that runs.
//!
//! As a library: implement [`shard::App`] and put it on the engine; `examples/shout.rs` does so in a few lines.

pub mod auth;
pub mod backend;
pub mod bus;
pub mod config;
pub mod control;
pub mod delta;
pub mod doctor;
pub mod echo;
pub mod grant;
pub mod hub;
pub mod ids;
pub mod limits;
pub mod node;
pub mod outbound;
pub mod protocol;
pub mod rate;
mod raw;
pub mod server;
pub mod shard;
pub mod site;
pub mod ws;

pub use shard::counters;
