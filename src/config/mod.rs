//! The settings: from the sources (file, environment, flags) to one checked, immutable `Config`.
//!
//! - `schema`: every setting, declared once with type, unit, default, reason and whether a reload applies it
//! - `parse`: from the text of a value to its type
//! - `sources`: a file, the environment and the flags, each as named values with their origin
//! - `assemble`: the values of every source → `Config`; later sources override: default < file < environment < flags
//! - `validate`: settings against their bounds and against each other, and warnings about surprising ones
//! - `centrifugo`: keys of the original that are not settings here
//! - `brokers`: brokers as the settings describe them, with addresses resolved
//! - `engine_config`: `Config` → the engine's own configuration
//! - `reload_diff`: what differs after a reload, and what of it needs a restart
//! - `print`: the sample file and the reference table
//!
//! Invariants: a `Config` from `assemble` passed every check. Either all of it is valid or every error is reported.

pub(crate) mod assemble;
pub(crate) mod brokers;
pub(crate) mod centrifugo;
pub(crate) mod channel_names;
pub(crate) mod engine_config;
pub(crate) mod error;
pub(crate) mod parse;
pub(crate) mod print;
pub(crate) mod reload_diff;
pub(crate) mod schema;
pub(crate) mod sources;
pub(crate) mod validate;

use std::path::Path;

pub use crate::auth::TokenSettings;
pub use assemble::assemble;
pub use brokers::resolve::open_brokers;
pub use brokers::{
    BrokerKind, Brokers, ClientTls, Endpoint, Login, Nats, NatsRawMode, Redis, RedisShard, RedisTopology,
};
pub use engine_config::engine_config;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use parse::net::Listen;
pub use parse::value::{Argument, Raw, Row};
pub use print::{markdown, sample};
pub use reload_diff::{Changes, changes};
pub use schema::broker::{Broker, BrokerType, PresenceManager, StoreType};
pub use schema::channel::Channel;
pub use schema::client::{Client, ConnectCode, ConnectCodes, PersonalChannel};
pub use schema::config::Config;
pub use schema::durable::{Durable, OnFailure, OnFull};
pub use schema::engine::UniWebsocket;
pub use schema::lifecycle::{Handover, Shutdown};
pub use schema::machine::Machine;
pub use schema::namespace::{Allowed, DataFormat, Durability, Namespace, RecoveryMode, SlowConsumer};
pub use schema::proxy::{NoRpc, Proxy, Rpc, StatusToCode};
pub use schema::registry::{SETTINGS, Setting};
pub use schema::streams::{ConnInit, Emulation, HttpStream, ResponseCode, ResponseCodes, Sse, UniHttpStream, UniSse};
pub use schema::tls::{MinVersion, Tls};
pub use sources::environment::{Findings, environment};
pub use sources::file::{exposed_secret, parse as file};
pub use sources::flag;
pub use sources::raw_setting::RawSetting;

/// The configuration of a file (if one is named), the environment and the flags, and warnings about it. Errors: everything that
/// is wrong, at least one.
pub fn load(
    path: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    flags: Vec<RawSetting>,
) -> Result<(Config, Vec<String>), ConfigErrors> {
    combine(path.map_or(Ok(Vec::new()), sources::file::read), variables, flags)
}

/// The configuration of TOML text in a program, and of the environment, which overrides it; and warnings about it. Errors:
/// everything that is wrong, at least one.
pub fn load_text(
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(Config, Vec<String>), ConfigErrors> {
    combine(sources::file::parse("settings", text), variables, Vec::new())
}

fn combine(
    first: Result<Vec<RawSetting>, ConfigErrors>,
    variables: impl Iterator<Item = (String, String)>,
    flags: Vec<RawSetting>,
) -> Result<(Config, Vec<String>), ConfigErrors> {
    let (mut values, mut errors) = match first {
        Ok(values) => (values, Vec::new()),
        Err(wrong) => (Vec::new(), wrong.0),
    };
    let Findings { mut warnings, errors: wrong } = environment(variables, &mut values);
    errors.extend(wrong);
    values.extend(flags);
    match assemble(&values) {
        Ok(config) if errors.is_empty() => {
            warnings.extend(config.warnings());
            Ok((config, warnings))
        }
        Ok(_) => Err(ConfigErrors(errors)),
        Err(wrong) => {
            errors.extend(wrong.0);
            Err(ConfigErrors(errors))
        }
    }
}
