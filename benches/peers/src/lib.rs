//! The common parts of the servers for comparison: their command line, pinning, the upgrade, and frames of one size.
//!
//! The limit servers do less than a real server can: they know the size of the input and the bytes of the output. They
//! show the cost of the system calls alone; the ratio of a real server to them is the figure of interest.

use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use tungstenite::protocol::frame::FrameHeader;
pub use tungstenite::protocol::frame::coding::Data;
use tungstenite::protocol::frame::coding::OpCode;

/// Bytes of the one receive buffer.
pub const RECEIVE_BYTES: usize = 256 * 1024;

/// Where to listen and where to run; every server takes these options.
#[derive(Clone, Copy, Debug, Parser)]
pub struct Place {
    /// ADDRESS:PORT; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The core to run on
    #[arg(long)]
    pub core: Option<usize>,
}

impl Place {
    /// Pins this thread, raises the limit of open files, and prints the address.
    pub fn prepare_and_announce(&self, addr: SocketAddr) {
        if let Some(core) = self.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
        {
            eprintln!("could not be pinned to core {core}");
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
        println!("listening on {addr}");
        let _ = io::stdout().flush();
    }
}

/// The token of the listener; all other tokens are slots of the slab.
pub const LISTENER: Token = Token(usize::MAX);

/// A poll with the listener registered, on the chosen core; prints the address.
pub fn open(place: &Place) -> io::Result<(Poll, TcpListener)> {
    let poll = Poll::new()?;
    let mut listener = TcpListener::bind(place.listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    place.prepare_and_announce(listener.local_addr()?);
    Ok((poll, listener))
}

/// Waits for events. A tracer that attaches interrupts the wait, which then continues.
pub fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(e) if e.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => other,
    }
}

/// A socket during its upgrade. Requests are small: one read returns the whole request, or the connection is dropped.
/// Returns the requested path, `None` if nothing has arrived yet.
pub fn upgrade(socket: &mut TcpStream, rx: &mut [u8]) -> io::Result<Option<String>> {
    let n = match socket.read(rx) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(n) => n,
        Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(e) => return Err(e),
    };
    let (path, answer) = answer(&rx[..n]).ok_or(ErrorKind::InvalidData)?;
    socket.write_all(answer.as_bytes())?;
    Ok(Some(path))
}

/// The path of a whole upgrade request, and the response.
pub fn answer(request: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(request.strip_suffix(b"\r\n\r\n")?).ok()?;
    let mut lines = text.split("\r\n");
    let path = lines.next()?.strip_prefix("GET ")?.split(' ').next()?.to_string();
    let key = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((path, answer))
}

fn data_header(data: Data, mask: Option<[u8; 4]>) -> FrameHeader {
    FrameHeader { opcode: OpCode::Data(data), mask, ..FrameHeader::default() }
}

/// The header of a server frame with `len` bytes.
pub fn header(data: Data, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    data_header(data, None).format(len as u64, &mut out).expect("a vector takes all bytes");
    out
}

/// Bytes of a masked frame with a payload of `size` bytes.
pub fn masked_bytes(size: usize) -> usize {
    data_header(Data::Binary, Some([0; 4])).len(size as u64) + size
}

/// The bytes around a publication's payload so that the whole frame has `frame_bytes` bytes: a push of the client
/// protocol in form and, padded, in length.
pub fn around(frame_bytes: usize, size: usize) -> (String, String) {
    let before = r#"{"push":{"channel":"load","pub":{"data":""#;
    let after = r#""}}}"#;
    let head = match frame_bytes {
        0..=127 => 2,
        128..=65_539 => 4,
        _ => 10,
    };
    let pad = frame_bytes.saturating_sub(head + before.len() + size + after.len());
    if frame_bytes < head + size {
        return (String::new(), String::new());
    }
    if pad == 0 && frame_bytes < head + before.len() + size + after.len() {
        return (String::new(), " ".repeat(frame_bytes - head - size));
    }
    (before.to_string(), format!("\"{}{}", " ".repeat(pad), &after[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrade_is_answered_per_rfc_6455() {
        let request = b"GET /sub?x HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let (path, answer) = answer(request).unwrap();
        assert_eq!(path, "/sub?x");
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(super::answer(b"GET / HTTP/1.1\r\n").is_none());
    }

    #[test]
    fn frame_has_the_requested_length() {
        for frame_bytes in [64, 66, 70, 107, 110, 127, 128, 131, 180, 300] {
            let (before, after) = around(frame_bytes, 62);
            let len = before.len() + 62 + after.len();
            let got = header(Data::Text, len).len() + len;
            // One header length is impossible between the two forms; every other length is exact.
            assert!(got == frame_bytes || (128..130).contains(&frame_bytes), "{frame_bytes}: {got}");
        }
        assert_eq!(masked_bytes(16), 22);
        assert_eq!(masked_bytes(65_536), 65_550);
    }
}
