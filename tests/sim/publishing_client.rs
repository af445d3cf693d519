//! A simulated client of `publish_simulation`: the commands it sent, and the check of what it receives.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use corecast::ids::ConnId;
use corecast::ws::Opcode;
use serde_json::Value;

use super::client_socket::ClientSocket;
use super::socket::Pipe;

/// What all subscribers must agree on: the payload at each offset of a channel.
pub type Payloads = HashMap<(usize, u64), u64>;

pub struct Client {
    pub socket: ClientSocket,
    /// Commands sent and not answered, by id.
    pub open: HashMap<u64, Command>,
    /// Channels it is subscribed to, with the last offset it got there.
    pub live: HashMap<usize, Option<u64>>,
    /// Offsets that it did not receive.
    pub gaps: u64,
    pub received: u64,
    next_id: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Connect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish(usize),
}

impl Client {
    pub fn new(pipe: Rc<RefCell<Pipe>>, shard: usize, conn: ConnId) -> Self {
        let mut client = Self {
            socket: ClientSocket::new(pipe, shard, conn, ""),
            open: HashMap::new(),
            live: HashMap::new(),
            gaps: 0,
            received: 0,
            next_id: 0,
        };
        client.send(Command::Connect, 0);
        client
    }

    pub fn send(&mut self, command: Command, payload: u64) {
        self.next_id += 1;
        let id = self.next_id;
        let text = match command {
            Command::Connect => format!("{{\"id\":{id},\"connect\":{{}}}}"),
            Command::Subscribe(c) => format!("{{\"id\":{id},\"subscribe\":{{\"channel\":\"c{c}\"}}}}"),
            Command::Unsubscribe(c) => format!("{{\"id\":{id},\"unsubscribe\":{{\"channel\":\"c{c}\"}}}}"),
            Command::Publish(c) => format!("{{\"id\":{id},\"publish\":{{\"channel\":\"c{c}\",\"data\":{payload}}}}}"),
        };
        self.open.insert(id, command);
        self.socket.send(Opcode::Text, text.as_bytes());
    }

    /// Reads what was sent and gives the server room for `room` bytes. True if that is a writable edge for it.
    pub fn read(&mut self, room: usize, payloads: &mut Payloads) -> bool {
        let edge = self.socket.read(room);
        while let Some(payload) = self.socket.message() {
            self.check(&payload, payloads);
        }
        edge
    }

    fn check(&mut self, payload: &[u8], payloads: &mut Payloads) {
        let message: Value = serde_json::from_slice(payload).expect("JSON");
        if let Some(publication) = message.pointer("/push/pub") {
            let channel = message["push"]["channel"].as_str().expect("a name")[1..].parse().expect("a number");
            let offset = publication["offset"].as_u64().expect("history is on");
            let data = publication["data"].as_u64().expect("a number");
            return self.delivered(channel, offset, data, payloads);
        }
        let id = message["id"].as_u64().expect("an answer");
        let command = self.open.remove(&id).expect("every command is answered once");
        let error = message["error"]["code"].as_u64();
        match command {
            Command::Connect | Command::Publish(_) => assert_eq!(error, None),
            Command::Subscribe(channel) if error.is_none() => {
                assert!(message["subscribe"].is_object());
                assert!(self.live.insert(channel, None).is_none(), "subscribed twice");
            }
            Command::Subscribe(_) => assert!(matches!(error, Some(105 | 111)), "{message}"),
            Command::Unsubscribe(channel) if error.is_none() => drop(self.live.remove(&channel)),
            Command::Unsubscribe(_) => assert_eq!(error, Some(111)),
        }
    }

    fn delivered(&mut self, channel: usize, offset: u64, data: u64, payloads: &mut Payloads) {
        self.received += 1;
        assert_eq!(
            *payloads.entry((channel, offset)).or_insert(data),
            data,
            "two payloads at offset {offset} of c{channel}"
        );
        let last = self.live.get_mut(&channel).unwrap_or_else(|| panic!("c{channel}: not subscribed"));
        if let Some(last) = *last {
            assert!(offset > last, "c{channel}: {offset} after {last}");
            self.gaps += offset - last - 1;
        }
        *last = Some(offset);
    }
}
