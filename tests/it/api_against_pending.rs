//! Calls of the server API about connections that wait for a backend or a key. The backend answers when the test says so,
//! which is after the call was answered.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::held::{Held, answer};
use crate::common::{Client, Server};
use serde_json::{Value, json};

/// A connection of the user "ann", as the connect backend says.
fn ann(server: &Server, connect: &Held, fields: &Value) -> Client {
    let mut client = Client::fresh(server);
    client.send(json!({"connect": {}}));
    let (_, stream) = connect.request();
    let mut result = json!({"user": "ann"});
    result.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    answer(stream, &json!({"result": result}));
    assert!(client.next()["connect"].is_object());
    client
}

fn server(connect: &Held, settings: &[(&str, &str)]) -> Server {
    let url = connect.url();
    let connect = [
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", url.as_str()),
        ("client.proxy.connect.timeout", "30s"),
    ];
    Server::with(&[&connect, settings].concat())
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn unsubscribe_holds_for_a_subscribe_that_waits_for_the_backend() {
    let (connect, backend) = (Held::start(), Held::start());
    let url = backend.url();
    let server = server(
        &connect,
        &[
            ("channel.proxy.subscribe.endpoint", &url),
            ("channel.proxy.subscribe.timeout", "30s"),
            ("channel.without_namespace.subscribe_proxy_enabled", "true"),
        ],
    );
    let mut client = ann(&server, &connect, &json!({}));
    for body in [json!({"user": "ann", "channel": "news"}), json!({"user": "ann", "channel": ""})] {
        client.send(json!({"subscribe": {"channel": "news"}}));
        let (asked, held) = backend.request();
        assert_eq!(asked["channel"], "news");
        assert!(server.api("unsubscribe", &body)["result"].is_object());
        assert_eq!(client.next()["error"]["code"], 103, "the command is answered before the backend has answered");
        // Another subscribe is another question, and the answer to the first one changes nothing for it.
        client.send(json!({"subscribe": {"channel": "news"}}));
        let (_, second) = backend.request();
        answer(held, &json!({"result": {}}));
        server.wait_for_metric("corecast_backend_in_flight", "proxy=\"channel.proxy.subscribe\"", |n| n == 1);
        answer(second, &json!({"error": {"code": 1001, "message": "no"}}));
        assert_eq!(client.next()["error"]["code"], 1001, "not \"already subscribed\"");
    }
    // Another channel is not concerned.
    client.send(json!({"subscribe": {"channel": "news"}}));
    let (_, held) = backend.request();
    server.api("unsubscribe", &json!({"user": "ann", "channel": "weather"}));
    answer(held, &json!({"result": {}}));
    assert!(client.next()["subscribe"].is_object());
    // While the backend decides, the server subscribes the client; that holds too.
    client.ask(json!({"unsubscribe": {"channel": "news"}}));
    client.send(json!({"subscribe": {"channel": "news"}}));
    let (_, held) = backend.request();
    server.api("subscribe", &json!({"user": "ann", "channel": "news"}));
    assert!(client.next()["push"]["subscribe"].is_object());
    answer(held, &json!({"error": {"code": 1001, "message": "no"}}));
    assert_eq!(client.next()["error"]["code"], 1001);
    server.api("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(client.publication().1, 1);
    // A disconnect does not wait for the backend.
    client.send(json!({"subscribe": {"channel": "weather"}}));
    let (_, _held) = backend.request();
    server.api("disconnect", &json!({"user": "ann"}));
    assert_eq!(client.closed().0, 3503);
}

#[test]
fn disconnect_by_client_id_holds_for_a_connect_that_waits_for_the_backend() {
    let connect = Held::start();
    let server = server(&connect, &[]);
    let mut client = Client::fresh(&server);
    client.send(json!({"connect": {}}));
    let (asked, held) = connect.request();
    server.api("disconnect", &json!({"user": "", "client": asked["client"]}));
    assert_eq!(client.closed().0, 3503);
    answer(held, &json!({"result": {"user": "ann"}}));
}

#[test]
fn refresh_holds_for_a_connection_whose_refresh_waits_for_the_backend() {
    let (connect, backend) = (Held::start(), Held::start());
    let url = backend.url();
    let server = server(
        &connect,
        &[
            ("client.proxy.refresh.enabled", "true"),
            ("client.proxy.refresh.endpoint", &url),
            ("client.proxy.refresh.timeout", "30s"),
        ],
    );
    let mut client = ann(&server, &connect, &json!({"expire_at": unix_s() + 1}));
    // The connection is due, and the backend is asked.
    let (asked, held) = backend.request();
    assert_eq!(asked["user"], "ann");
    server.api("refresh", &json!({"user": "ann", "expire_at": unix_s() + 3600}));
    assert_eq!(client.next()["push"]["refresh"]["expires"], true);
    // What the backend has decided before the call is moot.
    answer(held, &json!({"result": {"expired": true}}));
    server.wait_for_metric("corecast_backend_in_flight", "proxy=\"client.proxy.refresh\"", |n| n == 0);
    server.api("refresh", &json!({"user": "ann", "expire_at": unix_s() + 7200}));
    assert_eq!(client.next()["push"]["refresh"]["expires"], true, "it is still connected");
}
