//! The Centrifugo client protocol: bytes in, commands out; replies and pushes in, bytes out. No sockets and no clock.
//!
//! The caller decides once what a command means. Encodings differ only in how they read and write; `Encoding` hides the
//! difference.
//!
//! - `encoding`: reads and writes a frame in the encoding of a connection
//! - `command`, with `request` and `maps`: what clients send, borrowed from their frame
//! - `reply`: what the server sends
//! - `payload`: which bytes JSON embeds as they are
//! - `packed_client`: a client as one piece of bytes, inside this process
//! - `codes`: the codes of errors, ended subscriptions and closed connections
//! - `tags`: the tags of a publication · `filter`, `parse_filter`, `packed_filter`: which publications a subscriber wants;
//!   `decimal` compares numbers
//! - `json`: one JSON object per line, many lines in a text frame
//! - `protobuf`: length-delimited messages, many in a binary frame
//! - `fossil`: deltas between payloads

mod codes;
mod command;
mod decimal;
mod encoding;
mod error;
mod filter;
pub mod fossil;
mod json;
mod maps;
mod packed_client;
mod packed_filter;
mod parse_filter;
mod payload;
mod protobuf;
mod reply;
mod request;
mod tags;

pub use codes::{Disconnect, ErrorCode, Unsubscribed};
pub use command::{Body, Command, ConnectRequest};
pub use encoding::{Commands, Encoding};
pub use error::{FilterError, Malformed};
pub use filter::RawFilter;
pub use maps::{Headers, Subs};
pub(crate) use packed_client::{IdText, Pieces, RawClientInfo, client_text, put};
pub use packed_filter::Filter;
pub(crate) use payload::{Info, is_json, kept_info, one_line};
pub(crate) use reply::{
    ClientInfo, ConnectResult, Expiry, HistoryResult, JsonForm, Push, Reply, SubscribePush, SubscribeResult,
    WirePublication, delta_fits_json,
};
pub use request::{EmulationRequest, HistoryRequest, StreamPosition, SubscribeRequest};
pub(crate) use tags::Tags;
