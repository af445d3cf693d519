//! Tag filters are bounded in bytes by connection, and take about the bytes of their commands.

use crate::common::{Client, PLAIN, Server};
use serde_json::{Value, json};

/// A subscribe with a filter of about this many bytes, in many short values: what costs most for its length.
fn subscribe(channel: usize, bytes: usize) -> Value {
    let vals: Vec<String> = (0..bytes / 18).map(|n| format!("value-{n:010}")).collect();
    json!({"subscribe": {"channel": format!("c{channel}"), "tf": {"key": "k", "cmp": "in", "vals": vals}}})
}

fn server() -> Server {
    // No pong is due while a test asks other clients.
    let own = [("channel.without_namespace.allow_tags_filter", "true"), ("client.ping_interval", "1h")];
    Server::with(&[&PLAIN[..], &own].concat())
}

#[test]
fn filters_of_a_connection_are_bounded() {
    let server = server();
    let mut client = Client::connect(&server);
    // 64 KiB hold four of 15 KB.
    for channel in 0..4 {
        assert!(client.ask(subscribe(channel, 15_000))["subscribe"].is_object());
    }
    for channel in 4..8 {
        assert_eq!(client.refused(subscribe(channel, 15_000)), 106);
    }
    server.wait_for_metric("corecast_limit_reached_total", "client.tags_filter_bytes_max", |n| n == 4);
    assert!(client.ask(subscribe(8, 1_000))["subscribe"].is_object(), "a short one has room");
    client.subscribe("without-a-filter");
    client.ask(json!({"unsubscribe": {"channel": "c0"}}));
    assert!(client.ask(subscribe(4, 15_000))["subscribe"].is_object(), "the room of the one that ended");
    server.api("publish", &json!({"channel": "c4", "data": 1, "tags": {"k": "value-0000000007"}}));
    assert_eq!(client.publication(), ("c4".into(), json!(1)));
    assert_eq!(client.refused(subscribe(9, 20_000)), 107, "longer than a filter may be");
}

#[test]
fn filters_take_about_the_bytes_of_their_commands() {
    const CONNECTIONS: u64 = 60;
    let server = server();
    let mut first = Client::connect(&server);
    assert!(first.ask(subscribe(0, 15_000))["subscribe"].is_object());
    let before = server.memory_bytes();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        for channel in 0..128 {
            client.send(subscribe(channel, 15_000));
            let reply = client.next();
            assert!(reply["subscribe"].is_object() || reply["error"]["code"] == 106, "{reply}");
        }
    }
    let grown = server.memory_bytes().saturating_sub(before);
    assert!(grown < CONNECTIONS * 192 * 1024, "{} bytes for each connection", grown / CONNECTIONS);
}
