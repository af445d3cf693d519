//! A rolling restart: the next process takes the listeners over while the old one still serves. Publications at either
//! process reach the subscribers of both; the old process shuts down when the new one is ready, and continues if the
//! new one fails.

use crate::common::{Client, Server, SocketPath, command, server_command};
use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

fn start(socket: &SocketPath, shards: &str, old: Option<&Server>, settings: &[(&str, &str)]) -> Server {
    let server = Server::with_handover(socket, shards, old, settings);
    if !settings.contains(&("handover.trial_time", "1h")) {
        server.wait_for_log("handover: a new process can take over at ");
    }
    server
}

/// The texts of the publications up to the close frame, and its code.
fn publications_until_close(client: &mut Client) -> (Vec<Value>, u16) {
    let mut received = Vec::new();
    loop {
        match client.ws.read().expect("an orderly end") {
            Message::Text(text) => {
                let messages = text.trim_end().split('\n').map(|one| serde_json::from_str::<Value>(one).expect("JSON"));
                received.extend(
                    messages.filter_map(|one| Some(one["push"]["pub"]["data"].clone()).filter(|d| !d.is_null())),
                );
            }
            Message::Close(close) => return (received, close.map_or(0, |close| close.code.into())),
            _ => {}
        }
    }
}

#[test]
fn publications_at_either_process_reach_subscribers_of_both() {
    let socket = SocketPath::new("both");
    // The closes are spread so far that the old process serves long enough for this test.
    let slow = [("shutdown.timeout", "1h"), ("shutdown.window", "50m")];
    let mut old = start(&socket, "2", None, &slow);
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(&old)).collect();
    clients.iter_mut().for_each(|client| client.subscribe("news"));
    let mut new = start(&socket, "3", Some(&old), &[]);
    assert_eq!(new.client, old.client);
    old.wait_for_log("has taken over; this process accepts no new clients");
    old.wait_for_log("shutting down: no new clients");
    // Clients of the old process publish. The shards learn of the shutdown a moment after the log line: the old process
    // still accepts connections until then.
    let mut fresh = crate::common::until(
        || "no client reaches the new process".into(),
        || Some(Client::connect(&new)).filter(|_| new.metric("corecast_connections", "") > 0),
    );
    fresh.subscribe("news");
    new.api("publish", &json!({"channel": "news", "data": "from the API"}));
    assert_eq!(fresh.publication().1, "from the API");
    let mut left: Vec<_> =
        clients.into_iter().filter_map(|mut client| is_open(&mut client).then_some(client)).collect();
    assert!(!left.is_empty(), "the window is long");
    left[0].send(json!({"publish": {"channel": "news", "data": "from an old client"}}));
    assert_eq!(fresh.publication().1, "from an old client");
    fresh.send(json!({"publish": {"channel": "news", "data": "from a new client"}}));
    for client in &mut left {
        crate::common::until(
            || "the publication did not arrive".into(),
            || (next_data(client) == "from a new client").then_some(()),
        );
    }
    drop(left);
    assert_eq!(old.wait_for_exit().code(), Some(0));
    new.wait_for_log("handover: complete, the old process has ended");
    // A third process takes over from the second one.
    let mut last = start(&socket, "1", Some(&new), &[]);
    assert_eq!(publications_until_close(&mut fresh).1, 3001);
    drop(fresh);
    assert_eq!(new.wait_for_exit().code(), Some(0));
    Client::connect(&last).subscribe("news");
    last.signal(Signal::TERM);
    assert_eq!(last.wait_for_exit().code(), Some(0));
    assert!(!socket.0.exists(), "the last process removes the socket file");
}

/// The data of the next publication; skips other messages.
fn next_data(client: &mut Client) -> Value {
    loop {
        let mut message = client.next();
        let data = message["push"]["pub"]["data"].take();
        if !data.is_null() {
            return data;
        }
    }
}

/// Reads up to the publication of the API, or to the close.
fn is_open(client: &mut Client) -> bool {
    loop {
        match client.ws.read() {
            Ok(Message::Text(text)) if text.contains("from the API") => return true,
            Ok(Message::Close(_)) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

#[test]
fn user_calls_reach_the_connections_of_both_processes() {
    let socket = SocketPath::new("calls");
    let old = start(&socket, "1", None, &[("shutdown.timeout", "1h"), ("shutdown.window", "50m")]);
    let named = || {
        let mut client = Client::fresh(&old);
        let reply = client.ask(json!({"connect": {}}));
        (client, reply["connect"]["client"].clone())
    };
    let clients: Vec<_> = (0..3).map(|_| named()).collect();
    let new = start(&socket, "1", Some(&old), &[]);
    old.wait_for_log("shutting down: no new clients");
    let mut codes = Vec::new();
    for (mut client, id) in clients {
        new.api("disconnect", &json!({"user": "", "client": id, "disconnect": {"code": 3503, "reason": "asked"}}));
        codes.push(client.closed().0);
    }
    codes.sort_unstable();
    assert_eq!(codes, [3503, 3503, 3503], "the call to the other process reaches them before their waves");
}

#[test]
fn successor_that_fails_before_it_is_ready_leaves_the_old_process_serving() {
    let socket = SocketPath::new("fails");
    let old = start(&socket, "2", None, &[]);
    let mut client = Client::connect(&old);
    client.subscribe("news");
    // A process that sends its hello and closes was not ready.
    let mut half = std::os::unix::net::UnixStream::connect(&socket.0).expect("the old process listens there");
    std::io::Write::write_all(&mut half, &[5, 0, 0, 0, 1, 2, 0, 0, 0, 0]).expect("the write succeeds");
    old.wait_for_log("takes over; passing it the listening sockets");
    drop(half);
    old.wait_for_log("this process goes on serving");
    // A process whose other address is in use fails after it took over the sockets.
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (listen, taken) = (old.client.to_string(), held.local_addr().expect("bound").to_string());
    let mut command = command(&["--listen", &listen, "--listen", &taken, "--shards", "1", "--takeover"]);
    let failed = command.env("CORECAST_HANDOVER_SOCKET", &socket.0).output().expect("it runs");
    assert_eq!(failed.status.code(), Some(1), "{}", String::from_utf8_lossy(&failed.stderr));
    assert_eq!(old.http("GET", "/health", &[], "").0, 200);
    old.api("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(client.publication().1, 1);
    Client::connect(&old).subscribe("news");
}

#[test]
fn takeover_without_a_predecessor_starts_normally() {
    let socket = SocketPath::new("first");
    let mut command = server_command(None, "1");
    command.arg("--takeover");
    let server = Server::spawn(command, &[("handover.socket", socket.text())]);
    server.wait_for_log("starting as the first process");
    Client::connect(&server).subscribe("news");
}

#[test]
fn positions_of_the_old_process_are_recovered() {
    let socket = SocketPath::new("positions");
    let mut old = start(&socket, "2", None, &[]);
    let mut client = Client::connect(&old);
    let reply = client.ask(json!({"subscribe": {"channel": "news", "recoverable": true, "positioned": true}}));
    let epoch = reply["subscribe"]["epoch"].clone();
    old.api("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(client.publication().1, 1);
    let new = start(&socket, "2", Some(&old), &[]);
    assert_eq!(client.closed().0, 3001);
    drop(client);
    let mut client = Client::connect(&new);
    let again =
        json!({"subscribe": {"channel": "news", "recoverable": true, "recover": true, "offset": 1, "epoch": epoch}});
    let reply = client.ask(again);
    assert!(reply["subscribe"]["recovered"] == true && epoch.is_string(), "{reply}");
    assert_eq!((&reply["subscribe"]["epoch"], &reply["subscribe"]["publications"]), (&epoch, &Value::Null));
    assert_eq!(old.wait_for_exit().code(), Some(0));
}

/// A client subscribes, and what the server API publishes reaches it.
fn assert_serves(server: &Server) {
    let mut client = Client::connect(server);
    client.subscribe("alive");
    server.api("publish", &json!({"channel": "alive", "data": 7}));
    assert_eq!(next_data(&mut client), 7);
}

#[test]
fn successor_that_is_killed_while_it_is_on_trial_leaves_the_old_process_serving() {
    let socket = SocketPath::new("trial");
    let mut old = start(&socket, "2", None, &[]);
    let mut client = Client::connect(&old);
    client.subscribe("news");
    let mut new = start(&socket, "2", Some(&old), &[("handover.trial_time", "1h")]);
    old.wait_for_log("this process accepts clients too until it has proven itself");
    new.signal(Signal::KILL);
    new.wait_for_exit();
    old.wait_for_log("ended before it had proven itself; this process goes on serving");
    // The old process listens everywhere, as before, and its clients are connected.
    (0..8).for_each(|_| assert_serves(&old));
    old.api("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(client.publication().1, 1);
    // The next attempt finds the old process, and succeeds.
    let next = start(&socket, "2", Some(&old), &[]);
    assert_eq!(client.closed().0, 3001);
    drop(client);
    assert_eq!(old.wait_for_exit().code(), Some(0));
    assert_serves(&next);
}

#[test]
fn old_process_that_is_stopped_during_the_trial_shuts_down_in_favor_of_the_new_one() {
    let socket = SocketPath::new("stopped");
    let mut old = start(&socket, "2", None, &[]);
    let mut client = Client::connect(&old);
    let new = start(&socket, "2", Some(&old), &[("handover.trial_time", "1h")]);
    old.wait_for_log("this process accepts clients too until it has proven itself");
    old.signal(Signal::TERM);
    assert_eq!(client.closed().0, 3001);
    drop(client);
    assert_eq!(old.wait_for_exit().code(), Some(0));
    new.wait_for_log("handover: complete, the old process has ended");
    assert_serves(&new);
}

#[test]
fn process_takes_the_place_of_a_successor_that_is_killed_after_it_has_taken_over() {
    let socket = SocketPath::new("later");
    let slow = [("shutdown.timeout", "1h"), ("shutdown.window", "50m")];
    let old = start(&socket, "1", None, &slow);
    let _clients: Vec<_> = (0..4).map(|_| Client::connect(&old)).collect();
    let mut new = start(&socket, "1", Some(&old), &[]);
    old.wait_for_log("has taken over; this process accepts no new clients");
    new.signal(Signal::KILL);
    new.wait_for_exit();
    // The old process still closes its clients, and holds no listener: the next one starts as usual.
    let next = start(&socket, "1", Some(&old), &[]);
    next.wait_for_log("starting as the first process");
    assert_serves(&next);
}
