//! What is different between two configurations, and what of it a running server can take over.

use super::settings::{Item, NAMESPACE, PROXY, RPC_NAMESPACE, SETTINGS};
use super::value::Unit;
use super::{Config, Namespace, Proxy, RpcNamespace};

/// Settings that only a start reads, or all whose names begin so where a dot ends it.
const AT_START: &[&str] = &[
    "dev",
    "listen",
    "join",
    "cores",
    "shards",
    "oversubscribe",
    "control_cores",
    "admin.address",
    "http_server.",
    "grpc_api.enabled",
    "grpc_api.address",
    "grpc_api.port",
    "node.name",
    "echo.enabled",
    "client.ping_interval",
    "client.pong_timeout",
    "channel.max_length",
    "tls.ticket_lifetime",
    "tls.early_data",
    "tls.admin",
    "handover.",
    "websocket.compression",
    "websocket.compression_min_size",
    "websocket.compression_level",
    "websocket.compression_window_bits",
    "websocket.compression_server_takeover",
    "websocket.compression_client_takeover",
    "websocket.compression_contexts_max",
    "websocket.decompressed_message_size_limit",
    "engine.connections_max",
    "engine.mailbox_batches_max",
    "engine.mail_bytes_max",
    "engine.turn_bytes_max",
    "engine.history_bytes_max",
    "machine.",
];

/// Names of settings, each once.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Changes {
    /// A running server takes them over.
    pub live: Vec<String>,
    /// Only the next start does; with both values where they are no secrets.
    pub at_start: Vec<String>,
}

/// A running server cannot take the setting over.
pub fn needs_restart(name: &str) -> bool {
    AT_START.iter().any(|one| name == *one || one.ends_with('.') && name.starts_with(one))
}

/// From the configuration that runs to another one.
pub fn changes(running: &Config, wanted: &Config) -> Changes {
    let mut changes = Changes::default();
    for setting in SETTINGS.iter() {
        let (old, new) = (setting.show(running), setting.show(wanted));
        if old == new {
            continue;
        }
        if needs_restart(&setting.name) {
            changes.at_start.push(told(&setting.name, setting.unit, old, new));
        } else {
            changes.live.push(setting.name.clone());
        }
    }
    let named = |namespaces: &[Namespace]| namespaces.iter().map(|one| (one.name.clone(), one.clone())).collect();
    let both = (named(&running.channel.namespaces), named(&wanted.channel.namespaces));
    sections("channel.namespaces", both, NAMESPACE, &mut changes.live);
    let named = |namespaces: &[RpcNamespace]| namespaces.iter().map(|one| (one.name.clone(), one.clone())).collect();
    let both = (named(&running.rpc.namespaces), named(&wanted.rpc.namespaces));
    sections("rpc.namespaces", both, RPC_NAMESPACE, &mut changes.live);
    // Those of sections were looked at among the settings.
    let named = |proxies: &[Proxy]| {
        let typed = proxies.iter().filter(|one| !one.name.contains(".proxy"));
        typed.map(|one| (one.name.clone(), one.clone())).collect()
    };
    let both = (named(&running.proxies), named(&wanted.proxies));
    sections("proxies", both, PROXY, &mut changes.live);
    changes
}

fn told(name: &str, unit: Unit, old: Option<String>, new: Option<String>) -> String {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "unset".into());
    match unit {
        Unit::Secret | Unit::Url | Unit::Endpoint | Unit::HeaderValues => name.to_owned(),
        _ => format!("{name} ({} -> {})", shown(old), shown(new)),
    }
}

type Named<T> = Vec<(String, T)>;

/// Tables with names: those that came or went, and settings of those that are in both.
fn sections<T>(list: &str, (mut old, mut new): (Named<T>, Named<T>), items: &[Item<T>], into: &mut Vec<String>) {
    for (name, old) in &mut old {
        let Some((_, new)) = new.iter_mut().find(|(other, _)| other == name) else {
            into.push(format!("{list}: {name} is gone"));
            continue;
        };
        for item in items {
            if (item.at)(old).show(item.unit) != (item.at)(new).show(item.unit) {
                into.push(format!("{list}[{name}].{}", item.name));
            }
        }
    }
    let came = new.iter().filter(|(name, _)| old.iter().all(|(other, _)| other != name));
    into.extend(came.map(|(name, _)| format!("{list}: {name} is new")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{assemble, file};

    fn config(text: &str) -> Config {
        assemble(&file("corecast.toml", text).unwrap()).unwrap()
    }

    #[test]
    fn what_is_different_is_named_and_no_secret_is_told() {
        let running = config(
            "shards = 2\n[client.token]\nhmac_secret_key = \"old-secret-old-secret-old-secret\"\n\
             [[channel.namespaces]]\nname = \"chat\"\npresence = true\n[[channel.namespaces]]\nname = \"gone\"\n\
             [[proxies]]\nname = \"main\"\nendpoint = \"http://127.0.0.1:1/\"\n",
        );
        let wanted = config(
            "shards = 4\n[client.token]\nhmac_secret_key = \"new-secret-new-secret-new-secret\"\n\
             [[channel.namespaces]]\nname = \"chat\"\nhistory_size = 3\nhistory_ttl = \"1s\"\n[[channel.namespaces]]\nname = \"came\"\n\
             [[proxies]]\nname = \"main\"\nendpoint = \"http://user:secret@127.0.0.1:2/\"\n",
        );
        let changes = changes(&running, &wanted);
        let live = [
            "client.token.hmac_secret_key",
            "channel.namespaces[chat].presence",
            "channel.namespaces[chat].history_size",
            "channel.namespaces[chat].history_ttl",
            "channel.namespaces: gone is gone",
            "channel.namespaces: came is new",
            "proxies[main].endpoint",
        ];
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(changes.live), sorted(live.map(str::to_owned).to_vec()));
        assert_eq!(changes.at_start, ["shards (2 -> 4)"]);
        assert_eq!(super::changes(&wanted, &wanted), Changes::default());
    }

    #[test]
    fn what_needs_a_restart_is_there() {
        for one in AT_START {
            let there = SETTINGS.iter().any(|setting| setting.name == *one || setting.name.starts_with(one));
            assert!(there, "{one}");
        }
    }
}
