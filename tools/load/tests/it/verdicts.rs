//! The verdict of runs against a small server in this process that can also misbehave.

use serde_json::{Value, json};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::frame::Frame;

/// How a server fails. Only the deliveries of the first subscriber are affected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Skip,
    Twice,
    Swap,
}

#[derive(Default)]
struct Hub {
    subscribers: Vec<TcpStream>,
    publications: u64,
    held: Option<Vec<u8>>,
}

struct Server {
    fault: Fault,
    /// Every connection gets this close code once there are so many.
    close_at: Option<(usize, u16)>,
    hub: Mutex<Hub>,
}

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let opcode = tungstenite::protocol::frame::coding::OpCode::Data(tungstenite::protocol::frame::coding::Data::Text);
    Frame::message(text.to_string(), opcode, true).format(&mut bytes).unwrap();
    bytes
}

impl Server {
    fn start(fault: Fault, close_at: Option<(usize, u16)>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Arc::new(Self { fault, close_at, hub: Mutex::default() });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream.unwrap()));
            }
        });
        addr
    }

    /// Serves a connection until its client is gone.
    #[allow(clippy::result_large_err)] // the shape of tungstenite's callback
    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut raw = stream.try_clone().ok()?;
        let mut path = String::new();
        let look = |request: &Request, response: Response| {
            path = request.uri().path().into();
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, look).ok()?;
        loop {
            let message = socket.read().ok()?;
            match (&message, path.as_str()) {
                (Message::Text(_) | Message::Binary(_), "/echo") => socket.send(message).ok()?,
                (Message::Text(text), _) => text.lines().try_for_each(|line| self.command(&mut raw, line))?,
                _ => {}
            }
        }
    }

    fn command(&self, raw: &mut TcpStream, line: &str) -> Option<()> {
        let command: Value = serde_json::from_str(line).ok()?;
        let id = command["id"].as_u64()?;
        let mut hub = self.hub.lock().unwrap();
        if command["connect"].is_object() {
            raw.write_all(&frame(&json!({"id": id, "connect": {"client": "x"}}).to_string())).ok()?;
        } else if command["subscribe"].is_object() {
            raw.write_all(&frame(&json!({"id": id, "subscribe": {}}).to_string())).ok()?;
            raw.write_all(&frame("{}")).ok()?;
            hub.subscribers.push(raw.try_clone().ok()?);
            if let Some((_, code)) = self.close_at.filter(|(n, _)| hub.subscribers.len() == *n) {
                let [high, low] = code.to_be_bytes();
                hub.subscribers.iter_mut().for_each(|s| s.write_all(&[0x88, 2, high, low]).unwrap());
            }
        } else if command["publish"].is_object() {
            hub.publications += 1;
            let push = json!({"push": {"channel": "load", "pub": {"data": command["publish"]["data"]}}});
            self.deliver(&mut hub, frame(&push.to_string()));
            raw.write_all(&frame(&json!({"id": id, "publish": {}}).to_string())).ok()?;
        }
        Some(())
    }

    fn deliver(&self, hub: &mut Hub, bytes: Vec<u8>) {
        let special = hub.publications == 20;
        for i in 0..hub.subscribers.len() {
            let mut out = bytes.clone();
            if i == 0 {
                match (self.fault, special) {
                    (Fault::Skip, true) => continue,
                    (Fault::Twice, true) => out.extend_from_slice(&bytes),
                    (Fault::Swap, true) => {
                        hub.held = Some(bytes.clone());
                        continue;
                    }
                    _ => out.extend(hub.held.take().into_iter().flatten()),
                }
            }
            // A client that has gone is no fault of the server.
            let _ = hub.subscribers[i].write_all(&out);
        }
    }
}

/// Runs the tool with `--json`; returns its exit code and its object.
fn load(args: &[&str]) -> (i32, Value) {
    let output = Command::new(crate::TOOL).args(args).args(["--json", "--quiet"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {output:?}"));
    (output.status.code().unwrap(), value)
}

fn fanout(fault: Fault, more: &[&str]) -> (i32, Value) {
    let url = format!("ws://{}/connection/websocket", Server::start(fault, None));
    let usual = ["fanout", &url, "--subscribers", "5", "--duration", "0.3", "--warmup", "0.1"];
    load(&[&usual[..], more].concat())
}

#[test]
fn echo_compares_messages_of_every_size() {
    let addr = Server::start(Fault::None, None);
    let url = format!("ws://{addr}/echo");
    for (size, depth) in [("0", "2"), ("3", "1"), ("16", "16"), ("125", "2"), ("126", "2"), ("65536", "3")] {
        let args = ["echo", &url, "-c", "3", "--size", size, "--depth", depth, "--duration", "0.2", "--warmup", "0"];
        let (code, result) = load(&[&args[..], if size == "16" { &["--text"] } else { &[] }].concat());
        assert_eq!((code, &result["lost"]), (0, &json!(0)), "{size}: {result}");
        assert!(result["messages"].as_u64().unwrap() > 0, "{result}");
    }
}

#[test]
fn echo_keeps_its_rate() {
    let url = format!("ws://{}/echo", Server::start(Fault::None, None));
    let args = ["echo", &url, "-c", "3", "--rate", "500", "--duration", "0.5", "--warmup", "0"];
    let (code, result) = load(&args);
    assert_eq!(code, 0, "{result}");
    assert!(result["latency_us"]["count"].as_u64().unwrap() <= 300, "{result}");
}

#[test]
fn steps_and_ramps_are_kept_and_reported_separately() {
    let url = format!("ws://{}/echo", Server::start(Fault::None, None));
    let steps = |result: &Value, key: &str| -> Vec<u64> {
        result["steps"].as_array().unwrap().iter().map(|step| step[key].as_u64().unwrap()).collect()
    };
    let echo = ["echo", &url, "-c", "3", "--threads", "2", "--warmup", "0.1"];
    let (code, result) = load(&[&echo[..], &["--rate", "100:0.2s,400:0.2s"]].concat());
    assert_eq!((code, &result["rate"]), (0, &json!("100:0.2s,400:0.2s")), "{result}");
    assert_eq!(steps(&result, "sent"), [20, 80], "{result}");
    assert_eq!(steps(&result, "received"), [20, 80], "{result}");
    let (code, result) = fanout(Fault::None, &["--rate", "0..400/0.5s", "--arrivals", "poisson"]);
    assert_eq!((code, result["steps"].as_array().unwrap().len()), (0, 10), "{result}");
    let sent = steps(&result, "sent");
    let deliveries: Vec<u64> = sent.iter().map(|n| n * 5).collect();
    assert_eq!(steps(&result, "received"), deliveries, "{result}");
    assert!(sent.iter().sum::<u64>() > 50 && sent[0] < sent[9], "{result}");
    let storm = format!("ws://{}/connection/websocket", Server::start(Fault::None, None));
    let (code, result) = load(&["connect", &storm, "--rate", "50:0.2s,100:0.2s"]);
    assert_eq!((code, &result["opened"]), (0, &json!(30)), "{result}");
    assert_eq!(steps(&result, "received"), [10, 20], "{result}");
}

#[test]
fn invalid_rate_is_rejected_with_an_example() {
    let output = Command::new(crate::TOOL).args(["echo", "ws://127.0.0.1:1/", "--rate", "5,10:3s"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("step 1 of 2 needs a duration, such as 1000:10s"), "{text}");
}

#[test]
fn complete_fanout_is_valid_in_every_form() {
    let (two_publishers, threads) = (["--window", "4", "--publishers", "2"], ["--threads", "2", "--window", "3"]);
    for more in [&[][..], &two_publishers[..], &threads[..], &["--rate", "300"][..]] {
        let (code, result) = fanout(Fault::None, more);
        assert_eq!((code, &result["missing"]), (0, &json!(0)), "{more:?}: {result}");
        let (deliveries, publications) = (&result["run_deliveries"], &result["run_publications"]);
        assert_eq!(deliveries.as_u64().unwrap(), 5 * publications.as_u64().unwrap());
        assert!(publications.as_u64().unwrap() > 0);
    }
}

#[test]
fn lost_duplicate_and_reordered_deliveries_make_a_fanout_void() {
    for (fault, name) in [(Fault::Skip, "lost"), (Fault::Twice, "duplicates"), (Fault::Swap, "reordered")] {
        let (code, result) = fanout(fault, &["--rate", "400"]);
        assert_eq!((code, &result[name]), (1, &json!(1)), "{name}: {result}");
        assert!(!result["void"].as_array().unwrap().is_empty());
    }
}

#[test]
fn missing_and_duplicate_deliveries_to_sinks_are_counted() {
    // The first subscriber is affected, which may be a sink or the probe.
    for (fault, names) in [(Fault::Skip, ["lost", "sinks_missing"]), (Fault::Twice, ["duplicates", "sinks_surplus"])] {
        let (code, result) = fanout(fault, &["--rate", "400", "--probes", "1"]);
        let counted: u64 = names.iter().map(|name| result[name].as_u64().unwrap()).sum();
        assert_eq!((code, counted, &result["sinks"]), (1, 1, &json!(4)), "{names:?}: {result}");
    }
}

#[test]
fn idle_ends_when_the_server_has_closed_all_connections() {
    let url = format!("ws://{}/connection/websocket", Server::start(Fault::None, Some((20, 3001))));
    let (code, result) = load(&["idle", &url, "-c", "20", "--on-close"]);
    assert_eq!((code, &result["closes"]), (0, &json!({"3001": 20})), "{result}");
    assert_eq!(result["pings"], 20);
}

#[test]
fn connect_counts_successes_and_failures() {
    let url = format!("ws://{}/connection/websocket", Server::start(Fault::None, None));
    let (code, result) = load(&["connect", &url, "--total", "30", "--protocol", "centrifuge", "--close"]);
    assert_eq!((code, &result["opened"]), (0, &json!(30)), "{result}");
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, result) = load(&["connect", &format!("ws://{unused}/"), "--total", "3", "--rate", "1000"]);
    assert_eq!((code, &result["failed"]), (1, &json!(3)), "{result}");
}
