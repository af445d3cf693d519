//! Corecast: a thread-per-core WebSocket message server on raw epoll.

pub mod bus;
pub mod echo;
pub mod hub;
pub mod ids;
pub mod limits;
pub mod node;
pub mod outbound;
pub mod protocol;
pub mod shard;
pub mod ws;

pub use shard::counters;
