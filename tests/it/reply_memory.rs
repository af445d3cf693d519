//! Large replies: however many one client asks for, and however little it reads, the memory for them is bounded, every
//! reply that is sent is whole, and others are served.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::common::{BINARY, Client, Raw, Server, TEXT, frame, until};
use serde_json::{Value, json};

const PAYLOAD_BYTES: usize = 32 * 1024;
/// Publications of each history: 2 MiB in one reply, which is more than the socket buffers of both kernels take.
const PUBLICATIONS: usize = 64;
const REPLY_BYTES: u64 = (PUBLICATIONS * PAYLOAD_BYTES) as u64;
/// What the process may need besides the bounds: the test is far from what it would need without them.
const SLACK_BYTES: u64 = 24 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// A server whose channel `big` has a history of 2 MiB, and its memory then.
fn server(settings: &[(&str, &str)]) -> (Server, u64) {
    let mut all = vec![
        ("channel.without_namespace.history_size", "100"),
        ("channel.without_namespace.history_ttl", "300s"),
        ("channel.without_namespace.join_leave", "false"),
        ("channel.without_namespace.force_push_join_leave", "false"),
        ("engine.close_timeout", "1s"),
    ];
    all.extend_from_slice(settings);
    let server = Server::with(&all);
    let text = "x".repeat(PAYLOAD_BYTES);
    for n in 0..PUBLICATIONS {
        server.api("publish", &json!({"channel": "big", "data": {"n": n, "text": text}}));
    }
    // Both shards have served a client, and the caches of their threads are filled.
    for client in &mut Client::pair(&server) {
        client.subscribe("big");
        assert_whole(&client.ask(json!({"history": {"channel": "big", "limit": -1}}))["history"]);
    }
    let memory = server.memory_bytes();
    (server, memory)
}

fn assert_whole(result: &Value) {
    let publications = result["publications"].as_array().unwrap_or_else(|| panic!("no publications: {result}"));
    let numbers: Vec<u64> = publications.iter().map(|one| one["data"]["n"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (0..PUBLICATIONS as u64).collect::<Vec<_>>());
}

/// A connection that has sent these commands behind its connect, in one frame, and reads nothing.
fn silent(server: &Server, commands: &[Value]) -> Raw {
    let mut raw = Raw::open(server, "/connection/websocket");
    let connect = json!({"id": 1, "connect": {}});
    let lines: Vec<String> = std::iter::once(&connect).chain(commands).map(Value::to_string).collect();
    raw.send(&frame(TEXT, lines.join("\n").as_bytes()));
    raw
}

fn with_ids(command: &Value, count: u64) -> Vec<Value> {
    let with_id = |id: u64| {
        let mut command = command.clone();
        command["id"] = json!(id);
        command
    };
    (2..2 + count).map(with_id).collect()
}

/// Both shards have handled everything that they had received before.
fn let_shards_work(server: &Server) {
    for client in &mut Client::pair(server) {
        for _ in 0..20 {
            client.ask(json!({"presence_stats": {"channel": "big"}}));
        }
    }
}

/// The most memory that the process has while `is_done` is awaited, above `before`.
fn growth(server: &Server, before: u64, complaint: &str, mut is_done: impl FnMut() -> bool) -> u64 {
    let mut most = 0;
    until(
        || complaint.into(),
        || {
            most = most.max(server.memory_bytes().saturating_sub(before));
            is_done().then_some(())
        },
    );
    most.max(server.memory_bytes().saturating_sub(before))
}

#[test]
fn histories_of_one_frame_wait_until_the_client_reads() {
    const COMMANDS: u64 = 60;
    let (server, before) = server(&[]);
    let mut greedy = silent(&server, &with_ids(&json!({"history": {"channel": "big", "limit": -1}}), COMMANDS));
    let is_blocked = || server.metric("corecast_backlog_kept_bytes", "") >= REPLY_BYTES / 2;
    let most = growth(&server, before, "the first reply does not come", is_blocked);
    let_shards_work(&server);
    let kept = server.metric("corecast_backlog_kept_bytes", "");
    assert!(kept < 2 * REPLY_BYTES, "one reply of {REPLY_BYTES} bytes may wait, {kept} bytes do");
    let most = most.max(server.memory_bytes().saturating_sub(before));
    assert!(most < SLACK_BYTES, "the process took {most} bytes more");
    // The client reads at last, and gets every reply, in order.
    let mut ids = Vec::new();
    while ids.len() < COMMANDS as usize + 1 {
        for line in String::from_utf8(greedy.frame().payload).expect("text").lines() {
            let reply: Value = serde_json::from_str(line).expect("JSON");
            if reply["id"] != json!(1) {
                assert_whole(&reply["history"]);
            }
            ids.push(reply["id"].as_u64().expect("a reply"));
        }
    }
    assert_eq!(ids, (1..=COMMANDS + 1).collect::<Vec<_>>());
    assert_eq!(server.metric("corecast_connections_closed_total", "reason=\"slow\""), 0);
}

/// Many connections ask for one large reply each and do not read: all together stay within the memory of backlogs.
fn many_that_do_not_read(commands: &[Value]) {
    const SILENT: usize = 40;
    const BOUND: u64 = 16 * MIB;
    let (server, before) = server(&[("engine.backlog_bytes_max", "16MiB")]);
    let silent: Vec<Raw> = (0..SILENT).map(|_| silent(&server, commands)).collect();
    let mut most_kept = 0;
    let most = growth(&server, before, "not every connection is served or closed", || {
        let kept = server.metric("corecast_backlog_kept_bytes", "");
        most_kept = most_kept.max(kept + server.metric("corecast_backlog_reserved_bytes", ""));
        let closed = server.metric("corecast_connections_closed_total", "reason=\"slow\"");
        let waiting = server.metric("corecast_replies_waiting", "");
        // Each shard keeps at most as many replies as fit its half.
        waiting == 0 && closed >= SILENT as u64 - BOUND / REPLY_BYTES
    });
    assert!(most_kept <= BOUND, "{most_kept} bytes were kept or reserved");
    assert!(most < BOUND + SLACK_BYTES, "the process took {most} bytes more");
    // Honest clients are served next to them.
    for client in &mut Client::pair(&server) {
        assert_whole(&client.ask(json!({"history": {"channel": "big", "limit": -1}}))["history"]);
    }
    drop(silent);
    for gauge in ["corecast_backlog_bytes", "corecast_backlog_reserved_bytes", "corecast_replies_waiting"] {
        server.wait_for_metric(gauge, "", |n| n == 0);
    }
}

#[test]
fn histories_of_clients_that_do_not_read_stay_within_the_memory_of_backlogs() {
    many_that_do_not_read(&[json!({"id": 2, "history": {"channel": "big", "limit": -1}})]);
}

#[test]
fn recoveries_of_clients_that_do_not_read_stay_within_the_memory_of_backlogs() {
    many_that_do_not_read(&[json!({"id": 2, "subscribe": {"channel": "big", "recover": true, "recoverable": true}})]);
}

#[test]
fn recoveries_of_one_frame_come_whole_and_in_order() {
    let (server, _) = server(&[]);
    let text = "x".repeat(PAYLOAD_BYTES);
    for n in 0..PUBLICATIONS {
        for channel in ["one", "two"] {
            server.api("publish", &json!({"channel": channel, "data": {"n": n, "text": text}}));
        }
    }
    let mut client = Client::connect(&server);
    let subscribe = |channel| json!({"subscribe": {"channel": channel, "recover": true, "recoverable": true}});
    let ids = ["big", "one", "two"].map(|channel| client.send(subscribe(channel)));
    let last = client.send(json!({"presence_stats": {"channel": "big"}}));
    for id in ids {
        let reply = client.next();
        assert_eq!((&reply["id"], &reply["subscribe"]["recovered"]), (&json!(id), &json!(true)));
        assert_whole(&reply["subscribe"]);
    }
    assert_eq!(client.next()["id"], json!(last));
    // All three are live.
    for channel in ["big", "one", "two"] {
        server.api("publish", &json!({"channel": channel, "data": "live"}));
        assert_eq!(client.publication(), (channel.to_owned(), json!("live")));
    }
}

#[test]
fn presences_of_one_frame_wait_until_the_client_reads() {
    const MEMBERS: usize = 600;
    const COMMANDS: u64 = 400;
    let (server, _) = server(&[]);
    let mut members: Vec<Client> = (0..MEMBERS).map(|_| Client::connect(&server)).collect();
    members.iter_mut().for_each(|member| member.subscribe("hall"));
    let reply = members[0].ask(json!({"presence": {"channel": "hall"}}));
    assert_eq!(reply["presence"]["presence"].as_object().expect("clients by id").len(), MEMBERS);
    let reply_bytes = reply.to_string().len() as u64;
    let before = server.memory_bytes();
    let greedy = silent(&server, &with_ids(&json!({"presence": {"channel": "hall"}}), COMMANDS));
    let most =
        growth(&server, before, "the client is not blocked", || server.metric("corecast_backlog_kept_bytes", "") > 0);
    let_shards_work(&server);
    let kept = server.metric("corecast_backlog_kept_bytes", "");
    assert!(kept < MIB, "one reply of {reply_bytes} bytes and half of client.queue_max_size may wait, {kept} bytes do");
    let most = most.max(server.memory_bytes().saturating_sub(before));
    assert!(most < COMMANDS * reply_bytes / 2, "the process took {most} bytes more");
    assert_eq!(server.metric("corecast_connections_closed_total", "reason=\"slow\""), 0, "the commands wait instead");
    drop(greedy);
    server.wait_for_metric("corecast_backlog_bytes", "", |n| n == 0);
}

#[test]
fn reply_that_exceeds_the_memory_of_backlogs_is_refused_and_a_smaller_one_is_not() {
    let (server, _) = server_without_checks(&[("engine.backlog_bytes_max", "2MiB")]);
    let mut client = Client::connect(&server);
    assert_eq!(client.refused(json!({"history": {"channel": "big", "limit": -1}})), 106);
    let reply = client.ask(json!({"history": {"channel": "big", "limit": 4}}));
    assert_eq!(reply["history"]["publications"].as_array().map(Vec::len), Some(4));
    // A subscription begins without what it missed.
    let reply = client.ask(json!({"subscribe": {"channel": "big", "recover": true, "recoverable": true}}));
    assert_eq!((&reply["subscribe"]["was_recovering"], &reply["subscribe"]["recovered"]), (&json!(true), &Value::Null));
    server.api("publish", &json!({"channel": "big", "data": "live"}));
    assert_eq!(client.publication().1, json!("live"));
    assert_eq!(server.metric("corecast_replies_refused_total", ""), 2);
}

/// A server with the history of `server`, which no client has asked for.
fn server_without_checks(settings: &[(&str, &str)]) -> (Server, u64) {
    let mut all =
        vec![("channel.without_namespace.history_size", "100"), ("channel.without_namespace.history_ttl", "300s")];
    all.extend_from_slice(settings);
    let server = Server::with(&all);
    let text = "x".repeat(PAYLOAD_BYTES);
    for n in 0..PUBLICATIONS {
        server.api("publish", &json!({"channel": "big", "data": {"n": n, "text": text}}));
    }
    let memory = server.memory_bytes();
    (server, memory)
}

#[test]
fn large_history_in_protobuf_is_whole() {
    let (server, _) = server(&[]);
    let mut raw = Raw::open(&server, "/connection/websocket?cf_protocol=protobuf");
    // Command { id: 1, connect: {} } and Command { id: 2, history: { channel: "big", limit: -1 } }, each behind its length.
    let history = [&[10, 3][..], b"big", &[56, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
    let second = [&[8, 2, 0x52, history.len() as u8][..], &history].concat();
    let commands = [&[4, 8, 1, 0x22, 0][..], &[second.len() as u8], &second].concat();
    raw.send(&frame(BINARY, &commands));
    let reply = until(|| "no large reply".into(), || Some(raw.frame().payload).filter(|reply| reply.len() > 1_000));
    assert!(reply.len() as u64 > REPLY_BYTES, "{} bytes", reply.len());
    let texts = reply.windows(6).filter(|window| window == b"\"text\"").count();
    assert_eq!(texts, PUBLICATIONS);
}

/// A backend whose answer to every request is this long. It serves one request for each connection.
fn backend(answer_bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let body = format!(r#"{{"result":{{"data":"{}"}}}}"#, "r".repeat(answer_bytes));
    let length = body.len();
    let response = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // The request is short: it comes in one piece, and its end is the end of its JSON.
            let (mut request, mut piece) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"}") {
                match stream.read(&mut piece) {
                    Ok(n) if n > 0 => request.extend_from_slice(&piece[..n]),
                    _ => break,
                }
            }
            let _ = stream.write_all(response.as_bytes());
        }
    });
    url
}

#[test]
fn answers_of_an_rpc_backend_wait_until_the_client_reads() {
    const ANSWER_BYTES: usize = 900_000;
    const COMMANDS: u64 = 40;
    let url = backend(ANSWER_BYTES);
    let rpc = [("rpc.proxy.endpoint", &*url), ("rpc.without_namespace.proxy_enabled", "true")];
    let (server, before) = server_without_checks(&rpc);
    let commands = with_ids(&json!({"rpc": {"method": "m", "data": 1}}), COMMANDS);
    let mut greedy = silent(&server, &commands);
    let is_blocked = || server.metric("corecast_backlog_kept_bytes", "") > MIB / 2;
    let most = growth(&server, before, "no answer waits for the client", is_blocked);
    let_shards_work(&server);
    let kept = server.metric("corecast_backlog_kept_bytes", "");
    assert!(kept < 2 * MIB, "one answer and half of client.queue_max_size may wait, {kept} bytes do");
    assert!(most < SLACK_BYTES, "the process took {most} bytes more");
    // Every command is answered once the client reads.
    let mut answered = 0;
    while answered < COMMANDS {
        let text = String::from_utf8(greedy.frame().payload).expect("text");
        answered += text.lines().filter(|line| line.contains("\"rpc\"") && line.len() > ANSWER_BYTES).count() as u64;
    }
}
