//! The control thread's life: serve the admin address, write the log, and end all in order when told to.
//!
//! The end: readiness red, for a while where a load balancer must see it first; listeners closed, closes in waves while
//! the rest is served. A shard without connections goes on serving as home; all stop together when nobody is connected and
//! nothing is on its way, or at the deadline. A second signal stops at once.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::log_writer;
use super::memory_watch::Watch;
use super::reload::{Load, Reload, Running};
use super::shard_client::ShardClient;
use super::start::{Doors, StartError};
use super::systemd;
use super::tls_files::Tls;
use super::wall_clock;
use crate::admin;
use crate::admin::process_stats::ProcessStats;
use crate::admin::{Current, Settings, ShardApi};
use crate::config::{Config, Handover, Shutdown};
use crate::engine::net::listener::{Address, Sockets};
use crate::engine::stats::Snapshot;
use crate::engine::threads::Engine;
use crate::handover::link::Link;
use crate::handover::{Keeper, Taken, last_words};
use crate::messaging::Ask;

/// How often the shards are asked whether they are done, and their records are written.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often the log says how far the end has come.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// How the process came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Everybody was told, or the deadline for that came.
    InOrder,
    /// A second signal: whoever was still here was cut.
    AtOnce,
}

/// The control thread's loop, which already hears signals: made before the first client is let in, so that a signal never
/// finds the process unprepared and cuts clients without a close.
pub struct Ears {
    runtime: Runtime,
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Ears {
    pub fn open() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Kernel)?;
        let entered = runtime.enter();
        let term = signal(SignalKind::terminate()).map_err(StartError::Kernel)?;
        let int = signal(SignalKind::interrupt()).map_err(StartError::Kernel)?;
        let hup = signal(SignalKind::hangup()).map_err(StartError::Kernel)?;
        drop(entered);
        Ok(Self { runtime, term, int, hup })
    }

    /// Has the control thread look after the memory beside all else.
    pub fn watch(&self, watch: Watch) {
        self.runtime.spawn(watch.run());
    }
}

/// What the control thread is in charge of.
pub struct Charge<C> {
    pub running: Running,
    pub load: Load,
    pub shards: ShardClient,
    pub doors: Doors,
    /// Carries out the shards' calls.
    pub calls: C,
    pub memory: Watch,
    pub succession: Succession,
}

/// Returns when all shards were told to stop, with how it came to that.
pub fn control(ears: Ears, charge: Charge<impl Future<Output = ()>>, engine: &Engine<Ask>) -> Ended {
    let Ears { runtime, term, int, hup } = ears;
    let Charge { running, load, shards, doors, calls, memory, succession } = charge;
    let client = first_tcp(&engine.bound);
    let admin = running.config.admin.address;
    runtime.block_on(async {
        let config = &running.config;
        tokio::spawn(log_writer::write(engine.journals.clone()));
        tokio::spawn(wall_clock::watch(shards.clone()));
        let life = Arc::clone(&succession.life);
        let settings = Settings {
            client_tls: client.is_some_and(|(place, _)| config.listeners[place].options.tls),
            tls: running.tls.as_ref().and_then(Tls::admin),
            backend: Some(running.desk.caller()),
            process_stats: Arc::clone(&life),
            ..Settings::new(config, client.map(|(_, at)| at))
        };
        let (told, settings) = watch::channel(Arc::new(settings));
        let heir = succession.begin(config, &shards, &doors);
        let mut served = Vec::new();
        #[cfg(feature = "grpc")]
        if let Some(listener) = doors.grpc {
            served.push(tokio::spawn(serve_grpc(listener, shards.clone(), admin::api_settings(&settings))));
        }
        if let Some(listener) = doors.admin {
            served.push(tokio::spawn(serve_admin(listener, shards.clone(), settings, admin)));
        }
        running.desk.begin(&shards);
        let (door, shards_too) = (Arc::clone(&engine.door), shards.clone());
        let reload = Reload { load, shards: shards_too, life, running: running.into(), control: told, door, memory };
        systemd::ready();
        let ended = tokio::select! {
            () = calls => Ended::InOrder,
            () = reload.run(hup) => Ended::InOrder,
            ended = end_when_told(&reload, &shards, Signals { term, int }, heir, served) => ended,
        };
        shards.stop();
        log_writer::write_waiting(&engine.journals);
        ended
    })
}

/// Where the page's clients connect, and the place of that among the listeners.
pub fn first_tcp(bound: &[Address]) -> Option<(usize, SocketAddr)> {
    bound.iter().enumerate().find_map(|(place, at)| if let Address::Tcp(at) = at { Some((place, *at)) } else { None })
}

async fn serve_admin(listener: TcpListener, shards: ShardClient, settings: Current, address: Option<SocketAddr>) {
    if let Err(error) = admin::serve(listener, shards, settings).await {
        log::error!("the admin address {address:?} is no longer served: {error}");
    }
}

#[cfg(feature = "grpc")]
async fn serve_grpc(listener: TcpListener, shards: ShardClient, settings: crate::api::settings::Current) {
    if let Err(error) = crate::api::grpc::serve(listener, shards, settings).await {
        log::error!("the gRPC API is no longer served: {error}");
    }
}

/// Who was before this process, and what the next one gets.
pub struct Succession {
    pub taken: Option<Taken>,
    pub sockets: Sockets,
    pub life: Arc<ProcessStats>,
}

/// The task that waits for the next process, and where it says that that one is ready.
struct Heir {
    keeper: Option<(JoinHandle<()>, PathBuf)>,
    ready: mpsc::UnboundedReceiver<Arc<Link>>,
    /// Without a keeper nobody ever sends; this keeps the channel open.
    _open: mpsc::UnboundedSender<Arc<Link>>,
}

impl Succession {
    fn begin(self, config: &Config, shards: &ShardClient, doors: &Doors) -> Heir {
        let Self { taken, sockets, life } = self;
        if let Some(taken) = taken {
            tokio::spawn(taken.ready(shards.clone()));
        }
        let (open, ready) = mpsc::unbounded_channel();
        let Handover { socket, bytes_max, .. } = &config.handover;
        if socket.is_empty() {
            return Heir { keeper: None, ready, _open: open };
        }
        let (admin, grpc) = (doors.admin.as_ref(), doors.grpc.as_ref());
        let keeper = match Keeper::open(socket, sockets, admin, grpc, *bytes_max, &life) {
            Ok(keeper) => {
                log::info!("the next process takes over at {socket}");
                let (path, told) = (keeper.path().to_owned(), open.clone());
                let keep = keeper.keep(shards.clone(), move |link| drop(told.send(link)));
                Some((tokio::spawn(keep), path))
            }
            Err(error) => {
                log::error!("no process can take over from this one: handover.socket, {socket}: {error}");
                None
            }
        };
        Heir { keeper, ready, _open: open }
    }
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }
}

/// Waits for a signal, or for another process that takes over, and ends all in order; a second signal cuts it short.
/// `served`: the tasks that take connections at the control thread's own addresses.
async fn end_when_told(
    reload: &Reload,
    shards: &ShardClient,
    mut signals: Signals,
    mut heir: Heir,
    served: Vec<JoinHandle<()>>,
) -> Ended {
    let link = tokio::select! { () = signals.next() => None, link = heir.ready.recv() => link };
    if link.is_some() {
        // The other process has these listeners too; who is connected here is answered once more.
        served.iter().for_each(JoinHandle::abort);
    } else if let Some((keeper, path)) = heir.keeper.take() {
        keeper.abort();
        let _ = std::fs::remove_file(path);
    }
    systemd::stopping();
    // As it holds now.
    let shutdown = reload.config().shutdown.clone();
    let in_order = async {
        end_in_order(&shutdown, shards, link.is_some()).await;
        if let Some(link) = &link {
            last_words(link).await;
        }
    };
    let second = async {
        if link.is_some() {
            // Whoever stops both means that both end in order.
            signals.next().await;
            log::info!("ending already, since another process took over; one more signal ends at once");
        }
        signals.next().await;
    };
    tokio::select! {
        () = in_order => Ended::InOrder,
        () = second => {
            log::warn!("ended at once: second signal; who was still connected is cut");
            Ended::AtOnce
        }
    }
}

/// Red, then closed, then empty. `admits`: another process takes the newcomers.
async fn end_in_order(shutdown: &Shutdown, shards: &ShardClient, admits: bool) {
    let limit = shutdown.timeout;
    if !admits && !shutdown.delay.is_zero() {
        shards.turn_red();
        log::info!("ending in {:?}: /health is red, clients are still let in", shutdown.delay);
        sleep(shutdown.delay).await;
    }
    let here = open(&shards.snapshots().await);
    let (window, paced) = shutdown.window_for(here);
    if !paced {
        log::warn!(
            "{here} connections cannot be closed at {} a second within shutdown.timeout: they are closed within {window:?}",
            shutdown.rate_max
        );
    }
    log::info!(
        "ending: no new clients, the {here} who are here are closed within {window:?}, the last at {limit:?}; a second \
         signal ends at once"
    );
    shards.drain(window, admits);
    let (began, mut said) = (Instant::now(), Instant::now());
    while began.elapsed() < limit {
        let snapshots = shards.snapshots().await;
        if snapshots.len() == shards.count() && snapshots.iter().all(|snapshot| snapshot.idle) {
            return log::info!("ended: every connection was closed in order");
        }
        if said.elapsed() >= PROGRESS_INTERVAL {
            said = Instant::now();
            log::info!("ending: {} of {here} connections are still open", open(&snapshots));
        }
        sleep(LOOK_INTERVAL).await;
    }
    log::warn!("ended at the deadline with clients still connected: shutdown.timeout is {limit:?}");
}

fn open(snapshots: &[Snapshot]) -> u64 {
    snapshots.iter().map(|snapshot| snapshot.connections).sum()
}
