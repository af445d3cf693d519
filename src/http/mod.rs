//! HTTP besides the WebSocket upgrade, bytes in and bytes out: the framing of streamed messages, request bodies, and responses.
//!
//! - `framing` marks off the messages of a stream: lines, events or delimited messages, in chunks or plain
//! - `body` finds the end of a request body: by its length, or in chunks
//! - `response` writes small whole responses, and the heads of streams

mod body;
mod framing;
mod response;

pub use body::{BODY_BYTES_MAX, Body, BodyFault, BodyLength, read_body};
pub use framing::{PREFIX_BYTES_MAX, SUFFIX_BYTES_MAX, StreamForm, StreamFraming};
pub use response::{KeepAlive, Response, phrase};
