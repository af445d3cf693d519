//! Every text frame is UTF-8, and each line of it JSON, whatever bytes came in: from clients of the Protobuf protocol, the
//! server API and tokens. The clients here are tungstenite, which checks the first, and `Client`, which parses each line.

use crate::common::raw::upgrade_with;
use crate::common::{BINARY, Client, Raw, Server, frame};
use corecast::auth::Hash;
use corecast::auth::sign::SigningKey;
use serde_json::json;

const SECRET: &str = "a-secret-that-is-long-enough-for-hs256";
/// It looks like JSON, and serde_json takes it for JSON unless the encoding is checked too.
const BROKEN: &[u8] = b"\"\xff\"";
const BROKEN_BASE64: &str = "Iv8i";

/// A field of a Protobuf message, all shorter than 128 bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, value.len() as u8], value].concat()
}

/// A command with an id and one body, in a frame.
fn command(id: u8, body: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let message = [vec![8, id], field(body, &fields.concat())].concat();
    frame(BINARY, &[vec![message.len() as u8], message].concat())
}

/// A connected client of the Protobuf protocol.
fn protobuf_client(server: &Server) -> Raw {
    let mut raw = Raw::connect(server);
    let protocol = [("Sec-WebSocket-Protocol", "centrifuge-protobuf")];
    raw.send(upgrade_with("/connection/websocket", &protocol).as_bytes());
    raw.take_upgrade();
    raw.send(&command(1, 4, &[]));
    assert_eq!(raw.frame().opcode, BINARY);
    raw
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn published_bytes_that_are_not_utf8_reach_json_clients_as_base64() {
    let server = Server::start();
    let mut subscriber = Client::connect(&server);
    subscriber.subscribe("x");
    let mut publisher = protobuf_client(&server);
    publisher.send(&command(2, 5, &[field(1, b"x")]));
    publisher.frame();
    publisher.send(&command(3, 7, &[field(1, b"x"), field(2, BROKEN)]));
    assert_eq!(subscriber.publication().1, BROKEN_BASE64);
    let pushed = [publisher.frame(), publisher.frame()];
    assert!(pushed.iter().any(|frame| contains(&frame.payload, BROKEN)), "Protobuf gets the bytes: {pushed:?}");
    server.api("publish", &json!({"channel": "x", "b64data": BROKEN_BASE64}));
    assert_eq!(subscriber.publication().1, BROKEN_BASE64);
    // The history, and what a recovery brings.
    let reply = subscriber.ask(json!({"history": {"channel": "x", "limit": 10}}));
    let publications = reply["history"]["publications"].as_array().expect("a list");
    assert_eq!(publications.iter().map(|one| &one["data"]).collect::<Vec<_>>(), [BROKEN_BASE64; 2]);
    let mut late = Client::connect(&server);
    let position = json!({"channel": "x", "recover": true, "recoverable": true, "offset": 0,
                          "epoch": reply["history"]["epoch"]});
    let reply = late.ask(json!({"subscribe": position}));
    assert_eq!(reply["subscribe"]["publications"][1]["data"], BROKEN_BASE64, "{reply}");
}

#[test]
fn data_format_json_rejects_bytes_that_are_not_utf8() {
    let server = Server::with(&[("channel.without_namespace.publication_data_format", "json")]);
    let answer = server.api("publish", &json!({"channel": "x", "b64data": BROKEN_BASE64}));
    assert_eq!(answer["error"]["code"], 107, "{answer}");
    let mut publisher = protobuf_client(&server);
    publisher.send(&command(2, 7, &[field(1, b"x"), field(2, BROKEN)]));
    let answer = publisher.frame();
    assert!(contains(&answer.payload, b"bad request"), "{answer:?}");
}

#[test]
fn infos_that_are_not_json_reach_json_clients_as_base64() {
    let server = Server::with(&[("client.insecure", "false"), ("client.token.hmac_secret_key", SECRET)]);
    let key = SigningKey::secret(Hash::S256, SECRET);
    let connect = key.sign(r#"{"sub":"a","b64info":"Iv8i"}"#, None).expect("an HMAC key signs");
    let subscribe = key.sign(r#"{"sub":"a","channel":"x","b64info":"AP8=","b64data":"/w=="}"#, None).expect("as above");
    let mut member = Client::fresh(&server);
    assert!(member.ask(json!({"connect": {"token": connect}}))["connect"].is_object());
    let reply = member.ask(json!({"subscribe": {"channel": "x", "token": subscribe, "join_leave": true}}));
    assert_eq!(reply["subscribe"]["data"], "/w==", "{reply}");
    // Its own join, then its publication, then presence.
    let info = |value: &serde_json::Value| (value["conn_info"].clone(), value["chan_info"].clone());
    let expected = (json!("Iv8i"), json!("AP8="));
    let join = member.next();
    assert_eq!(info(&join["push"]["join"]["info"]), expected, "{join}");
    member.send(json!({"publish": {"channel": "x", "data": 1}}));
    let (one, other) = (member.next(), member.next());
    let publication = if one["push"].is_object() { one } else { other };
    assert_eq!(info(&publication["push"]["pub"]["info"]), expected, "{publication}");
    let reply = member.ask(json!({"presence": {"channel": "x"}}));
    let members = reply["presence"]["presence"].as_object().expect("clients by id").values();
    assert!(members.clone().all(|member| info(member) == expected), "{reply}");
    let answer = server.api("presence", &json!({"channel": "x"}));
    let mut members = answer["result"]["presence"].as_object().expect("clients by id").values();
    assert!(members.all(|member| info(member) == expected), "{answer}");
}

#[test]
fn server_side_subscription_with_bytes_reaches_json_clients_as_base64() {
    let server = Server::with(&[("client.token.hmac_secret_key", SECRET)]);
    let key = SigningKey::secret(Hash::S256, SECRET);
    let token = key.sign(r#"{"sub":"a","subs":{"t":{"b64data":"Iv8i"}}}"#, None).expect("an HMAC key signs");
    let mut client = Client::fresh(&server);
    let reply = client.ask(json!({"connect": {"token": token}}));
    assert_eq!(reply["connect"]["subs"]["t"]["data"], BROKEN_BASE64, "{reply}");
    server.api("subscribe", &json!({"user": "a", "channel": "x", "b64data": BROKEN_BASE64}));
    let push = std::iter::repeat_with(|| client.next()).find(|push| push["push"]["subscribe"].is_object());
    assert_eq!(push.expect("endless")["push"]["subscribe"]["data"], BROKEN_BASE64);
}

#[test]
fn server_api_takes_the_personal_channel_of_any_user() {
    let personal = "client.subscribe_to_user_personal_channel.enabled";
    let server = Server::with(&[("client.token.hmac_secret_key", SECRET), (personal, "true")]);
    let key = SigningKey::secret(Hash::S256, SECRET);
    let mut client = Client::fresh(&server);
    let token = key.sign(r#"{"sub":"ü"}"#, None).expect("an HMAC key signs");
    let reply = client.ask(json!({"connect": {"token": token}}));
    assert!(reply["connect"]["subs"]["#ü"].is_object(), "{reply}");
    for (method, body) in [
        ("publish", json!({"channel": "#ü", "data": 1})),
        ("broadcast", json!({"channels": ["#ü"], "data": 2})),
        ("history", json!({"channel": "#ü", "limit": 1})),
        ("presence", json!({"channel": "#ü"})),
        ("subscribe", json!({"channel": "größe", "user": "ü"})),
        ("unsubscribe", json!({"channel": "größe", "user": "ü"})),
    ] {
        let answer = server.api(method, &body);
        assert!(answer["result"].is_object() && !answer.to_string().contains("error"), "{method}: {answer}");
    }
    let publications = std::iter::repeat_with(|| client.next()).filter(|push| push["push"]["pub"].is_object());
    let seen: Vec<_> = publications
        .take(2)
        .map(|push| (push["push"]["channel"].clone(), push["push"]["pub"]["data"].clone()))
        .collect();
    assert_eq!(seen, [(json!("#ü"), json!(1)), (json!("#ü"), json!(2))]);
}
