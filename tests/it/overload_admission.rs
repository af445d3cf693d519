//! Past the limits for memory and lag, new connections are rejected before a byte of them is read, and open connections
//! are served.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Client, Frame, Raw, Server, TEXT, frame};

/// The whole response to a new connection.
fn refusal(server: &Server) -> String {
    let mut raw = Raw::connect(server);
    // The response may arrive before the request is sent, and the socket may be closed.
    let _ = raw.0.write_all(crate::common::raw::upgrade_request("/echo").as_bytes());
    String::from_utf8(raw.rest().unwrap_or_default()).expect("text")
}

fn echoes(raw: &mut Raw) {
    raw.send(&frame(TEXT, b"here"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "here"));
}

/// The value of Retry-After in a rejection, in seconds.
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
        // On loopback a reset may overtake the response.
        let answer = crate::common::until(
            || "no connection gets a response".into(),
            || Some(refusal(&server)).filter(|a| !a.is_empty()),
        );
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
        seen.push(retry_after(&answer));
    }
    assert!(seen.iter().all(|&seconds| (2..=6).contains(&seconds)), "{seen:?}");
    assert!(seen.iter().any(|&seconds| seconds != seen[0]), "all get the same Retry-After: {seen:?}");
    assert!(server.metric("corecast_connections_refused_total", "overloaded") >= 20);
    assert_eq!(server.http("GET", "/health", &[], "").0, 200);
}

#[test]
fn memory_of_clients_that_have_left_does_not_keep_new_ones_out() {
    let settings = [("limits.memory_bytes_max", "64MiB"), ("websocket.message_size_limit", "256KiB")];
    let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"];
    let server = Server::spawn(crate::common::command(&listen), &settings);
    let mut clients: Vec<_> = (0..680).map(|_| Raw::open(&server, "/echo")).collect();
    // The first part of a message waits in the server. The client that stays has its memory above that of the others, so
    // that the allocator does not return theirs by itself.
    let (part, mut used) = (&frame(TEXT, &[b'x'; 120_000])[..100_000], 0);
    // All parts together exceed the limit. The memory is checked every 250 ms.
    while used < clients.len() && server.metric("corecast_admission_shut", "") == 0 {
        clients[used].send(part);
        used += 1;
        server.wait_for_metric("corecast_spill_bytes", "", |bytes| bytes >= (used * part.len()) as u64);
    }
    server.wait_for_metric("corecast_admission_shut", "", |shut| shut == 1);
    server.wait_for_log("exceeds limits.memory_bytes_max (");
    let stays = clients.swap_remove(used - 1);
    drop(clients);
    server.wait_for_metric("corecast_connections", "", |open| open == 1);
    server.wait_for_metric("corecast_admission_shut", "", |shut| shut == 0);
    Client::connect(&server);
    drop(stays);
}

#[test]
fn lag_limit_rejects_new_connections_serves_open_ones_and_reopens() {
    let server = Server::with(&[("limits.lag_max", "20ms")]);
    let mut held = Raw::open(&server, "/echo");
    let mut flood = Raw::open(&server, "/connection/websocket");
    flood.send(&frame(TEXT, br#"{"id":1,"connect":{}}"#));
    assert_eq!(flood.frame().opcode, TEXT);
    // A shard is busy if its turn takes long, here because it cannot run.
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
        || "new connections are still accepted".into(),
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
