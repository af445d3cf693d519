//! Wiring: configuration → engine → control thread; signals; the orderly shutdown.
//!
//! Everything that can fail fails here, before the first client is accepted, with the setting to change. There is one
//! thread per shard; the calling thread becomes the control thread.
//!
//! - `start`           checks before the start, and the control thread's listeners · `startup_log` what the log then says
//! - `control_thread`  what the control thread runs · `successor` the next process · `shutdown` the end
//! - `brokers`         the queues and threads of brokers · `durable_log` those of the durable log
//! - `shard_client`    how the control thread asks the shards · `backend_calls` how the shards call backends
//! - `reload`          SIGHUP · `tls_files` certificates and ticket keys
//! - `store`           the durable log of a directory, for the command line
//! - `memory_watch`, `wall_clock`, `log_writer`, `systemd`   what the control thread looks after

pub(crate) mod backend_calls;
pub(crate) mod brokers;
pub(crate) mod control_thread;
pub(crate) mod durable_log;
pub(crate) mod log_writer;
pub(crate) mod memory_watch;
pub(crate) mod reload;
pub(crate) mod shard_client;
pub(crate) mod shutdown;
pub(crate) mod start;
pub(crate) mod startup_log;
pub mod store;
pub(crate) mod successor;
pub(crate) mod systemd;
pub(crate) mod tls_files;
pub(crate) mod wall_clock;

pub use reload::Load;
pub use shard_client::ShardClient;
pub use shutdown::Ended;
pub use start::{StartError, check_files};

use std::sync::Arc;

use crate::admin::process_stats::ProcessStats;
use crate::cluster::{ClusterSetup, ConnectedUsers, connected_users};
use crate::config::{Config, engine_config};
use crate::engine::config::EngineConfig;
use crate::engine::net::affinity;
use crate::engine::threads::{self, Plan, Surroundings};
use crate::handover::Inherited;
use crate::messaging::{HandoverPeer, Hooks, Messaging, Settings, UserConnected};
use crate::pubsub::Placement;
use backend_calls::BackendQueue;
use brokers::{BrokerPlan, RunningBrokers};
use control_thread::{ControlArgs, ControlRuntime, StoreStats};
use durable_log::{LogPlan, Predecessor, RunningLog};
use memory_watch::MemoryWatch;
use reload::Running;
use start::ControlListeners;
use successor::Handover;
use tls_files::Tls;

/// Runs the server until SIGTERM or SIGINT ends it. `load` reads the configuration again at SIGHUP; `hooks` are those of a
/// program that embeds the server.
pub fn run(config: Config, load: Load, hooks: Option<Arc<dyn Hooks>>) -> Result<Ended, StartError> {
    // First of all: a signal that arrives during the start shuts the server down in order as soon as it runs.
    let runtime = ControlRuntime::new()?;
    let file_limit = start::raise_file_limit()?;
    let cores = start::choose_cores(&config)?;
    if !config.machine.own_file_tables {
        start::grow_file_table(file_limit);
    }
    let stats = Arc::new(ProcessStats::default());
    let mut inherited = start::request_inherited(&config, &stats)?;
    let listeners = ControlListeners::open(&config, inherited.as_mut())?;
    let tls = Tls::open(&config.tls).map_err(StartError::Tls)?;
    let backends = BackendQueue::open(&config, runtime.handle()).map_err(StartError::Backend)?;
    let limits = engine_limits(&config, file_limit);
    let placement = Placement::new(cores.len(), placement_key(inherited.as_ref()));
    let peer = inherited.as_ref().map(|inherited| Arc::clone(&inherited.link));
    let uid = uuid::Uuid::new_v4().to_string();
    let brokers = BrokerPlan::new(&config, start::open_brokers(&config)?);
    let log = LogPlan::open(&config, predecessor(inherited.as_ref()))?;
    let (users, reports) = connected_users();
    let settings = Arc::new(Settings {
        user_connected: brokers.is_some().then(|| report_connected_users(users)),
        handover_peer: peer.clone().map(|link| link as Arc<dyn HandoverPeer>),
        hooks,
        node: uid.as_str().into(),
        ..Settings::new(&config, backends.access.sender())
    });
    let make = {
        let (placement, shards, settings) = (placement.clone(), cores.len(), Arc::clone(&settings));
        let links = brokers.as_ref().map(BrokerPlan::links);
        let links = log.as_ref().map_or(links.clone(), |log| Some(log.add_to(links, &config)));
        move |shard| {
            let messaging = Messaging::new(Arc::clone(&settings), placement.clone(), shards);
            match &links {
                Some(links) => messaging.with_brokers(links.clone(), shard),
                None => messaging,
            }
        }
    };
    let plan = plan(&config, &cores, &limits, tls.as_ref());
    let mut surroundings = surroundings(&config, &listeners, inherited.as_mut());
    let mut engine = threads::start_with(&plan, &mut surroundings, make)?;
    if let Some(cores) = &config.control_cores {
        affinity::pin_to(cores).map_err(StartError::ControlCores)?;
    }
    startup_log::log_unused(&engine.missed, surroundings.passed);
    startup_log::log_startup(&config, &engine.bound, &listeners, &cores, file_limit);
    let mut brokers = brokers.map(|plan| plan.start(&engine.ports, &uid)).transpose().map_err(StartError::Kernel)?;
    let log_stats = log.as_ref().map(|log| Arc::clone(&log.stats)).unwrap_or_default();
    let log_peer = inherited.as_ref().map(Inherited::peer_shards);
    let log = log.map(|plan| plan.start(&engine.ports, log_peer)).transpose().map_err(StartError::Kernel)?;
    let bus = brokers.as_mut().and_then(|brokers| brokers.bus.take());
    let cluster = bus.map(|bus| ClusterSetup::new(bus, reports));
    let shards = ShardClient::new(std::mem::take(&mut engine.ports), placement, peer);
    log.iter().for_each(|log| shards.set_log(log.handle.clone()));
    let memory = MemoryWatch::new(&config, Arc::clone(&engine.admission));
    let gives_channels = config.brokers.publications.is_none();
    let handover = Handover { inherited, sockets: std::mem::take(&mut engine.sockets), gives_channels, stats };
    let (access, calls) = backends.split();
    let running = Running {
        started: config.clone(),
        config,
        backends: access,
        messaging: settings,
        limits: Arc::new(limits),
        tls,
    };
    let broker_stats = brokers.as_ref().map(|brokers| Arc::clone(&brokers.stats)).unwrap_or_default();
    let stores = StoreStats { brokers: broker_stats, log: log_stats };
    let args = ControlArgs { running, load, shards, listeners, calls, memory, handover, uid, cluster, stores };
    let ended = runtime.run(args, &engine);
    engine.join();
    // They end once the shards have dropped their ends of the queues.
    brokers.into_iter().for_each(RunningBrokers::join);
    log.into_iter().for_each(RunningLog::join);
    Ok(ended)
}

/// A process that hands over its channels hands over the log once they are here.
fn predecessor(inherited: Option<&Inherited>) -> Predecessor {
    if inherited.is_some() { Predecessor::HasTheLog } else { Predecessor::None }
}

/// That of the process that this one takes the channels over from, so that names keep their slots.
fn placement_key(inherited: Option<&Inherited>) -> [u8; 16] {
    let passed = inherited.and_then(|inherited| inherited.placement_key);
    passed.unwrap_or_else(|| uuid::Uuid::new_v4().into_bytes())
}

fn surroundings(config: &Config, listeners: &ControlListeners, inherited: Option<&mut Inherited>) -> Surroundings {
    let keep = !config.handover.socket.is_empty();
    let mut private: Vec<_> = listeners.descriptors().collect();
    let Some(inherited) = inherited else { return Surroundings { keep, private, ..Surroundings::default() } };
    private.push(inherited.descriptor());
    let (passed, accept_later) = (std::mem::take(&mut inherited.clients), inherited.takes_channels());
    Surroundings { passed, accept_later, keep, private }
}

/// How shards tell the cluster of users with a single connection.
fn report_connected_users(users: ConnectedUsers) -> Arc<UserConnected> {
    Arc::new(move |user, client, channel| users.report(user, client, channel))
}

fn engine_limits(config: &Config, file_limit: u64) -> EngineConfig {
    let mut limits = engine_config(config);
    // Every connection is a descriptor, so that a shard never needs memory for more connections than that.
    limits.connections_max = limits.connections_max.min(u32::try_from(file_limit).unwrap_or(u32::MAX));
    limits
}

fn plan(config: &Config, cores: &[Option<usize>], limits: &EngineConfig, tls: Option<&Tls>) -> Plan {
    Plan {
        listen: config.listeners.iter().map(|listen| listen.address.clone()).collect(),
        options: config.listeners.iter().map(|listen| listen.options).collect(),
        tls: tls.map(Tls::clients),
        cores: cores.to_vec(),
        config: limits.clone(),
        join: config.join,
    }
}
