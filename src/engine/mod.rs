//! The event loop of one core: sockets, frames and deadlines. It knows no client protocol and no channels.
//!
//! - `app`: the callbacks of the layer above; `context`: its actions on a shard
//! - `shard`: the parts of a shard; `turn`: one turn, in order, over any sockets; `turn_time`: how long it may take;
//!   `event_loop`: turns over mio
//! - `threads`: starts all shards of a process with an app; `control_port`: commands to a shard
//! - `connection`: one connection: states, reading, upgrade, frames, writing, closing, backlogs of slow consumers
//! - `flush`: writes broadcasts; `outbound`: the queue of a peer; `deflate`: permessage-deflate; `drain`: shutdown
//! - `admission`: which connections are admitted; `net`: listeners, sockets, TLS
//! - `mailbox`: the mail between shards; `timer_wheel`, `token_bucket`, `stats`, `log_ring`, `config`

//!
//! As a library it needs few names: an [`App`], the [`Context`] that it acts on, and [`Server::builder`]. Modules that are
//! hidden in the documentation serve the message server, its tests and its benches; they may change at any time.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod admission;
pub(crate) mod app;
pub(crate) mod builder;
#[doc(hidden)]
pub mod config;
pub(crate) mod connection;
pub(crate) mod context;
#[doc(hidden)]
pub mod control_port;
pub(crate) mod deflate;
pub(crate) mod drain;
pub(crate) mod event_loop;
pub(crate) mod flush;
#[doc(hidden)]
pub mod log_ring;
#[doc(hidden)]
pub mod mailbox;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod outbound;
#[doc(hidden)]
pub mod rejection;
pub(crate) mod shard;
#[doc(hidden)]
pub mod stats;
#[doc(hidden)]
pub mod threads;
#[doc(hidden)]
pub mod timer_wheel;
#[doc(hidden)]
pub mod token_bucket;
pub(crate) mod turn;
pub(crate) mod turn_time;

pub use app::{App, EngineClose, Flow, Message, Route, Stream};
pub use builder::{Server, ServerBuilder};
pub use config::{CompressionConfig, EngineConfig, Machine};
pub use connection::backlog::Reservation;
pub use context::{Context, Injection, Mailbox};
pub use mailbox::{Batch, Span};
pub use net::listener::{Address, ListenError, ListenOptions};
pub use outbound::{Broadcast, Owner};
pub use stats::{Bound, Closed, Counters, Snapshot};
pub use threads::EngineError;
pub use timer_wheel::Millis;

pub use crate::http::{Response, StreamForm, StreamFraming};
pub use crate::ids::{ConnId, ShardId};
pub use crate::slow_policy::SlowConsumerPolicy;
pub use crate::ws::{CloseCode, Opcode, Refusal, Request};

// For the server, the tests and the benches.
#[doc(hidden)]
pub use admission::client_address::client_of;
#[doc(hidden)]
pub use admission::overload::Admission;
#[doc(hidden)]
pub use admission::peers::Peer;
#[doc(hidden)]
pub use drain::Upgrades;
#[doc(hidden)]
pub use shard::Shard;
#[doc(hidden)]
pub use turn::{Readiness, Wait};
#[doc(hidden)]
pub use turn_time::Clock;
