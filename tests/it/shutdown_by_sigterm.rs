//! SIGTERM: every client gets a close frame with the code of its protocol, new clients are rejected, and the exit code is 0.

use std::io::Read;
use std::net::TcpStream;

use crate::common::held::{Held, answer};
use crate::common::{CLOSE, Client, Raw, Server, TEXT, frame};
use rustix::process::Signal;
use serde_json::json;
use tungstenite::Message;

const PROTOCOL_CLIENTS: usize = 200;
const ECHO_CLIENTS: usize = 50;

#[test]
fn clients_get_3001_and_echo_clients_1001_and_the_exit_code_is_0() {
    let mut server = Server::with(&[("shutdown.timeout", "3s")]);
    let mut clients: Vec<_> = (0..PROTOCOL_CLIENTS).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| client.subscribe("lobby"));
    let mut echoes: Vec<_> = (0..ECHO_CLIENTS).map(|_| crate::common::ws(&server, "/echo")).collect();
    server.signal(Signal::TERM);
    let closing = std::thread::spawn(move || {
        for echo in &mut echoes {
            let Message::Close(Some(close)) = echo.read().expect("a message") else { panic!("a close was due") };
            assert_eq!((u16::from(close.code), close.reason.as_str()), (1001, "shutdown"));
            assert!(matches!(echo.read(), Err(tungstenite::Error::ConnectionClosed)));
        }
    });
    let others = clients.split_off(PROTOCOL_CLIENTS / 2);
    let halves = [clients, others].map(|half| {
        std::thread::spawn(move || {
            for mut client in half {
                assert_eq!(client.closed(), (3001, "shutdown".into()));
                assert!(matches!(client.ws.read(), Err(tungstenite::Error::ConnectionClosed)));
            }
        })
    });
    halves.into_iter().for_each(|half| half.join().expect("every client was closed"));
    closing.join().expect("every echo client was closed");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    server.wait_for_log("shutdown complete: every connection was closed in order");
}

#[test]
fn sigint_shuts_down_like_sigterm() {
    let mut server = Server::with(&[("shutdown.timeout", "3s")]);
    let mut client = Client::connect(&server);
    server.signal(Signal::INT);
    assert_eq!(client.closed().0, 3001);
    drop(client);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn server_without_clients_exits_at_once() {
    let mut server = Server::start();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn shutdown_rejects_new_connections_and_health_is_red() {
    // One client never answers its close: the server waits for it until the deadline, which is long enough for this
    // check.
    let mut server = Server::with(&[("shutdown.timeout", "1h"), ("engine.close_timeout", "1h")]);
    let mut holder = Raw::open(&server, "/echo");
    server.signal(Signal::TERM);
    assert!(holder.frame().is_close(1001));
    crate::common::until(
        || "the client port still takes clients".into(),
        || match TcpStream::connect(server.client) {
            Err(_) => Some(()),
            // A connection that the kernel accepted before the listener closed ends without a response.
            Ok(mut late) => (!matches!(late.read(&mut [0; 16]), Ok(1..))).then_some(()),
        },
    );
    assert_eq!(server.http("GET", "/health", &[], "").0, 503);
    holder.send(&frame(CLOSE, &1001u16.to_be_bytes()));
    holder.expect_end();
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn shutdown_serves_connections_until_they_close() {
    let mut server = Server::with(&[("shutdown.timeout", "6s")]);
    let mut clients: Vec<_> = (0..40).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| client.subscribe("last-words"));
    server.signal(Signal::TERM);
    server.wait_for_log("shutting down: no new clients");
    // The API still answers, and its publications reach the connections that are still open, before their close frame.
    let answer = server.api("publish", &json!({"channel": "last-words", "data": "bye"}));
    assert!(answer["result"].is_object(), "{answer}");
    let mut received = 0;
    for client in &mut clients {
        loop {
            match client.ws.read().expect("an orderly end") {
                Message::Text(text) => received += usize::from(text.contains("bye")),
                Message::Close(close) => break assert_eq!(close.map(|close| u16::from(close.code)), Some(3001)),
                _ => {}
            }
        }
    }
    assert!(received > 0, "the wave closes some at once, not all");
    drop(clients);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn clients_that_never_answer_are_disconnected_at_the_deadline() {
    let mut server = Server::with(&[("shutdown.timeout", "1s"), ("engine.close_timeout", "1h")]);
    let mut deaf = Raw::open(&server, "/echo");
    server.signal(Signal::TERM);
    assert!(deaf.frame().is_close(1001));
    assert_eq!(server.wait_for_exit().code(), Some(0));
    server.wait_for_log("shutdown.timeout (1s) is over: ");
}

#[test]
fn signal_to_the_process_and_its_group_is_one_signal() {
    let mut server = Server::with(&[("shutdown.timeout", "1h"), ("engine.close_timeout", "1h")]);
    let mut deaf = Raw::open(&server, "/echo");
    // Both wait until the process runs again, and are then handled one right after the other.
    server.signal(Signal::STOP);
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    server.signal(Signal::CONT);
    assert!(deaf.frame().is_close(1001));
    server.wait_for_log("signal ignored: it came");
    // The shutdown goes on in order: the client still has the time to answer.
    deaf.send(&frame(CLOSE, &1001u16.to_be_bytes()));
    deaf.expect_end();
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn second_signal_ends_the_process_without_waiting_for_clients() {
    let mut server = Server::with(&[("shutdown.timeout", "1h"), ("engine.close_timeout", "1h")]);
    let mut deaf = Raw::open(&server, "/echo");
    deaf.send(&frame(TEXT, b"here"));
    deaf.frame();
    server.signal(Signal::TERM);
    assert!(deaf.frame().is_close(1001));
    assert_eq!(server.signal_until_exit(Signal::TERM).code(), Some(3));
    server.wait_for_log("second signal");
}

#[test]
fn health_is_red_for_the_configured_time_before_the_listeners_close() {
    let mut server = Server::with(&[("shutdown.delay", "1h")]);
    server.signal(Signal::TERM);
    server.wait_for_log("shutting down in ");
    for at in [server.client, server.admin] {
        crate::common::until(
            || format!("/health at {at} stays green"),
            || (crate::common::http(at, "GET", "/health", &[], "").0 == 503).then_some(()),
        );
    }
    // Load balancers still send clients, which are served.
    let mut client = Client::connect(&server);
    client.subscribe("late");
    assert_eq!(server.signal_until_exit(Signal::TERM).code(), Some(3));
}

#[test]
fn rate_max_extends_the_window_and_progress_is_logged() {
    // Ten a second: some of the thirty are still open when the first progress is logged.
    let settings = [("shutdown.timeout", "1h"), ("shutdown.window", "100ms"), ("shutdown.rate_max", "10")];
    let mut server = Server::with(&settings);
    let mut clients: Vec<_> = (0..30).map(|_| Client::connect(&server)).collect();
    server.signal(Signal::TERM);
    server.wait_for_log("closing 30 connections within 3s");
    server.wait_for_log("of 30 connections are still open");
    assert!(clients.iter_mut().all(|client| client.closed().0 == 3001));
    drop(clients);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn upgrade_during_shutdown_gets_503_with_retry_after() {
    let mut server = Server::with(&[("shutdown.timeout", "1h"), ("engine.upgrade_timeout", "1h")]);
    let mut half = crate::common::connect(server.client);
    std::io::Write::write_all(&mut half, b"GET /echo HTTP/1.1\r\n").expect("the write succeeds");
    server.wait_for_metric("corecast_connections_accepted_total", "", |accepted| accepted >= 1);
    server.signal(Signal::TERM);
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn command_that_waits_for_the_backend_is_answered_before_the_close() {
    let backend = Held::start();
    let url = backend.url();
    let mut command = crate::common::command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    command.env("CORECAST_OVERSUBSCRIBE", "true");
    let settings = [
        ("rpc.proxy.endpoint", url.as_str()),
        ("rpc.proxy.timeout", "30s"),
        ("rpc.without_namespace.proxy_enabled", "true"),
        ("shutdown.timeout", "30s"),
        ("shutdown.window", "10ms"),
    ];
    let mut server = Server::spawn(command, &settings);
    let mut caller = Client::connect(&server);
    let mut idle = Client::connect(&server);
    let id = caller.send(json!({"rpc": {"method": "m", "data": 1}}));
    let (_, held) = backend.request();
    // What the server has not taken before the shutdown is not answered.
    caller.send(json!({"publish": {"channel": "news", "data": 1}}));
    server.signal(Signal::TERM);
    // The connection in the later slot is closed: the one before it was chosen before, or with it.
    assert_eq!(idle.closed().0, 3001);
    answer(held, &json!({"result": {"data": "done"}}));
    let reply = caller.next();
    assert_eq!((&reply["id"], &reply["rpc"]["data"]), (&json!(id), &json!("done")));
    assert_eq!(caller.closed().0, 3001);
    drop((idle, caller));
    assert_eq!(server.wait_for_exit().code(), Some(0));
    server.wait_for_log("shutdown complete: every connection was closed in order");
}

#[test]
fn call_of_the_server_api_that_has_begun_is_answered() {
    const COMMANDS: usize = 10_000;
    let server = Server::start();
    let at = server.admin;
    let calling = std::thread::spawn(move || {
        let commands: Vec<_> =
            (0..COMMANDS).map(|n| json!({"publish": {"channel": format!("c{n}"), "data": n}})).collect();
        let body = json!({"commands": commands}).to_string();
        crate::common::http(at, "POST", "/api/batch", &[("X-API-Key", crate::common::KEY)], &body)
    });
    server.wait_for_metric("corecast_publications_total", "", |n| n > 0);
    server.signal(Signal::TERM);
    let (status, body) = calling.join().expect("a whole response");
    let replies: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, replies["replies"].as_array().map(Vec::len)), (200, Some(COMMANDS)));
}
