//! The loads of the benches: a channel with publications, reconnecting clients, an echo.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{BROKEN, Bench, READABLE};
use corecast::auth::Hash;
use corecast::auth::sign::SigningKey;
use corecast::config::{Config, Namespace};
use corecast::engine::{App, Context, Flow, Message};
use corecast::ids::ConnId;
use corecast::messaging::{self, Messaging, Settings};
use corecast::pubsub::Placement;
use corecast::ws::{Opcode, encode};

const CHANNEL: &str = "bench";
/// Publications that a channel with history stores: it is full before counting begins, so that each new one displaces
/// one.
const HISTORY_SIZE: u32 = 16;

/// A channel and its subscribers. The first subscriber publishes `window` messages of 64 bytes when it is readable.
#[derive(Clone, Copy)]
pub struct Room {
    pub subscribers: usize,
    pub window: usize,
    /// Every second subscriber uses Protobuf; otherwise all use JSON.
    pub mixed: bool,
    pub history: bool,
}

impl Room {
    pub const fn of(subscribers: usize, window: usize) -> Self {
        Self { subscribers, window, mixed: false, history: false }
    }

    /// The shard, after as many publications as the history stores.
    pub fn open(self) -> Bench<Messaging> {
        let mut config = Config { dev: false, ..Config::dev() };
        config.channel.without_namespace = namespace(self.history);
        let mut bench = messaging(&config, self.subscribers);
        let requests = [upgrade(messaging::PATH), upgrade(&format!("{}?cf_protocol=protobuf", messaging::PATH))];
        let enter = [
            text(&format!("{CONNECT}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"{CHANNEL}\"}}}}"), 1),
            masked(Opcode::Binary, &protobuf_entry(), 1),
        ];
        let form = |conn: usize| usize::from(self.mixed && conn % 2 == 1);
        (0..self.subscribers).for_each(|conn| bench.open_and_keep(&requests[form(conn)]));
        (0..self.subscribers).for_each(|conn| bench.set_input(conn, &enter[form(conn)]));
        bench.turn(self.subscribers);
        assert_eq!(bench.shard.snapshot().subscriptions, self.subscribers as u64);
        bench.set_input(0, &text(&publish(3), self.window));
        for _ in 0..if self.history { HISTORY_SIZE } else { 1 } {
            let (deliveries, _, writes) = bench.delivered();
            bench.turn(1);
            let (delivered, _, written) = bench.delivered();
            assert_eq!(delivered - deliveries, (self.subscribers * self.window) as u64);
            // One for each subscriber, whatever the window, and one for the publisher's replies.
            assert!(written - writes <= self.subscribers as u64 + 1, "{} writes", written - writes);
        }
        bench
    }
}

/// Reconnecting clients: each connects and subscribes with a token and recovers one publication, all in one frame; it
/// then closes without a close frame.
pub struct Storm {
    bench: Bench<Messaging>,
    request: Rc<[u8]>,
    /// The frames that each client sends.
    messages: Vec<Rc<[u8]>>,
}

impl Storm {
    pub fn of(clients: usize) -> Self {
        const SECRET: &str = "a-secret-of-the-benches";
        let mut config = Config { dev: false, ..Config::dev() };
        config.client.insecure = false;
        config.client.token.hmac_secret_key = SECRET.into();
        config.channel.without_namespace = Namespace { presence: true, ..namespace(true) };
        let key = SigningKey::secret(Hash::S256, SECRET);
        let sign = |claims: String| key.sign(&claims, None).expect("a secret signs");
        let entry = |user: usize, subscribe: &str| {
            let info = "n".repeat(53);
            let claims = format!("\"sub\":\"{user:016}\",\"exp\":4000000000");
            let connect = sign(format!("{{{claims},\"info\":{{\"name\":\"{info}\"}}}}"));
            let token = sign(format!("{{{claims},\"channel\":\"{CHANNEL}\"}}"));
            format!(
                "{{\"id\":1,\"connect\":{{\"token\":\"{connect}\",\"name\":\"bench\"}}}}\n{{\"id\":2,\"subscribe\":\
                 {{\"channel\":\"{CHANNEL}\",\"token\":\"{token}\"{subscribe}}}}}"
            )
        };
        let mut bench = messaging(&config, clients + 1);
        let request = upgrade(messaging::PATH);
        bench.open_and_keep(&request);
        bench.set_input(0, &text(&entry(0, ""), 1));
        bench.turn(1);
        bench.set_input(0, &text(&publish(3), 1));
        bench.turn(1);
        let recover = ",\"positioned\":true,\"recoverable\":true,\"recover\":true,\"offset\":0";
        let messages = (1..=clients).map(|user| text(&entry(user, recover), 1)).collect();
        let mut storm = Self { bench, request, messages };
        storm.turn();
        assert_eq!(storm.bench.shard.cx.counters.recoveries, clients as u64, "every client recovers");
        assert_eq!(storm.bench.shard.snapshot().connections, 1, "and every client is gone again");
        storm
    }

    /// Every client connects, gets its reply and closes.
    pub fn turn(&mut self) {
        let bench = &mut self.bench;
        bench.shard.begin(0);
        let conns: Vec<ConnId> = self.messages.iter().map(|_| bench.open(&self.request)).collect();
        for (&conn, message) in conns.iter().zip(&self.messages) {
            bench.set_input_of(conn, message);
            bench.shard.event(conn, READABLE);
        }
        bench.run_until_idle();
        bench.shard.begin(0);
        conns.iter().for_each(|&conn| bench.shard.event(conn, BROKEN));
        bench.run_until_idle();
    }
}

/// Echoes every message unchanged.
pub struct Echo;

impl App for Echo {
    type Mail = Infallible;
    type Request = Infallible;

    fn message(&mut self, _: &mut Context<Infallible>, _: ConnId, _: Message<'_>) -> Flow {
        Flow::Reflect
    }
}

/// Echo: each of `clients` sends `depth` messages of `payload_bytes` when it is readable.
pub fn echo(clients: usize, payload_bytes: usize, depth: usize) -> Bench<Echo> {
    let mut bench = Bench::new(Echo, clients);
    let request = upgrade(messaging::ECHO_PATH);
    (0..clients).for_each(|_| bench.open_and_keep(&request));
    let train = text(&"x".repeat(payload_bytes), depth);
    (0..clients).for_each(|conn| bench.set_input(conn, &train));
    let (_, replies, writes) = bench.delivered();
    bench.turn(clients);
    let (_, replied, written) = bench.delivered();
    assert_eq!((replied - replies, written - writes), ((clients * depth) as u64, clients as u64));
    bench
}

fn messaging(config: &Config, connections_max: usize) -> Bench<Messaging> {
    let settings = Settings::new(config, |_| false);
    Bench::new(Messaging::new(Arc::new(settings), Placement::new(1, [7; 16]), 1), connections_max)
}

/// Every client may subscribe and publish.
fn namespace(history: bool) -> Namespace {
    Namespace {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        history_size: if history { HISTORY_SIZE } else { 0 },
        history_ttl: Duration::from_secs(if history { 300 } else { 0 }),
        history_meta_ttl: Duration::from_secs(3600),
        allow_positioning: history,
        allow_recovery: history,
        ..Namespace::default()
    }
}

const CONNECT: &str = "{\"id\":1,\"connect\":{}}";

fn publish(id: u32) -> String {
    let data = "x".repeat(62);
    format!("{{\"id\":{id},\"publish\":{{\"channel\":\"{CHANNEL}\",\"data\":\"{data}\"}}}}")
}

/// `connect` (field 4) followed by `subscribe` (5), each with its length before it.
fn protobuf_entry() -> Vec<u8> {
    let field = |number: u8, body: &[u8]| [&[number << 3 | 2, body.len() as u8], body].concat();
    let command = |id: u8, request: Vec<u8>| {
        let body = [&[1 << 3, id], &request[..]].concat();
        [&[body.len() as u8], &body[..]].concat()
    };
    [command(1, field(4, &[])), command(2, field(5, &field(1, CHANNEL.as_bytes())))].concat()
}

/// Text frames as a client sends them.
fn text(text: &str, count: usize) -> Rc<[u8]> {
    masked(Opcode::Text, text.as_bytes(), count)
}

fn masked(opcode: Opcode, payload: &[u8], count: usize) -> Rc<[u8]> {
    let mut out = Vec::new();
    (0..count).for_each(|_| encode::client_frame(&mut out, opcode, payload, [0x12, 0x34, 0x56, 0x78]));
    out.into()
}

fn upgrade(path: &str) -> Rc<[u8]> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    request.into_bytes().into()
}
