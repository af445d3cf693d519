//! The client's side of a simulated connection: the upgrade request, frames out, frames in.

use std::cell::RefCell;
use std::rc::Rc;

use corecast::ids::ConnId;
use corecast::ws::Opcode;
use corecast::ws::encode::client_frame;

use super::socket::Pipe;

pub struct ClientSocket {
    pub pipe: Rc<RefCell<Pipe>>,
    pub shard: usize,
    pub conn: ConnId,
    pub close_code: Option<u16>,
    upgraded: bool,
    unread: Vec<u8>,
}

const HEAD: &str = "GET /connection/websocket HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl ClientSocket {
    /// Sends the upgrade request, with a subprotocol if one is named.
    pub fn new(pipe: Rc<RefCell<Pipe>>, shard: usize, conn: ConnId, subprotocol: &str) -> Self {
        let protocol = match subprotocol {
            "" => String::new(),
            name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
        };
        pipe.borrow_mut().to_server.extend(format!("{HEAD}{protocol}\r\n").bytes());
        Self { pipe, shard, conn, close_code: None, upgraded: false, unread: Vec::new() }
    }

    pub fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        client_frame(&mut frame, opcode, payload, [1, 2, 3, 4]);
        self.pipe.borrow_mut().to_server.extend(frame);
    }

    pub fn is_gone(&self) -> bool {
        self.close_code.is_some() || self.pipe.borrow().server_closed || self.pipe.borrow().reset
    }

    /// Reads what was sent and gives the server room for `room` bytes. True if that is a writable edge for it.
    pub fn read(&mut self, room: usize) -> bool {
        let mut pipe = self.pipe.borrow_mut();
        let bytes = std::mem::take(&mut pipe.to_client);
        self.unread.extend(bytes);
        pipe.room = pipe.room.max(room);
        let edge = room > 0 && std::mem::take(&mut pipe.blocked);
        drop(pipe);
        if !self.upgraded
            && let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n")
        {
            assert!(self.unread.starts_with(b"HTTP/1.1 101"));
            self.unread.drain(..end + 4);
            self.upgraded = true;
        }
        edge
    }

    /// The next data message of what was read. Keeps the code of a close frame; nothing may follow it.
    pub fn message(&mut self) -> Option<Vec<u8>> {
        if !self.upgraded {
            return None;
        }
        let (opcode, payload) = next_frame(&mut self.unread)?;
        assert_eq!(self.close_code, None, "nothing follows a close frame");
        match opcode {
            1 | 2 => Some(payload),
            8 => {
                self.close_code = Some(u16::from_be_bytes([payload[0], payload[1]]));
                assert!(self.unread.is_empty(), "nothing follows a close frame");
                None
            }
            other => panic!("opcode {other}"),
        }
    }
}

/// Takes one server frame from the front, if it is whole.
fn next_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (first, short) = (*bytes.first()?, usize::from(*bytes.get(1)?));
    let (header, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let length: [u8; 8] = bytes.get(2..10)?.try_into().expect("eight bytes");
            (10, usize::try_from(u64::from_be_bytes(length)).expect("it fits"))
        }
        short => (2, short),
    };
    if bytes.len() < header + length {
        return None;
    }
    let payload = bytes[header..header + length].to_vec();
    bytes.drain(..header + length);
    Some((first & 0x0f, payload))
}
