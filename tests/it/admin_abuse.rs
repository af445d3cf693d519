//! Abuse of the admin address: idle connections, slow requests, large requests and garbage. Each is bounded and does
//! not affect clients.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::{Client, KEY, Server, connect, until};
use serde_json::json;

const MOST: usize = 50;

struct Abused {
    server: Server,
    honest: [Client; 2],
}

impl Abused {
    fn start() -> Self {
        let most = MOST.to_string();
        let server = Server::with(&[("admin.connections_max", &most), ("admin.request_timeout", "2s")]);
        let mut honest = [Client::connect(&server), Client::connect(&server)];
        honest[1].subscribe("c");
        Self { server, honest }
    }

    fn assert_honest_is_served(&mut self) {
        let [one, other] = &mut self.honest;
        assert!(one.ask(json!({"publish": {"channel": "c", "data": {}}}))["publish"].is_object());
        assert_eq!(other.publication().0, "c");
    }

    /// The API answers again as soon as connections are available.
    fn assert_api_is_served(&mut self) {
        until(
            || "the API does not answer again".into(),
            || {
                let head =
                    format!("POST /api/publish HTTP/1.1\r\nhost: t\r\nconnection: close\r\nx-api-key: {KEY}\r\n");
                let answer = response(&self.server, &head, b"{\"channel\":\"c\",\"data\":{}}");
                answer.starts_with("HTTP/1.1 200 ").then_some(())
            },
        );
        assert_eq!(self.honest[1].publication().0, "c");
    }
}

/// The whole response to this head and body, up to the end of the connection.
fn response(server: &Server, head: &str, body: &[u8]) -> String {
    let mut socket = connect(server.admin);
    let _ = socket.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes());
    let _ = socket.write_all(body);
    all(socket)
}

/// A reset after a response does not hide the response.
fn all(mut socket: TcpStream) -> String {
    let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = socket.read(&mut bytes) {
        answer.extend(&bytes[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn silent_connections_are_bounded_and_time_out() {
    let mut it = Abused::start();
    let descriptors = it.server.descriptors();
    let idle: Vec<TcpStream> = (0..1_000).map(|_| connect(it.server.admin)).collect();
    it.assert_honest_is_served();
    until(|| "more are taken than may be".into(), || (it.server.descriptors() <= descriptors + MOST).then_some(()));
    let refused = idle.into_iter().map(all).filter(|answer| answer.starts_with("HTTP/1.1 503 ")).count();
    assert!((1_000 - 4 * MOST..=1_000 - MOST).contains(&refused), "{refused} got a response");
    it.assert_api_is_served();
    it.server.wait_for_log("admin.connections_max");
    assert_eq!(it.server.metric("corecast_admin_connections_refused_total", "") as usize, refused);
    it.server.wait_for_metric("corecast_admin_connections", "", |n| n == 1);
}

#[test]
fn endless_heads_and_bodies_are_closed() {
    let mut it = Abused::start();
    let mut slow: Vec<TcpStream> = (0..MOST / 2).map(|_| connect(it.server.admin)).collect();
    for (n, socket) in slow.iter_mut().enumerate() {
        let text = match n % 2 {
            0 => "POST /api/publish HTTP/1.1\r\nhost: t\r\nx-a".to_owned(),
            _ => format!("POST /api/publish HTTP/1.1\r\nhost: t\r\nx-api-key: {KEY}\r\ncontent-length: 100\r\n\r\n{{"),
        };
        socket.write_all(text.as_bytes()).expect("the write succeeds");
    }
    it.assert_honest_is_served();
    for (n, socket) in slow.into_iter().enumerate() {
        let answer = all(socket);
        assert!(n % 2 == 0 || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    it.assert_api_is_served();
}

#[test]
fn huge_bodies_and_garbage_are_rejected() {
    let mut it = Abused::start();
    it.assert_api_is_served();
    let memory = it.server.memory_bytes();
    let head =
        |key: &str| format!("POST /api/publish HTTP/1.1\r\nhost: t\r\nconnection: close\r\nx-api-key: {key}\r\n");
    let huge = vec![b'['; 12 << 20];
    for _ in 0..5 {
        assert!(response(&it.server, &head("wrong"), &huge[..1 << 20]).starts_with("HTTP/1.1 401 "));
        assert!(response(&it.server, &head(KEY), &huge[..3 << 20]).starts_with("HTTP/1.1 413 "));
        // The server does not discard this much: the response may be lost with the connection.
        let answer = response(&it.server, &head(KEY), &huge);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
        it.assert_honest_is_served();
    }
    let deep = "{\"channel\":\"c\",\"data\":".to_owned() + &"[".repeat(100_000);
    let wide = format!("{{\"channel\":\"c\",{}\"data\":1", "\"x\":0,".repeat(100_000));
    let texts = [
        &deep,
        &wide,
        "",
        "{",
        "null",
        "[]",
        "{\"channel\":5}",
        "{\"channel\":\"c\"}",
        "\u{0}",
        "{\"channel\":\"c\",\"data\":nul}",
    ];
    for text in texts {
        let answer = response(&it.server, &head(KEY), text.as_bytes());
        let error = answer.starts_with("HTTP/1.1 400 ") || answer.contains("\"error\":");
        assert!(error, "{}: {answer}", &text[..text.len().min(60)]);
    }
    let answer = response(&it.server, &head(KEY), b"\xff\xfe{\"channel\":\"c\"}");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    for line in ["\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "POST /api/publish HTTP/9.9\r\n\r\n", &"x".repeat(1 << 20)] {
        let mut socket = connect(it.server.admin);
        let _ = socket.write_all(line.as_bytes());
        let answer = all(socket);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    it.assert_api_is_served();
    it.assert_honest_is_served();
    assert!(it.server.memory_bytes() <= memory + (32 << 20), "{} bytes, {memory} before", it.server.memory_bytes());
}
