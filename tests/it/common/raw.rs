//! A bare socket: frames as bytes, whole or in pieces, valid or not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::stream::read_head;
use super::{Server, connect};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame from the server.
#[derive(PartialEq, Eq, Debug)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { opcode, payload: payload.into() }
    }

    /// A close frame with this code and any reason.
    pub fn is_close(&self, code: u16) -> bool {
        self.opcode == CLOSE && self.payload.starts_with(&code.to_be_bytes())
    }
}

/// A whole message in one masked frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_part(opcode, true, payload, [0x1b, 0xad, 0xf0, 0x0d])
}

/// A client's frame (RFC 6455, section 5.2) with the shortest length form.
pub fn frame_part(opcode: u8, fin: bool, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![opcode | u8::from(fin) << 7];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A valid upgrade request.
pub fn upgrade_request(path: &str) -> String {
    upgrade_with(path, &[])
}

/// The same with more header fields.
pub fn upgrade_with(path: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

pub struct Raw(pub TcpStream);

impl Raw {
    /// Connected, without a request.
    pub fn connect(server: &Server) -> Self {
        Self(connect(server.client))
    }

    /// An open WebSocket.
    pub fn open(server: &Server, path: &str) -> Self {
        let mut raw = Self::connect(server);
        raw.send(upgrade_request(path).as_bytes());
        raw.take_upgrade();
        raw
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server accepts the bytes");
    }

    pub fn send_byte_by_byte(&mut self, bytes: &[u8]) {
        for byte in bytes.chunks(1) {
            self.send(byte);
        }
    }

    /// The head of the response, up to its empty line; the bytes after it stay in the socket.
    pub fn head(&mut self) -> String {
        read_head(&mut self.0)
    }

    pub fn take_upgrade(&mut self) {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    }

    /// The next frame of the server, which must be whole, final and not masked.
    pub fn frame(&mut self) -> Frame {
        let (compressed, frame) = self.extended_frame();
        assert!(!compressed, "no reserved bit");
        frame
    }

    /// The same, and whether it is compressed (RSV1).
    pub fn extended_frame(&mut self) -> (bool, Frame) {
        let mut take = |n: usize| {
            let mut bytes = vec![0; n];
            self.0.read_exact(&mut bytes).expect("a whole frame");
            bytes
        };
        let start = take(2);
        assert_eq!(start[0] & 0xb0, 0x80, "final, and no reserved bit but the first");
        let length = match start[1] {
            126 => take(2).iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
            127 => take(8).iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
            short => usize::from(short),
        };
        assert!(start[1] < 128, "a server masks nothing");
        (start[0] & 0x40 != 0, Frame { opcode: start[0] & 0xf, payload: take(length) })
    }

    /// All bytes up to the server's end of the connection. Errors: the connection was reset.
    pub fn rest(&mut self) -> Result<Vec<u8>, ErrorKind> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            Err(error) => Err(error.kind()),
        }
    }

    /// Expects a FIN without more bytes and without a reset.
    pub fn expect_end(&mut self) {
        assert_eq!(self.rest(), Ok(Vec::new()));
    }

    /// Closes the connection with a reset instead of a FIN.
    pub fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }
}
