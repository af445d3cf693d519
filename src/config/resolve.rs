//! What was typed → what it means: addresses from the original's names, namespaces that inherit and are sorted, backends by
//! number.
//!
//! `addresses` and `inherit` come before the checks, which name settings as they were typed; `references` comes behind, when
//! every name is known to lead somewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::channel::{DEFAULT_PROXY, DataFormat, Namespace, ProxyUse};
use super::proxy::Proxy;
use super::value::Wrong;
use super::{Config, Listen, Place};

/// Calls `fault` for what is no address. `listen` and `admin.address` win over the names of the original.
pub fn addresses(config: &mut Config, typed: impl Fn(&str) -> bool, mut fault: impl FnMut(&str, Wrong)) {
    let mut read = |name: &str, text: &str| match text {
        "" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.parse().map_or_else(
            |_| {
                let what = format!("\"{text}\" is no address, and names are not looked up");
                fault(name, Wrong::new(what, "write one such as \"127.0.0.1\""));
                None
            },
            Some,
        ),
    };
    let http = &config.typed.http;
    if !typed("listen") && (!http.address.is_empty() || http.port != 0) {
        let port = if http.port == 0 { 8000 } else { http.port };
        if let Some(ip) = read("http_server.address", &http.address) {
            config.listeners = vec![Listen::plain(Place::Tcp(SocketAddr::new(ip, port)))];
        }
    }
    if http.tls.enabled {
        if !typed("listen") {
            config.listeners.iter_mut().for_each(|listen| listen.tls = true);
        }
        for (ours, its) in [
            (&mut config.tls.cert_pem_file, &http.tls.cert_pem_file),
            (&mut config.tls.key_pem_file, &http.tls.key_pem_file),
        ] {
            if ours.is_empty() {
                ours.clone_from(its);
            }
        }
    }
    if !typed("admin.address")
        && http.internal_port != 0
        && let Some(ip) = read("http_server.internal_address", &http.internal_address)
    {
        config.admin = Some(SocketAddr::new(ip, http.internal_port));
    }
    let grpc = &config.typed.grpc;
    if grpc.enabled {
        let ip = read("grpc_api.address", &grpc.address);
        config.grpc_api.address = ip.map(|ip| SocketAddr::new(ip, grpc.port));
    }
}

/// What a namespace says nothing of is as the section says.
pub fn inherit(config: &mut Config, typed: impl Fn(&str) -> bool) {
    let channel = &mut config.channel;
    if !typed("channel.without_namespace.history_meta_ttl") {
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

/// The backends of sections join those with names; users get their numbers; namespaces are sorted.
pub fn references(config: &mut Config) {
    let Config { typed, proxies, channel, rpc, connect_proxy, refresh_proxy, .. } = config;
    let mut section = |proxy: &Proxy, name: &str| {
        proxies.push(Proxy { name: name.into(), ..proxy.clone() });
        proxies.len() as u16 - 1
    };
    *connect_proxy = typed.connect.enabled.then(|| section(&typed.connect.proxy, "client.proxy.connect"));
    *refresh_proxy = typed.refresh.enabled.then(|| section(&typed.refresh.proxy, "client.proxy.refresh"));
    let namespaces = || std::iter::once(&channel.without_namespace).chain(&channel.namespaces);
    let subscribe = namespaces().any(|n| by_default(&n.typed.subscribe));
    let publish = namespaces().any(|n| by_default(&n.typed.publish));
    let sub_refresh = namespaces().any(|n| by_default(&n.typed.sub_refresh));
    let calls = std::iter::once(&rpc.without_namespace).chain(&rpc.namespaces).any(|n| by_default(&n.typed));
    let subscribe = subscribe.then(|| section(&typed.subscribe, "channel.proxy.subscribe"));
    let publish = publish.then(|| section(&typed.publish, "channel.proxy.publish"));
    let sub_refresh = sub_refresh.then(|| section(&typed.sub_refresh, "channel.proxy.sub_refresh"));
    let calls = calls.then(|| section(&typed.rpc, "rpc.proxy"));
    let find = |used: &ProxyUse, default: Option<u16>| match used {
        ProxyUse { enabled: false, .. } => None,
        used if by_default(used) => default,
        used => proxies.iter().position(|proxy| proxy.name == used.name).map(|index| index as u16),
    };
    let resolve = |namespace: &mut Namespace| {
        namespace.subscribe_proxy = find(&namespace.typed.subscribe, subscribe);
        namespace.publish_proxy = find(&namespace.typed.publish, publish);
        namespace.sub_refresh_proxy = find(&namespace.typed.sub_refresh, sub_refresh);
    };
    resolve(&mut channel.without_namespace);
    channel.namespaces.iter_mut().for_each(resolve);
    channel.namespaces.sort_by(|a, b| a.name.cmp(&b.name));
    rpc.without_namespace.proxy = find(&rpc.without_namespace.typed, calls);
    for namespace in &mut rpc.namespaces {
        namespace.proxy = find(&namespace.typed, calls);
    }
}

fn by_default(used: &ProxyUse) -> bool {
    used.enabled && used.name == DEFAULT_PROXY
}
