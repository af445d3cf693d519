//! Wiring: config → engine → control thread; signals; the orderly end.
//!
//! Everything that can fail fails here, before the first client is let in, with the setting to change. Threads are one per
//! shard; the caller's own becomes the control thread.

mod backends;
mod clock;
mod ending;
mod fleet;
mod memory;
mod records;
mod start;

pub use ending::Ended;
pub use fleet::Shards;
pub use start::StartError;

use std::sync::Arc;

use crate::config::{Config, Place};
use crate::hub::Homes;
use crate::node::{Node, Settings};
use crate::shard::engine::{self, Plan};
use crate::shard::listen::Address;
use crate::shard::pin;
use crate::site::Site;

/// Runs the server until it is told to end by SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<Ended, StartError> {
    // Before anything else: a signal that comes while it starts ends it in order as soon as it has.
    let ears = ending::Ears::open()?;
    let files = start::raise_file_limit()?;
    let cores = start::choose_cores(&config)?;
    let doors = start::Doors { admin: start::open_admin(&config)?, grpc: start::open_grpc(&config)? };
    let (backends, calls) = backends::Backends::open(&config).map_err(StartError::Backend)?;
    let mut limits = config.engine.clone();
    limits.bytes_dry_run = config.client.rate_limit_dry_run;
    // No shard can have more connections than there are descriptors: what is reserved for them follows.
    limits.connections_max = limits.connections_max.min(u32::try_from(files).unwrap_or(u32::MAX));
    let plan = Plan {
        listen: config.listeners.iter().map(|listen| address(&listen.place)).collect(),
        proxied: config.listeners.iter().map(|listen| listen.proxied).collect(),
        cores: cores.clone(),
        limits,
        join: config.join,
    };
    let (homes, settings, echo) = (
        Homes::new(cores.len(), uuid::Uuid::new_v4().into_bytes()),
        Arc::new(Settings::new(&config, move |call| calls.try_send(call).is_ok())),
        config.echo,
    );
    let make = {
        let (homes, shards) = (homes.clone(), cores.len());
        move |_| Site::new(Node::new(Arc::clone(&settings), homes.clone(), shards), echo)
    };
    let mut engine = engine::start(&plan, make)?;
    if let Some(cores) = &config.control_cores {
        pin::pin_to(cores).map_err(StartError::ControlCores)?;
    }
    start::greet(&config, &engine.bound, &doors, &cores, files);
    let shards = Shards::new(std::mem::take(&mut engine.ports), homes);
    if let Some(watch) = memory::Watch::new(&config, Arc::clone(&engine.door)) {
        ears.watch(watch);
    }
    let ended = ending::control(ears, &config, shards, doors, &engine.journals, &engine.bound, backends);
    engine.join();
    Ok(ended)
}

fn address(place: &Place) -> Address {
    match place {
        Place::Tcp(address) => Address::Tcp(*address),
        Place::Unix(path) => Address::Unix(path.clone()),
        Place::Inherited(number) => Address::Inherited(*number),
    }
}
