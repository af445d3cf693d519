//! Checks before the server starts, and the control thread's listeners.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::tls_files::TlsError;
use crate::admin::process_stats::ProcessStats;
use crate::backend::SetupError;
use crate::config::{self, Config};
use crate::engine::net::affinity;
use crate::engine::threads::EngineError;
use crate::handover::{HandoverError, Inherited};

/// Descriptors that a server needs at least: listeners, polls, logs, and a few clients.
pub(crate) const FILES_MIN: u64 = 256;

/// Descriptors for which the table is grown at the start. Each costs eight bytes of kernel memory.
const FILES_GROWN_MAX: u64 = 1 << 20;

/// Why the server does not start, and what to do about it.
#[derive(Debug)]
pub enum StartError {
    /// A shard, or an address of `listen`.
    Engine(EngineError),
    /// The admin address.
    Admin { address: SocketAddr, error: io::Error },
    /// The address of the gRPC API.
    Grpc { address: SocketAddr, error: io::Error },
    /// The gRPC API is on, and this program was built without it.
    GrpcNotBuilt,
    /// The client for calls to backends.
    Backend(SetupError),
    /// Certificates or keys.
    Tls(TlsError),
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

impl From<EngineError> for StartError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Admin { address, error } => {
                write!(f, "admin: cannot listen on {address}: {error}\n  Choose another address with --admin.")
            }
            Self::Grpc { address, error } => write!(
                f,
                "grpc_api: cannot listen on {address}: {error}\n  Choose another grpc_api.address or grpc_api.port."
            ),
            Self::GrpcNotBuilt => f.write_str(
                "grpc_api.enabled: this program was built without the gRPC API\n  \
                 Build it with the cargo feature `grpc`, which is on by default, or set grpc_api.enabled = false.",
            ),
            Self::Backend(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Handover(error) => error.fmt(f),
            Self::Cores(what) => f.write_str(what),
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
    let usable = affinity::usable_cores();
    let chosen = config.cores.clone().unwrap_or_else(|| usable.clone());
    if let Some(core) = chosen.iter().find(|core| !usable.contains(core)) {
        return Err(StartError::Cores(format!(
            "cores: core {core} is not usable by this process\n  Name cores in --cores out of {usable:?}."
        )));
    }
    if chosen.is_empty() {
        return Err(StartError::Cores("cores: the kernel reports no core that this process may use".into()));
    }
    let shards = config.shards.unwrap_or(chosen.len());
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
    Inherited::request(socket, *bytes_max, stats).map_err(StartError::Handover)
}

/// The listeners of the control thread.
#[derive(Default)]
pub(crate) struct ControlListeners {
    pub admin: Option<TcpListener>,
    pub grpc: Option<TcpListener>,
}

impl ControlListeners {
    /// Uses the sockets that another process has passed where their addresses match the settings, and opens the others.
    pub(crate) fn open(config: &Config, mut inherited: Option<&mut Inherited>) -> Result<Self, StartError> {
        let grpc_address = config.grpc_api.listen;
        if grpc_address.is_some() && !cfg!(feature = "grpc") {
            return Err(StartError::GrpcNotBuilt);
        }
        let (passed_admin, passed_grpc) =
            inherited.as_mut().map_or((None, None), |inherited| (inherited.admin.take(), inherited.grpc.take()));
        Ok(Self {
            admin: listen(config.admin.address, passed_admin, |address, error| StartError::Admin { address, error })?,
            grpc: listen(grpc_address, passed_grpc, |address, error| StartError::Grpc { address, error })?,
        })
    }

    /// The descriptors, which no shard uses.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [&self.admin, &self.grpc].into_iter().flatten().map(AsRawFd::as_raw_fd)
    }
}

fn listen(
    address: Option<SocketAddr>,
    passed: Option<TcpListener>,
    error: impl FnOnce(SocketAddr, io::Error) -> StartError,
) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let matches = |listener: &TcpListener| {
        listener
            .local_addr()
            .is_ok_and(|at| at.ip() == address.ip() && (at.port() == address.port() || address.port() == 0))
    };
    match passed.filter(matches) {
        Some(listener) => Ok(Some(listener)),
        None => TcpListener::bind(address).map(Some).map_err(|why| error(address, why)),
    }
}
