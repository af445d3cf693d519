//! Histories of durable namespaces: what survives the process, and what clients and the server API get of it afterwards.

use crate::common::log_dir::LogDir;
use crate::common::{Client, Server, command, until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn start(dir: &LogDir, durability: &str) -> Server {
    start_with(dir, durability, &[])
}

fn start_with(dir: &LogDir, durability: &str, settings: &[(&str, &str)]) -> Server {
    let dirs = dir.dirs();
    let own = [
        ("durable.enabled", "true"),
        ("durable.data_dirs", &*dirs),
        ("channel.without_namespace.durability", durability),
        ("channel.without_namespace.history_size", "100"),
        ("channel.without_namespace.history_ttl", "300s"),
        ("channel.without_namespace.force_recovery", "true"),
        ("shutdown.window", "100ms"),
    ];
    Server::with(&[&own, settings].concat())
}

/// How a server ends.
const ENDS: [Signal; 2] = [Signal::TERM, Signal::KILL];

fn end(mut server: Server, how: Signal) {
    server.signal(how);
    server.wait_for_exit();
}

fn publish(server: &Server, fields: &Value) -> Value {
    let mut body = json!({"channel": "news", "data": {"n": 0}});
    fields.as_object().into_iter().flatten().for_each(|(name, value)| body[name] = value.clone());
    let mut reply = server.api("publish", &body);
    assert!(reply["result"].is_object(), "{reply}");
    reply["result"].take()
}

fn history(server: &Server, channel: &str) -> Value {
    let mut reply = server.api("history", &json!({"channel": channel, "limit": -1}));
    assert!(reply["result"].is_object(), "{reply}");
    reply["result"].take()
}

fn numbers(publications: &Value) -> Vec<u64> {
    let all = publications.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|one| one["data"]["n"].as_u64().expect("a number")).collect()
}

#[test]
fn history_position_and_known_publications_survive_the_process() {
    for durability in ["process", "strict"] {
        for how in ENDS {
            let dir = LogDir::new("durable");
            let server = start(&dir, durability);
            for n in 1..=3 {
                assert_eq!(publish(&server, &json!({"data": {"n": n}}))["offset"], n);
            }
            let keyed = publish(&server, &json!({"data": {"n": 4}, "idempotency_key": "k"}));
            publish(&server, &json!({"data": {"n": 5}, "version": 7, "version_epoch": "v"}));
            let before = history(&server, "news");
            end(server, how);
            let server = start(&dir, durability);
            assert_eq!(history(&server, "news"), before, "{durability} {how:?}");
            assert_eq!(numbers(&before["publications"]), [1, 2, 3, 4, 5]);
            assert_eq!(publish(&server, &json!({"idempotency_key": "k"})), keyed, "the key is known");
            publish(&server, &json!({"version": 7, "version_epoch": "v"}));
            assert_eq!(history(&server, "news"), before, "the version is known");
            assert_eq!(publish(&server, &json!({"data": {"n": 6}}))["offset"], 6);
            assert_eq!(server.http("GET", "/health", &[], "").0, 200);
        }
    }
}

#[test]
fn client_recovers_what_was_published_before_and_after_a_restart() {
    for durability in ["process", "strict"] {
        for how in ENDS {
            let dir = LogDir::new("durable");
            let server = start(&dir, durability);
            let mut client = Client::connect(&server);
            let subscribed = client.ask(json!({"subscribe": {"channel": "news", "recover": true}}));
            let epoch = subscribed["subscribe"]["epoch"].clone();
            publish(&server, &json!({"data": {"n": 1}}));
            assert_eq!(client.next()["push"]["pub"]["offset"], 1);
            drop(client);
            publish(&server, &json!({"data": {"n": 2}}));
            end(server, how);
            let server = start(&dir, durability);
            publish(&server, &json!({"data": {"n": 3}}));
            let mut client = Client::connect(&server);
            let back = json!({"subscribe": {"channel": "news", "recover": true, "epoch": epoch, "offset": 1}});
            let reply = &client.ask(back)["subscribe"];
            assert_eq!(reply["recovered"], true, "{durability} {how:?}: {reply}");
            assert_eq!(reply["epoch"], epoch);
            assert_eq!(numbers(&reply["publications"]), [2, 3]);
            publish(&server, &json!({"data": {"n": 4}}));
            assert_eq!(client.next()["push"]["pub"]["data"]["n"], 4, "the stream goes on");
        }
    }
}

#[test]
fn removed_and_expired_histories_do_not_come_back() {
    let dir = LogDir::new("durable");
    let short = [("channel.without_namespace.history_size", "2"), ("channel.without_namespace.history_ttl", "2s")];
    let server = start_with(&dir, "process", &short);
    for n in 1..=3 {
        publish(&server, &json!({"data": {"n": n}}));
        publish(&server, &json!({"channel": "removed", "data": {"n": n}}));
    }
    assert_eq!(numbers(&history(&server, "news")["publications"]), [2, 3], "the newest ones");
    assert!(server.api("history_remove", &json!({"channel": "removed"}))["result"].is_object());
    let removed = history(&server, "removed");
    assert_eq!((numbers(&removed["publications"]), &removed["offset"]), (vec![], &json!(3)));
    end(server, Signal::KILL);
    let server = start_with(&dir, "process", &short);
    assert_eq!(history(&server, "removed"), removed);
    let expired = until(
        || "the history does not expire".into(),
        || Some(history(&server, "news")).filter(|found| numbers(&found["publications"]).is_empty()),
    );
    assert_eq!(expired["offset"], 3, "the position stays");
    end(server, Signal::TERM);
    let server = start_with(&dir, "process", &short);
    assert_eq!(history(&server, "news"), expired);
}

#[test]
fn client_whose_part_was_removed_is_told_so() {
    let dir = LogDir::new("durable");
    let server = start(&dir, "process");
    for n in 1..=3 {
        publish(&server, &json!({"data": {"n": n}}));
    }
    let epoch = history(&server, "news")["epoch"].clone();
    server.api("history_remove", &json!({"channel": "news"}));
    publish(&server, &json!({"data": {"n": 4}}));
    let recover = |server: &Server, offset: u64| {
        let back = json!({"subscribe": {"channel": "news", "recover": true, "epoch": epoch, "offset": offset}});
        Client::connect(server).ask(back)["subscribe"].take()
    };
    let check = |server: &Server| {
        let early = recover(server, 1);
        assert_eq!((&early["recovered"], &early["offset"]), (&Value::Null, &json!(4)), "{early}");
        let late = recover(server, 3);
        assert_eq!((&late["recovered"], numbers(&late["publications"])), (&json!(true), vec![4]), "{late}");
        let ahead = recover(server, 9);
        assert_eq!(ahead["recovered"], Value::Null, "{ahead}");
    };
    check(&server);
    end(server, Signal::KILL);
    check(&start(&dir, "process"));
}

#[test]
fn memory_namespace_beside_a_durable_one_is_as_before() {
    let dir = LogDir::new("durable");
    let namespaces = r#"[{"name": "kept", "durability": "strict", "history_size": 10, "history_ttl": "300s"}]"#;
    let settings = [("channel.namespaces", namespaces)];
    let server = start_with(&dir, "memory", &settings);
    let mut client = Client::connect(&server);
    client.subscribe("news");
    for channel in ["news", "kept:a"] {
        publish(&server, &json!({"channel": channel, "data": {"n": 1}}));
    }
    assert_eq!(client.next()["push"]["pub"]["data"]["n"], 1);
    let (memory, kept) = (history(&server, "news"), history(&server, "kept:a"));
    assert_eq!((numbers(&memory["publications"]), numbers(&kept["publications"])), (vec![1], vec![1]));
    server.wait_for_metric("corecast_durable_channels", "", |channels| channels == 1);
    end(server, Signal::TERM);
    let server = start_with(&dir, "memory", &settings);
    assert_eq!(history(&server, "kept:a"), kept);
    let memory_after = history(&server, "news");
    assert!(numbers(&memory_after["publications"]).is_empty());
    assert_ne!(memory_after["epoch"], memory["epoch"]);
}

#[test]
fn directory_of_a_running_server_is_refused_with_its_process() {
    let dir = LogDir::new("durable");
    let server = start(&dir, "process");
    let mut second = command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    second.env("CORECAST_DURABLE_ENABLED", "true").env("CORECAST_DURABLE_DATA_DIRS", dir.dirs());
    let output = second.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("durable.data_dirs") && text.contains("has the directory locked"), "{text}");
    assert!(text.contains("--takeover"), "it names the way: {text}");
    publish(&server, &json!({}));
}

#[test]
fn contradicting_settings_of_the_log_are_rejected() {
    let broker = [("engine.type", "redis"), ("durable.enabled", "true"), ("durable.data_dirs", "[\"/nowhere\"]")];
    let process = ("channel.without_namespace.durability", "process");
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[process], "durable.enabled is false"),
        (&[broker[0], broker[1], broker[2], process], "an outside broker keeps the publications"),
        (&[("durable.enabled", "true")], "durable.data_dirs"),
        (&[("channel.without_namespace.history_index_user", "true")], "its durability is memory"),
        (&[broker[1], broker[2], process, ("channel.without_namespace.history_size", "0")], "it keeps no history"),
    ];
    for (settings, why) in cases {
        let mut command = command(&["--listen", "127.0.0.1:0"]);
        for (name, value) in settings {
            command.env(format!("CORECAST_{}", name.to_uppercase().replace('.', "_")), value);
        }
        let output = command.output().expect("the program runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(why), "{settings:?}: {text}");
    }
}

#[test]
fn publications_and_deltas_of_clients_pass_through_the_log() {
    let dir = LogDir::new("durable");
    let server = start(&dir, "strict");
    let [mut publisher, mut subscriber] = Client::pair(&server);
    let subscribed = subscriber.ask(json!({"subscribe": {"channel": "news", "delta": "fossil"}}));
    assert!(subscribed["subscribe"].is_object(), "{subscribed}");
    let text = |n: u32| json!({"n": n, "text": "a long text that stays the same in every publication of this channel"});
    for n in 1..=3 {
        let reply = publisher.ask(json!({"publish": {"channel": "news", "data": text(n)}}));
        assert!(reply["publish"].is_object(), "{reply}");
        let push = subscriber.next();
        assert_eq!(push["push"]["pub"]["offset"], n, "{push}");
    }
    let asked = publisher.ask(json!({"history": {"channel": "news", "limit": 2, "reverse": true}}));
    assert_eq!(numbers(&asked["history"]["publications"]), [3, 2]);
    assert!(server.metric("corecast_durable_sync_seconds_count", "") >= 3);
    let cached = [("channel.without_namespace.force_recovery_mode", "cache")];
    end(server, Signal::KILL);
    let server = start_with(&dir, "strict", &cached);
    let latest = Client::connect(&server).ask(json!({"subscribe": {"channel": "news", "recover": true}}));
    assert_eq!(numbers(&latest["subscribe"]["publications"]), [3], "{latest}");
}

#[test]
fn server_with_a_log_is_ready_and_says_what_it_has() {
    let dir = LogDir::new("durable");
    let server = start(&dir, "process");
    publish(&server, &json!({}));
    assert_eq!(server.metric("corecast_durable_state", "state=\"open\""), 1);
    assert_eq!(server.metric("corecast_durable_batch_publications_count", ""), 1);
    let (status, body) = server.http("GET", "/health/ready", &[], "");
    assert_eq!(status, 200, "{body}");
    end(server, Signal::TERM);
    let server = start(&dir, "process");
    let opened = server.wait_for_log("durable log ");
    assert!(opened.contains("open with 1 channels in") && opened.contains("it was closed"), "{opened}");
}
