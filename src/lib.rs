//! Corecast: a thread-per-core WebSocket message server that speaks the Centrifugo client protocol. This is the map.
//!
//! ```text
//!  sockets ─► shard 0 on core 0 ─┐  each: one epoll, its own listeners, a slab of connections,
//!  sockets ─► shard 1 on core 1 ─┼─►       the channels that it is home to, one mailbox
//!  sockets ─► shard n on core n ─┘
//!                   ▲ commands and answers, nothing else
//!  control thread: HTTP and gRPC API, metrics, page, signals, calls to backends
//! ```
//!
//! The path of one message:
//!
//! 1. `engine`: a socket is readable; one read into the shard's receive buffer.
//! 2. `ws`: the frame is decoded in place, the payload borrowed.
//! 3. `messaging` with `protocol`: the command, still borrowed.
//! 4. `engine::mailbox`: to the channel's home shard, at most one hop.
//! 5. `pubsub`: offset and history at home; the frame is encoded once for each wire format in use.
//! 6. `engine::mailbox`: to every shard with subscribers, in a batch.
//! 7. `pubsub`: into the turn buffer of the subscriber group on that shard.
//! 8. `engine::flush`: one write for each subscriber and turn; what a socket does not take waits in `engine::outbound`.
//!
//! Modules, in the order in which they may see each other (`tests/house_rules` checks it):
//!
//! 1. Ground: `ids`, `slow_policy`, and `sys`, which has the `unsafe` code.
//! 2. Pure layers: `ws` (RFC 6455, RFC 7692), `http` (streams and request bodies), `protocol` (Centrifugo), `pubsub` (channels, subscribers, history), `auth`.
//! 3. `engine`: bytes, frames and mail. It is usable as a library; see [`engine`].
//! 4. `config`, then `doctor` (checks of the host) and `backend` (calls to the application).
//! 5. `messaging`: the joint of engine, protocol and pubsub.
//! 6. `cluster` (other servers), `api`, `admin`, `handover` (to the next process), `server` (start, reload, shutdown), `cli`.
//! 7. [`embed`]: the server in a program of your own, with hooks.
//!
//! Glossary:
//!
//! - **shard**: one thread with its own event loop, connections and channels. Shards share nothing and send mail.
//! - **mail, mailbox, batch**: messages between shards; a bounded queue for each shard; many messages with one arena.
//! - **home shard**: the shard that numbers the publications of a channel and keeps its history and presence.
//! - **turn**: one pass of the event loop: mail, events, deadlines, mail out, one slice of the flush.
//! - **share**: the part of a turn's time that one connection may use.
//! - **flush**: the writing of all broadcasts of a turn; **slice**: the part of a flush that one turn writes.
//! - **broadcast**: the same frames to many connections of a shard, by reference.
//! - **turn buffer**: the frames that a channel gathered in a turn, shared by its subscribers.
//! - **subscriber group**: the subscribers of a channel on one shard that get the same bytes.
//! - **wire format**: JSON or Protobuf, with or without delta, in a compression class.
//! - **stream**: a connection whose messages leave as one HTTP response.
//! - **compression class**: connections that share a compressor, because they agreed to the same window.
//! - **spill**: received bytes that cannot be used yet, kept by their connection.
//! - **backlog**: frames that wait for a peer that does not read; **slow consumer**: such a peer.
//! - **owner**: the source of frames in a backlog; its slow-consumer policy says what is dropped.
//! - **gap**: publications that a subscription missed; it ends, and its client recovers.
//! - **write flags**: one byte for each connection, which the delivery loop reads first.
//! - **hold**: the app keeps back what is queued for a connection until its first message is ready.
//! - **drain**: the end of a process in waves of closes; **handover**: its listeners go to the next process.

// Tests include modules that other tests share.
#![cfg_attr(not(test), warn(unreachable_pub))]

// The library: what a program may depend on.
pub mod embed;
pub mod engine;

// Public for the program, its tests and its benches alone; no stability.
#[doc(hidden)]
pub mod admin;
#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod backend;
#[doc(hidden)]
pub mod broker;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod doctor;
#[doc(hidden)]
pub mod durable;
#[doc(hidden)]
pub mod handover;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod ids;
#[doc(hidden)]
pub mod messaging;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod pubsub;
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod slow_policy;
mod sys;
#[doc(hidden)]
pub mod ws;
