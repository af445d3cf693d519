//! The world of the simulation: shards, clients, a clock, and whoever moves next.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corecast::bus::{self, Wake};
use corecast::hub::Homes;
use corecast::ids::ConnId;
use corecast::limits::EngineLimits;
use corecast::node::{Node, Settings};
use corecast::shard::journal::Journal;
use corecast::shard::{Readiness, Shard, Wait};

use super::client::{Asked, Client, Truth};
use super::socket::{Socket, Wire};

const CHANNELS: usize = 4;
const CLIENTS_MAX: usize = 24;
/// Turns in which a world without input must come to rest.
const TURNS_MAX: usize = 200_000;

pub struct Bounds {
    pub shards: usize,
    pub mailbox_batches: usize,
    pub mail_bytes: usize,
    pub slice: u32,
    pub backlog_bytes: usize,
    pub history: usize,
}

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
    pub drained: u64,
    pub gaps: u64,
    pub received: u64,
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
        self.drained += other.drained;
        self.gaps += other.gaps;
        self.received += other.received;
    }
}

struct Bell(Arc<AtomicBool>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A shard and its place in a kernel of memory.
struct Place {
    shard: Shard<Node, Socket>,
    bell: Arc<AtomicBool>,
    events: Vec<(ConnId, Readiness)>,
    asleep: bool,
}

pub struct World {
    places: Vec<Place>,
    clients: Vec<Client>,
    random: fastrand::Rng,
    truth: Truth,
    published: u64,
    now: u64,
    slots: HashSet<(usize, u32)>,
    seen: Seen,
}

impl World {
    pub fn new(bounds: Bounds, mut random: fastrand::Rng) -> Self {
        let limits = Arc::new(EngineLimits {
            connections_max: 1_000,
            outbound_bytes_max: bounds.backlog_bytes,
            deliveries_per_slice: bounds.slice,
            mail_bytes_max: bounds.mail_bytes,
            mailbox_batches_max: bounds.mailbox_batches,
            mail_per_turn: 5,
            read_bytes_per_turn: 200,
            subscribe_requests_max: 2,
            turn_bytes_max: 500,
            ..EngineLimits::default()
        });
        let bells: Vec<_> = (0..bounds.shards).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let wakers = bells.iter().map(|bell| Box::new(Bell(Arc::clone(bell))) as Box<dyn Wake>).collect();
        let mesh = bus::mesh(wakers, bus::Bounds { mailbox_batches_max: bounds.mailbox_batches });
        let homes = Homes::new(bounds.shards, random.u128(..).to_be_bytes());
        let settings = Arc::new(settings(bounds.history));
        let place = |(mail, bell): (corecast::shard::Mailbox<_>, Arc<AtomicBool>)| {
            let node = Node::new(Arc::clone(&settings), homes.clone(), bounds.shards);
            let (journal, _) = Journal::new(mail.me());
            let shard = Shard::new(node, mail, Arc::clone(&limits), journal, 0);
            Place { shard, bell, events: Vec::new(), asleep: false }
        };
        Self {
            places: mesh.into_iter().zip(bells).map(place).collect(),
            clients: Vec::new(),
            random,
            truth: Truth::new(),
            published: 0,
            now: 0,
            slots: HashSet::new(),
            seen: Seen::default(),
        }
    }

    /// One thing happens: a shard takes a turn, or a client does something.
    pub fn step(&mut self) {
        if self.random.u8(..100) < 60 {
            let index = self.random.usize(..self.places.len());
            self.turn(index);
        } else if self.clients.len() < CLIENTS_MAX && self.random.u8(..100) < 15 {
            self.arrive();
        } else if !self.clients.is_empty() {
            let index = self.random.usize(..self.clients.len());
            self.act(index);
        }
        if self.random.u8(..100) == 0 {
            self.now += self.random.u64(1..50);
        }
    }

    /// A turn as the loop over the kernel takes it. Asleep, a shard is left alone until a bell or an event.
    fn turn(&mut self, index: usize) -> bool {
        let place = &mut self.places[index];
        if place.asleep {
            if !place.bell.swap(false, Ordering::SeqCst) && place.events.is_empty() {
                return false;
            }
            place.asleep = false;
            place.shard.cx.mail.awake();
        }
        place.shard.begin(self.now);
        for (conn, readiness) in std::mem::take(&mut place.events) {
            place.shard.event(conn, readiness);
        }
        let wait = place.shard.end();
        place.asleep = wait != Wait::No && place.shard.cx.mail.may_sleep();
        true
    }

    fn arrive(&mut self) {
        let shard = self.random.usize(..self.places.len());
        let wire = Rc::new(RefCell::new(Wire { room: self.random.usize(200..2_000), ..Wire::default() }));
        let Ok(conn) = self.places[shard].shard.adopt(Socket(Rc::clone(&wire))) else { panic!("there is room") };
        self.seen.slots_reused += u64::from(!self.slots.insert((shard, conn.slot)));
        self.clients.push(Client::new(wire, shard, conn));
        self.edge(self.clients.len() - 1, Readiness { readable: true, ..Readiness::default() });
    }

    fn edge(&mut self, client: usize, readiness: Readiness) {
        let Client { shard, conn, .. } = self.clients[client];
        self.places[shard].events.push((conn, readiness));
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
        if self.clients[index].gone() {
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
        let client = &self.clients[index];
        if client.close_code.is_some() && !client.wire.borrow().client_ended {
            // A client's part of the closing hand-shake, less the courtesy of a close frame.
            client.wire.borrow_mut().client_ended = true;
            self.edge(index, Readiness { readable: true, read_closed: true, ..Readiness::default() });
        }
    }

    /// A client goes, by reset or by an end of its stream.
    fn leave(&mut self, index: usize) {
        let reset = self.random.bool();
        let client = &self.clients[index];
        let shard = client.shard;
        self.seen.late_answers += u64::from(client.open.values().any(|asked| matches!(asked, Asked::Subscribe(_))));
        self.seen.closes_in_flush += u64::from(self.places[shard].shard.is_flushing());
        client.wire.borrow_mut().reset |= reset;
        client.wire.borrow_mut().client_ended = true;
        self.edge(index, Readiness { readable: true, read_closed: true, error: reset, ..Readiness::default() });
        let client = self.clients.swap_remove(index);
        self.remember(&client);
    }

    fn remember(&mut self, client: &Client) {
        self.seen.gaps += client.gaps;
        self.seen.received += client.received;
        self.seen.cut_as_slow += u64::from(client.close_code == Some(3008));
    }

    /// Everybody reads all there is, until every shard sleeps. The clock stands: no deadline may be what saves us.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            for index in 0..self.clients.len() {
                self.read(index, usize::MAX / 2);
            }
            let mut moved = false;
            for index in 0..self.places.len() {
                moved |= self.turn(index);
            }
            let unread = self.clients.iter().any(|client| !client.wire.borrow().to_client.is_empty());
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
        for client in self.clients.iter().filter(|client| !client.gone()) {
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
        for place in &mut self.places {
            place.shard.begin_drain(0);
            place.bell.store(true, Ordering::SeqCst);
        }
        let connected = self.clients.iter().filter(|client| !client.gone()).count() as u64;
        self.settle();
        for client in std::mem::take(&mut self.clients) {
            assert!(client.gone(), "a client was forgotten");
            self.seen.drained += u64::from(client.close_code == Some(3001));
            self.remember(&client);
        }
        assert!(self.seen.drained >= connected);
        for place in &self.places {
            assert!(place.shard.is_idle(), "something was left behind");
            let snapshot = place.shard.snapshot();
            assert_eq!((snapshot.subscriptions, snapshot.backlog_bytes, snapshot.spill_bytes), (0, 0, 0));
        }
    }

    pub fn seen(&mut self) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        for place in &self.places {
            let counters = &place.shard.cx.counters;
            seen.overflows += counters.mail_overflows;
            seen.repaired += counters.publications_repaired;
            seen.lost += counters.publications_lost;
            seen.flushes_cut += counters.flushes_cut;
            seen.writes_short += counters.writes_short;
        }
        seen
    }
}

fn settings(history_max: usize) -> Settings {
    Settings {
        insecure: true,
        allow_subscribe: true,
        allow_publish: true,
        any_namespace: true,
        tell_shard: false,
        allowed_origins: Vec::new(),
        ping_interval: Duration::from_secs(100_000),
        pong_timeout: Duration::from_secs(1),
        stale_close_delay: Duration::from_secs(100_000),
        channels_max: CHANNELS,
        channel_bytes_max: 255,
        history_max,
    }
}
