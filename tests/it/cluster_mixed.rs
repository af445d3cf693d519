//! Two Corecast nodes and a real Centrifugo on one Redis: one service, whatever node a client or a backend talks to.

use crate::common::brokers::{Node, RedisKind, RedisServer};
use crate::common::{Client, token, until};
use serde_json::{Value, json};

const SECRET: &str = "a-secret-that-is-long-enough-for-hs256";
const NODES: usize = 3;

struct Mixed {
    /// The last one is Centrifugo.
    nodes: Vec<Node>,
    _redis: RedisServer,
}

impl Mixed {
    fn start() -> Self {
        let redis = RedisServer::start(RedisKind::Redis);
        let config = json!({
            "engine": {"type": "redis", "redis": {"address": redis.address()}},
            "client": {"allowed_origins": ["*"], "token": {"hmac_secret_key": SECRET}},
            "http_api": {},
            "channel": {"without_namespace": {
                "history_size": 100,
                "history_ttl": "300s",
                "force_recovery": true,
                "presence": true,
                "join_leave": true,
                "force_push_join_leave": true,
                "allow_subscribe_for_client": true,
                "allow_publish_for_client": true,
                "allow_presence_for_client": true,
                "allow_history_for_client": true,
            }},
        });
        let nodes = vec![Node::corecast(&config), Node::corecast(&config), Node::centrifugo(&config)];
        let mixed = Self { nodes, _redis: redis };
        mixed.wait_until_complete();
        mixed
    }

    /// Waits until each node knows the others.
    fn wait_until_complete(&self) {
        for node in &self.nodes {
            until(
                || format!("a node does not find the others: {}", node.api("info", &json!({}))),
                || (node.api("info", &json!({}))["nodes"].as_array()?.len() == NODES).then_some(()),
            );
        }
    }

    /// A client of this user at a node.
    fn client(&self, node: usize, user: &str) -> Client {
        let token = token(SECRET, &json!({"sub": user, "info": {"name": user}}));
        self.nodes[node].connect(&json!({"token": token})).0
    }

    /// One client at each node, subscribed, with the subscribe replies. Users are named for their nodes.
    fn subscribers(&self, channel: &str) -> Vec<(Client, Value)> {
        let users = ["ann", "bob", "cem"];
        let subscribe = |(node, user)| {
            let mut client = self.client(node, user);
            let reply = subscribe(&mut client, json!({"channel": channel}));
            (client, reply)
        };
        users.into_iter().enumerate().map(subscribe).collect()
    }
}

/// The result of a subscribe. Pushes before it are skipped: a client's own join may come first.
fn subscribe(client: &mut Client, request: Value) -> Value {
    let id = client.send(json!({"subscribe": request}));
    loop {
        let mut message = client.next();
        if message["id"] == json!(id) {
            assert!(message["subscribe"].is_object(), "{message}");
            return message["subscribe"].take();
        }
    }
}

/// The next publication; skips joins and leaves, and replies to publishes.
fn publication(client: &mut Client) -> Value {
    loop {
        let mut message = client.next();
        if message["push"]["pub"].is_object() {
            return message["push"]["pub"].take();
        }
        let is_other = ["join", "leave"].iter().any(|kind| message["push"][*kind].is_object());
        assert!(is_other || message["publish"].is_object(), "{message}");
    }
}

/// The next push of this kind, such as "join"; skips joins and leaves of others.
fn push(client: &mut Client, kind: &str, user: &str) -> Value {
    loop {
        let mut message = client.next();
        let found = message["push"][kind].take();
        if found.is_object() && found["info"]["user"] == json!(user) {
            return found;
        }
    }
}

#[test]
fn publications_at_either_have_the_same_position_at_all() {
    let mixed = Mixed::start();
    let mut subscribers = mixed.subscribers("news");
    let epoch = subscribers[0].1["epoch"].clone();
    assert!(epoch.is_string());
    for (_, reply) in &subscribers {
        assert_eq!((&reply["epoch"], reply["offset"].as_u64().unwrap_or(0)), (&epoch, 0), "{reply}");
    }
    for (at, node) in mixed.nodes.iter().enumerate() {
        let published = node.api("publish", &json!({"channel": "news", "data": {"at": at}, "tags": {"a": "1"}}));
        assert_eq!((&published["offset"], &published["epoch"]), (&json!(at + 1), &epoch), "{published}");
    }
    for at in 0..NODES {
        let (client, _) = &mut subscribers[at];
        client.send(json!({"publish": {"channel": "news", "data": {"at": at}}}));
        // In any order, since these publishers do not wait for each other.
        for (other, (client, _)) in subscribers.iter_mut().enumerate() {
            if at == 0 {
                let received: Vec<_> = (0..NODES).map(|_| publication(client)).collect();
                let positions: Vec<_> = received.iter().map(|one| (&one["offset"], &one["data"]["at"])).collect();
                let (offsets, ats) = ([json!(1), json!(2), json!(3)], [json!(0), json!(1), json!(2)]);
                assert_eq!(positions, offsets.iter().zip(&ats).collect::<Vec<_>>(), "at node {other}");
                assert!(received.iter().all(|one| one["tags"] == json!({"a": "1"})), "{received:?}");
            }
            let received = publication(client);
            assert_eq!(received["offset"], json!(NODES + at + 1), "at node {other}: {received}");
            assert_eq!(received["data"], json!({"at": at}));
            assert_eq!(received["info"]["user"], json!(["ann", "bob", "cem"][at]), "{received}");
            assert_eq!(received["info"]["conn_info"]["name"], json!(["ann", "bob", "cem"][at]), "{received}");
        }
    }
    let histories: Vec<_> =
        mixed.nodes.iter().map(|node| node.api("history", &json!({"channel": "news", "limit": -1}))).collect();
    for history in &histories {
        let offsets: Vec<_> =
            history["publications"].as_array().expect("a list").iter().map(|one| &one["offset"]).collect();
        assert_eq!(offsets, [&json!(1), &json!(2), &json!(3), &json!(4), &json!(5), &json!(6)], "{history}");
        assert_eq!((&history["offset"], &history["epoch"]), (&json!(6), &epoch));
    }
}

#[test]
fn client_that_moves_to_another_node_recovers() {
    let mixed = Mixed::start();
    let mut position = {
        let mut client = mixed.client(0, "ann");
        let reply = subscribe(&mut client, json!({"channel": "news"}));
        (reply["epoch"].clone(), reply["offset"].as_u64().unwrap_or(0))
    };
    // From Corecast to Centrifugo and back, and to the other Corecast.
    for (move_number, node) in [2, 0, 1, 2, 1].into_iter().enumerate() {
        for publisher in &mixed.nodes {
            publisher.api("publish", &json!({"channel": "news", "data": move_number}));
        }
        let mut client = mixed.client(node, "ann");
        let request = json!({"channel": "news", "recover": true, "epoch": position.0, "offset": position.1});
        let reply = subscribe(&mut client, request);
        assert_eq!(reply["recovered"], json!(true), "node {node}: {reply}");
        let publications = reply["publications"].as_array().expect("what was missed");
        let offsets: Vec<_> = publications.iter().filter_map(|one| one["offset"].as_u64()).collect();
        assert_eq!(offsets, [position.1 + 1, position.1 + 2, position.1 + 3], "node {node}: {reply}");
        assert!(publications.iter().all(|one| one["data"] == json!(move_number)), "{reply}");
        assert_eq!(reply["epoch"], position.0);
        position.1 += 3;
    }
}

#[test]
fn presence_is_one_list_and_joins_and_leaves_cross() {
    let mixed = Mixed::start();
    let mut watchers = mixed.subscribers("room");
    for (node, user) in ["dan", "eve", "fay"].into_iter().enumerate() {
        let mut client = mixed.client(node, user);
        subscribe(&mut client, json!({"channel": "room"}));
        for (watcher, _) in &mut watchers {
            let join = push(watcher, "join", user);
            assert_eq!(join["info"]["conn_info"], json!({"name": user}), "{join}");
        }
        for other in &mixed.nodes {
            let presence = other.api("presence", &json!({"channel": "room"}));
            let mut users: Vec<_> =
                presence["presence"].as_object().expect("a map").values().map(|one| one["user"].clone()).collect();
            users.sort_by_key(Value::to_string);
            assert_eq!(users, ["ann", "bob", "cem", user], "{presence}");
            let stats = other.api("presence_stats", &json!({"channel": "room"}));
            assert_eq!((&stats["num_clients"], &stats["num_users"]), (&json!(4), &json!(4)), "{stats}");
        }
        drop(client);
        for (watcher, _) in &mut watchers {
            push(watcher, "leave", user);
        }
        // The leave is sent before the presence is shorter, or after it.
        for other in &mixed.nodes {
            until(
                || "a client that is gone stays present".into(),
                || (other.api("presence_stats", &json!({"channel": "room"}))["num_clients"] == json!(3)).then_some(()),
            );
        }
    }
}

#[test]
fn disconnect_and_unsubscribe_at_one_act_at_the_others() {
    let mixed = Mixed::start();
    for (caller, node) in [(0, 1), (0, 2), (2, 0), (2, 1)] {
        // A name of its own: what is sent to another node may come after the next client.
        let user = format!("u{caller}{node}");
        let mut client = mixed.client(node, &user);
        subscribe(&mut client, json!({"channel": "news"}));
        mixed.nodes[caller].api("unsubscribe", &json!({"user": user, "channel": "news"}));
        loop {
            let message = client.next();
            if message["push"]["unsubscribe"].is_object() {
                assert_eq!(message["push"]["channel"], json!("news"), "{message}");
                break;
            }
        }
        mixed.nodes[caller].api("disconnect", &json!({"user": user, "disconnect": {"code": 4321, "reason": "off"}}));
        assert_eq!(client.closed(), (4321, "off".to_owned()), "called at {caller}, connected at {node}");
    }
}

#[test]
fn subscribe_and_refresh_at_one_act_at_the_others() {
    let mixed = Mixed::start();
    for (caller, node) in [(0, 1), (0, 2), (2, 0), (2, 1)] {
        let user = format!("u{caller}{node}");
        let mut client = mixed.client(node, &user);
        mixed.nodes[caller].api("subscribe", &json!({"user": user, "channel": "news", "data": {"a": 1}}));
        loop {
            let message = client.next();
            if message["push"]["subscribe"].is_object() {
                assert_eq!(
                    (&message["push"]["channel"], &message["push"]["subscribe"]["data"]),
                    (&json!("news"), &json!({"a": 1}))
                );
                break;
            }
        }
        mixed.nodes[caller].api("publish", &json!({"channel": "news", "data": user}));
        assert_eq!(publication(&mut client)["data"], json!(user));
        mixed.nodes[caller].api("refresh", &json!({"user": user, "expired": true}));
        assert_eq!(client.closed().0, 3005, "called at {caller}, connected at {node}");
    }
}

#[test]
fn info_and_channels_of_each_list_everything() {
    let mixed = Mixed::start();
    let _subscribers = mixed.subscribers("news");
    let mut own = Vec::new();
    for node in 0..NODES {
        let mut client = mixed.client(node, "ann");
        subscribe(&mut client, json!({"channel": format!("of-{node}")}));
        own.push(client);
    }
    for node in &mixed.nodes {
        let channels = node.api("channels", &json!({}));
        let count = |channel: &str| channels["channels"][channel]["num_clients"].clone();
        assert_eq!(count("news"), json!(3), "{channels}");
        assert_eq!(["of-0", "of-1", "of-2"].map(count), [json!(1), json!(1), json!(1)], "{channels}");
        assert_eq!(
            node.api("channels", &json!({"pattern": "of-*"}))["channels"].as_object().map(serde_json::Map::len),
            Some(3)
        );
        // The numbers of the other nodes come with their next announcement.
        until(
            || format!("the nodes do not report their clients: {}", node.api("info", &json!({}))),
            || {
                let info = node.api("info", &json!({}));
                let nodes = info["nodes"].as_array().expect("a list");
                let clients: u64 = nodes.iter().filter_map(|one| one["num_clients"].as_u64()).sum();
                (nodes.len() == NODES && clients == 6).then_some(())
            },
        );
    }
}
