//! Histories of durable namespaces: what survives the process, and what clients and the server API get of it afterwards.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{Client, Server, command};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A directory for the log of one test; it is removed when the test ends.
struct LogDir(PathBuf);

impl LogDir {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corecast-log-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    /// As a value of `durable.data_dirs`.
    fn dirs(&self) -> String {
        format!("[\"{}\"]", self.0.display())
    }

    fn start(&self, durability: &str) -> Server {
        self.start_with(durability, &[])
    }

    fn start_with(&self, durability: &str, settings: &[(&str, &str)]) -> Server {
        let dirs = self.dirs();
        let own = [
            ("durable.enabled", "true"),
            ("durable.data_dirs", &*dirs),
            ("channel.without_namespace.durability", durability),
            ("channel.without_namespace.history_size", "100"),
            ("channel.without_namespace.history_ttl", "300s"),
            ("channel.without_namespace.force_recovery", "true"),
            ("shutdown.window", "100ms"),
        ];
        Server::with(&[&own, settings].concat())
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a server ends.
const ENDS: [Signal; 2] = [Signal::TERM, Signal::KILL];

fn end(mut server: Server, how: Signal) {
    server.signal(how);
    server.wait_for_exit();
}

fn publish(server: &Server, fields: &Value) -> Value {
    let mut body = json!({"channel": "news", "data": {"n": 0}});
    fields.as_object().into_iter().flatten().for_each(|(name, value)| body[name] = value.clone());
    let mut reply = server.api("publish", &body);
    assert!(reply["result"].is_object(), "{reply}");
    reply["result"].take()
}

fn history(server: &Server, channel: &str) -> Value {
    let mut reply = server.api("history", &json!({"channel": channel, "limit": -1}));
    assert!(reply["result"].is_object(), "{reply}");
    reply["result"].take()
}

fn numbers(publications: &Value) -> Vec<u64> {
    let all = publications.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|one| one["data"]["n"].as_u64().expect("a number")).collect()
}

#[test]
fn history_position_and_known_publications_survive_the_process() {
    for durability in ["process", "strict"] {
        for how in ENDS {
            let dir = LogDir::new();
            let server = dir.start(durability);
            for n in 1..=3 {
                assert_eq!(publish(&server, &json!({"data": {"n": n}}))["offset"], n);
            }
            let keyed = publish(&server, &json!({"data": {"n": 4}, "idempotency_key": "k"}));
            publish(&server, &json!({"data": {"n": 5}, "version": 7, "version_epoch": "v"}));
            let before = history(&server, "news");
            end(server, how);
            let server = dir.start(durability);
            assert_eq!(history(&server, "news"), before, "{durability} {how:?}");
            assert_eq!(numbers(&before["publications"]), [1, 2, 3, 4, 5]);
            assert_eq!(publish(&server, &json!({"idempotency_key": "k"})), keyed, "the key is known");
            publish(&server, &json!({"version": 7, "version_epoch": "v"}));
            assert_eq!(history(&server, "news"), before, "the version is known");
            assert_eq!(publish(&server, &json!({"data": {"n": 6}}))["offset"], 6);
            assert_eq!(server.http("GET", "/health", &[], "").0, 200);
        }
    }
}

#[test]
fn client_recovers_what_was_published_before_and_after_a_restart() {
    for durability in ["process", "strict"] {
        for how in ENDS {
            let dir = LogDir::new();
            let server = dir.start(durability);
            let mut client = Client::connect(&server);
            let subscribed = client.ask(json!({"subscribe": {"channel": "news", "recover": true}}));
            let epoch = subscribed["subscribe"]["epoch"].clone();
            publish(&server, &json!({"data": {"n": 1}}));
            assert_eq!(client.next()["push"]["pub"]["offset"], 1);
            drop(client);
            publish(&server, &json!({"data": {"n": 2}}));
            end(server, how);
            let server = dir.start(durability);
            publish(&server, &json!({"data": {"n": 3}}));
            let mut client = Client::connect(&server);
            let back = json!({"subscribe": {"channel": "news", "recover": true, "epoch": epoch, "offset": 1}});
            let reply = &client.ask(back)["subscribe"];
            assert_eq!(reply["recovered"], true, "{durability} {how:?}: {reply}");
            assert_eq!(reply["epoch"], epoch);
            assert_eq!(numbers(&reply["publications"]), [2, 3]);
            publish(&server, &json!({"data": {"n": 4}}));
            assert_eq!(client.next()["push"]["pub"]["data"]["n"], 4, "the stream goes on");
        }
    }
}
