//! What a takeover keeps of the channels: every publication once and in order, positions, epochs, histories, presence,
//! idempotency keys and versions; and what clients learn if one of the two processes dies halfway.

use std::io::{Read, Write};

use crate::common::follow::{Follower, Publisher};
use crate::common::log_dir::LogDir;
use crate::common::{Client, Server, SocketPath, server_command, token, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Histories that keep everything that a test publishes.
const SETTINGS: [(&str, &str); 6] = [
    ("channel.without_namespace.history_size", "10000"),
    ("channel.without_namespace.history_ttl", "300s"),
    ("channel.without_namespace.presence", "true"),
    ("channel.without_namespace.join_leave", "true"),
    ("client.recovery_max_publication_limit", "10000"),
    ("shutdown.window", "1s"),
];

fn start(socket: &SocketPath, shards: &str, old: Option<&Server>, settings: &[(&str, &str)]) -> Server {
    Server::with_handover(socket, shards, old, &[&SETTINGS[..], settings].concat())
}

fn wait_until_proven(server: &Server) {
    server.wait_for_log("handover: a new process can take over at ");
}

fn position(server: &Server, channel: &str) -> (Value, u64) {
    let history = server.api("history", &json!({"channel": channel, "limit": 0}))["result"].take();
    (history["epoch"].clone(), history["offset"].as_u64().unwrap_or(0))
}

#[test]
fn takeovers_in_a_row_under_load_lose_and_double_nothing() {
    take_over_in_a_row(&SocketPath::new("in-a-row"), &[]);
}

fn durable<'a>(dirs: &'a str, durability: &'a str) -> [(&'a str, &'a str); 3] {
    [("durable.enabled", "true"), ("durable.data_dirs", dirs), ("channel.without_namespace.durability", durability)]
}

#[test]
fn takeovers_in_a_row_with_a_log_lose_and_double_nothing() {
    for durability in ["process", "strict"] {
        let log = LogDir::new(durability);
        take_over_in_a_row(&SocketPath::new(&format!("log-{durability}")), &durable(&log.dirs(), durability));
    }
}

fn take_over_in_a_row(socket: &SocketPath, settings: &[(&str, &str)]) {
    let mut old = start(socket, "2", None, settings);
    wait_until_proven(&old);
    let channels = ["a", "b", "c", "d"];
    let start_followers = |channel| (0..2).map(move |_| Follower::start(&[old.client], channel));
    let followers: Vec<Vec<_>> = channels.iter().map(|channel| start_followers(channel).collect()).collect();
    // The history of the last one is sent in many pieces.
    let padding = |channel| if channel == "d" { 8_000 } else { 0 };
    let publishers = channels.map(|channel| Publisher::with_padding(&[old.admin], channel, padding(channel)));
    publishers.iter().for_each(|publisher| publisher.wait_for_more(50));
    let epochs = channels.map(|channel| position(&old, channel).0);
    for shards in ["3", "1", "2"] {
        // For the time of the trial either process accepts the next publication.
        let new = start(socket, shards, Some(&old), &[&[("handover.trial_time", "1s")], settings].concat());
        wait_until_proven(&new);
        assert_eq!(old.wait_for_exit().code(), Some(0));
        publishers.iter().for_each(|publisher| publisher.wait_for_more(50));
        old = new;
    }
    assert_eq!(channels.map(|channel| position(&old, channel).0), epochs);
    for ((channel, publisher), followers) in channels.iter().zip(publishers).zip(followers) {
        let published = publisher.finish();
        assert_eq!(published.failed, 0, "{channel}");
        assert_eq!(position(&old, channel).1, published.acknowledged.len() as u64, "each has one offset");
        for follower in followers {
            follower.wait_for(*published.acknowledged.last().expect("some"));
            let followed = follower.finish(&published.acknowledged);
            assert_eq!((followed.unrecovered, followed.unsubscribed), (0, 0), "{channel}: {followed:?}");
            assert_eq!(followed.numbers, published.acknowledged);
            assert_eq!(followed.recovered, followed.closed.len(), "each process closed it once: {:?}", followed.closed);
        }
    }
}

/// The clients that the API reports for a channel.
fn presence(server: &Server, channel: &str) -> usize {
    server.api("presence", &json!({"channel": channel}))["result"]["presence"].as_object().map_or(0, |all| all.len())
}

/// The process that answers at the address of both.
fn uid(server: &Server) -> Value {
    server.api("info", &json!({}))["result"]["nodes"][0]["uid"].clone()
}

#[test]
fn both_processes_have_one_order_one_presence_and_one_history() {
    let socket = SocketPath::new("one-order");
    let slow = [("shutdown.timeout", "1h"), ("shutdown.window", "50m")];
    let old = start(&socket, "2", None, &slow);
    wait_until_proven(&old);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(&old)).collect();
    clients.iter_mut().for_each(|client| client.subscribe("news"));
    let publish = |server: &Server, fields: Value| {
        let mut body = json!({"channel": "news", "data": 1});
        fields.as_object().into_iter().flatten().for_each(|(name, value)| body[name] = value.clone());
        server.api("publish", &body)["result"].take()
    };
    let first = publish(&old, json!({"idempotency_key": "k"}));
    publish(&old, json!({"version": 7, "version_epoch": "v"}));
    let before = uid(&old);
    let new = start(&socket, "3", Some(&old), &[]);
    old.wait_for_log("shutting down: no new clients");
    assert_ne!(uid(&new), before, "the new process answers");
    assert_eq!(publish(&new, json!({"idempotency_key": "k"})), first, "the key is known");
    assert_eq!(publish(&new, json!({"version": 7, "version_epoch": "v"}))["offset"], 2, "the version is known");
    assert_eq!(position(&new, "news"), (first["epoch"].clone(), 2));
    let mut fresh = until(
        || "no client reaches the new process".into(),
        || Some(Client::connect(&new)).filter(|_| new.metric("corecast_connections", "") > 0),
    );
    fresh.subscribe("news");
    publish(&new, json!({"data": "from the API"}));
    let stayed: Vec<_> = clients.iter_mut().enumerate().filter_map(is_open).collect();
    assert!(!stayed.is_empty(), "the window is long");
    // A client of the old process publishes, and everyone gets it at the same offset.
    clients[stayed[0]].send(json!({"publish": {"channel": "news", "data": "from an old client"}}));
    let offset = |client: &mut Client| {
        until(
            || "the publication does not come".into(),
            || {
                let message = client.next();
                let publication = &message["push"]["pub"];
                (publication["data"] == "from an old client").then(|| publication["offset"].clone())
            },
        )
    };
    assert_eq!((offset(&mut fresh), offset(&mut clients[stayed[0]])), (json!(4), json!(4)));
    // Both processes know the clients of both.
    until(
        || format!("{} clients are present", presence(&new, "news")),
        || (presence(&new, "news") == stayed.len() + 1).then_some(()),
    );
    let mut ask = |what: &str, command: Value| {
        clients[stayed[0]].send(command);
        // The reply to its publication may come before.
        until(
            || format!("no reply to {what}"),
            || Some(clients[stayed[0]].next()[what].take()).filter(Value::is_object),
        )
    };
    let stats = ask("presence_stats", json!({"presence_stats": {"channel": "news"}}));
    assert_eq!(stats["num_clients"], stayed.len() + 1);
    let history = ask("history", json!({"history": {"channel": "news", "limit": -1}}));
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(4), "{history}");
}

/// Reads up to the publication of the API. `None`: the first waves of the shutdown have closed the client.
fn is_open((at, client): (usize, &mut Client)) -> Option<usize> {
    loop {
        match client.ws.read() {
            Ok(tungstenite::Message::Text(text)) if text.contains("from the API") => return Some(at),
            Ok(tungstenite::Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// The number of the channel's offsets that a subscribe recovers from, and whether it does.
fn recover(client: &mut Client, channel: &str, (epoch, offset): &(Value, u64)) -> Value {
    client.ask(json!({"subscribe": {
        "channel": channel, "recoverable": true, "recover": true, "offset": offset, "epoch": epoch,
    }}))["subscribe"]
        .take()
}

#[test]
fn successor_that_is_killed_halfway_gives_the_order_back_and_recoveries_claim_nothing() {
    let socket = SocketPath::new("killed-successor");
    let old = start(&socket, "2", None, &[]);
    wait_until_proven(&old);
    let mut positioned = Client::connect(&old);
    positioned.ask(json!({"subscribe": {"channel": "news", "recoverable": true, "positioned": true}}));
    let mut plain = Client::connect(&old);
    plain.ask(json!({"subscribe": {"channel": "other"}}));
    (0..3).for_each(|n| _ = old.api("publish", &json!({"channel": "news", "data": n})));
    let before = position(&old, "news");
    let mut new = start(&socket, "2", Some(&old), &[("handover.trial_time", "1h")]);
    old.wait_for_log("this process accepts clients too until it has proven itself");
    // Either process answers; the new one has the order.
    (3..6).for_each(|n| _ = old.api("publish", &json!({"channel": "news", "data": n})));
    (0..6).for_each(|n| assert_eq!(positioned.publication().1, n));
    new.signal(Signal::KILL);
    new.wait_for_exit();
    old.wait_for_log("ended before it had proven itself; this process goes on serving");
    // It may have published more than what came here, so that the positioned client has to load its state.
    let unsubscribed = positioned.next();
    assert_eq!(unsubscribed["push"]["unsubscribe"]["code"], 2500, "{unsubscribed}");
    let after = position(&old, "news");
    assert_ne!(after.0, before.0);
    assert_eq!(after.1, 6, "what has arrived is kept");
    let reply = recover(&mut positioned, "news", &(before.0, 6));
    assert!(reply["recovered"].is_null() && reply["was_recovering"] == true, "{reply}");
    old.api("publish", &json!({"channel": "news", "data": 6}));
    old.api("publish", &json!({"channel": "other", "data": 1}));
    assert_eq!((positioned.publication().1, plain.publication().1), (json!(6), json!(1)));
    assert_eq!(position(&old, "news").1, 7);
    // The next attempt keeps the epoch again.
    let next = start(&socket, "1", Some(&old), &[]);
    wait_until_proven(&next);
    assert_eq!(position(&next, "news"), (after.0, 7));
}

#[test]
fn old_process_that_is_killed_leaves_its_channels_to_the_new_one() {
    let socket = SocketPath::new("killed-predecessor");
    let mut old = start(&socket, "2", None, &[]);
    wait_until_proven(&old);
    let mut client = Client::connect(&old);
    client.subscribe("news");
    (0..3).for_each(|n| _ = old.api("publish", &json!({"channel": "news", "data": n})));
    let before = position(&old, "news");
    let new = start(&socket, "3", Some(&old), &[("handover.trial_time", "1h")]);
    old.wait_for_log("this process accepts clients too until it has proven itself");
    old.signal(Signal::KILL);
    old.wait_for_exit();
    new.wait_for_log("handover: complete, the old process has ended");
    // The new process had the order: nothing is lost, and the clients of the old one are gone.
    assert_eq!(position(&new, "news"), before);
    until(|| format!("{} clients are present", presence(&new, "news")), || (presence(&new, "news") == 0).then_some(()));
    let mut client = Client::connect(&new);
    let reply = recover(&mut client, "news", &(before.0, 1));
    assert_eq!((&reply["recovered"], reply["publications"].as_array().map(Vec::len)), (&json!(true), Some(2)));
}

/// The other end of `handover.socket`, as the test plays it.
struct FakePredecessor {
    listener: std::os::unix::net::UnixListener,
}

impl FakePredecessor {
    fn new(socket: &SocketPath) -> Self {
        Self { listener: std::os::unix::net::UnixListener::bind(&socket.0).expect("a free path") }
    }

    /// Accepts the new process, reads its hello and sends these frames.
    fn greet(&self, frames: &[Vec<u8>]) -> std::os::unix::net::UnixStream {
        let (mut stream, _) = self.listener.accept().expect("the new process connects");
        let (kind, hello) = next_frame(&mut stream);
        assert_eq!((kind, hello[0], hello[5]), (1, 2, 1), "a hello that says that it takes channels over");
        stream.write_all(&frames.concat()).expect("it reads");
        stream
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &[kind], body].concat()
}

fn next_frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut header = [0; 5];
    stream.read_exact(&mut header).expect("a frame");
    let mut body = vec![0; u32::from_le_bytes(header[..4].try_into().expect("four")) as usize];
    stream.read_exact(&mut body).expect("its body");
    (header[4], body)
}

const GO: u8 = 3;
const READY: u8 = 4;
const WELCOME: u8 = 9;
const MESSAGE: u8 = 10;
const COPIED: u8 = 11;
const SWITCH: u8 = 12;

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

/// A channel with two publications at offsets 1 and 2 of the epoch "abcdef".
fn copy_of(channel: &str) -> Vec<u8> {
    let record = |offset: u64| [&[1][..], &offset.to_le_bytes(), &[0; 16], &bytes(b"{}"), &bytes(b"")].concat();
    let position = [&2u64.to_le_bytes()[..], &bytes(b"abcdef")].concat();
    let numbers = [0u64; 3].map(u64::to_le_bytes).concat();
    let records = [&2u32.to_le_bytes()[..], &record(1), &record(2)].concat();
    [&[3][..], &bytes(channel.as_bytes()), &[1], &position, &numbers, &bytes(b""), &records].concat()
}

fn welcome(shards: u16) -> Vec<u8> {
    frame(WELCOME, &[&shards.to_le_bytes()[..], &[7; 16]].concat())
}

/// Starts a process that takes over at this socket, on a thread: its start waits for the other process.
fn start_beside(socket: &SocketPath) -> std::thread::JoinHandle<Server> {
    let path = socket.text().to_owned();
    std::thread::spawn(move || {
        let mut command = server_command(None, "2");
        command.arg("--takeover");
        Server::spawn(command, &[&[("handover.socket", &*path)], &SETTINGS[..]].concat())
    })
}

#[test]
fn old_process_that_is_killed_before_it_has_sent_all_channels_leaves_those_that_came_with_another_epoch() {
    let socket = SocketPath::new("half-copied");
    let predecessor = FakePredecessor::new(&socket);
    let starting = start_beside(&socket);
    let frames = [welcome(2), frame(GO, b""), frame(MESSAGE, &copy_of("news")), frame(COPIED, b"")];
    drop(predecessor.greet(&frames));
    let new = starting.join().expect("it starts");
    new.wait_for_log("has ended before it had passed all of its channels");
    let (epoch, offset) = position(&new, "news");
    assert_eq!(offset, 2, "what has arrived is kept");
    assert_ne!(epoch, "abcdef");
    let mut client = Client::connect(&new);
    let reply = recover(&mut client, "news", &(json!("abcdef"), 1));
    assert!(reply["recovered"].is_null() && reply["was_recovering"] == true, "{reply}");
}

#[test]
fn new_process_accepts_no_client_before_it_has_all_channels() {
    let socket = SocketPath::new("not-yet");
    let predecessor = FakePredecessor::new(&socket);
    let starting = start_beside(&socket);
    let mut stream = predecessor.greet(&[welcome(1), frame(GO, b""), frame(MESSAGE, &copy_of("news"))]);
    let new = starting.join().expect("it starts");
    // It listens, and the kernel takes the connection.
    let waiting = std::thread::spawn({
        let at = new.client;
        move || crate::common::ws_at(at, "/connection/websocket")
    });
    stream.write_all(&frame(COPIED, b"")).expect("it reads");
    assert_eq!(next_frame(&mut stream).0, SWITCH);
    assert!(!waiting.is_finished(), "the upgrade waits");
    stream.write_all(&frame(13, b"")).expect("it reads");
    assert_eq!(next_frame(&mut stream).0, READY);
    drop(waiting.join().expect("it is upgraded"));
    assert_eq!(position(&new, "news"), (json!("abcdef"), 2));
}

#[test]
fn process_of_an_earlier_version_is_taken_over_without_its_channels() {
    let socket = SocketPath::new("earlier");
    let predecessor = FakePredecessor::new(&socket);
    let starting = start_beside(&socket);
    let mut stream = predecessor.greet(&[frame(GO, b"")]);
    let new = starting.join().expect("it starts");
    assert_eq!(next_frame(&mut stream).0, READY);
    new.api("publish", &json!({"channel": "news", "data": 1}));
    let kinds: Vec<u8> = (0..2).map(|_| next_frame(&mut stream).0).collect();
    assert!(kinds.contains(&6), "the publication goes to the old process as before: {kinds:?}");
}

#[test]
fn malformed_message_of_the_old_process_ends_the_link_and_not_the_new_process() {
    let socket = SocketPath::new("malformed");
    let predecessor = FakePredecessor::new(&socket);
    let starting = start_beside(&socket);
    let stream = predecessor.greet(&[welcome(1), frame(GO, b""), frame(MESSAGE, &[99, 1, 2, 3])]);
    let new = starting.join().expect("it starts");
    new.wait_for_log("has ended before it had passed all of its channels");
    new.api("publish", &json!({"channel": "news", "data": 1}));
    drop(stream);
}

#[test]
fn question_of_a_client_that_the_other_process_does_not_answer_leaves_the_link() {
    const SECRET: &str = "a-secret-of-32-bytes-for-the-tests";
    let (socket, log) = (SocketPath::new("questions"), LogDir::new("questions"));
    let dirs = log.dirs();
    let queries = [
        ("channel.without_namespace.history_index_user", "true"),
        ("channel.without_namespace.allow_history_query_for_client", "true"),
        ("client.token.hmac_secret_key", SECRET),
        ("handover.trial_time", "1h"),
    ];
    let settings = [&durable(&dirs, "process")[..], &queries].concat();
    let old = start(&socket, "1", None, &settings);
    wait_until_proven(&old);
    let token = token(SECRET, &json!({"sub": "ann"}));
    let mut client = Client::fresh(&old);
    // Its presence in a channel with the empty name crosses the link too.
    let reply = client.ask(json!({"connect": {"token": token, "subs": {"": {}}}}));
    assert!(reply["connect"]["subs"][""].is_object(), "{reply}");
    let new = start(&socket, "2", Some(&old), &settings);
    old.wait_for_log("this process accepts clients too until it has proven itself");
    new.api("publish", &json!({"channel": "news", "data": 1}));
    let mut error = |method: &str, data: Value| {
        client.ask(json!({"rpc": {"method": method, "data": data}}))["error"]["code"].take()
    };
    assert_eq!(error("corecast.history_query", json!({})), 100);
    assert_eq!(error("corecast.history", json!({"channel": ""})), 107);
    // The answer comes by the link, behind those questions.
    let reply = client.ask(json!({"history": {"channel": "news", "limit": 0}}));
    assert_eq!(reply["history"]["offset"], 1, "{reply}");
}

#[test]
fn log_is_opened_again_when_the_successor_is_killed_and_recoveries_go_on() {
    let (socket, log) = (SocketPath::new("log-back"), LogDir::new("back"));
    let dirs = log.dirs();
    let settings = durable(&dirs, "process");
    let old = start(&socket, "2", None, &settings);
    wait_until_proven(&old);
    let mut client = Client::connect(&old);
    client.ask(json!({"subscribe": {"channel": "news", "recoverable": true, "positioned": true}}));
    (0..3).for_each(|n| _ = old.api("publish", &json!({"channel": "news", "data": n})));
    let before = position(&old, "news");
    let mut new = start(&socket, "3", Some(&old), &[&[("handover.trial_time", "1h")], &settings[..]].concat());
    old.wait_for_log("this process accepts clients too until it has proven itself");
    (3..6).for_each(|n| _ = old.api("publish", &json!({"channel": "news", "data": n})));
    (0..6).for_each(|n| assert_eq!(client.publication().1, n));
    // The log is asked by the link, and by this process once it has it again.
    client.subscribe("while following");
    new.signal(Signal::KILL);
    new.wait_for_exit();
    old.wait_for_log("ended before it had proven itself; this process goes on serving");
    client.subscribe("after that");
    // The log has what the other process has published: nothing is lost, and the epoch goes on.
    until(
        || "the log is not served".into(),
        || (old.api("publish", &json!({"channel": "news", "data": 6}))["error"].is_null()).then_some(()),
    );
    assert_eq!(client.publication().1, 6);
    assert_eq!(position(&old, "news"), (before.0.clone(), 7));
    let mut again = Client::connect(&old);
    let reply = recover(&mut again, "news", &(before.0, 2));
    assert_eq!((&reply["recovered"], reply["publications"].as_array().map(Vec::len)), (&json!(true), Some(5)));
}
