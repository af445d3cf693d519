//! The admin address over a real socket, with shards played by a fake: the server API, health, metrics, statistics, page.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corecast::control::{self, AskError, Fleet, Published, Settings};
use corecast::counters::Snapshot;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Shards that remember what was published and refuse what its channel asks them to.
#[derive(Clone, Default)]
struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    published: Mutex<Vec<(String, String)>>,
    draining: AtomicBool,
}

impl Fleet for Fake {
    async fn publish(&self, channel: &str, data: Box<RawValue>) -> Result<Published, AskError> {
        match channel {
            "busy" => return Err(AskError::TooManyRequests),
            "silent" => return Err(AskError::OutcomeUnknown),
            "ns:unknown" => return Err(AskError::UnknownChannel),
            _ => {}
        }
        self.0.published.lock().unwrap().push((channel.into(), data.get().into()));
        let kept = channel == "kept";
        Ok(Published { offset: kept.then_some(7), epoch: kept.then(|| "e".into()) })
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        (0..2).map(|shard| Snapshot { shard, connections: 5, ..Snapshot::default() }).collect()
    }

    fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }
}

struct Server {
    address: SocketAddr,
    fake: Fake,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Server {
    fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, fake) = (listener.local_addr().unwrap(), Fake::default());
        let fleet = fake.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(control::serve(listener, fleet, settings)).unwrap();
        });
        Self { address, fake }
    }

    fn with_key() -> Self {
        Self::start(Settings {
            api_key: Some("secret".into()),
            client: Some("127.0.0.1:8000".parse().unwrap()),
            anonymous: true,
            channel_bytes_max: 255,
            data_bytes_max: 1000,
        })
    }

    fn request(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut text = format!("{line} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        socket.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(a, b)| (a.into(), b.into())).collect();
        Answer { status, headers, body: body.into() }
    }

    fn call(&self, method: &str, body: &Value) -> Answer {
        self.request(&format!("POST /api/{method}"), &[("X-API-Key", "secret")], &body.to_string())
    }

    fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path}"), &[], "")
    }

    fn published(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.fake.0.published.lock().unwrap())
    }
}

#[test]
fn publish_reaches_the_shards_and_tells_where_it_stands() {
    let server = Server::with_key();
    let answer = server.call("publish", &json!({"channel": "news", "data": {"a": 1}}));
    assert_eq!((answer.status, answer.json()), (200, json!({"result": {}})));
    let answer = server.call("publish", &json!({"channel": "kept", "data": null, "skip_history": true}));
    assert_eq!(answer.json(), json!({"result": {"offset": 7, "epoch": "e"}}));
    assert_eq!(server.published(), [("news".into(), "{\"a\":1}".into()), ("kept".into(), "null".into())]);
}

#[test]
fn broadcast_answers_for_each_channel_in_order() {
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

    server.published();
    let many: Vec<String> = (0..500).map(|number| format!("channel-{number}")).collect();
    let answer = server.call("broadcast", &json!({"channels": many, "data": 1})).json();
    assert_eq!(answer["result"]["responses"].as_array().unwrap().len(), 500);
    assert_eq!(server.published().len(), 500);
}

#[test]
fn errors_of_a_call_are_200_unless_the_transport_mode_is_asked_for() {
    let server = Server::with_key();
    let long = "x".repeat(1001);
    for (body, code, status) in [
        (json!({"channel": "busy", "data": 1}), 111, 429),
        (json!({"channel": "silent", "data": 1}), 100, 500),
        (json!({"channel": "ns:unknown", "data": 1}), 102, 404),
        (json!({"channel": "", "data": 1}), 107, 400),
        (json!({"channel": "c".repeat(256), "data": 1}), 107, 400),
        (json!({"channel": "ü", "data": 1}), 107, 400),
        (json!({"channel": "a"}), 107, 400),
        (json!({"channel": "a", "data": long}), 107, 400),
        (json!({"channel": "a", "data": 1, "tags": {"k": "v"}}), 108, 400),
    ] {
        let plain = server.call("publish", &body);
        assert_eq!((plain.status, plain.json()["error"]["code"].as_u64()), (200, Some(code)), "{body}");
        assert!(plain.json()["error"]["message"].is_string());
        let headers = [("X-API-Key", "secret"), ("X-Centrifugo-Error-Mode", "transport")];
        let mapped = server.request("POST /api/publish", &headers, &body.to_string());
        assert_eq!((mapped.status, mapped.json()), (status, plain.json()), "{body}");
    }
    assert!(server.published().is_empty());
}

#[test]
fn the_key_is_taken_in_each_of_its_places_and_asked_for_always() {
    let server = Server::with_key();
    let body = "{\"channel\":\"a\",\"data\":1}";
    for (line, headers) in [
        ("POST /api/publish", &[("x-api-key", "secret")][..]),
        ("POST /api/publish", &[("Authorization", "apikey secret")]),
        ("POST /api/publish", &[("Authorization", "ApiKey secret")]),
        ("POST /api/publish?api_key=secret", &[]),
    ] {
        assert_eq!(server.request(line, headers, body).status, 200, "{line} {headers:?}");
    }
    server.published();
    for (line, headers) in [
        ("POST /api/publish", &[][..]),
        ("POST /api/publish", &[("X-API-Key", "secre")]),
        ("POST /api/publish", &[("X-API-Key", "secret2")]),
        ("POST /api/publish", &[("X-API-Key", "")]),
        ("POST /api/publish", &[("Authorization", "Bearer secret")]),
        ("POST /api/publish?api_key=", &[]),
        ("POST /api/broadcast", &[]),
        ("POST /api/nothing", &[]),
    ] {
        let answer = server.request(line, headers, body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!(101)), "{line} {headers:?}");
    }
    assert!(server.published().is_empty());
}

#[test]
fn without_a_key_of_its_own_the_server_takes_no_call() {
    let server = Server::start(Settings { channel_bytes_max: 255, data_bytes_max: 1000, ..Settings::default() });
    for key in ["", "anything"] {
        let answer = server.request("POST /api/publish", &[("X-API-Key", key)], "{\"channel\":\"a\",\"data\":1}");
        assert_eq!(answer.status, 401);
        assert!(answer.body.contains("http_api.key"));
    }
    assert!(server.published().is_empty());
}

#[test]
fn what_is_no_call_has_a_status_of_its_own_and_a_json_error() {
    let server = Server::with_key();
    let key = [("X-API-Key", "secret")];
    for (line, body, status) in [
        ("POST /api/nothing", "{}".to_owned(), 404),
        ("POST /api/a/b", "{}".to_owned(), 404),
        ("GET /api/publish", String::new(), 405),
        ("POST /api/publish", "not JSON".to_owned(), 400),
        ("POST /api/publish", format!("\"{}\"", "x".repeat(control::API_BODY_BYTES_MAX)), 413),
    ] {
        let answer = server.request(line, &key, &body);
        assert_eq!(answer.status, status, "{line}");
        assert!(answer.json()["error"]["code"].is_u64());
    }
}

#[test]
fn health_turns_red_while_draining() {
    let server = Server::with_key();
    assert_eq!((server.get("/health").status, server.get("/health").body.as_str()), (200, "{}"));
    server.fake.0.draining.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/health").status, 503);
}

#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
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
fn statistics_tell_the_page_where_its_clients_connect() {
    let server = Server::with_key();
    let stats = server.get("/stats").json();
    assert_eq!(
        stats["client"],
        json!({"host": "127.0.0.1", "port": 8000, "path": "/connection/websocket", "anonymous": true})
    );
    assert_eq!(stats["shards"].as_array().unwrap().len(), 2);
    let buckets = stats["shards"][0]["turn_counts"].as_array().unwrap().len();
    assert_eq!(stats["turn_bounds_us"].as_array().unwrap().len() + 1, buckets);
}

#[test]
fn the_page_is_served_under_a_policy_that_lets_nothing_else_in() {
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
