//! Back-pressure: past `engine.mail_bytes_max` the server does not read a publisher's socket until there is room again.
//! TCP slows the publisher down, and nothing that it sent is lost.

use std::io::Write;

use crate::common::{Client, Raw, Server, TEXT, frame};
use serde_json::{Value, json};

const PUBLICATIONS: usize = 4_000;

fn tiny() -> Server {
    Server::with(&[
        ("engine.mail_bytes_max", "64KiB"),
        ("engine.turn_bytes_max", "64KiB"),
        ("client.queue_max_size", "256MiB"),
    ])
}

/// A raw connection to the wanted shard, connected.
fn publisher_on(server: &Server, shard: u64) -> Raw {
    for _ in 0..200 {
        let mut raw = Raw::open(server, "/connection/websocket");
        raw.send(&frame(TEXT, b"{\"id\":1,\"connect\":{}}"));
        let reply: Value = serde_json::from_slice(&raw.frame().payload).expect("JSON");
        if reply["connect"]["data"]["shard"] == json!(shard) {
            return raw;
        }
    }
    panic!("200 connections came to one shard");
}

fn flood_from(shard: u64, channel: &str) {
    let server = tiny();
    let mut subscribers = Client::pair(&server);
    subscribers.iter_mut().for_each(|client| client.subscribe(channel));
    let mut publisher = publisher_on(&server, shard);
    let mut sending = publisher.0.try_clone().expect("a socket");
    let name = channel.to_owned();
    let sender = std::thread::spawn(move || {
        let filler = "f".repeat(6_000);
        // Five commands a frame: back-pressure may begin in the middle of a frame.
        for five in (0..PUBLICATIONS).collect::<Vec<_>>().chunks(5) {
            let commands: Vec<_> = five
                .iter()
                .map(|i| json!({"id": i + 2, "publish": {"channel": name, "data": {"n": i, "f": filler}}}).to_string())
                .collect();
            sending
                .write_all(&frame(TEXT, commands.join("\n").as_bytes()))
                .expect("the publisher is delayed, not closed");
        }
    });
    let replies = std::thread::spawn(move || {
        let mut id = 1;
        while id < PUBLICATIONS + 1 {
            let payload = publisher.frame().payload;
            for line in payload.split(|&byte| byte == b'\n') {
                let reply: Value = serde_json::from_slice(line).expect("JSON");
                id += 1;
                assert!(reply["id"] == json!(id) && reply["publish"].is_object(), "{id} was due: {reply}");
            }
        }
    });
    for i in 0..PUBLICATIONS {
        for client in &mut subscribers {
            assert_eq!(client.publication().1["n"], json!(i));
        }
    }
    sender.join().expect("every publication was accepted");
    replies.join().expect("every publication was answered");
    assert_eq!(server.metric("corecast_publications_lost_total", ""), 0);
    server.wait_for_metric("corecast_spill_bytes", "", |n| n == 0);
}

// The home shard of a channel is a hash of its name: with both publishers and several channels, some publications take
// a hop to the home shard and others do not.

#[test]
fn flood_from_shard_0_arrives_complete_and_in_order() {
    ["first", "second", "third"].into_iter().for_each(|channel| flood_from(0, channel));
}

#[test]
fn flood_from_shard_1_arrives_complete_and_in_order() {
    ["first", "second", "third"].into_iter().for_each(|channel| flood_from(1, channel));
}
