//! A subscriber that does not read uses memory up to its bound and does not affect others.

use crate::common::{Client, Raw, Server, TEXT, frame, until};
use serde_json::json;

const PAYLOAD_BYTES: usize = 16 * 1024;
/// 48 MiB: more than the socket buffers of both kernels and the bound together.
const PUBLICATIONS: usize = 3_000;

/// Connects and subscribes to `channel`; does not read from then on.
fn subscribe_and_stop_reading(server: &Server, channel: &str) -> Raw {
    let mut raw = Raw::open(server, "/connection/websocket");
    let commands = format!("{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"{channel}\"}}}}");
    raw.send(&frame(TEXT, commands.as_bytes()));
    let mut reply = String::new();
    while !reply.contains("\"id\":2") {
        reply = String::from_utf8(raw.frame().payload).expect("text");
    }
    raw
}

/// Publishes to `channel`, whose honest subscribers must receive all publications in order. They keep up, so that only
/// the slow subscribers lag.
fn flood(server: &Server, channel: &str, honest: &mut [Client]) {
    let mut publisher = Client::connect(server);
    let text = "x".repeat(PAYLOAD_BYTES);
    for i in 0..PUBLICATIONS {
        publisher.ask(json!({"publish": {"channel": channel, "data": {"n": i, "text": text}}}));
        for client in honest.iter_mut() {
            let (_, data) = client.publication();
            assert_eq!(data["n"], json!(i));
        }
    }
}

#[test]
fn subscriber_that_never_reads_is_closed_as_slow() {
    let server = Server::with(&[("client.queue_max_size", "256KiB"), ("engine.close_timeout", "1s")]);
    let mut slow: Vec<Raw> = (0..4).map(|_| subscribe_and_stop_reading(&server, "big")).collect();
    let mut honest = Client::pair(&server);
    honest.iter_mut().for_each(|client| client.subscribe("big"));
    flood(&server, "big", &mut honest);
    server.wait_for_metric("corecast_connections_closed_total", "reason=\"slow\"", |n| n == 4);
    server.wait_for_metric("corecast_connections", "", |n| n == 2);
    server.wait_for_metric("corecast_backlog_bytes", "", |n| n == 0);
    assert_eq!(server.metric("corecast_publications_lost_total", ""), 0);
    // When the slow subscribers read at last, their stream ends at a frame boundary, or the socket is closed.
    for raw in &mut slow {
        let _ = raw.rest();
    }
    honest.iter_mut().for_each(|client| client.subscribe("another"));
}

#[test]
fn slow_subscriber_that_reads_late_gets_whole_frames_and_3008() {
    let server = Server::with(&[("client.queue_max_size", "256KiB"), ("engine.close_timeout", "30s")]);
    let mut slow = subscribe_and_stop_reading(&server, "late");
    let mut honest = Client::pair(&server);
    honest.iter_mut().for_each(|client| client.subscribe("late"));
    flood(&server, "late", &mut honest);
    server.wait_for_metric("corecast_connections_closed_total", "reason=\"slow\"", |n| n == 1);
    let mut n = 0;
    let close = loop {
        let frame = slow.frame();
        if frame.opcode != TEXT {
            break frame;
        }
        let text = String::from_utf8(frame.payload).expect("a whole frame");
        assert!(text.contains(&format!("\"n\":{n},")), "publication {n} was due");
        n += 1;
    };
    assert!(close.is_close(3008) && n > 0, "after {n} publications: {close:?}");
    slow.send(&frame(crate::common::CLOSE, &3008u16.to_be_bytes()));
    slow.expect_end();
    server.wait_for_metric("corecast_backlog_bytes", "", |n| n == 0);
}

#[test]
fn subscriber_that_is_slow_within_its_bound_misses_nothing() {
    // No ping comes among the publications, however long they take.
    let server = Server::with(&[("client.queue_max_size", "256MiB"), ("client.ping_interval", "1h")]);
    let mut slow = subscribe_and_stop_reading(&server, "patient");
    let mut honest = Client::pair(&server);
    honest.iter_mut().for_each(|client| client.subscribe("patient"));
    flood(&server, "patient", &mut honest);
    assert!(server.metric("corecast_backlog_bytes", "") > 0);
    for n in 0..PUBLICATIONS {
        let text = String::from_utf8(slow.frame().payload).expect("a whole frame");
        assert!(text.contains(&format!("\"n\":{n},")), "publication {n} was due");
    }
    server.wait_for_metric("corecast_backlog_bytes", "", |n| n == 0);
}

#[test]
fn echo_client_that_never_reads_is_closed_and_others_are_served() {
    let server = Server::with(&[("client.queue_max_size", "64KiB"), ("engine.close_timeout", "500ms")]);
    let mut greedy = Raw::open(&server, "/echo");
    let message = frame(TEXT, &[b'g'; 60_000]);
    let mut other = Raw::open(&server, "/echo");
    // After its close frame the server still reads, to find the client's close, and drops everything else; at the
    // deadline the socket is closed and accepts no more.
    until(
        || "the server goes on taking from a client that reads nothing".into(),
        || std::io::Write::write_all(&mut greedy.0, &message).is_err().then_some(()),
    );
    server.wait_for_metric("corecast_connections_closed_total", "reason=\"slow\"", |n| n == 1);
    other.send(&frame(TEXT, b"served"));
    assert_eq!(other.frame().payload, b"served");
    server.wait_for_metric("corecast_backlog_bytes", "", |n| n == 0);
}
