//! What was typed (file, environment, flags) → the one checked, immutable `Config`.
//!
//! Plan: `sources` (a file's text by `tree`) turns each source into named values that remember where they stand; `settings`
//! is the one table that says what names exist and what each means; `value`, `places` and `words` read a value into its
//! type; `foreign` says what becomes of keys of the original that mean nothing here; `resolve` turns names into what they
//! mean; `check` holds settings against each other; `print` writes the sample file and the table, `change` says what
//! became different at a reload. Later sources override
//! earlier ones: default < file < environment < flags.
//!
//! The types: `client`, `channel` and `proxy` are the sections of those names, `ending` what a process's end is like,
//! `tls` certificates and sessions, `tokens` how tokens are verified.
//!
//! Invariants: a `Config` that left `assemble` passed every check. Either all of it holds or every fault is reported.

pub(crate) mod change;
pub(crate) mod channel;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod ending;
pub(crate) mod fault;
pub(crate) mod foreign;
pub(crate) mod places;
pub(crate) mod print;
pub(crate) mod proxy;
pub(crate) mod resolve;
pub(crate) mod settings;
pub(crate) mod sources;
pub(crate) mod tls;
pub(crate) mod tree;
pub(crate) mod typed;
pub(crate) mod value;
pub(crate) mod words;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::config::EngineConfig;

pub use crate::auth::TokenSettings;
pub use change::{Changes, changes, needs_restart};
pub use channel::{Allowed, Channel, DataFormat, Namespace, NamespaceProxies, ProxyUse, RecoveryMode, SlowConsumer};
pub use client::{Client, ConnectCode, ConnectCodes, PersonalChannel, SubscriptionToken};
pub use ending::{Handover, Shutdown};
pub use fault::{Fault, Faults, Origin};
pub use print::{markdown, sample};
pub use proxy::{NoRpc, Proxy, Rpc, RpcNamespace, StatusToCode};
pub use settings::{SETTINGS, Setting};
pub use sources::{Given, environment, file, flag};
pub use tls::{MinVersion, Tls};
pub use typed::Typed;
use value::Wrong;
pub use value::{Raw, Row, Unit};

/// What every environment variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "CORECAST_";
/// Variables with our prefix that are not settings.
pub const ENVIRONMENT_OTHERS: [&str; 2] = ["CORECAST_CONFIG", "CORECAST_LOG"];

/// How and where clients connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    pub place: Place,
    /// Clients speak TLS.
    pub tls: bool,
    /// Whoever comes there is a proxy that speaks the PROXY protocol.
    pub proxied: bool,
}

impl Listen {
    /// What the words before a listener's place ask for.
    pub const PROXIED: &str = "proxy:";
    pub const TLS: &str = "tls:";

    pub fn plain(place: Place) -> Self {
        Self { place, tls: false, proxied: false }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxied = if self.proxied { Self::PROXIED } else { "" };
        let tls = if self.tls { Self::TLS } else { "" };
        write!(f, "{proxied}{tls}{}", self.place)
    }
}

/// A place where clients connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A listening socket that the parent process bound and passed on.
    Inherited(RawFd),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(number) => write!(f, "fd:{number}"),
        }
    }
}

/// Everything that was decided before the first socket opens.
#[derive(Clone, Debug)]
pub struct Config {
    pub dev: bool,
    /// Never empty.
    pub listeners: Vec<Listen>,
    pub join: bool,
    /// Distinct, in the order typed. None: every core that the process may use.
    pub cores: Option<Vec<usize>>,
    /// `1..=SHARDS_MAX`. None: one per core.
    pub shards: Option<usize>,
    pub oversubscribe: bool,
    pub control_cores: Option<Vec<usize>>,
    pub admin: Option<SocketAddr>,
    pub admin_connections_max: u32,
    pub admin_request_timeout: Duration,
    pub api_key: Option<String>,
    /// The key was made here and not given, so that it may be printed.
    pub api_key_generated: bool,
    /// Empty: the host's.
    pub node_name: String,
    pub echo: bool,
    pub http_api: HttpApi,
    pub grpc_api: GrpcApi,
    pub uni_websocket: UniWebsocket,
    pub client: Client,
    pub channel: Channel,
    /// Bytes of all histories together; past it the oldest go first.
    pub history_bytes_max: usize,
    /// Resident bytes of the process past which nobody new is let in; 0: as the control group says.
    pub memory_bytes_max: usize,
    /// Every backend that is used somewhere, or has a name.
    pub proxies: Vec<Proxy>,
    /// Indices into `proxies`.
    pub connect_proxy: Option<u16>,
    pub refresh_proxy: Option<u16>,
    pub rpc: Rpc,
    pub typed: Typed,
    pub shutdown: Shutdown,
    pub handover: Handover,
    pub tls: Tls,
    /// `client.queue_max_size` and `websocket.message_size_limit` are `outbound_bytes_max` and `message_bytes_max` here.
    pub engine: EngineConfig,
}

/// `http_api`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct HttpApi {
    /// Errors have HTTP statuses of their own, and not 200: `error_mode = "transport"`.
    pub transport_errors: bool,
    pub disabled: bool,
}

/// `grpc_api`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GrpcApi {
    /// None: it is not served.
    pub address: Option<SocketAddr>,
    /// None: calls need no key.
    pub key: Option<String>,
    /// Errors are statuses of gRPC, and not part of the answer.
    pub transport_errors: bool,
}

/// `uni_websocket`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct UniWebsocket {
    pub enabled: bool,
    /// No `disconnect` push precedes the close frame.
    pub disable_disconnect_push: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dev: false,
            listeners: vec![Listen::plain(Place::Tcp((Ipv4Addr::UNSPECIFIED, 8000).into()))],
            join: false,
            cores: None,
            shards: None,
            oversubscribe: false,
            control_cores: None,
            admin: None,
            admin_connections_max: 1024,
            admin_request_timeout: Duration::from_secs(75),
            api_key: None,
            api_key_generated: false,
            node_name: String::new(),
            echo: false,
            http_api: HttpApi::default(),
            grpc_api: GrpcApi::default(),
            uni_websocket: UniWebsocket::default(),
            client: Client::default(),
            channel: Channel::default(),
            history_bytes_max: 1 << 30,
            memory_bytes_max: 0,
            proxies: Vec::new(),
            connect_proxy: None,
            refresh_proxy: None,
            rpc: Rpc::default(),
            typed: Typed::default(),
            shutdown: Shutdown::default(),
            handover: Handover::default(),
            tls: Tls::default(),
            engine: EngineConfig::default(),
        }
    }
}

impl Config {
    /// What holds with `--dev` where nothing is set by hand, less the API key, which is made at the end of `assemble`.
    pub fn dev() -> Self {
        let mut config = Self { dev: true, echo: true, ..Self::default() };
        config.listeners = vec![Listen::plain(Place::Tcp((Ipv4Addr::LOCALHOST, 8000).into()))];
        config.admin = Some((Ipv4Addr::LOCALHOST, 9000).into());
        config.client.insecure = true;
        config.client.allowed_origins = vec!["*".into()];
        config.channel.any_namespace = true;
        config.channel.without_namespace = Namespace {
            presence: true,
            join_leave: true,
            history_size: 100,
            history_ttl: Duration::from_secs(300),
            allow_positioning: true,
            allow_recovery: true,
            allow_delta: true,
            allow_tags_filter: true,
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_client: true,
            allow_publish_for_anonymous: true,
            allow_presence_for_client: true,
            allow_presence_for_anonymous: true,
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            ..config.channel.without_namespace
        };
        config
    }

    /// Settings that may stay as they are but surprise: one sentence each.
    pub fn remarks(&self) -> Vec<String> {
        check::remarks(self)
    }
}

/// The configuration of a file (where one is named), the environment and the flags, and remarks about it. Errors:
/// everything that is wrong, at least one.
pub fn load(
    path: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    flags: Vec<Given>,
) -> Result<(Config, Vec<String>), Faults> {
    let (mut given, mut faults) = (Vec::new(), Vec::new());
    match path.map_or(Ok(Vec::new()), sources::read) {
        Ok(values) => given = values,
        Err(wrong) => faults = wrong.0,
    }
    let (values, mut remarks) = environment(variables);
    given.extend(values);
    given.extend(flags);
    match assemble(&given) {
        Ok(config) if faults.is_empty() => {
            remarks.extend(config.remarks());
            Ok((config, remarks))
        }
        Ok(_) => Err(Faults(faults)),
        Err(wrong) => Err(Faults(faults.into_iter().chain(wrong.0).collect())),
    }
}

/// The configuration that `given` makes: weakest source first. Values of the same name override earlier ones, and a
/// value that is overridden must still be readable. Errors: everything that is wrong, at least one.
pub fn assemble(given: &[Given]) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let mut dev = false;
    for value in given.iter().filter(|value| value.name == "dev") {
        // A value that cannot be read is reported below.
        let _ = value::Field::read(&mut dev, &value.raw, Unit::Switch);
    }
    let mut config = if dev { Config::dev() } else { Config::default() };
    for value in given {
        let Some((field, unit)) = settings::place(&mut config, &value.name) else {
            match foreign::judge(value, given) {
                foreign::Said::Nothing => {}
                foreign::Said::Remark(text) => config.typed.idle.push(text),
                foreign::Said::Fault(fault) => faults.push(fault),
            }
            continue;
        };
        // The original writes empty texts where nothing is set, also for what is no text.
        let unset = value.is_foreign() && value.raw == Raw::Text(String::new());
        match field.read(&value.raw, unit) {
            Err(wrong) if !unset => faults.push(value.fault(wrong)),
            _ => {}
        }
    }
    let mut fault = |name: &str, wrong: Wrong| {
        // Where it stands, or its section does.
        let section = name.rsplit_once('.').map_or("", |(section, _)| section);
        let its = given.iter().rfind(|value| value.name == name);
        let beside = || given.iter().find(|value| !section.is_empty() && value.name.starts_with(section));
        let origin = its.or_else(beside).map_or(Origin::Default, |value| value.origin.clone());
        let already = faults.iter().any(|fault| fault.setting == name);
        if !already {
            faults.push(Fault { origin, setting: name.into(), what: wrong.what, mend: wrong.mend });
        }
    };
    let typed = |name: &str| given.iter().any(|value| value.name == name);
    resolve::addresses(&mut config, typed, &mut fault);
    resolve::inherit(&mut config, typed);
    check::check(&config, &mut fault);
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    resolve::references(&mut config);
    if config.http_api.disabled {
        config.api_key = None;
    } else if config.dev && config.api_key.is_none() {
        config.api_key = Some(uuid::Uuid::new_v4().simple().to_string());
        config.api_key_generated = true;
    }
    Ok(config)
}
