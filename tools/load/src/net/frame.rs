//! The client side of RFC 6455: the upgrade request and its response, masked frames out, unmasked frames in.
//!
//! Functions over byte slices, without sockets and without state. The receiving side only finds where frames begin and end; the
//! caller knows what is inside.
//! Invariant: "not enough bytes" is `Ok(None)`; an error means that the peer broke the protocol.

/// The key of RFC 6455, section 1.3. All connections use it: its accept value is known, so no hash is computed.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// On an opcode: the message is compressed.
pub const RSV1: u8 = 0x40;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The limit on the head of an HTTP response.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The limit on one frame.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a server broke the protocol. The text is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The HTTP status of a rejected upgrade.
    Status(u16),
    NotHttp,
    WrongAccept,
    Masked,
    /// Also a compressed frame without negotiated compression.
    ReservedBits,
    TooLong,
    /// A compressed message that cannot be inflated.
    Inflate,
    /// Compression was requested and is not in the response.
    NotCompressed,
    /// The messaging protocol responded with an error, or with something unreadable.
    Response(String),
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Status(status) => return write!(f, "upgrade rejected with HTTP {status}"),
            Self::Response(text) => text,
            Self::NotHttp => "the response to the upgrade is not HTTP",
            Self::WrongAccept => "wrong Sec-WebSocket-Accept",
            Self::Masked => "masked frame from the server",
            Self::ReservedBits => "reserved bit set",
            Self::Inflate => "message cannot be inflated",
            Self::NotCompressed => "the server does not accept permessage-deflate",
            Self::TooLong => "head or frame too long",
        })
    }
}

/// The upgrade request for `path` at `host`; `headers` is whole header lines or empty.
pub fn request(host: &str, path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// The head of an HTTP/1.1 response: its status, its header lines, and its length.
pub struct ResponseHead<'a> {
    pub status: u16,
    pub bytes: usize,
    lines: &'a [u8],
}

impl<'a> ResponseHead<'a> {
    /// Parses the head at the beginning of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, ProtocolError> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > HEAD_BYTES_MAX { Err(ProtocolError::TooLong) } else { Ok(None) };
        };
        let status = bytes[..end].strip_prefix(b"HTTP/1.1 ").and_then(|rest| number(rest.get(..3)?));
        let status = status.ok_or(ProtocolError::NotHttp)? as u16;
        Ok(Some(Self { status, bytes: end + 4, lines: &bytes[..end] }))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.lines.split(|&b| b == b'\n').skip(1).find_map(|line| {
            let (found, value) = line.split_at(memchr::memchr(b':', line)?);
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
        })
    }
}

/// A decimal number.
pub fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Checks the response to [`request`] and returns its length; `deflate` says whether compression was requested.
pub fn response(bytes: &[u8], deflate: bool) -> Result<Option<usize>, ProtocolError> {
    let Some(head) = ResponseHead::parse(bytes)? else { return Ok(None) };
    let compressed = || head.header("sec-websocket-extensions").is_some_and(|v| v.starts_with(b"permessage-deflate"));
    match head.status {
        101 if head.header("sec-websocket-accept") != Some(ACCEPT) => Err(ProtocolError::WrongAccept),
        101 if deflate && !compressed() => Err(ProtocolError::NotCompressed),
        101 => Ok(Some(head.bytes)),
        status => Err(ProtocolError::Status(status)),
    }
}

/// The header of a frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub opcode: u8,
    pub fin: bool,
    /// RSV1: the message is compressed.
    pub compressed: bool,
    /// Bytes of the header.
    pub head: usize,
    /// Bytes of the payload.
    pub len: usize,
}

impl Header {
    pub fn is_control(self) -> bool {
        self.opcode & 8 != 0
    }

    pub fn total(self) -> usize {
        self.head + self.len
    }
}

/// Parses the header at the beginning of `bytes`; `deflate` says whether compression was negotiated.
pub fn header(bytes: &[u8], deflate: bool) -> Result<Option<Header>, ProtocolError> {
    if bytes.len() < 2 {
        return Ok(None);
    }
    // Section 5.2: reserved bits are zero unless an extension defines them. Section 5.1: a server does not mask.
    if bytes[0] & (if deflate { 0x30 } else { 0x70 }) != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    if bytes[1] & 0x80 != 0 {
        return Err(ProtocolError::Masked);
    }
    let (head, len) = match bytes[1] {
        126 => match bytes[2..].first_chunk() {
            Some(wide) => (4, usize::from(u16::from_be_bytes(*wide))),
            None => return Ok(None),
        },
        127 => match bytes[2..].first_chunk() {
            Some(wide) => (10, usize::try_from(u64::from_be_bytes(*wide)).unwrap_or(usize::MAX)),
            None => return Ok(None),
        },
        short => (2, usize::from(short)),
    };
    if len > FRAME_BYTES_MAX {
        return Err(ProtocolError::TooLong);
    }
    Ok(Some(Header { opcode: bytes[0] & 15, fin: bytes[0] & 0x80 != 0, compressed: bytes[0] & RSV1 != 0, head, len }))
}

/// Appends the header of a final frame of `len` bytes; `masked` is the flag in its second byte.
pub fn write_header(out: &mut Vec<u8>, opcode: u8, len: usize, masked: bool) {
    let flag = if masked { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match len {
        0..=125 => out.push(flag | len as u8),
        126..=0xffff => {
            out.push(flag | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(flag | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends a masked frame whose payload is the concatenation of `parts`.
pub fn write_masked(out: &mut Vec<u8>, opcode: u8, key: [u8; 4], parts: &[&[u8]]) {
    write_header(out, opcode, parts.iter().map(|part| part.len()).sum(), true);
    out.extend_from_slice(&key);
    let start = out.len();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    mask(&mut out[start..], key);
}

/// Section 5.3: byte i is XORed with key byte i mod 4.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        word.iter_mut().zip(key).for_each(|(byte, k)| *byte ^= k);
    }
    words.into_remainder().iter_mut().zip(key).for_each(|(byte, k)| *byte ^= k);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::coding::{Data, OpCode};

    #[test]
    fn masked_frames_are_read_by_an_independent_implementation() {
        for len in [0, 1, 5, 125, 126, 65_535, 65_536] {
            let body: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let (a, b) = body.split_at(len / 3);
            let mut out = Vec::new();
            write_masked(&mut out, BINARY, [1, 2, 3, 250], &[a, b]);
            let mut socket = tungstenite::protocol::frame::FrameSocket::new(std::io::Cursor::new(out));
            let frame = socket.read(None).unwrap().unwrap();
            assert!(frame.header().is_final);
            assert_eq!(frame.header().opcode, OpCode::Data(Data::Binary));
            let mut payload = frame.payload().to_vec();
            if frame.header().mask.is_some() {
                mask(&mut payload, [1, 2, 3, 250]);
            }
            assert_eq!(payload, body);
        }
    }

    #[test]
    fn header_that_is_cut_at_any_byte_is_incomplete() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            write_header(&mut out, TEXT, len, false);
            for cut in 0..out.len() {
                assert_eq!(header(&out[..cut], false), Ok(None));
            }
            let expected = Header { opcode: TEXT, fin: true, compressed: false, head: out.len(), len };
            assert_eq!(header(&out, true), Ok(Some(expected)));
        }
    }

    #[test]
    fn frames_that_a_server_must_not_send_are_rejected() {
        assert_eq!(header(&[0x81, 0x80], false), Err(ProtocolError::Masked));
        assert_eq!(header(&[0xc1, 0x00], false), Err(ProtocolError::ReservedBits));
        assert!(header(&[0xc1, 0x00], true).unwrap().unwrap().compressed);
        assert_eq!(header(&[0xe1, 0x00], true), Err(ProtocolError::ReservedBits));
        assert_eq!(header(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0], false), Err(ProtocolError::TooLong));
    }

    #[test]
    fn upgrade_response_needs_status_101_and_the_right_accept_value() {
        let good = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            SEC-websocket-accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nrest";
        assert_eq!(response(good, false), Ok(Some(good.len() - 4)));
        for cut in 0..good.len() - 4 {
            assert_eq!(response(&good[..cut], false), Ok(None));
        }
        assert_eq!(response(good, true), Err(ProtocolError::NotCompressed));
        assert_eq!(response(b"HTTP/1.1 404 Not Found\r\n\r\n", false), Err(ProtocolError::Status(404)));
        assert_eq!(response(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", false), Err(ProtocolError::WrongAccept));
        assert_eq!(response(b"SSH-2.0\r\n\r\n", false), Err(ProtocolError::NotHttp));
    }
}
