//! HTTP streaming and server-sent events with raw sockets: heads, framing, commands by emulation, ends, and bounds.

use std::collections::HashMap;
use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::common::stream::{Session, StreamClient, exchange, read_response, request};
use crate::common::{Client, Server, connect, token, until};

const ALL: [(&str, &str); 5] = [
    ("http_stream.enabled", "true"),
    ("sse.enabled", "true"),
    ("uni_http_stream.enabled", "true"),
    ("uni_sse.enabled", "true"),
    ("init.enabled", "true"),
];

fn server(more: &[(&str, &str)]) -> Server {
    Server::with(&[&ALL, more].concat())
}

/// A connect command in the URL, as EventSource sends it.
fn sse_request(connect: &Value) -> Vec<u8> {
    let command = json!({"id": 1, "connect": connect}).to_string();
    let encoded: String = command.bytes().map(|byte| format!("%{byte:02X}")).collect();
    request("GET", &format!("/connection/sse?cf_connect={encoded}"), &[], b"")
}

#[test]
fn http_stream_carries_replies_and_publications_and_emulation_carries_commands() {
    let server = server(&[("channel.without_namespace.join_leave", "false")]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    for field in [
        "Connection: keep-alive\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X-Accel-Buffering: no\r\n",
        "Cache-Control: private, no-cache, no-store, must-revalidate, max-age=0\r\n",
        "Pragma: no-cache\r\n",
        "Expire: 0\r\n",
    ] {
        assert!(stream.head.contains(field), "{}", stream.head);
    }
    let connected = stream.line().expect("the connect reply");
    assert_eq!(
        (&connected["id"], &connected["connect"]["ping"], &connected["connect"]["pong"]),
        (&json!(1), &json!(25), &json!(true))
    );
    let session = Session::of(&connected);
    assert_eq!(session.send(server.client, &[json!({"id": 2, "subscribe": {"channel": "news"}})]), 204);
    assert_eq!(stream.line().expect("a reply")["id"], 2);
    assert_eq!(
        session.send(server.client, &[json!({"id": 3, "publish": {"channel": "news", "data": {"a": "ü\n"}}})]),
        204
    );
    let (first, second) = (stream.line().expect("one"), stream.line().expect("two"));
    let (reply, push) = if first["id"] == 3 { (first, second) } else { (second, first) };
    assert!(reply["id"] == 3 && reply["publish"].is_object(), "{reply}");
    assert_eq!(push["push"]["pub"]["data"], json!({"a": "ü\n"}), "{push}");
}

#[test]
fn both_forms_and_encodings_get_the_same_publications_as_a_websocket() {
    let server = server(&[("channel.without_namespace.join_leave", "false")]);
    let mut ws = Client::fresh(&server);
    ws.ask(json!({"connect": {}}));
    ws.ask(json!({"subscribe": {"channel": "c"}}));
    let mut lines = StreamClient::http_stream(server.client, &json!({}));
    let mut events = StreamClient::open(server.client, &sse_request(&json!({})));
    assert!(events.head.contains("Content-Type: text/event-stream; charset=utf-8\r\n"), "{}", events.head);
    assert_eq!(events.piece().as_deref(), Some(&b"\r\n"[..]), "the first bytes open an EventSource");
    let subscribe = [json!({"id": 2, "subscribe": {"channel": "c"}})];
    let session = Session::of(&lines.line().expect("the connect reply"));
    assert_eq!(session.send(server.client, &subscribe), 204);
    assert_eq!(lines.line().expect("a reply")["id"], 2);
    let session = Session::of(&events.event().expect("the connect reply"));
    assert_eq!(session.send(server.client, &subscribe), 204);
    assert_eq!(events.event().expect("a reply")["id"], 2);
    for number in 0..3 {
        server.api("publish", &json!({"channel": "c", "data": {"n": number}}));
        let data = |push: Value| push["push"]["pub"]["data"]["n"].as_u64();
        assert_eq!(lines.line().map(data), Some(Some(number)));
        assert_eq!(events.event().map(data), Some(Some(number)));
        assert_eq!(ws.publication().1["n"].as_u64(), Some(number));
    }
}

/// The fields of a Protobuf message that have a length, by number. The others are numbers.
fn fields_of(mut bytes: &[u8]) -> HashMap<usize, &[u8]> {
    let varint = |bytes: &mut &[u8]| {
        let end = bytes.iter().position(|&byte| byte < 0x80).expect("a whole number");
        let (number, rest) = bytes.split_at(end + 1);
        *bytes = rest;
        number.iter().rev().fold(0, |value, &byte| value << 7 | usize::from(byte & 0x7f))
    };
    let mut found = HashMap::new();
    while !bytes.is_empty() {
        let (tag, number) = (varint(&mut bytes), varint(&mut bytes));
        if tag & 7 == 2 {
            let (field, rest) = bytes.split_at(number);
            found.insert(tag >> 3, field);
            bytes = rest;
        }
    }
    found
}

#[test]
fn protobuf_stream_has_delimited_messages_in_binary_emulation() {
    let server = server(&[("channel.without_namespace.join_leave", "false")]);
    // Command{id: 1, connect: {}}.
    let fields = [("Content-Type", "application/octet-stream")];
    let command = [4, 0x08, 1, 0x22, 0];
    let mut stream = StreamClient::open(server.client, &request("POST", "/connection/http_stream", &fields, &command));
    let reply = stream.piece().expect("the connect reply");
    assert_eq!(usize::from(reply[0] & 0x7f) | usize::from(reply[1]) << 7, reply.len() - 2, "its length is before it");
    let connected = fields_of(fields_of(&reply[2..])[&5]);
    let (session, node) = (connected[&9], connected[&10]);
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let body = [field(1, node), field(2, session), field(3, &[7, 0x08, 2, 0x2a, 3, 0x0a, 1, b'c'])].concat();
    assert_eq!(exchange(server.client, &request("POST", "/emulation", &fields, &body)).0, 204);
    let reply = stream.piece().expect("the reply");
    assert_eq!(reply[1..3], [0x08, 2], "the id of the command");
    server.api("publish", &json!({"channel": "c", "data": 1}));
    let push = stream.piece().expect("the publication");
    assert_eq!(usize::from(push[0]), push.len() - 1);
}

#[test]
fn commands_of_one_connection_take_effect_in_their_order() {
    let server = server(&[("channel.without_namespace.join_leave", "false")]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    let session = Session::of(&stream.line().expect("the connect reply"));
    // Pipelined: all are sent before the first answer is read.
    let mut socket = connect(server.client);
    let pairs = 500;
    let requests: Vec<u8> = (0..2 * pairs)
        .flat_map(|at| {
            let command = match at % 2 {
                0 => json!({"id": at + 2, "subscribe": {"channel": "c"}}),
                _ => json!({"id": at + 2, "unsubscribe": {"channel": "c"}}),
            };
            session.request(&[command], &[])
        })
        .collect();
    let mut writer = socket.try_clone().expect("a second handle");
    let write = std::thread::spawn(move || writer.write_all(&requests).expect("the server accepts the bytes"));
    for at in 0..2 * pairs {
        assert_eq!(read_response(&mut socket).0, 204);
        let reply = stream.line().expect("a reply");
        assert_eq!(reply["id"], at + 2, "{reply}");
        assert!(reply["error"].is_null(), "{reply}");
    }
    write.join().expect("it writes");
}

#[test]
fn emulation_reaches_only_a_session_that_is_open() {
    let server = server(&[]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    let session = Session::of(&stream.line().expect("the connect reply"));
    let ping = [json!({"id": 7, "rpc": {"method": "m", "data": {}}})];
    let mut wrong = session.clone();
    wrong.session.replace_range(20..21, if &wrong.session[20..21] == "A" { "B" } else { "A" });
    assert_eq!(wrong.send(server.client, &ping), 404);
    let foreign = Session { node: "another".into(), ..session.clone() };
    assert_eq!(foreign.send(server.client, &ping), 404);
    assert_eq!(Session { session: String::new(), ..session.clone() }.send(server.client, &ping), 404);
    // The session of a WebSocket has no emulation, and none of the refused requests reached the stream.
    assert_eq!(session.send(server.client, &ping), 204);
    assert_eq!(stream.line().expect("a reply")["id"], 7);
    drop(stream);
    until(|| "the session stays".into(), || (session.send(server.client, &ping) == 404).then_some(()));
}

#[test]
fn commands_past_the_byte_rate_get_429_until_it_fits_again() {
    let server = server(&[("client.byte_rate_limit", "200"), ("client.byte_rate_burst", "1000")]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    let session = Session::of(&stream.line().expect("the connect reply"));
    let mut taken = 0;
    let mut send = || {
        let status = session.send(server.client, &[json!({"id": taken + 2, "rpc": {"method": "m".repeat(200)}})]);
        taken += u32::from(status == 204);
        status
    };
    until(|| "the rate is never reached".into(), || (send() == 429).then_some(()));
    until(|| "it never fits again".into(), || (send() == 204).then_some(()));
    for id in 2..taken + 2 {
        assert_eq!(stream.line().expect("a reply")["id"], id);
    }
    assert!(server.metric("corecast_limit_reached_total", "client.byte_rate_limit") >= 1);
}

#[test]
fn json_of_a_stream_is_checked_as_utf8() {
    let server = server(&[]);
    let refused = json!({"code": 3501, "reason": "bad request"});
    let connect = b"{\"id\":1,\"connect\":{\"data\":\"\xff\"}}";
    let mut stream = StreamClient::open(server.client, &request("POST", "/connection/http_stream", &[], connect));
    assert_eq!(stream.line().expect("the disconnect")["push"]["disconnect"], refused);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    let session = Session::of(&stream.line().expect("the connect reply"));
    assert_eq!(session.send(server.client, &[json!({"id": 2, "subscribe": {"channel": "c"}})]), 204);
    // A Protobuf body carries any bytes.
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let command = b"{\"id\":3,\"publish\":{\"channel\":\"c\",\"data\":\"\xff\"}}";
    let body = [field(1, session.node.as_bytes()), field(2, session.session.as_bytes()), field(3, command)].concat();
    let octets = [("Content-Type", "application/octet-stream")];
    assert_eq!(exchange(server.client, &request("POST", "/emulation", &octets, &body)).0, 204);
    let mut push = stream.line().expect("a message");
    while push["push"]["disconnect"].is_null() {
        assert!(push["push"]["pub"].is_null(), "{push}");
        push = stream.line().expect("a message");
    }
    assert_eq!(push["push"]["disconnect"], refused);
}

#[test]
fn requests_that_are_wrong_get_their_status() {
    let server = server(&[("client.allowed_origins", "https://good.example")]);
    let at = server.client;
    let status = |bytes: &[u8]| exchange(at, bytes).0;
    let large = vec![b'x'; 65_537];
    for path in [
        "/connection/http_stream",
        "/emulation",
        "/connection/sse",
        "/connection/uni_sse",
        "/connection/uni_http_stream",
    ] {
        assert_eq!(status(&request("POST", path, &[], &large)), 413, "{path}");
        assert_eq!(status(&request("PUT", path, &[], b"")), 405, "{path}");
        assert_eq!(status(&request("HEAD", path, &[], b"")), 405, "{path}");
        let foreign = [("Origin", "https://evil.example")];
        assert_eq!(status(&request("POST", path, &foreign, b"{}")), 403, "{path}");
    }
    for path in ["/connection/http_stream", "/emulation", "/connection/uni_http_stream"] {
        let (code, head, _) = exchange(at, &request("GET", path, &[], b""));
        assert!(code == 405 && head.contains("Allow: POST, OPTIONS\r\n"), "{head}");
        assert_eq!(status(&request("OPTIONS", path, &[("Origin", "https://evil.example")], b"")), 403);
    }
    assert_eq!(status(&request("GET", "/connection/init", &[("Origin", "https://evil.example")], b"")), 403);
    assert_eq!(status(&request("GET", "/connection/sse", &[("Origin", "https://evil.example")], b"")), 400);
    assert_eq!(status(&request("GET", "/connection/sse?cf_connect=", &[], b"")), 400);
    assert_eq!(status(&request("GET", "/connection/uni_sse?cf_connect=%7B", &[], b"")), 400);
    assert_eq!(status(&request("POST", "/connection/uni_http_stream", &[], b"{")), 400);
    assert_eq!(status(&request("POST", "/emulation", &[], b"{")), 400);
    assert_eq!(status(&request("POST", "/emulation", &[], br#"{"data":{}}"#)), 400);
    let two = b"POST /emulation HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}";
    assert_eq!(status(two), 400);
    let chunks = b"POST /emulation HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    assert_eq!(status(chunks), 400);
    assert!(server.metric("corecast_connections_refused_total", "reason=\"body_too_large\"") >= 5);
}

#[test]
fn preflight_and_responses_carry_the_fields_for_pages_of_allowed_origins() {
    let server = server(&[("client.allowed_origins", "https://good.example")]);
    let fields = [("Origin", "https://good.example"), ("Access-Control-Request-Headers", "content-type")];
    let (status, head, _) = exchange(server.client, &request("OPTIONS", "/emulation", &fields, b""));
    assert_eq!(status, 204);
    for field in [
        "Access-Control-Allow-Origin: https://good.example\r\n",
        "Access-Control-Allow-Headers: content-type\r\n",
        "Access-Control-Allow-Credentials: true\r\n",
        "Access-Control-Max-Age: 300\r\n",
        "Access-Control-Allow-Methods: POST, OPTIONS\r\n",
    ] {
        assert!(head.contains(field), "{head}");
    }
    let body = br#"{"id":1,"connect":{}}"#;
    let mut stream = StreamClient::open(server.client, &request("POST", "/connection/http_stream", &fields[..1], body));
    assert!(stream.head.contains("Access-Control-Allow-Origin: https://good.example\r\n"), "{}", stream.head);
    let session = Session::of(&stream.line().expect("the connect reply"));
    let (status, head, _) =
        exchange(server.client, &session.request(&[json!({"id": 9, "rpc": {"method": "m"}})], &fields[..1]));
    assert!(status == 204 && head.contains("Access-Control-Allow-Origin: https://good.example\r\n"), "{head}");
    let (status, _, body) = exchange(server.client, &request("GET", "/connection/init", &fields[..1], b""));
    assert_eq!((status, body), (200, b"{}".to_vec()));
}

#[test]
fn first_frame_without_connect_ends_the_stream_with_a_disconnect() {
    let server = server(&[]);
    for body in [&b""[..], b"\n", b"{}", br#"{"id":1,"subscribe":{"channel":"c"}}"#, b"no json"] {
        let mut stream = StreamClient::open(server.client, &request("POST", "/connection/http_stream", &[], body));
        let push = stream.line().expect("the disconnect");
        assert_eq!(
            push["push"]["disconnect"],
            json!({"code": 3501, "reason": "bad request"}),
            "{}",
            body.escape_ascii()
        );
        assert_eq!(stream.piece(), None, "the last chunk");
        stream.expect_end();
    }
}

#[test]
fn server_ends_a_stream_with_the_disconnect_and_the_last_chunk() {
    let server = server(&[]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    let client = stream.line().expect("the connect reply")["connect"]["client"].clone();
    server.api("disconnect", &json!({"user": "", "client": client}));
    let end = stream.line().expect("the disconnect");
    assert_eq!(end["push"]["disconnect"]["code"], 3503, "{end}");
    assert_eq!(stream.piece(), None);
    stream.expect_end();
}

#[test]
fn body_that_dribbles_in_or_comes_in_chunks_opens_a_stream() {
    let server = server(&[]);
    let body = br#"{"id":1,"connect":{}}"#;
    let mut socket = connect(server.client);
    for byte in request("POST", "/connection/http_stream", &[], body).chunks(1) {
        socket.write_all(byte).expect("the server accepts the byte");
    }
    assert_eq!(StreamClient::on(socket).line().expect("the connect reply")["id"], 1);
    let head = b"POST /connection/http_stream HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks: Vec<u8> =
        body.chunks(2).flat_map(|part| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()).collect();
    let bytes = [&head[..], &chunks, b"0\r\n\r\n"].concat();
    let mut socket = connect(server.client);
    for byte in bytes.chunks(1) {
        socket.write_all(byte).expect("the server accepts the byte");
    }
    assert_eq!(StreamClient::on(socket).line().expect("the connect reply")["id"], 1);
}

#[test]
fn client_that_waits_for_100_continue_gets_it_once() {
    let server = server(&[]);
    let bytes = request("POST", "/connection/http_stream", &[("Expect", "100-continue")], br#"{"id":1,"connect":{}}"#);
    let body = bytes.len() - 21;
    let mut socket = connect(server.client);
    socket.write_all(&bytes[..body]).expect("the server accepts the head");
    let mut answer = [0; 25];
    socket.read_exact(&mut answer).expect("the interim response");
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(&bytes[body..]).expect("the server accepts the body");
    assert_eq!(StreamClient::on(socket).line().expect("the connect reply")["id"], 1);
}

#[test]
fn client_of_http_1_0_gets_a_stream_without_chunks() {
    let server = server(&[]);
    let body = r#"{"id":1,"connect":{}}"#;
    let head = format!("POST /connection/http_stream HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut stream = StreamClient::open(server.client, head.as_bytes());
    assert!(stream.head.contains("Connection: close\r\n") && !stream.head.contains("chunked"), "{}", stream.head);
    let client = stream.line().expect("the connect reply")["connect"]["client"].clone();
    server.api("disconnect", &json!({"user": "", "client": client}));
    assert_eq!(stream.line().expect("the disconnect")["push"]["disconnect"]["code"], 3503);
    assert_eq!(stream.piece(), None);
}

#[test]
fn bytes_behind_the_request_of_a_stream_are_ignored() {
    let server = server(&[]);
    let one = request("POST", "/connection/http_stream", &[], br#"{"id":1,"connect":{}}"#);
    let mut stream = StreamClient::open(server.client, &[&one[..], &one].concat());
    let session = Session::of(&stream.line().expect("the connect reply"));
    stream.socket.write_all(&one).expect("it is open");
    assert_eq!(session.send(server.client, &[json!({"id": 5, "rpc": {"method": "m"}})]), 204);
    assert_eq!(stream.line().expect("a reply")["id"], 5);
}

#[test]
fn fin_of_the_client_ends_its_session() {
    let server = server(&[]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    stream.line().expect("the connect reply");
    server.wait_for_metric("corecast_connections", "", |open| open == 1);
    stream.half_close();
    server.wait_for_metric("corecast_connections", "", |open| open == 0);
    // In the middle of a request too.
    let mut socket = connect(server.client);
    socket.write_all(b"POST /emulation HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n{").expect("accepted");
    socket.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).expect("the end");
}

#[test]
fn client_that_never_reads_is_closed_within_its_bound() {
    let server = server(&[
        ("client.queue_max_size", "65536"),
        ("channel.without_namespace.history_size", "0"),
        ("channel.without_namespace.history_ttl", "0s"),
        ("channel.without_namespace.presence", "false"),
        ("channel.without_namespace.join_leave", "false"),
    ]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    let session = Session::of(&stream.line().expect("the connect reply"));
    session.send(server.client, &[json!({"id": 2, "subscribe": {"channel": "c"}})]);
    stream.line().expect("the reply");
    let data = "x".repeat(60_000);
    until(
        || "the client stays".into(),
        || {
            for _ in 0..20 {
                server.api("publish", &json!({"channel": "c", "data": data}));
            }
            (server.metric("corecast_connections_closed_total", "reason=\"slow\"") == 1).then_some(())
        },
    );
}

#[test]
fn unidirectional_clients_get_pushes_without_a_reply() {
    let server = server(&[("client.ping_interval", "1s"), ("client.pong_timeout", "500ms")]);
    let connect = br#"{"subs":{"c":{}}}"#;
    let mut lines = StreamClient::open(server.client, &request("POST", "/connection/uni_http_stream", &[], connect));
    let connected = lines.line().expect("the connect push");
    assert!(connected["connect"]["subs"]["c"].is_object() && connected["connect"]["client"].is_string(), "{connected}");
    let target = "/connection/uni_sse?cf_connect=%7B%22subs%22:%7B%22c%22:%7B%7D%7D%7D";
    let mut events = StreamClient::open(server.client, &request("GET", target, &[], b""));
    assert!(events.event().expect("the connect push")["connect"].is_object());
    server.api("publish", &json!({"channel": "c", "data": [1]}));
    let data = |push: Value| push["pub"]["data"].clone();
    let wanted = |push: &Value| push["pub"].is_object();
    let from = |mut next: Box<dyn FnMut() -> Option<Value> + '_>| loop {
        let push = next().expect("a push");
        if wanted(&push) {
            return data(push);
        }
    };
    assert_eq!(from(Box::new(|| lines.line())), json!([1]));
    assert_eq!(from(Box::new(|| events.event())), json!([1]));
    // Pings need no pong: the stream outlives several.
    for _ in 0..3 {
        let mut ping = lines.piece().expect("open");
        while ping != b"{}\n" {
            ping = lines.piece().expect("open");
        }
    }
    let null = StreamClient::open(server.client, &request("POST", "/connection/uni_http_stream", &[], b"null")).line();
    assert!(null.expect("the connect push")["connect"].is_object());
}

#[test]
fn streams_count_in_the_limits_of_connections() {
    let server = server(&[("client.connection_limit", "1")]);
    let mut stream = StreamClient::http_stream(server.client, &json!({}));
    let session = Session::of(&stream.line().expect("the connect reply"));
    let second = request("POST", "/connection/http_stream", &[], br#"{"id":1,"connect":{}}"#);
    assert_eq!(exchange(server.client, &second).0, 503);
    assert_eq!(
        session.send(server.client, &[json!({"id": 2, "rpc": {"method": "m"}})]),
        204,
        "commands are no clients"
    );
}

#[test]
fn connect_that_fails_becomes_a_response_if_the_settings_say_so() {
    const RULES: &str =
        r#"[{"code":3500,"to":{"status_code":401,"body":"who are you"}},{"code":109,"to":{"status_code":402}}]"#;
    let server = server(&[
        ("client.insecure", "false"),
        ("client.allow_anonymous_connect_without_token", "true"),
        ("client.token.hmac_secret_key", "a secret that is long enough for tests"),
        ("uni_sse.connect_code_to_http_response.enabled", "true"),
        ("uni_sse.connect_code_to_http_response.transforms", RULES),
        ("uni_http_stream.connect_code_to_http_response.enabled", "true"),
    ]);
    let post = |path: &str, body: &str| exchange(server.client, &request("POST", path, &[], body.as_bytes()));
    let (status, _, body) = post("/connection/uni_sse", r#"{"token":"none"}"#);
    assert_eq!((status, &body[..]), (401, &b"who are you"[..]));
    let (status, _, body) = post("/connection/uni_http_stream", r#"{"token":"none"}"#);
    assert_eq!((status, &body[..]), (500, &b"Internal Server Error"[..]));
    let sign = |claims: Value| token("a secret that is long enough for tests", &claims);
    let expired = sign(json!({"sub": "eve", "exp": 1}));
    let (status, _, body) = post("/connection/uni_sse", &json!({"token": expired}).to_string());
    assert_eq!((status, &body[..]), (402, &b"token expired"[..]));
    // A connect that is granted opens the stream as before, with what its subscriptions bring.
    let body = json!({"token": sign(json!({"sub": "eve", "channels": ["c"]}))}).to_string();
    let mut stream = StreamClient::open(server.client, &request("POST", "/connection/uni_sse", &[], body.as_bytes()));
    assert_eq!(stream.piece().as_deref(), Some(&b"\r\n"[..]));
    assert!(stream.event().expect("the connect push")["connect"]["subs"]["c"].is_object());
    server.api("publish", &json!({"channel": "c", "data": 5}));
    let mut push = stream.event().expect("a push");
    while push["pub"].is_null() {
        push = stream.event().expect("a push");
    }
    assert_eq!(push["pub"]["data"], 5);
}
