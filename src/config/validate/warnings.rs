//! Settings that are valid but surprising: a sentence each.

use std::net::IpAddr;

use super::{broker_warnings, limits};
use crate::auth::TokenSettings;
use crate::config::schema::config::Config;
use crate::config::schema::namespace::{Allowed, Namespace, RecoveryMode, SlowConsumer};
use crate::engine::net::listener::Address;

impl Config {
    /// Settings that may be meant but surprise, and keys of the original that have no effect: one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = clients(self).into_iter().chain(apis(self)).chain(network(self));
        let mut warnings: Vec<String> = warnings.filter(|(holds, _)| *holds).map(|(_, text)| text.to_owned()).collect();
        let client = &self.client;
        for (section, token) in
            [("client.token", Some(&client.token)), ("client.subscription_token", client.subscription_token())]
        {
            let about = token.map(TokenSettings::remarks).unwrap_or_default();
            warnings.extend(about.into_iter().map(|(setting, text)| format!("{section}.{setting} {text}")));
            let secrets = token.map(|token| (&token.hmac_secret_key, &token.hmac_previous_secret_key));
            for (setting, secret) in secrets
                .into_iter()
                .flat_map(|(now, previous)| [("hmac_secret_key", now), ("hmac_previous_secret_key", previous)])
            {
                warnings.extend(odd_ends(secret).map(|text| format!("{section}.{setting} {text}")));
            }
        }
        warnings.extend(limits::warnings(self));
        warnings.extend(broker_warnings::warnings(self));
        for namespace in std::iter::once(&self.channel.without_namespace).chain(&self.channel.namespaces) {
            namespace_warnings(namespace, &mut warnings);
        }
        warnings.extend(self.ignored_keys.iter().cloned());
        warnings
    }
}

/// What platforms put around a secret. It is not dropped, since the signer of the tokens may have it too.
fn odd_ends(secret: &str) -> Option<&'static str> {
    let quoted =
        ['"', '\''].iter().any(|&quote| secret.len() > 1 && secret.starts_with(quote) && secret.ends_with(quote));
    match () {
        () if secret.trim() != secret => {
            Some("begins or ends with a blank or a line end, which is part of the secret (`echo -n` writes none)")
        }
        () if quoted => {
            Some("is within quotes, which are part of the secret (`docker run --env-file` does not remove them)")
        }
        () => None,
    }
}

/// Whether the warning holds, and the warning.
type Warning = (bool, &'static str);

fn is_public(ip: IpAddr) -> bool {
    !ip.is_loopback()
}

/// API keys that are shorter can be found by trying. `corecast token secret` makes longer ones.
const API_KEY_BYTES_MIN: usize = 16;

fn clients(config: &Config) -> [Warning; 4] {
    let client = &config.client;
    let is_known = !client.token.is_empty() || config.connect_proxy.is_some();
    [
        (
            !is_known && !client.insecure && !client.allow_anonymous_connect_without_token,
            "no client can connect: client.token has no key, client.proxy.connect is off, and clients without a token are \
             rejected (set client.token.hmac_secret_key; `corecast token` makes tokens)",
        ),
        (
            client.insecure && !config.dev,
            "client.insecure accepts clients without a token: every client that reaches the server may do everything",
        ),
        (
            client.allowed_origins.iter().any(|origin| origin == "*" || origin.ends_with("://*")) && !config.dev,
            "client.allowed_origins contains \"*\" for every host: every page on the web may connect from its users' browsers; list your \
             pages, such as \"https://app.example.com\"",
        ),
        (
            client.subscription_token().is_some_and(TokenSettings::is_empty),
            "client.subscription_token is enabled and has no key: every subscription token will be rejected",
        ),
    ]
}

fn apis(config: &Config) -> [Warning; 6] {
    let (admin, grpc) = (config.admin.address, config.grpc_api.listen);
    let key = &config.http_api.key;
    let is_short = |key: &Option<String>| key.as_ref().is_some_and(|key| key.len() < API_KEY_BYTES_MIN);
    [
        (
            admin.is_some() && key.is_none() && !config.http_api.disabled,
            "http_api.key is not set: the server API will reject every call",
        ),
        (is_short(key), "http_api.key is shorter than 16 bytes and can be guessed (`corecast token secret` makes one)"),
        (
            grpc.is_some() && is_short(&config.grpc_api.key),
            "grpc_api.key is shorter than 16 bytes and can be guessed (`corecast token secret` makes one)",
        ),
        (
            admin.is_none() && key.is_some(),
            "http_api.key is set but admin.address is not: the server API is not served (set it, such as 127.0.0.1:9000)",
        ),
        (
            admin.is_some_and(|admin| is_public(admin.ip())) && config.tls.admin_client_ca_pem_file.is_empty(),
            "admin.address can be reached from other machines: the metrics, /stats and the admin page need no key",
        ),
        (
            grpc.is_some() && config.grpc_api.key.is_none(),
            "grpc_api.key is not set: the gRPC API will reject every call",
        ),
    ]
}

fn network(config: &Config) -> [Warning; 5] {
    let tls = &config.tls;
    let uses_tls = tls.admin || config.listeners.iter().any(|listen| listen.options.tls);
    let mut listeners = config.listeners.iter();
    let is_open = listeners.any(|listen| matches!(listen.address, Address::Tcp(address) if is_public(address.ip())));
    let trusts_all = config.limits.trusted_proxies.iter().any(|net| net.prefix_len() == 0);
    [
        (
            !tls.cert_pem_file.is_empty() && !uses_tls,
            "tls.cert_pem_file is set but no listener uses TLS: write \"tls:\" before the address in listen",
        ),
        (
            tls.early_data && !tls.ticket_keys_file.is_empty(),
            "tls.ticket_keys_file has no effect with tls.early_data, which keeps sessions in this process",
        ),
        (
            config.dev && is_open,
            "dev allows everything to every client, and the listen address can be reached from other machines",
        ),
        (
            trusts_all,
            "limits.trusted_proxies contains every address: any client can choose its address by sending X-Forwarded-For",
        ),
        (config.oversubscribe, "oversubscribe is set: shards may share cores, so measured times mean little"),
    ]
}

fn namespace_warnings(namespace: &Namespace, warnings: &mut Vec<String>) {
    let section = match namespace.name.as_str() {
        "" => "channel.without_namespace".to_owned(),
        name => format!("the namespace \"{name}\""),
    };
    let holding = history(namespace).into_iter().chain(permissions(namespace)).filter(|(holds, _)| *holds);
    warnings.extend(holding.map(|(_, text)| format!("{section} {text}")));
}

fn history(namespace: &Namespace) -> [Warning; 7] {
    let keeps_latest = namespace.slow_consumer == SlowConsumer::KeepLatest;
    let recovers_latest = namespace.force_recovery && namespace.force_recovery_mode == RecoveryMode::Cache;
    [
        (
            !namespace.has_history() && namespace.allow_recovery,
            "allows recovery and has no history: no publication is recovered",
        ),
        (
            !namespace.has_history() && (namespace.allow_positioning || namespace.force_positioning),
            "has positions and no history: a gap is detected but not filled",
        ),
        (!namespace.has_history() && namespace.delta_publish, "makes deltas and has no history to make them from"),
        (
            namespace.delta_publish && !namespace.allow_delta,
            "has delta_publish and no allowed_delta_types: no subscriber gets deltas",
        ),
        (
            keeps_latest && namespace.allow_delta,
            "has slow_consumer = keep_latest and allows deltas: no subscriber gets deltas, since the publication that is kept \
             must not depend on a dropped one",
        ),
        (
            keeps_latest && (namespace.force_positioning || namespace.force_recovery) && !recovers_latest,
            "has slow_consumer = keep_latest and positions: a subscriber that misses one publication is unsubscribed with 2500 \
             and must subscribe again; use force_recovery_mode = \"cache\" with it",
        ),
        (
            namespace.slow_consumer_bytes_max > 0 && namespace.slow_consumer != SlowConsumer::DropOldest,
            "has slow_consumer_bytes_max, which has an effect only with slow_consumer = drop_oldest",
        ),
    ]
}

fn permissions(namespace: &Namespace) -> [Warning; 4] {
    [
        (
            namespace.presence_calls() != Allowed::default() && !namespace.presence,
            "allows presence calls and has no presence: they get error 108",
        ),
        (
            namespace.history_calls() != Allowed::default() && !namespace.has_history(),
            "allows history calls and has no history: they get error 108",
        ),
        (
            namespace.force_push_join_leave && !namespace.join_leave,
            "has force_push_join_leave and no join_leave: no events are sent",
        ),
        (
            (namespace.allow_subscribe_for_anonymous && !namespace.allow_subscribe_for_client)
                || (namespace.allow_publish_for_anonymous
                    && !namespace.allow_publish_for_client
                    && !namespace.allow_publish_for_subscriber),
            "has allow_*_for_anonymous, which has an effect only together with allow_*_for_client",
        ),
    ]
}
