//! Subscribers that stop reading, under each policy of a namespace: honest subscribers get everything, the backlog is
//! bounded, and a subscriber that reads again gets whole frames in order, the newest among them, and a notice of every
//! gap.

use crate::common::raw::upgrade_with;
use crate::common::{Client, Raw, Server, TEXT, frame};
use corecast::protocol::fossil;
use flate2::{Decompress, FlushDecompress};
use serde_json::{Value, json};

const PAYLOAD_BYTES: usize = 16 * 1024;
/// More than the socket buffers of both kernels and the bounds together.
const PUBLICATIONS: u64 = 2_000;
const QUEUE: &str = "256KiB";
const QUEUE_BYTES: u64 = 256 * 1024;

fn server(policy: &str, settings: &[(&str, &str)]) -> Server {
    // A client that does not read answers no ping, and is to stay open on a slow machine too.
    let mut all = vec![
        ("client.ping_interval", "1h"),
        ("client.queue_max_size", QUEUE),
        ("channel.without_namespace.slow_consumer", policy),
    ];
    all.extend_from_slice(settings);
    Server::with(&all)
}

/// Connects and subscribes; does not read from then on.
fn subscribe_and_stop_reading(server: &Server, channel: &str, options: Value) -> Raw {
    let mut raw = Raw::connect(server);
    let offer = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    raw.send(upgrade_with("/connection/websocket", &offer).as_bytes());
    raw.take_upgrade();
    let mut subscribe = json!({"id": 2, "subscribe": {"channel": channel}});
    subscribe["subscribe"].as_object_mut().expect("an object").extend(options.as_object().expect("one too").clone());
    raw.send(&frame(TEXT, format!("{{\"id\":1,\"connect\":{{}}}}\n{subscribe}").as_bytes()));
    while !messages(&mut raw).iter().any(|message| message["id"] == json!(2) && message["error"].is_null()) {}
    raw
}

/// The messages of the next frame, which can be decoded without earlier frames.
fn messages(raw: &mut Raw) -> Vec<Value> {
    let (compressed, frame) = raw.extended_frame();
    assert_eq!(frame.opcode, TEXT, "{frame:?}");
    let mut bytes = frame.payload;
    if compressed {
        let mut inflated = Vec::with_capacity(4 * PAYLOAD_BYTES);
        bytes.extend([0, 0, 0xff, 0xff]);
        Decompress::new(false)
            .decompress_vec(&bytes, &mut inflated, FlushDecompress::Sync)
            .expect("it needs no earlier frame");
        bytes = inflated;
    }
    let text = String::from_utf8(bytes).expect("a whole frame");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The next push that is not a join.
fn push(raw: &mut Raw) -> Value {
    loop {
        let message = messages(raw).swap_remove(0);
        if !message["push"].is_null() && message["push"]["join"].is_null() {
            return message["push"].clone();
        }
    }
}

/// Half constant, half different in each payload.
fn data(n: u64) -> Value {
    let mut random = fastrand::Rng::with_seed(n);
    let half: String = (0..PAYLOAD_BYTES / 2).map(|_| random.alphanumeric()).collect();
    json!({"n": n, "text": format!("{half}{}", "x".repeat(PAYLOAD_BYTES / 2))})
}

/// Publishes to `channel`; honest subscribers receive all publications in order and keep up.
fn flood(server: &Server, channel: &str, numbers: std::ops::Range<u64>, honest: &mut [Client]) {
    let mut publisher = Client::connect(server);
    for n in numbers {
        publisher.ask(json!({"publish": {"channel": channel, "data": data(n)}}));
        for client in honest.iter_mut() {
            assert_eq!(client.publication().1["n"], json!(n));
        }
    }
}

fn reading_subscriber(server: &Server, channel: &str) -> [Client; 2] {
    let mut honest = Client::pair(server);
    honest.iter_mut().for_each(|client| client.subscribe(channel));
    honest
}

/// Reads up to the last publication; returns how many were missing before it.
fn read_to_the_last(raw: &mut Raw) -> u64 {
    let (mut next, mut missing) = (0, 0);
    while next < PUBLICATIONS {
        let push = push(raw);
        let n = push["pub"]["data"]["n"].as_u64().expect("a publication");
        assert!(n >= next, "{n} after {next}");
        assert_eq!(push["pub"]["data"], data(n));
        missing += n - next;
        next = n + 1;
    }
    missing
}

/// Floods slow subscribers under the named policy: no connection is closed, all drops are counted, and the memory is
/// bounded.
fn assert_connections_stay_open_and_drops_are_counted(policy: &str, kept_bytes_max: u64, compressed: &str) {
    let compression = [("websocket.compression", compressed)];
    let server = server(policy, &[&compression[..], &crate::common::PLAIN].concat());
    let mut slow: Vec<Raw> = (0..3).map(|_| subscribe_and_stop_reading(&server, "c", json!({}))).collect();
    let mut honest = reading_subscriber(&server, "c");
    flood(&server, "c", 0..PUBLICATIONS, &mut honest);
    server.wait_for_metric("corecast_backlog_connections", "", |n| n == 3);
    let kept = server.metric("corecast_backlog_kept_bytes", "");
    assert!(kept > 0 && kept <= kept_bytes_max, "{kept} bytes are kept");
    assert_eq!(server.metric("corecast_deflates_total", "") > 0, compressed == "true");
    let missing: u64 = slow.iter_mut().map(read_to_the_last).sum();
    let label = format!("policy=\"{policy}\"");
    assert!(missing > 0);
    assert_eq!(server.metric("corecast_publications_dropped_total", &label), missing);
    assert_eq!(server.metric("corecast_publications_dropped_total", ""), missing, "no other policy counted drops");
    assert_eq!(server.metric("corecast_connections_closed_total", "reason=\"slow\""), 0);
    server.wait_for_metric("corecast_backlog_kept_bytes", "", |n| n == 0);
    // The slow subscribers receive new publications again.
    flood(&server, "c", PUBLICATIONS..PUBLICATIONS + 1, &mut honest);
    for raw in &mut slow {
        assert_eq!(push(raw)["pub"]["data"]["n"], json!(PUBLICATIONS));
    }
    server.wait_for_log("dropped publications for clients that do not read");
}

#[test]
fn drop_oldest_drops_the_oldest_for_a_client_that_does_not_read() {
    // The state of a peer, and the rest of a frame; a buffer's capacity is up to twice its length.
    assert_connections_stay_open_and_drops_are_counted(
        "drop_oldest",
        2 * (3 * QUEUE_BYTES + 4 * PAYLOAD_BYTES as u64),
        "false",
    );
}

#[test]
fn keep_latest_keeps_the_newest_for_a_client_that_does_not_read() {
    assert_connections_stay_open_and_drops_are_counted("keep_latest", 12 * PAYLOAD_BYTES as u64, "false");
}

#[test]
fn compressed_messages_after_dropped_ones_can_be_inflated() {
    assert_connections_stay_open_and_drops_are_counted(
        "drop_oldest",
        2 * (3 * QUEUE_BYTES + 4 * PAYLOAD_BYTES as u64),
        "true",
    );
}

#[test]
fn channel_bound_is_below_the_connection_bound() {
    let less = [("channel.without_namespace.slow_consumer_bytes_max", "64KiB")];
    let server = server("drop_oldest", &[&less[..], &crate::common::PLAIN].concat());
    let mut slow = subscribe_and_stop_reading(&server, "c", json!({}));
    flood(&server, "c", 0..PUBLICATIONS, &mut reading_subscriber(&server, "c"));
    let waiting = server.metric("corecast_backlog_bytes", "");
    assert!(waiting > 0 && waiting <= 64 * 1024 + 2 * PAYLOAD_BYTES as u64, "{waiting} bytes wait");
    read_to_the_last(&mut slow);
}

#[test]
fn positioned_subscription_is_unsubscribed_with_2500_and_recovers() {
    let history = [
        ("channel.without_namespace.history_size", "5000"),
        ("channel.without_namespace.history_ttl", "300s"),
        ("client.recovery_max_publication_limit", "5000"),
    ];
    for policy in ["drop_oldest", "keep_latest"] {
        let server = server(policy, &history);
        let mut slow = subscribe_and_stop_reading(&server, "c", json!({"positioned": true, "recoverable": true}));
        flood(&server, "c", 0..PUBLICATIONS, &mut reading_subscriber(&server, "c"));
        server.wait_for_metric("corecast_subscriptions_cut_total", "", |n| n == 1);
        assert!(server.metric("corecast_backlog_bytes", "") < 2 * PAYLOAD_BYTES as u64, "the backlog has no gap");
        let (mut next, mut offset) = (0, 0);
        loop {
            let push = push(&mut slow);
            if !push["unsubscribe"].is_null() {
                assert_eq!(push["unsubscribe"]["code"], json!(2500));
                break;
            }
            assert_eq!(push["pub"]["data"]["n"], json!(next), "the messages before the unsubscribe are complete");
            offset = push["pub"]["offset"].as_u64().expect("an offset");
            next += 1;
        }
        assert!(next < PUBLICATIONS);
        let top = server.api("history", &json!({"channel": "c", "limit": 0}));
        let since = json!({"channel": "c", "recover": true, "offset": offset, "epoch": top["result"]["epoch"],
            "positioned": true, "recoverable": true});
        slow.send(&frame(TEXT, json!({"id": 3, "subscribe": since}).to_string().as_bytes()));
        let reply = loop {
            let reply = messages(&mut slow).swap_remove(0);
            if reply["id"] == json!(3) {
                break reply;
            }
        };
        assert_eq!(reply["subscribe"]["recovered"], json!(true), "{policy}");
        let recovered = reply["subscribe"]["publications"].as_array().expect("some");
        let numbers: Vec<u64> = recovered.iter().map(|one| one["data"]["n"].as_u64().expect("a number")).collect();
        assert_eq!(numbers, (next..PUBLICATIONS).collect::<Vec<_>>(), "{policy}");
    }
}

#[test]
fn cache_mode_needs_no_resubscribe() {
    let cache = [
        ("channel.without_namespace.history_size", "1"),
        ("channel.without_namespace.history_ttl", "300s"),
        ("channel.without_namespace.force_recovery", "true"),
        ("channel.without_namespace.force_recovery_mode", "cache"),
    ];
    for policy in ["drop_oldest", "keep_latest"] {
        let server = server(policy, &cache);
        let mut slow = subscribe_and_stop_reading(&server, "c", json!({}));
        flood(&server, "c", 0..PUBLICATIONS, &mut reading_subscriber(&server, "c"));
        assert!(read_to_the_last(&mut slow) > 0, "{policy}");
        assert_eq!(server.metric("corecast_subscriptions_cut_total", ""), 0, "{policy}");
    }
}

#[test]
fn delta_restarts_after_a_drop() {
    let deltas = [
        ("channel.without_namespace.allowed_delta_types", "fossil"),
        ("channel.without_namespace.delta_publish", "true"),
    ];
    let server = server("drop_oldest", &deltas);
    let mut slow = subscribe_and_stop_reading(&server, "c", json!({"delta": "fossil"}));
    let mut honest = reading_subscriber(&server, "c");
    flood(&server, "c", 0..PUBLICATIONS, &mut honest);
    assert!(server.metric("corecast_publications_dropped_total", "policy=\"drop_oldest\"") > 0);
    // One more than needed, to find the end of the backlog.
    let mut base: Vec<u8> = Vec::new();
    let (mut differences, mut gaps, mut last) = (0, 0, None);
    let mut published = PUBLICATIONS;
    while last != Some(PUBLICATIONS + 1) {
        if published < PUBLICATIONS + 2 {
            flood(&server, "c", published..published + 1, &mut honest);
            published += 1;
        }
        let publication = push(&mut slow)["pub"].take();
        let text = publication["data"].as_str().expect("a text");
        base = match publication["delta"].as_bool() {
            Some(true) => {
                fossil::apply(&base, text.as_bytes(), 1 << 20).expect("a delta against the previous publication")
            }
            _ => text.as_bytes().to_vec(),
        };
        differences += u64::from(publication["delta"] == json!(true));
        let seen: Value = serde_json::from_slice(&base).expect("JSON");
        let n = seen["n"].as_u64().expect("a number");
        assert_eq!(seen, data(n));
        gaps += u64::from(last.is_some_and(|last| n != last + 1));
        last = Some(n);
    }
    assert!(differences > 0 && gaps > 0, "{differences} differences, {gaps} gaps");
}

#[test]
fn total_backlog_is_bounded() {
    let bounds = [("client.queue_max_size", "256MiB"), ("engine.backlog_bytes_max", "2MiB")];
    let server = server("close", &[&bounds[..], &crate::common::PLAIN].concat());
    let slow: Vec<Raw> = (0..4).map(|_| subscribe_and_stop_reading(&server, "c", json!({}))).collect();
    flood(&server, "c", 0..PUBLICATIONS, &mut reading_subscriber(&server, "c"));
    server.wait_for_metric("corecast_connections_closed_total", "reason=\"slow\"", |n| n == 4);
    assert!(server.metric("corecast_backlog_kept_bytes", "") < 2 * 1024 * 1024);
    server.wait_for_log("engine.backlog_bytes_max");
    drop(slow);
}
