//! The world of the simulation: shards, clients, a clock, and whoever moves next.

use std::collections::HashMap;
use std::time::Duration;

use corecast::config::{Config, SlowConsumer};
use corecast::engine::Readiness;
use corecast::messaging::Settings;

use super::client::{Asked, Client, Truth};
use super::cluster::{Bounds, Cluster};

const CHANNELS: usize = 4;
const CLIENTS_MAX: usize = 24;
/// Turns in which a world without input must come to rest.
pub const TURNS_MAX: usize = 200_000;

/// How often each rare thing happened.
#[derive(Default, Debug)]
pub struct Seen {
    pub overflows: u64,
    pub repaired: u64,
    pub lost: u64,
    pub flushes_cut: u64,
    pub writes_short: u64,
    pub slots_reused: u64,
    pub late_answers: u64,
    pub closes_in_flush: u64,
    pub cut_as_slow: u64,
    pub dropped: u64,
    pub drained: u64,
    pub gaps: u64,
    pub received: u64,
    /// The most that slow clients of a shard kept alive behind its turn.
    pub kept_max: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.overflows += other.overflows;
        self.repaired += other.repaired;
        self.lost += other.lost;
        self.flushes_cut += other.flushes_cut;
        self.writes_short += other.writes_short;
        self.slots_reused += other.slots_reused;
        self.late_answers += other.late_answers;
        self.closes_in_flush += other.closes_in_flush;
        self.cut_as_slow += other.cut_as_slow;
        self.dropped += other.dropped;
        self.drained += other.drained;
        self.gaps += other.gaps;
        self.received += other.received;
        self.kept_max = self.kept_max.max(other.kept_max);
    }
}

pub struct World {
    cluster: Cluster,
    clients: Vec<Client>,
    random: fastrand::Rng,
    truth: Truth,
    published: u64,
    seen: Seen,
}

impl World {
    /// `history`: publications that a channel keeps.
    pub fn new(bounds: &Bounds, history: usize, mut random: fastrand::Rng) -> Self {
        Self {
            cluster: Cluster::new(bounds, settings(history, bounds.slow), &mut random),
            clients: Vec::new(),
            random,
            truth: Truth::new(),
            published: 0,
            seen: Seen::default(),
        }
    }

    /// One thing happens: a shard takes a turn, or a client does something.
    pub fn step(&mut self) {
        if self.random.u8(..100) < 60 {
            let index = self.random.usize(..self.cluster.len());
            self.cluster.turn(index);
            self.seen.kept_max = self.seen.kept_max.max(self.cluster.places[index].shard.snapshot().backlog_kept_bytes);
        } else if self.clients.len() < CLIENTS_MAX && self.random.u8(..100) < 15 {
            self.arrive();
        } else if !self.clients.is_empty() {
            let index = self.random.usize(..self.clients.len());
            self.act(index);
        }
        if self.random.u8(..100) == 0 {
            self.cluster.now += self.random.u64(1..50);
        }
    }

    fn arrive(&mut self) {
        let shard = self.random.usize(..self.cluster.len());
        let (conn, wire) = self.cluster.connect(shard, self.random.usize(200..2_000));
        self.clients.push(Client::new(wire, shard, conn));
        self.cluster.readable(shard, conn);
    }

    fn edge(&mut self, client: usize, readiness: Readiness) {
        let end = &self.clients[client].end;
        self.cluster.edge(end.shard, end.conn, readiness);
    }

    fn act(&mut self, index: usize) {
        let channel = self.random.usize(..CHANNELS);
        match self.random.u8(..100) {
            0..25 => self.ask(index, Asked::Subscribe(channel)),
            25..33 => self.ask(index, Asked::Unsubscribe(channel)),
            33..65 => {
                for _ in 0..self.random.usize(1..6) {
                    self.ask(index, Asked::Publish(channel));
                }
            }
            65..95 => {
                let room = self.random.usize(..600);
                self.read(index, room);
            }
            _ => self.leave(index),
        }
    }

    fn ask(&mut self, index: usize, asked: Asked) {
        if self.clients[index].end.gone() {
            return;
        }
        self.published += u64::from(matches!(asked, Asked::Publish(_)));
        self.clients[index].ask(asked, self.published);
        self.edge(index, Readiness { readable: true, ..Readiness::default() });
    }

    fn read(&mut self, index: usize, room: usize) {
        let client = &mut self.clients[index];
        if client.read(room, &mut self.truth) {
            self.edge(index, Readiness { writable: true, ..Readiness::default() });
        }
        let end = &self.clients[index].end;
        if end.close_code.is_some() && !end.wire.borrow().client_ended {
            // A client's part of the closing hand-shake, less the courtesy of a close frame.
            end.wire.borrow_mut().client_ended = true;
            self.edge(index, Readiness { readable: true, read_closed: true, ..Readiness::default() });
        }
    }

    /// A client goes, by reset or by an end of its stream.
    fn leave(&mut self, index: usize) {
        let reset = self.random.bool();
        let client = &self.clients[index];
        let shard = client.end.shard;
        self.seen.late_answers += u64::from(client.open.values().any(|asked| matches!(asked, Asked::Subscribe(_))));
        self.seen.closes_in_flush += u64::from(self.cluster.places[shard].shard.is_flushing());
        client.end.wire.borrow_mut().reset |= reset;
        client.end.wire.borrow_mut().client_ended = true;
        self.edge(index, Readiness { readable: true, read_closed: true, error: reset, ..Readiness::default() });
        let client = self.clients.swap_remove(index);
        self.remember(&client);
    }

    fn remember(&mut self, client: &Client) {
        self.seen.gaps += client.gaps;
        self.seen.received += client.received;
        self.seen.cut_as_slow += u64::from(client.end.close_code == Some(3008));
    }

    /// Everybody reads all there is, until every shard sleeps. The clock stands: no deadline may be what saves us.
    pub fn settle(&mut self) {
        self.cluster.stop_the_clock();
        for _ in 0..TURNS_MAX {
            for index in 0..self.clients.len() {
                self.read(index, usize::MAX / 2);
            }
            let mut moved = false;
            for index in 0..self.cluster.len() {
                moved |= self.cluster.turn(index);
            }
            let unread = self.clients.iter().any(|client| !client.end.wire.borrow().to_client.is_empty());
            if !moved && !unread {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// At rest: every command of a living client is answered, and every subscriber is at its channel's top.
    pub fn check(&mut self) {
        let mut tops: HashMap<usize, u64> = HashMap::new();
        for &(channel, offset) in self.truth.keys() {
            let top = tops.entry(channel).or_default();
            *top = (*top).max(offset);
        }
        for client in self.clients.iter().filter(|client| !client.end.gone()) {
            assert!(client.open.is_empty(), "never answered: {:?}", client.open);
            for (channel, last) in &client.live {
                if let Some(last) = last {
                    assert_eq!(last, &tops[channel], "c{channel}: asleep before the last publication");
                }
            }
        }
    }

    /// Orderly end: everybody is told, and nothing is left.
    pub fn end(&mut self) {
        self.cluster.begin_drain();
        let connected = self.clients.iter().filter(|client| !client.end.gone()).count() as u64;
        self.settle();
        for client in std::mem::take(&mut self.clients) {
            assert!(client.end.gone(), "a client was forgotten");
            self.seen.drained += u64::from(client.end.close_code == Some(3001));
            self.remember(&client);
        }
        assert!(self.seen.drained >= connected);
        self.cluster.assert_empty();
    }

    pub fn seen(&mut self) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        seen.slots_reused = self.cluster.slots_reused;
        for place in &self.cluster.places {
            let counters = &place.shard.cx.counters;
            seen.overflows += counters.mail_overflows;
            seen.repaired += counters.publications_repaired;
            seen.lost += counters.publications_lost;
            seen.dropped += counters.dropped.iter().sum::<u64>();
            seen.flushes_cut += counters.flushes_cut;
            seen.writes_short += counters.writes_short;
        }
        seen
    }
}

fn settings(history: usize, slow: (SlowConsumer, usize)) -> Settings {
    let mut config = Config { dev: false, ..Config::dev() };
    config.client.allowed_origins = Vec::new();
    config.client.ping_interval = Duration::from_secs(100_000);
    config.client.pong_timeout = Duration::from_secs(1);
    config.client.stale_close_delay = Duration::from_secs(100_000);
    config.client.channel_limit = CHANNELS;
    config.channel.without_namespace.history_size = history as u32;
    config.channel.without_namespace.history_ttl = Duration::from_secs(100_000);
    (config.channel.without_namespace.slow_consumer, config.channel.without_namespace.slow_consumer_bytes_max) = slow;
    config.channel.without_namespace.presence = false;
    config.channel.without_namespace.join_leave = false;
    Settings::new(&config, |_| false)
}
