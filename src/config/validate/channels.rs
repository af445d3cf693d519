//! Namespaces and their names, against each other and against the backends they use.

use std::collections::HashSet;

use super::checks::Checks;
use crate::config::parse::scalar::show_duration;
use crate::config::schema::config::Config;
use crate::config::schema::namespace::{Namespace, RecoveryMode};
use crate::config::schema::proxy::{DEFAULT_PROXY, ProxyUse};

pub(crate) fn channels(config: &Config, checks: &mut Checks) {
    let channel = &config.channel;
    checks.require_whole_seconds("channel.history_meta_ttl", channel.history_meta_ttl);
    let same = !channel.namespace_boundary.is_empty() && channel.namespace_boundary == channel.user_boundary;
    let what = format!("\"{}\" is also channel.namespace_boundary", channel.user_boundary);
    checks.require(!same, "channel.user_boundary", what, "choose another, such as \"#\"");
    namespace(config, "channel.without_namespace", &channel.without_namespace, checks);
    let mut names = HashSet::new();
    for (number, one) in channel.namespaces.iter().enumerate() {
        let section = format!("channel.namespaces[{number}]");
        let setting = format!("{section}.name");
        name_fits(&setting, &one.name, checks);
        let what = format!("\"{}\" is also the name of another namespace", one.name);
        checks.require(names.insert(&one.name), &setting, what, "give each namespace its own name");
        let boundary = &channel.namespace_boundary;
        let is_cut = !boundary.is_empty() && one.name.contains(boundary.as_str());
        let what = format!("\"{}\" contains channel.namespace_boundary, so no channel could be in it", one.name);
        checks.require(!is_cut, &setting, what, "choose another name");
        namespace(config, &section, one, checks);
    }
    personal_channel(config, checks);
}

/// The name of a namespace or a backend.
pub(crate) fn name_fits(setting: &str, name: &str, checks: &mut Checks) {
    let fits = name.len() >= 2 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let what = format!("\"{name}\" does not consist of two or more letters, digits, -, _ and dots");
    checks.require(fits, setting, what, "choose a name such as \"chat\"");
}

fn namespace(config: &Config, section: &str, one: &Namespace, checks: &mut Checks) {
    let at = |key: &str| format!("{section}.{key}");
    // Lists have only numbers in the names of settings.
    let of = if one.name.is_empty() { String::new() } else { format!(" (namespace \"{}\")", one.name) };
    history(config, section, one, &of, checks);
    let cache = one.force_recovery && one.force_recovery_mode == RecoveryMode::Cache;
    let what = format!("it has an effect only with recovery in the mode cache{of}");
    let fix = "set force_recovery = true and force_recovery_mode = \"cache\"";
    checks.require(!one.auto_cache_recover || cache, &at("auto_cache_recover"), what, fix);
    let (bytes, all) = (one.slow_consumer_bytes_max, config.client.queue_max_size);
    let what = format!("{bytes} is more than client.queue_max_size, {all}, which would be reached first{of}");
    let fix = "write a smaller size, or a larger client.queue_max_size";
    checks.require(bytes <= all, &at("slow_consumer_bytes_max"), what, fix);
    let defaults = &config.channel.proxy;
    for (used, key, default, default_section) in [
        (one.subscribe_proxy_use(), "subscribe_proxy", &defaults.subscribe, "channel.proxy.subscribe"),
        (one.publish_proxy_use(), "publish_proxy", &defaults.publish, "channel.proxy.publish"),
        (one.sub_refresh_proxy_use(), "sub_refresh_proxy", &defaults.sub_refresh, "channel.proxy.sub_refresh"),
    ] {
        let setting = ProxySetting {
            enabled: at(&format!("{key}_enabled")),
            name: at(&format!("{key}_name")),
            default_section,
            has_default: !default.endpoint.is_empty(),
        };
        proxy_exists(config, used, &setting, checks);
    }
}

fn history(config: &Config, section: &str, one: &Namespace, of: &str, checks: &mut Checks) {
    let at = |key: &str| format!("{section}.{key}");
    checks.require_whole_seconds(&at("history_ttl"), one.history_ttl);
    if one.history_meta_ttl != config.channel.history_meta_ttl {
        checks.require_whole_seconds(&at("history_meta_ttl"), one.history_meta_ttl);
    }
    let (missing, other) = match one.history_size {
        0 => ("history_size", "history_ttl"),
        _ => ("history_ttl", "history_size"),
    };
    let what = format!("it is 0 while {other} is set{of}");
    let fix = "a history needs history_size and history_ttl, such as 100 and \"300s\"";
    checks.require((one.history_size == 0) == one.history_ttl.is_zero(), &at(missing), what, fix);
    let (meta, ttl) = (one.history_meta_ttl, one.history_ttl);
    let what = format!("{} is shorter than history_ttl, {}{of}", show_duration(meta), show_duration(ttl));
    let fix = "write a longer time, such as \"720h\": the position must be kept longer than the publications";
    checks.require(meta >= ttl, &at("history_meta_ttl"), what, fix);
    let what = format!("there is no history to recover from{of}");
    let fix = "set history_size and history_ttl, such as 100 and \"300s\"";
    checks.require(!one.force_recovery || one.has_history(), &at("force_recovery"), what, fix);
}

/// The settings that choose a backend.
pub(crate) struct ProxySetting<'a> {
    /// Full names.
    pub enabled: String,
    pub name: String,
    /// The section that "default" means there.
    pub default_section: &'a str,
    /// That section has an endpoint.
    pub has_default: bool,
}

pub(crate) fn proxy_exists(config: &Config, used: ProxyUse<'_>, setting: &ProxySetting<'_>, checks: &mut Checks) {
    let section = setting.default_section;
    if used.name == DEFAULT_PROXY {
        let what = format!("{section}.endpoint is not set");
        let fix = format!("set it, or name one of proxies in {}", setting.name);
        checks.require(!used.enabled || setting.has_default, &setting.enabled, what, fix);
        return;
    }
    // An unused name may be empty but not wrong.
    let is_unset = !used.enabled && used.name.is_empty();
    let is_known = is_unset || config.proxies.iter().any(|proxy| proxy.name == used.name);
    let what = format!("there is no backend \"{}\" in proxies", used.name);
    checks.require(is_known, &setting.name, what, format!("name one of them, or \"default\" for {section}"));
}

fn personal_channel(config: &Config, checks: &mut Checks) {
    let personal = &config.client.subscribe_to_user_personal_channel;
    if !personal.enabled {
        return;
    }
    let name = &personal.personal_channel_namespace;
    let namespace = match name.as_str() {
        "" => Some(&config.channel.without_namespace),
        name => config.channel.namespaces.iter().find(|namespace| namespace.name == name),
    };
    let setting = "client.subscribe_to_user_personal_channel.personal_channel_namespace";
    let what = format!("there is no namespace \"{name}\"");
    checks.require(namespace.is_some(), setting, what, "name one of channel.namespaces");
    let (of, section) = match name.as_str() {
        "" => ("channels without a namespace have".to_owned(), "channel.without_namespace"),
        name => (format!("the namespace \"{name}\" has"), "the namespace"),
    };
    let has_presence = !personal.single_connection || namespace.is_none_or(|namespace| namespace.presence);
    let setting = "client.subscribe_to_user_personal_channel.single_connection";
    let what = format!("{of} no presence, which it needs to find the other connections");
    checks.require(has_presence, setting, what, format!("set presence in {section}"));
}
