//! The control thread: the admin address, the gRPC API, the calls to backends, the log of the shards, reloads, and
//! finally the shutdown.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::log_writer;
use super::memory_watch::MemoryWatch;
use super::reload::{Load, Reload, Running};
use super::shard_client::ShardClient;
use super::shutdown::{self, Ended, StopSignals};
use super::start::{ControlListeners, StartError};
use super::startup_log::first_tcp_listener;
use super::successor::Handover;
use super::tls_files::Tls;
use super::wall_clock;
use crate::admin::{self, Current, Settings};
use crate::api::settings::Settings as ApiSettings;
use crate::broker::durable::LogStats;
use crate::broker::stats::BrokerStats;
use crate::cluster::ClusterSetup;
use crate::engine::threads::Engine;
use crate::messaging::ControlRequest;

/// The runtime of the control thread, with its signal handlers. It is made before the first client is accepted, so that a
/// signal never ends the process without closing its clients.
pub(crate) struct ControlRuntime {
    runtime: Runtime,
    stop: StopSignals,
    hangup: Signal,
}

/// What the control thread works with.
pub(crate) struct ControlArgs<C> {
    pub running: Running,
    pub load: Load,
    pub shards: ShardClient,
    pub listeners: ControlListeners,
    /// Carries out the shards' calls to backends.
    pub calls: C,
    pub memory: MemoryWatch,
    pub handover: Handover,
    /// The id of this process, for the server API and the cluster.
    pub uid: String,
    /// If several servers share a broker.
    pub cluster: Option<ClusterSetup>,
    pub stores: StoreStats,
}

/// The numbers of what stores channels.
pub(crate) struct StoreStats {
    pub brokers: Arc<BrokerStats>,
    pub log: Arc<LogStats>,
}

impl ControlRuntime {
    pub(crate) fn new() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Kernel)?;
        let entered = runtime.enter();
        let handler = |kind| signal(kind).map_err(StartError::Kernel);
        let stop = StopSignals { term: handler(SignalKind::terminate())?, int: handler(SignalKind::interrupt())? };
        let hangup = handler(SignalKind::hangup())?;
        drop(entered);
        Ok(Self { runtime, stop, hangup })
    }

    /// Where tasks can be spawned before `run`.
    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Returns when every shard was told to stop, with how the server ended.
    pub(crate) fn run(self, args: ControlArgs<impl Future<Output = ()>>, engine: &Engine<ControlRequest>) -> Ended {
        let Self { runtime, stop, hangup } = self;
        let ControlArgs { running, load, shards, listeners, calls, memory, handover, uid, cluster, stores } = args;
        runtime.block_on(async {
            tokio::spawn(memory.clone().run());
            tokio::spawn(log_writer::run(engine.log_records.clone()));
            tokio::spawn(wall_clock::watch(shards.clone()));
            let stats = Arc::clone(&handover.stats);
            let process_stats = Arc::clone(&stats);
            let StoreStats { brokers, log: durable_log } = stores;
            let settings = Settings { process_stats, brokers, durable_log, ..admin_settings(&running, engine, uid) };
            let (control, settings) = watch::channel(Arc::new(settings));
            if let Some(cluster) = cluster {
                shards.set_cluster(cluster.start(admin::api_settings(&settings), shards.clone()));
            }
            let (serving, is_serving) = watch::channel(false);
            let successor = handover.start(&running.config.handover, &shards, &listeners, serving);
            let servers = serve(listeners, &shards, &settings, running.config.admin.address, &is_serving);
            running.backends.start_key_fetches(&shards);
            let reload = Reload {
                load,
                shards: shards.clone(),
                stats,
                running: running.into(),
                control,
                admission: Arc::clone(&engine.admission),
                memory,
            };
            let ended = tokio::select! {
                // Neither returns before the shutdown.
                () = calls => Ended::InOrder,
                () = reload.run(hangup) => Ended::InOrder,
                ended = shutdown::run(&reload, &shards, stop, successor, servers) => ended,
            };
            shards.stop();
            log_writer::write_waiting(&engine.log_records);
            ended
        })
    }
}

fn admin_settings(running: &Running, engine: &Engine<ControlRequest>, uid: String) -> Settings {
    let config = &running.config;
    let client = first_tcp_listener(&engine.bound);
    let settings = Settings::new(config, client.map(|(_, at)| at));
    Settings {
        api: Arc::new(ApiSettings { uid, ..ApiSettings::clone(&settings.api) }),
        client_tls: client.is_some_and(|(index, _)| config.listeners[index].options.tls),
        tls: running.tls.as_ref().and_then(Tls::admin),
        backend: Some(running.backends.backend()),
        ..settings
    }
}

/// Starts the tasks that accept at the control thread's listeners once this process serves.
fn serve(
    listeners: ControlListeners,
    shards: &ShardClient,
    settings: &Current,
    admin: Option<SocketAddr>,
    is_serving: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    let serving = || {
        let mut is_serving = is_serving.clone();
        // Fails if the process ends before.
        async move { is_serving.wait_for(|is_serving| *is_serving).await.is_ok() }
    };
    #[cfg(feature = "grpc")]
    if let Some(listener) = listeners.grpc {
        let serve = serve_grpc(listener, shards.clone(), settings.clone());
        tasks.push(spawn_after(serving(), serve));
    }
    if let Some(listener) = listeners.admin {
        let serve = serve_admin(listener, shards.clone(), settings.clone(), admin);
        tasks.push(spawn_after(serving(), serve));
    }
    tasks
}

/// A process that takes over accepts when it has the order of the channels.
fn spawn_after(
    serving: impl Future<Output = bool> + Send + 'static,
    serve: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async {
        if serving.await {
            serve.await;
        }
    })
}

async fn serve_admin(listener: TcpListener, shards: ShardClient, settings: Current, address: Option<SocketAddr>) {
    if let Err(error) = admin::serve(listener, shards, settings).await {
        let address = address.map_or(String::new(), |address| format!(" {address}"));
        log::error!("the admin address{address} is not served: {error}; clients are served without it");
    }
}

#[cfg(feature = "grpc")]
async fn serve_grpc(listener: TcpListener, shards: ShardClient, settings: Current) {
    if let Err(error) = crate::api::grpc::service::serve(listener, shards, admin::api_settings(&settings)).await {
        log::error!("the gRPC API is not served: {error}; clients are served without it");
    }
}
