//! A configuration that was written for Centrifugo: which keys are taken over, and which errors and warnings the others
//! give.

use std::time::Duration;

use corecast::config::{self, Config, ConfigErrors, DataFormat, Listen, Proxy, RecoveryMode};
use corecast::engine::net::listener::Address;

const REALISTIC: &str = include_str!("../data/centrifugo.json");

fn json(text: &str) -> Result<Config, ConfigErrors> {
    config::file("centrifugo.json", text).and_then(|given| config::assemble(&given))
}

fn toml(text: &str) -> Result<Config, ConfigErrors> {
    config::file("corecast.toml", text).and_then(|given| config::assemble(&given))
}

fn messages(result: Result<Config, ConfigErrors>) -> Vec<String> {
    result.expect_err("the configuration should be rejected").0.iter().map(ToString::to_string).collect()
}

fn proxy(config: &Config, number: Option<u16>) -> &Proxy {
    &config.proxies[usize::from(number.expect("a backend is asked"))]
}

#[test]
fn addresses_and_keys_are_taken_over() {
    let config = json(REALISTIC).unwrap();
    assert_eq!(config.listeners, [Listen::plain(Address::Tcp("127.0.0.1:8000".parse().unwrap()))]);
    assert_eq!(config.admin.address, Some("127.0.0.1:9000".parse().unwrap()));
    assert_eq!(config.grpc_api.listen, Some("127.0.0.1:10001".parse().unwrap()));
    assert_eq!(
        (config.http_api.key.as_deref(), config.grpc_api.key.as_deref()),
        (Some("api-secret"), Some("grpc-secret"))
    );
    assert!(config.http_api.transport_errors && !config.grpc_api.transport_errors);
    assert!(config.uni_websocket.enabled);
    assert_eq!((config.websocket.message_size_limit, config.client.queue_max_size), (131_072, 4 << 20));
    assert_eq!(config.shutdown.timeout, Duration::from_secs(15));
}

#[test]
fn client_permissions_are_taken_over() {
    let config = json(REALISTIC).unwrap();
    let client = &config.client;
    assert_eq!(client.allowed_origins.len(), 2);
    assert_eq!(
        (client.token.hmac_secret_key.as_str(), client.token.issuer.as_str()),
        ("not-so-secret", "https://id.example.com")
    );
    assert_eq!(client.token.hmac_previous_secret_key_valid_until, 1_900_000_000);
    assert_eq!(client.subscription_token().unwrap().hmac_secret_key, "for-channels");
    assert!(client.disallow_anonymous_connection_tokens && client.connect_include_server_time && !client.insecure);
    assert_eq!((client.ping_interval, client.pong_timeout), (Duration::from_secs(20), Duration::from_secs(5)));
    assert_eq!(
        (client.user_connection_limit, client.connection_limit, client.connection_rate_limit),
        (8, 100_000, 500)
    );
    let personal = &client.subscribe_to_user_personal_channel;
    assert!(personal.single_connection);
    assert_eq!(config.channel.personal(&personal.personal_channel_namespace, "42"), "personal:#42");
    let codes = &client.connect_code_to_unidirectional_disconnect;
    assert_eq!((codes.enabled, codes.transforms[0].code, codes.transforms[0].to_code), (true, 401, 4401));
}

#[test]
fn namespaces_are_taken_over_with_inherited_settings() {
    let config = json(REALISTIC).unwrap();
    let channel = &config.channel;
    assert_eq!((channel.max_length, channel.namespaces.len()), (200, 3));
    let (number, news) = channel.find("news:sport").unwrap();
    assert_eq!(channel.namespace(number).name, "news");
    assert_eq!((news.history_size, news.history_ttl), (50, Duration::from_secs(600)));
    assert_eq!((news.force_recovery_mode, news.auto_cache_recover), (RecoveryMode::Cache, true));
    assert!(news.allow_delta && news.delta_publish);
    assert_eq!(news.publication_data_format, DataFormat::JsonObject);
    assert_eq!(news.history_meta_ttl, Duration::from_secs(240 * 3600));
    let (_, chat) = channel.find("$chat:room").unwrap();
    assert_eq!(chat.history_meta_ttl, Duration::from_secs(48 * 3600));
    assert!(channel.name_fits("chat:room#42", chat) && !channel.name_fits("chat:Room", chat));
    assert_eq!(channel.user_allowed("chat:room#42,43", "43"), Some(true));
    assert_eq!(channel.without_namespace.history_meta_ttl, Duration::from_secs(240 * 3600));
    assert!(channel.find("nothing:x").is_none());
}

#[test]
fn proxies_are_resolved_by_name() {
    let config = json(REALISTIC).unwrap();
    let connect = proxy(&config, config.connect_proxy);
    assert_eq!(
        (connect.endpoint.as_str(), connect.timeout),
        ("https://backend.example.com/connect", Duration::from_secs(3))
    );
    assert_eq!(connect.http_headers, ["cookie", "x-forwarded-for"]);
    assert_eq!(connect.static_headers, [("X-Server".to_owned(), "edge-1".to_owned())]);
    assert_eq!((connect.status_to_code[0].status, connect.status_to_code[0].disconnect_code), (401, 4501));
    assert!(connect.include_connection_meta && connect.status_to_code[1].error_temporary);
    assert_eq!(proxy(&config, config.refresh_proxy).timeout, Duration::from_secs(1));
    let (_, chat) = config.channel.find("chat:room").unwrap();
    assert_eq!(proxy(&config, chat.subscribe_proxy).name, "channel.proxy.subscribe");
    let backend = proxy(&config, chat.publish_proxy);
    assert_eq!((backend.name.as_str(), backend.binary_encoding), ("chat-backend", true));
    assert_eq!(backend.static_headers, [("Authorization".to_owned(), "Bearer hush".to_owned())]);
    assert_eq!(chat.sub_refresh_proxy, None);
    assert_eq!(proxy(&config, config.rpc.proxy_for("anything").ok()).name, "rpc.proxy");
    assert_eq!(proxy(&config, config.rpc.proxy_for("chat:send").ok()).name, "chat-backend");
    assert!(config.rpc.proxy_for("other:x").is_err());
    assert!(config.websocket.compression);
}

#[test]
fn keys_without_effect_are_listed_with_their_lines_and_no_secret() {
    let warnings = json(REALISTIC).unwrap().warnings();
    let named = |path: &str| warnings.iter().filter(|text| text.contains(&format!("{path} has no effect"))).count();
    for path in [
        "log.level",
        "client.presence_update_interval",
        "uni_websocket.join_push_messages",
        "admin.enabled",
        "admin.password",
        "admin.secret",
        "prometheus.enabled",
        "health.enabled",
    ] {
        assert_eq!(named(path), 1, "{path}: {warnings:#?}");
    }
    // Redis is not selected, and `uni_sse` is off.
    assert_eq!((named("engine.redis.address"), named("uni_sse.max_request_body_size")), (0, 0));
    // The only other warnings are that its five secrets are short.
    let short = warnings.iter().filter(|text| text.contains("is shorter than")).count();
    assert_eq!((short, warnings.len()), (5, 8 + 5), "{warnings:#?}");
    assert!(warnings.iter().any(|text| text.starts_with("centrifugo.json:8: log.level ")), "{warnings:#?}");
    assert!(!warnings.iter().any(|text| text.contains("-secret")));
}

#[test]
fn tls_settings_of_centrifugo_are_taken_over() {
    let text =
        r#"{"http_server": {"port": "8443", "tls": {"enabled": true, "cert_pem_file": "c", "key_pem_file": "k"}}}"#;
    let config = json(text).unwrap();
    assert_eq!(config.listeners[0].to_string(), "tls:[::]:8443");
    assert_eq!((config.tls.cert_pem_file.as_str(), config.tls.key_pem_file.as_str()), ("c", "k"));
    let missing = json(r#"{"http_server": {"tls": {"enabled": true}}}"#).unwrap_err();
    assert!(missing.to_string().contains("needs a certificate"), "{missing}");
}

#[test]
fn keys_that_change_authorization_and_are_unsupported_are_rejected() {
    let namespace = |options: &str| format!(r#"{{"channel": {{"namespaces": [{{"name": "one", {options}}}]}}}}"#);
    for (text, name) in [
        (r#"{"client": {"insecure_skip_token_signature_verify": true}}"#.into(), "client.insecure_skip_token_signature_verify"),
        (r#"{"client": {"user_id_http_header": "X-User"}}"#.into(), "client.user_id_http_header"),
        (r#"{"client": {"allow_everything": true}}"#.into(), "client.allow_everything"),
        (r#"{"client": {"token": {"algorithms": "HS256"}}}"#.into(), "client.token.algorithms"),
        (
            r#"{"client": {"subscription_token": {"insecure_skip_jwks_endpoint_safety_check": true}}}"#.into(),
            "client.subscription_token.insecure_skip_jwks_endpoint_safety_check",
        ),
        (r#"{"http_api": {"insecure": true}}"#.into(), "http_api.insecure"),
        (r#"{"websocket": {"disabled": true}}"#.into(), "websocket.disabled"),
        (
            r#"{"http_server": {"tls": {"enabled": true, "cert_pem_file": "x", "client_ca_pem_file": "y"}}}"#.into(),
            "http_server.tls.client_ca_pem_file",
        ),
        (r#"{"http_server": {"tls_autocert": {"enabled": true}}}"#.into(), "http_server.tls_autocert.enabled"),
        (r#"{"grpc_api": {"tls": {"enabled": true}}}"#.into(), "grpc_api.tls.enabled"),
        (
            r#"{"client": {"proxy": {"connect": {"http": {"tls": {"enabled": true}}}}}}"#.into(),
            "client.proxy.connect.http.tls.enabled",
        ),
        (
            r#"{"rpc": {"proxy": {"endpoint": "grpc://a:1", "grpc": {"tls": {"enabled": true}}}}}"#.into(),
            "rpc.proxy.grpc.tls.enabled",
        ),
        (namespace(r#""subscription_type": "map""#), "channel.namespaces[0].subscription_type"),
        (namespace(r#""subscribe_stream_proxy_enabled": true"#), "channel.namespaces[0].subscribe_stream_proxy_enabled"),
        (namespace(r#""allow_publish_for_all": true"#), "channel.namespaces[0].allow_publish_for_all"),
        (namespace(r#""map": {"allow_publish_for_client": true}"#), "channel.namespaces[0].map.allow_publish_for_client"),
        (
            r#"{"channel": {"without_namespace": {"map": {"publish_proxy_enabled": true, "allow_remove_for_client": true}}}}"#.into(),
            "channel.without_namespace.map.allow_remove_for_client",
        ),
    ] {
        let text: String = text;
        let messages = messages(json(&text));
        assert_eq!(messages.len(), 1, "{text}: {messages:#?}");
        assert!(messages[0].starts_with(&format!("centrifugo.json:1: {name}: ")), "{messages:#?}");
        // Keys that request the behavior of this server are accepted.
        let harmless = text.replace(": true", ": false").replace("\"map\"}", "\"stream\"}").replace("X-User", "");
        if !["allow_everything", "algorithms", "allow_publish_for_all"].iter().any(|key| text.contains(key)) {
            json(&harmless).unwrap_or_else(|faults| panic!("{harmless}: {faults}"));
        }
    }
}

#[test]
fn unknown_keys_are_warnings_in_json_and_errors_in_toml() {
    let config =
        json(r#"{"client": {"ping_intervall": "1s"}, "bells": {"and": {"whistles": 3}}, "some": {}}"#).unwrap();
    let warnings = config.warnings();
    let has_warning = |part: &str| warnings.iter().any(|text| text.contains(part));
    assert!(has_warning(
        "client.ping_intervall has no effect: there is no setting with this name; did you mean client.ping_interval?"
    ));
    assert!(
        has_warning("bells.and.whistles has no effect: there is no setting with this name")
            && has_warning(" some has no effect")
    );
    assert!(messages(toml("bells.and.whistles = 3"))[0].contains("there is no setting with this name"));
    // Centrifugo's keys are known in TOML too.
    let config = toml("swagger.enabled = true\nclient.concurrency = 8").unwrap();
    assert_eq!(config.warnings().iter().filter(|text| text.starts_with("corecast.toml:")).count(), 2);
    assert!(messages(toml("http_api.insecure = true"))[0].contains("always requires a key"));
}

#[test]
fn empty_null_and_disabled_keys_are_ignored() {
    let config = json(
        r#"{"http_server": {"internal_port": "", "port": 0, "tls": {"enabled": false, "cert_pem": "x"}}, "http_api": {"key": ""},
            "client": {"token": {"hmac_secret_key": ""}, "channel_limit": null}, "consumers": [], "pid_file": "",
            "channel": {"namespaces": [], "history_meta_ttl": "720h0m0s", "without_namespace": {"history_ttl": 0,
            "history_meta_ttl": "0s", "map": {"publish_proxy_name": "default"}, "channel_regex": ""}},
            "broker": {"enabled": false, "nats": {"tls": {"enabled": false}}}, "consumers": [{"name": "queue", "enabled": false}]}"#,
    )
    .unwrap();
    assert_eq!((config.http_api.key.as_deref(), config.admin.address), (None, None));
    assert!(!config.warnings().iter().any(|text| text.contains("has no effect")), "{:#?}", config.warnings());
}

#[test]
fn invalid_json_is_rejected_with_its_line() {
    for (text, part) in [
        ("{\n\"client\": {,}\n}", "centrifugo.json:2: not JSON: "),
        ("[]", "the file is not an object"),
        ("", "not JSON: "),
        (
            "{\"client\": {\"channel_limit\": 1.5}}",
            "client.channel_limit: a value of the kind number that is not whole",
        ),
        ("{\"client\": {\"ping_interval\": 25}}", "add the unit: \"25s\""),
        ("{\"proxies\": [3]}", "proxies[0]: proxies is a list of tables"),
        (
            "{\"channel\": {\"namespaces\": {\"chat\": {\"presence\": true}}}}",
            "channel.namespaces.chat.presence: channel.namespaces is",
        ),
        ("{\"proxies\": \"http://a\"}", "proxies: proxies is a list of tables"),
        ("{\"proxies\": [{\"name\": \"ab\"}]}", "proxies[0].endpoint: it is not set"),
    ] {
        let messages = messages(json(text));
        assert!(messages[0].contains(part), "{text}: {messages:#?}");
    }
    let deep = format!("{}{}", "{\"a\":".repeat(100), "1".to_owned() + &"}".repeat(100));
    assert!(messages(json(&deep))[0].contains("nested"));
}

#[test]
fn environment_variables_of_centrifugo_are_reported() {
    let variables = [("CENTRIFUGO_CLIENT_INSECURE", "true"), ("CENTRIFUGO_LOG_LEVEL", "info"), ("CENTRIFUG", "x")];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut given = Vec::new();
    let warnings = config::environment(variables, &mut given).warnings;
    assert!(given.is_empty());
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("CENTRIFUGO_CLIENT_INSECURE, CENTRIFUGO_LOG_LEVEL") && warnings[0].contains("CORECAST_")
    );
}
