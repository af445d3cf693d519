//! Violations of the protocol by a peer: each ends its connection with a close frame.

use super::close::CloseCode;
use super::utf8::Invalid;

/// A violation of the protocol, grouped by the close code that it causes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    // 1002
    Unmasked,
    ReservedBit,
    ReservedOpcode,
    FragmentedControl,
    LongControl,
    LengthNotMinimal,
    LengthTopBit,
    /// A continuation frame without a message to continue.
    NothingToContinue,
    /// A text or binary frame before the end of a fragmented message.
    MessageInsideMessage,
    /// A close payload of one byte.
    CloseOfOneByte,
    /// A close code that section 7.4 does not allow in a frame.
    CloseCode,
    // 1007
    InvalidUtf8,
    /// A compressed message is not DEFLATE data. Found when it is inflated.
    InvalidDeflate,
    // 1009
    MessageTooBig,
}

impl Violation {
    /// The code of the server's close frame.
    pub fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::InvalidPayload.code(),
            Self::MessageTooBig => CloseCode::MessageTooBig.code(),
            _ => CloseCode::ProtocolError.code(),
        }
    }

    /// The reason of the server's close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unmasked => "frame is not masked",
            Self::ReservedBit => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "control frame is fragmented",
            Self::LongControl => "control frame over 125 bytes",
            Self::LengthNotMinimal => "length is not in its shortest form",
            Self::LengthTopBit => "length has its top bit set",
            Self::NothingToContinue => "continuation of no message",
            Self::MessageInsideMessage => "new message inside a fragmented one",
            Self::CloseOfOneByte => "close payload of one byte",
            Self::CloseCode => "invalid close code",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::InvalidDeflate => "compressed message is not valid",
            Self::MessageTooBig => "message too big",
        }
    }
}

impl From<Invalid> for Violation {
    fn from(_: Invalid) -> Self {
        Self::InvalidUtf8
    }
}
