//! What the front-ends of the server API take from the configuration. A reload replaces it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::unauthorized::Unauthorized;
use crate::config::{Channel, Config};

/// Bytes of a call's body or message; a longer one is rejected.
pub const API_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The version that `info`, `/stats` and `/metrics` report.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Clone, Debug)]
pub struct Settings {
    /// Without a key the HTTP API accepts no call.
    pub key: Option<String>,
    /// The HTTP API does not exist: its paths are not found.
    pub disabled: bool,
    /// A call that fails has an HTTP status of its own, even if the request does not ask for it.
    pub transport_errors: bool,
    /// A call with a field that its method does not have is rejected; else the field is logged.
    pub rejects_unknown_fields: bool,
    /// Longest time for a request's body.
    pub request_timeout: Duration,
    pub grpc: GrpcSettings,
    /// Id and name of this process in the result of `info`.
    pub uid: String,
    pub name: String,
    /// Namespaces, for calls that other servers are to carry out.
    pub channel: Arc<Channel>,
    /// Longest channel name, in bytes.
    pub channel_bytes_max: usize,
    /// Longest data of a publication, in bytes.
    pub data_bytes_max: usize,
    /// The calls of this process without the key.
    pub unauthorized: Arc<Unauthorized>,
}

/// What the gRPC front-end takes from the configuration.
#[derive(Clone, Default, Debug)]
pub struct GrpcSettings {
    /// Without a key the gRPC API accepts no call.
    pub key: Option<String>,
    /// A call that fails has a gRPC status of its own, even if the request does not ask for it.
    pub transport_errors: bool,
}

impl Settings {
    pub fn new(config: &Config, uid: String, name: String) -> Self {
        let Config { engine, http_api, grpc_api, .. } = config;
        Self {
            key: config.http_api.key.clone(),
            disabled: http_api.disabled,
            transport_errors: http_api.transport_errors,
            rejects_unknown_fields: http_api.rejects_unknown_fields,
            request_timeout: config.admin.request_timeout,
            grpc: GrpcSettings { key: grpc_api.key.clone(), transport_errors: grpc_api.transport_errors },
            uid,
            name,
            channel: Arc::new(config.channel.clone()),
            channel_bytes_max: config.channel.max_length,
            // A publication that does not fit the mailbox of a shard as a whole cannot be delivered.
            unauthorized: Arc::default(),
            data_bytes_max: engine.mail_bytes_max.min(engine.turn_bytes_max).min(API_BODY_BYTES_MAX / 2),
        }
    }
}

impl Default for Settings {
    /// Without a key, an id or a name.
    fn default() -> Self {
        Self::new(&Config::default(), String::new(), String::new())
    }
}

/// Reads the settings that are in effect now.
#[derive(Clone)]
pub struct Current(Arc<dyn Fn() -> Arc<Settings> + Send + Sync>);

impl Current {
    pub fn new(read: impl Fn() -> Arc<Settings> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub fn get(&self) -> Arc<Settings> {
        (self.0)()
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.get()).finish()
    }
}
