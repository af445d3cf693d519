//! The admin address over a real socket, with fake shards: the server API, health, metrics, statistics and the page.

use crate::fake::{KEY, Server, settings_with};
use corecast::api::settings::API_BODY_BYTES_MAX;
use serde_json::json;

#[test]
fn publish_reaches_the_shards_and_returns_the_position() {
    let server = Server::with_key();
    let answer = server.call("publish", &json!({"channel": "news", "data": {"a": 1}}));
    assert_eq!((answer.status, answer.json()), (200, json!({"result": {}})));
    let answer = server.call("publish", &json!({"channel": "kept", "data": null, "skip_history": true}));
    assert_eq!(answer.json(), json!({"result": {"offset": 7, "epoch": "e"}}));
    assert_eq!(server.fake.published(), [("news".into(), "{\"a\":1}".into()), ("kept".into(), "null".into())]);
}

#[test]
fn broadcast_has_a_response_for_each_channel_in_order() {
    let server = Server::with_key();
    let channels = ["a", "busy", "", "kept", "silent"];
    let answer = server.call("broadcast", &json!({"channels": channels, "data": "x"})).json();
    let codes: Vec<Option<u64>> = answer["result"]["responses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|response| response["error"]["code"].as_u64())
        .collect();
    assert_eq!(codes, [None, Some(111), Some(107), None, Some(100)]);
    assert_eq!(answer["result"]["responses"][3], json!({"result": {"offset": 7, "epoch": "e"}}));

    server.fake.published();
    let many: Vec<String> = (0..500).map(|number| format!("channel-{number}")).collect();
    let answer = server.call("broadcast", &json!({"channels": many, "data": 1})).json();
    assert_eq!(answer["result"]["responses"].as_array().unwrap().len(), 500);
    assert_eq!(server.fake.published().len(), 500);
}

#[test]
fn errors_of_a_call_are_200_unless_the_transport_mode_is_requested() {
    let server = Server::with_key();
    let long = "x".repeat(1001);
    for (body, code, status) in [
        (json!({"channel": "busy", "data": 1}), 111, 429),
        (json!({"channel": "silent", "data": 1}), 100, 500),
        (json!({"channel": "ns:unknown", "data": 1}), 102, 404),
        (json!({"channel": "", "data": 1}), 107, 400),
        (json!({"channel": "c".repeat(256), "data": 1}), 107, 400),
        (json!({"channel": "ü".repeat(128), "data": 1}), 107, 400),
        (json!({"channel": "a"}), 107, 400),
        (json!({"channel": "a", "data": long}), 107, 400),
        (json!({"channel": "a", "data": 1, "b64data": "MQ=="}), 107, 400),
        (json!({"channel": "a", "b64data": "!"}), 107, 400),
    ] {
        let plain = server.call("publish", &body);
        assert_eq!((plain.status, plain.json()["error"]["code"].as_u64()), (200, Some(code)), "{body}");
        assert!(plain.json()["error"]["message"].is_string());
        let headers = [("X-API-Key", KEY), ("X-Centrifugo-Error-Mode", "transport")];
        let mapped = server.request("POST /api/publish", &headers, &body.to_string());
        assert_eq!((mapped.status, &mapped.json()), (status, &plain.json()["error"]), "{body}: the bare error");
    }
    assert!(server.fake.published().is_empty());
}

#[test]
fn api_key_is_accepted_in_each_place_and_always_required() {
    let server = Server::with_key();
    let body = "{\"channel\":\"a\",\"data\":1}";
    for (line, headers) in [
        ("POST /api/publish", &[("x-api-key", KEY)][..]),
        ("POST /api/publish", &[("Authorization", "apikey secret")]),
        ("POST /api/publish", &[("Authorization", "ApiKey secret")]),
        ("POST /api/publish?api_key=secret", &[]),
        ("POST /api/publish?a=b&api_key=%73ecret", &[]),
        ("POST /api/publish?api_key=secret", &[("X-API-Key", "wrong")]),
    ] {
        assert_eq!(server.request(line, headers, body).status, 200, "{line} {headers:?}");
    }
    server.fake.published();
    for (line, headers) in [
        ("POST /api/publish", &[][..]),
        ("POST /api/publish", &[("X-API-Key", "secre")]),
        ("POST /api/publish", &[("X-API-Key", "secret2")]),
        ("POST /api/publish", &[("X-API-Key", "")]),
        ("POST /api/publish", &[("Authorization", "Bearer secret")]),
        ("POST /api/publish?api_key=", &[]),
        ("POST /api/broadcast", &[]),
        ("POST /api/publish?api_key=secret2", &[]),
        ("POST /api/nothing", &[]),
        ("POST /api", &[]),
    ] {
        let answer = server.request(line, headers, body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!(101)), "{line} {headers:?}");
    }
    assert!(server.fake.published().is_empty());
}

#[test]
fn server_without_an_api_key_rejects_calls() {
    let server = Server::start(settings_with(|api| api.key = None));
    for key in ["", "anything"] {
        let answer = server.request("POST /api/publish", &[("X-API-Key", key)], "{\"channel\":\"a\",\"data\":1}");
        assert_eq!(answer.status, 401);
        assert!(answer.body.contains("http_api.key"));
    }
    assert!(server.fake.published().is_empty());
}

#[test]
fn invalid_requests_get_a_status_and_a_json_error() {
    let server = Server::with_key();
    let key = [("X-API-Key", KEY)];
    for (line, body, status) in [
        ("POST /api/nothing", "{}".to_owned(), 404),
        ("POST /api/a/b", "{}".to_owned(), 404),
        ("GET /api/publish", String::new(), 405),
        ("POST /api/publish/", "{}".to_owned(), 404),
        ("POST /api/connections", "{}".to_owned(), 404),
        ("POST /api/publish", "not JSON".to_owned(), 400),
        ("POST /api/publish", String::new(), 400),
        ("POST /api/publish", "[]".to_owned(), 400),
        ("POST /api/publish", "{\"channel\":1,\"data\":1}".to_owned(), 400),
        ("POST /api/publish", "{\"channel\":\"a\",\"data\":1} x".to_owned(), 400),
        ("POST /api/publish", "{\"channel\":\"a\",\"data\":{]}".to_owned(), 400),
        ("POST /api/publish", format!("\"{}\"", "x".repeat(API_BODY_BYTES_MAX)), 413),
    ] {
        let answer = server.request(line, &key, &body);
        assert_eq!(answer.status, status, "{line}");
        assert!(answer.json()["error"]["code"].is_u64());
    }
}

#[test]
fn disabled_endpoints_are_404() {
    let server = Server::start(settings_with(|api| api.disabled = true));
    assert_eq!(server.call("publish", &json!({"channel": "a", "data": 1})).status, 404);
    assert_eq!(server.get("/health").status, 200);
    assert!(server.fake.published().is_empty());
}

#[test]
fn health_turns_red_while_draining() {
    let server = Server::with_key();
    assert_eq!((server.get("/health").status, server.get("/health").body.as_str()), (200, "{}"));
    server.fake.drain();
    assert_eq!(server.get("/health").status, 503);
}

#[test]
fn metrics_are_sent_in_the_requested_format() {
    let server = Server::with_key();
    let plain = server.get("/metrics");
    assert!(plain.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    assert!(plain.body.contains("# TYPE corecast_socket_reads_total counter\n"));
    assert!(plain.body.contains("\ncorecast_connections{shard=\"1\"} 5\n"));
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")];
    let open = server.request("GET /metrics", &accept, "");
    assert!(open.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.body.contains("# TYPE corecast_socket_reads counter\n") && open.body.ends_with("# EOF\n"));
}

#[test]
fn statistics_contain_the_client_address() {
    let server = Server::with_key();
    let stats = server.get("/stats").json();
    assert_eq!(
        stats["client"],
        json!({"scheme": "ws", "host": "127.0.0.1", "port": 8000, "path": "/connection/websocket", "anonymous": true})
    );
    assert_eq!(stats["shards"].as_array().unwrap().len(), 2);
    let buckets = stats["shards"][0]["turn_counts"].as_array().unwrap().len();
    assert_eq!(stats["turn_bounds_us"].as_array().unwrap().len() + 1, buckets);
}

#[test]
fn page_is_served_under_a_strict_content_security_policy() {
    let server = Server::with_key();
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/client.js", "text/javascript"),
        ("/style.css", "text/css"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200);
        assert!(answer.headers["content-type"].starts_with(kind) && !answer.body.is_empty());
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'self'; connect-src 'self' ws://127.0.0.1:8000;"), "{policy}");
    }
}
