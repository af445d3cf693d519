//! The control thread's life: serve the admin address, write the log, and end all in order when told to.
//!
//! The end: readiness red, listeners closed, closes in waves while the rest is served. A shard without connections goes on
//! serving as home; all stop together when nobody is connected and nothing is on its way, or at the deadline. A
//! second signal stops at once.

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
use crate::config::Config;
use crate::control::{self, Fleet, Settings};
use crate::ids::ShardId;
use crate::shard::journal::Note;
use crate::shard::listen::Address;

/// How often the shards are asked whether they are done, and their records are written.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The part of the shutdown timeout over which the closes are spread; the rest is for the closing hand-shakes.
const WINDOW_PART: u32 = 3;

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

/// Returns when all shards were told to stop.
pub fn control(
    ears: Ears,
    config: &Config,
    shards: Shards,
    doors: Doors,
    journals: &[Receiver<(ShardId, Note)>],
    bound: &[Address],
    backends: Backends,
) {
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
        tokio::select! {
            () = backends.run(shards.clone()) => {}
            () = end_when_told(config, &shards, term, int) => {}
        }
        shards.stop();
        records::write_waiting(journals);
    });
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

async fn end_when_told(config: &Config, shards: &Shards, mut term: Signal, mut int: Signal) {
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    let limit = config.shutdown_timeout;
    log::info!("ending: no new clients, those who are here are closed within {limit:?}; a second signal ends at once");
    shards.drain(window(limit));
    let drained = async {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let snapshots = shards.snapshots().await;
            if snapshots.len() == shards.count() && snapshots.iter().all(|snapshot| snapshot.idle) {
                return log::info!("ended: every connection was closed in order");
            }
            sleep(LOOK_INTERVAL).await;
        }
        log::warn!("ended at the deadline with clients still connected: shutdown.timeout is {limit:?}");
    };
    tokio::select! {
        () = drained => {}
        _ = term.recv() => log::warn!("ended at once: second signal"),
        _ = int.recv() => log::warn!("ended at once: second signal"),
    }
}

fn window(limit: Duration) -> Duration {
    (limit / WINDOW_PART).min(Duration::from_secs(5))
}
