//! Reads of a history or a presence that many clients want at the same time reach Redis as one or two.

use crate::cluster_failures::config;
use crate::common::Client;
use crate::common::brokers::{Node, RedisKind, RedisServer};
use serde_json::{Value, json};

const CLIENTS: u64 = 30;

/// All clients send the command while Redis is stopped. Returns their replies, and how often Redis read for them.
fn ask_at_once(
    (redis, node): (&RedisServer, &Node),
    clients: &mut [Client],
    command: &Value,
    read_by: &str,
) -> (Vec<Value>, u64) {
    let merged = || node.server().metric("corecast_broker_reads_merged_total", "");
    let (before, calls_before) = (merged(), redis.calls(read_by));
    redis.pause();
    clients.iter_mut().for_each(|client| _ = client.send(command.clone()));
    // The first one is at Redis, and another one is to be sent for all the others.
    let wanted = before + CLIENTS - 2;
    node.server().wait_for_metric("corecast_broker_reads_merged_total", "", |count| count == wanted);
    redis.resume();
    let replies = clients.iter_mut().map(Client::next).collect();
    (replies, redis.calls(read_by) - calls_before)
}

#[test]
fn same_reads_of_many_clients_are_two_for_redis() {
    let redis = RedisServer::start(RedisKind::Redis);
    let mut config = config(&redis.address());
    config["engine"]["redis"]["io_timeout"] = json!("60s");
    let namespace = &mut config["channel"]["without_namespace"];
    for permission in ["allow_history_for_subscriber", "allow_presence_for_subscriber"] {
        namespace[permission] = json!(true);
    }
    let node = Node::corecast(&config);
    node.wait_until_publishing("other");
    for number in 1..=3 {
        node.api("publish", &json!({"channel": "news", "data": {"n": number}}));
    }
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| node.connect(&json!({})).0).collect();
    clients.iter_mut().for_each(|client| client.subscribe("news"));
    let servers = (&redis, &node);

    let history = json!({"history": {"channel": "news", "limit": 2}});
    let (replies, reads) = ask_at_once(servers, &mut clients, &history, "xrange");
    assert_eq!(reads, 2);
    for reply in replies {
        let numbers: Vec<_> = reply["history"]["publications"].as_array().into_iter().flatten().collect();
        assert_eq!(numbers.iter().map(|one| &one["data"]["n"]).collect::<Vec<_>>(), [1, 2], "{reply}");
    }

    let presence = json!({"presence": {"channel": "news"}});
    let (replies, reads) = ask_at_once(servers, &mut clients, &presence, "hgetall");
    assert_eq!(reads, 2);
    for reply in replies {
        let members = reply["presence"]["presence"].as_object().map(serde_json::Map::len);
        assert_eq!(members, Some(CLIENTS as usize), "{reply}");
    }

    let stats = json!({"presence_stats": {"channel": "news"}});
    let (replies, reads) = ask_at_once(servers, &mut clients, &stats, "hgetall");
    assert_eq!(reads, 2);
    assert!(replies.iter().all(|reply| reply["presence_stats"]["num_clients"] == json!(CLIENTS)), "{replies:?}");
}

#[test]
fn read_that_was_asked_for_after_a_publication_has_it() {
    let redis = RedisServer::start(RedisKind::Redis);
    let mut config = config(&redis.address());
    config["channel"]["without_namespace"]["allow_history_for_subscriber"] = json!(true);
    let nodes = [Node::corecast(&config), Node::corecast(&config)];
    nodes.iter().for_each(|node| node.wait_until_publishing("other"));
    let mut reader = nodes[0].connect(&json!({})).0;
    let mut busy: Vec<Client> = (0..5).map(|_| nodes[0].connect(&json!({})).0).collect();
    busy.iter_mut().chain([&mut reader]).for_each(|client| client.subscribe("busy"));
    let history = json!({"history": {"channel": "busy", "limit": -1}});
    for number in 1..=50 {
        // Reads are under way while the other node publishes.
        busy.iter_mut().for_each(|client| _ = client.send(history.clone()));
        nodes[1].api("publish", &json!({"channel": "busy", "data": {"n": number}}));
        reader.send(history.clone());
        let read = std::iter::repeat_with(|| reader.next()).find(|message| message["history"].is_object());
        let publications = read.expect("it never ends")["history"]["publications"].as_array().map(Vec::len);
        assert_eq!(publications, Some(number), "the reply is older than the command");
        for client in &mut busy {
            while !client.next()["history"].is_object() {}
        }
    }
}
