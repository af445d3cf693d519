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
//! The path of one message:
//!
//! 1. `engine`: a socket is readable; one read into the shard's receive buffer.
//! 2. `ws`: the frame is decoded in place, the payload borrowed.
//! 3. `messaging` with `protocol`: the command, still borrowed.
//! 4. `engine::mailbox`: to the channel's home shard, at most one hop.
//! 5. `pubsub::HomeChannels`: offset and history; the frame is encoded once per wire format in use.
//! 6. `engine::mailbox`: to every shard with subscribers, in a batch.
//! 7. `pubsub::Subscribers`: into the channel's turn buffer of that shard.
//! 8. `engine`'s flush: one write per subscriber for everything the turn had; what a socket did not take is kept in `engine::outbound`.
//!
//! Modules, in the order in which they may see each other (`tests/house_rules` checks it): `ids`, `slow_policy`, `sys` ← `ws`,
//! `protocol`, `pubsub`, `auth` ← `engine` ← `config` ← `backend` ← `messaging` ← `api`, `admin`, `handover` ← `server` ← `cli`.

pub mod admin;
pub mod api;
pub mod auth;
pub mod backend;
pub mod config;
pub mod doctor;
pub mod echo;
pub mod engine;
pub mod handover;
pub mod ids;
pub mod messaging;
pub mod protocol;
pub mod pubsub;
pub mod server;
pub mod site;
pub mod slow_policy;
mod sys;
pub mod ws;
