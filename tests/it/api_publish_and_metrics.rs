//! The server API and the metrics of a whole server: publications of backends reach clients, and the counters are
//! correct.

use crate::common::{Client, KEY, PLAIN, Raw, Server, TEXT, frame};
use serde_json::{Value, json};

#[test]
fn publication_over_http_reaches_subscribers_on_both_shards() {
    let server = Server::start();
    let mut clients = Client::pair(&server);
    for channel in (0..8).map(|i| format!("news-{i}")) {
        clients.iter_mut().for_each(|client| client.subscribe(&channel));
        let data = json!({"headline": "ünïcode", "n": 1.5});
        let answer = server.api("publish", &json!({"channel": channel, "data": data}));
        let (offset, epoch) = (&answer["result"]["offset"], &answer["result"]["epoch"]);
        assert!(*offset == json!(1) && epoch.is_string(), "{answer}");
        let publication = json!({"data": data, "offset": offset, "epoch": epoch});
        for client in &mut clients {
            let push = client.next();
            assert_eq!(push["push"], json!({"channel": channel, "pub": publication}), "no client published it");
        }
        // The first publication creates the epoch.
        server.api("publish", &json!({"channel": channel, "data": 2}));
        for client in &mut clients {
            assert_eq!(client.next()["push"], json!({"channel": channel, "pub": {"data": 2, "offset": 2}}));
        }
    }
}

#[test]
fn publication_of_a_channel_without_history_has_no_offset() {
    let server = Server::with(&PLAIN);
    let mut clients = Client::pair(&server);
    clients.iter_mut().for_each(|client| client.subscribe("plain"));
    let answer = server.api("publish", &json!({"channel": "plain", "data": {"n": 1}}));
    assert_eq!(answer, json!({"result": {}}));
    for client in &mut clients {
        assert_eq!(client.next()["push"], json!({"channel": "plain", "pub": {"data": {"n": 1}}}));
    }
}

#[test]
fn broadcast_reaches_the_subscribers_of_every_channel() {
    let server = Server::start();
    let mut clients = Client::pair(&server);
    let channels: Vec<String> = (0..10).map(|i| format!("cast-{i}")).collect();
    for (i, channel) in channels.iter().enumerate() {
        clients[i % 2].subscribe(channel);
    }
    let answer = server.api("broadcast", &json!({"channels": channels, "data": "all"}));
    let responses = answer["result"]["responses"].as_array().expect("a response for each");
    assert!(responses.len() == 10 && responses.iter().all(|one| one["result"].is_object()), "{answer}");
    for (shard, client) in clients.iter_mut().enumerate() {
        let mut received: Vec<String> = (0..5).map(|_| client.publication().0).collect();
        received.sort();
        let expected: Vec<_> = channels.iter().skip(shard).step_by(2).cloned().collect();
        assert_eq!(received, expected);
    }
}

#[test]
fn calls_without_the_right_key_get_401_and_have_no_effect() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.subscribe("guarded");
    let body = r#"{"channel":"guarded","data":"forged"}"#;
    for headers in [&[][..], &[("X-API-Key", "wrong")], &[("Authorization", "apikey wrong")]] {
        assert_eq!(server.http("POST", "/api/publish", headers, body).0, 401);
    }
    let header = format!("apikey {KEY}");
    let right =
        server.http("POST", "/api/publish", &[("Authorization", &header)], r#"{"channel":"guarded","data":"true"}"#);
    assert_eq!(right.0, 200);
    assert_eq!(client.publication().1, json!("true"));
}

#[test]
fn publications_arrive_in_the_order_of_the_calls() {
    let server = Server::start();
    let mut clients = Client::pair(&server);
    clients.iter_mut().for_each(|client| client.subscribe("ordered"));
    (0..100).for_each(|i| _ = server.api("publish", &json!({"channel": "ordered", "data": i})));
    for client in &mut clients {
        (0..100).for_each(|i| assert_eq!(client.publication().1, json!(i)));
    }
}

#[test]
fn batches_wait_for_a_busy_shard_and_are_not_rejected() {
    let server = Server::start();
    // One channel has one home shard, and all publications together exceed its mailbox.
    let command = json!({"publish": {"channel": "busy", "data": "x"}});
    let body = json!({"commands": vec![command; 200], "parallel": true});
    std::thread::scope(|scope| {
        let backends: Vec<_> = (0..16).map(|_| scope.spawn(|| server.api("batch", &body))).collect();
        for backend in backends {
            let answer = backend.join().expect("a backend");
            let replies = answer["replies"].as_array().expect("replies");
            assert!(replies.len() == 200 && replies.iter().all(|reply| reply["publish"].is_object()), "{answer}");
        }
    });
    assert_eq!(server.metric("corecast_publications_total", ""), 16 * 200);
}

#[test]
fn epoll_registers_each_socket_once() {
    let server = Server::start();
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        client.subscribe("busy");
        client.ask(json!({"publish": {"channel": "elsewhere", "data": 1}}));
    }
    server.api("publish", &json!({"channel": "busy", "data": 1}));
    clients.iter_mut().for_each(|client| _ = client.publication());
    drop(clients);
    server.wait_for_metric("corecast_connections", "", |n| n == 0);
    let accepted = server.metric("corecast_connections_accepted_total", "");
    assert_eq!(accepted, 20);
    // Each of the two shards has one listener and one waker.
    assert_eq!(server.metric("corecast_epoll_ctl_total", ""), accepted + 2 + 2);
    assert!(
        server.metric("corecast_mailbox_wakes_total", "") <= server.metric("corecast_epoll_waits_total", "blocking")
    );
}

#[test]
fn replies_to_messages_of_one_read_are_sent_in_one_write() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    let before = server.metric("corecast_socket_writes_total", "");
    let burst: Vec<u8> = (0..200).flat_map(|_| frame(TEXT, b"sixteen bytes...")).collect();
    raw.send(&burst);
    (0..200).for_each(|_| assert_eq!(raw.frame().payload, b"sixteen bytes..."));
    // One segment on the loopback interface, so one read, unless the kernel splits it.
    let writes = server.metric("corecast_socket_writes_total", "") - before;
    assert!((1..=4).contains(&writes), "{writes} writes for one burst");
}

#[test]
fn publications_of_one_turn_reach_each_subscriber_in_one_write() {
    let server = Server::start();
    let mut subscribers: Vec<_> = (0..10).map(|_| Client::connect(&server)).collect();
    subscribers.iter_mut().for_each(|client| client.subscribe("burst"));
    let mut publisher = Client::connect(&server);
    let (writes, deliveries) = ("corecast_socket_writes_total", "corecast_deliveries_total");
    let before = (server.metric(writes, ""), server.metric(deliveries, ""));
    let batch: Vec<Value> =
        (0..50).map(|i| json!({"id": 100 + i, "publish": {"channel": "burst", "data": i}})).collect();
    publisher.send_text(batch.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
    for client in &mut subscribers {
        (0..50).for_each(|i| assert_eq!(client.publication().1, json!(i)));
    }
    (0..50).for_each(|_| assert!(publisher.next()["publish"].is_object()));
    assert_eq!(server.metric(deliveries, "") - before.1, 500);
    let written = server.metric(writes, "") - before.0;
    assert!(written <= 500 / 6, "{written} writes for 500 deliveries and 50 replies");
}

#[test]
fn metrics_and_statistics_follow_connections() {
    let server = Server::with(&PLAIN);
    let mut clients = Client::pair(&server);
    clients.iter_mut().for_each(|client| client.subscribe("counted"));
    let echo = Raw::open(&server, "/echo");
    server.wait_for_metric("corecast_connections", "", |n| n >= 3);
    server.wait_for_metric("corecast_subscriptions", "", |n| n == 2);
    assert_eq!(server.metric("corecast_subscriptions", "shard=\"0\""), 1);
    assert_eq!(server.metric("corecast_channels", ""), 1);
    let (status, stats) = server.http("GET", "/stats", &[], "");
    let stats: Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!((status, stats["shards"].as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(stats["client"]["port"], json!(server.client.port()));
    drop((clients, echo));
    for gauge in ["connections", "subscriptions", "channels", "backlog_bytes", "spill_bytes"] {
        server.wait_for_metric(&format!("corecast_{gauge}"), "", |n| n == 0);
    }
}
