//! The Pusher protocol, against a small server in this process that checks signatures like a real one.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

const KEY: &str = "the-key";
const SECRET: &str = "the-secret";

#[derive(Default)]
struct Hub {
    /// The subscribers of each channel: number and socket.
    channels: Mutex<HashMap<String, Vec<(usize, TcpStream)>>>,
    sockets: AtomicUsize,
    pongs: AtomicUsize,
    /// The API ends a connection behind each answer.
    api_closes: bool,
}

fn signature(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref())
}

fn frame(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::message(value.to_string(), OpCode::Data(Data::Text), true).format(&mut bytes).unwrap();
    bytes
}

impl Hub {
    /// Returns the addresses for clients and for the API.
    fn start(api_closes: bool) -> (Arc<Self>, SocketAddr, SocketAddr) {
        let hub = Arc::new(Self { api_closes, ..Self::default() });
        let listen = |serve: fn(&Self, TcpStream) -> Option<()>| {
            let (hub, listener) = (hub.clone(), TcpListener::bind("127.0.0.1:0").unwrap());
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let hub = hub.clone();
                    std::thread::spawn(move || serve(&hub, stream.unwrap()));
                }
            });
            address
        };
        let (clients, api) = (listen(Self::client), listen(Self::api));
        (hub, clients, api)
    }

    /// Serves a connection until its client is gone.
    fn client(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut raw = stream.try_clone().ok()?;
        let mut socket = tungstenite::accept(stream).ok()?;
        let number = self.sockets.fetch_add(1, SeqCst);
        let id = format!("{number}.7");
        let data = json!({"socket_id": id, "activity_timeout": 120}).to_string();
        raw.write_all(&frame(&json!({"event": "pusher:connection_established", "data": data}))).ok()?;
        raw.write_all(&frame(&json!({"event": "pusher:ping", "data": {}}))).ok()?;
        loop {
            let Message::Text(text) = socket.read().ok()? else { continue };
            let message: Value = serde_json::from_str(&text).ok()?;
            let channel = message["channel"].as_str().or(message["data"]["channel"].as_str()).unwrap_or_default();
            match message["event"].as_str()? {
                "pusher:pong" => drop(self.pongs.fetch_add(1, SeqCst)),
                "pusher:subscribe" => self.subscribe(&mut raw, number, &id, channel, &message["data"]["auth"])?,
                event if event.starts_with("client-") => {
                    let push = json!({"event": event, "channel": channel, "data": message["data"]});
                    self.publish(channel, &push, Some(number));
                }
                _ => {}
            }
        }
    }

    fn subscribe(&self, raw: &mut TcpStream, number: usize, id: &str, channel: &str, auth: &Value) -> Option<()> {
        let expected = format!("{KEY}:{}", signature(&format!("{id}:{channel}")));
        if channel.starts_with("private-") && *auth != expected {
            let why = json!({"code": 4009, "message": "wrong signature"});
            return raw.write_all(&frame(&json!({"event": "pusher:error", "data": why}))).ok();
        }
        let mut channels = self.channels.lock().unwrap();
        raw.write_all(&frame(
            &json!({"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": "{}"}),
        ))
        .ok()?;
        channels.entry(channel.into()).or_default().push((number, raw.try_clone().ok()?));
        Some(())
    }

    fn publish(&self, channel: &str, push: &Value, but: Option<usize>) {
        let (bytes, channels) = (frame(push), self.channels.lock().unwrap());
        for (number, socket) in channels.get(channel).into_iter().flatten() {
            if but != Some(*number) {
                // A client that has gone is no fault of the server.
                let _ = (&mut &*socket).write_all(&bytes);
            }
        }
    }

    fn api(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
            let target = line.split(' ').nth(1)?.to_string();
            while line.trim() != "" {
                line.clear();
                reader.read_line(&mut line).ok()?;
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let (signed, given) = target.split_once("&auth_signature=")?;
            let (path, query) = signed.split_once('?')?;
            let right = signature(&format!("POST\n{path}\n{query}")) == given
                && path == "/apps/the-app/events"
                && query.contains(&format!("body_md5={:x}", md5::compute(&body)));
            if right {
                let event: Value = serde_json::from_slice(&body).ok()?;
                let channel = event["channels"][0].as_str()?;
                self.publish(
                    channel,
                    &json!({"event": event["name"], "channel": channel, "data": event["data"]}),
                    None,
                );
            }
            let (status, end) = (
                if right { "200 OK" } else { "401 Unauthorized" },
                if self.api_closes { "close" } else { "keep-alive" },
            );
            let answer = format!("HTTP/1.1 {status}\r\nconnection: {end}\r\ncontent-length: 2\r\n\r\n{{}}");
            (&stream).write_all(answer.as_bytes()).ok()?;
            if self.api_closes {
                return stream.shutdown(std::net::Shutdown::Both).ok();
            }
        }
    }
}

/// Runs the tool; its exit code and its object.
fn load(scenario: &str, clients: SocketAddr, secret: &str, args: &[&str]) -> (i32, Value) {
    let output = Command::new(crate::TOOL)
        .args([scenario, &format!("ws://{clients}/app/{KEY}"), "--protocol", "pusher", "--pusher-secret-env", "SECRET"])
        .args(args)
        .args(["--json", "--quiet"])
        .env("SECRET", secret)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {output:?}"));
    (output.status.code().unwrap(), value)
}

const SHORT: [&str; 4] = ["--duration", "0.4", "--warmup", "0.1"];

#[test]
fn pusher_client_events_reach_other_subscribers_and_pings_are_answered() {
    let (hub, clients, _) = Hub::start(false);
    for more in [&["--rate", "100"][..], &["--window", "3"], &["--rate", "100", "--payload", "json", "--size", "200"]] {
        let (code, result) = load("fanout", clients, SECRET, &[&["-n", "8"], &SHORT[..], more].concat());
        assert_eq!((code, &result["void"]), (0, &json!([])), "{more:?}: {result}");
        assert!(result["run_deliveries"].as_u64().unwrap() > 80, "{result}");
    }
    assert_eq!(hub.pongs.load(SeqCst), 27, "of eight subscribers and a publisher, three times");
}

#[test]
fn pusher_talkers_do_not_expect_their_own_messages() {
    let (_, clients, _) = Hub::start(false);
    let args = ["-c", "30", "--rooms", "5", "--talk-rate", "20", "--talkers", "0.2"];
    let (code, result) = load("chat", clients, SECRET, &[&args[..], &SHORT].concat());
    assert_eq!((code, &result["void"]), (0, &json!([])), "{result}");
    assert!(result["run_publications"].as_u64().unwrap() > 20, "{result}");
}

#[test]
fn pusher_events_go_over_the_signed_api_even_if_it_closes_each_connection() {
    for closes in [false, true] {
        let (_, clients, api) = Hub::start(closes);
        let api = format!("http://{api}");
        for (scenario, count) in [("fanout", "-n"), ("notifications", "-c")] {
            let args = [count, "10", "--rate", "100", "--api", &api, "--pusher-app", "the-app", "--publishers", "2"];
            let (code, result) = load(scenario, clients, SECRET, &[&args[..], &SHORT].concat());
            assert_eq!((code, &result["void"]), (0, &json!([])), "{scenario}, closes: {closes}: {result}");
            assert!(result["run_publications"].as_u64().unwrap() > 30, "{result}");
        }
    }
}

#[test]
fn pusher_error_of_a_wrong_secret_is_reported() {
    let (_, clients, api) = Hub::start(false);
    let (code, result) = load("fanout", clients, "wrong", &[&["-n", "2", "--rate", "10"], &SHORT[..]].concat());
    assert!(code == 1 && result["errors"].to_string().contains("wrong signature"), "{result}");
    let api = format!("http://{api}");
    let args = ["-n", "2", "--rate", "20", "--api", &api, "--pusher-app", "the-app"];
    let (code, result) = load("fanout", clients, "wrong", &[&args[..], &SHORT].concat());
    assert!(code == 1 && result["refused"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn pusher_connections_are_established_before_they_count() {
    let (_, clients, _) = Hub::start(false);
    let (code, result) = load("idle", clients, SECRET, &["-c", "10", "--hold", "0.1", "--channel", "private-x"]);
    assert_eq!((code, &result["open"], &result["pings"]), (0, &json!(10), &json!(10)), "{result}");
    let (code, result) = load("connect", clients, SECRET, &["--total", "20", "--close"]);
    assert_eq!((code, &result["opened"]), (0, &json!(20)), "{result}");
}
