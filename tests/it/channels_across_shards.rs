//! The client protocol in JSON on two shards: subscribers receive every publication, all in the same order.

use std::collections::HashSet;

use crate::common::{Client, PLAIN, Server};
use serde_json::{Value, json};

#[test]
fn connect_reply_contains_what_the_client_needs() {
    let server = Server::start();
    let mut client = Client::fresh(&server);
    let reply = client.ask(json!({"connect": {"name": "js"}}));
    let connect = &reply["connect"];
    assert_eq!(connect["client"].as_str().map(str::len), Some(36), "{reply}");
    assert_eq!((&connect["ping"], &connect["pong"]), (&json!(25), &json!(true)));
    assert!(connect["version"].as_str().is_some_and(|version| version.starts_with("corecast ")));
    assert!(reply.get("error").is_none() && connect.get("expires").is_none());
}

#[test]
fn publication_reaches_subscribers_on_both_shards_and_its_publisher() {
    let server = Server::start();
    let mut clients = Client::pair(&server);
    // Enough channels that both shards are the home of some.
    for channel in (0..16).map(|i| format!("room-{i}")) {
        clients.iter_mut().for_each(|client| client.subscribe(&channel));
        for publisher in 0..2 {
            let data = json!({"text": "hällo \u{1f44b}", "from": publisher, "deep": [1, {"a": null}]});
            let id = clients[publisher].send(json!({"publish": {"channel": channel, "data": data}}));
            assert_eq!(clients[1 - publisher].publication(), (channel.clone(), data.clone()));
            // The reply and the client's own publication arrive, in either order.
            let both = [clients[publisher].next(), clients[publisher].next()];
            let reply = both.iter().find(|message| message["id"] == json!(id)).expect("a reply");
            let push = both.iter().find(|message| message["push"].is_object()).expect("its own publication");
            assert!(reply["publish"].is_object());
            assert_eq!(push["push"]["pub"]["data"], data);
            assert_eq!(push["push"]["pub"]["info"]["client"].as_str().map(str::len), Some(36));
        }
    }
}

#[test]
fn publications_of_two_publishers_reach_every_subscriber_in_the_same_order() {
    const EACH: u64 = 2_000;
    // The subscribers are read one after the other; one that waits for its turn is not slow.
    let server = Server::with(&[("client.queue_max_size", "256MiB")]);
    let (publishers, channels) = (Client::pair(&server), ["a", "b", "c"]);
    let mut subscribers: Vec<Client> = Client::pair(&server).into_iter().chain(Client::pair(&server)).collect();
    for subscriber in &mut subscribers {
        channels.iter().for_each(|channel| subscriber.subscribe(channel));
    }
    let publishing: Vec<_> = publishers
        .into_iter()
        .enumerate()
        .map(|(index, mut publisher)| {
            std::thread::spawn(move || {
                for i in 0..EACH {
                    for channel in channels {
                        publisher.send(json!({"publish": {"channel": channel, "data": [index, i]}}));
                    }
                }
                // Every publish is answered.
                (0..EACH * channels.len() as u64).for_each(|_| assert!(publisher.next()["publish"].is_object()));
            })
        })
        .collect();
    let received: Vec<Vec<Vec<Value>>> = subscribers
        .iter_mut()
        .map(|subscriber| {
            let mut by_channel = vec![Vec::new(); channels.len()];
            for _ in 0..2 * EACH * channels.len() as u64 {
                let (channel, data) = subscriber.publication();
                by_channel[channels.iter().position(|&name| name == channel).expect("a channel of the test")]
                    .push(data);
            }
            by_channel
        })
        .collect();
    publishing.into_iter().for_each(|thread| thread.join().expect("the publisher ends"));
    for by_channel in &received {
        assert!(*by_channel == received[0], "two subscribers saw different orders");
        for publications in by_channel {
            for publisher in 0..2 {
                let of_one =
                    publications.iter().filter(|data| data[0] == json!(publisher)).map(|data| data[1].as_u64());
                assert!(of_one.eq((0..EACH).map(Some)), "a publisher's own order was lost");
            }
        }
    }
}

#[test]
fn commands_of_one_frame_are_answered_one_by_one() {
    let server = Server::start();
    let mut client = Client::fresh(&server);
    client.send_text(
        "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"x\"}}\n{\"id\":3,\"subscribe\":{\"channel\":\"y\"}}\n",
    );
    let first = client.next();
    assert!(first["id"] == json!(1) && first["connect"].is_object());
    let subscribed: HashSet<u64> = (0..2)
        .map(|_| {
            let reply = client.next();
            assert!(reply["subscribe"].is_object(), "{reply}");
            reply["id"].as_u64().expect("an id")
        })
        .collect();
    assert_eq!(subscribed, HashSet::from([2, 3]));
}

#[test]
fn commands_for_one_channel_are_answered_in_order() {
    let server = Server::start();
    for mut client in Client::pair(&server) {
        let shard = client.shard;
        for channel in (0..8).map(|i| format!("lane-{i}-{shard}")) {
            let command = |id: u32, what: &str| format!("{{\"id\":{id},\"{what}\":{{\"channel\":\"{channel}\"}}}}");
            client.send_text(
                [command(101, "subscribe"), command(102, "unsubscribe"), command(103, "subscribe")].join("\n"),
            );
            for (id, what) in [(101, "subscribe"), (102, "unsubscribe"), (103, "subscribe")] {
                let reply = client.next();
                assert!(reply["id"] == json!(id) && reply[what].is_object(), "{reply}");
            }
            server.api("publish", &json!({"channel": channel, "data": 1}));
            assert_eq!(client.publication(), (channel, json!(1)));
        }
    }
}

#[test]
fn subscribe_and_publish_in_one_frame_receive_the_own_publication() {
    let server = Server::start();
    for mut client in Client::pair(&server) {
        let shard = client.shard;
        for channel in (0..8).map(|i| format!("eager-{i}-{shard}")) {
            client.send_text(format!(
                "{{\"id\":7,\"subscribe\":{{\"channel\":\"{channel}\"}}}}\n{{\"id\":8,\"publish\":{{\"channel\":\"{channel}\",\"data\":5}}}}"
            ));
            let messages = [client.next(), client.next(), client.next()];
            assert_eq!(messages[0]["id"], json!(7), "the subscribe reply precedes all publications: {messages:?}");
            assert!(messages.iter().any(|message| message["id"] == json!(8)));
            assert!(messages.iter().any(|message| message["push"]["pub"]["data"] == json!(5)));
        }
    }
}

#[test]
fn nothing_arrives_after_the_unsubscribe_reply() {
    let server = Server::with(&[("client.queue_max_size", "256MiB")]);
    let [mut publisher, mut subscriber] = Client::pair(&server);
    let flood = std::thread::spawn(move || {
        for i in 0..3_000 {
            publisher.send(json!({"publish": {"channel": "left", "data": i}}));
        }
        (0..3_000).for_each(|_| _ = publisher.next());
        publisher
    });
    for _ in 0..20 {
        subscriber.subscribe("left");
        let id = subscriber.send(json!({"unsubscribe": {"channel": "left"}}));
        while subscriber.next()["id"] != json!(id) {}
        // A publication after the reply would arrive before this response, which takes the same path.
        assert!(subscriber.ask(json!({"history": {"channel": "left"}}))["history"].is_object());
    }
    let mut publisher = flood.join().expect("the publisher ends");
    publisher.ask(json!({"publish": {"channel": "left", "data": "last"}}));
    assert_eq!(subscriber.ask(json!({"history": {"channel": "left"}}))["history"]["offset"], json!(3_001));
    server.wait_for_metric("corecast_subscriptions", "", |n| n == 0);
}

#[test]
fn unsubscribe_from_an_unknown_channel_succeeds() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    let reply = client.ask(json!({"unsubscribe": {"channel": "never-joined"}}));
    assert!(reply["unsubscribe"].is_object(), "{reply}");
}

#[test]
fn publications_without_subscribers_are_answered_and_use_no_memory() {
    let server = Server::with(&PLAIN);
    let mut client = Client::connect(&server);
    let reply = client.ask(json!({"publish": {"channel": "unused", "data": {}}}));
    assert!(reply["publish"].is_object(), "{reply}");
    assert_eq!(server.metric("corecast_channels", ""), 0);
}

#[test]
fn channel_with_history_outlives_its_publisher_until_the_ttl() {
    let ttl = "channel.without_namespace.history_ttl";
    let meta_ttl = "channel.without_namespace.history_meta_ttl";
    let server = Server::with(&[(ttl, "1s"), (meta_ttl, "1s")]);
    let mut client = Client::connect(&server);
    client.ask(json!({"publish": {"channel": "unused", "data": {}}}));
    assert_eq!(server.metric("corecast_channels", ""), 1);
    drop(client);
    server.wait_for_metric("corecast_channels", "", |n| n == 0);
}

#[test]
fn payload_keeps_its_bytes_except_line_breaks() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.subscribe("raw");
    let numbers = r#"{"big":12345678901234567890,"exact":1.10,"escape":"\u00e4\n","twice":1,"twice":2}"#;
    let (status, _) = server.http(
        "POST",
        "/api/publish",
        &[("X-API-Key", crate::common::KEY)],
        &format!("{{\"channel\":\"raw\",\"data\":{numbers}}}"),
    );
    assert_eq!(status, 200);
    let tungstenite::Message::Text(text) = client.ws.read().expect("a message") else { panic!("text was due") };
    assert!(text.contains(numbers), "{text}");
}

#[test]
fn thousand_channels_of_one_connection_are_independent() {
    let server = Server::with(&[("client.channel_limit", "1000")]);
    let mut client = Client::connect(&server);
    let names: Vec<String> = (0..1_000).map(|i| format!("many-{i}")).collect();
    for part in names.chunks(100) {
        let ids: HashSet<u64> = part.iter().map(|name| client.send(json!({"subscribe": {"channel": name}}))).collect();
        let replies = (0..part.len()).map(|_| client.next());
        assert_eq!(replies.map(|reply| reply["id"].as_u64().expect("an id")).collect::<HashSet<_>>(), ids);
    }
    assert_eq!(client.refused(json!({"subscribe": {"channel": "one-more"}})), 106);
    assert_eq!(server.metric("corecast_subscriptions", ""), 1_000);
    server.api("broadcast", &json!({"channels": names, "data": 1}));
    let received: HashSet<String> = (0..1_000).map(|_| client.publication().0).collect();
    assert_eq!(received.len(), 1_000);
}
