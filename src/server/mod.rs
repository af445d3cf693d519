//! Wiring: config → engine → control thread; signals; the orderly end.
//!
//! Everything that can fail fails here, before the first client is let in, with the setting to change. Threads are one per
//! shard; the caller's own becomes the control thread.

pub(crate) mod backend_calls;
pub(crate) mod log_writer;
pub(crate) mod memory_watch;
pub(crate) mod reload;
pub(crate) mod shard_client;
pub(crate) mod shutdown;
pub(crate) mod start;
pub(crate) mod systemd;
pub(crate) mod tls_files;
pub(crate) mod wall_clock;

pub use reload::Load;
pub use shard_client::ShardClient;
pub use shutdown::Ended;
pub use start::StartError;

use std::sync::Arc;

use crate::admin::process_stats::ProcessStats;
use crate::config::{Config, Handover, engine_config};
use crate::engine::net::affinity;
use crate::engine::threads::{self, Beside, Plan};
use crate::handover::Taken;
use crate::messaging::{HandoverPeer, Messaging, Settings};
use crate::pubsub::Placement;
use crate::site::Site;
use reload::Running;
use shutdown::{Charge, Succession};

/// Runs the server until it is told to end by SIGTERM or SIGINT. `load` reads the configuration again, at SIGHUP.
pub fn run(config: Config, load: Load) -> Result<Ended, StartError> {
    // Before anything else: a signal that comes while it starts ends it in order as soon as it has.
    let ears = crate::server::shutdown::Ears::open()?;
    let files = start::raise_file_limit()?;
    let cores = start::choose_cores(&config)?;
    if !config.machine.own_file_tables {
        start::grow_file_table(files);
    }
    let life = Arc::new(ProcessStats::default());
    let mut taken = take_over(&config, &life)?;
    let mut doors = start::Doors::open(&config, taken.as_mut())?;
    let backends = crate::server::backend_calls::Backends::open(&config).map_err(StartError::Backend)?;
    let mut limits = engine_config(&config);
    // No shard can have more connections than there are descriptors: what is reserved for them follows.
    limits.connections_max = limits.connections_max.min(u32::try_from(files).unwrap_or(u32::MAX));
    let plan = Plan {
        listen: config.listeners.iter().map(|listen| listen.address.clone()).collect(),
        manners: config.listeners.iter().map(|listen| listen.options).collect(),
        tls: doors.tls.as_ref().map(crate::server::tls_files::Tls::clients),
        cores: cores.clone(),
        limits: limits.clone(),
        join: config.join,
    };
    let homes = Placement::new(cores.len(), uuid::Uuid::new_v4().into_bytes());
    let link = taken.as_ref().map(|taken| Arc::clone(&taken.link));
    let twin = link.clone().map(|link| link as Arc<dyn HandoverPeer>);
    let settings = Settings { twin, ..Settings::new(&config, backends.desk.entrance()) };
    let (node, echo) = (Arc::new(settings), config.echo.enabled);
    let make = {
        let (homes, shards, settings) = (homes.clone(), cores.len(), Arc::clone(&node));
        move |_| Site::new(Messaging::new(Arc::clone(&settings), homes.clone(), shards), echo)
    };
    let mut beside = Beside {
        passed: taken.as_mut().map(|taken| std::mem::take(&mut taken.clients)).unwrap_or_default(),
        keep: !config.handover.socket.is_empty(),
        private: doors.descriptors().chain(taken.iter().map(Taken::descriptor)).collect(),
    };
    let mut engine = threads::start_with(&plan, &mut beside, make)?;
    engine.missed.iter().for_each(|missed| log::warn!("{missed}"));
    for (at, _) in beside.passed {
        log::warn!("nobody listens on {at} any more: the process before this one did, and `listen` does not name it");
    }
    if let Some(cores) = &config.control_cores {
        affinity::pin_to(cores).map_err(StartError::ControlCores)?;
    }
    start::greet(&config, &engine.bound, &doors, &cores, files);
    let shards = ShardClient::new(std::mem::take(&mut engine.ports), homes, link);
    let memory = crate::server::memory_watch::Watch::new(&config, Arc::clone(&engine.door));
    ears.watch(memory.clone());
    let succession = Succession { taken, sockets: std::mem::take(&mut engine.sockets), life };
    let (desk, calls) = backends.split();
    let (started, limits, tls) = (config.clone(), Arc::new(limits), doors.tls.take());
    let running = Running { config, started, desk, node, limits, tls };
    let ended = crate::server::shutdown::control(
        ears,
        Charge { running, load, shards, doors, calls, memory, succession },
        &engine,
    );
    engine.join();
    Ok(ended)
}

/// The sockets of the process before this one, where that is asked for and there is one.
fn take_over(config: &Config, life: &Arc<ProcessStats>) -> Result<Option<Taken>, StartError> {
    let Handover { socket, take, bytes_max } = &config.handover;
    if !take {
        return Ok(None);
    }
    crate::handover::take(socket, *bytes_max, life).map_err(StartError::Handover)
}
