//! Calls to the application's backend (the client protocol's "proxy"), over HTTP or gRPC, and the fetching of token key sets.
//!
//! ```text
//!  shard ── Call ──► dispatch ──► proxy: breaker, concurrency limit, attempts ──► http_client or grpc
//!  shard ◄─ Answer ─ dispatch ◄── proxy: answers ◄── json or protobuf ◄──────────── response
//! ```
//!
//! A backend that is gone, slow or faulty costs only its own calls: every call has a deadline, every proxy limits its calls
//! in progress and waiting, every response is limited in bytes. Every call has an answer; a failed one is
//! `Answer::Failed`.
//!
//! - `call`          what a shard asks, and the answer
//! - `dispatch`      all proxies and key sets; takes calls from the shards and delivers the answers
//! - `proxy`         one configured backend: admission, deadline, attempts, counters
//! - `method_calls`, `breaker`   the calls of one method at a proxy; its circuit breaker
//! - `endpoint`, `http_client`, `grpc`   where requests go and how they are sent; `grpc` needs the feature of that name
//! - `json`, `protobuf`  requests and responses in the two encodings; `proto` is generated from `proxy.proto`
//! - `reply`, `answers`  the common form of responses, and the answers made from them
//! - `jwks`          fetches token key sets
//! - `settings`, `stats`, `fault`   configuration, counters, errors
//!
//! Differences from Centrifugo: redirects are not followed, because they would send the clients' headers elsewhere; calls
//! are repeated where that is safe; there is a circuit breaker.

pub(crate) mod answers;
pub(crate) mod breaker;
pub mod call;
pub(crate) mod dispatch;
pub(crate) mod endpoint;
pub(crate) mod fault;
#[cfg(feature = "grpc")]
pub(crate) mod grpc;
pub(crate) mod http_client;
pub(crate) mod json;
pub mod jwks;
pub(crate) mod method_calls;
/// The messages, the client and the server of `proxy.proto`.
#[cfg(feature = "grpc")]
#[allow(clippy::all)]
#[rustfmt::skip]
pub mod proto;
#[cfg(feature = "grpc")]
pub(crate) mod protobuf;
pub(crate) mod proxy;
pub(crate) mod reply;
pub(crate) mod settings;
pub(crate) mod stats;

pub use dispatch::{Backend, run};
pub use settings::{Backoff, BreakerSettings, EmptyConnect, ProxySettings, REPLY_BYTES_MAX, SetupError, StatusAnswer};
pub use stats::{DURATION_BUCKETS_MS, ProxySnapshot, Reason};
