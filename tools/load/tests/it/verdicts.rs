//! The verdict of runs against a small server in this process that can also misbehave. It has one address, or several as the nodes
//! of a cluster, and a history from which clients recover.

use serde_json::{Value, json};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::frame::Frame;

/// How a server fails at its 20th publication.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The first subscriber of the last node does not get it, gets it twice, or gets it after the next one.
    Skip,
    Twice,
    Swap,
    /// The last node ends its connections, without a close frame or with this code.
    Cut,
    Close(u16),
    /// The same, and the history is lost, or delivered from one publication before the position, or the first subscribe of each
    /// client gets a temporary error.
    Forget,
    Repeat,
    Refuse,
    /// The last node ends its subscriptions with 2500.
    Unsubscribe,
    /// The node of the publisher ends its connection instead of an answer.
    Doubt,
}

struct Subscriber {
    node: usize,
    stream: TcpStream,
}

#[derive(Default)]
struct Hub {
    subscribers: Vec<Subscriber>,
    /// The data of each publication; its offset is its position from 1 on.
    history: Vec<Value>,
    held: Option<Vec<u8>>,
    /// Subscribes with a position that got a temporary error.
    refused: usize,
    /// Clients whose connections were ended.
    ended: usize,
}

pub struct Server {
    fault: Fault,
    nodes: usize,
    /// Every connection gets this close code once there are so many.
    close_at: Option<(usize, u16)>,
    hub: Mutex<Hub>,
}

fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x88, 2, high, low]
}

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let opcode = tungstenite::protocol::frame::coding::OpCode::Data(tungstenite::protocol::frame::coding::Data::Text);
    Frame::message(text.to_string(), opcode, true).format(&mut bytes).unwrap();
    bytes
}

impl Server {
    fn start(fault: Fault, close_at: Option<(usize, u16)>) -> SocketAddr {
        Self::start_nodes(1, fault, close_at)[0]
    }

    pub fn start_nodes(nodes: usize, fault: Fault, close_at: Option<(usize, u16)>) -> Vec<SocketAddr> {
        let server = Arc::new(Self { fault, nodes, close_at, hub: Mutex::default() });
        let start = |node| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (addr, server) = (listener.local_addr().unwrap(), server.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let server = server.clone();
                    std::thread::spawn(move || server.serve(node, stream.unwrap()));
                }
            });
            addr
        };
        (0..nodes).map(start).collect()
    }

    /// Serves a connection until its client is gone.
    #[allow(clippy::result_large_err)] // the shape of tungstenite's callback
    fn serve(&self, node: usize, stream: TcpStream) -> Option<()> {
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
                (Message::Text(text), _) => text.lines().try_for_each(|line| self.command(node, &mut raw, line))?,
                _ => {}
            }
        }
    }

    fn command(&self, node: usize, raw: &mut TcpStream, line: &str) -> Option<()> {
        let command: Value = serde_json::from_str(line).ok()?;
        let Some(id) = command["id"].as_u64() else { return Some(()) };
        let mut hub = self.hub.lock().unwrap();
        if command["connect"].is_object() {
            raw.write_all(&frame(&json!({"id": id, "connect": {"client": "x"}}).to_string())).ok()?;
        } else if command["subscribe"].is_object() {
            let reply = self.subscribe(&mut hub, id, &command["subscribe"]);
            raw.write_all(&frame(&reply.to_string())).ok()?;
            raw.write_all(&frame("{}")).ok()?;
            if reply["subscribe"].is_object() {
                hub.subscribers.push(Subscriber { node, stream: raw.try_clone().ok()? });
            }
            if let Some((_, code)) = self.close_at.filter(|(n, _)| hub.subscribers.len() == *n) {
                hub.subscribers.iter_mut().for_each(|s| s.stream.write_all(&close_frame(code)).unwrap());
            }
        } else if command["publish"].is_object() {
            hub.history.push(command["publish"]["data"].clone());
            let publication = json!({"data": command["publish"]["data"], "offset": hub.history.len()});
            let push = json!({"push": {"channel": "load", "pub": publication}});
            self.deliver(&mut hub, frame(&push.to_string()));
            if hub.history.len() == 20 {
                self.fail(&mut hub);
                if self.fault == Fault::Doubt {
                    return raw.shutdown(Shutdown::Both).ok();
                }
            }
            raw.write_all(&frame(&json!({"id": id, "publish": {}}).to_string())).ok()?;
        }
        Some(())
    }

    /// The reply to a subscribe, with what was missed since its position.
    fn subscribe(&self, hub: &mut Hub, id: u64, request: &Value) -> Value {
        let position = request["offset"].as_u64().filter(|_| request["recover"] == true);
        if position.is_some() && self.fault == Fault::Refuse && hub.refused < hub.ended {
            hub.refused += 1;
            return json!({"id": id, "error": {"code": 100, "message": "internal server error", "temporary": true}});
        }
        let from = position.map_or(hub.history.len(), |offset| offset as usize);
        let from = from - usize::from(self.fault == Fault::Repeat && position.is_some_and(|offset| offset > 0));
        let recovered = position.is_some() && self.fault != Fault::Forget;
        let missed = (from..hub.history.len()).filter(|_| recovered);
        let publications: Vec<_> = missed.map(|i| json!({"data": hub.history[i], "offset": i + 1})).collect();
        json!({"id": id, "subscribe": {
            "recoverable": true, "positioned": true, "epoch": "e", "offset": hub.history.len(),
            "recovered": recovered, "publications": publications,
        }})
    }

    /// Ends what the last node serves, if that is the fault.
    fn fail(&self, hub: &mut Hub) {
        let unsubscribe = json!({"push": {"channel": "load", "unsubscribe": {"code": 2500, "reason": "gap"}}});
        let last = |subscriber: &mut Subscriber| subscriber.node + 1 == self.nodes;
        let bytes = match self.fault {
            Fault::None | Fault::Skip | Fault::Twice | Fault::Swap | Fault::Doubt => return,
            Fault::Unsubscribe => frame(&unsubscribe.to_string()),
            Fault::Close(code) => close_frame(code).to_vec(),
            Fault::Cut | Fault::Forget | Fault::Repeat | Fault::Refuse => Vec::new(),
        };
        for mut subscriber in hub.subscribers.extract_if(.., last) {
            let _ = subscriber.stream.write_all(&bytes);
            hub.ended += 1;
            if self.fault != Fault::Unsubscribe {
                let _ = subscriber.stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn deliver(&self, hub: &mut Hub, bytes: Vec<u8>) {
        let special = hub.history.len() == 20;
        let first = hub.subscribers.iter().position(|subscriber| subscriber.node + 1 == self.nodes);
        for i in 0..hub.subscribers.len() {
            let mut out = bytes.clone();
            if Some(i) == first {
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
            let _ = hub.subscribers[i].stream.write_all(&out);
        }
    }
}

/// Runs the tool with `--json`; returns its exit code and its object.
pub fn load(args: &[&str]) -> (i32, Value) {
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
