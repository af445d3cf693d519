//! Corecast: a thread-per-core WebSocket message server on raw epoll.

pub mod bus;
#[path = "shard/counters.rs"]
pub mod counters;
pub mod hub;
pub mod ids;
pub mod limits;
pub mod outbound;
pub mod protocol;
pub mod ws;
