//! Close codes (RFC 6455, section 7.4): those that a peer may send, and the names of those that the server sends.

/// A code of section 7.4.1 that this layer sends. The layer above has its own codes, from 3000 on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    /// The server shuts down.
    GoingAway = 1001,
    ProtocolError = 1002,
    /// The endpoint does not accept this kind of data.
    Unsupported = 1003,
    /// The data does not fit the type of the message: text that is not UTF-8.
    InvalidPayload = 1007,
    PolicyViolation = 1008,
    MessageTooBig = 1009,
    InternalError = 1011,
    /// Reconnect later.
    TryAgainLater = 1013,
}

impl CloseCode {
    #[inline]
    pub fn code(self) -> u16 {
        self as u16
    }
}

/// True if a peer may send `code` in a close frame. 1004 is reserved; 1005, 1006 and 1015 are for local use and
/// "MUST NOT be set as a status code in a Close control frame" (section 7.4.1); 1012-1014 were registered since.
pub fn valid_from_peer(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_are_valid_as_section_7_4_says() {
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
            assert!(valid_from_peer(code), "{code}");
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!valid_from_peer(code), "{code}");
        }
    }

    #[test]
    fn close_codes_of_the_server_are_valid_from_a_peer() {
        for code in [CloseCode::Normal, CloseCode::ProtocolError, CloseCode::MessageTooBig, CloseCode::TryAgainLater] {
            assert!(valid_from_peer(code.code()));
        }
    }
}
