//! The server API over gRPC, for stubs made for other servers of the protocol: the same calls as over HTTP, translated.
//!
//! The key comes as `authorization: apikey <key>`. Errors of a call are part of the reply, or gRPC statuses if the setting
//! or `x-centrifugo-error-mode: transport` asks for them.
//!
//! - `service` the methods · `translate` messages to requests and results to messages · `status` errors as statuses
//! - `api` the messages and both sides of `api.proto`

/// Generated code.
#[allow(clippy::all)]
#[rustfmt::skip]
pub mod api;
pub mod service;
pub mod status;
pub(crate) mod translate;
