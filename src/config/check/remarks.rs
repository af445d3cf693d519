//! Settings that may stay as they are but surprise: a sentence each.

use crate::config::{Allowed, Config, Namespace, Place, RecoveryMode, SlowConsumer, TokenSettings};

/// Things that may be meant but surprise.
pub fn remarks(config: &Config) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut remark = |holds: bool, text: &str| {
        if holds {
            remarks.push(text.to_owned());
        }
    };
    let public = |ip: std::net::IpAddr| !ip.is_loopback();
    let client = &config.client;
    let known = !client.token.is_empty() || config.connect_proxy.is_some();
    remark(
        !known && !client.insecure && !client.allow_anonymous_connect_without_token,
        "nobody can connect: client.token has no key, client.proxy.connect is off, and nobody is let in without a token \
         (set client.token.hmac_secret_key; `corecast token` makes tokens)",
    );
    remark(
        client.insecure && !config.dev,
        "client.insecure asks nobody for a token: whoever reaches the server may do everything",
    );
    remark(
        client.subscription_token().is_some_and(|token| token.is_empty()),
        "client.subscription_token is enabled and has no key: every token of a subscription will be refused",
    );
    remark(
        config.admin.is_some() && config.api_key.is_none() && !config.http_api.disabled,
        "http_api.key is unset: the server API will refuse every call",
    );
    remark(
        config.admin.is_none() && config.api_key.is_some(),
        "http_api.key is set but admin.address is not: the server API is not served (set it, such as 127.0.0.1:9000)",
    );
    remark(
        config.admin.is_some_and(|admin| public(admin.ip())) && config.tls.admin_client_ca_pem_file.is_empty(),
        "admin.address is reachable from other machines: metrics, /stats and the page ask for no key",
    );
    let speaks_tls = config.tls.admin || config.listeners.iter().any(|listen| listen.tls);
    remark(
        !config.tls.cert_pem_file.is_empty() && !speaks_tls,
        "tls.cert_pem_file is set and nothing speaks TLS: write \"tls:\" before the address in listen",
    );
    remark(
        config.tls.early_data && !config.tls.ticket_keys_file.is_empty(),
        "tls.ticket_keys_file is of no use with tls.early_data, which keeps sessions in this process",
    );
    let open =
        config.listeners.iter().any(|listen| matches!(listen.place, Place::Tcp(address) if public(address.ip())));
    remark(
        config.dev && open,
        "dev opens everything to whoever reaches the listen address, and that is not this machine only",
    );
    remark(
        config.grpc_api.address.is_some_and(|address| public(address.ip())) && config.grpc_api.key.is_none(),
        "grpc_api asks for no key and is reachable from other machines: set grpc_api.key",
    );
    let all = config.engine.trusted_proxies.iter().any(|net| net.prefix_len() == 0);
    remark(all, "limits.trusted_proxies holds everybody: whoever connects may say in X-Forwarded-For who he is");
    remark(config.oversubscribe, "oversubscribe: shards may share cores, so times measured here say little");
    for (section, token) in
        [("client.token", Some(&client.token)), ("client.subscription_token", client.subscription_token())]
    {
        let said = token.map(TokenSettings::remarks).unwrap_or_default();
        remarks.extend(said.into_iter().map(|(setting, text)| format!("{section}.{setting} {text}")));
    }
    for namespace in std::iter::once(&config.channel.without_namespace).chain(&config.channel.namespaces) {
        about(namespace, &mut remarks);
    }
    remarks.extend(config.typed.idle.iter().cloned());
    remarks
}

fn about(namespace: &Namespace, remarks: &mut Vec<String>) {
    let place = match namespace.name.as_str() {
        "" => "channel.without_namespace".to_owned(),
        name => format!("the namespace \"{name}\""),
    };
    for (holds, text) in [
        (
            !namespace.has_history() && namespace.allow_recovery,
            "allows recovery and keeps no history: nothing is recovered",
        ),
        (
            !namespace.has_history() && (namespace.allow_positioning || namespace.force_positioning),
            "has positions and keeps no history: a gap is noticed and not filled",
        ),
        (
            !namespace.has_history() && namespace.delta_publish,
            "makes differences and keeps no history to make them from",
        ),
        (
            namespace.delta_publish && !namespace.allow_delta,
            "has delta_publish and no allowed_delta_types: nobody gets any",
        ),
        (
            namespace.slow_consumer == SlowConsumer::KeepLatest && namespace.allow_delta,
            "has slow_consumer = keep_latest and allows differences: nobody gets any, since what is kept must be readable \
             without what went",
        ),
        (
            namespace.slow_consumer == SlowConsumer::KeepLatest
                && (namespace.force_positioning || namespace.force_recovery)
                && !(namespace.force_recovery && namespace.force_recovery_mode == RecoveryMode::Cache),
            "has slow_consumer = keep_latest and positions: whoever lags by one publication is told to come again (2500); \
             force_recovery_mode = \"cache\" goes with it",
        ),
        (
            namespace.slow_consumer_bytes_max > 0 && namespace.slow_consumer != SlowConsumer::DropOldest,
            "has slow_consumer_bytes_max, which means something only with slow_consumer = drop_oldest",
        ),
        (
            (namespace.presence_calls() != Allowed::default()) && !namespace.presence,
            "allows to ask who is there and keeps no presence: the answer is error 108",
        ),
        (
            (namespace.history_calls() != Allowed::default()) && !namespace.has_history(),
            "allows to ask for a history that it does not keep: the answer is error 108",
        ),
        (
            namespace.force_push_join_leave && !namespace.join_leave,
            "has force_push_join_leave and no join_leave: nothing is told",
        ),
        (
            (namespace.allow_subscribe_for_anonymous && !namespace.allow_subscribe_for_client)
                || (namespace.allow_publish_for_anonymous
                    && !namespace.allow_publish_for_client
                    && !namespace.allow_publish_for_subscriber),
            "names what anonymous clients may, which holds only together with allow_*_for_client",
        ),
    ] {
        if holds {
            remarks.push(format!("{place} {text}"));
        }
    }
}
