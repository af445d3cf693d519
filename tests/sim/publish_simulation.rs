//! A simulation of clients that subscribe, publish and leave: in each step one shard or one client acts.

use std::collections::HashMap;
use std::time::Duration;

use corecast::config::{Config, SlowConsumer};
use corecast::engine::Readiness;
use corecast::messaging::Settings;

use super::cluster::{Bounds, Cluster};
use super::publishing_client::{Client, Command, Payloads};

const CHANNELS: usize = 4;
const CLIENTS_MAX: usize = 24;
/// A simulation without input must be idle after so many turns.
pub const TURNS_MAX: usize = 200_000;

/// How often each event happened.
#[derive(Default, Debug)]
pub struct PublishCounts {
    pub overflows: u64,
    pub repaired: u64,
    pub lost: u64,
    pub flushes_cut: u64,
    pub shares_spent: u64,
    pub writes_short: u64,
    pub slots_reused: u64,
    pub late_answers: u64,
    pub closes_in_flush: u64,
    pub cut_as_slow: u64,
    pub dropped: u64,
    pub drained: u64,
    pub gaps: u64,
    pub received: u64,
    /// The most bytes that slow clients of a shard kept allocated after a turn.
    pub kept_max: u64,
}

impl PublishCounts {
    pub fn add(&mut self, other: &Self) {
        self.overflows += other.overflows;
        self.repaired += other.repaired;
        self.lost += other.lost;
        self.flushes_cut += other.flushes_cut;
        self.shares_spent += other.shares_spent;
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

pub struct PublishSimulation {
    cluster: Cluster,
    clients: Vec<Client>,
    random: fastrand::Rng,
    payloads: Payloads,
    published: u64,
    counts: PublishCounts,
}

impl PublishSimulation {
    /// `history`: publications that a channel stores.
    pub fn new(bounds: &Bounds, history: usize, mut random: fastrand::Rng) -> Self {
        Self {
            cluster: Cluster::new(bounds, settings(history, bounds.slow_consumer), &mut random),
            clients: Vec::new(),
            random,
            payloads: Payloads::new(),
            published: 0,
            counts: PublishCounts::default(),
        }
    }

    /// One step: a shard takes a turn, or a client acts.
    pub fn step(&mut self) {
        if self.random.u8(..100) < 60 {
            let index = self.random.usize(..self.cluster.len());
            self.cluster.turn(index);
            self.counts.kept_max =
                self.counts.kept_max.max(self.cluster.shards[index].shard.snapshot().backlog_kept_bytes);
        } else if self.clients.len() < CLIENTS_MAX && self.random.u8(..100) < 15 {
            self.add_client();
        } else if !self.clients.is_empty() {
            let index = self.random.usize(..self.clients.len());
            self.act(index);
        }
        if self.random.u8(..100) == 0 {
            self.cluster.now += self.random.u64(1..50);
        }
    }

    fn add_client(&mut self) {
        let shard = self.random.usize(..self.cluster.len());
        let (conn, pipe) = self.cluster.connect(shard, self.random.usize(200..2_000));
        self.clients.push(Client::new(pipe, shard, conn));
        self.cluster.readable(shard, conn);
    }

    fn edge(&mut self, client: usize, readiness: Readiness) {
        let socket = &self.clients[client].socket;
        self.cluster.edge(socket.shard, socket.conn, readiness);
    }

    fn act(&mut self, index: usize) {
        let channel = self.random.usize(..CHANNELS);
        match self.random.u8(..100) {
            0..25 => self.send(index, Command::Subscribe(channel)),
            25..33 => self.send(index, Command::Unsubscribe(channel)),
            33..65 => {
                for _ in 0..self.random.usize(1..6) {
                    self.send(index, Command::Publish(channel));
                }
            }
            65..95 => {
                let room = self.random.usize(..600);
                self.read(index, room);
            }
            _ => self.leave(index),
        }
    }

    fn send(&mut self, index: usize, command: Command) {
        if self.clients[index].socket.is_gone() {
            return;
        }
        self.published += u64::from(matches!(command, Command::Publish(_)));
        self.clients[index].send(command, self.published);
        self.edge(index, Readiness { readable: true, ..Readiness::default() });
    }

    fn read(&mut self, index: usize, room: usize) {
        let client = &mut self.clients[index];
        if client.read(room, &mut self.payloads) {
            self.edge(index, Readiness { writable: true, ..Readiness::default() });
        }
        let socket = &self.clients[index].socket;
        if socket.close_code.is_some() && !socket.pipe.borrow().client_ended {
            // The client's part of the closing handshake, without a close frame of its own.
            socket.pipe.borrow_mut().client_ended = true;
            self.edge(index, Readiness { readable: true, read_closed: true, ..Readiness::default() });
        }
    }

    /// A client leaves, by a reset or by the end of its stream.
    fn leave(&mut self, index: usize) {
        let reset = self.random.bool();
        let client = &self.clients[index];
        let shard = client.socket.shard;
        self.counts.late_answers +=
            u64::from(client.open.values().any(|command| matches!(command, Command::Subscribe(_))));
        self.counts.closes_in_flush += u64::from(self.cluster.shards[shard].shard.is_flushing());
        client.socket.pipe.borrow_mut().reset |= reset;
        client.socket.pipe.borrow_mut().client_ended = true;
        self.edge(index, Readiness { readable: true, read_closed: true, error: reset, ..Readiness::default() });
        let client = self.clients.swap_remove(index);
        self.count_client(&client);
    }

    fn count_client(&mut self, client: &Client) {
        self.counts.gaps += client.gaps;
        self.counts.received += client.received;
        self.counts.cut_as_slow += u64::from(client.socket.close_code == Some(3008));
    }

    /// All clients read everything until every shard sleeps. The clock does not advance, so that no timeout hides a
    /// missing wake-up.
    pub fn run_until_idle(&mut self) {
        self.cluster.stop_clock();
        for _ in 0..TURNS_MAX {
            for index in 0..self.clients.len() {
                self.read(index, usize::MAX / 2);
            }
            let mut moved = false;
            for index in 0..self.cluster.len() {
                moved |= self.cluster.turn(index);
            }
            let unread = self.clients.iter().any(|client| !client.socket.pipe.borrow().to_client.is_empty());
            if !moved && !unread {
                return;
            }
        }
        panic!("the shards do not become idle");
    }

    /// When idle: every command of an open client is answered, and every subscriber has its channel's last publication.
    pub fn check(&mut self) {
        let mut tops: HashMap<usize, u64> = HashMap::new();
        for &(channel, offset) in self.payloads.keys() {
            let top = tops.entry(channel).or_default();
            *top = (*top).max(offset);
        }
        for client in self.clients.iter().filter(|client| !client.socket.is_gone()) {
            assert!(client.open.is_empty(), "never answered: {:?}", client.open);
            for (channel, last) in &client.live {
                if let Some(last) = last {
                    assert_eq!(last, &tops[channel], "c{channel}: idle before the last publication");
                }
            }
        }
    }

    /// Orderly shutdown: every client is closed, and no state is left.
    pub fn end(&mut self) {
        self.cluster.begin_drain();
        let connected = self.clients.iter().filter(|client| !client.socket.is_gone()).count() as u64;
        self.run_until_idle();
        for client in std::mem::take(&mut self.clients) {
            assert!(client.socket.is_gone(), "a client was not closed");
            self.counts.drained += u64::from(client.socket.close_code == Some(3001));
            self.count_client(&client);
        }
        assert!(self.counts.drained >= connected);
        self.cluster.assert_empty();
    }

    pub fn take_counts(&mut self) -> PublishCounts {
        let mut counts = std::mem::take(&mut self.counts);
        counts.slots_reused = self.cluster.slots_reused;
        for sim in &self.cluster.shards {
            let counters = &sim.shard.cx.counters;
            counts.overflows += counters.mail_overflows;
            counts.repaired += counters.publications_repaired;
            counts.lost += counters.publications_lost;
            counts.dropped += counters.dropped.iter().sum::<u64>();
            counts.flushes_cut += counters.flushes_cut;
            counts.shares_spent += counters.shares_spent;
            counts.writes_short += counters.writes_short;
        }
        counts
    }
}

fn settings(history: usize, slow_consumer: (SlowConsumer, usize)) -> Settings {
    let mut config = Config { dev: false, ..Config::dev() };
    config.client.allowed_origins = Vec::new();
    config.client.ping_interval = Duration::from_secs(100_000);
    config.client.pong_timeout = Duration::from_secs(1);
    config.client.stale_close_delay = Duration::from_secs(100_000);
    config.client.channel_limit = CHANNELS;
    config.channel.without_namespace.history_size = history as u32;
    config.channel.without_namespace.history_ttl = Duration::from_secs(100_000);
    (config.channel.without_namespace.slow_consumer, config.channel.without_namespace.slow_consumer_bytes_max) =
        slow_consumer;
    config.channel.without_namespace.presence = false;
    config.channel.without_namespace.join_leave = false;
    Settings::new(&config, |_| false)
}
