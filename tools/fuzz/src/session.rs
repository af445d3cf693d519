//! A shard with a client of each encoding over sockets in memory. The input is a list of actions: frames of the clients, and
//! publications, subscriptions and infos of the server API, all with any bytes.

#[path = "../../../tests/sim/client_socket.rs"]
#[allow(dead_code)]
mod client_socket;
#[path = "../../../tests/sim/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "../../../tests/sim/socket.rs"]
#[allow(dead_code)]
pub(crate) mod socket;

use std::time::Duration;

use corecast::auth::grant::{Publish, RefreshGrant, SubscribeGrant};
use corecast::config::{Config, SlowConsumer};
use corecast::engine::Readiness;
use corecast::messaging::api_call::{ApiCall, ConnectionSelector};
use corecast::messaging::{ControlRequest, Settings};
use corecast::ws::Opcode;
use serde_json::Value;
use serde_json::value::RawValue;

use client_socket::ClientSocket;
use cluster::{Bounds, Cluster};

/// The channel of most actions.
const CHANNEL: &str = "x";
const FOREVER: Duration = Duration::from_secs(100_000);
const TURNS_MAX: usize = 10_000;
const ROOM: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Protobuf,
}

struct Client {
    socket: ClientSocket,
    encoding: Encoding,
    /// From its connect reply.
    id: String,
}

struct Stage {
    cluster: Cluster,
    clients: [Option<Client>; 2],
}

/// Each frame for a client of the JSON protocol is UTF-8, and each of its lines one JSON value.
pub fn session(data: &[u8]) {
    let mut stage = Stage::new();
    let mut rest = data;
    while let Some((&[kind, length], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        stage.act(kind, payload);
    }
}

impl Stage {
    fn new() -> Self {
        let mut config = Config { dev: false, ..Config::dev() };
        config.client.ping_interval = FOREVER;
        config.client.stale_close_delay = FOREVER;
        let bounds = Bounds {
            shards: 1,
            mailbox_batches: 64,
            // So few that every history, presence and recovery is paid for before it is produced.
            mail_bytes: 1 << 14,
            slice: 100,
            backlog_bytes: 1 << 20,
            backlogs_bytes: 1 << 20,
            slow_consumer: (SlowConsumer::Close, 0),
        };
        let settings = Settings::new(&config, |_| false);
        let cluster = Cluster::new(&bounds, settings, &mut fastrand::Rng::with_seed(1));
        let mut stage = Self { cluster, clients: [None, None] };
        stage.replace_closed();
        stage
    }

    /// Every closed connection is replaced by a new one that is connected and subscribed.
    fn replace_closed(&mut self) {
        for (index, encoding) in [Encoding::Json, Encoding::Protobuf].into_iter().enumerate() {
            if self.clients[index].as_ref().is_some_and(|client| !client.socket.is_gone()) {
                continue;
            }
            if let Some(client) = self.clients[index].take() {
                client.socket.pipe.borrow_mut().client_ended = true;
                self.cluster.readable(0, client.socket.conn);
            }
            let (conn, pipe) = self.cluster.connect(0, ROOM);
            let name = if encoding == Encoding::Json { "" } else { "centrifuge-protobuf" };
            self.clients[index] =
                Some(Client { socket: ClientSocket::new(pipe, 0, conn, name), encoding, id: String::new() });
            let commands: [&[u8]; 2] = match encoding {
                Encoding::Json => [
                    br#"{"id":1,"connect":{}}"#,
                    br#"{"id":2,"subscribe":{"channel":"x","join_leave":true,"recoverable":true}}"#,
                ],
                Encoding::Protobuf => [&[4, 8, 1, 0x22, 0], &[7, 8, 2, 0x2a, 3, 0x0a, 1, b'x']],
            };
            for command in commands {
                self.send(index, command);
            }
        }
    }

    fn send(&mut self, index: usize, payload: &[u8]) {
        let Some(client) = &mut self.clients[index] else { return };
        let is_text = client.encoding == Encoding::Json && std::str::from_utf8(payload).is_ok();
        client.socket.send(if is_text { Opcode::Text } else { Opcode::Binary }, payload);
        let conn = client.socket.conn;
        self.cluster.readable(0, conn);
        self.run();
    }

    fn act(&mut self, kind: u8, payload: &[u8]) {
        let publish = Publish { data: payload.to_vec(), delta: kind & 0x80 != 0, ..Publish::default() };
        let grant = SubscribeGrant { data: payload.to_vec(), info: payload.to_vec(), ..SubscribeGrant::default() };
        let channel = CHANNEL.into();
        let since = None;
        match kind % 8 {
            0 => self.send(0, payload),
            1 => self.send(1, payload),
            2 => self.send(1, &publish_command(payload)),
            3 => self.api(ApiCall::Publish { channel, publish }),
            4 => {
                let connections = self.selected(usize::from(kind >> 7));
                self.api(ApiCall::Subscribe { connections, channel: "y".into(), grant, since });
            }
            5 => {
                let connections = self.selected(usize::from(kind >> 7));
                self.api(ApiCall::Unsubscribe { connections, channel: "y".into() });
            }
            6 => {
                let connections = self.selected(usize::from(kind >> 7));
                let renewal = RefreshGrant { info: payload.to_vec(), ..RefreshGrant::default() };
                self.api(ApiCall::Refresh { connections, renewal });
            }
            _ => self.send(
                0,
                br#"{"id":9,"history":{"channel":"x","limit":10}}
{"id":10,"presence":{"channel":"x"}}"#,
            ),
        }
    }

    fn selected(&self, index: usize) -> ConnectionSelector {
        let client = self.clients[index].as_ref().map_or("", |client| &client.id);
        ConnectionSelector { user: "".into(), client: client.into(), session: "".into() }
    }

    fn api(&mut self, call: ApiCall) {
        self.cluster.request(0, ControlRequest::Api { call, answer: Box::new(drop) });
        self.run();
    }

    /// Turns until the shard is idle, then what the clients got.
    fn run(&mut self) {
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "the shard comes to rest");
            let mut is_idle = !self.cluster.turn(0);
            for client in self.clients.iter_mut().flatten() {
                if client.socket.read(ROOM) {
                    is_idle = false;
                    let conn = client.socket.conn;
                    self.cluster.edge(0, conn, Readiness { writable: true, ..Readiness::default() });
                }
            }
            if is_idle {
                break;
            }
        }
        for client in self.clients.iter_mut().flatten() {
            while let Some(message) = client.socket.message() {
                client.check(&message);
            }
        }
        if self.clients.iter().flatten().any(|client| client.socket.is_gone()) {
            self.replace_closed();
        }
    }
}

impl Client {
    fn check(&mut self, message: &[u8]) {
        if self.encoding == Encoding::Protobuf {
            // The id is the first field of the reply to connect.
            if let Some(at) = message.windows(2).position(|two| two == [0x0a, 36]).filter(|_| self.id.is_empty()) {
                let id = message.get(at + 2..at + 38).unwrap_or_default();
                self.id = String::from_utf8_lossy(id).into_owned();
            }
            return;
        }
        let text = std::str::from_utf8(message).expect("a text frame is UTF-8");
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            // The grammar bounds no number (RFC 8259, section 6), but `Value` does.
            let _: &RawValue = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let reply: Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(id) = reply["connect"]["client"].as_str() {
                self.id = id.to_owned();
            }
        }
    }
}

/// `{"id":3,"publish":{"channel":"x","data":…}}` of the Protobuf protocol.
fn publish_command(data: &[u8]) -> Vec<u8> {
    let field = |number: u8, value: &[u8]| {
        // Lengths of two bytes: Protobuf takes varints that are not the shortest.
        [&[number << 3 | 2, value.len() as u8 | 0x80, (value.len() >> 7) as u8], value].concat()
    };
    let publish = field(7, &[field(1, CHANNEL.as_bytes()), field(2, data)].concat());
    let message = [&[8, 3], &publish[..]].concat();
    [&[message.len() as u8 | 0x80, (message.len() >> 7) as u8], &message[..]].concat()
}
