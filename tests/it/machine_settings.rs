//! The settings under `machine`: with its own file table a shard holds exactly its own descriptors, and with every
//! setting on the server works normally.

use std::net::TcpStream;
use std::process::Command;

use crate::common::raw::upgrade_request;
use crate::common::{Client, Frame, KEY, Raw, Server, SocketPath, TEXT, command, frame, server_command, until};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::json;

/// Descriptors of a table, and a number of connections that exceeds one table of this size.
const LIMIT: usize = 300;
const CONNECTIONS: usize = 420;

const OWN: (&str, &str) = ("machine.own_file_tables", "true");

fn with_few_descriptors(settings: &[(&str, &str)]) -> Server {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {LIMIT} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_corecast"), "serve", "--dev"]).env_clear();
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--oversubscribe"]);
    command.env("CORECAST_HTTP_API_KEY", KEY);
    Server::spawn(command, settings)
}

fn echoes(raw: &mut Raw) {
    raw.send(&frame(TEXT, b"here"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "here"));
}

#[test]
fn open_file_limit_applies_per_shard_with_own_file_tables() {
    let server = with_few_descriptors(&[OWN]);
    server.wait_for_log("each shard may open ");
    let mut raws: Vec<Raw> = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::connect(&server);
        raw.send(upgrade_request("/echo").as_bytes());
        raw.take_upgrade();
        raws.push(raw);
    }
    raws.iter_mut().for_each(echoes);
    assert!(server.descriptors() < 100, "client sockets are in the tables of the shards");
    let per_shard = ["shard=\"0\"", "shard=\"1\""].map(|shard| server.metric("corecast_connections", shard));
    assert_eq!(per_shard.iter().sum::<u64>() as usize, CONNECTIONS, "{per_shard:?}");
    drop(raws);
    server.wait_for_metric("corecast_connections", "", |open| open == 0);
    // Descriptor numbers are reused in either table, and mail wakes the right shard.
    let mut pair = Client::pair(&server);
    pair.iter_mut().for_each(|client| client.subscribe("news"));
    server.api("publish", &json!({"channel": "news", "data": 1}));
    pair.iter_mut().for_each(|client| assert_eq!(client.publication().1, 1));
}

#[test]
fn closed_listener_remains_in_no_file_table() {
    let mut server = Server::with(&[OWN, ("shutdown.window", "50m"), ("shutdown.timeout", "1h")]);
    let mut pair = Client::pair(&server);
    server.signal(Signal::TERM);
    server.wait_for_log("shutting down: no new clients");
    until(|| "the port is still open".into(), || TcpStream::connect(server.client).is_err().then_some(()));
    for client in &mut pair {
        let reply = client.ask(json!({"publish": {"channel": "news", "data": 1}}));
        assert!(reply["publish"].is_object(), "{reply}");
    }
    drop(pair);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn takeover_works_with_own_file_tables() {
    let socket = SocketPath::new("tables");
    let start = |old: Option<&Server>| {
        let mut command = server_command(old.map(|old| (old.client, old.admin)), "2");
        if old.is_some() {
            command.arg("--takeover");
        }
        let server = Server::spawn(command, &[OWN, ("handover.socket", socket.text())]);
        server.wait_for_log("handover: a new process can take over at ");
        server
    };
    let mut old = start(None);
    let client = Client::connect(&old);
    let new = start(Some(&old));
    drop(client);
    assert_eq!(old.wait_for_exit().code(), Some(0));
    for _ in 0..20 {
        let mut client = Client::connect(&new);
        client.subscribe("news");
    }
    assert_eq!(new.http("GET", "/health", &[], "").0, 200);
}

#[test]
fn all_machine_settings_together_serve_normally() {
    let server = Server::with(&[
        OWN,
        ("machine.spin", "500us"),
        ("machine.busy_poll", "50us"),
        ("machine.busy_poll_prefer", "true"),
        ("machine.defer_accept", "5s"),
        ("machine.user_timeout", "30s"),
        ("machine.notsent_bytes_max", "16KiB"),
        ("machine.huge_pages", "true"),
        ("engine.connections_max", "200000"),
    ]);
    let mut pair = Client::pair(&server);
    pair.iter_mut().for_each(|client| client.subscribe("news"));
    for n in 0..50 {
        server.api("publish", &json!({"channel": "news", "data": n}));
        pair.iter_mut().for_each(|client| assert_eq!(client.publication().1, n));
    }
    // The shard polled without sleeping.
    let awake = server.metric("corecast_epoll_waits_total", "mode=\"polling\"");
    let asleep = server.metric("corecast_epoll_waits_total", "mode=\"blocking\"");
    assert!(awake > asleep, "{awake} waits, and {asleep} asleep");
}

/// On the loopback interface a packet arrives on the core of its sender.
#[test]
fn incoming_cpu_steers_connections_to_the_shard_of_their_core() {
    let usable = sched_getaffinity(None).expect("Linux reports the affinity");
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| usable.is_set(core)).collect();
    let listed = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let command = command(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", &listed]);
    let server = Server::spawn(command, &[("machine.incoming_cpu", "true")]);
    for (shard, &core) in cores.iter().enumerate() {
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only).expect("a core of this process");
        for _ in 0..10 {
            assert_eq!(Client::connect(&server).shard, shard as u64, "from core {core}");
        }
    }
    sched_setaffinity(None, &usable).expect("as before");
}
