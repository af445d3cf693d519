//! All shards of a process: descriptors first, then the threads. This is where a program puts its own app on the engine.

use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Receiver;
use mio::Poll;

use super::context::Mailbox;
use super::control_port::{Inbox, Port, port};
use super::event_loop::{Eventfd, Runner, poll};
use super::log_ring::{LogRecord, LogRing};
use super::mailbox::{self, Wake};
use super::net::affinity;
use super::net::fd_table::{Parting, Tables};
use super::net::listener::{self, Address, ListenError, ListenOptions, Sockets, Wanted};
use super::{Admission, App, Shard};
use crate::engine::config::{EngineConfig, Machine};
use crate::ids::ShardId;
use crate::sys::{BusyPoll, set_busy_poll};

/// What the engine shall do. `cores` has one entry per shard: the core it is pinned to, or `None`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub listen: Vec<Address>,
    /// Of each address; where there are fewer, the rest are plain.
    pub manners: Vec<ListenOptions>,
    /// Certificates and rules of the listeners that speak TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub cores: Vec<Option<usize>>,
    pub limits: EngineConfig,
    /// Share TCP ports with another server that listens there already.
    pub join: bool,
}

/// Why the engine does not start.
#[derive(Debug)]
pub enum EngineError {
    Listen(ListenError),
    /// No epoll, eventfd or thread.
    Kernel(io::Error),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Kernel(error) => write!(f, "the kernel refused what the engine needs: {error}"),
        }
    }
}

impl std::error::Error for EngineError {}

/// Running shards. Dropping it leaves them running; `Order::Stop` on every port ends them.
pub struct Engine<R> {
    pub ports: Vec<Port<R>>,
    /// Where each shard's log records come out; somebody must drain them, or they are lost and counted.
    pub journals: Vec<Receiver<(ShardId, LogRecord)>>,
    /// The addresses as bound: port 0 is replaced by the kernel's choice.
    pub bound: Vec<Address>,
    /// Where the control thread says that the memory is full.
    pub door: Arc<Admission>,
    /// The listening sockets, where they were asked for. Whoever has them holds them open.
    pub sockets: Sockets,
    /// What was wished of the machine and is not to be had, for the operator.
    pub missed: Vec<String>,
    threads: Vec<JoinHandle<()>>,
}

impl<R> Engine<R> {
    /// Waits until every shard has stopped.
    pub fn join(self) {
        for thread in self.threads {
            // A shard that panicked has ended the process already.
            let _ = thread.join();
        }
    }
}

/// What a process has beside its shards when they start.
#[derive(Default)]
pub struct Beside {
    /// Listening sockets that another process has passed.
    pub passed: Sockets,
    /// `Engine::sockets` shall be there, to be passed on.
    pub keep: bool,
    /// Descriptors that no shard uses: where shards have tables of their own they keep no copy.
    pub private: Vec<RawFd>,
}

/// What a shard is made of, before its thread makes it: the shard itself never leaves the thread.
struct Seed<A: App, F> {
    mail: Mailbox<A::Mail>,
    poll: Poll,
    listeners: Vec<(OwnedFd, ListenOptions)>,
    tls: Option<Arc<rustls::ServerConfig>>,
    inbox: Inbox<A::Request>,
    journal: LogRing,
    limits: Arc<EngineConfig>,
    door: Arc<Admission>,
    core: Option<usize>,
    began: Instant,
    own_files: Option<Parting>,
    make: F,
}

/// Starts one thread per entry of `plan.cores`; each makes its own app by `make`.
pub fn start<A: App>(
    plan: &Plan,
    make: impl Fn(ShardId) -> A + Clone + Send + 'static,
) -> Result<Engine<A::Request>, EngineError> {
    start_with(plan, &mut Beside::default(), make)
}

/// As `start`, beside what is there already.
pub fn start_with<A: App>(
    plan: &Plan,
    beside: &mut Beside,
    make: impl Fn(ShardId) -> A + Clone + Send + 'static,
) -> Result<Engine<A::Request>, EngineError> {
    let began = Instant::now();
    let machine = &plan.limits.machine;
    let wanted = Wanted { addresses: &plan.listen, cores: &plan.cores, join: plan.join, keep: beside.keep, machine };
    let opened = listener::open(&wanted, &mut beside.passed).map_err(EngineError::Listen)?;
    let polls = plan.cores.iter().map(|_| poll()).collect::<Result<Vec<_>, _>>().map_err(EngineError::Kernel)?;
    let wakers = polls.iter().map(|(_, waker)| Box::new(Eventfd(Arc::clone(waker))) as Box<dyn Wake>).collect();
    let mailboxes = mailbox::mesh(wakers, mailbox::Bounds { mailbox_batches_max: plan.limits.mailbox_batches_max });
    let limits = Arc::new(plan.limits.clone());
    let door = Arc::new(Admission::new(&limits, limits.connections_max as usize * plan.cores.len()));
    let mut engine = Engine {
        ports: Vec::new(),
        journals: Vec::new(),
        bound: opened.bound,
        door: Arc::clone(&door),
        sockets: opened.kept,
        missed: poll_busily(&polls, machine).into_iter().collect(),
        threads: Vec::new(),
    };
    let tables =
        machine.own_file_tables.then(|| Tables::new(&polls, &opened.per_shard, &engine.sockets, &beside.private));
    let seats = mailboxes.into_iter().zip(polls).zip(opened.per_shard).zip(&plan.cores);
    for (((mail, (poll, waker)), listeners), &core) in seats {
        let index = mail.me();
        let (journal, records) = LogRing::new(index);
        let (orders, inbox) = port(Arc::new(move || Eventfd(Arc::clone(&waker)).wake()));
        engine.ports.push(orders);
        engine.journals.push(records);
        let (limits, make) = (Arc::clone(&limits), make.clone());
        // A shard may have several of one address, taken over from a process with more shards.
        let manner = |place: usize| plan.manners.get(place).copied().unwrap_or_default();
        let listeners = listeners.into_iter().map(|(socket, place)| (socket, manner(place))).collect();
        let (door, tls) = (Arc::clone(&door), plan.tls.clone());
        let own_files = tables.as_ref().map(|tables| tables.parting(usize::from(index.0)));
        let seed = Seed { mail, poll, listeners, tls, inbox, journal, limits, door, core, began, own_files, make };
        let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || grow(seed));
        engine.threads.push(thread.map_err(EngineError::Kernel)?);
    }
    if let Some(tables) = tables {
        engine.missed.extend(tables.part(plan.cores.len()));
    }
    Ok(engine)
}

/// Sets busy polling on all of them; what the kernel says to that.
fn poll_busily(polls: &[(Poll, Arc<mio::Waker>)], machine: &Machine) -> Option<String> {
    if machine.busy_poll.is_zero() {
        return None;
    }
    let wanted = BusyPoll {
        us: machine.busy_poll.as_micros() as u32,
        budget: machine.busy_poll_budget as u16,
        prefer: machine.busy_poll_prefer,
    };
    let refused = polls.iter().find_map(|(poll, _)| set_busy_poll(poll, wanted).err())?;
    Some(format!(
        "no busy polling, machine.busy_poll: {refused} (it needs Linux 6.9, and CAP_NET_ADMIN above 64 packets)"
    ))
}

/// The life of a shard's thread. If it ends badly, so does the process: never a half-dead server.
fn grow<A: App, F: Fn(ShardId) -> A>(seed: Seed<A, F>) {
    let whole = WholeOrNothing(seed.mail.me());
    // Before anything is allocated: memory belongs to the NUMA node of the core that touches it first.
    let pinned = seed.core.filter(|&core| affinity::pin(core));
    if let Some(parting) = seed.own_files {
        parting.part();
    }
    let app = (seed.make)(seed.mail.me());
    let mut shard = Shard::new(app, seed.mail, seed.limits, seed.journal, 0);
    shard.cx.door = seed.door;
    shard.note(LogRecord::Started { core: pinned, wanted: seed.core });
    shard.settle();
    let runner = Runner::new(shard, seed.poll, seed.listeners, seed.tls, seed.inbox, seed.began, seed.core);
    if let Err(error) = runner.and_then(Runner::run) {
        panic!("the kernel refused what a shard cannot do without: {error}");
    }
    std::mem::forget(whole);
}

/// Dropped only by a panic.
struct WholeOrNothing(ShardId);

impl Drop for WholeOrNothing {
    fn drop(&mut self) {
        eprintln!("corecast: shard {} has failed (the message is above); the whole process ends with it", self.0);
        std::process::abort();
    }
}
