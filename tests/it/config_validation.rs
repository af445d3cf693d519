//! Namespaces, backends and tokens with contradicting settings: each is rejected by name, with the fix.

use std::time::Duration;

use corecast::config::{self, Config, ConfigErrors, DataFormat};

fn file(text: &str) -> Result<Config, ConfigErrors> {
    config::file("corecast.toml", text).and_then(|given| config::assemble(&given))
}

fn messages(result: Result<Config, ConfigErrors>) -> Vec<String> {
    result.expect_err("the configuration should be rejected").0.iter().map(ToString::to_string).collect()
}

/// Asserts that each text has one error, which names the setting and the fix.
fn assert_rejected(cases: &[(&str, &str, &str)]) {
    for (text, setting, fix) in cases {
        let messages = messages(file(text));
        assert_eq!(messages.len(), 1, "{text}: {messages:#?}");
        assert!(messages[0].contains(&format!(": {setting}: ")), "{text}: {messages:#?}");
        assert!(messages[0].contains(fix), "{text}: {messages:#?}");
    }
}

#[test]
fn contradicting_settings_of_a_namespace_are_rejected() {
    assert_rejected(&[
        ("[[channel.namespaces]]\nname = \"a\"", "channel.namespaces[0].name", "such as \"chat\""),
        ("[[channel.namespaces]]\npresence = true", "channel.namespaces[0].name", "such as \"chat\""),
        (
            "[[channel.namespaces]]\nname = \"ab\"\n[[channel.namespaces]]\nname = \"ab\"",
            "channel.namespaces[1].name",
            "its own name",
        ),
        (
            "channel.namespace_boundary = \"-\"\n[[channel.namespaces]]\nname = \"a-b\"",
            "channel.namespaces[0].name",
            "another",
        ),
        ("channel.user_boundary = \":\"", "channel.user_boundary", "\"#\""),
        ("[[channel.namespaces]]\nname = \"ab\"\nhistory_size = 3", "channel.namespaces[0].history_ttl", "\"300s\""),
        (
            "[[channel.namespaces]]\nname = \"ab\"\nhistory_ttl = \"3s\"",
            "channel.namespaces[0].history_size",
            "\"300s\"",
        ),
        (
            "[[channel.namespaces]]\nname = \"ab\"\nhistory_size = 1\nhistory_ttl = \"1500ms\"",
            "channel.namespaces[0].history_ttl",
            "\"300s\"",
        ),
        (
            "[channel.without_namespace]\nhistory_size = 1\nhistory_ttl = \"2s\"\nhistory_meta_ttl = \"1s\"",
            "channel.without_namespace.history_meta_ttl",
            "\"720h\"",
        ),
        ("channel.history_meta_ttl = \"100ms\"", "channel.history_meta_ttl", "whole seconds"),
        ("channel.without_namespace.force_recovery = true", "channel.without_namespace.force_recovery", "history_size"),
        (
            "channel.without_namespace.auto_cache_recover = true",
            "channel.without_namespace.auto_cache_recover",
            "cache",
        ),
        (
            "channel.without_namespace.force_recovery_mode = \"x\"",
            "channel.without_namespace.force_recovery_mode",
            "stream",
        ),
        (
            "channel.without_namespace.allowed_delta_types = [\"x\"]",
            "channel.without_namespace.allowed_delta_types",
            "fossil",
        ),
        ("channel.without_namespace.slow_consumer = \"x\"", "channel.without_namespace.slow_consumer", "keep_latest"),
        (
            "channel.without_namespace.slow_consumer_bytes_max = \"2MiB\"",
            "channel.without_namespace.slow_consumer_bytes_max",
            "client.queue_max_size",
        ),
        ("channel.publication_data_format = \"xml\"", "channel.publication_data_format", "json_object"),
        (
            "[[channel.namespaces]]\nname = \"ab\"\nchannel_regex = \"(\"",
            "channel.namespaces[0].channel_regex",
            "correct it",
        ),
        ("[[channel.namespaces]]\nname = \"ab\"\npresense = true", "channel.namespaces[0].presense", "[0].presence?"),
    ]);
}

#[test]
fn error_in_a_list_names_the_line_of_its_table() {
    let text = "shards = 1\n\n[[channel.namespaces]]\nname = \"one\"\n\n[[channel.namespaces]]\nname = \"two\"\nhistory_size = 1\n";
    let messages = messages(file(text));
    assert!(messages[0].starts_with("corecast.toml:7: channel.namespaces[1].history_ttl: "), "{messages:#?}");
    assert!(messages[0].contains("namespace \"two\""), "{messages:#?}");
}

#[test]
fn backend_without_a_usable_endpoint_is_rejected() {
    let proxy = |options: &str| format!("[[proxies]]\nname = \"ab\"\nendpoint = \"http://a\"\n{options}");
    assert_rejected(&[
        ("[[proxies]]\nname = \"ab\"", "proxies[0].endpoint", "http://"),
        ("[[proxies]]\nname = \"ab\"\nendpoint = \"ftp://a:1\"", "proxies[0].endpoint", "http://"),
        ("[[proxies]]\nname = \"default\"\nendpoint = \"http://a\"", "proxies[0].name", "another name"),
        (&proxy("timeout = \"0s\""), "proxies[0].timeout", "\"1s\""),
        (&proxy("timeout = \"2m\""), "proxies[0].timeout", "\"1m\""),
        (&proxy("concurrency_max = 0"), "proxies[0].concurrency_max", "at least 1"),
        (&proxy("http_headers = [\"a b\"]"), "proxies[0].http_headers", "\"Cookie\""),
        (
            &proxy("http.status_to_code_transforms = [{ status_code = 404 }]"),
            "proxies[0].http.status_to_code_transforms",
            "to_error",
        ),
        ("client.proxy.connect.enabled = true", "client.proxy.connect.endpoint", "http://"),
        (
            "client.proxy.connect.http.http_headers = [\"Cookie\"]",
            "client.proxy.connect.http.http_headers",
            "did you mean client.proxy.connect.http",
        ),
        (
            "channel.without_namespace.subscribe_proxy_enabled = true",
            "channel.without_namespace.subscribe_proxy_enabled",
            "subscribe_proxy_name",
        ),
        (
            "channel.without_namespace.publish_proxy_name = \"no\"",
            "channel.without_namespace.publish_proxy_name",
            "\"default\"",
        ),
        (
            "rpc.without_namespace.proxy_enabled = true",
            "rpc.without_namespace.proxy_enabled",
            "rpc.without_namespace.proxy_name",
        ),
        ("[[rpc.namespaces]]\nname = \"ab\"\nproxy_name = \"no\"", "rpc.namespaces[0].proxy_name", "rpc.proxy"),
        (
            "[[rpc.namespaces]]\nname = \"ab\"\n[[rpc.namespaces]]\nname = \"ab\"",
            "rpc.namespaces[1].name",
            "its own name",
        ),
    ]);
}

#[test]
fn tokens_and_personal_channels_need_existing_keys_and_namespaces() {
    assert_rejected(&[
        (
            "client.token.audience = \"a\"\nclient.token.audience_regex = \"a\"",
            "client.token.audience_regex",
            "one of the two",
        ),
        ("client.token.issuer_regex = \"(\"", "client.token.issuer_regex", "correct it"),
        ("client.token.user_id_claim = \"user-id\"", "client.token.user_id_claim", "top-level"),
        ("client.token.jwks_public_endpoint = \"id.example.com\"", "client.token.jwks_public_endpoint", "http://"),
        ("client.token.jwks_age_max = \"59s\"", "client.token.jwks_age_max", "\"24h\""),
        ("client.token.jwks_age_max = \"1000h\"", "client.token.jwks_age_max", "\"24h\""),
        ("client.token.hmac_previous_secret_key = \"x\"", "client.token.hmac_previous_secret_key", "hmac_secret_key"),
        (
            "[client.subscribe_to_user_personal_channel]\nenabled = true\npersonal_channel_namespace = \"no\"",
            "client.subscribe_to_user_personal_channel.personal_channel_namespace",
            "channel.namespaces",
        ),
        (
            "[client.subscribe_to_user_personal_channel]\nenabled = true\nsingle_connection = true",
            "client.subscribe_to_user_personal_channel.single_connection",
            "presence",
        ),
        ("grpc_api.enabled = true\ngrpc_api.address = \"somewhere\"", "grpc_api.address", "\"127.0.0.1\""),
    ]);
}

#[test]
fn unusable_keys_are_rejected_before_the_start() {
    let private = "-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----";
    let rsa = include_str!("../../src/auth/tests/fixtures/rsa.pem");
    let short = include_str!("../../src/auth/tests/fixtures/rsa_1024_bits.pem");
    for section in ["client.token", "client.subscription_token"] {
        let set = |key: &str, value: &str| format!("{section}.{key} = \"\"\"{value}\"\"\"");
        for (text, key, fix) in [
            (set("rsa_public_key", "not a key"), "rsa_public_key", "BEGIN PUBLIC KEY"),
            (set("rsa_public_key", private), "rsa_public_key", "generate a new pair"),
            (set("rsa_public_key", short), "rsa_public_key", "2048 bits"),
            (set("ecdsa_public_key", rsa), "ecdsa_public_key", "elliptic-curve"),
            (set("audience_regex", "(?:a{200}){400}"), "audience_regex", "write one such as"),
            (
                set("jwks_public_endpoint", "https://{{tenant}}.example/keys"),
                "jwks_public_endpoint",
                "the URL of one key set",
            ),
        ] {
            assert_rejected(&[(&text, &format!("{section}.{key}"), fix)]);
        }
    }
    // One error does not hide another.
    let two = "client.token.rsa_public_key = \"x\"\nclient.token.ecdsa_public_key = \"x\"\nclient.token.user_id_claim = \"-\"";
    assert_eq!(messages(file(two)).len(), 3);
}

#[test]
fn api_addresses_differ_from_client_addresses_and_from_each_other() {
    let grpc = "grpc_api.enabled = true\ngrpc_api.address = \"127.0.0.1\"\n";
    assert_rejected(&[
        (&format!("{grpc}grpc_api.port = 8000"), "grpc_api.port", "10000"),
        (&format!("{grpc}grpc_api.port = 9000\nadmin.address = \"0.0.0.0:9000\""), "grpc_api.port", "10000"),
    ]);
    file(&format!("{grpc}grpc_api.port = 0\nlisten = [\"127.0.0.1:0\"]\nadmin.address = \"127.0.0.1:0\"")).unwrap();
}

#[test]
fn secrets_do_not_appear_in_errors() {
    for text in [
        "client.token.hmac_secret_key = 123456",
        "client.token.rsa_public_key = [\"123456\"]",
        "grpc_api.key = 123456",
        "[[proxies]]\nname = \"ab\"\nendpoint = \"ftp://user:123456@a\"",
        "client.proxy.connect.http.static_headers = [{ key = \"A\", value = 123456 }]",
        "client.proxy.connect.http.static_headers = { A = \"123456\\n\" }",
    ] {
        for message in messages(file(text)) {
            assert!(!message.contains("123456"), "{message}");
        }
    }
    let config = file("client.token.hmac_secret_key = \"123456\"").unwrap();
    assert!(!config::markdown().contains("123456") && !format!("{:?}", config.client).contains("123456"));
}

#[test]
fn namespace_inherits_the_settings_of_the_section() {
    let config = file(
        "[channel]\nhistory_meta_ttl = \"10h\"\npublication_data_format = \"json\"\n[[channel.namespaces]]\nname = \"own\"\n\
         history_meta_ttl = \"20h\"\npublication_data_format = \"binary\"\n[[channel.namespaces]]\nname = \"other\"",
    )
    .unwrap();
    let of = |channel| {
        let (_, namespace) = config.channel.find(channel).unwrap();
        (namespace.history_meta_ttl, namespace.publication_data_format)
    };
    assert_eq!(of("own:x"), (Duration::from_secs(20 * 3600), DataFormat::Binary));
    assert_eq!(of("other:x"), (Duration::from_secs(10 * 3600), DataFormat::Json));
    assert_eq!(of("x"), (Duration::from_secs(10 * 3600), DataFormat::Json));
    assert!(config.channel.namespaces.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn surprising_settings_are_warnings() {
    let warnings = |text: &str| file(text).unwrap().warnings();
    let warns = |text: &str, part: &str| warnings(text).iter().any(|warning| warning.contains(part));
    assert!(warns("", "no client can connect"));
    for way in [
        "client.token.hmac_secret_key = \"x\"",
        "client.allow_anonymous_connect_without_token = true",
        "client.proxy.connect = { enabled = true, endpoint = \"http://a\" }",
    ] {
        assert!(!warns(way, "no client can connect"), "{way}");
    }
    assert!(warns("client.insecure = true", "accepts clients without a token"));
    assert!(warns("client.subscription_token.enabled = true", "has no key"));
    assert!(warns("grpc_api.enabled = true", "grpc_api.key is not set"));
    for (text, part) in [
        (
            "listen = [\"unix:/x\"]\nlimits.connections_per_address = 5",
            "no effect at unix:/x: the clients of a unix socket",
        ),
        (
            "listen = [\"127.0.0.1:1\"]\nlimits.handshakes_per_address = 5",
            "no effect at 127.0.0.1:1: every client comes",
        ),
        (
            "listen = [\"tls:unix:/x\"]\ntls.cert_pem_file = \"x\"\nlimits.trusted_proxies = [\"10.0.0.0/8\"]",
            "limits.trusted_proxies has no",
        ),
        ("limits.handshakes_per_address_burst = 7", "no effect without limits.handshakes_per_address"),
        ("client.command_rate_burst = 7", "no effect without client.command_rate_limit"),
        ("client.byte_rate_burst = 7", "no effect without client.byte_rate_limit"),
        ("client.rate_limit_dry_run = true", "client.rate_limit_dry_run has no effect"),
        ("client.queue_max_size = \"2GiB\"", "more than engine.backlog_bytes_max"),
        ("websocket.decompressed_message_size_limit = 100000", "no effect without websocket.compression"),
    ] {
        assert!(warns(text, part), "{text}: {:#?}", warnings(text));
    }
    for text in [
        "listen = [\"proxy:unix:/x\", \"[::]:1\"]\nlimits.connections_per_address = 5",
        "listen = [\"127.0.0.1:1\"]\nlimits = { connections_per_address = 5, trusted_proxies = [\"127.0.0.1\"] }",
        "client = { command_rate_limit = 5, command_rate_burst = 7, rate_limit_dry_run = true }",
    ] {
        assert!(!warns(text, "has no effect"), "{text}: {:#?}", warnings(text));
    }
    assert!(warns("http_api.key = \"short\"", "http_api.key is shorter than 16 bytes"));
    assert!(warns("grpc_api = { enabled = true, key = \"short\" }", "grpc_api.key is shorter than 16 bytes"));
    assert!(!warns("http_api.key = \"a-key-of-sixteen\"", "shorter"));
    assert!(warns("client.allowed_origins = [\"https://a.example\", \"*\"]", "every page on the web may connect"));
    assert!(warns("client.allowed_origins = [\"https://*\"]", "every page on the web may connect"));
    assert!(!warns("client.allowed_origins = [\"https://*.a.example\"]", "every page on the web"));
    let long = "0123456789abcdef0123456789abcdef";
    assert!(warns("client.token.hmac_secret_key = \"x\"", "client.token.hmac_secret_key is shorter than 32 bytes"));
    assert!(!warns(&format!("client.token.hmac_secret_key = \"{long}\""), "shorter"));
    let own = |enabled| format!("client.subscription_token = {{ enabled = {enabled}, hmac_secret_key = \"x\" }}");
    assert!(warns(&own(true), "client.subscription_token.hmac_secret_key is shorter"));
    assert!(!warns(&own(false), "shorter"), "it is not used");
    assert!(warns("client.token.jwks_public_endpoint = \"http://a\"", "client.token.jwks_public_endpoint is fetched"));
    let namespace = |options: &str| format!("[[channel.namespaces]]\nname = \"chat\"\n{options} = true");
    for (option, part) in [
        ("allow_recovery", "no publication is recovered"),
        ("force_positioning", "not filled"),
        ("delta_publish", "makes deltas"),
        ("allow_presence_for_client", "error 108"),
        ("allow_history_for_subscriber", "error 108"),
        ("force_push_join_leave", "no events are sent"),
        ("allow_publish_for_anonymous", "only together"),
    ] {
        let warnings = warnings(&namespace(option));
        let found = warnings.iter().any(|text| text.starts_with("the namespace \"chat\" ") && text.contains(part));
        assert!(found, "{option}: {warnings:#?}");
    }
    let latest = |options: &str| format!("channel.without_namespace.slow_consumer = \"keep_latest\"\n{options}");
    let recovers = "channel.without_namespace.force_recovery = true\nchannel.without_namespace.history_size = 1\n\
                    channel.without_namespace.history_ttl = \"1m\"\nchannel.without_namespace.force_recovery_mode = ";
    assert!(warns(
        &latest("channel.without_namespace.allowed_delta_types = [\"fossil\"]"),
        "deltas: no subscriber gets deltas"
    ));
    assert!(warns(&latest(&format!("{recovers}\"stream\"")), "unsubscribed with 2500"));
    assert!(!warns(&latest(&format!("{recovers}\"cache\"")), "unsubscribed with 2500"));
    assert!(warns(&latest("channel.without_namespace.slow_consumer_bytes_max = \"1KiB\""), "only with slow_consumer"));
    assert_eq!(warnings("dev = true"), Vec::<String>::new());
}

#[test]
fn dev_allows_every_feature_of_an_sdk() {
    let config = file("dev = true").unwrap();
    let (number, namespace) = config.channel.find("any:thing").unwrap();
    assert_eq!(number, 0);
    assert!(namespace.presence && namespace.join_leave && namespace.has_history() && namespace.allow_recovery);
    assert!(namespace.history_calls().client && namespace.history_calls().anonymous);
    assert!(namespace.presence_calls().client && namespace.allow_delta && namespace.allow_tags_filter);
    assert!(file("").unwrap().channel.find("any:thing").is_none());
}

#[test]
fn disabled_api_has_no_key() {
    let config = file("dev = true\nhttp_api.disabled = true").unwrap();
    assert_eq!((config.http_api.key, config.http_api.key_generated), (None, false));
}

#[test]
fn bounds_of_a_request_head_must_fit_each_other_and_the_server() {
    assert_rejected(&[
        ("engine.request_head_bytes_max = \"1MiB\"", "engine.request_head_bytes_max", "32KiB"),
        ("engine.request_head_bytes_max = \"8KiB\"", "engine.request_head_bytes_max", "a smaller target"),
        ("engine.request_target_bytes_max = 10", "engine.request_target_bytes_max", "at least 256"),
        ("engine.request_fields_max = 1000", "engine.request_fields_max", "such as 128"),
        ("engine.request_fields_max = 3", "engine.request_fields_max", "at least 16"),
        ("engine.pending_heads_bytes_max = 1", "engine.pending_heads_bytes_max", "at least 1048576"),
        ("http_api.unknown_fields = \"ignore\"", "http_api.unknown_fields", "\"reject\""),
    ]);
}
