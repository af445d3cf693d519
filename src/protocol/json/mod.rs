//! The JSON encoding: one object per line, in text frames.
//!
//! Payloads are embedded as they are, not as strings; a line break in one is whitespace there and becomes a
//! blank, since it would end the line. Zero values are left out.

mod decode;
mod encode;
pub(super) mod fields;

pub use decode::{Commands, commands, commands_from};
pub use encode::{PING, publication, reply, unsubscribe_push};
