//! A WebSocket client that blocks: it sends commands and finds words in what it reads, or does not read at all.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corecast_load::net::frame;

use crate::reply_attack::Encoding;

/// How long to wait for any one event.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one read of a client that only drains its socket waits.
const DRAIN: Duration = Duration::from_millis(50);

/// A pause that is a part of the load.
pub fn wait_for_time(time: Duration) {
    std::thread::sleep(time);
}

pub struct Socket {
    stream: TcpStream,
    /// Bytes that were read and not looked at.
    received: Vec<u8>,
    ended: bool,
}

impl Socket {
    /// Upgraded and connected.
    pub fn connect(at: SocketAddr, encoding: Encoding) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, received: Vec::new(), ended: false };
        let query = if encoding == Encoding::Protobuf { "?cf_protocol=protobuf" } else { "" };
        socket.stream.write_all(
            format!(
                "GET /connection/websocket{query} HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            .as_bytes(),
        )?;
        socket.wait_for("\r\n\r\n")?;
        match encoding {
            Encoding::Json => socket.send_text(r#"{"id":1,"connect":{}}"#)?,
            Encoding::Protobuf => socket.send_binary(b"\x04\x08\x01\x22\x00")?,
        }
        // Both encodings contain the version.
        socket.wait_for("corecast")?;
        Ok(socket)
    }

    pub fn send_text(&mut self, payload: &str) -> Result<()> {
        self.send(frame::TEXT, payload.as_bytes())
    }

    pub fn send_binary(&mut self, payload: &[u8]) -> Result<()> {
        self.send(frame::BINARY, payload)
    }

    /// A whole frame with a mask of zeros (RFC 6455, section 5.2).
    fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        frame::write_masked(&mut bytes, opcode, [0; 4], &[payload]);
        self.stream.write_all(&bytes)
    }

    /// Reads until these words have come, and forgets everything before their end.
    pub fn wait_for(&mut self, words: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut chunk = [0; 16 * 1024];
        loop {
            let found = self.received.windows(words.len()).position(|window| window == words.as_bytes());
            if let Some(at) = found {
                self.received.drain(..at + words.len());
                return Ok(());
            }
            // What comes next may complete words whose beginning is here.
            let useless = self.received.len().saturating_sub(words.len());
            self.received.drain(..useless);
            if Instant::now() > deadline {
                return Err(Error::new(ErrorKind::TimedOut, format!("{words:?} did not come")));
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(Error::new(ErrorKind::UnexpectedEof, format!("closed before {words:?}"))),
                n => self.received.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Reads and drops what has come. Returns the bytes.
    pub fn read_some(&mut self) -> u64 {
        let mut chunk = [0; 64 * 1024];
        let _ = self.stream.set_read_timeout(Some(DRAIN));
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(n) => return n as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.ended = true,
        }
        0
    }

    /// The end was read, or the socket has failed. A client that does not read does not see an end behind unread bytes.
    pub fn has_ended(&self) -> bool {
        self.ended || self.stream.take_error().is_ok_and(|error| error.is_some())
    }
}
