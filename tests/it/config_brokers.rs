//! Brokers in the settings: what the sections mean together, and what is rejected or reported.

use std::time::Duration;

use corecast::config::{
    self, BrokerKind, ClientTls, Config, ConfigErrors, Endpoint, Redis, RedisShard, RedisTopology, changes,
};

fn toml(text: &str) -> Result<Config, ConfigErrors> {
    config::file("corecast.toml", text).and_then(|given| config::assemble(&given))
}

fn json(text: &str) -> Result<Config, ConfigErrors> {
    config::file("centrifugo.json", text).and_then(|given| config::assemble(&given))
}

/// The one error of the text.
fn error(text: &str) -> String {
    let errors = toml(text).expect_err(text).0;
    assert_eq!(errors.len(), 1, "{text}: {errors:#?}");
    errors[0].to_string()
}

fn without_effect(config: &Config) -> Vec<String> {
    config.warnings().into_iter().filter(|text| text.contains("has no effect") || text.contains("only with")).collect()
}

fn redis(config: &Config) -> &Redis {
    match &config.brokers.publications {
        Some(BrokerKind::Redis(redis)) => redis,
        other => panic!("{other:?}"),
    }
}

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp(host.into(), port)
}

#[test]
fn sections_decide_together_what_is_used() {
    let kinds = |text: &str| {
        let brokers = toml(text).unwrap_or_else(|errors| panic!("{text}: {errors}")).brokers;
        let publications = match brokers.publications {
            None => "memory",
            Some(BrokerKind::Redis(redis)) => {
                if redis.prefix == "of-broker" {
                    "own redis"
                } else {
                    "redis"
                }
            }
            Some(BrokerKind::Nats(_)) => "nats",
        };
        let presence = match brokers.presence {
            None => "memory",
            Some(redis) => {
                if redis.prefix == "of-presence" {
                    "own redis"
                } else {
                    "redis"
                }
            }
        };
        (publications, presence)
    };
    let own = "broker.redis.prefix = \"of-broker\"\npresence_manager.redis.prefix = \"of-presence\"\n";
    for (text, publications, presence) in [
        ("", "memory", "memory"),
        ("engine.type = \"redis\"", "redis", "redis"),
        ("engine.type = \"redis\"\nbroker.type = \"nats\"", "redis", "redis"),
        ("broker.enabled = true\nbroker.type = \"nats\"", "nats", "memory"),
        ("broker.enabled = true\nbroker.type = \"nats\"\nengine.type = \"redis\"", "nats", "redis"),
        ("broker.enabled = true\nengine.type = \"redis\"", "memory", "redis"),
        ("broker.enabled = true\nbroker.type = \"redis\"", "own redis", "memory"),
        ("presence_manager.enabled = true\npresence_manager.type = \"redis\"", "memory", "own redis"),
        ("presence_manager.enabled = true\nengine.type = \"redis\"", "redis", "memory"),
        (
            "broker.enabled = true\nbroker.type = \"nats\"\npresence_manager.enabled = true\npresence_manager.type = \"redis\"",
            "nats",
            "own redis",
        ),
        // What is not used need not be right.
        (
            "engine.redis.address = \"nonsense\"\nbroker.type = \"postgres\"\nbroker.nats.url = \"ws://x\"",
            "memory",
            "memory",
        ),
    ] {
        assert_eq!(kinds(&format!("{own}{text}")), (publications, presence), "{text}");
    }
}

#[test]
fn default_redis_is_that_of_the_broker_tests() {
    let config = toml("engine.type = \"redis\"").unwrap();
    assert_eq!(redis(&config), &Redis::at(tcp("127.0.0.1", 6379)));
    assert_eq!(config.brokers.presence.as_ref(), Some(redis(&config)));
    assert_eq!(Config::default().brokers, toml("").unwrap().brokers);
    assert_eq!(
        toml("engine.type = \"redis\"\nbroker.probe_interval = \"0s\"").map(|c| redis(&c).probe_interval).unwrap(),
        None
    );
}

#[test]
fn address_overrides_the_settings_beside_it() {
    let config = toml(
        "[engine]\ntype = \"redis\"\n[engine.redis]\naddress = [\"redis://:own@a:1/2?io_timeout=9s\", \"rediss://b\"]\n\
         user = \"u\"\npassword = \"common\"\ndb = 5\nclient_name = \"node\"\nforce_resp2 = true\nconnect_timeout = 0\npresence_ttl = 0\n",
    )
    .unwrap();
    let [first, second] = &redis(&config).shards[..] else { panic!("two shards") };
    assert_eq!(redis(&config).presence_ttl, Duration::from_secs(60));
    assert_eq!((first.login.password.as_str(), first.db, first.io_timeout), ("own", 2, Duration::from_secs(9)));
    assert_eq!((second.login.password.as_str(), second.db, second.io_timeout), ("common", 5, Duration::from_secs(4)));
    assert_eq!((first.tls.clone(), second.tls.clone()), (None, Some(ClientTls::default())));
    for shard in [first, second] {
        assert_eq!((shard.login.user.as_str(), shard.login.client_name.as_str()), ("u", "node"));
        assert!(shard.force_resp2 && shard.connect_timeout == Duration::from_secs(1));
    }
}

#[test]
fn clusters_and_sentinels_have_a_setting_each() {
    let config = json(
        r#"{"engine": {"type": "redis", "redis": {"cluster_address": "a:1,b:2", "tls": {"enabled": true, "server_name": "n"}}}}"#,
    )
    .unwrap();
    let shard = &redis(&config).shards[0];
    assert_eq!(shard.topology, RedisTopology::Cluster(vec![tcp("a", 1), tcp("b", 2)]));
    assert_eq!(shard.tls.as_ref().unwrap().server_name, "n");
    let config = toml(
        "engine.type = \"redis\"\n[engine.redis]\nsentinel_address = [\"a:1,b:2\", \"[::1]:3\"]\nsentinel_master_name = \"m\"\n\
         sentinel_password = \"s\"\nreplica_client.enabled = true\nsubscribe_on_replica = true\n",
    )
    .unwrap();
    let [RedisShard { topology: RedisTopology::Sentinel { sentinels, master_name, login, tls }, .. }, second] =
        &redis(&config).shards[..]
    else {
        panic!("two groups of sentinels")
    };
    assert_eq!((sentinels.len(), master_name.as_str(), login.password.as_str(), tls), (2, "m", "s", &None));
    assert!(second.replica_client && second.topology.to_string().contains("[::1]:3"));
    assert!(without_effect(&config).is_empty(), "{:#?}", without_effect(&config));
}

#[test]
fn variables_have_the_forms_of_the_original() {
    let variables = [
        ("CORECAST_ENGINE_TYPE", "redis"),
        ("CORECAST_ENGINE_REDIS_ADDRESS", "redis://:a,b@h:1 redis://i:2"),
        ("CORECAST_ENGINE_REDIS_PRESENCE_TTL", "1m0s"),
        ("CORECAST_ENGINE_REDIS_REPLICA_CLIENT_ENABLED", "false"),
        ("CORECAST_ENGINE_REDIS_TLS_SERVER_CA_PEM", ""),
        ("CORECAST_BROKER_ENABLED", "true"),
        ("CORECAST_BROKER_TYPE", "nats"),
        ("CORECAST_BROKER_NATS_URL", "nats://u:p@h:1,nats://i:2"),
        ("CORECAST_BROKER_NATS_RAW_MODE_ENABLED", "true"),
        ("CORECAST_BROKER_NATS_RAW_MODE_CHANNEL_REPLACEMENTS", "{\":\": \".\"}"),
        ("CORECAST_SINGLEFLIGHT_ENABLED", "true"),
    ];
    let mut given = Vec::new();
    let found = config::environment(variables.iter().map(|(k, v)| (k.to_string(), v.to_string())), &mut given);
    assert!(found.warnings.is_empty() && found.errors.is_empty(), "{found:?}");
    let config = config::assemble(&given).unwrap();
    let presence = config.brokers.presence.as_ref().unwrap();
    assert_eq!((presence.shards.len(), presence.shards[0].login.password.as_str()), (2, "a,b"));
    let Some(BrokerKind::Nats(nats)) = &config.brokers.publications else { panic!("NATS") };
    assert_eq!(nats.url, "nats://u:p@h:1,nats://i:2");
    assert_eq!(nats.raw_mode.as_ref().unwrap().channel_replacements[":"], ".");
    assert!(without_effect(&config).is_empty(), "{:#?}", without_effect(&config));
}

#[test]
fn wrong_settings_of_brokers_name_the_setting_and_the_fix() {
    let engine = |more: &str| format!("engine.type = \"redis\"\nengine.redis.{more}");
    let cluster = |more: &str| engine(&format!("cluster_address = [\"a:1\"]\nengine.redis.{more}"));
    let nats = |more: &str| format!("broker.enabled = true\nbroker.type = \"nats\"\nbroker.nats.{more}");
    for (text, setting, part) in [
        ("engine.type = \"tarantool\"".into(), "engine.type", "write one of \"memory\", \"redis\""),
        ("broker.type = \"kafka\"".into(), "broker.type", "write one of \"memory\", \"redis\", \"nats\""),
        ("broker.enabled = true\nbroker.type = \"postgres\"".into(), "broker.type", "PostgreSQL is not a broker"),
        ("broker.enabled = true\nbroker.type = \"redisnats\"".into(), "broker.type", "Redis and NATS together"),
        ("presence_manager.type = \"nats\"".into(), "presence_manager.type", "\"memory\", \"redis\""),
        (
            "controller.enabled = true\ncontroller.type = \"postgres\"".into(),
            "controller.enabled",
            "broker of publications",
        ),
        (engine("address = []"), "engine.redis.address", "redis://127.0.0.1:6379"),
        (engine("address = [\"a:1\", \"http://b\"]"), "engine.redis.address", "address 2: "),
        (engine("address = [\"a:1\", \"redis://a:1\"]"), "engine.redis.address", "listed twice"),
        (engine("address = \"redis+sentinel://a\""), "engine.redis.sentinel_master_name", "mymaster"),
        (engine("sentinel_address = [\"a:1\"]"), "engine.redis.sentinel_master_name", "mymaster"),
        (
            engine("sentinel_address = [\"a\"]\nengine.redis.sentinel_master_name = \"m\""),
            "engine.redis.sentinel_address",
            "host:port",
        ),
        (engine("cluster_address = [\"a:1,b\"]"), "engine.redis.cluster_address", "host:port"),
        (cluster("db = 3"), "engine.redis.db", "only database 0"),
        (engine("address = \"redis+cluster://a:1/3\""), "engine.redis.address", "only database 0"),
        (cluster("prefix = \"{x}\""), "engine.redis.prefix", "without braces"),
        (engine("prefix = \"a b\""), "engine.redis.prefix", "blank"),
        (engine("presence_ttl = \"60500ms\""), "engine.redis.presence_ttl", "\"60s\""),
        (engine("io_timeout = \"2m\""), "engine.redis.io_timeout", "10ms"),
        (cluster("sharded_pub_sub_partitions = 5000"), "engine.redis.sharded_pub_sub_partitions", "4096"),
        (
            cluster("use_precomputed_partition_tags = true"),
            "engine.redis.use_precomputed_partition_tags",
            "power of two",
        ),
        (cluster("subscribe_on_replica = true"), "engine.redis.subscribe_on_replica", "replica_client.enabled"),
        (
            cluster("replica_client.enabled = true\nengine.redis.presence_read_from_replica = true"),
            "engine.redis.presence_read_from_replica",
            "presence_hash_field_ttl",
        ),
        (nats("url = \"ws://a\""), "broker.nats.url", "nats://10.0.0.1:4222"),
        (nats("prefix = \"a.>\""), "broker.nats.prefix", "subject"),
        (
            nats("raw_mode = { enabled = true, channel_replacements = { \"\" = \"x\" } }"),
            "broker.nats.raw_mode.channel_replacements",
            "empty",
        ),
        (engine("presence_ttl = \"20s\""), "client.presence_update_interval", "presence_ttl, 20s"),
        ("broker.threads = 0".into(), "broker.threads", "write 1"),
        ("broker.queue_bytes_max = 1".into(), "broker.queue_bytes_max", "64KiB"),
        ("broker.subscribe_timeout = \"0s\"".into(), "broker.subscribe_timeout", "5s"),
        ("broker.probe_interval = \"1ms\"".into(), "broker.probe_interval", "30s"),
        ("channel.without_namespace.broker_name = \"b\"".into(), "channel.without_namespace.broker_name", "one broker"),
    ] {
        let error = error(&text);
        assert!(error.contains(&format!(": {setting}: ")) && error.contains(part), "{text}: {error}");
    }
}

#[test]
fn history_beside_nats_is_rejected_with_the_namespace() {
    let nats = "broker.enabled = true\nbroker.type = \"nats\"\n";
    for (options, keys) in [
        ("history_size = 1\nhistory_ttl = \"1s\"", &["history_size"][..]),
        ("force_positioning = true", &["force_positioning"]),
        ("allow_recovery = true\nallow_positioning = true", &["allow_recovery", "allow_positioning"]),
        ("force_recovery_mode = \"cache\"", &["force_recovery_mode"]),
        ("allowed_delta_types = [\"fossil\"]\ndelta_publish = true", &["delta_publish", "allowed_delta_types"]),
    ] {
        let text = format!(
            "{nats}[[channel.namespaces]]\nname = \"plain\"\n[[channel.namespaces]]\nname = \"chat\"\n{options}"
        );
        let errors: Vec<String> = toml(&text).expect_err(options).0.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), keys.len(), "{errors:#?}");
        for key in keys {
            let found = errors.iter().find(|error| error.contains(&format!("channel.namespaces[1].{key}: ")));
            let found = found.unwrap_or_else(|| panic!("{key}: {errors:#?}"));
            assert!(found.contains("namespace \"chat\"") && found.contains("NATS"), "{found}");
        }
    }
    let without = error(&format!("{nats}channel.without_namespace = {{ history_size = 1, history_ttl = \"1s\" }}"));
    assert!(without.contains("channels without a namespace cannot have it"), "{without}");
    // Development mode then has no history, unless the settings ask for one.
    let config = toml(&format!("dev = true\n{nats}")).unwrap();
    let open = &config.channel.without_namespace;
    assert!(open.presence && !open.has_history() && !open.allow_recovery && !open.allow_delta);
    assert!(error(&format!("dev = true\n{nats}channel.without_namespace.allow_recovery = true")).contains("NATS"));
}

#[test]
fn settings_of_unused_brokers_are_reported() {
    for (text, part) in [
        ("engine.redis.prefix = \"x\"", "engine.redis.prefix has no effect: engine.type is not \"redis\""),
        ("broker.type = \"nats\"", "broker.type has no effect: broker.enabled is false"),
        ("broker.redis.db = 1", "broker.redis.db has no effect: broker.enabled is false"),
        ("broker.enabled = true\nbroker.redis.db = 1", "broker.redis.db has no effect: broker.type is not \"redis\""),
        (
            "broker.enabled = true\nbroker.type = \"nats\"\nbroker.nats.raw_mode.prefix = \"x\"",
            "raw_mode.enabled is false",
        ),
        ("broker.publish_locally = true", "broker.publish_locally has no effect: there is no broker"),
        ("presence_manager.type = \"redis\"", "presence_manager.enabled is false"),
        (
            "engine.type = \"redis\"\nengine.redis.sentinel_user = \"u\"",
            "sentinel_user has no effect: no address is one of sentinels",
        ),
        (
            "engine.type = \"redis\"\nengine.redis.address = \"a:1\"\nengine.redis.cluster_address = \"b:1\"",
            "engine.redis.cluster_address overrides it",
        ),
        ("engine.type = \"redis\"\nengine.redis.address = \"redis://a?protocol=3\"", "contains protocol after"),
        ("engine.type = \"redis\"\nengine.redis.tls.server_name = \"x\"", "engine.redis.tls.enabled is false"),
        ("engine.type = \"redis\"\nengine.redis.user = \"x\"", "engine.redis.user has no effect without"),
        ("engine.type = \"redis\"\nengine.redis.sharded_pub_sub_partitions = 64", "only with a Redis Cluster"),
        ("engine.type = \"redis\"\nengine.redis.group_sharded_pub_sub_by_node = true", "has no effect without"),
        ("engine.type = \"redis\"\nengine.redis.tls.client_ca_pem = \"x\"", "no clients to verify"),
        ("map_broker.type = \"redis\"", "there is no map broker"),
        (
            "broker.enabled = true\nbroker.type = \"nats\"\nchannel.without_namespace.presence = true",
            "presence is in memory and the broker is NATS",
        ),
    ] {
        let warnings = toml(text).unwrap_or_else(|errors| panic!("{text}: {errors}")).warnings();
        let found = warnings.iter().filter(|warning| warning.contains(part)).count();
        assert_eq!(found, 1, "{text}: {warnings:#?}");
    }
    let nats = "broker.enabled = true\nbroker.type = \"nats\"\npresence_manager.enabled = true\npresence_manager.type = \"redis\"\n\
                [broker.nats]\nallow_wildcards = true\nraw_mode.enabled = true\n[[channel.namespaces]]\nname = \"chat\"\njoin_leave = true";
    let warnings = toml(nats).unwrap().warnings();
    let of_chat: Vec<_> = warnings.iter().filter(|text| text.starts_with("the namespace \"chat\": ")).collect();
    assert!(of_chat.len() == 2 && of_chat[0].contains("wildcard") && of_chat[1].contains("raw_mode"), "{warnings:#?}");
    // What always applies is accepted in silence.
    let silent = "singleflight.enabled = true\nchannel.without_namespace.shared_position_sync = true\nbroker.postgres.dsn = \"x\"";
    assert!(without_effect(&toml(silent).unwrap()).is_empty());
}

#[test]
fn secrets_of_brokers_are_in_no_message() {
    let file = |password: &str| {
        format!(
            "engine.type = \"redis\"\nbroker.enabled = true\nbroker.type = \"nats\"\nbroker.nats.url = \"nats://u:{password}@a\"\n\
             engine.redis.address = \"redis://:{password}@a:1\"\nengine.redis.password = \"{password}\"\n\
             engine.redis.sentinel_password = \"{password}\""
        )
    };
    let (old, new) = (toml(&file("secret-1")).unwrap(), toml(&file("secret-2")).unwrap());
    let changed = changes(&old, &new);
    assert!(changed.live.is_empty(), "{changed:?}");
    assert_eq!(
        changed.at_start,
        ["engine.redis.address", "engine.redis.password", "engine.redis.sentinel_password", "broker.nats.url"]
    );
    for shown in [format!("{old:?}"), format!("{changed:?}"), old.warnings().join("\n"), format!("{:?}", old.brokers)] {
        assert!(!shown.contains("secret-"), "{shown}");
    }
    for text in [
        "engine.type = \"redis\"\nengine.redis.address = \"redis://:secret/x@a\"",
        "engine.type = \"redis\"\nengine.redis.address = [\"http://secret\"]",
        "broker.enabled = true\nbroker.type = \"nats\"\nbroker.nats.url = \"ws://secret@a\"",
    ] {
        let errors = toml(text).expect_err(text).to_string();
        assert!(!errors.contains("secret"), "{errors}");
    }
}

#[test]
fn files_of_brokers_are_read_at_the_start_and_not_with_the_settings() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = std::env::temp_dir().join(format!("corecast-{}-broker.pem", std::process::id()));
    std::fs::write(&path, made.cert.pem()).unwrap();
    let text = |ca: &str, key: &str| {
        format!(
            "engine.type = \"redis\"\nbroker.enabled = true\nbroker.type = \"nats\"\nengine.redis.tls.enabled = true\n\
             engine.redis.tls.server_ca_pem = \"{ca}\"\nbroker.nats.tls.enabled = true\nbroker.nats.tls.cert_pem = \"{ca}\"\n\
             broker.nats.tls.key_pem = \"{key}\""
        )
    };
    let key = made.signing_key.serialize_pem().replace('\n', "\\\\n");
    let config = toml(&text(path.to_str().unwrap(), &key)).unwrap();
    let brokers = config::open_brokers(&config).unwrap();
    std::fs::remove_file(&path).unwrap();
    let Some(BrokerKind::Nats(nats)) = &brokers.publications else { panic!("NATS") };
    assert_eq!(nats.tls.as_ref().unwrap().cert_pem, made.cert.pem());
    assert_eq!(nats.tls.as_ref().unwrap().key_pem, made.signing_key.serialize_pem());
    assert_eq!(brokers.presence.unwrap().shards[0].tls.as_ref().unwrap().server_ca_pem, made.cert.pem());
    let errors = config::open_brokers(&toml(&text("/none.pem", "secret-key")).unwrap()).unwrap_err();
    assert!(
        errors.contains("engine.redis.tls.server_ca_pem: ") && errors.contains("broker.nats.tls.key_pem: "),
        "{errors}"
    );
    assert!(
        errors.contains("write PEM, PEM in base64, or the path of a file") && !errors.contains("secret"),
        "{errors}"
    );
    let alone = error("engine.type = \"redis\"\nengine.redis.tls = { enabled = true, key_pem = \"x\" }");
    assert!(alone.contains("engine.redis.tls.key_pem: it is set without cert_pem"), "{alone}");
}
