//! How a WebSocket ends: the close handshake from both sides, half-closed and reset sockets, and bytes after a close.

use std::net::Shutdown;

use crate::common::{CLOSE, Client, Frame, PING, PLAIN, Raw, Server, TEXT, frame, frame_part, ws};
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

#[test]
fn close_code_of_the_client_is_echoed() {
    let server = Server::start();
    for path in ["/echo", "/connection/websocket"] {
        for code in [1000u16, 1001, 1011, 3000, 4999] {
            let mut ws = ws(&server, path);
            ws.close(Some(CloseFrame { code: code.into(), reason: "so long".into() })).unwrap();
            let Message::Close(Some(close)) = ws.read().unwrap() else { panic!("a close frame was due") };
            assert_eq!(u16::from(close.code), code, "{path}");
            assert!(matches!(ws.read(), Err(tungstenite::Error::ConnectionClosed)));
        }
    }
}

#[test]
fn close_without_a_code_is_answered_without_one() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    raw.send(&frame(CLOSE, b""));
    assert_eq!(raw.frame(), Frame::new(CLOSE, b""));
    raw.expect_end();
}

#[test]
fn invalid_close_codes_are_answered_with_1002() {
    let server = Server::start();
    for payload in [&[3][..], &[3, 237], &[0, 0], &[0x13, 0x88]] {
        let mut raw = Raw::open(&server, "/echo");
        raw.send(&frame(CLOSE, payload));
        assert!(raw.frame().is_close(1002), "{payload:?}");
        raw.expect_end();
    }
}

#[test]
fn server_close_waits_for_the_client_close_and_then_ends() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/connection/websocket");
    raw.send(&frame(TEXT, br#"{"id":1,"publish":{}}"#));
    assert!(raw.frame().is_close(3501));
    // Frames that the client sent before it saw the server's close are dropped; its close ends the handshake.
    raw.send(&frame(TEXT, b"late"));
    raw.send(&frame(PING, b"late too"));
    raw.send(&frame(CLOSE, &3501u16.to_be_bytes()));
    raw.expect_end();
    server.wait_for_metric("corecast_connections", "", |n| n == 0);
    assert_eq!(server.metric("corecast_connections_closed_total", "reason=\"by_app\""), 1);
}

#[test]
fn client_that_does_not_answer_a_close_is_disconnected_at_the_deadline() {
    let server = Server::with(&[("engine.close_timeout", "200ms")]);
    let mut raw = Raw::open(&server, "/connection/websocket");
    raw.send(&frame(TEXT, b"no command"));
    assert!(raw.frame().is_close(3501));
    raw.expect_end();
}

#[test]
fn frames_after_a_close_are_ignored() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    let mut packet = frame(TEXT, b"received");
    packet.extend(frame(CLOSE, &1000u16.to_be_bytes()));
    packet.extend(frame(TEXT, b"not received"));
    packet.extend(b"not even a frame");
    raw.send(&packet);
    assert_eq!(raw.frame(), Frame::new(TEXT, "received"));
    assert_eq!(raw.frame(), Frame::new(CLOSE, 1000u16.to_be_bytes()));
    raw.expect_end();
}

#[test]
fn bytes_after_a_violation_do_not_lose_the_close_frame() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    let mut packet = frame_part(3, true, b"", [0; 4]);
    packet.extend(vec![0xaa; 200_000]);
    raw.send(&packet);
    assert!(raw.frame().is_close(1002));
    raw.expect_end();
}

#[test]
fn half_closed_client_still_gets_its_responses() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "/echo");
    let packet: Vec<u8> = (0..50).flat_map(|i| frame(TEXT, format!("{i}").as_bytes())).collect();
    raw.send(&packet);
    raw.0.shutdown(Shutdown::Write).unwrap();
    for i in 0..50 {
        assert_eq!(raw.frame(), Frame::new(TEXT, format!("{i}")));
    }
    raw.expect_end();
    server.wait_for_metric("corecast_connections", "", |n| n == 0);
    assert_eq!(server.metric("corecast_connections_closed_total", "reason=\"vanished\""), 1);
}

#[test]
fn reset_in_the_middle_of_a_frame_does_not_affect_other_connections() {
    let server = Server::start();
    let mut witness = ws(&server, "/echo");
    let long = frame(TEXT, &[b'a'; 30_000]);
    for cut in [1, 3, 7, 8, 5000, 29_999] {
        let mut raw = Raw::open(&server, "/echo");
        raw.send(&long[..cut]);
        raw.reset();
        witness.send(Message::text("still served")).unwrap();
        assert_eq!(witness.read().unwrap(), Message::text("still served"));
    }
    server.wait_for_metric("corecast_connections", "", |n| n == 1);
    server.wait_for_metric("corecast_spill_bytes", "", |n| n == 0);
}

#[test]
fn reset_before_or_during_the_upgrade_does_not_affect_the_server() {
    let server = Server::start();
    for head in ["", "GET /ec", "GET /echo HTTP/1.1\r\nHost: t\r\n"] {
        let mut raw = Raw::connect(&server);
        raw.send(head.as_bytes());
        raw.reset();
    }
    let mut ws = ws(&server, "/echo");
    ws.send(Message::text("served")).unwrap();
    assert_eq!(ws.read().unwrap(), Message::text("served"));
}

#[test]
fn subscriber_that_resets_is_removed_and_others_are_served() {
    let server = Server::with(&PLAIN);
    let [mut a, mut b] = Client::pair(&server);
    for client in [&mut a, &mut b] {
        client.subscribe("room");
    }
    for round in 0..5 {
        let mut gone = Raw::open(&server, "/connection/websocket");
        gone.send(&frame(TEXT, b"{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"room\"}}"));
        gone.frame();
        gone.reset();
        a.ask(json!({"publish": {"channel": "other", "data": round}}));
        server.api("publish", &json!({"channel": "room", "data": round}));
        assert_eq!(a.publication(), ("room".into(), json!(round)));
        assert_eq!(b.publication(), ("room".into(), json!(round)));
    }
    server.wait_for_metric("corecast_subscriptions", "", |n| n == 2);
    drop((a, b));
    server.wait_for_metric("corecast_subscriptions", "", |n| n == 0);
    server.wait_for_metric("corecast_channels", "", |n| n == 0);
}
