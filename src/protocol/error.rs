//! Errors of decoding.

use std::borrow::Cow;

/// A frame or a command that breaks the protocol. The connection closes with `Disconnect::BadRequest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// What is wrong with a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterError {
    /// A field has the wrong type: the command is malformed, and the connection closes.
    Malformed,
    /// The filter means nothing or is too large: the command gets `ErrorCode::BadRequest`.
    Invalid,
}

/// An entry of a map: its key and its value.
pub(super) type Entry<'a, T> = Result<(Cow<'a, str>, T), Malformed>;
