//! The server API: calls from the application's backend over HTTP and gRPC.

pub(crate) mod call;
pub(crate) mod dispatch;
#[cfg(feature = "grpc")]
pub mod grpc;
pub(crate) mod http;
pub(crate) mod in_flight;
pub(crate) mod methods;
pub(crate) mod response;
pub mod settings;
pub(crate) mod shard_api;
