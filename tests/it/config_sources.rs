//! The sources of the configuration: their precedence, and the errors that each reports.

use std::time::Duration;

use corecast::config::{self, Config, ConfigErrors, Listen, NoRpc, Raw, RawSetting, SETTINGS};
use corecast::engine::net::listener::Address;

fn file(text: &str) -> Result<Config, ConfigErrors> {
    config::file("corecast.toml", text).and_then(|given| config::assemble(&given))
}

fn env(pairs: &[(&str, &str)]) -> Vec<RawSetting> {
    let mut values = Vec::new();
    config::environment(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())), &mut values);
    values
}

fn messages(result: Result<Config, ConfigErrors>) -> Vec<String> {
    result.expect_err("the configuration should be rejected").0.iter().map(ToString::to_string).collect()
}

fn everything(config: &Config) -> Vec<Option<String>> {
    SETTINGS.iter().map(|setting| setting.show(config)).collect()
}

#[test]
fn printed_default_parses_to_the_default() {
    let config = file(&config::sample()).unwrap();
    assert_eq!(everything(&config), everything(&Config::default()));
    assert_eq!(everything(&file("").unwrap()), everything(&Config::default()));
}

#[test]
fn commented_examples_of_the_sample_parse() {
    let uncommented: String = config::sample()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("[[") => format!("{rest}\n"),
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    // The sample shows only the form of a key, because a whole key is too long.
    let keys = ["rsa_public_key", "ecdsa_public_key"].into_iter().zip([
        include_str!("../../src/auth/tests/fixtures/rsa.pem"),
        include_str!("../../src/auth/tests/fixtures/ec_p256.pem"),
    ]);
    let text = keys.fold(uncommented, |text, (setting, pem)| {
        let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let form = format!("{setting} = \"-----BEGIN PUBLIC KEY-----\\n...\\n");
        assert!(text.contains(&form), "{setting}");
        text.replace(&form, &form.replace("...", &body.join("\\n")))
    });
    let config = file(&text).unwrap();
    assert!(config.client.token.rsa_public_key.contains("-----\nMI"));
    assert_eq!(config.cores, Some(vec![0, 2, 3, 4, 5]));
    assert_eq!(config.admin.address, Some("127.0.0.1:9000".parse().unwrap()));
    assert!(config.http_api.key.is_some() && config.shards.is_some() && config.control_cores.is_some());
    let (_, chat) = config.channel.find("chat:lobby").unwrap();
    assert!(chat.presence && chat.allow_recovery && chat.history_size == 100);
    assert_eq!(config.proxies[usize::from(chat.publish_proxy.unwrap())].name, "main");
    assert_eq!((config.rpc.proxy_for("users:get"), config.rpc.proxy_for("get")), (Ok(0), Err(NoRpc::NotAvailable)));
}

#[test]
fn every_printed_setting_parses_to_the_same_value() {
    for setting in SETTINGS.iter() {
        let Some(shown) = setting.show(&Config::dev()) else { continue };
        // A history needs both settings; one alone would be rejected.
        let dev = if setting.name.contains(".history_") { "dev = true\n" } else { "" };
        let config = file(&format!("{dev}{} = {shown}", setting.name)).unwrap();
        assert_eq!(setting.show(&config), Some(shown), "{}", setting.name);
    }
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let mut given = config::file("f", "client.ping_interval = \"30s\"\nclient.channel_limit = 5\nshards = 1").unwrap();
    given.extend(env(&[("CORECAST_CLIENT_PING_INTERVAL", "40s"), ("CORECAST_SHARDS", "2"), ("PATH", "/bin")]));
    given.push(config::flag("shards", "shards", vec!["3".into()]));
    let config = config::assemble(&given).unwrap();
    assert_eq!(config.client.channel_limit, 5);
    assert_eq!(config.client.ping_interval, Duration::from_secs(40));
    assert_eq!(config.shards, Some(3));
}

#[test]
fn environment_can_set_every_kind_of_setting() {
    let config = config::assemble(&env(&[
        ("CORECAST_LISTEN", "127.0.0.1:8001,unix:/run/c.sock"),
        ("CORECAST_ADMIN_ADDRESS", "[::1]:9000"),
        ("CORECAST_HTTP_API_KEY", "secret"),
        ("CORECAST_CLIENT_INSECURE", "true"),
        ("CORECAST_CLIENT_QUEUE_MAX_SIZE", "2MiB"),
        ("CORECAST_CLIENT_ALLOWED_ORIGINS", "https://a.example https://b.example"),
        ("CORECAST_CHANNEL_WITHOUT_NAMESPACE_ALLOW_PUBLISH_FOR_CLIENT", "true"),
        ("CORECAST_CORES", "1,0"),
    ]))
    .unwrap();
    assert_eq!(
        config.listeners,
        [
            Listen::plain(Address::Tcp("127.0.0.1:8001".parse().unwrap())),
            Listen::plain(Address::Unix("/run/c.sock".into()))
        ]
    );
    assert_eq!(config.admin.address, Some("[::1]:9000".parse().unwrap()));
    assert_eq!(config.http_api.key.as_deref(), Some("secret"));
    assert!(config.client.insecure && config.channel.without_namespace.allow_publish_for_client);
    assert_eq!(config.client.queue_max_size, 2 << 20);
    assert_eq!(config.client.allowed_origins.len(), 2);
    assert_eq!(config.cores, Some(vec![1, 0]));
}

#[test]
fn access_is_closed_without_dev() {
    let config = file("").unwrap();
    assert!(!config.client.insecure && !config.echo.enabled && !config.dev);
    assert!(config.client.allowed_origins.is_empty());
    assert!(!config.channel.without_namespace.allow_subscribe_for_client);
    assert!(!config.channel.without_namespace.allow_publish_for_client);
    assert_eq!((config.admin.address, config.http_api.key), (None, None));
}

#[test]
fn dev_opens_everything_on_loopback_and_explicit_settings_win() {
    let config = file("dev = true").unwrap();
    assert_eq!(config.listeners, [Listen::plain(Address::Tcp("127.0.0.1:8000".parse().unwrap()))]);
    assert_eq!(config.admin.address, Some("127.0.0.1:9000".parse().unwrap()));
    assert!(config.client.insecure && config.echo.enabled && config.http_api.key_generated);
    assert!(config.channel.without_namespace.allow_subscribe_for_client);
    assert!(config.channel.without_namespace.allow_publish_for_client);
    let other = file("dev = true").unwrap();
    assert!(config.http_api.key.as_ref().is_some_and(|key| key.len() >= 32));
    assert_ne!(config.http_api.key, other.http_api.key);

    let config =
        file("dev = true\necho.enabled = false\nhttp_api.key = \"mine\"\nadmin.address = \"127.0.0.1:1\"").unwrap();
    assert!(!config.echo.enabled && !config.http_api.key_generated);
    assert_eq!(config.http_api.key.as_deref(), Some("mine"));
    assert_eq!(config.admin.address, Some("127.0.0.1:1".parse().unwrap()));
}

#[test]
fn unknown_key_is_rejected_with_the_nearest_name_and_its_line() {
    let text = "[client]\n\nping_intervall = \"25s\"\n[websocket]\nchannel_limit = 3\n[nothing]\nlike_it = 1\n";
    let messages = messages(file(text));
    assert_eq!(
        messages,
        [
            "corecast.toml:3: client.ping_intervall: there is no setting with this name; did you mean client.ping_interval?",
            "corecast.toml:5: websocket.channel_limit: there is no setting with this name; did you mean client.channel_limit?",
            "corecast.toml:7: nothing.like_it: there is no setting with this name; remove it; `corecast config` prints every setting",
        ]
    );
}

#[test]
fn every_error_of_every_source_is_reported() {
    let mut given = config::file("c.toml", "client.ping_interval = 25\nlisten = [\"localhost:8000\"]").unwrap();
    given.extend(env(&[("CORECAST_SHARDS", "many")]));
    given.push(config::flag("cores", "cores", vec!["5-2".into()]));
    let messages = messages(config::assemble(&given));
    assert_eq!(messages.len(), 4, "{messages:#?}");
    assert!(messages[0].starts_with("c.toml:1: client.ping_interval: 25 is not a time; add the unit: \"25s\""));
    assert!(messages[1].starts_with("c.toml:2: listen: ") && messages[1].contains("\"127.0.0.1:8000\""));
    assert!(messages[2].starts_with("environment CORECAST_SHARDS: shards: "));
    assert!(messages[3].starts_with("--cores: cores: the range 5-2 runs backwards; write"));
}

#[test]
fn contradicting_settings_are_rejected() {
    for (text, name, part) in [
        ("client.pong_timeout = \"25s\"", "client.pong_timeout", "not shorter than client.ping_interval"),
        ("client.ping_interval = \"1500ms\"", "client.ping_interval", "whole seconds"),
        ("client.ping_interval = \"0s\"", "client.ping_interval", "whole seconds"),
        ("client.stale_close_delay = \"1ms\"", "client.stale_close_delay", "timer tick"),
        ("shutdown.timeout = \"2h\"", "shutdown.timeout", "more than an hour"),
        ("shards = 0", "shards", "not within 1"),
        ("shards = 3\ncores = \"0,1\"", "shards", "do not fit"),
        ("listen = [\"0.0.0.0:80\", \"0.0.0.0:80\"]", "listen", "twice"),
        ("listen = []", "listen", "no address"),
        ("listen = [\"0.0.0.0:8000\"]\nadmin.address = \"127.0.0.1:8000\"", "admin.address", "conflicts"),
        (
            "engine.mail_bytes_max = \"64KiB\"\nwebsocket.message_size_limit = \"1MiB\"",
            "engine.mail_bytes_max",
            "holds no",
        ),
        ("channel.max_length = 0", "channel.max_length", "too small"),
        ("client.allowed_origins = [\"https://a.example/\"]", "client.allowed_origins", "path"),
        ("http_api.key = \" \"", "http_api.key", "empty"),
        ("dev = \"maybe\"", "dev", "not a boolean"),
        ("client = 3", "client", "there is no setting"),
    ] {
        let messages = messages(file(text));
        assert!(messages.iter().any(|m| m.contains(&format!(" {name}: ")) && m.contains(part)), "{text}: {messages:?}");
        assert!(messages.iter().all(|message| message.contains("; ")), "a fix is missing: {messages:?}");
    }
    let cores = "shards = 3\ncores = \"0,1\"\noversubscribe = true";
    assert_eq!(file(cores).unwrap().shards, Some(3));
}

#[test]
fn error_names_the_source_of_the_value() {
    let messages = messages(file("\nclient.pong_timeout = \"30s\""));
    assert!(messages[0].starts_with("corecast.toml:2: client.pong_timeout: 30s is not shorter"), "{messages:?}");
}

#[test]
fn invalid_toml_is_rejected_with_its_line() {
    let messages = messages(file("listen = [\n\"127.0.0.1:8000\"\n"));
    assert!(messages[0].starts_with("corecast.toml:"), "{messages:?}");
    let fault = config::load(Some("/nowhere/corecast.toml".as_ref()), std::iter::empty(), Vec::new()).unwrap_err();
    assert!(fault.to_string().starts_with("/nowhere/corecast.toml: cannot be read: "), "{fault}");
}

#[test]
fn secrets_do_not_appear_in_messages() {
    let given =
        [RawSetting { name: "http_api.key".into(), raw: Raw::Integer(123_456), origin: config::Origin::Default }];
    assert!(!messages(config::assemble(&given))[0].contains("123456"));
}

#[test]
fn table_contains_every_setting() {
    let table = config::markdown();
    let shown = |name: &str| table.contains(&format!("| `{name}` |"));
    for setting in SETTINGS.iter() {
        assert_ne!(shown(&setting.name), setting.repeats, "{}", setting.name);
    }
    for name in
        ["channel.namespaces", "rpc.namespaces", "proxies", "proxies[].endpoint", "proxies[].http.static_headers"]
    {
        assert!(shown(name), "{name}");
    }
}
