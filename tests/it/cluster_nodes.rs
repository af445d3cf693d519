//! Nodes that stop, die, come and go, or are replaced: what the others answer meanwhile, and whom a user's connections belong to.

use crate::common::brokers::{Node, RedisKind, RedisServer};
use crate::common::{Client, SocketPath, token, until};
use rustix::process::Signal;
use serde_json::{Value, json};

const SECRET: &str = "a-secret-that-is-long-enough-for-hs256";

fn config(redis: &RedisServer) -> Value {
    json!({
        "engine": {"type": "redis", "redis": {"address": redis.address()}},
        "client": {
            "allowed_origins": ["*"],
            "token": {"hmac_secret_key": SECRET},
            "subscribe_to_user_personal_channel": {"enabled": true, "single_connection": true},
        },
        "http_api": {},
        "channel": {"without_namespace": {"presence": true}},
    })
}

fn connect(node: &Node, user: &str) -> Client {
    node.connect(&json!({"token": token(SECRET, &json!({"sub": user}))})).0
}

/// Waits until each node lists so many.
fn wait_until_complete(nodes: &[&Node], count: usize) {
    for node in nodes {
        let listed = || node.api("info", &json!({}))["nodes"].as_array().map_or(0, Vec::len);
        until(|| format!("a node lists {} nodes and not {count}", listed()), || (listed() == count).then_some(()));
    }
}

/// The personal channels that a node reports, sorted.
fn channels(node: &Node) -> Vec<String> {
    let channels = node.api("channels", &json!({"pattern": "#*"}))["channels"].take();
    let mut names: Vec<_> = channels.as_object().expect("a map").keys().cloned().collect();
    names.sort();
    names
}

#[test]
fn channels_does_not_wait_for_a_node_that_is_stopped() {
    let redis = RedisServer::start(RedisKind::Redis);
    let config = config(&redis);
    let [one, other, stopped] = std::array::from_fn(|_| Node::corecast(&config));
    wait_until_complete(&[&one, &other, &stopped], 3);
    let _clients = [("ann", &one), ("bob", &other), ("cem", &stopped)].map(|(user, node)| connect(node, user));
    assert_eq!(channels(&one), ["#ann", "#bob", "#cem"]);
    stopped.signal(Signal::STOP);
    assert_eq!(channels(&one), ["#ann", "#bob"]);
    assert_eq!(one.server().metric("corecast_cluster_surveys_total", "partial"), 1);
    one.server().wait_for_log("the answer to `channels` is partial");
    one.server().wait_for_metric("corecast_cluster_nodes", "lost", |count| count == 1);
    assert_eq!(channels(&one), ["#ann", "#bob"], "it is not asked any more");
    assert_eq!(one.server().metric("corecast_cluster_surveys_total", "partial"), 1);
    wait_until_complete(&[&one], 2);
    stopped.signal(Signal::CONT);
    one.server().wait_for_metric("corecast_cluster_nodes", "running", |count| count == 3);
    wait_until_complete(&[&one, &other, &stopped], 3);
    assert_eq!(channels(&one), ["#ann", "#bob", "#cem"]);
    one.server().wait_for_log("is back after");
}

#[test]
fn nodes_that_die_and_are_replaced_fail_no_call() {
    let redis = RedisServer::start(RedisKind::Redis);
    let config = config(&redis);
    let stable = [Node::corecast(&config), Node::centrifugo(&config)];
    let _clients = [connect(&stable[0], "ann"), connect(&stable[1], "bob")];
    for round in 0..3 {
        let node = Node::corecast(&config);
        // Dead ones may be listed still.
        until(
            || "the new node does not know the others".into(),
            || (node.api("info", &json!({}))["nodes"].as_array()?.len() >= 3).then_some(()),
        );
        let _client = connect(&node, "cem");
        assert_eq!(channels(&node), ["#ann", "#bob", "#cem"], "round {round}");
        node.kill();
        assert_eq!(channels(&stable[0]), ["#ann", "#bob"], "round {round}");
    }
    let server = stable[0].server();
    server.wait_for_metric("corecast_cluster_nodes", "lost", |count| count == 3);
    server.wait_for_metric("corecast_cluster_nodes", "running", |count| count == 2);
    assert_eq!(server.metric("corecast_cluster_surveys_total", "failed"), 0);
    assert_eq!(server.metric("corecast_cluster_messages_dropped_total", ""), 0);
}

#[test]
fn node_that_ends_in_order_is_gone_at_once() {
    let redis = RedisServer::start(RedisKind::Redis);
    let config = config(&redis);
    let (one, mut leaving) = (Node::corecast(&config), Node::corecast(&config));
    wait_until_complete(&[&one, &leaving], 2);
    leaving.signal(Signal::TERM);
    leaving.wait_for_exit();
    one.server().wait_for_log("has left; 0 other servers");
    wait_until_complete(&[&one], 1);
    assert_eq!(one.server().metric("corecast_cluster_nodes_lost_total", ""), 0);
}

#[test]
fn user_with_a_single_connection_has_one_in_the_whole_cluster() {
    let redis = RedisServer::start(RedisKind::Redis);
    let config = config(&redis);
    let nodes = [Node::corecast(&config), Node::corecast(&config), Node::centrifugo(&config)];
    wait_until_complete(&nodes.each_ref(), 3);
    // Presence, which decides, is written after the connect reply.
    let wait_until_present = || {
        let count = || nodes[0].api("presence_stats", &json!({"channel": "#ann"}))["num_clients"].clone();
        until(|| format!("{} connections are present", count()), || (count() == json!(1)).then_some(()));
    };
    let mut last = connect(&nodes[0], "ann");
    for node in [1, 2, 0, 2, 1, 0] {
        wait_until_present();
        let next = connect(&nodes[node], "ann");
        assert_eq!(last.closed(), (3504, "connection limit".to_owned()), "another connects at {node}");
        last = next;
    }
    wait_until_present();
    assert_eq!(last.ask(json!({"presence_stats": {"channel": "#ann"}}))["error"]["code"], json!(103), "it is open");
}

#[test]
fn calls_reach_clients_of_both_processes_of_a_takeover() {
    let redis = RedisServer::start(RedisKind::Redis);
    let config = config(&redis);
    let socket = SocketPath::new("cluster");
    // The closes are spread so far that the old process serves long enough for this test.
    let handover = [("handover.socket", socket.text()), ("handover.trial_time", "0s")];
    let slow = [&handover[..], &[("shutdown.timeout", "1h"), ("shutdown.window", "50m")]].concat();
    let old = Node::corecast_with(&config, &slow);
    old.server().wait_for_log("handover: a new process can take over at ");
    let other = Node::corecast(&config);
    wait_until_complete(&[&old, &other], 2);
    let mut clients: Vec<_> = ["ann", "bob", "cem", "dan"].map(|user| connect(&old, user)).into();
    let new = old.take_over(&config, &handover);
    old.server().wait_for_log("shutting down: no new clients");
    other.server().wait_for_log("has left");
    for (node, user, client) in [(&new, "ann", 0), (&other, "bob", 1)] {
        let disconnect = json!({"user": user, "disconnect": {"code": 4321, "reason": "off"}});
        node.api("disconnect", &disconnect);
        // The drain may have closed it first.
        let closed = clients[client].closed().0;
        assert!(closed == 4321 || closed == 3001, "{closed}");
    }
    wait_until_complete(&[&new, &other], 2);
}
