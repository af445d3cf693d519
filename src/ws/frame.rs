//! The header of a client's frame (RFC 6455, section 5.2).
//!
//! `parse_header` fails as early as possible: at the first byte, at the second, or at the length bytes before the masking key
//! has arrived. "Not enough bytes" is `Ok(None)`.

use super::violation::Violation;

/// Payload bytes of a control frame (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Bytes of a close reason: the control payload less the two of the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;
/// The longest header that a client may send: 2 bytes, an 8-byte length, a 4-byte masking key.
pub(crate) const CLIENT_HEADER_BYTES_MAX: usize = 14;
/// The longest header that a server sends: no masking key.
pub(crate) const SERVER_HEADER_BYTES_MAX: usize = 10;

const _: () = assert!(CLIENT_HEADER_BYTES_MAX == SERVER_HEADER_BYTES_MAX + 4);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// Section 5.5: control opcodes have the high bit set.
    #[inline]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A whole, valid header of a client's frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub fin: bool,
    /// The message is compressed (RFC 7692, section 6). Only if that was negotiated.
    pub rsv1: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    pub payload_bytes: u64,
    /// 6, 8 or 14.
    pub header_bytes: u8,
}

pub(super) const FIN: u8 = 0x80;
pub(super) const RSV1: u8 = 0x40;
pub(super) const MASKED: u8 = 0x80;
/// The length bytes that announce a 16-bit and a 64-bit length.
pub(super) const LENGTH_16: u8 = 126;
pub(super) const LENGTH_64: u8 = 127;

/// Parses the header at the start of `bytes`. `Ok(None)`: valid so far, but not whole.
#[inline]
pub fn parse_header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    parse_extended(bytes, false)
}

/// Like `parse_header`; `deflate`: permessage-deflate was negotiated.
#[inline]
pub(super) fn parse_extended(bytes: &[u8], deflate: bool) -> Result<Option<Header>, Violation> {
    let [first, second, rest @ ..] = bytes else {
        return match bytes {
            [first] => first_byte(*first, deflate).map(|_| None),
            _ => Ok(None),
        };
    };
    let (fin, opcode) = first_byte(*first, deflate)?;
    // Section 5.1: "a client MUST mask all frames that it sends to the server".
    if second & MASKED == 0 {
        return Err(Violation::Unmasked);
    }
    let length = second & !MASKED;
    if opcode.is_control() && usize::from(length) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(Violation::LongControl);
    }
    let (payload_bytes, rest) = match length {
        LENGTH_16 => match length_16(rest)? {
            Some(length) => (length, &rest[2..]),
            None => return Ok(None),
        },
        LENGTH_64 => match length_64(rest)? {
            Some(length) => (length, &rest[8..]),
            None => return Ok(None),
        },
        length => (u64::from(length), rest),
    };
    let Some(mask) = rest.first_chunk::<4>() else { return Ok(None) };
    let header_bytes = (bytes.len() - rest.len() + 4) as u8;
    Ok(Some(Header { fin, rsv1: first & RSV1 != 0, opcode, mask: *mask, payload_bytes, header_bytes }))
}

/// FIN, RSV1 and opcode, if they are valid whatever follows.
#[inline]
pub(super) fn first_byte(first: u8, deflate: bool) -> Result<(bool, Opcode), Violation> {
    // Section 5.2: RSV1-3 "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values".
    // RFC 7692, section 6: RSV1 is set on the first fragment of a message, and never on a control frame.
    let begins = matches!(first & 0x0f, 1 | 2);
    if first & 0x70 != 0 && !(deflate && begins && first & 0x70 == RSV1) {
        return Err(Violation::ReservedBit);
    }
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(Violation::ReservedOpcode),
    };
    let fin = first & FIN != 0;
    // Section 5.5: control frames "MUST NOT be fragmented".
    if !fin && opcode.is_control() {
        return Err(Violation::FragmentedControl);
    }
    Ok((fin, opcode))
}

/// Section 5.2: "the minimal number of bytes MUST be used to encode the length".
#[inline]
fn length_16(bytes: &[u8]) -> Result<Option<u64>, Violation> {
    let Some(length) = bytes.first_chunk::<2>() else { return Ok(None) };
    match u16::from_be_bytes(*length) {
        short if short < u16::from(LENGTH_16) => Err(Violation::LengthNotMinimal),
        length => Ok(Some(u64::from(length))),
    }
}

/// Section 5.2: the most significant bit of a 64-bit length "MUST be 0", and this form is only for lengths over 16 bits.
fn length_64(bytes: &[u8]) -> Result<Option<u64>, Violation> {
    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err(Violation::LengthTopBit);
    }
    // Six zero bytes leave at most 16 bits, whatever the last two bytes are.
    if bytes.first_chunk::<6>() == Some(&[0; 6]) {
        return Err(Violation::LengthNotMinimal);
    }
    Ok(bytes.first_chunk::<8>().map(|length| u64::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    /// The length of the prefix of `bytes` that decides, and the result.
    fn fails_at(bytes: &[u8]) -> Option<(usize, Violation)> {
        (0..=bytes.len()).find_map(|end| parse_header(&bytes[..end]).err().map(|violation| (end, violation)))
    }

    #[test]
    fn header_of_every_length_form_waits_for_its_last_byte() {
        let cases: [(&[u8], u64); 8] = [
            (&[0x82, 0x80, 1, 2, 3, 4], 0),
            (&[0x82, 0x81, 1, 2, 3, 4], 1),
            (&[0x82, 0xfd, 1, 2, 3, 4], 125),
            (&[0x82, 0xfe, 0, 126, 1, 2, 3, 4], 126),
            (&[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4], 65_535),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], 65_536),
            (&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], 1 << 32),
            (&[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4], u64::MAX >> 1),
        ];
        for (bytes, payload_bytes) in cases {
            for end in 0..bytes.len() {
                assert_eq!(parse_header(&bytes[..end]), Ok(None), "{end} of {bytes:?}");
            }
            let header_bytes = bytes.len() as u8;
            let header =
                Header { fin: true, rsv1: false, opcode: Opcode::Binary, mask: KEY, payload_bytes, header_bytes };
            assert_eq!(parse_header(bytes), Ok(Some(header)));
            let followed = [bytes, &[0x88, 0xff]].concat();
            assert_eq!(parse_header(&followed), Ok(Some(header)));
        }
    }

    #[test]
    fn header_first_byte_decides_alone() {
        for first in 0..=255u8 {
            let violation = match first & 0x0f {
                _ if first & 0x70 != 0 => Some(Violation::ReservedBit),
                3..=7 | 11.. => Some(Violation::ReservedOpcode),
                8..=10 if first & FIN == 0 => Some(Violation::FragmentedControl),
                _ => None,
            };
            assert_eq!(parse_header(&[first]), violation.map_or(Ok(None), Err), "{first:#x}");
            assert_eq!(parse_header(&[first, 0x80]).err(), violation, "{first:#x}");
        }
    }

    #[test]
    fn header_faults_fail_at_the_byte_that_shows_them() {
        const UNMASKED: &[u8] = &[0x82, 0x05, b'h'];
        const PING_OF_126: &[u8] = &[0x89, 0xfe, 0, 126];
        const CLOSE_OF_64_BIT_LENGTH: &[u8] = &[0x88, 0xff, 0];
        const FIVE_IN_16_BITS: &[u8] = &[0x81, 0xfe, 0, 5, 1, 2, 3, 4];
        const HUNDRED_TWENTY_FIVE_IN_16_BITS: &[u8] = &[0x81, 0xfe, 0, 125, 1, 2, 3, 4];
        const LARGEST_16_IN_64_BITS: &[u8] = &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4];
        const TOP_BIT: &[u8] = &[0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        assert_eq!(fails_at(UNMASKED), Some((2, Violation::Unmasked)));
        assert_eq!(fails_at(PING_OF_126), Some((2, Violation::LongControl)));
        assert_eq!(fails_at(CLOSE_OF_64_BIT_LENGTH), Some((2, Violation::LongControl)));
        assert_eq!(fails_at(FIVE_IN_16_BITS), Some((4, Violation::LengthNotMinimal)));
        assert_eq!(fails_at(HUNDRED_TWENTY_FIVE_IN_16_BITS), Some((4, Violation::LengthNotMinimal)));
        assert_eq!(fails_at(LARGEST_16_IN_64_BITS), Some((8, Violation::LengthNotMinimal)));
        assert_eq!(fails_at(TOP_BIT), Some((3, Violation::LengthTopBit)));
    }
}
