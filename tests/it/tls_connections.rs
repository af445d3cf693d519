//! Connections over TLS behave like plain ones: protocol versions, sizes, partial transfers, closes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use crate::common::tls::{Authority, TlsStream, handshake, upgrade, wss};
use crate::common::{Client, Raw, connect, until};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, StreamOwned};
use serde_json::json;
use tungstenite::{Message, WebSocket};

fn over(ws: WebSocket<TlsStream>) -> Client<TlsStream> {
    let mut client = Client::over(ws);
    client.ask(json!({"connect": {}}));
    client
}

#[test]
fn both_versions_and_plain_clients_share_a_channel() {
    let authority = Authority::new("carries");
    let server = authority.serve(&[]);
    let mut plain = Client::over(crate::common::ws_at(server.clients[1], "/connection/websocket"));
    plain.ask(json!({"connect": {}}));
    plain.subscribe("room");
    let mut encrypted = Vec::new();
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = Arc::new(authority.client(&[version]));
        let ws = wss(&server, &config, "/connection/websocket");
        assert_eq!(ws.get_ref().conn.protocol_version(), Some(spoken));
        let mut client = over(ws);
        client.subscribe("room");
        encrypted.push(client);
    }
    let reply = encrypted[0].send(json!({"publish": {"channel": "room", "data": {"n": 1}}}));
    for client in &mut encrypted {
        let of_room = |message: &serde_json::Value| message["push"]["pub"]["data"] == json!({"n": 1});
        while !of_room(&client.next()) {}
    }
    while plain.next()["push"]["pub"]["data"] != json!({"n": 1}) {}
    assert!(reply > 0);
    assert_eq!(server.metric("corecast_tls_handshakes_total", "full"), 2);
}

#[test]
fn large_messages_travel_both_ways() {
    let authority = Authority::new("large");
    let server = authority.serve(&[("websocket.message_size_limit", "4MiB"), ("client.queue_max_size", "8MiB")]);
    for version in [&TLS12, &TLS13] {
        let mut ws = wss(&server, &Arc::new(authority.client(&[version])), "/echo");
        for size in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 1 << 20, 3 << 20] {
            let message: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            ws.send(Message::binary(message.clone())).expect("the write succeeds");
            assert!(ws.read().expect("an echo").into_data() == message, "{size}");
        }
    }
    server.wait_for_metric("corecast_tls_held_bytes", "", |bytes| bytes == 0);
}

/// Writes one byte per segment, and reads at most three bytes.
struct Trickle(TcpStream);

impl Read for Trickle {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = into.len().min(3);
        self.0.read(&mut into[..n])
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..1])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn tls_records_may_arrive_byte_by_byte() {
    let authority = Authority::new("trickle");
    let server = authority.serve(&[]);
    for version in [&TLS12, &TLS13] {
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(Arc::new(authority.client(&[version])), name).expect("a session");
        let stream = StreamOwned::new(session, Trickle(connect(server.client)));
        let mut ws = upgrade(stream, "/echo");
        for n in 0..3 {
            ws.send(Message::text(format!("message {n}"))).expect("the write succeeds");
            assert_eq!(ws.read().expect("an echo").into_text().unwrap(), format!("message {n}"));
        }
    }
}

#[test]
fn close_is_sent_as_websocket_close_and_close_notify() {
    let authority = Authority::new("ends");
    let mut server = authority.serve(&[("shutdown.window", "100ms")]);
    let config = Arc::new(authority.client(rustls::ALL_VERSIONS));
    // The client's close frame is answered, and then the stream ends with close_notify.
    let mut ws = wss(&server, &config, "/echo");
    ws.close(None).expect("the write succeeds");
    assert!(matches!(ws.read(), Ok(Message::Close(_))));
    assert!(matches!(ws.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert_eq!(ws.get_mut().read(&mut [0; 16]).expect("close_notify came"), 0);
    // A client that ends TLS without a close frame is disconnected.
    let mut ws = wss(&server, &config, "/echo");
    ws.get_mut().conn.send_close_notify();
    ws.get_mut().flush().expect("the write succeeds");
    server.wait_for_metric("corecast_connections_closed_total", "vanished", |n| n == 1);
    // So is a client that only ends TCP.
    let ws = wss(&server, &config, "/echo");
    ws.get_ref().sock.shutdown(Shutdown::Both).expect("it is open");
    server.wait_for_metric("corecast_connections_closed_total", "vanished", |n| n == 2);
    // A client that is connected at shutdown gets a close frame.
    let mut client = over(wss(&server, &config, "/connection/websocket"));
    server.signal(Signal::TERM);
    assert_eq!(client.closed().0, 3001);
    let _ = client.ws.close(None);
    let _ = client.ws.flush();
    assert!(server.wait_for_exit().success());
    assert_eq!(client.ws.get_mut().read(&mut [0; 16]).expect("close_notify came"), 0);
}

#[test]
fn tls_client_that_does_not_read_is_closed_and_freed() {
    let authority = Authority::new("slow");
    let server = authority.serve(&[("client.queue_max_size", "64KiB")]);
    let config = Arc::new(authority.client(rustls::ALL_VERSIONS));
    let mut slow = over(wss(&server, &config, "/connection/websocket"));
    slow.subscribe("flood");
    let mut honest = over(wss(&server, &config, "/connection/websocket"));
    honest.subscribe("flood");
    let text = "x".repeat(16 * 1024);
    let mut sent = 0;
    until(
        || "the slow one is never cut".into(),
        || {
            server.api("publish", &json!({"channel": "flood", "data": {"n": sent, "text": text}}));
            assert_eq!(honest.publication().1["n"], json!(sent));
            sent += 1;
            (server.metric("corecast_connections_closed_total", "slow") == 1).then_some(())
        },
    );
    drop(slow);
    server.wait_for_metric("corecast_tls_held_bytes", "", |bytes| bytes == 0);
    server.wait_for_metric("corecast_backlog_bytes", "", |bytes| bytes == 0);
}

/// All bytes until the end.
fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    all
}

#[test]
fn plain_bytes_on_a_tls_listener_get_an_alert_and_are_counted() {
    let authority = Authority::new("nottls");
    let server = authority.serve(&[("engine.upgrade_timeout", "300ms")]);
    let mut plain = Raw::connect(&server);
    plain.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    let answer = String::from_utf8(plain.rest().expect("an end without a reset")).expect("text");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS"), "{answer}");
    server.wait_for_metric("corecast_tls_failures_total", "not_tls", |n| n == 1);

    // A fatal alert: 21, a version, two bytes, 2.
    for garbage in [&[0u8; 64][..], &[22, 3, 1, 0, 4, 9, 0, 0, 0], &[23, 3, 3, 0, 1, 0], &[0x80, 0x2e, 1, 0, 2]] {
        let mut socket = connect(server.client);
        socket.write_all(garbage).expect("the write succeeds");
        let alert = rest(&mut socket);
        assert!(alert.len() == 7 && alert[0] == 21 && alert[5] == 2, "{garbage:?}: {alert:?}");
    }
    server.wait_for_metric("corecast_tls_failures_total", "malformed", |n| n == 4);

    let mut only_h2 = authority.client(rustls::ALL_VERSIONS);
    only_h2.alpn_protocols = vec![b"h2".to_vec()];
    let error = handshake(server.client, &Arc::new(only_h2), "localhost").expect_err("nothing in common");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    server.wait_for_metric("corecast_tls_failures_total", "protocol", |n| n == 1);

    // A client that does not trust the server sends an alert.
    let untrusting = Authority::new("untrusting");
    handshake(server.client, &Arc::new(untrusting.client(&[&TLS13])), "localhost")
        .expect_err("the client does not trust the server");
    server.wait_for_metric("corecast_tls_failures_total", "alert", |n| n == 1);

    // Half a handshake is closed at its deadline without a response.
    let mut half = connect(server.client);
    half.write_all(&[22, 3, 1, 2, 0, 1]).expect("the write succeeds");
    assert!(rest(&mut half).is_empty());
    server.wait_for_metric("corecast_tls_failures_total", "unfinished", |n| n == 1);
    server.wait_for_metric("corecast_tls_held_bytes", "", |bytes| bytes == 0);
    server.wait_for_log("TLS sessions failed");
}

#[test]
fn handshake_storm_is_budgeted_and_completes() {
    let authority = Authority::new("storm");
    let server = authority.serve(&[("engine.handshakes_per_turn", "1")]);
    let config = Arc::new(authority.client(&[&TLS13]));
    let hellos: Vec<TlsStream> = (0..64)
        .map(|_| {
            let name = "localhost".try_into().expect("a name");
            let session = ClientConnection::new(Arc::clone(&config), name).expect("a session");
            StreamOwned::new(session, connect(server.client))
        })
        .collect();
    let mut hellos = hellos;
    // All clients send their hello before any is answered.
    for stream in &mut hellos {
        stream.conn.write_tls(&mut stream.sock).expect("the write succeeds");
    }
    for stream in hellos {
        let mut ws = upgrade(stream, "/echo");
        ws.send(Message::text("here")).expect("the write succeeds");
        assert_eq!(ws.read().expect("an echo").into_text().unwrap(), "here");
    }
    assert!(server.metric("corecast_tls_handshakes_put_off_total", "") > 0);
}

#[test]
fn proxy_header_precedes_the_tls_handshake() {
    let authority = Authority::new("proxied");
    let bundle = authority.bundle("server.pem", &["localhost"]);
    let command =
        crate::common::command(&["--listen", "proxy:tls:127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
    let server = crate::common::Server::spawn(
        command,
        &[("tls.cert_pem_file", &bundle), ("limits.connections_per_address", "1"), ("limits.exempt", "[]")],
    );
    let config: Arc<ClientConfig> = Arc::new(authority.client(rustls::ALL_VERSIONS));
    let connect_from = |from: &str| {
        let mut socket = connect(server.client);
        socket.write_all(format!("PROXY TCP4 {from} 192.0.2.1 4711 443\r\n").as_bytes()).expect("the write succeeds");
        let name = "localhost".try_into().expect("a name");
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&config), name).expect("a session"), socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok::<_, std::io::Error>(upgrade(stream, "/echo"))
    };
    let first = connect_from("203.0.113.1").expect("the first of its address");
    connect_from("203.0.113.1").expect_err("a second one");
    connect_from("203.0.113.2").expect("one of another address");
    drop(first);
}

#[test]
fn start_errors_name_the_file_and_the_fix() {
    let authority = Authority::new("start");
    let (certificate, key) = authority.pair(&["localhost"]);
    let (_, other) = authority.pair(&["localhost"]);
    let chain = authority.file("chain.pem", &certificate);
    let fails = |settings: &[(&str, &str)]| {
        let mut command = crate::common::command(&["--listen", "tls:127.0.0.1:0", "--shards", "1"]);
        for (name, value) in settings {
            command.env(format!("CORECAST_{}", name.to_uppercase().replace('.', "_")), value);
        }
        let output = command.output().expect("the program runs");
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("text")
    };
    for (settings, words) in [
        (&[][..], "needs a certificate"),
        (&[("tls.cert_pem_file", "/nowhere.pem")], "/nowhere.pem: No such file"),
        (&[("tls.cert_pem_file", &authority.file("key.pem", &key))], "it holds no certificate"),
        (&[("tls.cert_pem_file", &chain)], "it holds no private key"),
        (
            &[("tls.cert_pem_file", &chain), ("tls.key_pem_file", &authority.file("other.pem", &other))],
            "the key does not belong to the certificate",
        ),
        (
            &[("tls.cert_pem_file", &authority.bundle("a.pem", &["a"])), ("tls.ticket_keys_file", &chain)],
            "line 1 is not",
        ),
        (&[("tls.cert_pem_file", &chain), ("tls.min_version", "1.1")], "\"1.2\""),
    ] {
        let stderr = fails(settings);
        assert!(stderr.contains(words), "{settings:?}: {stderr}");
    }
}
