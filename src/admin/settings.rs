//! What the admin address takes from the configuration. A reload replaces it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::process_stats::ProcessStats;
use super::procfs;
use crate::api::settings::Current as CurrentApi;
use crate::api::settings::Settings as ApiSettings;
use crate::backend::Backend;
use crate::broker::durable::LogStats;
use crate::broker::stats::BrokerStats;
use crate::config::Config;

#[derive(Clone, Debug)]
pub struct Settings {
    /// For the server API, which has an address of its own over gRPC.
    pub api: Arc<ApiSettings>,
    /// Open connections at a time.
    pub connections_max: u32,
    /// Longest time for a request's head.
    pub request_timeout: Duration,
    /// Where the clients of the page connect: the first TCP listener, as it was bound. `None` turns the page's chat off.
    pub client: Option<SocketAddr>,
    /// That listener speaks TLS.
    pub client_tls: bool,
    /// The TLS configuration of the admin address, which changes when its certificate does. `None` is plain HTTP.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    /// Clients may connect without a token.
    pub anonymous: bool,
    /// The backend whose numbers `/metrics` shows.
    pub backend: Option<Arc<Backend>>,
    pub process_stats: Arc<ProcessStats>,
    pub brokers: Arc<BrokerStats>,
    pub durable_log: Arc<LogStats>,
}

impl Default for Settings {
    /// Without a key, a name or an id.
    fn default() -> Self {
        Self { api: Arc::default(), ..Self::new(&Config::default(), None) }
    }
}

impl Settings {
    /// `client` is the address of the first TCP listener as it was bound (the configuration may name port 0).
    pub fn new(config: &Config, client: Option<SocketAddr>) -> Self {
        let name = if config.node.name.is_empty() { default_name(client) } else { config.node.name.clone() };
        let uid = uuid::Uuid::new_v4().to_string();
        Self {
            api: Arc::new(ApiSettings::new(config, uid, name)),
            connections_max: config.admin.connections_max,
            request_timeout: config.admin.request_timeout,
            client,
            client_tls: false,
            tls: None,
            anonymous: config.client.insecure,
            backend: None,
            process_stats: Arc::default(),
            brokers: Arc::default(),
            durable_log: Arc::default(),
        }
    }

    /// The settings after a reload: another configuration and its backend, the same process and addresses.
    pub fn reloaded(&self, config: &Config, backend: Arc<Backend>) -> Self {
        let api = ApiSettings::new(config, self.api.uid.clone(), self.api.name.clone());
        Self {
            api: Arc::new(ApiSettings { unauthorized: Arc::clone(&self.api.unauthorized), ..api }),
            client_tls: self.client_tls,
            tls: self.tls.clone(),
            backend: Some(backend),
            process_stats: Arc::clone(&self.process_stats),
            brokers: Arc::clone(&self.brokers),
            durable_log: Arc::clone(&self.durable_log),
            ..Self::new(config, self.client)
        }
    }

    pub(super) fn client_scheme(&self) -> &'static str {
        if self.client_tls { "wss" } else { "ws" }
    }
}

/// The machine's name and the clients' port.
fn default_name(client: Option<SocketAddr>) -> String {
    let machine = procfs::machine_name().unwrap_or_else(|| "corecast".into());
    match client {
        Some(client) => format!("{machine}_{}", client.port()),
        None => machine,
    }
}

/// The settings in effect.
pub type Current = watch::Receiver<Arc<Settings>>;

/// The part of them that the server API needs.
pub fn api_settings(current: &Current) -> CurrentApi {
    let current = current.clone();
    CurrentApi::new(move || Arc::clone(&current.borrow().api))
}
