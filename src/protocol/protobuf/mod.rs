//! The Protobuf encoding: length-delimited messages, one after the other, in binary frames.
//!
//! Payloads are any bytes. Zero values are left out. An empty message is the ping and the pong.
//!
//! - `wire`: reads the fields of a message; `decode`, `requests`, `entries`: commands from fields
//! - `sink`: writes or counts fields; `encode`: replies and pushes as fields

mod decode;
mod encode;
mod entries;
mod filter;
mod requests;
mod sink;
mod wire;

pub(crate) use decode::command;
pub(crate) use encode::{presence_entry, presence_head, publication, push, reply};
pub(crate) use entries::Entries;
pub(super) use filter::filter;
pub(crate) use requests::emulation_request;

/// The server's ping and the client's pong: an empty message.
pub(crate) const PING: &[u8] = &[0];

#[cfg(test)]
#[path = "peer_tests.rs"]
mod peer;
