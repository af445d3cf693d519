//! The JSON encoding: one object per line, in text frames.
//!
//! Payloads are embedded as they are, not as strings; a line break in one is whitespace there and becomes a
//! blank, since it would end the line. Zero values are left out. The pushes of a unidirectional connection are the same
//! objects without the reply around them.

mod decode;
mod encode;
pub(super) mod fields;
mod filter;
mod members;

pub use decode::{Commands, commands, commands_from, connect_request};
pub use encode::{PING, PRESENCE_TAIL, presence_entry, presence_head, publication, push, reply};
pub(super) use filter::filter;
pub use members::Members;
