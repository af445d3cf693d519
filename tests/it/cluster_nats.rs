//! Two Corecast nodes and a Centrifugo on one NATS: at most once, without a history.

use crate::common::brokers::{NatsServer, Node};
use crate::common::tls::Authority;
use crate::common::{Client, until};
use serde_json::{Value, json};

fn config(nats: &NatsServer) -> Value {
    json!({
        "broker": {"enabled": true, "type": "nats", "nats": {"url": nats.url()}},
        "client": {"allowed_origins": ["*"], "insecure": true},
        "http_api": {},
        "channel": {"without_namespace": {"join_leave": true, "force_push_join_leave": true}},
    })
}

fn clients(nodes: &[Node], channel: &str) -> Vec<Client> {
    let subscribed = |node: &Node| {
        let (mut client, _) = node.connect(&json!({}));
        client.send(json!({"subscribe": {"channel": channel}}));
        while !client.next()["subscribe"].is_object() {}
        client
    };
    nodes.iter().map(subscribed).collect()
}

/// The data of the next publication; skips joins and leaves.
fn publication(client: &mut Client) -> Value {
    loop {
        let mut message = client.next();
        if message["push"]["pub"].is_object() {
            return message["push"]["pub"].take();
        }
    }
}

/// Waits until each node is connected to NATS: it delivers nothing that was published before.
fn wait_until_connected(nodes: &[Node]) {
    for node in nodes {
        node.server().wait_for_metric("corecast_broker_connection_state", "state=\"up\"", |up| up == 1);
    }
}

#[test]
fn publications_joins_and_commands_cross_on_nats() {
    let nats = NatsServer::start();
    let config = config(&nats);
    let nodes = [Node::corecast(&config), Node::corecast(&config), Node::centrifugo(&config)];
    for node in &nodes {
        until(
            || format!("a node does not find the others: {}", node.api("info", &json!({}))),
            || (node.api("info", &json!({}))["nodes"].as_array()?.len() == nodes.len()).then_some(()),
        );
    }
    let mut clients = clients(&nodes, "news");
    // The last one to come is seen by the others.
    for client in &mut clients[..2] {
        while !client.next()["push"]["join"].is_object() {}
    }
    for (at, node) in nodes.iter().enumerate() {
        node.api("publish", &json!({"channel": "news", "data": {"at": at}, "tags": {"a": "1"}}));
        for client in &mut clients {
            let received = publication(client);
            assert_eq!((&received["data"], &received["tags"]), (&json!({"at": at}), &json!({"a": "1"})), "{received}");
            assert!(received["offset"].is_null(), "{received}");
        }
    }
    assert_eq!(nodes[0].api("channels", &json!({}))["channels"]["news"]["num_clients"], json!(3));
    assert_eq!(nodes[0].call("history", &json!({"channel": "news"}))["error"]["code"], json!(108));
    for name in ["a*", "a>", "a b", ".a"] {
        assert_eq!(
            nodes[0].call("publish", &json!({"channel": name, "data": 1}))["error"]["code"],
            json!(107),
            "{name}"
        );
        let (mut client, _) = nodes[0].connect(&json!({}));
        assert_eq!(client.refused(json!({"subscribe": {"channel": name}})), 107, "{name}");
    }
}

#[test]
fn nats_that_is_killed_refuses_publications_and_closes_no_client() {
    let mut nats = NatsServer::start();
    let config = config(&nats);
    let nodes = [Node::corecast(&config), Node::corecast(&config)];
    wait_until_connected(&nodes);
    let mut clients = clients(&nodes, "news");
    nats.kill();
    until(
        || "publications are accepted without a broker".into(),
        || nodes[0].call("publish", &json!({"channel": "news", "data": 1}))["error"].is_object().then_some(()),
    );
    nats.start_again();
    // Until a publication arrives at both: nothing is kept meanwhile, and nothing comes late.
    let mut number = 1;
    until(
        || "publications stay refused".into(),
        || {
            number += 1;
            nodes[0].call("publish", &json!({"channel": "news", "data": number}))["result"].is_object().then_some(())
        },
    );
    wait_until_connected(&nodes);
    nodes[1].api("publish", &json!({"channel": "news", "data": "last"}));
    for client in &mut clients {
        while publication(client)["data"] != json!("last") {}
    }
}

#[test]
fn nats_that_is_stopped_is_an_outage_that_ends() {
    let nats = NatsServer::start();
    let config = config(&nats);
    let nodes = [Node::corecast(&config), Node::corecast(&config)];
    wait_until_connected(&nodes);
    let mut clients = clients(&nodes, "news");
    nats.pause();
    until(
        || "publications are accepted by a broker that is stopped".into(),
        || nodes[0].call("publish", &json!({"channel": "news", "data": 1}))["error"].is_object().then_some(()),
    );
    until(
        || "a node stays ready".into(),
        || (nodes[0].server().http("GET", "/health/ready", &[], "").0 == 503).then_some(()),
    );
    nats.resume();
    wait_until_connected(&nodes);
    nodes[1].api("publish", &json!({"channel": "news", "data": "last"}));
    for client in &mut clients {
        while publication(client)["data"] != json!("last") {}
    }
}

#[test]
fn nats_is_reached_over_tls_with_a_login() {
    let authority = Authority::new("nats");
    let (certificate, key) = authority.pair(&["localhost"]);
    let (certificate, key) = (authority.file("nats.pem", &certificate), authority.file("nats.key", &key));
    let login = ["--user", "ann", "--pass", "p@ss"];
    let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
    let nats = NatsServer::start_with(&[&login[..], &tls[..]].concat());
    let mut config = config(&nats);
    config["broker"]["nats"] = json!({
        "url": format!("nats://ann:p%40ss@localhost:{}", nats.port),
        "tls": {"enabled": true, "server_ca_pem": authority.own()},
    });
    let nodes = [Node::corecast(&config), Node::corecast(&config)];
    wait_until_connected(&nodes);
    let mut clients = clients(&nodes, "news");
    nodes[0].api("publish", &json!({"channel": "news", "data": "over TLS"}));
    for client in &mut clients {
        assert_eq!(publication(client)["data"], json!("over TLS"));
    }
    for node in &nodes {
        assert!(!node.log().contains("p@ss") && !node.log().contains("p%40ss"), "the login is not logged");
    }
}

#[test]
fn pattern_of_channels_brings_the_channel_of_each_publication() {
    let nats = NatsServer::start();
    let mut config = config(&nats);
    config["broker"]["nats"]["allow_wildcards"] = json!(true);
    config["channel"] = json!({});
    let nodes = [Node::corecast(&config), Node::centrifugo(&config)];
    wait_until_connected(&nodes[..1]);
    let mut clients = clients(&nodes, "news.*");
    for (node, channel) in nodes.iter().zip(["news.a", "news.b"]) {
        node.api("publish", &json!({"channel": channel, "data": 1}));
        for client in &mut clients {
            let mut message = client.next();
            assert_eq!(message["push"]["channel"], json!("news.*"));
            assert_eq!(message["push"]["pub"].take()["channel"], json!(channel));
        }
    }
}

#[test]
fn namespace_with_a_history_is_refused_at_start() {
    let nats = NatsServer::start();
    let mut config = config(&nats);
    config["channel"]["namespaces"] = json!([{"name": "kept", "history_size": 1, "history_ttl": "10s"}]);
    let file = std::env::temp_dir().join(format!("corecast-{}-nats-history.json", std::process::id()));
    std::fs::write(&file, config.to_string()).expect("the folder takes files");
    let checked =
        std::process::Command::new(env!("CARGO_BIN_EXE_corecast")).arg("check-config").arg(&file).env_clear().output();
    let _ = std::fs::remove_file(&file);
    let checked = checked.expect("the program runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(!checked.status.success() && said.contains("kept"), "{said}");
}
