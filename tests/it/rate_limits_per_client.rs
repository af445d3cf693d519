//! Commands and bytes per second: past the command rate the connection closes, past the byte rate it is not read for a
//! while, and in a dry run both are only counted.

use crate::common::{Client, Frame, Raw, Server, TEXT, frame};
use serde_json::json;

const COMMANDS: [(&str, &str); 2] = [("client.command_rate_limit", "1"), ("client.command_rate_burst", "5")];

fn connected(server: &Server) -> Raw {
    let mut raw = Raw::open(server, "/connection/websocket");
    raw.send(&frame(TEXT, br#"{"id":1,"connect":{}}"#));
    assert_eq!(raw.frame().opcode, TEXT);
    raw
}

fn flood(raw: &mut Raw, commands: usize) {
    for id in 2..commands + 2 {
        let command = json!({"id": id, "presence_stats": {"channel": "lobby"}});
        raw.send(&frame(TEXT, command.to_string().as_bytes()));
    }
}

#[test]
fn too_many_commands_close_with_3013_without_effect_on_others() {
    let server = Server::with(&COMMANDS);
    let mut calm = Client::connect(&server);
    let mut raw = connected(&server);
    flood(&mut raw, 50);
    let mut answers = 0;
    loop {
        let frame = raw.frame();
        if frame.is_close(3013) {
            break;
        }
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        answers += 1;
    }
    assert!((4..50).contains(&answers), "{answers}");
    assert_eq!(server.metric("corecast_limit_reached_total", "client.command_rate_limit"), 1);
    server.wait_for_log("limit client.command_rate_limit reached 1 times");
    calm.subscribe("lobby");
}

#[test]
fn dry_run_only_counts() {
    let dry = ("client.rate_limit_dry_run", "true");
    let bytes = ("client.byte_rate_limit", "100");
    let server = Server::with(&[COMMANDS[0], COMMANDS[1], dry, bytes]);
    let mut raw = connected(&server);
    flood(&mut raw, 50);
    (0..50).for_each(|_| assert_eq!(raw.frame().opcode, TEXT));
    server.wait_for_metric("corecast_limit_reached_total", "client.command_rate_limit", |n| n >= 40);
    server.wait_for_metric("corecast_limit_reached_total", "client.byte_rate_limit", |n| n >= 1);
}

#[test]
fn client_past_the_byte_rate_is_delayed_and_loses_nothing() {
    let server = Server::with(&[("client.byte_rate_limit", "20000"), ("client.byte_rate_burst", "1000")]);
    let mut raw = Raw::open(&server, "/echo");
    let message = vec![b'x'; 1000];
    for _ in 0..12 {
        raw.send(&frame(TEXT, &message));
    }
    let mut calm = Raw::open(&server, "/echo");
    calm.send(&frame(TEXT, b"not delayed"));
    assert_eq!(calm.frame(), Frame::new(TEXT, "not delayed"));
    for _ in 0..12 {
        assert_eq!(raw.frame(), Frame::new(TEXT, message.clone()));
    }
    assert!(server.metric("corecast_limit_reached_total", "client.byte_rate_limit") >= 1);
}
