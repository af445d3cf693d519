//! The shards of a world, a kernel of memory below them and a clock: who takes a turn, who sleeps, who is woken.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corecast::config::SlowConsumer;
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Wake};
use corecast::engine::{App, Readiness, Shard, Upgrades, Wait};
use corecast::ids::ConnId;
use corecast::messaging::{Ask, Messaging, Settings};
use corecast::pubsub::Placement;

use super::socket::{Socket, Wire};

/// The engine's bounds, as tiny as a world wants them.
pub struct Bounds {
    pub shards: usize,
    pub mailbox_batches: usize,
    pub mail_bytes: usize,
    pub slice: u32,
    pub backlog_bytes: usize,
    /// Of a shard's backlogs together.
    pub backlogs_bytes: usize,
    /// What becomes of readers who lag: the channels' policy, and its bytes.
    pub slow: (SlowConsumer, usize),
}

struct Bell(Arc<AtomicBool>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A shard and its place in a kernel of memory.
pub struct Place {
    pub shard: Shard<Messaging, Socket>,
    bell: Arc<AtomicBool>,
    events: Vec<(ConnId, Readiness)>,
    asks: Vec<Ask>,
    asleep: bool,
    /// When its sleep ends by itself.
    wakes_at: Option<u64>,
}

pub struct Cluster {
    pub places: Vec<Place>,
    pub homes: Placement,
    pub now: u64,
    /// Turns that shards took, all together.
    pub turns: u64,
    pub slots_reused: u64,
    slots: HashSet<(usize, u32)>,
}

impl Cluster {
    pub fn new(bounds: &Bounds, settings: Settings, random: &mut fastrand::Rng) -> Self {
        let limits = Arc::new(EngineConfig {
            connections_max: 1_000,
            outbound_bytes_max: bounds.backlog_bytes,
            backlog_bytes_max: bounds.backlogs_bytes * bounds.shards,
            deliveries_per_slice: bounds.slice,
            mail_bytes_max: bounds.mail_bytes,
            mailbox_batches_max: bounds.mailbox_batches,
            mail_per_turn: 5,
            read_bytes_per_turn: 200,
            subscribe_requests_max: random.u32(1..4),
            turn_bytes_max: 500,
            ..EngineConfig::default()
        });
        let bells: Vec<_> = (0..bounds.shards).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let wakers = bells.iter().map(|bell| Box::new(Bell(Arc::clone(bell))) as Box<dyn Wake>).collect();
        let mesh = mailbox::mesh(wakers, mailbox::Bounds { mailbox_batches_max: bounds.mailbox_batches });
        let homes = Placement::new(bounds.shards, random.u128(..).to_be_bytes());
        let settings = Arc::new(settings);
        let place = |(mail, bell): (corecast::engine::Mailbox<_>, Arc<AtomicBool>)| {
            let node = Messaging::new(Arc::clone(&settings), homes.clone(), bounds.shards);
            let (journal, _) = LogRing::new(mail.me());
            let shard = Shard::new(node, mail, Arc::clone(&limits), journal, 0);
            Place { shard, bell, events: Vec::new(), asks: Vec::new(), asleep: false, wakes_at: None }
        };
        let places = mesh.into_iter().zip(bells).map(place).collect();
        Self { places, homes, now: 0, turns: 0, slots_reused: 0, slots: HashSet::new() }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn home_of(&self, channel: &str) -> usize {
        self.homes.shard_of(channel).index()
    }

    /// A turn as the loop over the kernel takes it. Asleep, a shard is left alone until a bell, an event or its time.
    pub fn turn(&mut self, index: usize) -> bool {
        let place = &mut self.places[index];
        if place.asleep {
            let due = place.wakes_at.is_some_and(|at| at <= self.now);
            if !place.bell.swap(false, Ordering::SeqCst) && place.events.is_empty() && !due {
                return false;
            }
            place.asleep = false;
            place.shard.cx.mail.awake();
        }
        self.turns += 1;
        let Place { shard, .. } = place;
        shard.begin(self.now);
        for (conn, readiness) in std::mem::take(&mut place.events) {
            shard.event(conn, readiness);
        }
        for ask in std::mem::take(&mut place.asks) {
            shard.app.request(&mut shard.cx, ask);
        }
        let wait = shard.end();
        place.asleep = wait != Wait::No && shard.cx.mail.may_sleep();
        place.wakes_at = if let Wait::For(ms) = wait { Some(self.now + ms) } else { None };
        true
    }

    /// From here on no time wakes anybody who sleeps now: no deadline may be what saves us.
    pub fn stop_the_clock(&mut self) {
        self.places.iter_mut().for_each(|place| place.wakes_at = None);
    }

    /// A fresh connection to a shard, which has not been told of anything to read yet.
    pub fn connect(&mut self, shard: usize, room: usize) -> (ConnId, Rc<RefCell<Wire>>) {
        // Every third comes over a source that keeps what does not leave.
        let keeps = self.slots.len() % 3 == 2;
        let wire = Rc::new(RefCell::new(Wire { room, keeps, ..Wire::default() }));
        let Ok(conn) = self.places[shard].shard.adopt(Socket(Rc::clone(&wire))) else { panic!("there is room") };
        self.slots_reused += u64::from(!self.slots.insert((shard, conn.slot)));
        (conn, wire)
    }

    pub fn edge(&mut self, shard: usize, conn: ConnId, readiness: Readiness) {
        self.places[shard].events.push((conn, readiness));
    }

    pub fn readable(&mut self, shard: usize, conn: ConnId) {
        self.edge(shard, conn, Readiness { readable: true, ..Readiness::default() });
    }

    /// The control thread asks: answered in the shard's next turn.
    pub fn ask(&mut self, shard: usize, ask: Ask) {
        self.places[shard].asks.push(ask);
        self.places[shard].bell.store(true, Ordering::SeqCst);
    }

    /// Asks between two turns, where nothing of the order is touched.
    pub fn look(&mut self, shard: usize, ask: Ask) {
        let Place { shard, .. } = &mut self.places[shard];
        shard.app.request(&mut shard.cx, ask);
    }

    /// Orderly end: every client is told at once.
    pub fn begin_drain(&mut self) {
        for place in &mut self.places {
            place.shard.begin_drain(0, Upgrades::Refuse);
            place.bell.store(true, Ordering::SeqCst);
        }
    }

    /// Nobody is connected any more and nothing of anybody is left.
    pub fn assert_empty(&self) {
        for place in &self.places {
            let snapshot = place.shard.snapshot();
            assert!(place.shard.is_idle(), "something was left behind: {snapshot:?}");
            let left = (snapshot.subscriptions, snapshot.backlog_bytes, snapshot.spill_bytes, snapshot.users);
            assert_eq!(left, (0, 0, 0, 0));
            assert_eq!((snapshot.backlog_kept_bytes, snapshot.backlog_connections), (0, 0));
        }
    }
}
