//! Backends, RPC and tokens.

use std::collections::HashSet;
use std::time::Duration;

use super::channels::{ProxySetting, name_fits, proxy_exists};
use super::checks::Checks;
use crate::auth::{InvalidSetting, TokenSettings, Verifier};
use crate::config::parse::scalar::show_duration;
use crate::config::schema::config::Config;
use crate::config::schema::proxy::{DEFAULT_PROXY, Proxy};
use crate::engine::timer_wheel::TICK;

/// The bounds of `jwks_age_max`.
const KEY_AGE_MIN: Duration = Duration::from_secs(60);
const KEY_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Backends with a name. With those of sections their numbers fit 16 bits.
const PROXIES_MAX: usize = 1024;

pub(crate) fn backends(config: &Config, checks: &mut Checks) {
    let what = format!("{} are more than {PROXIES_MAX}", config.proxies.len());
    let fix = "list fewer: several namespaces can use the same backend";
    checks.require(config.proxies.len() <= PROXIES_MAX, "proxies", what, fix);
    let mut names = HashSet::new();
    for (number, proxy) in config.proxies.iter().enumerate() {
        let section = format!("proxies[{number}]");
        let setting = format!("{section}.name");
        name_fits(&setting, &proxy.name, checks);
        let what = format!("\"{}\" is also the name of another backend", proxy.name);
        checks.require(names.insert(&proxy.name), &setting, what, "give each backend its own name");
        let what = "\"default\" means the backend of a section, such as channel.proxy.subscribe";
        checks.require(proxy.name != DEFAULT_PROXY, &setting, what, "choose another name");
        backend(&section, proxy, Endpoint::Required, checks);
    }
    let (connect, refresh) = (&config.client.proxy.connect, &config.client.proxy.refresh);
    let required = |is_enabled| if is_enabled { Endpoint::Required } else { Endpoint::Optional };
    for (section, proxy, endpoint) in [
        ("client.proxy.connect", &connect.proxy, required(connect.enabled)),
        ("client.proxy.refresh", &refresh.proxy, required(refresh.enabled)),
        ("channel.proxy.subscribe", &config.channel.proxy.subscribe, Endpoint::Optional),
        ("channel.proxy.publish", &config.channel.proxy.publish, Endpoint::Optional),
        ("channel.proxy.sub_refresh", &config.channel.proxy.sub_refresh, Endpoint::Optional),
        ("rpc.proxy", &config.rpc.proxy, Endpoint::Optional),
    ] {
        backend(section, proxy, endpoint, checks);
    }
    rpc(config, checks);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Required,
    Optional,
}

fn backend(section: &str, proxy: &Proxy, endpoint: Endpoint, checks: &mut Checks) {
    let at = |key: &str| format!("{section}.{key}");
    let has_endpoint = endpoint == Endpoint::Optional || !proxy.endpoint.is_empty();
    let fix = "write a URL such as \"http://127.0.0.1:3000/path\"";
    checks.require(has_endpoint, &at("endpoint"), "it is not set", fix);
    for (key, span) in [("timeout", proxy.timeout), ("breaker_open", proxy.breaker_open)] {
        let what = format!("{} is shorter than a timer tick, {}", show_duration(span), show_duration(TICK));
        checks.require(span >= TICK, &at(key), what, "write at least \"100ms\", such as \"1s\"");
    }
    for (key, span) in [
        ("timeout", proxy.timeout),
        ("breaker_open", proxy.breaker_open),
        ("retry_backoff", proxy.retry_backoff),
        ("retry_backoff_max", proxy.retry_backoff_max),
    ] {
        let what = format!("{} is more than a minute", show_duration(span));
        checks.require(span.as_secs() <= 60, &at(key), what, "write at most \"1m\", since a client waits for the call");
    }
    for (setting, value) in
        [("concurrency_max", proxy.concurrency_max), ("user_concurrency_max", proxy.user_concurrency_max)]
    {
        checks.require(value > 0, &at(setting), "0 is too small", "write at least 1");
    }
    let what = format!("{} is more than 10", proxy.retries_max);
    let fix = "write a smaller number, since a client waits for all attempts";
    checks.require(proxy.retries_max <= 10, &at("retries_max"), what, fix);
}

fn rpc(config: &Config, checks: &mut Checks) {
    let rpc = &config.rpc;
    let setting = |section: &str| ProxySetting {
        enabled: format!("{section}.proxy_enabled"),
        name: format!("{section}.proxy_name"),
        default_section: "rpc.proxy",
        has_default: !rpc.proxy.endpoint.is_empty(),
    };
    proxy_exists(config, rpc.without_namespace.proxy_use(), &setting("rpc.without_namespace"), checks);
    let mut names = HashSet::new();
    for (number, namespace) in rpc.namespaces.iter().enumerate() {
        let section = format!("rpc.namespaces[{number}]");
        let name = format!("{section}.name");
        name_fits(&name, &namespace.name, checks);
        let what = format!("\"{}\" is also the name of another namespace", namespace.name);
        checks.require(names.insert(&namespace.name), &name, what, "give each namespace its own name");
        proxy_exists(config, namespace.proxy_use(), &setting(&section), checks);
    }
}

pub(crate) fn tokens(config: &Config, checks: &mut Checks) {
    token("client.token", &config.client.token, checks);
    token("client.subscription_token", &config.client.subscription_token.token, checks);
}

fn token(section: &str, token: &TokenSettings, checks: &mut Checks) {
    let at = |key: &str| format!("{section}.{key}");
    let is_alone = !token.hmac_previous_secret_key.is_empty() && token.hmac_secret_key.is_empty();
    let what = "hmac_secret_key, the current secret, is not set";
    checks.require(!is_alone, &at("hmac_previous_secret_key"), what, "set hmac_secret_key");
    let what = "it contains {{…}}, but keys come from one fixed URL";
    let fix = "write the URL of one key set; tenants with their own keys need a server each";
    checks.require(!token.jwks_public_endpoint.contains("{{"), &at("jwks_public_endpoint"), what, fix);
    let age = token.jwks_age_max;
    let what = format!("{} is not between a minute and 30 days", show_duration(age));
    let fits = (KEY_AGE_MIN..=KEY_AGE_MAX).contains(&age);
    checks.require(fits, &at("jwks_age_max"), what, "write a time such as \"24h\"");
    for part in parts(token) {
        if let Err(InvalidSetting { setting, what, fix }) = Verifier::new(&part) {
            checks.require(false, &at(setting), what, fix);
        }
    }
}

/// The settings that can be wrong, each only with those it depends on: a verifier stops at the first error, and no error must
/// hide another.
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
