//! The event loop of one core: sockets, frames and deadlines. It knows no client protocol and no channels.
//!
//! - `app`: what a shard asks of the layer above; `context`: what it offers to it
//! - `shard`: the parts of a shard; `turn`: one turn, in its order, over fake or real sockets; `event_loop`: the same over mio
//! - `threads`: all shards of a process, and how a program puts its own app on them; `control_port`: commands to a shard
//! - `connection`: one connection: states, reading, upgrade, frames, writing, closing, backlogs of slow consumers
//! - `flush`: broadcasts out; `outbound`: what waits for a peer; `deflate`: permessage-deflate; `drain`: closing in waves
//! - `admission`: which connections are admitted; `net`: listeners, sockets, TLS
//! - `mailbox`: the mail between shards; `timer_wheel`, `token_bucket`, `stats`, `log_ring`, `config`

pub mod admission;
pub mod app;
pub mod config;
pub mod connection;
pub mod context;
pub mod control_port;
pub(crate) mod deflate;
pub mod drain;
pub mod event_loop;
pub(crate) mod flush;
pub mod log_ring;
pub mod mailbox;
pub mod net;
pub mod outbound;
pub mod shard;
pub mod stats;
pub mod threads;
pub mod timer_wheel;
pub mod token_bucket;
pub mod turn;

pub use admission::client_address::client_of;
pub use admission::overload::Admission;
pub use admission::peers::Peer;
pub use app::{App, EngineClose, Flow, Message, Route};
pub use config::EngineConfig;
pub use context::{Context, Mailbox};
pub use drain::Upgrades;
pub use shard::Shard;
pub use timer_wheel::Millis;
pub use turn::{Readiness, Wait};
