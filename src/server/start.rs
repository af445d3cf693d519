//! Checks before the server starts, and the control thread's listeners.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::tls_files::{Tls, TlsError};
use crate::admin::process_stats::ProcessStats;
use crate::backend::SetupError;
use crate::config::{self, Brokers, Config, engine_config};
use crate::engine::net::affinity;
use crate::engine::net::cpu_quota::{cpu_quota, whole_cores};
use crate::engine::net::listener::{self, ListenError, hint, without_ipv6};
use crate::engine::threads::EngineError;
use crate::handover::{HandoverError, Inherited};

const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Descriptors that a server needs at least: listeners, polls, logs, and a few clients.
pub(crate) const FILES_MIN: u64 = 256;

/// Descriptors for which the table is grown at the start. Each costs eight bytes of kernel memory.
const FILES_GROWN_MAX: u64 = 1 << 20;

/// Why the server does not start, and what to do about it.
#[derive(Debug)]
pub enum StartError {
    /// A shard, or an address of `listen`.
    Engine(EngineError),
    /// Addresses that cannot be listened on: all of them, at least one.
    Addresses(Vec<AddressError>),
    /// The gRPC API is on, and this program was built without it.
    GrpcNotBuilt,
    /// The client for calls to backends.
    Backend(SetupError),
    /// Certificates or keys.
    Tls(TlsError),
    /// Certificates or keys for a broker.
    BrokerFiles(String),
    /// The durable log cannot be opened.
    DurableLog(String),
    /// The process to take over from.
    Handover(HandoverError),
    /// `cores` or `shards` do not fit this host.
    Cores(String),
    /// The control thread cannot be pinned to `control_cores`.
    ControlCores(io::Error),
    /// The process may open too few files.
    TooFewFiles {
        /// How many it may open.
        limit: u64,
    },
    /// The kernel refused a signal handler or an epoll instance.
    Kernel(io::Error),
}

/// An address that cannot be listened on, and the setting that names it.
#[derive(Debug)]
pub enum AddressError {
    Listen(ListenError),
    Admin { address: SocketAddr, error: io::Error },
    Grpc { address: SocketAddr, error: io::Error },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (setting, address, error, choose) = match self {
            Self::Listen(error) => return write!(f, "listen: {error}"),
            Self::Admin { address, error } => ("admin.address", address, error, "choose another --admin"),
            Self::Grpc { address, error } => {
                ("grpc_api.port", address, error, "choose another grpc_api.port or grpc_api.address")
            }
        };
        write!(f, "{setting}: cannot listen on {address}: {error}{}", hint(*address, error, choose))
    }
}

impl From<EngineError> for StartError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(EngineError::Listen(error)) => write!(f, "listen: {error}"),
            Self::Engine(error) => error.fmt(f),
            Self::Addresses(errors) => errors.iter().enumerate().try_for_each(|(index, error)| {
                let separator = if index == 0 { "" } else { "\n" };
                write!(f, "{separator}{error}")
            }),
            Self::GrpcNotBuilt => f.write_str(
                "grpc_api.enabled: this program was built without the gRPC API\n  \
                 Build it with the cargo feature `grpc`, which is on by default, or set grpc_api.enabled = false.",
            ),
            Self::Backend(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Handover(error) => error.fmt(f),
            Self::Cores(what) | Self::BrokerFiles(what) | Self::DurableLog(what) => f.write_str(what),
            Self::ControlCores(error) => write!(
                f,
                "control_cores: cannot pin the control thread: {error}\n  \
                 Name cores that this process may use: {:?}.",
                affinity::usable_cores()
            ),
            Self::TooFewFiles { limit } => write!(
                f,
                "this process may open {limit} files; it needs at least {FILES_MIN}, and one for every connection\n  Raise the hard limit: `ulimit -Hn`, LimitNOFILE= in the systemd unit, or tuning/limits.d/corecast.conf."
            ),
            Self::Kernel(error) => write!(f, "the kernel refused a signal handler or an epoll: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// The settings, or a file that they name, are at fault: the same start fails again until they are changed. Otherwise the
    /// host is, such as by an address that is taken.
    pub fn is_in_settings(&self) -> bool {
        match self {
            Self::GrpcNotBuilt
            | Self::Backend(_)
            | Self::Tls(_)
            | Self::BrokerFiles(_)
            | Self::Cores(_)
            | Self::ControlCores(_) => true,
            Self::Engine(_)
            | Self::Addresses(_)
            | Self::DurableLog(_)
            | Self::Handover(_)
            | Self::TooFewFiles { .. }
            | Self::Kernel(_) => false,
        }
    }
}

/// Opens the certificates and keys that the settings name, as the start does. What is surprising about them is logged.
pub fn check_files(config: &Config) -> Result<(), StartError> {
    if config.grpc_api.listen.is_some() && !cfg!(feature = "grpc") {
        return Err(StartError::GrpcNotBuilt);
    }
    open_brokers(config)?;
    Tls::open(&config.tls).map(drop).map_err(StartError::Tls)
}

/// The brokers of the settings, with the files that they name.
pub(crate) fn open_brokers(config: &Config) -> Result<Brokers, StartError> {
    let brokers = config::open_brokers(config).map_err(StartError::BrokerFiles)?;
    super::brokers::check_tls(&brokers).map_err(StartError::BrokerFiles)?;
    Ok(brokers)
}

/// Raises the soft limit of open files to the hard limit, and returns it.
pub(crate) fn raise_file_limit() -> Result<u64, StartError> {
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(u64::MAX);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    let limit = if raised.is_ok() { hard } else { now.current.unwrap_or(hard) };
    if limit < FILES_MIN { Err(StartError::TooFewFiles { limit }) } else { Ok(limit) }
}

/// Makes the kernel grow the table of descriptors now, as far as it will be needed. Later, each doubling waits for all
/// threads that share the table: 6 to 24 ms without an accept. Failure does no harm.
pub(crate) fn grow_file_table(limit: u64) {
    let highest = limit.min(FILES_GROWN_MAX) as RawFd - 1;
    drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), highest));
}

/// One core per shard; `None` for all if there are more shards than cores, which are then not pinned.
pub(crate) fn choose_cores(config: &Config) -> Result<Vec<Option<usize>>, StartError> {
    let quota = cpu_quota("self", |path| std::fs::read_to_string(path).ok());
    choose_among(config, affinity::usable_cores(), quota)
}

/// Without `cores` and `shards`, no more shards than the limit on CPU time, `quota` cores: past it all of them would be stopped
/// in every period.
fn choose_among(config: &Config, usable: Vec<usize>, quota: Option<f64>) -> Result<Vec<Option<usize>>, StartError> {
    let chosen = config.cores.clone().unwrap_or_else(|| usable.clone());
    if let Some(core) = chosen.iter().find(|core| !usable.contains(core)) {
        return Err(StartError::Cores(format!(
            "cores: core {core} is not usable by this process\n  Name cores in --cores out of {usable:?}."
        )));
    }
    if chosen.is_empty() {
        return Err(StartError::Cores("cores: the kernel reports no core that this process may use".into()));
    }
    let shards = match (config.shards, &config.cores, quota) {
        (Some(shards), ..) => shards,
        (None, None, Some(quota)) if whole_cores(quota) < chosen.len() => {
            let shards = whole_cores(quota);
            log::info!(
                "this process may use the CPU time of {quota:.2} cores (its control group's limit), and {} cores: {shards} shards; \
                 set cores or shards for another number",
                chosen.len()
            );
            shards
        }
        _ => chosen.len(),
    };
    if let Some(quota) = quota.filter(|&quota| (shards as f64) > quota.ceil()) {
        log::warn!(
            "{shards} shards have the CPU time of {quota:.2} cores (the control group's limit): busy shards will be stopped until \
             the next period, up to 100 ms"
        );
    }
    if shards > chosen.len() && !config.oversubscribe {
        return Err(StartError::Cores(format!(
            "shards: {shards} shards on {} cores would wait for each other\n  Lower --shards, name more --cores, or set \
             --oversubscribe if that is wanted (for tests).",
            chosen.len()
        )));
    }
    if shards > chosen.len() {
        return Ok(vec![None; shards]);
    }
    Ok(chosen.into_iter().take(shards).map(Some).collect())
}

/// Asks the process that this one takes over from for its listening sockets, if the settings say so.
pub(crate) fn request_inherited(config: &Config, stats: &Arc<ProcessStats>) -> Result<Option<Inherited>, StartError> {
    let config::Handover { socket, take, bytes_max, .. } = &config.handover;
    if !take {
        return Ok(None);
    }
    let takes_channels = config.brokers.publications.is_none();
    Inherited::request(socket, *bytes_max, takes_channels, stats).map_err(StartError::Handover)
}

/// The listeners of the control thread.
#[derive(Default)]
pub(crate) struct ControlListeners {
    pub admin: Option<TcpListener>,
    pub grpc: Option<TcpListener>,
}

impl ControlListeners {
    /// Uses the sockets that another process has passed where their addresses match the settings, and opens the others. The
    /// errors name every address that is taken, also those of `listen`, which the shards open later.
    pub(crate) fn open(config: &Config, mut inherited: Option<&mut Inherited>) -> Result<Self, StartError> {
        let grpc_address = config.grpc_api.listen;
        if grpc_address.is_some() && !cfg!(feature = "grpc") {
            return Err(StartError::GrpcNotBuilt);
        }
        let (passed_admin, passed_grpc) =
            inherited.as_mut().map_or((None, None), |inherited| (inherited.admin.take(), inherited.grpc.take()));
        let admin = listen(config.admin.address, passed_admin, |address, error| AddressError::Admin { address, error });
        let grpc = listen(grpc_address, passed_grpc, |address, error| AddressError::Grpc { address, error });
        let mut errors = Vec::new();
        if !config.join {
            let addresses: Vec<_> = config.listeners.iter().map(|listen| listen.address.clone()).collect();
            let none = Vec::new();
            let passed = inherited.as_ref().map_or(&none, |inherited| &inherited.clients);
            let machine = engine_config(config).machine;
            errors.extend(listener::probe(&addresses, passed, &machine).into_iter().map(AddressError::Listen));
        }
        match (admin, grpc) {
            (Ok(admin), Ok(grpc)) if errors.is_empty() => Ok(Self { admin, grpc }),
            (admin, grpc) => {
                errors.extend(admin.err().into_iter().chain(grpc.err()));
                Err(StartError::Addresses(errors))
            }
        }
    }

    /// The descriptors, which no shard uses.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [&self.admin, &self.grpc].into_iter().flatten().map(AsRawFd::as_raw_fd)
    }
}

fn listen(
    address: Option<SocketAddr>,
    passed: Option<TcpListener>,
    error: impl FnOnce(SocketAddr, io::Error) -> AddressError,
) -> Result<Option<TcpListener>, AddressError> {
    let Some(address) = address else { return Ok(None) };
    let matches = |listener: &TcpListener| {
        let is_ip = |at: SocketAddr| at.ip() == address.ip() || (at.ip(), address.ip()) == (ANY4, ANY6);
        listener.local_addr().is_ok_and(|at| is_ip(at) && (at.port() == address.port() || address.port() == 0))
    };
    match passed.filter(matches) {
        Some(listener) => Ok(Some(listener)),
        None => bind(address).map(Some).map_err(|why| error(address, why)),
    }
}

/// A listener at the address. `[::]` serves both families, and IPv4 alone on a host without IPv6.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).or_else(|error| match without_ipv6(address, &error) {
        Some(ipv4) => TcpListener::bind(ipv4),
        None => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_the_limit_on_cpu_time() {
        let shards =
            |config: &Config, quota| choose_among(config, vec![0, 1, 2, 3], quota).map(|cores| cores.len()).ok();
        let default = Config::default();
        for (quota, number) in [(None, 4), (Some(0.5), 1), (Some(1.5), 2), (Some(3.0), 3), (Some(16.0), 4)] {
            assert_eq!(shards(&default, quota), Some(number), "{quota:?}");
        }
        assert_eq!(choose_among(&default, vec![4, 5], Some(1.0)).unwrap(), [Some(4)]);
        let cores = Config { cores: Some(vec![0, 1, 2]), ..Config::default() };
        assert_eq!(shards(&cores, Some(1.0)), Some(3), "the operator has chosen");
        let number = Config { shards: Some(4), ..Config::default() };
        assert_eq!(shards(&number, Some(1.0)), Some(4));
    }
}
