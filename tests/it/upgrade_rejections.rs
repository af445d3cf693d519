//! An invalid upgrade request gets an HTTP response with the reason, and then the connection ends.

use crate::common::raw::upgrade_with;
use crate::common::{BINARY, Frame, Raw, Server, TEXT, frame};

/// The whole response to `request`; the connection must end without a reset.
fn answer(server: &Server, request: &[u8]) -> String {
    let mut raw = Raw::connect(server);
    raw.send(request);
    String::from_utf8(raw.rest().expect("no reset")).expect("text")
}

fn upgrade(path: &str, change: impl Fn(&str) -> String) -> String {
    change(&format!(
        "GET {path} HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ))
}

#[test]
fn malformed_requests_are_answered_with_400() {
    let server = Server::start();
    let good = |change: fn(&str) -> String| upgrade("/echo", change);
    for request in [
        "nonsense\0\x01\r\n\r\n".to_owned(),
        good(|r| r.replace("Host: t\r\n", "")),
        good(|r| r.replace("Host: t\r\n", "Host: t\r\nHost: u\r\n")),
        good(|r| r.replace("keep-alive, Upgrade", "keep-alive")),
        good(|r| r.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")),
        good(|r| r.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")),
        good(|r| r.replace("HTTP/1.1", "HTTP/1.2")),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "EHLO example.org\r\n".to_owned(),
        "POST /echo\r\n\r\n".to_owned(),
        good(|r| r.replace("Host: t\r\n", "Host: t\r\nContent-Length: 5\r\n")),
        good(|r| r.replace("Host: t\r\n", "Host: t\r\n folded\r\n")),
    ] {
        let answer = answer(&server, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?} → {answer:?}");
    }
}

/// A request that two parsers could read differently (its end, target or fields) is rejected, and the bytes after it
/// are not parsed as another request.
#[test]
fn ambiguous_requests_are_answered_with_400_once() {
    let server = Server::start();
    for (what, from, to) in [
        ("two Hosts", "Host: t\r\n", "Host: t\r\nhost: t\r\n"),
        ("a list of Hosts", "Host: t\r\n", "Host: t, u\r\n"),
        ("a Host with a path", "Host: t\r\n", "Host: t/echo\r\n"),
        ("a body", "Host: t\r\n", "Host: t\r\nContent-Length: 4\r\n"),
        ("two lengths", "Host: t\r\n", "Host: t\r\nContent-Length: 0\r\nContent-Length: 4\r\n"),
        ("a list of lengths", "Host: t\r\n", "Host: t\r\nContent-Length: 0, 0\r\n"),
        ("a length with a sign", "Host: t\r\n", "Host: t\r\nContent-Length: +0\r\n"),
        ("a transfer encoding", "Host: t\r\n", "Host: t\r\nTransfer-Encoding: chunked\r\n"),
        ("two of them", "Host: t\r\n", "Host: t\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("both", "Host: t\r\n", "Host: t\r\nContent-Length: 0\r\nTransfer-Encoding: x\r\n"),
        ("a folded field", "Host: t\r\n", "Host: t\r\nX-A: 1\r\n\t2\r\n"),
        ("a fold before the first field", "Host: t\r\n", " X-A: 1\r\nHost: t\r\n"),
        ("a blank before the colon", "Host: t\r\n", "Host : t\r\n"),
        ("a CR in a name", "Host: t\r\n", "Ho\rst: u\r\nHost: t\r\n"),
        ("a CR in a value", "Host: t\r\n", "Host: t\r\nX-A: 1\rX-B: 2\r\n"),
        ("a bare LF", "Host: t\r\n", "Host: t\nX-A: 1\r\n"),
        ("a bare LF at the end", "\r\n\r\n", "\r\n\n"),
        ("a NUL", "Host: t\r\n", "Host: t\r\nX-A: \0\r\n"),
        ("a field without a name", "Host: t\r\n", "Host: t\r\n: 1\r\n"),
        ("a field without a colon", "Host: t\r\n", "Host: t\r\nX-A\r\n"),
        ("two blanks in the first line", "GET /echo", "GET  /echo"),
        ("a tab in the first line", "GET /echo HTTP", "GET /echo\tHTTP"),
        ("a third word", "/echo HTTP/1.1", "/echo /echo HTTP/1.1"),
        ("another version", "HTTP/1.1", "HTTP/1.10"),
        ("an absolute target without an authority", "GET /echo", "GET http:///echo"),
        ("an authority with a user", "GET /echo", "GET http://t@u/echo"),
        ("another scheme", "GET /echo", "GET ftp://t/echo"),
        ("an asterisk", "GET /echo", "GET *"),
        ("a fragment", "GET /echo", "GET /echo#x"),
    ] {
        let request = upgrade("/echo", |r| r.replacen(from, to, 1));
        let answer = answer(&server, format!("{request}GET /health HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer:?}");
    }
    // Both forms of a target are equivalent (RFC 9112, section 3.2.2).
    let mut raw = Raw::connect(&server);
    raw.send(upgrade("/echo", |r| r.replace("GET /echo", "GET http://t/echo")).as_bytes());
    raw.take_upgrade();
}

#[test]
fn unknown_paths_are_answered_with_404() {
    let server = Server::start();
    for path in ["/", "/echo/", "/connection", "/metrics", "/api/publish"] {
        let answer = answer(&server, upgrade(path, str::to_owned).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path} → {answer:?}");
    }
}

#[test]
fn echo_is_404_if_disabled() {
    let server = Server::with(&[("echo.enabled", "false")]);
    let answer = answer(&server, upgrade("/echo", str::to_owned).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer:?}");
}

#[test]
fn other_methods_are_answered_with_405_and_the_allowed_method() {
    let server = Server::start();
    for method in ["POST", "PUT", "OPTIONS", "CONNECT"] {
        let answer = answer(&server, format!("{method} /echo HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer:?}");
    }
    let body = "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody";
    assert!(answer(&server, body.as_bytes()).starts_with("HTTP/1.1 405 "));
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let server = Server::start();
    for path in ["/health", "/", "/echo", "/connection/websocket", "/api/publish"] {
        let of = |method: &str| answer(&server, format!("{method} {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
        let (get, head) = (of("GET"), of("HEAD"));
        assert!(get.starts_with(&head) && head.ends_with("\r\n\r\n") && head.len() < get.len(), "{get:?} {head:?}");
    }
    // A HEAD opens no WebSocket (RFC 9110, section 9.3.2).
    let answer = answer(&server, upgrade("/echo", |r| r.replace("GET", "HEAD")).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer:?}");
}

#[test]
fn calls_of_the_server_api_are_told_the_setting_of_its_address() {
    let server = Server::start();
    for line in ["POST /api/publish", "POST /api", "GET /api/info", "GET /metrics", "OPTIONS /api/publish"] {
        let request = format!("{line} HTTP/1.1\r\nHost: t\r\nX-API-Key: k\r\nContent-Length: 0\r\n\r\n");
        let answer = answer(&server, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("admin.address"), "{line}: {answer:?}");
    }
}

#[test]
fn upgrade_requests_that_centrifugo_accepts_are_accepted() {
    let server = Server::start();
    for (from, to) in [
        ("HTTP/1.1", "HTTP/1.0"),
        ("Host: t", "Host:"),
        ("Version: 13", "Version: 13, 8"),
        ("GET /", "GET ws://t/"),
        ("Host: t\r\n", "Host: t\r\nSec-WebSocket-Protocol: chat\r\n"),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(upgrade("/connection/websocket", |r| r.replacen(from, to, 1)).as_bytes());
        raw.take_upgrade();
    }
}

#[test]
fn protobuf_is_chosen_by_subprotocol_or_url() {
    let server = Server::start();
    for (query, subprotocol, opcode) in [
        ("?format=protobuf", "centrifuge-json", BINARY),
        ("?cf_protocol=json&format=protobuf", "", BINARY),
        ("?format=%70rotobuf", "", BINARY),
        ("?cf_protocol=json", "centrifuge-protobuf", BINARY),
        ("?format=PROTOBUF", "", TEXT),
    ] {
        let mut raw = Raw::connect(&server);
        let offer = [("Sec-WebSocket-Protocol", subprotocol)];
        raw.send(upgrade_with(&format!("/connection/websocket{query}"), &offer).as_bytes());
        raw.take_upgrade();
        // `{"id":1,"connect":{}}` in both encodings.
        let connect: &[u8] = if opcode == TEXT { br#"{"id":1,"connect":{}}"# } else { &[4, 8, 1, 0x22, 0] };
        raw.send(&frame(opcode, connect));
        assert_eq!(raw.frame().opcode, opcode, "{query} {subprotocol}");
    }
}

#[test]
fn request_heads_of_single_sign_on_and_meshes_are_accepted() {
    let server = Server::start();
    let cookie = format!("Host: t\r\nCookie: session={}\r\n", "c".repeat(12_000));
    let fields: String = (0..100).map(|n| format!("X-Mesh-{n}: {}\r\n", "m".repeat(50))).collect();
    let token = "t".repeat(6_000);
    for request in [
        upgrade("/echo", |r| r.replace("Host: t\r\n", &cookie)),
        upgrade("/echo", |r| r.replace("Host: t\r\n", &format!("Host: t\r\n{fields}"))),
        upgrade(&format!("/echo?token={token}"), |r| r.replace("Host: t\r\n", &format!("{cookie}{fields}"))),
    ] {
        // Whole, in packets, and with the first frame behind it.
        for pieces in [1, 7, 40] {
            let mut raw = Raw::connect(&server);
            let packet = [request.as_bytes(), &frame(TEXT, b"first")].concat();
            packet.chunks(packet.len().div_ceil(pieces)).for_each(|piece| raw.send(piece));
            raw.take_upgrade();
            assert_eq!(raw.frame(), Frame::new(TEXT, "first"));
        }
    }
    assert_eq!(server.metric("corecast_spill_bytes", ""), 0);
}

#[test]
fn bounds_of_a_request_head_are_settings() {
    let server = Server::with(&[
        ("engine.request_head_bytes_max", "2KiB"),
        ("engine.request_fields_max", "16"),
        ("engine.request_target_bytes_max", "512B"),
    ]);
    for (fields, target, status) in [
        ("x: y\r\n".repeat(12), "/echo".to_owned(), 426),
        ("x: y\r\n".repeat(16), "/echo".to_owned(), 431),
        (format!("x: {}\r\n", "y".repeat(2_100)), "/echo".to_owned(), 431),
        (String::new(), format!("/echo?{}", "x".repeat(500)), 426),
        (String::new(), format!("/echo?{}", "x".repeat(510)), 414),
    ] {
        let answer = answer(&server, format!("GET {target} HTTP/1.1\r\nHost: t\r\n{fields}\r\n").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
    }
}

#[test]
fn too_long_target_is_answered_with_414() {
    let server = Server::start();
    let answer = answer(&server, upgrade(&format!("/echo?{}", "x".repeat(9000)), str::to_owned).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer:?}");
}

#[test]
fn other_versions_and_plain_requests_are_answered_with_426_and_the_supported_version() {
    let server = Server::start();
    for request in [
        upgrade("/echo", |r| r.replace("Version: 13", "Version: 8")),
        upgrade("/connection/websocket", |r| r.replace("Sec-WebSocket-Version: 13\r\n", "")),
        "GET /connection/websocket HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
    ] {
        let answer = answer(&server, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 426 "), "{answer:?}");
        assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n") && answer.contains("\r\nUpgrade: websocket\r\n"));
    }
}

#[test]
fn too_large_head_is_answered_with_431() {
    let server = Server::start();
    let many = "x: y\r\n".repeat(200);
    let large = format!("x: {}\r\n", "y".repeat(40_000));
    for fields in [many, large] {
        let request = format!("GET /echo HTTP/1.1\r\nHost: t\r\n{fields}\r\n");
        let answer = answer(&server, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    }
    // A head without an end is rejected as well, once it is longer than the bound.
    let answer = answer(&server, format!("GET /echo HTTP/1.1\r\nx: {}", "y".repeat(33_000)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}

#[test]
fn incomplete_head_is_answered_with_408_at_the_deadline() {
    let server = Server::with(&[("engine.upgrade_timeout", "200ms")]);
    for start in ["", "GET /echo HTTP/1.1\r\nHost: t\r\n"] {
        let answer = answer(&server, start.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 408 "), "{start:?} → {answer:?}");
    }
    assert_eq!(server.metric("corecast_connections_refused_total", "reason=\"timeout\""), 2);
}

#[test]
fn foreign_origins_are_answered_with_403() {
    let server = Server::with(&[("client.allowed_origins", "https://*.example.com")]);
    let from = |origin: &str| {
        let request =
            upgrade("/connection/websocket", |r| r.replace("Host: t\r\n", &format!("Host: t\r\nOrigin: {origin}\r\n")));
        let mut raw = Raw::connect(&server);
        raw.send(request.as_bytes());
        raw.head()
    };
    assert!(from("https://chat.example.com").starts_with("HTTP/1.1 101 "));
    assert!(from("https://example.org").starts_with("HTTP/1.1 403 "));
}

#[test]
fn subprotocol_is_chosen_from_the_offer() {
    let server = Server::start();
    let offer = |protocols: &str| {
        let field = format!("Host: t\r\nSec-WebSocket-Protocol: {protocols}\r\n");
        let mut raw = Raw::connect(&server);
        raw.send(upgrade("/connection/websocket", |r| r.replace("Host: t\r\n", &field)).as_bytes());
        raw.head()
    };
    for (offered, chosen) in [
        ("chat, centrifuge-json", "centrifuge-json"),
        ("centrifuge-protobuf", "centrifuge-protobuf"),
        ("centrifuge-protobuf, centrifuge-json", "centrifuge-protobuf"),
    ] {
        let answer = offer(offered);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains(&format!("Sec-WebSocket-Protocol: {chosen}\r\n")), "{answer}");
    }
    let other = offer("chat");
    assert!(other.starts_with("HTTP/1.1 101 ") && !other.contains("Sec-WebSocket-Protocol"), "{other}");
}

#[test]
fn upgrade_sent_byte_by_byte_is_answered_once() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.send_byte_by_byte(upgrade("/echo", str::to_owned).as_bytes());
    raw.take_upgrade();
    raw.send(&frame(TEXT, b"hello"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "hello"));
}

#[test]
fn frames_sent_with_the_upgrade_request_are_processed() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    let mut packet = upgrade("/echo", str::to_owned).into_bytes();
    packet.extend(frame(TEXT, b"first"));
    let second = frame(TEXT, b"second");
    packet.extend(&second[..4]);
    raw.send(&packet);
    raw.take_upgrade();
    assert_eq!(raw.frame(), Frame::new(TEXT, "first"));
    raw.send(&second[4..]);
    assert_eq!(raw.frame(), Frame::new(TEXT, "second"));
}

#[test]
fn health_is_served_on_the_client_listener() {
    let server = Server::start();
    let answer = answer(&server, b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n{}"), "{answer:?}");
    assert_eq!(server.http("GET", "/health", &[], "").0, 200);
}

#[test]
fn connections_past_the_limit_are_answered_with_503() {
    let server = Server::with(&[("engine.connections_max", "2")]);
    // Two shards accept two each: at least one of five connections finds its shard full.
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..5 {
        let mut raw = Raw::connect(&server);
        // The response may come before the request, and the socket may be closed when the request is sent.
        let sent = std::io::Write::write_all(&mut raw.0, upgrade("/echo", str::to_owned).as_bytes());
        let head = if sent.is_ok() { raw.head() } else { String::new() };
        match head.starts_with("HTTP/1.1 101 ") {
            true => held.push(raw),
            false => {
                assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: "), "{head:?}");
                refused += 1;
            }
        }
    }
    assert!((1..=3).contains(&refused), "{refused}");
    assert_eq!(server.metric("corecast_connections_refused_total", "reason=\"full\""), refused);
    held.iter_mut().for_each(|raw| raw.send(&frame(TEXT, b"held")));
    held.iter_mut().for_each(|raw| assert_eq!(raw.frame(), Frame::new(TEXT, "held")));
    drop(held);
    server.wait_for_metric("corecast_connections", "", |n| n == 0);
    let mut raw = Raw::open(&server, "/echo");
    raw.send(&frame(TEXT, b"room again"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "room again"));
}
