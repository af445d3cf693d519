//! The client's side of RFC 6455: the upgrade request and its answer, masked frames out, unmasked frames in.
//!
//! Plan: functions over byte slices; no sockets, no state. The receiving side only finds where frames begin and end: what is
//! inside belongs to the caller, who mostly knows the layout already.
//! Invariant: "not enough bytes" is `Ok(None)`; an error means that the peer broke the protocol.

/// The key of RFC 6455, section 1.3. One key for all connections: its accept value is known, so no hash is computed.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// On an opcode: the message is deflated.
pub const RSV1: u8 = 0x40;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Bytes of an answer's head that we are willing to hold.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one frame that we are willing to hold.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a peer did wrong; the text is shown to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The upgrade was answered by this HTTP status.
    Status(u16),
    NotHttp,
    WrongAccept,
    Masked,
    ReservedBits,
    TooLong,
    /// A compressed frame where none was agreed on is `ReservedBits`; this is one that cannot be inflated.
    Inflate,
    /// Compression was asked for and is not in the answer.
    Uncompressed,
    /// The message protocol answered by an error, or by what we cannot read.
    Answer(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "upgrade answered with HTTP {status}"),
            Self::NotHttp => f.write_str("upgrade answered with something that is not HTTP"),
            Self::WrongAccept => f.write_str("wrong Sec-WebSocket-Accept"),
            Self::Masked => f.write_str("masked frame from the server"),
            Self::ReservedBits => f.write_str("reserved bit set"),
            Self::Inflate => f.write_str("message that cannot be inflated"),
            Self::Uncompressed => f.write_str("the server does not agree to permessage-deflate"),
            Self::TooLong => f.write_str("head or frame too long"),
            Self::Answer(text) => f.write_str(text),
        }
    }
}

/// The upgrade request for `path` at `host`; `more` is whole header lines or empty.
pub fn request(host: &str, path: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}

/// Looks for the whole answer to [`request`] and gives its length; `deflate` was asked for or not.
pub fn response(bytes: &[u8], deflate: bool) -> Result<Option<usize>, Fault> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(Fault::TooLong) } else { Ok(None) };
    };
    let mut lines = bytes[..end].split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let status = lines.next().unwrap_or_default();
    if !status.starts_with(b"HTTP/1.1 ") || status.len() < 12 {
        return Err(Fault::NotHttp);
    }
    let code = std::str::from_utf8(&status[9..12]).ok().and_then(|s| s.parse().ok()).ok_or(Fault::NotHttp)?;
    if code != 101 {
        return Err(Fault::Status(code));
    }
    let (mut accepted, mut compressed) = (false, false);
    for line in lines {
        let mut parts = line.splitn(2, |&b| b == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default().trim_ascii();
        accepted |= name.eq_ignore_ascii_case(b"sec-websocket-accept") && value == ACCEPT;
        compressed |=
            name.eq_ignore_ascii_case(b"sec-websocket-extensions") && value.starts_with(b"permessage-deflate");
    }
    match (accepted, compressed || !deflate) {
        (true, true) => Ok(Some(end + 4)),
        (true, false) => Err(Fault::Uncompressed),
        (false, _) => Err(Fault::WrongAccept),
    }
}

/// A server frame's header: where the payload begins and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub opcode: u8,
    pub fin: bool,
    /// RSV1: the message was deflated.
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

/// Reads the header at the beginning of `bytes`; `deflate` was agreed on or not.
pub fn header(bytes: &[u8], deflate: bool) -> Result<Option<Header>, Fault> {
    if bytes.len() < 2 {
        return Ok(None);
    }
    // Section 5.2: RSV bits that no extension gave a meaning are zero. Section 5.1: a server does not mask.
    if bytes[0] & (if deflate { 0x30 } else { 0x70 }) != 0 {
        return Err(Fault::ReservedBits);
    }
    if bytes[1] & 0x80 != 0 {
        return Err(Fault::Masked);
    }
    let (head, len) = match bytes[1] {
        126 if bytes.len() < 4 => return Ok(None),
        127 if bytes.len() < 10 => return Ok(None),
        126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
        127 => {
            let mut wide = [0; 8];
            wide.copy_from_slice(&bytes[2..10]);
            (10, usize::try_from(u64::from_be_bytes(wide)).unwrap_or(usize::MAX))
        }
        short => (2, usize::from(short)),
    };
    if len > FRAME_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    Ok(Some(Header { opcode: bytes[0] & 15, fin: bytes[0] & 0x80 != 0, compressed: bytes[0] & RSV1 != 0, head, len }))
}

/// Appends the header of a frame of `len` bytes; `masked` is the flag in its second byte.
pub fn put_header(out: &mut Vec<u8>, opcode: u8, len: usize, masked: bool) {
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

/// Appends one whole masked frame whose payload is the parts in a row.
pub fn put_masked(out: &mut Vec<u8>, opcode: u8, key: [u8; 4], parts: &[&[u8]]) {
    put_header(out, opcode, parts.iter().map(|part| part.len()).sum(), true);
    out.extend_from_slice(&key);
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    mask(&mut out[start..], key);
}

/// Section 5.3: byte i is XORed with key byte i mod 4.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, k) in word.iter_mut().zip(key) {
            *byte ^= k;
        }
    }
    for (byte, k) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= k;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::coding::{Data, OpCode};

    #[test]
    fn masked_frames_are_read_by_an_independent_peer() {
        for len in [0, 1, 5, 125, 126, 65_535, 65_536] {
            let body: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let (a, b) = body.split_at(len / 3);
            let mut out = Vec::new();
            put_masked(&mut out, BINARY, [1, 2, 3, 250], &[a, b]);
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
    fn header_asks_for_more_at_every_split_and_then_agrees() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let mut out = Vec::new();
            put_header(&mut out, TEXT, len, false);
            for cut in 0..out.len() {
                assert_eq!(header(&out[..cut], false), Ok(None));
            }
            let expected = Header { opcode: TEXT, fin: true, compressed: false, head: out.len(), len };
            assert_eq!(header(&out, true), Ok(Some(expected)));
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_named() {
        assert_eq!(header(&[0x81, 0x80], false), Err(Fault::Masked));
        assert_eq!(header(&[0xc1, 0x00], false), Err(Fault::ReservedBits));
        assert!(header(&[0xc1, 0x00], true).unwrap().unwrap().compressed);
        assert_eq!(header(&[0xe1, 0x00], true), Err(Fault::ReservedBits));
        assert_eq!(header(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0], false), Err(Fault::TooLong));
    }

    #[test]
    fn the_answer_is_accepted_only_with_101_and_the_right_accept() {
        let good = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            SEC-websocket-accept:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nrest";
        assert_eq!(response(good, false), Ok(Some(good.len() - 4)));
        for cut in 0..good.len() - 4 {
            assert_eq!(response(&good[..cut], false), Ok(None));
        }
        assert_eq!(response(good, true), Err(Fault::Uncompressed));
        assert_eq!(response(b"HTTP/1.1 404 Not Found\r\n\r\n", false), Err(Fault::Status(404)));
        assert_eq!(response(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", false), Err(Fault::WrongAccept));
        assert_eq!(response(b"SSH-2.0\r\n\r\n", false), Err(Fault::NotHttp));
    }
}
