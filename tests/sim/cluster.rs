//! The shards of a simulation with a simulated kernel and clock: which shard takes a turn, sleeps or is woken.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corecast::config::SlowConsumer;
use corecast::engine::config::EngineConfig;
use corecast::engine::log_ring::LogRing;
use corecast::engine::mailbox::{self, Wake};
use corecast::engine::{App, Readiness, Shard, Upgrades, Wait};
use corecast::ids::ConnId;
use corecast::messaging::{BrokerLinks, ControlRequest, Messaging, Settings};
use corecast::pubsub::Placement;

use super::socket::{Pipe, Socket};

/// The engine's limits and the channels' policy.
pub struct Bounds {
    pub shards: usize,
    pub mailbox_batches: usize,
    pub mail_bytes: usize,
    pub slice: u32,
    pub backlog_bytes: usize,
    /// All backlogs of a shard together.
    pub backlogs_bytes: usize,
    /// The channels' slow-consumer policy, and its bytes.
    pub slow_consumer: (SlowConsumer, usize),
}

thread_local! {
    static CLOCK_US: Cell<u64> = const { Cell::new(0) };
}

/// The clock of the turns: each look at it finds a millisecond gone, so that turns end and shares are used up often.
fn clock_us() -> u64 {
    CLOCK_US.set(CLOCK_US.get() + 1_000);
    CLOCK_US.get()
}

struct WakeFlag(Arc<AtomicBool>);

impl Wake for WakeFlag {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A shard, its simulated waker and its pending events.
pub struct SimShard {
    pub shard: Shard<Messaging, Socket>,
    flag: Arc<AtomicBool>,
    events: Vec<(ConnId, Readiness)>,
    requests: Vec<ControlRequest>,
    is_asleep: bool,
    /// When its wait times out.
    wakes_at: Option<u64>,
}

pub struct Cluster {
    pub shards: Vec<SimShard>,
    pub placement: Placement,
    pub now: u64,
    /// Turns of all shards together.
    pub turns: u64,
    pub slots_reused: u64,
    slots: HashSet<(usize, u32)>,
}

impl Cluster {
    pub fn new(bounds: &Bounds, settings: Settings, random: &mut fastrand::Rng) -> Self {
        Self::with_brokers(bounds, settings, None, random)
    }

    /// The shards of a server with a broker.
    pub fn with_brokers(
        bounds: &Bounds,
        settings: Settings,
        links: Option<BrokerLinks>,
        random: &mut fastrand::Rng,
    ) -> Self {
        let config = Arc::new(EngineConfig {
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
            work_per_look: random.u32(50..2_000),
            time_per_turn: Duration::from_millis(3),
            time_per_connection: Duration::from_millis(random.u64(1..3)),
            ..EngineConfig::default()
        });
        let flags: Vec<_> = (0..bounds.shards).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let wakers = flags.iter().map(|flag| Box::new(WakeFlag(Arc::clone(flag))) as Box<dyn Wake>).collect();
        let mesh = mailbox::mesh(wakers, mailbox::Bounds { mailbox_batches_max: bounds.mailbox_batches });
        let placement = Placement::new(bounds.shards, random.u128(..).to_be_bytes());
        let settings = Arc::new(settings);
        let make = |(mail, flag): (corecast::engine::Mailbox<_>, Arc<AtomicBool>)| {
            let mut messaging = Messaging::new(Arc::clone(&settings), placement.clone(), bounds.shards);
            if let Some(links) = &links {
                messaging = messaging.with_brokers(links.clone(), mail.me());
            }
            let (log_ring, _) = LogRing::new(mail.me());
            let mut shard = Shard::new(messaging, mail, Arc::clone(&config), log_ring, 0);
            shard.set_clock(clock_us);
            SimShard { shard, flag, events: Vec::new(), requests: Vec::new(), is_asleep: false, wakes_at: None }
        };
        let shards = mesh.into_iter().zip(flags).map(make).collect();
        Self { shards, placement, now: 0, turns: 0, slots_reused: 0, slots: HashSet::new() }
    }

    pub fn len(&self) -> usize {
        self.shards.len()
    }

    pub fn home_of(&self, channel: &str) -> usize {
        self.placement.shard_of(channel).index()
    }

    /// A turn as the event loop takes it. False if the shard sleeps and no wake, event or timeout ends that.
    pub fn turn(&mut self, index: usize) -> bool {
        let shards = self.shards.len();
        let sim = &mut self.shards[index];
        if sim.is_asleep {
            let due = sim.wakes_at.is_some_and(|at| at <= self.now);
            if !sim.flag.swap(false, Ordering::SeqCst) && sim.events.is_empty() && !due {
                return false;
            }
            sim.is_asleep = false;
            sim.shard.cx.mail.awake();
        }
        self.turns += 1;
        let SimShard { shard, .. } = sim;
        shard.begin(self.now);
        for (conn, readiness) in std::mem::take(&mut sim.events) {
            shard.event(conn, readiness);
        }
        for request in std::mem::take(&mut sim.requests) {
            shard.app.request(&mut shard.cx, request);
        }
        let wait = shard.end();
        let reserved = shard.snapshot().backlog_reserved_bytes as usize;
        let bound = shard.cx.config.backlog_bytes_max / shards;
        assert!(reserved <= bound, "{reserved} bytes are reserved for replies, {bound} may be");
        sim.is_asleep = wait != Wait::No && shard.cx.mail.may_sleep();
        sim.wakes_at = if let Wait::For(ms) = wait { Some(self.now + ms) } else { None };
        true
    }

    /// From now on no timeout wakes a sleeping shard: a missing wake-up must not be hidden by one.
    pub fn stop_clock(&mut self) {
        self.shards.iter_mut().for_each(|sim| sim.wakes_at = None);
    }

    /// A new connection to a shard, which has no readable event for it yet.
    pub fn connect(&mut self, shard: usize, room: usize) -> (ConnId, Rc<RefCell<Pipe>>) {
        // Every third one has a source that buffers.
        let buffers = self.slots.len() % 3 == 2;
        let pipe = Rc::new(RefCell::new(Pipe { room, buffers, ..Pipe::default() }));
        let Ok(conn) = self.shards[shard].shard.adopt(Socket(Rc::clone(&pipe))) else { panic!("there is room") };
        self.slots_reused += u64::from(!self.slots.insert((shard, conn.slot)));
        (conn, pipe)
    }

    pub fn edge(&mut self, shard: usize, conn: ConnId, readiness: Readiness) {
        self.shards[shard].events.push((conn, readiness));
    }

    pub fn readable(&mut self, shard: usize, conn: ConnId) {
        self.edge(shard, conn, Readiness { readable: true, ..Readiness::default() });
    }

    /// A request of the control thread, answered in the shard's next turn.
    pub fn request(&mut self, shard: usize, request: ControlRequest) {
        self.shards[shard].requests.push(request);
        self.shards[shard].flag.store(true, Ordering::SeqCst);
    }

    /// A request between two turns, which does not change the schedule.
    pub fn request_now(&mut self, shard: usize, request: ControlRequest) {
        let SimShard { shard, .. } = &mut self.shards[shard];
        shard.app.request(&mut shard.cx, request);
    }

    /// Starts the orderly shutdown: every client is closed at once.
    pub fn begin_drain(&mut self) {
        for sim in &mut self.shards {
            sim.shard.begin_drain(0, Upgrades::Refuse);
            sim.flag.store(true, Ordering::SeqCst);
        }
    }

    /// No connection is left, and no state of one.
    pub fn assert_empty(&self) {
        for SimShard { shard, .. } in &self.shards {
            let snapshot = shard.snapshot();
            assert!(shard.is_idle(), "state was left behind: {snapshot:?}");
            let left = (snapshot.subscriptions, snapshot.backlog_bytes, snapshot.spill_bytes, snapshot.users);
            assert_eq!(left, (0, 0, 0, 0));
            assert_eq!((snapshot.backlog_kept_bytes, snapshot.backlog_connections), (0, 0));
            assert_eq!((snapshot.backlog_reserved_bytes, snapshot.replies_waiting), (0, 0));
        }
    }
}
