//! Backends, RPC and tokens held against what they need.

use std::collections::HashSet;

use super::Hold;
use super::channels::{Place, name_fits, proxy_exists};
use crate::auth::{InvalidSetting, Verifier};
use crate::config::channel::DEFAULT_PROXY;
use crate::config::value::show_duration;
use crate::config::{Config, Proxy, TokenSettings};
use crate::engine::timer_wheel::TICK;

/// Backends with a name; those of sections come to it. Their numbers are 16 bits.
const PROXIES_MAX: usize = 1024;

pub fn backends(config: &Config, hold: &mut Hold<'_>) {
    let what = format!("{} are more than {PROXIES_MAX}", config.proxies.len());
    hold(config.proxies.len() <= PROXIES_MAX, "proxies", what, "name fewer: several namespaces can share one");
    let mut names = HashSet::new();
    for (number, proxy) in config.proxies.iter().enumerate() {
        let section = format!("proxies[{number}]");
        let setting = format!("{section}.name");
        name_fits(&setting, &proxy.name, hold);
        let what = format!("\"{}\" is the name of another one too", proxy.name);
        hold(names.insert(&proxy.name), &setting, what, "give each a name of its own");
        let what = "\"default\" means the one of the section, such as channel.proxy.subscribe".to_owned();
        hold(proxy.name != DEFAULT_PROXY, &setting, what, "choose another name");
        backend(&section, proxy, true, hold);
    }
    let typed = &config.typed;
    for (section, proxy, needed) in [
        ("client.proxy.connect", &typed.connect.proxy, typed.connect.enabled),
        ("client.proxy.refresh", &typed.refresh.proxy, typed.refresh.enabled),
        ("channel.proxy.subscribe", &typed.subscribe, false),
        ("channel.proxy.publish", &typed.publish, false),
        ("channel.proxy.sub_refresh", &typed.sub_refresh, false),
        ("rpc.proxy", &typed.rpc, false),
    ] {
        backend(section, proxy, needed, hold);
    }
    rpc(config, hold);
}

fn backend(section: &str, proxy: &Proxy, needed: bool, hold: &mut Hold<'_>) {
    let at = |key: &str| format!("{section}.{key}");
    let mend = "write one such as \"http://127.0.0.1:3000/path\"";
    hold(!needed || !proxy.endpoint.is_empty(), &at("endpoint"), "it is not set".into(), mend);
    for (key, span) in [("timeout", proxy.timeout), ("breaker_open", proxy.breaker_open)] {
        let what = format!("{} is less than the step of the timers, {}", show_duration(span), show_duration(TICK));
        hold(span >= TICK, &at(key), what, "write at least \"100ms\", such as \"1s\"");
    }
    for (key, span) in [
        ("timeout", proxy.timeout),
        ("breaker_open", proxy.breaker_open),
        ("retry_backoff", proxy.retry_backoff),
        ("retry_backoff_max", proxy.retry_backoff_max),
    ] {
        let what = format!("{} is more than a minute", show_duration(span));
        hold(span.as_secs() <= 60, &at(key), what, "write at most \"1m\": a client waits for it");
    }
    hold(proxy.concurrency_max > 0, &at("concurrency_max"), "0 is too small".into(), "write at least 1");
    let what = format!("{} is more than 10", proxy.retries_max);
    hold(proxy.retries_max <= 10, &at("retries_max"), what, "write a smaller number: a client waits for all of them");
}

fn rpc(config: &Config, hold: &mut Hold<'_>) {
    let default = !config.typed.rpc.endpoint.is_empty();
    let place = |section: &str| Place {
        enabled: format!("{section}.proxy_enabled"),
        name: format!("{section}.proxy_name"),
        its_section: "rpc.proxy",
    };
    let rpc = &config.rpc;
    proxy_exists(config, &rpc.without_namespace.typed, &place("rpc.without_namespace"), default, hold);
    let mut names = HashSet::new();
    for (number, namespace) in rpc.namespaces.iter().enumerate() {
        let section = format!("rpc.namespaces[{number}]");
        let setting = format!("{section}.name");
        name_fits(&setting, &namespace.name, hold);
        let what = format!("\"{}\" is the name of another namespace too", namespace.name);
        hold(names.insert(&namespace.name), &setting, what, "give each a name of its own");
        proxy_exists(config, &namespace.typed, &place(&section), default, hold);
    }
}

pub fn tokens(config: &Config, hold: &mut Hold<'_>) {
    token("client.token", &config.client.token, hold);
    token("client.subscription_token", &config.client.subscription_token.token, hold);
}

fn token(section: &str, token: &TokenSettings, hold: &mut Hold<'_>) {
    let at = |key: &str| format!("{section}.{key}");
    let alone = !token.hmac_previous_secret_key.is_empty() && token.hmac_secret_key.is_empty();
    let what = "there is no hmac_secret_key that it precedes".to_owned();
    hold(!alone, &at("hmac_previous_secret_key"), what, "set hmac_secret_key");
    let what = "it has {{…}}, and keys are fetched from one fixed endpoint".to_owned();
    let mend = "write the URL of one key set; tenants with keys of their own need a server each";
    hold(!token.jwks_public_endpoint.contains("{{"), &at("jwks_public_endpoint"), what, mend);
    for part in parts(token) {
        if let Err(InvalidSetting { setting, what, fix }) = Verifier::new(&part) {
            hold(false, &at(setting), what, fix);
        }
    }
}

/// The settings that can be wrong, each with those it is held against and no others: a verifier stops at the first fault,
/// and one shall not hide another.
fn parts(token: &TokenSettings) -> [TokenSettings; 6] {
    let TokenSettings { rsa_public_key, ecdsa_public_key, jwks_public_endpoint, .. } = token.clone();
    let TokenSettings { audience, audience_regex, issuer, issuer_regex, user_id_claim, .. } = token.clone();
    let none = TokenSettings::default;
    [
        TokenSettings { rsa_public_key, ..none() },
        TokenSettings { ecdsa_public_key, ..none() },
        TokenSettings { jwks_public_endpoint, ..none() },
        TokenSettings { audience, audience_regex, ..none() },
        TokenSettings { issuer, issuer_regex, ..none() },
        TokenSettings { user_id_claim, ..none() },
    ]
}
