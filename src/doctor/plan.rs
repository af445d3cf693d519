//! What the host is checked against: shards and their cores, connections, memory and ports, from the configuration, the
//! profile and the limits of the process.

use std::path::PathBuf;

use super::cpus::Cpus;
use super::host::Host;
use super::nic::{self, Nic};
use super::profile::Profile;
use crate::config::{Config, Machine};
use crate::engine::net::cpu_quota::{cpu_quota, whole_cores};
use crate::engine::net::listener::Address;

/// What to check.
#[derive(Debug)]
pub struct Question {
    /// The folder with `proc` and `sys`; `/` in use.
    pub root: PathBuf,
    /// The process whose limits and groups are checked. None: the doctor itself; a server started the same way has the same.
    pub process: Option<u32>,
    pub profile: Profile,
    /// None: the interface of the default route.
    pub interface: Option<String>,
    /// None: the configured limit, or else the profile's number.
    pub connections: Option<u64>,
    /// Also check the settings of a machine that generates load.
    pub load: bool,
}

/// What the host needs.
pub(crate) struct Plan {
    pub profile: Profile,
    /// The process under `/proc`: `self`, or a number.
    pub process: String,
    /// Cores that the process may use; empty if this cannot be read.
    pub usable: Cpus,
    pub shards: usize,
    /// One per shard; empty if they are not pinned.
    pub cores: Cpus,
    /// Listed in `cores`, but the process may not use them.
    pub missing: Vec<usize>,
    pub oversubscribed: bool,
    /// The limit on CPU time, in cores.
    pub cpu_quota: Option<f64>,
    pub connections: u64,
    pub machine: Machine,
    pub tls: bool,
    pub history_bytes: u64,
    pub backlog_bytes: u64,
    /// `limits.memory_bytes_max`; 0: from the control group.
    pub memory_bytes_max: u64,
    /// TCP ports that the server listens on.
    pub ports: Vec<u16>,
    /// All clients are on this machine.
    pub loopback: bool,
    pub nics: Vec<Nic>,
    /// `--interface` names an interface that does not exist.
    pub no_such_interface: Option<String>,
    /// Also check as a machine that generates load.
    pub load: bool,
}

impl Plan {
    pub(crate) fn new(host: &Host, question: &Question, config: &Config) -> Self {
        let process = question.process.map_or("self".into(), |number| number.to_string());
        let usable = usable(host, &process);
        let chosen = config.cores.clone().unwrap_or_else(|| usable.iter().collect());
        let cpu_quota = cpu_quota(&process, |path| host.text(path).ok());
        // As the start chooses them.
        let follows = config.cores.is_none() && config.shards.is_none();
        let bound = cpu_quota.filter(|_| follows).map_or(usize::MAX, whole_cores);
        let shards = config.shards.unwrap_or(chosen.len().min(bound)).max(1);
        let oversubscribed = shards > chosen.len();
        let missing = chosen.iter().copied().filter(|&core| !usable.is_empty() && !usable.has(core)).collect();
        let cores = if oversubscribed { Cpus::default() } else { chosen.into_iter().take(shards).collect() };
        let limit = Some(u64::from(config.client.connection_limit)).filter(|&limit| limit > 0);
        let tcp = || {
            config.listeners.iter().filter_map(|listen| match listen.address {
                Address::Tcp(at) => Some(at),
                _ => None,
            })
        };
        let loopback = tcp().all(|at| at.ip().is_loopback());
        let interfaces = nic::interfaces(host, question.interface.as_deref());
        let named = question.interface.clone();
        Self {
            connections: question.connections.or(limit).unwrap_or(question.profile.connections),
            profile: question.profile.clone(),
            no_such_interface: named.filter(|name| !host.exists(&format!("/sys/class/net/{name}"))),
            machine: config.machine.clone(),
            process,
            usable,
            shards,
            cores,
            missing,
            oversubscribed,
            cpu_quota,
            tls: config.listeners.iter().any(|listen| listen.options.tls),
            history_bytes: config.engine.history_bytes_max as u64,
            backlog_bytes: config.engine.backlog_bytes_max as u64,
            memory_bytes_max: config.limits.memory_bytes_max as u64,
            ports: tcp().chain(config.admin.address).chain(config.grpc_api.listen).map(|at| at.port()).collect(),
            loopback: loopback && question.interface.is_none(),
            nics: interfaces.iter().map(|name| Nic::read(host, name)).collect(),
            load: question.load,
        }
    }

    /// Descriptors that one table needs: one per connection, some per shard, and some for the process.
    pub(crate) fn descriptors(&self) -> u64 {
        let shards = self.shards as u64;
        let tables = if self.machine.own_file_tables { shards } else { 1 };
        // Connections are spread by hash, not evenly: a tenth more per table.
        let spare = if tables > 1 { self.connections / tables / 10 } else { 0 };
        (self.connections / tables).saturating_add(spare + 256 + 8 * shards)
    }

    /// Files that the whole host opens for the server.
    pub(crate) fn files(&self) -> u64 {
        self.connections.saturating_add(256 + 8 * self.shards as u64)
    }

    /// The cores where shards run: without pinning, every usable core.
    pub(crate) fn places(&self) -> &Cpus {
        if self.cores.is_empty() { &self.usable } else { &self.cores }
    }

    /// So few connections that no kernel setting limits them.
    pub(crate) fn is_small(&self) -> bool {
        self.connections < 10_000
    }
}

fn usable(host: &Host, process: &str) -> Cpus {
    let status = host.text(&format!("/proc/{process}/status")).unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let online = host.text("/sys/devices/system/cpu/online").ok().and_then(|text| Cpus::list(&text));
    allowed.and_then(Cpus::list).or(online).unwrap_or_default()
}
