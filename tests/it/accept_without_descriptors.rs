//! The server without free file descriptors: open connections are served, new ones wait in the backlog without a busy
//! loop, and one is accepted when a descriptor becomes free.

use std::process::Command;

use crate::common::raw::upgrade_request;
use crate::common::{CLOSE, Frame, KEY, Raw, Server, TEXT, frame};

const LIMIT: usize = 300;

fn echoes(raw: &mut Raw) {
    raw.send(&frame(TEXT, b"here"));
    assert_eq!(raw.frame(), Frame::new(TEXT, "here"));
}

/// Whether the server has sent a response.
fn has_answer(raw: &Raw) -> bool {
    raw.0.set_nonblocking(true).expect("a socket");
    let there = raw.0.peek(&mut [0]).is_ok_and(|n| n > 0);
    raw.0.set_nonblocking(false).expect("a socket");
    there
}

#[test]
fn open_connections_are_served_and_waiting_ones_are_accepted_later() {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {LIMIT} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_corecast"), "serve", "--dev"]).env_clear();
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--oversubscribe"]);
    command.env("CORECAST_HTTP_API_KEY", KEY).env("CORECAST_ENGINE_CONNECTIONS_MAX", "100000");
    command.env("CORECAST_ENGINE_UPGRADE_TIMEOUT", "60s");
    let server = Server::spawn(command, &[]);
    let waits_before = server.metric("corecast_epoll_waits_total", "");
    let mut waiting: Vec<Raw> = Vec::new();
    for _ in 0..LIMIT + 50 {
        let mut raw = Raw::connect(&server);
        raw.send(upgrade_request("/echo").as_bytes());
        waiting.push(raw);
    }
    server.wait_for_log("accept failed: ");
    // The server accepts as many as it has descriptors for; the others have no response yet.
    let (mut let_in, waits): (Vec<Raw>, Vec<Raw>) = waiting.into_iter().partition(has_answer);
    assert!(let_in.len() > 200 && waits.len() >= 50, "{} are let in, {} wait", let_in.len(), waits.len());
    for raw in &mut let_in {
        raw.take_upgrade();
        echoes(raw);
    }
    // The state does not change for a while: open connections are served.
    for raw in let_in.iter_mut().rev().take(100) {
        echoes(raw);
    }
    for mut raw in let_in.drain(..150) {
        raw.send(&frame(CLOSE, &1000u16.to_be_bytes()));
        assert!(raw.frame().is_close(1000));
    }
    for mut raw in waits {
        raw.take_upgrade();
        echoes(&mut raw);
    }
    let turns = server.metric("corecast_epoll_waits_total", "") - waits_before;
    assert!(turns < 20_000, "{turns} turns: it spins");
}
