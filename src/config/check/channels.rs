//! Namespaces and their names held against each other, and against the backends they name.

use std::collections::HashSet;

use super::{Hold, whole_seconds};
use crate::config::channel::{DEFAULT_PROXY, Namespace, RecoveryMode};
use crate::config::value::show_duration;
use crate::config::{Config, ProxyUse};

pub fn channels(config: &Config, hold: &mut Hold<'_>) {
    let channel = &config.channel;
    whole_seconds("channel.history_meta_ttl", channel.history_meta_ttl, hold);
    let alike = !channel.namespace_boundary.is_empty() && channel.namespace_boundary == channel.user_boundary;
    let what = format!("\"{}\" is channel.namespace_boundary too", channel.user_boundary);
    hold(!alike, "channel.user_boundary", what, "choose another, such as \"#\"");
    namespace(config, "channel.without_namespace", &channel.without_namespace, hold);
    let mut names = HashSet::new();
    for (number, one) in channel.namespaces.iter().enumerate() {
        let section = format!("channel.namespaces[{number}]");
        let setting = format!("{section}.name");
        name_fits(&setting, &one.name, hold);
        let what = format!("\"{}\" is the name of another namespace too", one.name);
        hold(names.insert(&one.name), &setting, what, "give each a name of its own");
        let boundary = &channel.namespace_boundary;
        let cut = !boundary.is_empty() && one.name.contains(boundary.as_str());
        let what = format!("\"{}\" holds channel.namespace_boundary: no channel could belong to it", one.name);
        hold(!cut, &setting, what, "choose another name");
        namespace(config, &section, one, hold);
    }
    personal(config, hold);
}

/// A name of a namespace or a backend.
pub fn name_fits(setting: &str, name: &str, hold: &mut Hold<'_>) {
    let fits = name.len() >= 2 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let what = format!("\"{name}\" is not two or more of letters, digits, -, _ and the dot");
    hold(fits, setting, what, "choose a name such as \"chat\"");
}

fn namespace(config: &Config, section: &str, one: &Namespace, hold: &mut Hold<'_>) {
    let at = |key: &str| format!("{section}.{key}");
    let of = if one.name.is_empty() { String::new() } else { format!(" (namespace \"{}\")", one.name) };
    whole_seconds(&at("history_ttl"), one.history_ttl, hold);
    if one.history_meta_ttl != config.channel.history_meta_ttl {
        whole_seconds(&at("history_meta_ttl"), one.history_meta_ttl, hold);
    }
    let both = (one.history_size == 0) == one.history_ttl.is_zero();
    let mend = "a history needs history_size and history_ttl, such as 100 and \"300s\"";
    let missing = if one.history_size == 0 { "history_size" } else { "history_ttl" };
    hold(both, &at(missing), format!("it is 0 while the other half of the history is set{of}"), mend);
    let what = format!(
        "{} is shorter than history_ttl, {}{of}",
        show_duration(one.history_meta_ttl),
        show_duration(one.history_ttl)
    );
    let mend = "make it longer, such as \"720h\": the position must outlive what it counts";
    hold(one.history_meta_ttl >= one.history_ttl, &at("history_meta_ttl"), what, mend);
    let what = format!("there is no history to recover from{of}");
    let mend = "set history_size and history_ttl, such as 100 and \"300s\"";
    hold(!one.force_recovery || one.has_history(), &at("force_recovery"), what, mend);
    let cache = one.force_recovery && one.force_recovery_mode == RecoveryMode::Cache;
    let what = format!("it has an effect only with recovery of the mode cache{of}");
    let mend = "set force_recovery = true and force_recovery_mode = \"cache\"";
    hold(!one.auto_cache_recover || cache, &at("auto_cache_recover"), what, mend);
    let (bytes, all) = (one.slow_consumer_bytes_max, config.engine.outbound_bytes_max);
    let what = format!("{bytes} is more than client.queue_max_size, {all}, which would be reached first{of}");
    hold(bytes <= all, &at("slow_consumer_bytes_max"), what, "make it smaller, or client.queue_max_size larger");
    let typed = &config.typed;
    for (used, key, default, its_section) in [
        (&one.typed.subscribe, "subscribe_proxy", &typed.subscribe, "channel.proxy.subscribe"),
        (&one.typed.publish, "publish_proxy", &typed.publish, "channel.proxy.publish"),
        (&one.typed.sub_refresh, "sub_refresh_proxy", &typed.sub_refresh, "channel.proxy.sub_refresh"),
    ] {
        let place = Place { enabled: at(&format!("{key}_enabled")), name: at(&format!("{key}_name")), its_section };
        proxy_exists(config, used, &place, !default.endpoint.is_empty(), hold);
    }
}

/// Where a backend's use was typed, and the section that "default" means there.
pub struct Place {
    pub enabled: String,
    pub name: String,
    pub its_section: &'static str,
}

pub fn proxy_exists(config: &Config, used: &ProxyUse, place: &Place, default: bool, hold: &mut Hold<'_>) {
    let section = place.its_section;
    if used.name == DEFAULT_PROXY {
        let what = format!("{section}.endpoint is not set");
        let mend = format!("set it, or name one of proxies in {}", place.name);
        hold(!used.enabled || default, &place.enabled, what, &mend);
        return;
    }
    // A name that nobody uses may be empty, but not wrong.
    let unused = !used.enabled && used.name.is_empty();
    let known = unused || config.proxies.iter().any(|proxy| proxy.name == used.name);
    let what = format!("\"{}\" is the name of none of proxies", used.name);
    hold(known, &place.name, what, &format!("name one of them, or \"default\" for {section}"));
}

fn personal(config: &Config, hold: &mut Hold<'_>) {
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
    hold(namespace.is_some(), setting, what, "name one of channel.namespaces");
    let of = if name.is_empty() { "channels without a namespace".into() } else { format!("namespace \"{name}\"") };
    let present = !personal.single_connection || namespace.is_none_or(|namespace| namespace.presence);
    let setting = "client.subscribe_to_user_personal_channel.single_connection";
    hold(present, setting, format!("{of} keeps no presence, by which it is known who is there"), "set its presence");
}
