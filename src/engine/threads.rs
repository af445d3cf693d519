//! Starts all shards of a process: descriptors first, then the threads. A program passes its own app here.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Receiver;
use mio::Poll;

use super::admission::overload::Admission;
use super::app::App;
use super::config::{EngineConfig, Machine};
use super::context::Mailbox;
use super::control_port::{ControlPort, control_port};
use super::event_loop::{EventLoop, Eventfd, LoopParts, poll};
use super::log_ring::{LogRecord, LogRing};
use super::mailbox::{self, Wake};
use super::net::affinity;
use super::net::fd_table::{FdTables, Unshare};
use super::net::listener::{self, Address, ListenError, ListenOptions, ListenSockets, Wanted};
use super::shard::Shard;
use crate::ids::ShardId;
use crate::sys::{BusyPoll, set_busy_poll};

/// What to start. `cores` has one entry for each shard: the core it is pinned to, or `None`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub listen: Vec<Address>,
    /// The options of each address. Addresses beyond them are plain.
    pub options: Vec<ListenOptions>,
    /// Certificates and rules of the TLS listeners.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub cores: Vec<Option<usize>>,
    pub config: EngineConfig,
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

/// Running shards. Dropping it leaves them running; `ControlCommand::Stop` on every port ends them.
pub struct Engine<R> {
    pub ports: Vec<ControlPort<R>>,
    /// The log records of each shard. Records that are not drained in time are lost, and counted.
    pub log_records: Vec<Receiver<(ShardId, LogRecord)>>,
    /// The addresses as bound: port 0 is replaced by the kernel's choice.
    pub bound: Vec<Address>,
    /// What the shards share about new connections. The control thread sets here that the memory is full.
    pub admission: Arc<Admission>,
    /// Duplicates of the listening sockets, if `Surroundings::keep` asked for them. They stay open with these.
    pub sockets: ListenSockets,
    /// Settings of the host that the kernel refused, for the operator.
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

/// What the process of the shards has and needs when they start.
#[derive(Default)]
pub struct Surroundings {
    /// Listening sockets that another process has passed.
    pub passed: ListenSockets,
    /// The shards accept nothing before `ControlCommand::Accept`.
    pub accept_later: bool,
    /// `Engine::sockets` is wanted, to be passed on.
    pub keep: bool,
    /// Descriptors that no shard uses: shards with file tables of their own close their copies.
    pub private: Vec<RawFd>,
}

/// What a shard is made of, before its thread makes it. The shard itself never leaves the thread.
struct Seed<A: App, F> {
    mail: Mailbox<A::Mail>,
    parts: LoopParts<A::Request>,
    log_ring: LogRing,
    config: Arc<EngineConfig>,
    admission: Arc<Admission>,
    unshare: Option<Unshare>,
    make: F,
}

/// Starts one thread for each entry of `plan.cores`; each makes its own app by `make`.
pub fn start<A: App>(
    plan: &Plan,
    make: impl Fn(ShardId) -> A + Clone + Send + 'static,
) -> Result<Engine<A::Request>, EngineError> {
    start_with(plan, &mut Surroundings::default(), make)
}

/// As `start`, with sockets of another process and descriptors of this one.
pub fn start_with<A: App>(
    plan: &Plan,
    surroundings: &mut Surroundings,
    make: impl Fn(ShardId) -> A + Clone + Send + 'static,
) -> Result<Engine<A::Request>, EngineError> {
    let began = Instant::now();
    let machine = &plan.config.machine;
    let keep = surroundings.keep;
    let wanted = Wanted { addresses: &plan.listen, cores: &plan.cores, join: plan.join, keep, machine };
    let opened = listener::open(&wanted, &mut surroundings.passed).map_err(EngineError::Listen)?;
    let polls = plan.cores.iter().map(|_| poll()).collect::<Result<Vec<_>, _>>().map_err(EngineError::Kernel)?;
    let wakers = polls.iter().map(|(_, waker)| Box::new(Eventfd(Arc::clone(waker))) as Box<dyn Wake>).collect();
    let mailboxes = mailbox::mesh(wakers, mailbox::Bounds { mailbox_batches_max: plan.config.mailbox_batches_max });
    let config = Arc::new(plan.config.clone());
    let admission = Arc::new(Admission::new(&config, config.connections_max as usize * plan.cores.len()));
    let mut engine = Engine {
        ports: Vec::new(),
        log_records: Vec::new(),
        bound: opened.bound,
        admission: Arc::clone(&admission),
        sockets: opened.kept,
        missed: enable_busy_poll(&polls, machine).into_iter().collect(),
        threads: Vec::new(),
    };
    let tables = machine
        .own_file_tables
        .then(|| FdTables::new(&polls, &opened.per_shard, &engine.sockets, &surroundings.private));
    let shards = mailboxes.into_iter().zip(polls).zip(opened.per_shard).zip(&plan.cores);
    for (((mail, (poll, waker)), listeners), &core) in shards {
        let id = mail.me();
        let (log_ring, log_records) = LogRing::new(id);
        let (port, inbox) = control_port(Arc::new(move || Eventfd(Arc::clone(&waker)).wake()));
        engine.ports.push(port);
        engine.log_records.push(log_records);
        // A shard may have several sockets of one address, taken over from a process with more shards.
        let options = |address: usize| plan.options.get(address).copied().unwrap_or_default();
        let listeners = listeners.into_iter().map(|(socket, address)| (socket, options(address))).collect();
        let accepts = !surroundings.accept_later;
        let parts = LoopParts { poll, listeners, accepts, tls: plan.tls.clone(), inbox, began, core };
        let (config, admission, make) = (Arc::clone(&config), Arc::clone(&admission), make.clone());
        let unshare = tables.as_ref().map(|tables| tables.unshare(id.index()));
        let seed = Seed { mail, parts, log_ring, config, admission, unshare, make };
        let thread = std::thread::Builder::new().name(format!("shard-{id}")).spawn(move || run_shard(seed));
        engine.threads.push(thread.map_err(EngineError::Kernel)?);
    }
    if let Some(tables) = tables {
        engine.missed.extend(tables.close_shard_copies(plan.cores.len()));
    }
    Ok(engine)
}

/// Sets busy polling on all of them. Returns what the operator must know if the kernel refuses.
fn enable_busy_poll(polls: &[(Poll, Arc<mio::Waker>)], machine: &Machine) -> Option<String> {
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
        "machine.busy_poll: the kernel refused busy polling: {refused} (it needs Linux 6.9, and CAP_NET_ADMIN for more than 64 packets)"
    ))
}

/// The thread of a shard. If it fails, the whole process ends: never half a server.
fn run_shard<A: App, F: Fn(ShardId) -> A>(seed: Seed<A, F>) {
    let abort_on_panic = AbortOnPanic(seed.mail.me());
    let wanted = seed.parts.core;
    // Before anything is allocated: memory belongs to the NUMA node of the core that touches it first.
    let core = wanted.filter(|&core| affinity::pin(core));
    if let Some(unshare) = seed.unshare {
        unshare.run();
    }
    let app = (seed.make)(seed.mail.me());
    let mut shard = Shard::new(app, seed.mail, seed.config, seed.log_ring, 0);
    shard.share_admission(seed.admission);
    shard.cx.log(LogRecord::Started { core, wanted });
    shard.advise_huge_pages();
    if let Err(error) = EventLoop::new(shard, seed.parts).and_then(EventLoop::run) {
        panic!("the kernel refused what a shard needs: {error}");
    }
    std::mem::forget(abort_on_panic);
}

/// Dropped only by a panic.
struct AbortOnPanic(ShardId);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        eprintln!("corecast: shard {} has failed (the message is above); the whole process ends with it", self.0);
        std::process::abort();
    }
}
