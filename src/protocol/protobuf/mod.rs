//! The Protobuf encoding: messages one after the other in binary frames, each behind its length.
//!
//! Payloads are bytes, whatever they hold. Zero values are left out. An empty message is the ping and the pong.
//!
//! - `wire`: the fields of a message, read; `decode`: what they mean as commands.
//! - `sink`: fields written, or only counted; `encode`: replies and pushes as fields.

mod decode;
mod encode;
mod filter;
mod sink;
mod wire;

pub use decode::{Commands, Entries, commands_from};
pub use encode::{presence_entry, presence_head, publication, push, reply};
pub(super) use filter::filter;

/// The server's ping and the client's pong: a message of no bytes.
pub const PING: &[u8] = &[0];

#[cfg(test)]
#[path = "peer_tests.rs"]
mod peer;
