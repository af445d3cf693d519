//! Past the marks for memory and lag newcomers are refused before a byte of theirs is read, and those who are here are served.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Client, Frame, Raw, Server, TEXT, frame};

/// The whole answer to one who comes now.
fn refusal(server: &Server) -> String {
    let mut raw = Raw::connect(server);
    // The answer may be there before the request, and the socket gone.
    let _ = raw.0.write_all(crate::common::raw::upgrade_request("/echo").as_bytes());
    String::from_utf8(raw.rest().unwrap_or_default()).expect("text")
}

fn echoes(raw: &mut Raw) {
    raw.send(&frame(TEXT, b"here"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "here"));
}

/// Seconds after which one who was refused is asked to come again.
fn retry_after(answer: &str) -> u32 {
    let (_, rest) = answer.split_once("\r\nRetry-After: ").unwrap_or_else(|| panic!("{answer:?}"));
    rest.split("\r\n").next().and_then(|seconds| seconds.parse().ok()).expect("a number")
}

fn wait_for(span: Duration) {
    let began = Instant::now();
    while began.elapsed() < span {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn memory_limit_rejects_new_connections_with_retry_after() {
    let server = Server::with(&[("limits.memory_bytes_max", "1MiB")]);
    server.wait_for_log("exceeds limits.memory_bytes_max (");
    server.wait_for_metric("corecast_admission_shut", "", |n| n == 2);
    let mut seen = Vec::new();
    for _ in 0..20 {
        // Over loopback a reset may be quicker than the answer.
        let answer =
            crate::common::until(|| "nobody is answered".into(), || Some(refusal(&server)).filter(|a| !a.is_empty()));
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
        seen.push(retry_after(&answer));
    }
    assert!(seen.iter().all(|&seconds| (2..=6).contains(&seconds)), "{seen:?}");
    assert!(seen.iter().any(|&seconds| seconds != seen[0]), "all are told to come at once: {seen:?}");
    assert!(server.metric("corecast_connections_refused_total", "overloaded") >= 20);
    assert_eq!(server.http("GET", "/health", &[], "").0, 200);
}

#[test]
fn lag_limit_rejects_new_connections_serves_open_ones_and_reopens() {
    let server = Server::with(&[("limits.lag_max", "20ms")]);
    let mut held = Raw::open(&server, "/echo");
    let mut flood = Raw::open(&server, "/connection/websocket");
    flood.send(&frame(TEXT, br#"{"id":1,"connect":{}}"#));
    assert_eq!(flood.frame().opcode, TEXT);
    // A busy shard that is not let run is one whose turn takes long.
    let command = |id: usize| format!("{{\"id\":{id},\"presence_stats\":{{\"channel\":\"lobby\"}}}}");
    let commands: Vec<_> = (2..1000).map(command).collect();
    let message = frame(TEXT, commands.join("\n").as_bytes());
    let mut flooded = flood.0.try_clone().expect("a socket");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer =
        std::thread::spawn(move || while stopped.try_recv().is_err() && flooded.write_all(&message).is_ok() {});
    let mut reading = flood.0.try_clone().expect("a socket");
    let reader = std::thread::spawn(move || std::io::copy(&mut reading, &mut std::io::sink()));
    crate::common::until(
        || "the door stays open".into(),
        || {
            server.signal(Signal::STOP);
            wait_for(Duration::from_millis(300));
            server.signal(Signal::CONT);
            (server.metric("corecast_admission_shut", "") > 0).then_some(())
        },
    );
    echoes(&mut held);
    stop.send(()).expect("it floods");
    writer.join().expect("no panic");
    server.wait_for_metric("corecast_admission_shut", "", |n| n == 0);
    server.wait_for_log("exceeds limits.lag_max: rejecting new connections until it drops below half of that");
    server.wait_for_log("accepting new connections again");
    Client::connect(&server);
    drop(server);
    let _ = reader.join();
}
