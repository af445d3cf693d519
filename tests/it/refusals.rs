//! Whatever the server refuses a client is counted by its reason and has a line in the log: what, why, what the server does,
//! and which client. A flood of refusals writes few lines.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::{Client, Frame, Raw, Server, raw, token, until};
use serde_json::{Value, json};

const SECRET: &str = "a secret that is long enough for tests";

/// Everything is denied that the configuration can deny, and tokens are checked.
fn strict() -> Server {
    Server::with(&[
        ("client.insecure", "false"),
        ("client.allow_anonymous_connect_without_token", "true"),
        ("client.token.hmac_secret_key", SECRET),
        ("client.token.audience", "here"),
        ("client.token.issuer", "us"),
        ("client.allowed_origins", "https://good.example"),
        ("channel.without_namespace.allow_subscribe_for_client", "false"),
        ("channel.without_namespace.allow_publish_for_client", "false"),
    ])
}

fn signed(secret: &str, change: impl Fn(&mut Value)) -> String {
    let mut claims = json!({"sub": "eve", "aud": "here", "iss": "us"});
    change(&mut claims);
    token(secret, &claims)
}

/// The line that has all of `words`.
fn line_with(server: &Server, words: &[&str]) -> String {
    until(
        || format!("no line has {words:?}: {:#?}", server.log()),
        || server.log().into_iter().find(|line| words.iter().all(|words| line.contains(words))),
    )
}

#[test]
fn refused_tokens_are_counted_and_logged_by_reason() {
    let server = strict();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let eddsa = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ.e30.AAAA";
    for (token, reason, why, code) in [
        (signed("another secret, also long enough", |_| ()), "token_signature", "its signature was not made", 3500),
        (signed(SECRET, |claims| claims["aud"] = "there".into()), "token_audience", "its `aud` is not", 3500),
        (signed(SECRET, |claims| claims["iss"] = "them".into()), "token_issuer", "its `iss` is not", 3500),
        (signed(SECRET, |claims| claims["channel"] = "c".into()), "token_claims", "it is a subscription token", 3500),
        (eddsa.into(), "token_algorithm", "no key is configured for its algorithm", 3500),
        ("no token".into(), "token_malformed", "it does not have the form", 3500),
        (signed(SECRET, |claims| claims["exp"] = (now - 10).into()), "token_expired", "it has expired", 109),
    ] {
        let mut client = Client::fresh(&server);
        if code == 109 {
            assert_eq!(client.refused(json!({"connect": {"token": token}})), 109);
        } else {
            client.send(json!({"connect": {"token": token}}));
            assert_eq!(client.closed().0, code);
        }
        server.wait_for_metric("corecast_refusals_total", &format!("reason=\"{reason}\""), |count| count == 1);
        let line = line_with(&server, &[why, "rejected the token of connect", "; address 127.0.0.1"]);
        assert!(line.contains("INFO") && line.contains(&code.to_string()), "{line}");
        assert!(!token.split('.').any(|part| part.len() > 8 && line.contains(part)), "{line}");
    }
    assert_eq!(server.metric("corecast_closes_total", "code=\"3500\""), 6);
}

#[test]
fn refused_commands_are_counted_and_logged_with_client_user_and_channel() {
    let server = strict();
    let mut client = Client::fresh(&server);
    let reply = client.ask(json!({"connect": {"token": signed(SECRET, |_| ())}}));
    let id = reply["connect"]["client"].as_str().expect("an id").to_owned();
    assert_eq!(client.refused(json!({"subscribe": {"channel": "news\u{1b}[31m"}})), 103);
    assert_eq!(client.refused(json!({"publish": {"channel": "p", "data": 1}})), 103);
    assert_eq!(client.refused(json!({"rpc": {"method": "m", "data": {}}})), 108);
    let token = signed(SECRET, |claims| (claims["channel"], claims["sub"]) = ("other".into(), "eve".into()));
    client.send(json!({"subscribe": {"channel": "c", "token": token}}));
    assert_eq!(client.closed().0, 3500);
    for (reason, count) in [("permission_denied", 2), ("not_available", 1), ("token_mismatch", 1)] {
        assert_eq!(server.metric("corecast_refusals_total", &format!("reason=\"{reason}\"")), count, "{reason}");
    }
    let who = format!("client {id}; user \"eve\"; channel");
    let line = line_with(&server, &["rejected subscribe: permission denied", &who, r#""news\u{1b}[31m""#]);
    assert!(line.contains("answered with error 103"), "{line}");
    line_with(&server, &["rejected publish: permission denied", &who, "\"p\"", "; address 127.0.0.1"]);
    line_with(
        &server,
        &["rejected the token of subscribe: it is valid for another", "closing the connection with 3500"],
    );
}

#[test]
fn malformed_input_is_counted_and_logged() {
    let server = strict();
    let mut client = Client::fresh(&server);
    client.send_text("{\"id\":1,\"connect\":{\"token\":\"hush");
    assert_eq!(client.closed().0, 3501);
    let mut early = Client::fresh(&server);
    early.send(json!({"subscribe": {"channel": "c"}}));
    assert_eq!(early.closed().0, 3501);
    let mut socket = Raw::open(&server, "/connection/websocket");
    socket.send(&[0x83, 0x80, 0, 0, 0, 0]);
    let closed: Frame = socket.frame();
    assert!(closed.is_close(1002));
    for (reason, code) in [("malformed_command", 3501), ("bad_request", 3501), ("malformed_frame", 1002)] {
        server.wait_for_metric("corecast_refusals_total", &format!("reason=\"{reason}\""), |count| count == 1);
        assert!(server.metric("corecast_closes_total", &format!("code=\"{code}\"")) > 0);
    }
    line_with(&server, &["rejected a command: it is not a command", "closing the connection with 3501"]);
    line_with(&server, &["rejected subscribe: bad request", "closing the connection with 3501"]);
    line_with(&server, &["rejected a malformed frame: ", "closing the connection with 1002", "; address 127.0.0.1"]);
    assert!(!server.log().iter().any(|line| line.contains("hush")));
}

#[test]
fn refused_requests_are_counted_and_logged_with_path_and_origin() {
    let server = strict();
    let answer = |request: String| {
        let mut socket = Raw::connect(&server);
        socket.send(request.as_bytes());
        socket.head()
    };
    let with = |path: &str, name: &str, value: &str| raw::upgrade_with(path, &[(name, value)]);
    let origin = with("/connection/websocket?x=hush", "Origin", "https://evil.example");
    assert!(answer(origin).starts_with("HTTP/1.1 403 "));
    assert!(answer(with("/connection/websockets", "X", "x")).starts_with("HTTP/1.1 404 "));
    let version = with("/connection/websocket", "X", "x").replace("Version: 13", "Version: 8");
    assert!(answer(version).starts_with("HTTP/1.1 426 "));
    assert!(answer(with("/connection/websocket", "Host", "hush")).starts_with("HTTP/1.1 400 "));
    for reason in ["origin", "not_found", "upgrade_required", "bad_request"] {
        let count = server.metric("corecast_connections_refused_total", &format!("reason=\"{reason}\""));
        assert_eq!(count, 1, "{reason}");
    }
    let words =
        ["of origin \"https://evil.example\"", "client.allowed_origins; answered with 403", "; address 127.0.0.1"];
    line_with(&server, &words);
    line_with(&server, &["\"/connection/websockets\": nothing is served at this path; answered with 404"]);
    line_with(&server, &["rejected a request: this address speaks WebSocket version 13"]);
    line_with(&server, &["rejected a request: ", "; answered with 400", "; address 127.0.0.1"]);
    assert!(!server.log().iter().any(|line| line.contains("hush")));
}

#[test]
fn calls_of_the_api_without_its_key_are_counted_and_logged() {
    let server = strict();
    for _ in 0..9 {
        assert_eq!(server.http("POST", "/api/info", &[("X-API-Key", "hush")], "{}").0, 401);
    }
    assert_eq!(server.metric("corecast_api_unauthorized_total", "api=\"http\""), 9);
    line_with(&server, &["HTTP API: answered with 401: a call from 127.0.0.1 without the API key"]);
    let log = server.log();
    assert_eq!(log.iter().filter(|line| line.contains("without the API key")).count(), 1, "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("hush")));
}

#[test]
fn flood_of_refusals_writes_few_lines_and_is_counted_in_full() {
    let server = strict();
    for n in 0..60 {
        let mut socket = Raw::connect(&server);
        let path = format!("/nothing/{n}");
        socket.send(raw::upgrade_with(&path, &[]).as_bytes());
        assert!(socket.head().starts_with("HTTP/1.1 404 "));
    }
    let mut client = Client::fresh(&server);
    client.ask(json!({"connect": {"token": signed(SECRET, |_| ())}}));
    for _ in 0..500 {
        client.refused(json!({"publish": {"channel": "c", "data": 1}}));
    }
    assert_eq!(server.metric("corecast_connections_refused_total", "reason=\"not_found\""), 60);
    assert_eq!(server.metric("corecast_refusals_total", "reason=\"permission_denied\""), 500);
    server.wait_for_log("rejected publish: permission denied");
    // Five at once, then one in ten seconds, of each kind and shard: far fewer than the refusals.
    let lines = |words: &str| server.log().iter().filter(|line| line.contains(words)).count();
    assert!(lines("nothing is served") <= 30 && lines("rejected publish") <= 30, "{:#?}", server.log());
}
