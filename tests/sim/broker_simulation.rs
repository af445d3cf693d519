//! Servers that share a broker which fails in every way: each client follows its channels as an SDK does, and is never past a
//! hole without being told.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use corecast::auth::grant::Publish;
use corecast::config::{Config, SlowConsumer};
use corecast::messaging::api_call::ApiCall;
use corecast::messaging::{BrokerLinks, ControlRequest, Settings};
use corecast::ws::Opcode;
use serde_json::{Value, json};

use super::broker::{Faults, SimBroker};
use super::client_socket::ClientSocket;
use super::cluster::{Bounds, Cluster};

const CHANNELS: usize = 3;
const SERVERS: usize = 2;
const CLIENTS: usize = 6;
/// Longer than the interval in which positions are compared, twice.
const SILENCE_MS: u64 = 100_000;

/// A channel as a client sees it.
#[derive(Default)]
struct Followed {
    epoch: String,
    offset: u64,
    is_live: bool,
    is_asked: bool,
    /// What came since the last time that it was told of a loss.
    numbers: Vec<u64>,
}

struct Client {
    server: usize,
    socket: Option<ClientSocket>,
    channels: Vec<Followed>,
    open: HashMap<u64, usize>,
    next_id: u64,
}

/// A number, its channel, and its position if it was acknowledged.
type PublishReply = (u64, usize, Option<(String, u64)>);

#[derive(Default, Debug)]
pub struct BrokerCounts {
    pub delivered: u64,
    pub recovered: u64,
    pub unrecovered: u64,
    pub insufficient: u64,
    pub refused_subscribes: u64,
    pub refused_publications: u64,
    pub repaired: u64,
    pub faults: Faults,
}

pub struct BrokerSimulation {
    servers: Vec<Cluster>,
    broker: SimBroker,
    clients: Vec<Client>,
    random: fastrand::Rng,
    next_number: u64,
    /// Publications that were acknowledged: number and where.
    acknowledged: Vec<(u64, usize, String, u64)>,
    replies: mpsc::Receiver<PublishReply>,
    reply_to: mpsc::Sender<PublishReply>,
    pub counts: BrokerCounts,
}

fn name(channel: usize) -> String {
    format!("c{channel}")
}

impl BrokerSimulation {
    pub fn new(bounds: &Bounds, kept_max: usize, mut random: fastrand::Rng) -> Self {
        let mut broker = SimBroker::new(kept_max);
        let mut server = |_| {
            let links = BrokerLinks {
                log: None,
                publications: Some(broker.join(bounds.shards)),
                presence: None,
                subscribe_timeout: 5_000,
                publish_locally: false,
                presence_interval: 27_000,
                follows_peer: false,
                follows_presence: false,
            };
            Cluster::with_brokers(bounds, settings(kept_max), Some(links), &mut random)
        };
        let servers = (0..SERVERS).map(&mut server).collect();
        let client = |index| Client {
            server: index % SERVERS,
            socket: None,
            channels: (0..CHANNELS).map(|_| Followed::default()).collect(),
            open: HashMap::new(),
            next_id: 0,
        };
        let clients = (0..CLIENTS).map(client).collect();
        let (reply_to, replies) = mpsc::channel();
        let counts = BrokerCounts::default();
        let (next_number, acknowledged) = (0, Vec::new());
        Self { servers, broker, clients, random, next_number, acknowledged, replies, reply_to, counts }
    }

    pub fn step(&mut self) {
        let node = self.random.usize(..SERVERS);
        match self.random.u32(..1000) {
            0..100 => self.publish(),
            100..350 => self.turn(),
            350..450 => self.broker.work(node),
            450..650 => {
                let (answers, deliveries) = (self.random.usize(..3), self.random.usize(..3));
                self.deliver(node, answers, deliveries);
            }
            650..900 => {
                let client = self.random.usize(..CLIENTS);
                self.client(client);
            }
            900..920 => self.pass(1..200),
            920..925 => self.reset_client(),
            925..930 => self.broker.lose_one(node, &mut self.random),
            930..940 => self.broker.repeat_one(node),
            940..943 => self.broker.cut(node),
            943..946 => self.broker.lose_commands(node),
            946..956 => self.broker.restore(node),
            956..959 => self.broker.lose_answers(node),
            959 if self.random.u8(..4) == 0 => self.broker.flush_all(),
            960 if self.random.u8(..4) == 0 => self.broker.fail_over(&mut self.random),
            _ => self.turn(),
        }
    }

    fn pass(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.random.u64(ms);
        self.servers.iter_mut().for_each(|server| server.now += ms);
    }

    fn turn(&mut self) {
        let server = &mut self.servers[self.random.usize(..SERVERS)];
        let shard = self.random.usize(..server.len());
        server.turn(shard);
    }

    fn deliver(&mut self, node: usize, answers: usize, deliveries: usize) {
        for (shard, batch) in self.broker.deliver(node, answers, deliveries) {
            self.servers[node].request(shard, ControlRequest::Broker(batch));
        }
    }

    fn publish(&mut self) {
        self.next_number += 1;
        let (number, channel) = (self.next_number, self.random.usize(..CHANNELS));
        let server = &mut self.servers[self.random.usize(..SERVERS)];
        let publish = Publish { data: number.to_string().into(), ..Publish::default() };
        let home = server.home_of(&name(channel));
        let reply_to = self.reply_to.clone();
        let answer = Box::new(move |reply: Result<_, _>| {
            let position = match reply {
                Ok(corecast::messaging::ApiReply::Publish(position)) => position,
                _ => None,
            };
            let position = position.map(|at| (at.epoch.to_string(), at.offset));
            reply_to.send((number, channel, position)).expect("the simulation receives");
        });
        let call = ApiCall::Publish { channel: name(channel).into(), publish };
        server.request(home, ControlRequest::Api { call, answer });
    }

    fn reset_client(&mut self) {
        let index = self.random.usize(..CLIENTS);
        let client = &mut self.clients[index];
        if let Some(socket) = client.socket.take() {
            socket.pipe.borrow_mut().reset = true;
            let readiness = corecast::engine::Readiness { error: true, ..Default::default() };
            self.servers[client.server].edge(socket.shard, socket.conn, readiness);
        }
        client.forget_connection();
        client.server = self.random.usize(..SERVERS);
    }

    /// A client reads what came, connects again if it has to, and asks for what it is not subscribed to.
    fn client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.socket.as_ref().is_some_and(ClientSocket::is_gone) {
            client.socket = None;
            client.forget_connection();
        }
        let server = &mut self.servers[client.server];
        let Some(socket) = &mut client.socket else {
            let shard = self.random.usize(..server.len());
            let (conn, pipe) = server.connect(shard, 1 << 20);
            let mut socket = ClientSocket::new(pipe, shard, conn, "centrifuge-json");
            socket.send(Opcode::Text, br#"{"id":1,"connect":{}}"#);
            client.next_id = 1;
            server.readable(shard, conn);
            client.socket = Some(socket);
            return;
        };
        socket.read(1 << 20);
        let mut lines = Vec::new();
        while let Some(payload) = socket.message() {
            let text = String::from_utf8(payload).expect("JSON");
            lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
        }
        for line in &lines {
            client.receive(line, &mut self.counts);
        }
        let socket = client.socket.as_mut().expect("it is not taken above");
        for (channel, followed) in client.channels.iter_mut().enumerate() {
            if followed.is_live || followed.is_asked || self.random.bool() {
                continue;
            }
            client.next_id += 1;
            followed.is_asked = true;
            client.open.insert(client.next_id, channel);
            let has_position = !followed.epoch.is_empty();
            let command = json!({"id": client.next_id, "subscribe": {
                "channel": name(channel), "recoverable": true, "positioned": true,
                "recover": has_position, "epoch": followed.epoch, "offset": followed.offset,
            }});
            socket.send(Opcode::Text, command.to_string().as_bytes());
            server.readable(socket.shard, socket.conn);
        }
    }

    /// Every fault ends, and everything that is under way arrives. Then nothing happens for so long that every position is
    /// compared.
    pub fn come_to_rest(&mut self) {
        for _ in 0..4 {
            (0..SERVERS).for_each(|node| self.broker.restore(node));
            for round in 0..3_000 {
                let mut moved = false;
                for node in 0..SERVERS {
                    self.broker.work(node);
                    moved |= !self.broker.is_idle();
                    self.deliver(node, usize::MAX, usize::MAX);
                    for shard in 0..self.servers[node].len() {
                        moved |= self.servers[node].turn(shard);
                    }
                }
                (0..CLIENTS).for_each(|client| self.client(client));
                let is_live = self.clients.iter().all(|client| client.channels.iter().all(|one| one.is_live));
                if !moved && is_live && round > 50 {
                    break;
                }
                self.servers.iter_mut().for_each(|server| server.now += 20);
            }
            self.servers.iter_mut().for_each(|server| server.now += SILENCE_MS / 2);
        }
        while let Ok((number, channel, position)) = self.replies.try_recv() {
            match position {
                Some((epoch, offset)) => self.acknowledged.push((number, channel, epoch, offset)),
                None => self.counts.refused_publications += 1,
            }
        }
    }

    /// Every client is at the broker's position, and got every acknowledged publication since it was last told of a loss.
    pub fn check(&mut self) {
        for (index, client) in self.clients.iter().enumerate() {
            for (channel, followed) in client.channels.iter().enumerate() {
                let (epoch, top) = self.broker.top(&name(channel));
                assert!(followed.is_live, "client {index} has no subscription to c{channel}");
                if !epoch.is_empty() {
                    let at = (&*followed.epoch, followed.offset);
                    assert_eq!(at, (&*epoch, top), "client {index} is not at the position of c{channel}");
                }
            }
        }
        // A position that the broker gave twice, after it had lost publications, belongs to the later one.
        let mut at: HashMap<(usize, &str, u64), u64> = HashMap::new();
        for (number, channel, epoch, offset) in &self.acknowledged {
            at.insert((*channel, epoch, *offset), *number);
        }
        for (index, client) in self.clients.iter().enumerate() {
            for (channel, followed) in client.channels.iter().enumerate() {
                let first = (followed.offset + 1).saturating_sub(followed.numbers.len() as u64);
                for (number, offset) in followed.numbers.iter().zip(first..) {
                    let made = at.get(&(channel, followed.epoch.as_str(), offset));
                    if self.broker.reused.contains(&(name(channel), followed.epoch.clone(), offset)) {
                        continue;
                    }
                    assert!(
                        made.is_none_or(|made| made == number),
                        "client {index} got {number} at offset {offset} of c{channel}, which is {made:?}"
                    );
                }
            }
        }
        self.counts.repaired = self
            .servers
            .iter()
            .flat_map(|server| &server.shards)
            .map(|sim| sim.shard.cx.counters.publications_repaired)
            .sum();
    }

    pub fn take_counts(mut self) -> BrokerCounts {
        self.counts.faults = std::mem::take(&mut self.broker.faults);
        self.counts
    }
}

impl Client {
    fn forget_connection(&mut self) {
        self.open.clear();
        for followed in &mut self.channels {
            (followed.is_live, followed.is_asked) = (false, false);
        }
    }

    fn receive(&mut self, line: &Value, counts: &mut BrokerCounts) {
        if let Some(channel) = line["id"].as_u64().and_then(|id| self.open.remove(&id)) {
            return self.channels[channel].subscribed(line, counts);
        }
        let push = &line["push"];
        let Some(channel) = push["channel"].as_str().and_then(|name| name[1..].parse::<usize>().ok()) else { return };
        let followed = &mut self.channels[channel];
        if push["pub"].is_object() {
            assert!(followed.is_live, "a publication before the reply");
            followed.got(&push["pub"], counts);
        } else if push["unsubscribe"].is_object() {
            assert_eq!(push["unsubscribe"]["code"], 2500);
            counts.insufficient += 1;
            followed.is_live = false;
        }
    }
}

impl Followed {
    fn subscribed(&mut self, line: &Value, counts: &mut BrokerCounts) {
        self.is_asked = false;
        if line["error"].is_object() {
            assert_eq!((&line["error"]["code"], &line["error"]["temporary"]), (&json!(100), &json!(true)));
            counts.refused_subscribes += 1;
            return;
        }
        let result = &line["subscribe"];
        self.is_live = true;
        let epoch = result["epoch"].as_str().unwrap_or_default();
        let publications = result["publications"].as_array().cloned().unwrap_or_default();
        if result["was_recovering"] == true && result["recovered"] == true {
            counts.recovered += 1;
            assert_eq!(epoch, self.epoch, "recovered in another epoch");
            publications.iter().for_each(|publication| self.got(publication, counts));
            return;
        }
        counts.unrecovered += u64::from(result["was_recovering"] == true);
        self.numbers.clear();
        (self.epoch, self.offset) = (epoch.to_owned(), result["offset"].as_u64().unwrap_or_default());
    }

    fn got(&mut self, publication: &Value, counts: &mut BrokerCounts) {
        let offset = publication["offset"].as_u64().expect("every publication is stored");
        assert_eq!(offset, self.offset + 1, "a hole or a repetition");
        self.offset = offset;
        self.numbers.push(publication["data"].as_u64().expect("a number"));
        counts.delivered += 1;
    }
}

fn settings(kept_max: usize) -> Settings {
    let mut config = Config { dev: false, ..Config::dev() };
    config.client.allowed_origins = Vec::new();
    config.client.ping_interval = Duration::from_secs(100_000);
    config.client.pong_timeout = Duration::from_secs(1);
    config.client.stale_close_delay = Duration::from_secs(100_000);
    let channels = &mut config.channel.without_namespace;
    channels.history_size = kept_max as u32;
    channels.history_ttl = Duration::from_secs(100_000);
    (channels.presence, channels.join_leave) = (false, false);
    channels.slow_consumer = SlowConsumer::Close;
    Settings::new(&config, |_| false)
}
