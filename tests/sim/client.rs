//! A simulated client: what it asked, and a judge of what it gets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use corecast::ids::ConnId;
use corecast::ws::Opcode;
use corecast::ws::encode::client_frame;
use serde_json::Value;

use super::socket::Wire;

/// What every subscriber of a channel must agree on: which payload stands at which offset.
pub type Truth = HashMap<(usize, u64), u64>;

pub struct Client {
    pub wire: Rc<RefCell<Wire>>,
    pub shard: usize,
    pub conn: ConnId,
    /// Commands sent and not answered, by id.
    pub open: HashMap<u64, Asked>,
    /// Channels it is subscribed to, with the last offset it got there.
    pub live: HashMap<usize, Option<u64>>,
    pub close_code: Option<u16>,
    /// Offsets that were jumped over.
    pub gaps: u64,
    pub received: u64,
    upgraded: bool,
    unread: Vec<u8>,
    next_id: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Connect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish(usize),
}

const UPGRADE: &[u8] =
    b"GET /connection/websocket HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

impl Client {
    pub fn new(wire: Rc<RefCell<Wire>>, shard: usize, conn: ConnId) -> Self {
        wire.borrow_mut().to_server.extend(UPGRADE);
        let mut client = Self {
            wire,
            shard,
            conn,
            open: HashMap::new(),
            live: HashMap::new(),
            close_code: None,
            gaps: 0,
            received: 0,
            upgraded: false,
            unread: Vec::new(),
            next_id: 0,
        };
        client.ask(Asked::Connect, 0);
        client
    }

    pub fn ask(&mut self, asked: Asked, payload: u64) {
        self.next_id += 1;
        let id = self.next_id;
        let text = match asked {
            Asked::Connect => format!("{{\"id\":{id},\"connect\":{{}}}}"),
            Asked::Subscribe(c) => format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"c{c}\"}}}}"),
            Asked::Unsubscribe(c) => format!("{{\"id\":{id},\"unsubscribe\":{{\"channel\":\"c{c}\"}}}}"),
            Asked::Publish(c) => format!("{{\"id\":{id},\"publish\":{{\"channel\":\"c{c}\",\"data\":{payload}}}}}"),
        };
        self.open.insert(id, asked);
        let mut frame = Vec::new();
        client_frame(&mut frame, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        self.wire.borrow_mut().to_server.extend(frame);
    }

    pub fn gone(&self) -> bool {
        self.close_code.is_some() || self.wire.borrow().server_closed || self.wire.borrow().reset
    }

    /// Reads all that is there, and gives the server room for `room` bytes. True where that is an edge for it.
    pub fn read(&mut self, room: usize, truth: &mut Truth) -> bool {
        let edge = {
            let mut wire = self.wire.borrow_mut();
            let bytes = std::mem::take(&mut wire.to_client);
            self.unread.extend(bytes);
            wire.room = wire.room.max(room);
            room > 0 && std::mem::take(&mut wire.blocked)
        };
        if !self.upgraded {
            let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") else { return edge };
            assert!(self.unread.starts_with(b"HTTP/1.1 101"));
            self.unread.drain(..end + 4);
            self.upgraded = true;
        }
        while let Some((opcode, payload)) = next_frame(&mut self.unread) {
            assert_eq!(self.close_code, None, "nothing follows a close frame");
            match opcode {
                1 => self.judge(&payload, truth),
                8 => self.close_code = Some(u16::from_be_bytes([payload[0], payload[1]])),
                other => panic!("opcode {other}"),
            }
        }
        edge
    }

    fn judge(&mut self, payload: &[u8], truth: &mut Truth) {
        let message: Value = serde_json::from_slice(payload).expect("JSON");
        if let Some(publication) = message.pointer("/push/pub") {
            let channel = message["push"]["channel"].as_str().expect("a name")[1..].parse().expect("a number");
            let offset = publication["offset"].as_u64().expect("history is on");
            let data = publication["data"].as_u64().expect("a number");
            return self.delivered(channel, offset, data, truth);
        }
        let id = message["id"].as_u64().expect("an answer");
        let asked = self.open.remove(&id).expect("every command is answered once");
        let refused = message["error"]["code"].as_u64();
        match asked {
            Asked::Connect | Asked::Publish(_) => assert_eq!(refused, None),
            Asked::Subscribe(channel) if refused.is_none() => {
                assert!(message["subscribe"].is_object());
                assert!(self.live.insert(channel, None).is_none(), "subscribed twice");
            }
            Asked::Subscribe(_) => assert!(matches!(refused, Some(105 | 111)), "{message}"),
            Asked::Unsubscribe(channel) if refused.is_none() => drop(self.live.remove(&channel)),
            Asked::Unsubscribe(_) => assert_eq!(refused, Some(111)),
        }
    }

    fn delivered(&mut self, channel: usize, offset: u64, data: u64, truth: &mut Truth) {
        self.received += 1;
        assert_eq!(
            *truth.entry((channel, offset)).or_insert(data),
            data,
            "two truths at offset {offset} of c{channel}"
        );
        let last = self.live.get_mut(&channel).unwrap_or_else(|| panic!("c{channel}: not subscribed"));
        if let Some(last) = *last {
            assert!(offset > last, "c{channel}: {offset} after {last}");
            self.gaps += offset - last - 1;
        }
        *last = Some(offset);
    }
}

/// Takes one server frame from the front, if it is whole.
fn next_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (first, short) = (*bytes.first()?, usize::from(*bytes.get(1)?));
    let (header, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => panic!("no message here is that long"),
        short => (2, short),
    };
    if bytes.len() < header + length {
        return None;
    }
    let payload = bytes[header..header + length].to_vec();
    bytes.drain(..header + length);
    Some((first & 0x0f, payload))
}
