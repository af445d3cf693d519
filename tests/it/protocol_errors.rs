//! Commands that a client may not send, and the error (100-113) or the close code (from 3000) that each gets.

use crate::common::web::Web;
use crate::common::{Client, PATIENCE, PLAIN, Server};
use serde_json::{Value, json};
use tungstenite::Message;

/// The close code that these frames cause on a connected client.
fn closed_after(server: &Server, texts: &[&str]) -> u16 {
    let mut client = Client::connect(server);
    texts.iter().for_each(|text| client.send_text(*text));
    client.closed().0
}

#[test]
fn second_subscribe_to_a_channel_is_error_105() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.subscribe("once");
    assert_eq!(client.refused(json!({"subscribe": {"channel": "once"}})), 105);
    // The same while the first subscribe is not answered yet.
    client
        .send_text("{\"id\":50,\"subscribe\":{\"channel\":\"new\"}}\n{\"id\":51,\"subscribe\":{\"channel\":\"new\"}}");
    assert!(client.next()["subscribe"].is_object());
    let second = client.next();
    assert_eq!((&second["id"], &second["error"]["code"]), (&json!(51), &json!(105)));
}

#[test]
fn commands_denied_by_configuration_are_error_103() {
    let denied = ["subscribe", "publish", "history", "presence"]
        .map(|what| (format!("channel.without_namespace.allow_{what}_for_client"), "false"));
    let mut settings: Vec<_> = denied.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    settings.extend([("client.insecure", "false"), ("client.allow_anonymous_connect_without_token", "true")]);
    let server = Server::with(&settings);
    let mut client = Client::connect(&server);
    let reply = client.ask(json!({"subscribe": {"channel": "closed"}}));
    assert_eq!(reply["error"], json!({"code": 103, "message": "permission denied"}));
    assert_eq!(client.refused(json!({"publish": {"channel": "closed", "data": {}}})), 103);
    for command in ["history", "presence", "presence_stats"] {
        assert_eq!(client.refused(json!({command: {"channel": "closed"}})), 103, "{command}");
    }
}

#[test]
fn client_insecure_allows_everything() {
    let denied = ["subscribe", "publish", "history", "presence"]
        .map(|what| (format!("channel.without_namespace.allow_{what}_for_client"), "false"));
    let settings: Vec<_> = denied.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let server = Server::with(&settings);
    let mut client = Client::connect(&server);
    client.ask(json!({"publish": {"channel": "open", "data": 1}}));
    client.subscribe("open");
    for command in ["history", "presence", "presence_stats"] {
        assert!(client.ask(json!({command: {"channel": "open"}}))[command].is_object(), "{command}");
    }
}

#[test]
fn channel_past_the_limit_is_error_106_until_an_unsubscribe() {
    let server = Server::with(&[("client.channel_limit", "2")]);
    let mut client = Client::connect(&server);
    client.subscribe("one");
    client.subscribe("two");
    assert_eq!(client.refused(json!({"subscribe": {"channel": "three"}})), 106);
    client.ask(json!({"unsubscribe": {"channel": "one"}}));
    client.subscribe("three");
}

#[test]
fn names_that_are_too_long_or_not_ascii_are_error_107() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.subscribe(&"n".repeat(255));
    for name in ["n".repeat(256), "größe".into()] {
        assert_eq!(client.refused(json!({"subscribe": {"channel": name}})), 107, "{name}");
        assert_eq!(client.refused(json!({"publish": {"channel": name, "data": 1}})), 107, "{name}");
    }
    assert_eq!(client.refused(json!({"publish": {"channel": "no-data"}})), 107);
}

#[test]
fn features_disabled_in_the_namespace_are_error_108() {
    let server = Server::with(&PLAIN);
    let mut client = Client::connect(&server);
    for command in ["presence", "presence_stats", "history"] {
        assert_eq!(client.refused(json!({command: {"channel": "x"}})), 108, "{command}");
    }
}

#[test]
fn connection_stays_open_after_an_error() {
    let server = Server::with(&PLAIN);
    let mut client = Client::connect(&server);
    assert_eq!(client.refused(json!({"history": {"channel": "x"}})), 108);
    client.subscribe("x");
}

#[test]
fn first_command_other_than_connect_is_closed_with_3501() {
    let server = Server::start();
    for text in [r#"{"id":1,"subscribe":{"channel":"x"}}"#, "{}", r#"{"id":1}"#, r#"{"send":{"data":1}}"#] {
        let mut client = Client::fresh(&server);
        client.send_text(text);
        assert_eq!(client.closed(), (3501, "bad request".into()), "{text}");
    }
}

#[test]
fn invalid_commands_are_closed_with_3501() {
    let server = Server::start();
    for text in [
        "",
        "\n",
        "nonsense",
        "[]",
        r#"{"id":"#,
        r#"{"id":-1,"publish":{}}"#,
        r#"{"id":7,"unheard_of":{}}"#,
        r#"{"id":7}"#,
    ] {
        assert_eq!(closed_after(&server, &[text]), 3501, "{text:?}");
    }
}

#[test]
fn second_connect_is_closed_with_3501() {
    let server = Server::start();
    assert_eq!(closed_after(&server, &[r#"{"id":2,"connect":{}}"#]), 3501);
}

#[test]
fn unsolicited_pong_is_closed_with_3501() {
    let server = Server::start();
    assert_eq!(closed_after(&server, &["{}"]), 3501);
}

#[test]
fn empty_channel_name_is_closed_with_3501() {
    let server = Server::start();
    assert_eq!(closed_after(&server, &[r#"{"id":2,"subscribe":{"channel":""}}"#]), 3501);
}

#[test]
fn send_command_is_closed_with_3508() {
    let server = Server::start();
    assert_eq!(closed_after(&server, &[r#"{"send":{"data":{}}}"#]), 3508);
}

#[test]
fn json_commands_in_a_binary_frame_are_served() {
    let server = Server::start();
    let mut client = Client::fresh(&server);
    let commands = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"x\"}}";
    client.ws.send(Message::binary(commands.as_bytes().to_vec())).unwrap();
    assert!(client.next()["connect"].is_object());
    assert!(client.next()["subscribe"].is_object());
    // Text frames are checked as UTF-8 by the WebSocket; these are checked by the protocol.
    let broken = b"{\"id\":3,\"publish\":{\"channel\":\"x\",\"data\":\"\xff\"}}";
    client.ws.send(Message::binary(broken.to_vec())).unwrap();
    assert_eq!(client.closed().0, 3501);
}

#[test]
fn replies_before_a_violation_arrive() {
    let server = Server::with(&PLAIN);
    let mut client = Client::connect(&server);
    client
        .send_text("{\"id\":9,\"history\":{\"channel\":\"x\"}}\nnonsense\n{\"id\":10,\"history\":{\"channel\":\"x\"}}");
    assert_eq!(client.next()["id"], json!(9));
    assert_eq!(client.closed().0, 3501);
}

#[test]
fn client_without_connect_is_closed_as_stale_with_3502() {
    let server = Server::with(&[("client.stale_close_delay", "200ms")]);
    let mut silent = Client::fresh(&server);
    assert_eq!(silent.closed(), (3502, "stale".into()));
}

#[test]
fn connect_that_a_backend_does_not_answer_is_closed_with_a_code_after_which_sdks_reconnect() {
    let (_open, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let backend = Web::start(move |_, _| {
        let _ = held.lock().expect("one call waits").recv_timeout(PATIENCE);
        None
    });
    let server = Server::with(&[
        ("client.stale_close_delay", "200ms"),
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &backend.url),
        ("client.proxy.connect.timeout", "30s"),
    ]);
    let mut client = Client::fresh(&server);
    client.send(json!({"connect": {}}));
    assert_eq!(client.closed(), (3004, "internal server error".into()));
}

#[test]
fn client_without_pong_is_closed_with_3012() {
    let server = Server::with(&[("client.ping_interval", "1s"), ("client.pong_timeout", "300ms")]);
    let mut client = Client::connect(&server);
    client.pongs = false;
    assert_eq!(client.next(), json!({}));
    assert_eq!(client.closed(), (3012, "no pong".into()));
}

#[test]
fn client_that_answers_pings_stays_connected() {
    let server = Server::with(&[("client.ping_interval", "1s"), ("client.pong_timeout", "500ms")]);
    let mut client = Client::connect(&server);
    client.pongs = false;
    for _ in 0..3 {
        assert_eq!(client.next(), json!({}));
        client.send_text("{}");
    }
    client.subscribe("still-here");
    client.send_text("{}");
    assert_eq!(client.closed().0, 3501);
}

#[test]
fn pings_are_websocket_frames_if_the_client_requests_it() {
    let server = Server::with(&[("client.ping_interval", "1s"), ("client.pong_timeout", "500ms")]);
    let mut ws = crate::common::ws(&server, "/connection/websocket?cf_ws_frame_ping_pong=true");
    ws.send(Message::text(r#"{"id":1,"connect":{}}"#)).unwrap();
    let Message::Text(text) = ws.read().unwrap() else { panic!("a reply was due") };
    let reply: Value = serde_json::from_str(&text).unwrap();
    assert!(reply["connect"].get("ping").is_none(), "{reply}");
    // tungstenite answers pings by itself in its next read.
    for _ in 0..3 {
        assert!(matches!(ws.read().unwrap(), Message::Ping(_)));
    }
}

#[test]
fn connect_without_keys_and_without_insecure_is_closed_with_3501() {
    let server = Server::with(&[("client.insecure", "false")]);
    let mut client = Client::fresh(&server);
    client.send(json!({"connect": {}}));
    assert_eq!(client.closed().0, 3501);
}
