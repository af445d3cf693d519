//! Limits that have no effect where they are configured: a sentence each.

use std::net::IpAddr;

use crate::config::schema::config::Config;
use crate::config::schema::engine::Limits;
use crate::engine::net::listener::Address;

pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = per_address(config);
    let mut warn = |holds: bool, text: &str| {
        if holds {
            warnings.push(text.to_owned());
        }
    };
    let (limits, client) = (&config.limits, &config.client);
    let is_set = |burst: u32, default: u32| burst != default;
    let default = Limits::default();
    warn(
        is_set(limits.handshakes_per_address_burst, default.handshakes_per_address_burst)
            && limits.handshakes_per_address == 0,
        "limits.handshakes_per_address_burst has no effect without limits.handshakes_per_address",
    );
    warn(
        client.command_rate_burst > 0 && client.command_rate_limit == 0,
        "client.command_rate_burst has no effect without client.command_rate_limit",
    );
    warn(
        client.byte_rate_burst > 0 && client.byte_rate_limit == 0,
        "client.byte_rate_burst has no effect without client.byte_rate_limit",
    );
    warn(
        client.rate_limit_dry_run && client.command_rate_limit == 0 && client.byte_rate_limit == 0,
        "client.rate_limit_dry_run has no effect without client.command_rate_limit or client.byte_rate_limit",
    );
    warn(
        client.queue_max_size > config.engine.backlog_bytes_max,
        "client.queue_max_size is more than engine.backlog_bytes_max, the bound of all connections together, which is reached \
         first: one slow client can fill it",
    );
    warn(
        config.websocket.decompressed_message_size_limit > 0 && !config.websocket.compression,
        "websocket.decompressed_message_size_limit has no effect without websocket.compression",
    );
    warnings
}

/// Limits per address at listeners whose clients have none, or only exempt ones.
fn per_address(config: &Config) -> Vec<String> {
    let limits = &config.limits;
    let named = [
        ("limits.connections_per_address", limits.connections_per_address),
        ("limits.handshakes_per_address", limits.handshakes_per_address),
    ];
    let named: Vec<&str> = named.into_iter().filter(|(_, limit)| *limit > 0).map(|(name, _)| name).collect();
    let exempts = |ip: IpAddr| limits.exempt.iter().any(|net| net.contains(&ip));
    let trusts = |ip: IpAddr| limits.trusted_proxies.iter().any(|net| net.contains(&ip));
    let mut warnings = Vec::new();
    for listen in config.listeners.iter().filter(|listen| !listen.options.proxied) {
        let why = match &listen.address {
            Address::Unix(_) => {
                "the clients of a unix socket have no address; write \"proxy:\" before it, and let the proxy send the PROXY \
                 protocol"
            }
            Address::Tcp(at) if at.ip().is_loopback() && exempts(at.ip()) && !trusts(at.ip()) => {
                "every client comes from this machine, which limits.exempt names; add the proxy on this machine to \
                 limits.trusted_proxies, or write \"proxy:\" before the address"
            }
            _ => continue,
        };
        if !named.is_empty() {
            warnings.push(format!("{} has no effect at {listen}: {why}", named.join(" or ")));
        } else if matches!(listen.address, Address::Unix(_)) && !limits.trusted_proxies.is_empty() {
            warnings.push(format!("limits.trusted_proxies has no effect at {listen}: {why}"));
        }
    }
    warnings
}
