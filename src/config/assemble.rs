//! From the values of every source to one checked configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::brokers::pem::Files;
use super::brokers::{self, BrokerKind};
use super::centrifugo;
use super::error::{ConfigError, ConfigErrors, Origin};
use super::parse::net::Listen;
use super::parse::scalar::Bool;
use super::parse::value::{Invalid, Raw, Unit, is_placeholder};
use super::schema::config::Config;
use super::schema::namespace::{DataFormat, Namespace};
use super::schema::proxy::{Proxy, ProxyUse};
use super::schema::registry;
use super::sources::raw_setting::RawSetting;
use super::validate::{self, Checks};
use crate::engine::net::listener::Address;

/// The configuration of `values`, weakest source first: a later value of a name overrides an earlier one, but both must be
/// readable. Errors: everything that is wrong, at least one.
pub fn assemble(values: &[RawSetting]) -> Result<Config, ConfigErrors> {
    let mut config = if is_dev(values) { Config::dev() } else { Config::default() };
    let mut errors = read(&mut config, values);
    // The names of the original come before the checks, which report settings by the name in the source.
    let mut checks = Checks::default();
    let is_set = |name: &str| values.iter().any(|value| value.name == name);
    apply_original_addresses(&mut config, is_set, &mut checks);
    inherit(&mut config, is_set);
    config.brokers = brokers::resolve::resolve(&config, Files::Skip, &mut checks);
    if config.dev && matches!(config.brokers.publications, Some(BrokerKind::Nats(_))) {
        drop_default_history(&mut config, is_set);
    }
    validate::check(&config, &mut checks);
    for (setting, invalid) in checks.failed {
        // One error for a setting is enough: a value that cannot be read often fails a check too.
        if errors.iter().all(|error| error.setting != setting) {
            let origin = origin_of(&setting, values);
            errors.push(ConfigError::new(origin, setting, invalid));
        }
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    // Every name refers to something now.
    resolve_proxies(&mut config);
    choose_api_key(&mut config);
    Ok(config)
}

/// The last readable value of `dev`. An unreadable one is reported with the others.
fn is_dev(values: &[RawSetting]) -> bool {
    let dev = values.iter().filter(|value| value.name == "dev");
    dev.filter_map(|value| Bool::read(&value.raw).ok()).next_back().unwrap_or(false)
}

fn read(config: &mut Config, values: &[RawSetting]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for value in values {
        if matches!(&value.raw, Raw::Text(text) if is_placeholder(text)) {
            let what = "it is a placeholder that nothing has replaced";
            errors.push(value.error(Invalid::new(what, "set the value itself where the placeholder is filled in")));
            continue;
        }
        match registry::set(config, &value.name, &value.raw) {
            Some(Ok(())) => {}
            // The original writes empty texts for unset values of every type.
            Some(Err(_)) if value.raw == Raw::Text(String::new()) && matches!(value.origin, Origin::File { .. }) => {}
            Some(Err(invalid)) => errors.push(value.error(invalid)),
            None => match centrifugo::judge(value, values) {
                centrifugo::Judgment::Ignored => {}
                centrifugo::Judgment::Warning(text) => config.ignored_keys.push(text),
                centrifugo::Judgment::Error(error) => errors.push(error),
            },
        }
    }
    errors
}

/// Where the setting was set, or else where its section was.
fn origin_of(setting: &str, values: &[RawSetting]) -> Origin {
    let section = setting.rsplit_once('.').map_or("", |(section, _)| section);
    let own = values.iter().rfind(|value| value.name == setting);
    let in_section = || values.iter().find(|value| !section.is_empty() && value.name.starts_with(section));
    own.or_else(in_section).map_or(Origin::Default, |value| value.origin.clone())
}

/// The original's names for addresses and certificates. `listen` and `admin.address` override them.
fn apply_original_addresses(config: &mut Config, is_set: impl Fn(&str) -> bool, checks: &mut Checks) {
    let http = &config.http_server;
    if !is_set("listen") && (!http.address.is_empty() || http.port != 0) {
        let port = if http.port == 0 { 8000 } else { http.port };
        if let Some(ip) = ip_address("http_server.address", &http.address, checks) {
            config.listeners = vec![Listen::plain(Address::Tcp(SocketAddr::new(ip, port)))];
        }
    }
    if http.tls.enabled {
        if !is_set("listen") {
            config.listeners.iter_mut().for_each(|listen| listen.options.tls = true);
        }
        for (ours, original) in [
            (&mut config.tls.cert_pem_file, &http.tls.cert_pem_file),
            (&mut config.tls.key_pem_file, &http.tls.key_pem_file),
        ] {
            if ours.is_empty() {
                ours.clone_from(original);
            }
        }
    }
    if !is_set("admin.address")
        && http.internal_port != 0
        && let Some(ip) = ip_address("http_server.internal_address", &http.internal_address, checks)
    {
        config.admin.address = Some(SocketAddr::new(ip, http.internal_port));
    }
    let grpc = &mut config.grpc_api;
    if grpc.enabled {
        grpc.listen = ip_address("grpc_api.address", &grpc.address, checks).map(|ip| SocketAddr::new(ip, grpc.port));
    }
}

/// An IP address; empty for every address of this machine, of both families.
fn ip_address(setting: &str, text: &str, checks: &mut Checks) -> Option<IpAddr> {
    match text {
        "" => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => {
            let ip = text.parse().ok();
            let invalid = || format!("\"{text}\" is not an IP address, and names are not resolved");
            checks.require(ip.is_some(), setting, invalid(), "write an address such as \"127.0.0.1\"");
            ip
        }
    }
}

/// With NATS the channels of development mode have no history, unless the settings ask for one, which is then an error.
fn drop_default_history(config: &mut Config, is_set: impl Fn(&str) -> bool) {
    let plain = Namespace::default();
    let one = &mut config.channel.without_namespace;
    let unset = |key: &str| !is_set(&format!("channel.without_namespace.{key}"));
    if unset("history_size") && unset("history_ttl") {
        (one.history_size, one.history_ttl) = (plain.history_size, plain.history_ttl);
    }
    for (key, on) in [
        ("allow_positioning", &mut one.allow_positioning),
        ("allow_recovery", &mut one.allow_recovery),
        ("allowed_delta_types", &mut one.allow_delta),
    ] {
        *on &= !unset(key);
    }
}

/// Namespaces take what they do not set from `channel`.
fn inherit(config: &mut Config, is_set: impl Fn(&str) -> bool) {
    let channel = &mut config.channel;
    if !is_set("channel.without_namespace.history_meta_ttl") {
        channel.without_namespace.history_meta_ttl = channel.history_meta_ttl;
    }
    for namespace in std::iter::once(&mut channel.without_namespace).chain(&mut channel.namespaces) {
        if namespace.history_meta_ttl.is_zero() {
            namespace.history_meta_ttl = channel.history_meta_ttl;
        }
        if namespace.publication_data_format == DataFormat::Any {
            namespace.publication_data_format = channel.publication_data_format;
        }
    }
}

/// Adds the backends of sections to those with names, gives each user the index of its backend, and sorts the namespaces.
fn resolve_proxies(config: &mut Config) {
    let Config { proxies, channel, client, rpc, connect_proxy, refresh_proxy, .. } = config;
    let mut add = |is_used: bool, proxy: &Proxy, section: &str| {
        is_used.then(|| {
            proxies.push(Proxy { name: section.into(), ..proxy.clone() });
            proxies.len() as u16 - 1
        })
    };
    *connect_proxy = add(client.proxy.connect.enabled, &client.proxy.connect.proxy, "client.proxy.connect");
    *refresh_proxy = add(client.proxy.refresh.enabled, &client.proxy.refresh.proxy, "client.proxy.refresh");
    let uses = |of: fn(&Namespace) -> ProxyUse<'_>| {
        std::iter::once(&channel.without_namespace).chain(&channel.namespaces).any(|one| of(one).is_default())
    };
    let subscribe = add(uses(Namespace::subscribe_proxy_use), &channel.proxy.subscribe, "channel.proxy.subscribe");
    let publish = add(uses(Namespace::publish_proxy_use), &channel.proxy.publish, "channel.proxy.publish");
    let sub_refresh =
        add(uses(Namespace::sub_refresh_proxy_use), &channel.proxy.sub_refresh, "channel.proxy.sub_refresh");
    let rpc_uses =
        std::iter::once(&rpc.without_namespace).chain(&rpc.namespaces).any(|one| one.proxy_use().is_default());
    let rpc_default = add(rpc_uses, &rpc.proxy, "rpc.proxy");
    let index = |used: ProxyUse<'_>, default: Option<u16>| match used {
        ProxyUse { enabled: false, .. } => None,
        used if used.is_default() => default,
        used => proxies.iter().position(|proxy| proxy.name == used.name).map(|index| index as u16),
    };
    for namespace in std::iter::once(&mut channel.without_namespace).chain(&mut channel.namespaces) {
        namespace.subscribe_proxy = index(namespace.subscribe_proxy_use(), subscribe);
        namespace.publish_proxy = index(namespace.publish_proxy_use(), publish);
        namespace.sub_refresh_proxy = index(namespace.sub_refresh_proxy_use(), sub_refresh);
    }
    channel.namespaces.sort_by(|a, b| a.name.cmp(&b.name));
    for namespace in std::iter::once(&mut rpc.without_namespace).chain(&mut rpc.namespaces) {
        namespace.proxy = index(namespace.proxy_use(), rpc_default);
    }
}

/// A disabled API has no key; in development mode it gets a random one.
fn choose_api_key(config: &mut Config) {
    let api = &mut config.http_api;
    if api.disabled {
        api.key = None;
    } else if config.dev && api.key.is_none() {
        api.key = Some(uuid::Uuid::new_v4().simple().to_string());
        api.key_generated = true;
    }
}
