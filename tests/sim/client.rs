//! A simulated client: what it asked, and a judge of what it gets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use corecast::ids::ConnId;
use corecast::ws::Opcode;
use serde_json::Value;

use super::end::End;
use super::socket::Wire;

/// What every subscriber of a channel must agree on: which payload stands at which offset.
pub type Truth = HashMap<(usize, u64), u64>;

pub struct Client {
    pub end: End,
    /// Commands sent and not answered, by id.
    pub open: HashMap<u64, Asked>,
    /// Channels it is subscribed to, with the last offset it got there.
    pub live: HashMap<usize, Option<u64>>,
    /// Offsets that were jumped over.
    pub gaps: u64,
    pub received: u64,
    next_id: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Connect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish(usize),
}

impl Client {
    pub fn new(wire: Rc<RefCell<Wire>>, shard: usize, conn: ConnId) -> Self {
        let mut client = Self {
            end: End::new(wire, shard, conn, ""),
            open: HashMap::new(),
            live: HashMap::new(),
            gaps: 0,
            received: 0,
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
        self.end.send(Opcode::Text, text.as_bytes());
    }

    /// Reads all that is there, and gives the server room for `room` bytes. True where that is an edge for it.
    pub fn read(&mut self, room: usize, truth: &mut Truth) -> bool {
        let edge = self.end.pull(room);
        while let Some(payload) = self.end.message() {
            self.judge(&payload, truth);
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
