//! The server API: calls of the application's backend over HTTP and gRPC.
//!
//! - `http`, `grpc`               the front-ends
//! - `json_request`, `request`, `fields`, `unknown_fields`   reading requests
//! - `check`                      a request becomes an `ApiCall`, or is rejected
//! - `dispatch`, `in_flight`      executing calls, with a bound on what is in flight
//! - `shard_api`                  what the shards are asked
//! - `response`                   results as JSON
//! - `settings`                   what the operator decided
//!
//! A new method is a variant of `messaging::ApiCall` and its execution there, its fields in `request` and their check in
//! `check`, and its messages in `grpc`.

pub(crate) mod check;
pub mod dispatch;
pub(crate) mod fields;
#[cfg(feature = "grpc")]
pub mod grpc;
pub(crate) mod http;
pub(crate) mod in_flight;
pub(crate) mod json_request;
mod open_calls;
pub(crate) mod request;
pub(crate) mod response;
pub mod settings;
pub mod shard_api;
pub mod unauthorized;
pub(crate) mod unknown_fields;

pub use dispatch::Dispatcher;
pub use open_calls::{OpenCall, OpenCalls};
pub use request::BATCH_COMMANDS_MAX;
pub use shard_api::{ApiError, ApiResult, ShardApi};
