//! The request that carries commands for a stream of another connection: to which node and session, and the commands.

use std::borrow::Cow;

use super::error::Malformed;
use super::{json, protobuf};

/// Commands for a session.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct EmulationRequest<'a> {
    /// The node that has the session, as its connect reply named it.
    pub node: Cow<'a, str>,
    /// The session id of the connect reply.
    pub session: Cow<'a, str>,
    /// Commands in the encoding of the session.
    pub data: Cow<'a, [u8]>,
}

impl<'a> EmulationRequest<'a> {
    /// `data` is a string of command lines.
    pub fn from_json(bytes: &'a [u8]) -> Result<Self, Malformed> {
        json::emulation_request(bytes)
    }

    pub fn from_protobuf(bytes: &'a [u8]) -> Result<Self, Malformed> {
        protobuf::emulation_request(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_read_in_both_encodings() {
        let wanted = EmulationRequest { node: "n".into(), session: "s".into(), data: b"{}\n{}"[..].into() };
        let json = br#"{"session":"s","node":"n","data":"{}\n{}","more":[1]}"#;
        assert_eq!(EmulationRequest::from_json(json), Ok(wanted.clone()));
        let binary = b"\x0a\x01n\x12\x01s\x1a\x05{}\n{}";
        assert_eq!(EmulationRequest::from_protobuf(binary), Ok(wanted));
        assert_eq!(EmulationRequest::from_json(b"{}"), Ok(EmulationRequest::default()));
        assert_eq!(EmulationRequest::from_protobuf(b""), Ok(EmulationRequest::default()));
    }

    #[test]
    fn data_that_is_not_a_string_is_malformed() {
        for bytes in [&br#"{"data":{}}"#[..], br#"{"data":[1]}"#, b"[]", b"", b"null", br#"{"session":1}"#] {
            assert_eq!(EmulationRequest::from_json(bytes), Err(Malformed), "{:?}", bytes.escape_ascii().to_string());
        }
        assert_eq!(EmulationRequest::from_protobuf(b"\x12\x05s"), Err(Malformed));
    }
}
