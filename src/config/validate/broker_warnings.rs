//! Settings of brokers that have no effect where they are given, or that surprise: a sentence each.

use crate::config::brokers::address::{RedisKind, redis_address};
use crate::config::brokers::{BrokerKind, Redis, RedisTopology};
use crate::config::schema::broker::{BrokerType, StoreType};
use crate::config::schema::config::Config;
use crate::config::schema::namespace::Namespace;
use crate::config::schema::redis::RedisServers;
use crate::config::schema::registry::SETTINGS;
use crate::config::schema::tls::BrokerTls;

pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = unused_sections(config);
    let Config { engine, broker, presence_manager, brokers, .. } = config;
    let used = [
        ("engine.redis", &engine.redis.servers, engine_redis_is_used(config)),
        ("broker.redis", &broker.redis.servers, broker.enabled && broker.kind == BrokerType::Redis),
        ("presence_manager.redis", &presence_manager.redis.servers, presence_manager_redis_is_used(config)),
    ];
    for (section, servers, is_used) in used {
        if is_used {
            servers_warnings(section, servers, &mut warnings);
        }
    }
    match &brokers.publications {
        Some(BrokerKind::Redis(redis)) => {
            let section = if broker.enabled { "broker.redis" } else { "engine.redis" };
            publications_warnings(section, redis, &mut warnings);
        }
        Some(BrokerKind::Nats(nats)) => {
            tls_warnings("broker.nats.tls", &broker.nats.tls, nats.tls.is_some(), &mut warnings);
            let with = |is_meant: fn(&Namespace) -> bool| namespaces(config, is_meant);
            let mut warn = |named: String, text: &str| {
                if !named.is_empty() {
                    warnings.push(format!("{named}: {text}"));
                }
            };
            if brokers.presence.is_none() {
                let text = "presence is in memory and the broker is NATS, so each server only has its own clients; set \
                            presence_manager.type = \"redis\"";
                warn(with(|one| one.presence), text);
            }
            if nats.allow_wildcards {
                let text = "with broker.nats.allow_wildcards, a subscriber of a wildcard is in no presence of the channels that \
                            it matches, and gets none of their joins and leaves";
                warn(with(|one| one.presence || one.join_leave), text);
            }
            if nats.raw_mode.is_some() {
                warn(
                    with(|one| one.join_leave),
                    "join_leave has no effect with broker.nats.raw_mode, which carries only data",
                );
            }
        }
        None => {}
    }
    warnings
}

fn engine_redis_is_used(config: &Config) -> bool {
    config.engine.kind == StoreType::Redis && !(config.broker.enabled && config.presence_manager.enabled)
}

fn presence_manager_redis_is_used(config: &Config) -> bool {
    config.presence_manager.enabled && config.presence_manager.kind == StoreType::Redis
}

/// Sections with values other than the defaults that nothing reads, each once.
fn unused_sections(config: &Config) -> Vec<String> {
    let Config { engine, broker, presence_manager, brokers, .. } = config;
    let reason = |enabled: bool, section: &str, kind: &str| match enabled {
        true => format!("{section}.type is not \"{kind}\""),
        false => format!("{section}.enabled is false"),
    };
    let is_redis = matches!(brokers.publications, Some(BrokerKind::Redis(_)));
    let is_nats = matches!(brokers.publications, Some(BrokerKind::Nats(_)));
    let has_broker = brokers.publications.is_some() || brokers.presence.is_some();
    let own = "there is no broker, so there is nothing to wait for";
    let both = engine.kind == StoreType::Redis;
    let engine_reason = match both {
        true => "broker.enabled and presence_manager.enabled override it".to_owned(),
        false => "engine.type is not \"redis\"".to_owned(),
    };
    let type_of = |key: &str| format!("{key}.enabled is false");
    let sections: [(&str, bool, String); 7] = [
        ("engine.redis.", engine_redis_is_used(config), engine_reason),
        ("broker.type", broker.enabled, type_of("broker")),
        ("broker.redis.", is_redis && broker.enabled, reason(broker.enabled, "broker", "redis")),
        (
            "broker.nats.raw_mode.",
            !is_nats || broker.nats.raw_mode.enabled,
            "broker.nats.raw_mode.enabled is false".into(),
        ),
        ("broker.nats.", is_nats, reason(broker.enabled, "broker", "nats")),
        ("presence_manager.type", presence_manager.enabled, type_of("presence_manager")),
        (
            "presence_manager.redis.",
            presence_manager_redis_is_used(config),
            reason(presence_manager.enabled, "presence_manager", "redis"),
        ),
    ];
    let mut warnings = Vec::new();
    for (section, is_used, why) in sections {
        if !is_used {
            warnings.extend(without_effect(config, |name| name.starts_with(section), &why));
        }
    }
    const OWN: [&str; 6] =
        ["threads", "queue_bytes_max", "events_bytes_max", "subscribe_timeout", "probe_interval", "publish_locally"];
    if !has_broker {
        let is_own = |name: &str| name.strip_prefix("broker.").is_some_and(|key| OWN.contains(&key));
        warnings.extend(without_effect(config, is_own, own));
    }
    if brokers.presence.is_none() {
        let is_renewal = |name: &str| name == "client.presence_update_interval";
        warnings.extend(without_effect(config, is_renewal, "presence in memory ends with the connection"));
    }
    warnings
}

/// A warning if one of these settings differs from its default.
fn without_effect(config: &Config, is_meant: impl Fn(&str) -> bool, why: &str) -> Option<String> {
    let default = Config::default();
    let changed = SETTINGS.iter().filter(|one| is_meant(&one.name) && one.show(config) != one.show(&default));
    let named: Vec<&str> = changed.map(|one| one.name.as_str()).collect();
    (!named.is_empty()).then(|| format!("{} has no effect: {why}", named.join(", ")))
}

fn servers_warnings(section: &str, servers: &RedisServers, warnings: &mut Vec<String>) {
    let used = servers.used();
    let default = RedisServers::default();
    let is_ignored = |key: &str| match key {
        "address" => used != "address" && servers.address != default.address,
        _ => used == "cluster_address" && !servers.sentinel_address.is_empty(),
    };
    for key in ["address", "sentinel_address"].into_iter().filter(|key| is_ignored(key)) {
        warnings.push(format!("{section}.{key} has no effect: {section}.{used} overrides it"));
    }
    let addresses: Vec<_> = match used {
        "address" => servers.address.iter().filter_map(|text| redis_address(text).ok()).collect(),
        _ => Vec::new(),
    };
    for name in addresses.iter().flat_map(|address| &address.unknown) {
        warnings.push(format!("{section}.address contains {name} after its question mark, which has no effect"));
    }
    let is_sentinel = used == "sentinel_address" || addresses.iter().any(|address| address.kind == RedisKind::Sentinel);
    let of_sentinel = [
        ("sentinel_user", !servers.sentinel_user.is_empty()),
        ("sentinel_password", !servers.sentinel_password.is_empty()),
        ("sentinel_master_name", !servers.sentinel_master_name.is_empty()),
        ("sentinel_client_name", !servers.sentinel_client_name.is_empty()),
        ("sentinel_tls", servers.sentinel_tls.enabled),
    ];
    for (key, _) in of_sentinel.iter().filter(|(_, is_set)| *is_set && !is_sentinel) {
        warnings.push(format!("{section}.{key} has no effect: no address is one of sentinels"));
    }
    let uses_tls = addresses.iter().any(|address| address.tls);
    tls_warnings(&format!("{section}.tls"), &servers.tls, uses_tls, warnings);
    tls_warnings(&format!("{section}.sentinel_tls"), &servers.sentinel_tls, false, warnings);
    let has_password = !servers.password.is_empty() || addresses.iter().any(|address| address.password.is_some());
    if !has_password && !servers.user.is_empty() {
        warnings.push(format!("{section}.user has no effect without {section}.password"));
    }
}

fn tls_warnings(section: &str, tls: &BrokerTls, uses_tls: bool, warnings: &mut Vec<String>) {
    let default = BrokerTls::default();
    if !tls.enabled && *tls != default {
        let more = if uses_tls { ", and TLS uses the certificate authorities of this machine" } else { "" };
        warnings.push(format!("the other settings of {section} have no effect: {section}.enabled is false{more}"));
    }
    if tls.enabled && tls.insecure_skip_verify {
        warnings.push(format!(
            "{section}.insecure_skip_verify accepts any certificate: an attacker on the network can read and change everything"
        ));
    }
}

/// Settings for clusters and replicas at servers that have none.
fn publications_warnings(section: &str, redis: &Redis, warnings: &mut Vec<String>) {
    let has = |is_it: fn(&RedisTopology) -> bool| redis.shards.iter().any(|shard| is_it(&shard.topology));
    let is_cluster = has(|topology| matches!(topology, RedisTopology::Cluster(_)));
    let is_single = has(|topology| matches!(topology, RedisTopology::Single(_)));
    let partitions = redis.sharded_pub_sub_partitions;
    if partitions > 0 && !is_cluster {
        let fix = if is_single { "; write redis+cluster:// before the address of a cluster" } else { "" };
        warnings.push(format!("{section}.sharded_pub_sub_partitions has an effect only with a Redis Cluster{fix}"));
    }
    if partitions == 0 && redis.group_sharded_pub_sub_by_node {
        let name = format!("{section}.group_sharded_pub_sub_by_node");
        warnings.push(format!("{name} has no effect without {section}.sharded_pub_sub_partitions"));
    }
    let replicas = redis.shards.iter().any(|shard| shard.replica_client);
    if replicas && is_single {
        let name = format!("{section}.replica_client.enabled");
        warnings.push(format!("{name} has an effect only with sentinels or a Redis Cluster"));
    }
    if replicas && !redis.presence_read_from_replica && !redis.subscribe_on_replica {
        let name = format!("{section}.replica_client.enabled");
        warnings.push(format!("{name} has no effect without presence_read_from_replica or subscribe_on_replica"));
    }
}

/// The names of the namespaces for which it holds.
fn namespaces(config: &Config, is_meant: fn(&Namespace) -> bool) -> String {
    let all = std::iter::once(&config.channel.without_namespace).chain(&config.channel.namespaces);
    let named = |one: &Namespace| match one.name.as_str() {
        "" => "channels without a namespace".to_owned(),
        name => format!("the namespace \"{name}\""),
    };
    all.filter(|one| is_meant(one)).map(named).collect::<Vec<_>>().join(", ")
}
