//! What must be right before the server starts, and what it says when it does.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::shutdown::first_tcp;
use super::tls_files::{Tls, TlsError};
use crate::backend::SetupError;
use crate::config::{Config, Listen};
use crate::engine::net::affinity;
use crate::engine::net::listener::Address;
use crate::engine::threads::EngineError;
use crate::handover::{HandoverError, Taken};

/// Descriptors below which a server is of no use: listeners, polls, logs, and a few clients.
const FILES_MIN: u64 = 256;

/// Descriptors that the table is grown for at start: eight bytes of the kernel's memory each.
const FILES_GROWN_MAX: u64 = 1 << 20;

/// Why the server does not start, and what to do about it.
#[derive(Debug)]
pub enum StartError {
    Engine(EngineError),
    Admin {
        address: SocketAddr,
        error: io::Error,
    },
    Grpc {
        address: SocketAddr,
        error: io::Error,
    },
    /// This build has no gRPC.
    NoGrpc,
    Backend(SetupError),
    Tls(TlsError),
    Handover(HandoverError),
    Cores(String),
    ControlCores(io::Error),
    TooFewFiles {
        limit: u64,
    },
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
                write!(f, "cannot listen on the admin address {address}: {error}\n  Choose another --admin.")
            }
            Self::Grpc { address, error } => write!(
                f,
                "cannot listen on the address of the gRPC API, {address}: {error}\n  \
                 Choose another grpc_api.address or grpc_api.port."
            ),
            Self::NoGrpc => f.write_str(
                "grpc_api.enabled is set, but this build of the server has no gRPC\n  \
                 Remove the setting, or build with the feature `grpc`.",
            ),
            Self::Backend(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Handover(error) => error.fmt(f),
            Self::Cores(what) => f.write_str(what),
            Self::ControlCores(error) => write!(
                f,
                "cannot place the control thread: {error}\n  Name cores in --control-cores that this process may use: {:?}.",
                affinity::usable_cores()
            ),
            Self::TooFewFiles { limit } => write!(
                f,
                "this process may open {limit} files, and every connection is one; at least {FILES_MIN} are needed\n  \
                 Raise the hard limit: `ulimit -Hn`, LimitNOFILE= in the systemd unit, or tuning/limits.d/corecast.conf."
            ),
            Self::Kernel(error) => write!(f, "the kernel refused what the server needs: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Raises the soft limit of descriptors to the hard one. Returns it.
pub fn raise_file_limit() -> Result<u64, StartError> {
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(u64::MAX);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    let limit = if raised.is_ok() { hard } else { now.current.unwrap_or(hard) };
    if limit < FILES_MIN { Err(StartError::TooFewFiles { limit }) } else { Ok(limit) }
}

/// Has the kernel grow the table of descriptors now, as far as it will be needed: with threads that share it each doubling
/// waits for all of them, 6 to 24 ms in which nobody accepts. A kernel that does not is no harm.
pub fn grow_file_table(limit: u64) {
    let highest = limit.min(FILES_GROWN_MAX) as RawFd - 1;
    drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), highest));
}

/// One core per shard; `None` where more shards than cores were asked for, which are not pinned.
pub fn choose_cores(config: &Config) -> Result<Vec<Option<usize>>, StartError> {
    let usable = affinity::usable_cores();
    let chosen = config.cores.clone().unwrap_or_else(|| usable.clone());
    if let Some(core) = chosen.iter().find(|core| !usable.contains(core)) {
        return Err(StartError::Cores(format!(
            "core {core} is not one that this process may use\n  Name cores in --cores out of {usable:?}."
        )));
    }
    if chosen.is_empty() {
        return Err(StartError::Cores("the kernel names no core that this process may use".into()));
    }
    let shards = config.shards.unwrap_or(chosen.len());
    if shards > chosen.len() && !config.oversubscribe {
        return Err(StartError::Cores(format!(
            "{shards} shards on {} cores: shards would wait for each other\n  Lower --shards, name more --cores, or give \
             --oversubscribe if that is wanted (for tests).",
            chosen.len()
        )));
    }
    if shards > chosen.len() {
        return Ok(vec![None; shards]);
    }
    Ok(chosen.into_iter().take(shards).map(Some).collect())
}

fn open_admin(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let open = |address| TcpListener::bind(address).map_err(|error| StartError::Admin { address, error });
    config.admin.address.map(open).transpose()
}

fn open_grpc(config: &Config) -> Result<Option<TcpListener>, StartError> {
    if cfg!(not(feature = "grpc")) && config.grpc_api.enabled {
        return Err(StartError::NoGrpc);
    }
    let open = |address| TcpListener::bind(address).map_err(|error| StartError::Grpc { address, error });
    config.grpc_api.listen.map(open).transpose()
}

/// Where the control thread listens, as far as it does, and what is spoken there and at the clients' listeners.
#[derive(Default)]
pub struct Doors {
    pub tls: Option<Tls>,
    pub admin: Option<TcpListener>,
    pub grpc: Option<TcpListener>,
}

impl Doors {
    /// Of the listeners that are the control thread's alone.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [&self.admin, &self.grpc].into_iter().flatten().map(AsRawFd::as_raw_fd)
    }

    /// Those of the process before this one, where it passed them, or new ones.
    pub fn open(config: &Config, mut taken: Option<&mut Taken>) -> Result<Self, StartError> {
        let mut passed = |of: fn(&mut Taken) -> &mut Option<TcpListener>, wanted: Option<SocketAddr>| {
            let here = |listener: &TcpListener| {
                let (at, wanted) = (listener.local_addr().ok()?, wanted?);
                Some(at.ip() == wanted.ip() && (at.port() == wanted.port() || wanted.port() == 0))
            };
            of(taken.as_deref_mut()?).take().filter(|listener| here(listener) == Some(true))
        };
        let admin = passed(|taken| &mut taken.admin, config.admin.address);
        let grpc = passed(|taken| &mut taken.grpc, config.grpc_api.listen);
        Ok(Self {
            tls: Tls::open(&config.tls).map_err(StartError::Tls)?,
            admin: admin.map_or_else(|| open_admin(config), |listener| Ok(Some(listener)))?,
            grpc: grpc.map_or_else(|| open_grpc(config), |listener| Ok(Some(listener)))?,
        })
    }
}

/// Says what runs where; in `--dev` also what to try next.
pub fn greet(config: &Config, bound: &[Address], doors: &Doors, cores: &[Option<usize>], files: u64) {
    let listed: Vec<_> = bound.iter().zip(&config.listeners).map(|(at, listen)| speaks(listen, at)).collect();
    let pinned: Vec<_> = cores.iter().flatten().collect();
    match pinned.is_empty() {
        true => log::warn!("{} shards share the cores and are pinned to none: --oversubscribe", cores.len()),
        false => log::info!("{} shards on cores {pinned:?}", cores.len()),
    }
    let tables = if config.machine.own_file_tables { cores.len() as u64 } else { 1 };
    let each = if tables > 1 { " for each shard" } else { "" };
    log::info!("{files} descriptors allowed{each}: about {} connections", files.saturating_sub(FILES_MIN) * tables);
    log::info!("clients connect to {}", listed.join(", "));
    let at = |listener: &Option<TcpListener>| listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let admin = at(&doors.admin);
    if let Some(admin) = admin {
        let scheme = if config.tls.admin { "https" } else { "http" };
        log::info!("admin address: {scheme}://{admin}/ (/health /metrics /stats /api)");
    }
    if let Some(grpc) = at(&doors.grpc) {
        log::info!("gRPC API: {grpc}");
    }
    log::info!("clients are let in by {}", let_in_by(config));
    if let (true, Some((place, client)), Some(admin)) = (config.dev, first_tcp(bound), admin) {
        let ws = if config.listeners[place].options.tls { "wss" } else { "ws" };
        let http = if config.tls.admin { "https" } else { "http" };
        let key = config.http_api.key.as_deref().unwrap_or_default();
        // A stdout that takes nothing is no reason to end.
        let _ = writeln!(
            std::io::stdout(),
            "corecast --dev: everybody may connect, subscribe and publish.\n\n  \
             chat page    {http}://{admin}/\n  \
             clients      {ws}://{client}/connection/websocket\n  \
             echo         {ws}://{client}/echo\n  \
             metrics      {http}://{admin}/metrics\n\n\
             Try: open the page in two tabs, or publish from a shell:\n\n  \
             curl -H 'X-API-Key: {key}' {http}://{admin}/api/publish -d '{{\"channel\":\"lobby\",\"data\":{{\"text\":\"hello\"}}}}'\n"
        );
    }
}

fn speaks(listen: &Listen, at: &Address) -> String {
    format!("{}{at}", if listen.options.tls { Listen::TLS } else { "" })
}

/// How it is decided who may connect. Whoever is let in by nothing has been remarked on.
fn let_in_by(config: &Config) -> String {
    let client = &config.client;
    if client.insecure {
        return "anything: client.insecure is set".into();
    }
    let keys = match client.token.jwks_public_endpoint.is_empty() {
        true => "a token (client.token)",
        false => "a token (client.token, keys from jwks_public_endpoint)",
    };
    let ways = [
        (!client.token.is_empty(), keys),
        (config.connect_proxy.is_some(), "the backend (client.proxy.connect)"),
        (client.allow_anonymous_connect_without_token, "no token, as the anonymous user"),
    ];
    let ways: Vec<&str> = ways.iter().filter(|(open, _)| *open).map(|(_, way)| *way).collect();
    if ways.is_empty() { "nothing".into() } else { ways.join(", or ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_names_every_way_in() {
        let mut config = Config::default();
        assert_eq!(let_in_by(&config), "nothing");
        config.client.token.hmac_secret_key = "x".into();
        config.client.allow_anonymous_connect_without_token = true;
        assert_eq!(let_in_by(&config), "a token (client.token), or no token, as the anonymous user");
        config.client.insecure = true;
        assert!(let_in_by(&config).starts_with("anything"));
    }
}
