//! Encodes frames of the server: FIN set, unmasked, the shortest length form. Whole frames are appended to the caller's buffer.

use std::ops::Range;

use super::frame::{
    CLOSE_REASON_BYTES_MAX, CONTROL_PAYLOAD_BYTES_MAX, FIN, LENGTH_16, LENGTH_64, MASKED, Opcode, RSV1,
    SERVER_HEADER_BYTES_MAX,
};
use super::mask;

/// The size of the header of a whole, unmasked frame: 2, 4 or 10.
#[inline]
pub fn header_bytes(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    }
}

/// Writes the header of a whole, unmasked frame to the front of `out`; returns its length: 2, 4 or 10.
#[inline]
pub fn header(payload_bytes: usize, opcode: Opcode, out: &mut [u8; SERVER_HEADER_BYTES_MAX]) -> usize {
    debug_assert!(!opcode.is_control() || payload_bytes <= CONTROL_PAYLOAD_BYTES_MAX, "a control frame over 125 bytes");
    out[0] = FIN | opcode as u8;
    if payload_bytes < usize::from(LENGTH_16) {
        out[1] = payload_bytes as u8;
        2
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        out[1] = LENGTH_16;
        out[2..4].copy_from_slice(&length.to_be_bytes());
        4
    } else {
        out[1] = LENGTH_64;
        out[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
        10
    }
}

/// Writes the header of a whole, unmasked frame directly before its payload, which is at `payload` of `bytes` with enough room
/// before it. Returns where the frame begins. The shorter forms are single stores.
#[inline]
pub fn header_before(bytes: &mut [u8], payload: Range<usize>, opcode: Opcode) -> usize {
    let (offset, length) = (payload.start, payload.len());
    if length < usize::from(LENGTH_16) {
        bytes[offset - 2..offset].copy_from_slice(&[FIN | opcode as u8, length as u8]);
        return offset - 2;
    }
    if let Ok(length) = u16::try_from(length) {
        let [high, low] = length.to_be_bytes();
        bytes[offset - 4..offset].copy_from_slice(&[FIN | opcode as u8, LENGTH_16, high, low]);
        return offset - 4;
    }
    let mut whole = [0; SERVER_HEADER_BYTES_MAX];
    header(length, opcode, &mut whole);
    bytes[offset - SERVER_HEADER_BYTES_MAX..offset].copy_from_slice(&whole);
    offset - SERVER_HEADER_BYTES_MAX
}

/// Appends a whole frame.
#[inline]
pub fn frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(SERVER_HEADER_BYTES_MAX + payload.len());
    if payload.len() < usize::from(LENGTH_16) {
        out.extend_from_slice(&[FIN | opcode as u8, payload.len() as u8]);
    } else {
        let mut bytes = [0; SERVER_HEADER_BYTES_MAX];
        let header_bytes = header(payload.len(), opcode, &mut bytes);
        out.extend_from_slice(&bytes[..header_bytes]);
    }
    out.extend_from_slice(payload);
}

/// Appends a whole frame that carries a compressed message (RFC 7692, section 6).
pub fn compressed_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let start = out.len();
    frame(out, opcode, payload);
    out[start] |= RSV1;
}

/// The opcode and the payload of a whole frame of the server, unless it is compressed.
pub fn plain_payload(frame: &[u8]) -> Option<(Opcode, &[u8])> {
    let opcode = match frame.first()? ^ FIN {
        1 => Opcode::Text,
        2 => Opcode::Binary,
        _ => return None,
    };
    let header_bytes = match *frame.get(1)? {
        LENGTH_16 => 4,
        LENGTH_64 => 10,
        _ => 2,
    };
    Some((opcode, frame.get(header_bytes..)?))
}

/// Appends a frame with the payload that `write` appends. Payloads up to 125 bytes stay where `write` put them; longer ones
/// are moved by 2 or 8 bytes to make room for the longer header.
#[inline]
pub fn frame_with(out: &mut Vec<u8>, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
    const SHORT: usize = 2;
    let start = out.len();
    out.extend_from_slice(&[FIN | opcode as u8, 0]);
    write(out);
    let payload_bytes = out.len() - start - SHORT;
    if payload_bytes < usize::from(LENGTH_16) {
        out[start + 1] = payload_bytes as u8;
        return;
    }
    let mut bytes = [0; SERVER_HEADER_BYTES_MAX];
    let header_bytes = header(payload_bytes, opcode, &mut bytes);
    out.extend_from_slice(&bytes[..header_bytes - SHORT]); // reserves room for the header
    out.copy_within(start + SHORT..start + SHORT + payload_bytes, start + header_bytes);
    out[start..start + header_bytes].copy_from_slice(&bytes[..header_bytes]);
}

/// Appends a close frame. A reason over 123 bytes is cut between two characters.
pub fn close_frame(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason.as_bytes()[..end];
    out.extend_from_slice(&[FIN | Opcode::Close as u8, 2 + reason.len() as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// Appends a whole, masked frame of a client: for clients, and for messages that wait as if the client had sent them.
pub fn client_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    let start = out.len();
    let mut bytes = [0; SERVER_HEADER_BYTES_MAX];
    let header_bytes = header(payload.len(), opcode, &mut bytes);
    out.reserve(header_bytes + mask.len() + payload.len());
    out.extend_from_slice(&bytes[..header_bytes]);
    out[start + 1] |= MASKED;
    out.extend_from_slice(&mask);
    out.extend_from_slice(payload);
    mask::unmask(&mut out[start + header_bytes + mask.len()..], mask, 0);
}

#[cfg(test)]
mod tests {
    use super::super::frame::parse_header;
    use super::*;

    const LENGTHS: [usize; 9] = [0, 1, 2, 125, 126, 127, 65_535, 65_536, 70_000];

    /// The frame as section 5.2 defines it, field by field.
    fn spelled(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..=125 => bytes.push(length as u8),
            length @ 126..=65_535 => bytes.extend([126, (length >> 8) as u8, length as u8]),
            length => {
                bytes.push(127);
                bytes.extend((0..8).rev().map(|at| (length as u64 >> (8 * at)) as u8));
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_of_every_length_form_are_appended() {
        for length in LENGTHS {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let expected = [b"before".to_vec(), spelled(2, &payload)].concat();
            let mut out = b"before".to_vec();
            frame(&mut out, Opcode::Binary, &payload);
            assert!(out == expected, "frame of {length}");
            let mut out = b"before".to_vec();
            frame_with(&mut out, Opcode::Binary, |out| payload.chunks(1000).for_each(|part| out.extend(part)));
            assert!(out == expected, "frame_with of {length}");
            let mut out = [b"before----------".to_vec(), payload].concat();
            let start = header_before(&mut out, 16..16 + length, Opcode::Binary);
            assert!(out[..start] == b"before----------"[..start], "the bytes before {length}");
            assert!(out[start..] == expected[6..], "header_before {length}");
        }
    }

    #[test]
    fn server_frame_gives_its_payload_back() {
        for length in LENGTHS {
            let payload = vec![b'x'; length];
            let mut out = Vec::new();
            frame(&mut out, Opcode::Text, &payload);
            assert_eq!(plain_payload(&out), Some((Opcode::Text, &payload[..])));
            out.clear();
            compressed_frame(&mut out, Opcode::Text, &payload);
            assert_eq!((out[0], plain_payload(&out)), (0xc1, None));
        }
    }

    #[test]
    fn client_frames_are_read_by_the_parser() {
        for length in LENGTHS {
            let payload = vec![b'x'; length];
            let mut out = b"before".to_vec();
            client_frame(&mut out, Opcode::Text, &payload, [9, 8, 7, 6]);
            let header = parse_header(&out[6..]).unwrap().unwrap();
            assert!(header.fin && header.opcode == Opcode::Text && header.mask == [9, 8, 7, 6]);
            assert_eq!(header.payload_bytes, length as u64);
            let body = &mut out[6 + usize::from(header.header_bytes)..];
            mask::unmask(body, header.mask, 0);
            assert!(body == payload);
        }
    }

    #[test]
    fn close_reason_is_cut_between_two_characters() {
        let mut out = Vec::new();
        close_frame(&mut out, 1009, "too big");
        assert_eq!(out, b"\x88\x09\x03\xf1too big");
        let umlauts = "ü".repeat(62);
        out.clear();
        close_frame(&mut out, 3001, &umlauts);
        assert_eq!(out.len(), 2 + 2 + 122);
        assert_eq!(out[1], 124);
        assert_eq!(std::str::from_utf8(&out[4..]), Ok(&umlauts[..122]));
        out.clear();
        close_frame(&mut out, 3001, &"a".repeat(200));
        assert_eq!(out[1], 125);
    }
}
