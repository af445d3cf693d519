//! What was typed (file, environment, flags) → the one checked, immutable `Config`.
//!
//! Plan: `sources` turns each source into named values that remember where they stand; `settings` is the one table that
//! says what names exist and what each means; `value` and `places` read a value into its type; `check` holds settings against
//! each other; `print` writes the sample file and the table. Later sources override earlier ones:
//! default < file < environment < flags.
//!
//! Invariants: a `Config` that left `assemble` passed every check. Either all of it holds or every fault is reported.

mod check;
mod fault;
mod places;
mod print;
mod settings;
mod sources;
mod value;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::EngineLimits;

pub use fault::{Fault, Faults, Origin};
pub use print::{markdown, sample};
pub use settings::{SETTINGS, Setting};
pub use sources::{Given, environment, file, flag};
pub use value::{Raw, Unit};

/// What every environment variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "CORECAST_";
/// Variables with our prefix that are not settings.
pub const ENVIRONMENT_OTHERS: [&str; 2] = ["CORECAST_CONFIG", "CORECAST_LOG"];

/// A place where clients connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A listening socket that the parent process bound and passed on.
    Inherited(RawFd),
}

impl fmt::Display for Listen {
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
    pub api_key: Option<String>,
    /// The key was made here and not given, so that it may be printed.
    pub api_key_generated: bool,
    pub echo: bool,
    pub client: Client,
    pub channel: Channel,
    pub shutdown_timeout: Duration,
    /// `client.queue_max_size` and `websocket.message_size_limit` are `outbound_bytes_max` and `message_bytes_max` here.
    pub engine: EngineLimits,
}

/// The `client` section, less `queue_max_size`.
#[derive(Clone, Debug)]
pub struct Client {
    pub insecure: bool,
    /// Patterns of whole origins in which `*` stands for any text. Empty: only requests without an Origin pass.
    pub allowed_origins: Vec<String>,
    /// Whole seconds, at least one, longer than `pong_timeout`.
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub stale_close_delay: Duration,
    pub channel_limit: usize,
}

/// The `channel` section.
#[derive(Clone, Debug)]
pub struct Channel {
    pub max_length: usize,
    pub without_namespace: Namespace,
}

/// What is allowed in the channels of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    pub allow_subscribe_for_client: bool,
    pub allow_publish_for_client: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dev: false,
            listeners: vec![Listen::Tcp((Ipv4Addr::UNSPECIFIED, 8000).into())],
            join: false,
            cores: None,
            shards: None,
            oversubscribe: false,
            control_cores: None,
            admin: None,
            api_key: None,
            api_key_generated: false,
            echo: false,
            client: Client {
                insecure: false,
                allowed_origins: Vec::new(),
                ping_interval: Duration::from_secs(25),
                pong_timeout: Duration::from_secs(8),
                stale_close_delay: Duration::from_secs(10),
                channel_limit: 128,
            },
            channel: Channel { max_length: 255, without_namespace: Namespace::default() },
            shutdown_timeout: Duration::from_secs(30),
            engine: EngineLimits::default(),
        }
    }
}

impl Config {
    /// What holds with `--dev` where nothing is set by hand, less the API key, which is made at the end of `assemble`.
    pub fn dev() -> Self {
        let mut config = Self { dev: true, echo: true, ..Self::default() };
        config.listeners = vec![Listen::Tcp((Ipv4Addr::LOCALHOST, 8000).into())];
        config.admin = Some((Ipv4Addr::LOCALHOST, 9000).into());
        config.client.insecure = true;
        config.client.allowed_origins = vec!["*".into()];
        config.channel.without_namespace =
            Namespace { allow_subscribe_for_client: true, allow_publish_for_client: true };
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
        let Some(setting) = settings::find(&value.name) else {
            faults.push(value.unknown());
            continue;
        };
        if let Err(wrong) = (setting.at)(&mut config).read(&value.raw, setting.unit) {
            faults.push(value.fault(wrong));
        }
    }
    check::check(&config, |name, wrong| {
        let origin =
            given.iter().rfind(|value| value.name == name).map_or(Origin::Default, |value| value.origin.clone());
        let already = faults.iter().any(|fault| fault.setting == name);
        if !already {
            faults.push(Fault { origin, setting: name.into(), what: wrong.what, mend: wrong.mend });
        }
    });
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    if config.dev && config.api_key.is_none() {
        config.api_key = Some(uuid::Uuid::new_v4().simple().to_string());
        config.api_key_generated = true;
    }
    Ok(config)
}
