//! `--source`: connections use the given addresses in turn, also with several processes.

use std::net::TcpListener;
use std::process::{Command, Stdio};

fn sources(more: &[&str]) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let mut tool = Command::new(crate::TOOL);
    tool.args(["connect", &url, "--total", "4", "--source", "127.0.0.7-127.0.0.8", "--quiet"]).args(more);
    let mut run = tool.stdout(Stdio::null()).spawn().unwrap();
    // Each connection is closed at once, which ends the run.
    let mut from: Vec<_> = (0..4).map(|_| listener.accept().unwrap().1.ip().to_string()).collect();
    assert_eq!(run.wait().unwrap().code(), Some(1), "a run without an upgrade is void");
    from.sort();
    from
}

#[test]
fn source_addresses_are_used_in_turn() {
    let expected = ["127.0.0.7", "127.0.0.7", "127.0.0.8", "127.0.0.8"];
    assert_eq!(sources(&[]), expected);
    assert_eq!(sources(&["--processes", "2"]), expected);
}
