//! What the host is measured against: shards and their cores, connections, memory, ports, from the configuration, the
//! profile and what the process may use.

use super::Question;
use super::card::{self, Card};
use super::cpus::Cpus;
use super::host::Host;
use super::profile::Profile;
use crate::config::{Config, Place};
use crate::engine::config::Machine;

pub struct Plan {
    pub profile: Profile,
    /// The process under `/proc`: `self`, or a number.
    pub process: String,
    /// Cores that it may use; empty where that cannot be seen.
    pub usable: Cpus,
    pub shards: usize,
    /// One for each shard; empty where they are not pinned.
    pub cores: Cpus,
    /// Named in `cores` and not to be had.
    pub missing: Vec<usize>,
    pub oversubscribed: bool,
    pub connections: u64,
    pub machine: Machine,
    pub tls: bool,
    pub history_bytes: u64,
    pub backlog_bytes: u64,
    /// `limits.memory_bytes_max`; 0: as the control group says.
    pub memory_bytes_max: u64,
    /// TCP ports that the server listens on.
    pub ports: Vec<u16>,
    /// All clients come from this machine.
    pub loopback: bool,
    pub cards: Vec<Card>,
    /// `--interface` names one that is not there.
    pub no_such_interface: Option<String>,
    /// Also as a machine that generates load.
    pub load: bool,
}

impl Plan {
    pub fn new(host: &Host, question: &Question, config: &Config) -> Self {
        let process = question.process.map_or("self".into(), |number| number.to_string());
        let usable = usable(host, &process);
        let chosen = config.cores.clone().unwrap_or_else(|| usable.iter().collect());
        let shards = config.shards.unwrap_or(chosen.len()).max(1);
        let oversubscribed = shards > chosen.len();
        let missing = chosen.iter().copied().filter(|&core| !usable.is_empty() && !usable.has(core)).collect();
        let cores = if oversubscribed { Cpus::default() } else { chosen.into_iter().take(shards).collect() };
        let limit = Some(u64::from(config.client.connection_limit)).filter(|&limit| limit > 0);
        let tcp = || {
            config.listeners.iter().filter_map(|listen| match listen.place {
                Place::Tcp(at) => Some(at),
                _ => None,
            })
        };
        let loopback = tcp().all(|at| at.ip().is_loopback());
        let interfaces = card::interfaces(host, question.interface.as_deref());
        let named = question.interface.clone();
        Self {
            connections: question.connections.or(limit).unwrap_or(question.profile.connections),
            profile: question.profile.clone(),
            no_such_interface: named.filter(|name| !host.exists(&format!("/sys/class/net/{name}"))),
            machine: config.engine.machine.clone(),
            process,
            usable,
            shards,
            cores,
            missing,
            oversubscribed,
            tls: config.listeners.iter().any(|listen| listen.tls),
            history_bytes: config.history_bytes_max as u64,
            backlog_bytes: config.engine.backlog_bytes_max as u64,
            memory_bytes_max: config.memory_bytes_max as u64,
            ports: tcp().chain(config.admin).chain(config.grpc_api.address).map(|at| at.port()).collect(),
            loopback: loopback && question.interface.is_none(),
            cards: interfaces.iter().map(|name| Card::read(host, name)).collect(),
            load: question.load,
        }
    }

    /// Descriptors that a table needs: one for each connection, some for each shard, some for all.
    pub fn descriptors(&self) -> u64 {
        let shards = self.shards as u64;
        let tables = if self.machine.own_file_tables { shards } else { 1 };
        // Connections are spread by hash, not evenly: a tenth more for each table of its own.
        let spare = if tables > 1 { self.connections / tables / 10 } else { 0 };
        (self.connections / tables).saturating_add(spare + 256 + 8 * shards)
    }

    /// Files that the whole host opens for the server.
    pub fn files(&self) -> u64 {
        self.connections.saturating_add(256 + 8 * self.shards as u64)
    }

    /// Where shards run: unpinned ones anywhere.
    pub fn places(&self) -> &Cpus {
        if self.cores.is_empty() { &self.usable } else { &self.cores }
    }

    /// Below it no setting of the kernel is in the way.
    pub fn is_small(&self) -> bool {
        self.connections < 10_000
    }
}

fn usable(host: &Host, process: &str) -> Cpus {
    let status = host.text(&format!("/proc/{process}/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let online = host.text("/sys/devices/system/cpu/online").ok().and_then(|text| Cpus::list(&text));
    allowed.and_then(Cpus::list).or(online).unwrap_or_default()
}
