//! The message protocol in JSON on two shards: who subscribes hears everything, everybody in the same order.

use std::collections::HashSet;

use crate::common::{Client, PLAIN, Server};
use serde_json::{Value, json};

#[test]
fn the_connect_reply_says_what_the_client_needs() {
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
fn a_publication_reaches_subscribers_on_both_shards_and_its_publisher() {
    let server = Server::start();
    let mut clients = Client::pair(&server);
    // Channels enough that both shards are home to some.
    for channel in (0..16).map(|i| format!("room-{i}")) {
        clients.iter_mut().for_each(|client| client.subscribe(&channel));
        for publisher in 0..2 {
            let data = json!({"text": "hällo \u{1f44b}", "from": publisher, "deep": [1, {"a": null}]});
            let id = clients[publisher].send(json!({"publish": {"channel": channel, "data": data}}));
            assert_eq!(clients[1 - publisher].publication(), (channel.clone(), data.clone()));
            // Reply and own publication: both come, in either order.
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
fn every_subscriber_sees_the_publications_of_two_publishers_in_the_same_order() {
    const EACH: u64 = 2_000;
    // The subscribers are read one after the other: who waits for its turn is not slow.
    let server = Server::with(&[("client.queue_max_size", "256MiB")]);
    let (publishers, channels) = (Client::pair(&server), ["a", "b", "c"]);
    let mut subscribers: Vec<Client> = Client::pair(&server).into_iter().chain(Client::pair(&server)).collect();
    for subscriber in &mut subscribers {
        channels.iter().for_each(|channel| subscriber.subscribe(channel));
    }
    let publishing: Vec<_> = publishers
        .into_iter()
        .enumerate()
        .map(|(who, mut publisher)| {
            std::thread::spawn(move || {
                for i in 0..EACH {
                    for channel in channels {
                        publisher.send(json!({"publish": {"channel": channel, "data": [who, i]}}));
                    }
                }
                // Every one of them is answered.
                (0..EACH * channels.len() as u64).for_each(|_| assert!(publisher.next()["publish"].is_object()));
            })
        })
        .collect();
    let heard: Vec<Vec<Vec<Value>>> = subscribers
        .iter_mut()
        .map(|subscriber| {
            let mut by_channel = vec![Vec::new(); channels.len()];
            for _ in 0..2 * EACH * channels.len() as u64 {
                let (channel, data) = subscriber.publication();
                by_channel[channels.iter().position(|&name| name == channel).expect("a channel of ours")].push(data);
            }
            by_channel
        })
        .collect();
    publishing.into_iter().for_each(|thread| thread.join().expect("the publisher ends"));
    for by_channel in &heard {
        assert!(*by_channel == heard[0], "two subscribers saw different orders");
        for publications in by_channel {
            for who in 0..2 {
                let of_one = publications.iter().filter(|data| data[0] == json!(who)).map(|data| data[1].as_u64());
                assert!(of_one.eq((0..EACH).map(Some)), "a publisher's own order was lost");
            }
        }
    }
}

#[test]
fn a_batch_of_commands_in_one_frame_is_answered_one_by_one() {
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
fn commands_of_one_channel_are_answered_in_their_order() {
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
        // Had a publication followed the reply, it would stand before this answer, which comes the same way.
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
fn publications_without_subscribers_are_answered_and_leave_nothing() {
    let server = Server::with(&PLAIN);
    let mut client = Client::connect(&server);
    let reply = client.ask(json!({"publish": {"channel": "nobody", "data": {}}}));
    assert!(reply["publish"].is_object(), "{reply}");
    assert_eq!(server.metric("corecast_channels", ""), 0);
}

#[test]
fn channel_with_history_outlives_its_publisher_until_the_ttl() {
    let ttl = "channel.without_namespace.history_ttl";
    let meta_ttl = "channel.without_namespace.history_meta_ttl";
    let server = Server::with(&[(ttl, "1s"), (meta_ttl, "1s")]);
    let mut client = Client::connect(&server);
    client.ask(json!({"publish": {"channel": "nobody", "data": {}}}));
    assert_eq!(server.metric("corecast_channels", ""), 1);
    drop(client);
    server.wait_for_metric("corecast_channels", "", |n| n == 0);
}

#[test]
fn a_payload_keeps_its_bytes_and_loses_only_its_line_breaks() {
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
fn a_thousand_channels_on_one_connection_are_told_apart() {
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
    let heard: HashSet<String> = (0..1_000).map(|_| client.publication().0).collect();
    assert_eq!(heard.len(), 1_000);
}
