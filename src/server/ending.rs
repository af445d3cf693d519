//! The control thread's life: serve the admin address, write the log, and end all in order when told to.
//!
//! The end: readiness red, for a while where a load balancer must see it first; listeners closed, closes in waves while
//! the rest is served. A shard without connections goes on serving as home; all stop together when nobody is connected and
//! nothing is on its way, or at the deadline. A second signal stops at once.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crossbeam_channel::Receiver;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::backends::Backends;
use super::clock;
use super::fleet::Shards;
use super::memory::Watch;
use super::records;
use super::start::{Doors, StartError};
use crate::config::{Config, Shutdown};
use crate::control::{self, Fleet, Settings};
use crate::counters::Snapshot;
use crate::ids::ShardId;
use crate::shard::journal::Note;
use crate::shard::listen::Address;

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
}

impl Ears {
    pub fn open() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Kernel)?;
        let entered = runtime.enter();
        let term = signal(SignalKind::terminate()).map_err(StartError::Kernel)?;
        let int = signal(SignalKind::interrupt()).map_err(StartError::Kernel)?;
        drop(entered);
        Ok(Self { runtime, term, int })
    }

    /// Has the control thread look after the memory beside all else.
    pub fn watch(&self, watch: Watch) {
        self.runtime.spawn(watch.run());
    }
}

/// Returns when all shards were told to stop, with how it came to that.
pub fn control(
    ears: Ears,
    config: &Config,
    shards: Shards,
    doors: Doors,
    journals: &[Receiver<(ShardId, Note)>],
    bound: &[Address],
    backends: Backends,
) -> Ended {
    let Ears { runtime, term, int } = ears;
    let client = bound.iter().find_map(|at| if let Address::Tcp(at) = at { Some(*at) } else { None });
    runtime.block_on(async {
        tokio::spawn(records::write(journals.to_vec()));
        let (unix_ms, now) = clock::read();
        tokio::spawn(clock::watch(shards.clone(), unix_ms, now));
        let settings = Settings { backend: Some(backends.caller()), ..Settings::new(config, client) };
        if let Some(listener) = doors.grpc {
            tokio::spawn(serve_grpc(listener, shards.clone(), settings.clone()));
        }
        if let Some(listener) = doors.admin {
            tokio::spawn(serve_admin(listener, shards.clone(), settings, config.admin));
        }
        let ended = tokio::select! {
            () = backends.run(shards.clone()) => Ended::InOrder,
            ended = end_when_told(config, &shards, term, int) => ended,
        };
        shards.stop();
        records::write_waiting(journals);
        ended
    })
}

async fn serve_admin(listener: TcpListener, shards: Shards, settings: Settings, address: Option<SocketAddr>) {
    if let Err(error) = control::serve(listener, shards, settings).await {
        log::error!("the admin address {address:?} is no longer served: {error}");
    }
}

async fn serve_grpc(listener: TcpListener, shards: Shards, settings: Settings) {
    if let Err(error) = control::grpc::serve(listener, shards, settings).await {
        log::error!("the gRPC API is no longer served: {error}");
    }
}

/// Waits for a signal and ends all in order; a second signal cuts it short.
async fn end_when_told(config: &Config, shards: &Shards, mut term: Signal, mut int: Signal) -> Ended {
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    let second = async {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    };
    tokio::select! {
        () = end_in_order(&config.shutdown, shards) => Ended::InOrder,
        () = second => {
            log::warn!("ended at once: second signal; who was still connected is cut");
            Ended::AtOnce
        }
    }
}

/// Red, then closed, then empty.
async fn end_in_order(shutdown: &Shutdown, shards: &Shards) {
    let limit = shutdown.timeout;
    if !shutdown.delay.is_zero() {
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
    shards.drain(window);
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
