//! Brokers: which there are, and what namespaces may ask of them. Addresses and keys are checked where they are resolved.

use super::checks::Checks;
use crate::config::brokers::BrokerKind;
use crate::config::parse::scalar::show_duration;
use crate::config::schema::broker::BrokerType;
use crate::config::schema::config::Config;
use crate::config::schema::namespace::{Namespace, RecoveryMode};

const THREADS_MAX: usize = 64;

pub(crate) fn brokers(config: &Config, checks: &mut Checks) {
    let broker = &config.broker;
    let (what, fix) = match broker.kind {
        BrokerType::Postgres => (
            "PostgreSQL is not a broker of this server",
            "write \"redis\" or \"nats\"; an application that publishes within its transactions can publish to Redis after them",
        ),
        _ => (
            "Redis and NATS together are not a broker of this server",
            "write \"redis\", which keeps histories, or \"nats\", which does not",
        ),
    };
    let exists = !matches!(broker.kind, BrokerType::Postgres | BrokerType::RedisNats);
    checks.require(!broker.enabled || exists, "broker.type", what, fix);
    let threads = broker.threads;
    let what = format!("{threads} is not within 1 and {THREADS_MAX}");
    checks.require((1..=THREADS_MAX).contains(&threads), "broker.threads", what, "write 1, or a few");
    for (setting, bytes) in
        [("broker.queue_bytes_max", broker.queue_bytes_max), ("broker.events_bytes_max", broker.events_bytes_max)]
    {
        let message = config.websocket.message_size_limit;
        let what = format!("{bytes} holds no message of websocket.message_size_limit, {message} bytes");
        let fits = bytes >= message.max(64 * 1024);
        checks.require(fits, setting, what, "write a larger size, at least \"64KiB\"");
    }
    let (wait, probe) = (broker.subscribe_timeout, broker.probe_interval);
    let what = format!("{} is not within 100ms and 1m", show_duration(wait));
    let fits = (100..=60_000).contains(&wait.as_millis());
    checks.require(fits, "broker.subscribe_timeout", what, "write a time such as \"5s\", since a client waits for it");
    let what = format!("{} is not within 100ms and 1h", show_duration(probe));
    let fits = probe.is_zero() || (100..=3_600_000).contains(&probe.as_millis());
    checks.require(fits, "broker.probe_interval", what, "write a time such as \"30s\", or \"0s\" for never");
    let renewal = config.client.presence_update_interval;
    let what = format!("{} is not within 1s and 1h", show_duration(renewal));
    let fits = (1..=3600).contains(&renewal.as_secs());
    checks.require(fits, "client.presence_update_interval", what, "write a time such as \"27s\"");
    if let Some(presence) = &config.brokers.presence {
        let ttl = presence.presence_ttl;
        let what = format!("{} is not shorter than presence_ttl, {}", show_duration(renewal), show_duration(ttl));
        let fix = "write a shorter time, best less than half of it: an entry that is not renewed in time disappears";
        checks.require(renewal < ttl, "client.presence_update_interval", what, fix);
    }
    if let Some(BrokerKind::Nats(_)) = &config.brokers.publications {
        for (section, namespace) in config.channel.sections() {
            without_history(&section, namespace, checks);
        }
    }
}

/// NATS hands publications on and forgets them.
fn without_history(section: &str, one: &Namespace, checks: &mut Checks) {
    let of =
        if one.name.is_empty() { "channels without a namespace" } else { &format!("the namespace \"{}\"", one.name) };
    let is_cache = one.force_recovery_mode == RecoveryMode::Cache;
    for (key, is_set, why) in [
        ("history_size", one.history_size > 0, "keeps no history"),
        ("force_recovery", one.force_recovery, "keeps no history to recover from"),
        ("allow_recovery", one.allow_recovery, "keeps no history to recover from"),
        ("force_recovery_mode", is_cache, "keeps no history to take the latest publication from"),
        ("auto_cache_recover", one.auto_cache_recover, "keeps no history to take the latest publication from"),
        ("force_positioning", one.force_positioning, "counts no publications, so there are no positions"),
        ("allow_positioning", one.allow_positioning, "counts no publications, so there are no positions"),
        ("delta_publish", one.delta_publish, "keeps no publication to make a delta from"),
        ("allowed_delta_types", one.allow_delta, "keeps no publication to make a delta from"),
    ] {
        let what = format!("{of} cannot have it: the broker of publications is NATS, which {why}");
        let fix = "remove it, or use Redis for publications (engine.type or broker.type)";
        checks.require(!is_set, &format!("{section}.{key}"), what, fix);
    }
}
