//! The JSON encoding: one object per line, in text frames.
//!
//! Payloads are embedded as JSON values, not as strings. A line break in a payload is whitespace and becomes a space, since
//! it would end the line. Zero values are left out. The pushes of a unidirectional connection are the same objects without
//! the reply around them.

mod decode;
mod emulation;
mod encode;
pub(super) mod fields;
mod filter;
mod members;

pub(crate) use decode::{command, connect_request};
pub(crate) use emulation::emulation_request;
pub(crate) use encode::{BARE, IN_REPLY, PING, PRESENCE_TAIL, presence_entry, presence_head, publication, push, reply};
pub(super) use filter::filter;
pub(crate) use members::Members;
