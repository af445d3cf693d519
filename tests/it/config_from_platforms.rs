//! Values as platforms write them: Kubernetes, Helm, Docker, systemd, YAML, templates and files of secrets. Each is read as it
//! is meant, or reported.

use std::time::Duration;

use corecast::config::{self, Config, ConfigErrors, Findings};

/// What `centrifugo defaultconfig -c config.toml` writes, version 6.9.1.
const DEFAULTS: &str = include_str!("../data/centrifugo-defaults.toml");

/// The configuration of a TOML file and of variables.
fn load(file: &str, variables: &[(&str, &str)]) -> (Result<Config, ConfigErrors>, Findings) {
    let mut values = config::file("corecast.toml", file).unwrap();
    let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let found = config::environment(variables, &mut values);
    (config::assemble(&values), found)
}

fn environment(variables: &[(&str, &str)]) -> Config {
    let (config, found) = load("", variables);
    assert!(found.errors.is_empty() && found.warnings.is_empty(), "{found:?}");
    config.unwrap_or_else(|errors| panic!("{variables:?}: {errors}"))
}

fn messages(variables: &[(&str, &str)]) -> Vec<String> {
    let (config, found) = load("", variables);
    let mut all = found.errors;
    all.extend(config.err().into_iter().flat_map(|errors| errors.0));
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn list_of_tables_is_json_in_one_variable() {
    let config = environment(&[
        ("CORECAST_CHANNEL_NAMESPACES", r#"[{"name":"news","presence":true,"history_size":10,"history_ttl":"60s"}]"#),
        ("CORECAST_PROXIES", r#"[{"name":"main","endpoint":"http://a","http":{"static_headers":{"X-Key":"1"}}}]"#),
        ("CORECAST_RPC_NAMESPACES", r#"[{"name":"users","proxy_enabled":true,"proxy_name":"main"}]"#),
        ("CORECAST_CLIENT_PROXY_CONNECT_HTTP_STATIC_HEADERS", r#"{"Authorization":"Bearer x"}"#),
        (
            "CORECAST_CLIENT_CONNECT_CODE_TO_UNIDIRECTIONAL_DISCONNECT_TRANSFORMS",
            r#"[{"code": 401, "to": {"code": 4401, "reason": "no"}}]"#,
        ),
    ]);
    let (_, news) = config.channel.find("news:today").unwrap();
    assert!(news.presence);
    assert_eq!((news.history_size, news.history_ttl), (10, Duration::from_secs(60)));
    assert_eq!(config.rpc.proxy_for("users:get").map(usize::from).map(|at| &*config.proxies[at].name), Ok("main"));
    assert_eq!(config.proxies[0].static_headers, [("X-Key".to_owned(), "1".to_owned())]);
    assert_eq!(config.client.proxy.connect.proxy.static_headers.len(), 1);
    assert_eq!(config.client.connect_code_to_unidirectional_disconnect.transforms[0].to_code, 4401);
}

#[test]
fn list_in_a_variable_replaces_that_of_the_file_and_names_extend_it() {
    let file = "[[channel.namespaces]]\nname = \"chat\"\npresence = true\n";
    let names = |variable: &str| {
        let config = load(file, &[("CORECAST_CHANNEL_NAMESPACES", variable)]).0.unwrap();
        config.channel.namespaces.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(r#"[{"name":"news"}]"#), ["news"]);
    assert_eq!(names("[]"), [""; 0]);
    assert_eq!(names("news sport"), ["chat", "news", "sport"]);
    assert_eq!(names("chat, news"), ["chat", "news"]);
    assert_eq!(names(""), ["chat"]);
}

#[test]
fn element_of_a_list_has_a_variable_for_each_setting() {
    let file = "[[channel.namespaces]]\nname = \"chat\"\n[[proxies]]\nname = \"back-end.1\"\nendpoint = \"http://a\"";
    let (config, found) = load(
        file,
        &[
            ("CORECAST_CHANNEL_NAMESPACES", "news news-sport"),
            ("CORECAST_CHANNEL_NAMESPACES_CHAT_PRESENCE", "True"),
            ("CORECAST_CHANNEL_NAMESPACES_NEWS_HISTORY_SIZE", "5"),
            ("CORECAST_CHANNEL_NAMESPACES_NEWS_HISTORY_TTL", "1m"),
            ("CORECAST_CHANNEL_NAMESPACES_NEWS_SPORT_ALLOWED_DELTA_TYPES", "fossil"),
            ("CORECAST_PROXIES_BACK_END_1_TIMEOUT", "3s"),
            ("CORECAST_PROXIES_BACK_END_1_HTTP_STATIC_HEADERS", r#"[{"key":"X-Key","value":"1"}]"#),
        ],
    );
    assert!(found.warnings.is_empty() && found.errors.is_empty(), "{found:?}");
    let config = config.unwrap();
    let of = |channel: &str| config.channel.find(channel).unwrap().1;
    assert!(of("chat:a").presence && !of("news:a").presence);
    assert_eq!((of("news:a").history_size, of("news-sport:a").history_size), (5, 0));
    assert!(of("news-sport:a").allow_delta && !of("news:a").allow_delta);
    assert_eq!((config.proxies[0].timeout, config.proxies[0].static_headers.len()), (Duration::from_secs(3), 1));
}

#[test]
fn invalid_list_in_a_variable_stops_the_start_and_names_the_variable() {
    for (value, part) in [
        ("[{\"name\":}]", "it is not JSON"),
        ("{\"name\":\"news\"}", "not a JSON list"),
        ("[\"news\"]", "other things than objects"),
        ("[{\"name\":\"news\",\"presense\":true}]", "there is no setting with this name; did you mean"),
        ("[{\"name\":\"news\",\"history_size\":\"many\"}]", "not a whole number"),
    ] {
        let messages = messages(&[("CORECAST_CHANNEL_NAMESPACES", value)]);
        assert_eq!(messages.len(), 1, "{value}: {messages:#?}");
        assert!(messages[0].starts_with("environment CORECAST_CHANNEL_NAMESPACES: "), "{messages:#?}");
        assert!(messages[0].contains(part), "{messages:#?}");
    }
}

#[test]
fn services_of_the_platform_are_not_settings() {
    let links = [
        ("CORECAST_GRPC_API_PORT", "tcp://10.1.2.3:10000"),
        ("CORECAST_GRPC_API_PORT_10000_TCP", "tcp://10.1.2.3:10000"),
        ("CORECAST_GRPC_API_PORT_10000_TCP_ADDR", "10.1.2.3"),
        ("CORECAST_GRPC_API_PORT_10000_TCP_PORT", "10000"),
        ("CORECAST_GRPC_API_PORT_10000_TCP_PROTO", "tcp"),
        ("CORECAST_HTTP_SERVER_PORT", "tcp://10.1.2.3:8000"),
        ("CORECAST_PORT", "tcp://10.1.2.3:8000"),
        ("CORECAST_PORT_8000_UDP_ADDR", "10.1.2.3"),
        ("CORECAST_SERVICE_HOST", "10.1.2.3"),
        ("CORECAST_SERVICE_PORT", "8000"),
        ("CORECAST_SERVICE_PORT_HTTP_API", "9000"),
    ];
    let config = environment(&links);
    assert_eq!((config.grpc_api.port, config.http_server.port), (10_000, 0));
    assert_eq!(environment(&[("CORECAST_GRPC_API_PORT", "10001")]).grpc_api.port, 10_001);
    assert!(messages(&[("CORECAST_GRPC_API_PORT", "http://a")])[0].contains("not a whole number"));
}

#[test]
fn unknown_variable_is_reported_with_the_closest_name() {
    let file = "[[channel.namespaces]]\nname = \"news\"";
    for (variable, part) in [
        ("CORECAST_CLIENT_PING_INTERVALL", "did you mean CORECAST_CLIENT_PING_INTERVAL?"),
        ("CORECAST_CHANNEL_NAMESPACE", "did you mean CORECAST_CHANNEL_NAMESPACES?"),
        ("CORECAST_CHANNEL_NAMESPACES_NEWS_PRESENSE", "did you mean CORECAST_CHANNEL_NAMESPACES_NEWS_PRESENCE?"),
        ("CORECAST_CHANNEL_NAMESPACES_CHAT_PRESENCE", "it names no element of channel.namespaces"),
        ("CORECAST_CHANNEL_WITHOUT_NAMESPACE_PRESENSE", "did you mean CORECAST_CHANNEL_WITHOUT_NAMESPACE_PRESENCE?"),
    ] {
        let (config, found) = load(file, &[(variable, "true")]);
        assert!(config.is_ok() && found.warnings.len() == 1, "{variable}: {found:?}");
        assert!(found.warnings[0].contains(variable) && found.warnings[0].contains(part), "{}", found.warnings[0]);
    }
}

#[test]
fn keys_of_centrifugo_in_variables_are_judged_as_in_a_file() {
    let refused = [
        ("CORECAST_CLIENT_USER_ID_HTTP_HEADER", "X-User"),
        ("CORECAST_CLIENT_INSECURE_SKIP_TOKEN_SIGNATURE_VERIFY", "True"),
        ("CORECAST_CHANNEL_WITHOUT_NAMESPACE_SUBSCRIPTION_TYPE", "map"),
        ("CORECAST_HTTP_API_INSECURE", "1"),
    ];
    for (variable, value) in refused {
        let messages = messages(&[(variable, value)]);
        assert_eq!(messages.len(), 1, "{messages:#?}");
        assert!(messages[0].starts_with(&format!("environment {variable}: ")), "{messages:#?}");
        environment(&[(variable, "")]);
    }
    let warnings = environment(&[("CORECAST_LOG_LEVEL", "debug"), ("CORECAST_SWAGGER_ENABLED", "true")]).warnings();
    let named = |name: &str| warnings.iter().any(|text| text.starts_with(&format!("environment {name}: ")));
    assert!(named("CORECAST_LOG_LEVEL") && named("CORECAST_SWAGGER_ENABLED"), "{warnings:#?}");
    assert_eq!(
        environment(&[("CORECAST_ENGINE_TYPE", "memory"), ("CORECAST_UNI_SSE_ENABLED", "False")]).warnings().len(),
        1
    );
}

#[test]
fn default_variables_of_centrifugo_give_no_note() {
    let config = environment(&[
        ("CORECAST_ENGINE_TYPE", "\"memory\""),
        ("CORECAST_ENGINE_REDIS_ADDRESS", "redis://127.0.0.1:6379"),
        ("CORECAST_UNI_SSE_ENABLED", "False"),
        ("CORECAST_CHANNEL_PROXY_MAP_PUBLISH_HTTP_STATIC_HEADERS", "\"{}\""),
        ("CORECAST_CHANNEL_PROXY_SUBSCRIBE_HTTP_STATUS_TO_CODE_TRANSFORMS", "\"[]\""),
        ("CORECAST_CHANNEL_PRIVATE_PREFIX", "\"$\""),
        ("CORECAST_MAP_BROKER_POSTGRES_POOL_SIZE", "16"),
    ]);
    let notes = config.warnings();
    assert!(!notes.iter().any(|note| note.contains("has no effect")), "{notes:#?}");
    assert_eq!(config.channel.private_prefix, "$");
}

#[test]
fn quotes_and_line_ends_around_a_value_are_dropped() {
    // `docker run --env-file` keeps quotes; values from files end with a line.
    let config = environment(&[
        ("CORECAST_ADMIN_ADDRESS", "\"127.0.0.1:9000\""),
        ("CORECAST_CLIENT_PING_INTERVAL", "'30s'\n"),
        ("CORECAST_CLIENT_CHANNEL_LIMIT", "\"64\"\r\n"),
        ("CORECAST_CLIENT_INSECURE", "\"True\""),
        ("CORECAST_CLIENT_QUEUE_MAX_SIZE", "2.097152e+06"),
        ("CORECAST_CLIENT_ALLOWED_ORIGINS", "[\"https://a.example\", \"https://b.example\"]"),
        ("CORECAST_LIMITS_TRUSTED_PROXIES", "10.0.0.0/8\n192.0.2.1\n"),
        ("CORECAST_CHANNEL_NAMESPACES", "'[{\"name\":\"news\"}]'"),
        ("CORECAST_PROXIES", "\"[{\\\"name\\\":\\\"main\\\",\\\"endpoint\\\":\\\"http://a\\\"}]\""),
        ("CORECAST_HTTP_API_KEY", "the-key\n"),
        ("CORECAST_CORES", "[0,1]"),
    ]);
    assert_eq!(config.admin.address, Some("127.0.0.1:9000".parse().unwrap()));
    assert_eq!((config.client.ping_interval, config.client.channel_limit), (Duration::from_secs(30), 64));
    assert!(config.client.insecure && config.client.queue_max_size == 2 << 20);
    assert_eq!((config.client.allowed_origins.len(), config.limits.trusted_proxies.len()), (2, 2));
    assert_eq!((config.channel.namespaces.len(), config.proxies.len()), (1, 1));
    assert_eq!((config.http_api.key.as_deref(), config.cores), (Some("the-key"), Some(vec![0, 1])));
}

#[test]
fn placeholder_that_nothing_has_replaced_is_an_error() {
    for text in ["<no value>", "<nil>", "${SECRET}", "$(SECRET)", "{{ .Values.secret }}", "\"${SECRET}\""] {
        for variable in ["CORECAST_CLIENT_TOKEN_HMAC_SECRET_KEY", "CORECAST_NODE_NAME", "CORECAST_CLIENT_INSECURE"] {
            if text.starts_with('"') && variable.ends_with("SECRET_KEY") {
                continue;
            }
            let messages = messages(&[(variable, text)]);
            assert!(messages.len() == 1 && messages[0].contains("placeholder"), "{variable}={text}: {messages:#?}");
        }
    }
    for text in ["a${SECRET}", "$ecret", "{{a}}b{{c}}", "${not a name}"] {
        assert_eq!(environment(&[("CORECAST_NODE_NAME", text)]).node.name, text);
    }
}

#[test]
fn list_as_go_prints_it_is_rejected() {
    let messages = messages(&[("CORECAST_CLIENT_ALLOWED_ORIGINS", "[https://a.example https://b.example]")]);
    assert!(messages.len() == 1 && messages[0].contains("is not a JSON list of texts"), "{messages:#?}");
}

#[test]
fn secret_is_used_as_written_and_odd_ends_are_reported() {
    for (secret, part) in
        [("0123456789abcdef0123456789abcdef\n", "blank or a line end"), ("'0123456789abcdef0123456789abcde'", "quotes")]
    {
        let config = environment(&[("CORECAST_CLIENT_TOKEN_HMAC_SECRET_KEY", secret)]);
        assert_eq!(config.client.token.hmac_secret_key, secret);
        let warnings = config.warnings();
        let found = warnings.iter().find(|text| text.starts_with("client.token.hmac_secret_key ")).expect("a warning");
        assert!(found.contains(part) && !found.contains("0123"), "{found}");
    }
}

#[test]
fn public_key_may_have_its_lines_in_one() {
    let pem = include_str!("../../src/auth/tests/fixtures/rsa.pem");
    for text in [pem.replace('\n', "\\n"), pem.replace('\n', "\r\n"), format!("\"{}\"", pem.replace('\n', "\\n"))] {
        assert!(
            environment(&[("CORECAST_CLIENT_TOKEN_RSA_PUBLIC_KEY", &text)])
                .client
                .token
                .rsa_public_key
                .contains("-\nMI")
        );
    }
}

#[test]
fn empty_variable_counts_as_unset() {
    let file = "client.ping_interval = \"30s\"\nclient.allowed_origins = [\"https://a.example\"]";
    let names = ["PING_INTERVAL", "INSECURE", "TOKEN_HMAC_SECRET_KEY", "CHANNEL_LIMIT", "ALLOWED_ORIGINS"];
    let names = names.map(|name| format!("CORECAST_CLIENT_{name}"));
    let variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let (config, found) = load(file, &variables);
    let config = config.unwrap();
    assert_eq!((config.client.ping_interval, config.client.allowed_origins.len()), (Duration::from_secs(30), 1));
    // The list could be meant to be empty.
    assert_eq!(found.warnings.len(), 1, "{found:?}");
    assert!(found.warnings[0].contains("ALLOWED_ORIGINS is empty and counts as unset"), "{found:?}");
    let (config, found) = load(file, &[("CORECAST_CLIENT_ALLOWED_ORIGINS", "[]")]);
    assert!(config.unwrap().client.allowed_origins.is_empty() && found.warnings.is_empty());
}

#[test]
fn variable_that_is_not_utf8_is_an_error() {
    let messages = messages(&[("CORECAST_CLIENT_PING_INTERVAL", "3\u{fffd}s")]);
    assert!(messages.len() == 1 && messages[0].contains("not UTF-8"), "{messages:#?}");
}

#[test]
fn default_file_of_centrifugo_is_the_default_configuration() {
    let (config, _) = load(DEFAULTS, &[]);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    let default = Config::default();
    // Where the clients connect; and 0 bytes are a size here, and "not set" there.
    let differ = ["http_server.port", "websocket.compression_min_size"];
    for setting in config::SETTINGS.iter().filter(|setting| !differ.contains(&setting.name.as_str())) {
        assert_eq!(setting.show(&config), setting.show(&default), "{}", setting.name);
    }
    let warnings = config.warnings();
    assert!(!warnings.iter().any(|text| text.contains("has no effect")), "{warnings:#?}");
}

#[test]
fn values_of_yaml_and_templates_are_read_in_files() {
    let file = "client.insecure = \"yes\"\nclient.channel_limit = \"64\"\nclient.queue_max_size = 1048576.0\n\
                client.allowed_origins = \"https://a.example,https://b.example\"\ncores = [0, 1]\nadmin.address = \"\"\n\
                grpc_api.enabled = 0\nshards = \"\"";
    let config = load(file, &[]).0.unwrap();
    assert!(config.client.insecure && !config.grpc_api.enabled);
    assert_eq!((config.client.channel_limit, config.client.queue_max_size), (64, 1 << 20));
    assert_eq!((config.client.allowed_origins.len(), config.cores), (2, Some(vec![0, 1])));
    assert_eq!((config.admin.address, config.shards), (None, None));
    let text = r#"{"client": {"ping_interval": 25000000000}}"#;
    let errors = config::file("c.json", text).and_then(|values| config::assemble(&values)).unwrap_err();
    assert!(errors.to_string().contains("\"25s\" if it counts nanoseconds"), "{errors}");
}

#[test]
fn file_of_another_form_gets_one_line() {
    for (name, bytes, part) in [
        ("yaml", &b"client:\n  insecure: true\n"[..], "YAML is not read, only TOML and JSON; convert it"),
        ("yml", b"", "YAML is not read"),
        ("conf", b"{\"client\": {}}", "not TOML: it begins like JSON; give the file a name that ends in .json"),
        ("toml", b"\xff\xfec\0", "byte 0 is not UTF-8; save the file as UTF-8"),
    ] {
        let path = std::env::temp_dir().join(format!("corecast-{}-form.{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let errors = config::load(Some(&path), std::iter::empty(), Vec::new()).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert!(errors.0.len() == 1 && errors.to_string().contains(part), "{errors}");
    }
}

#[test]
fn byte_order_mark_and_line_ends_of_windows_are_ignored() {
    for (name, text) in [
        ("c.toml", "\u{feff}[client]\r\ninsecure = true\r\n"),
        ("c.json", "\u{feff}{\"client\":\r\n{\"insecure\": true}}\r\n"),
    ] {
        let config = config::file(name, text).and_then(|values| config::assemble(&values));
        assert!(config.unwrap().client.insecure, "{name}");
    }
}
