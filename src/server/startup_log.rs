//! The log lines after the start: what runs where, and how clients are authenticated.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use super::start::{ControlListeners, FILES_MIN};
use crate::admin::procfs;
use crate::config::{Config, Listen};
use crate::engine::net::listener::{Address, ListenSockets};

/// The first TCP listener and its index: where the demo page's clients connect.
pub(crate) fn first_tcp_listener(bound: &[Address]) -> Option<(usize, SocketAddr)> {
    bound.iter().enumerate().find_map(|(index, at)| if let Address::Tcp(at) = at { Some((index, *at)) } else { None })
}

/// Logs what the settings ask of the machine and do not get, and the inherited listeners that the settings do not name.
pub(crate) fn log_unused(missed: &[String], sockets: ListenSockets) {
    missed.iter().for_each(|missed| log::warn!("{missed}"));
    for (at, _) in sockets {
        log::warn!("the listener {at}, inherited from the old process, is not in `listen` and was closed");
    }
}

/// With `--dev`, also prints what to try next.
pub(crate) fn log_startup(
    config: &Config,
    bound: &[Address],
    listeners: &ControlListeners,
    cores: &[Option<usize>],
    file_limit: u64,
) {
    let pinned: Vec<_> = cores.iter().flatten().collect();
    match pinned.is_empty() {
        true => log::warn!("{} shards run unpinned and share cores (oversubscribe is set)", cores.len()),
        false => log::info!("{} shards run pinned to cores {pinned:?}", pinned.len()),
    }
    let tables = if config.machine.own_file_tables { cores.len() as u64 } else { 1 };
    let scope = if tables > 1 { "each shard" } else { "this process" };
    let connections = file_limit.saturating_sub(FILES_MIN) * tables;
    log::info!("{scope} may open {file_limit} files: room for about {connections} connections");
    log_unreachable_limits(config, connections);
    let addresses: Vec<_> = bound.iter().zip(&config.listeners).map(|(at, listen)| describe(listen, at)).collect();
    log::info!("clients connect to {}", addresses.join(", "));
    let local_address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
    let admin = local_address(&listeners.admin);
    if let Some(admin) = admin {
        let scheme = if config.tls.admin { "https" } else { "http" };
        log::info!("admin address: {scheme}://{admin}/ (/health /metrics /stats /api)");
    }
    if let Some(grpc) = local_address(&listeners.grpc) {
        log::info!("gRPC API: {grpc}");
    }
    log::info!("client authentication: {}", authentication(config));
    if let (true, Some((index, client)), Some(admin)) = (config.dev, first_tcp_listener(bound), admin) {
        print_dev_help(config, config.listeners[index].options.tls, client, admin);
    }
}

fn print_dev_help(config: &Config, client_tls: bool, client: SocketAddr, admin: SocketAddr) {
    let ws = if client_tls { "wss" } else { "ws" };
    let http = if config.tls.admin { "https" } else { "http" };
    let key = config.http_api.key.as_deref().unwrap_or_default();
    // A closed stdout must not end the server.
    let _ = writeln!(
        std::io::stdout(),
        "corecast --dev: every client may connect, subscribe and publish.\n\n  \
         chat page    {http}://{admin}/\n  \
         clients      {ws}://{client}/connection/websocket\n  \
         echo         {ws}://{client}/echo\n  \
         metrics      {http}://{admin}/metrics\n\n\
         Try: open the page in two tabs, or publish from a shell:\n\n  \
         curl -H 'X-API-Key: {key}' {http}://{admin}/api/publish -d '{{\"channel\":\"lobby\",\"data\":{{\"text\":\"hello\"}}}}'\n"
    );
}

/// Limits that this process cannot reach, since another one comes first. `connections` is the room for descriptors.
fn log_unreachable_limits(config: &Config, connections: u64) {
    let limit = u64::from(config.client.connection_limit);
    if limit > connections {
        log::warn!(
            "client.connection_limit ({limit}) has no effect: the limit on open files allows {connections} connections"
        );
    }
    let bytes = config.limits.memory_bytes_max as u64;
    if let Some(group) = procfs::memory_limit().filter(|&group| bytes >= group) {
        log::warn!(
            "limits.memory_bytes_max ({} MiB) has no effect: the kernel ends the process at the control group's limit ({} MiB)",
            bytes >> 20,
            group >> 20
        );
    }
}

/// The listener as in the settings, with the address as bound.
fn describe(listen: &Listen, at: &Address) -> String {
    Listen { address: at.clone(), options: listen.options }.to_string()
}

/// How a client is authenticated. `config` warns about settings that let no client in.
fn authentication(config: &Config) -> String {
    let client = &config.client;
    if client.insecure {
        return "none, client.insecure accepts every client".into();
    }
    let token = match client.token.jwks_public_endpoint.is_empty() {
        true => "a token (client.token)",
        false => "a token (client.token, keys from jwks_public_endpoint)",
    };
    let ways = [
        (!client.token.is_empty(), token),
        (config.connect_proxy.is_some(), "the backend (client.proxy.connect)"),
        (client.allow_anonymous_connect_without_token, "no token, as the anonymous user"),
    ];
    let ways: Vec<&str> = ways.iter().filter(|(is_on, _)| *is_on).map(|(_, way)| *way).collect();
    if ways.is_empty() { "none is configured, every client is rejected".into() } else { ways.join(", or ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_is_described_with_all_its_options() {
        let bound = Address::Tcp("127.0.0.1:8443".parse().unwrap());
        for (wanted, shown) in [
            ("127.0.0.1:0", "127.0.0.1:8443"),
            ("tls:127.0.0.1:0", "tls:127.0.0.1:8443"),
            ("proxy:tls:127.0.0.1:0", "proxy:tls:127.0.0.1:8443"),
        ] {
            assert_eq!(describe(&wanted.parse().unwrap(), &bound), shown);
        }
    }

    #[test]
    fn startup_log_names_every_way_of_authentication() {
        let mut config = Config::default();
        assert_eq!(authentication(&config), "none is configured, every client is rejected");
        config.client.token.hmac_secret_key = "x".into();
        config.client.allow_anonymous_connect_without_token = true;
        assert_eq!(authentication(&config), "a token (client.token), or no token, as the anonymous user");
        config.client.insecure = true;
        assert!(authentication(&config).starts_with("none, client.insecure"));
    }
}
