//! Close codes (RFC 6455, section 7.4): which a peer may send, and the names of those we send.

/// A code of section 7.4.1 that this server sends of its own accord. The layer above has codes of its own (3000 on).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    /// The server is going down.
    GoingAway = 1001,
    ProtocolError = 1002,
    /// A kind of data the endpoint cannot accept.
    Unsupported = 1003,
    /// Data not consistent with the message's type: text that is not UTF-8.
    InvalidPayload = 1007,
    PolicyViolation = 1008,
    MessageTooBig = 1009,
    InternalError = 1011,
    /// Come back later.
    TryAgainLater = 1013,
}

impl CloseCode {
    #[inline]
    pub fn code(self) -> u16 {
        self as u16
    }
}

/// Whether a peer may put `code` into a close frame. 1004 is reserved; 1005, 1006 and 1015 stand for what was seen and
/// "MUST NOT be set as a status code in a Close control frame" (section 7.4.1); 1012-1014 were registered since.
pub fn valid_from_peer(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_judged_as_section_7_4_has_them() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(valid_from_peer(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!valid_from_peer(code), "{code}");
        }
    }

    #[test]
    fn what_we_send_a_peer_may_send_too() {
        for code in [CloseCode::Normal, CloseCode::ProtocolError, CloseCode::MessageTooBig, CloseCode::TryAgainLater] {
            assert!(valid_from_peer(code.code()));
        }
    }
}
