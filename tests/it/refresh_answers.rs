//! What the answers of a refresh backend do to a connection and to a subscription, and what an expired token does.

use crate::common::web::{Answer, Web, now_s, result};
use crate::common::{Client, Server, until};
use corecast::auth::Hash;
use corecast::auth::sign::SigningKey;
use serde_json::{Value, json};

const SECRET: &str = "a-secret-that-is-long-enough-for-hs256";
const CONNECTION_EXPIRED: u16 = 3005;

fn token(claims: &Value) -> String {
    SigningKey::secret(Hash::S256, SECRET).sign(&claims.to_string(), None).expect("an HMAC key signs")
}

/// A server whose connections and subscriptions expire a second after the backend has granted them.
fn server(backend: &Web) -> Server {
    let url = |path: &str| format!("{}/{path}", backend.url);
    Server::with(&[
        ("client.insecure", "false"),
        ("client.expired_sub_close_delay", "100ms"),
        ("client.proxy.connect.enabled", "true"),
        ("client.proxy.connect.endpoint", &url("connect")),
        ("client.proxy.refresh.enabled", "true"),
        ("client.proxy.refresh.endpoint", &url("refresh")),
        ("channel.proxy.subscribe.endpoint", &url("subscribe")),
        ("channel.proxy.sub_refresh.endpoint", &url("sub_refresh")),
        ("channel.without_namespace.subscribe_proxy_enabled", "true"),
        ("channel.without_namespace.sub_refresh_proxy_enabled", "true"),
    ])
}

fn backend(refresh: impl Fn() -> Answer + Send + Sync + 'static) -> Web {
    Web::start(move |path, _| match path {
        "/connect" => result(json!({"user": "ann", "expire_at": now_s() + 1})),
        "/subscribe" => result(json!({"expire_at": now_s() + 1})),
        _ => refresh(),
    })
}

#[test]
fn refresh_answer_that_gives_no_time_closes_with_3005() {
    for body in [
        r#"{"result":{}}"#,
        r#"{"result":{"expire_at":null,"info":{"n":1}}}"#,
        r#"{"result":{"expire_at":0}}"#,
        r#"{"result":{"expire_at":-5}}"#,
        r#"{"result":null}"#,
        r#"{"disconnect":{"code":1000}}"#,
        r#"{"error":{}}"#,
        "{}",
        "null",
    ] {
        let backend = backend(|| Some((200, body.to_owned())));
        let server = server(&backend);
        let mut client = Client::fresh(&server);
        client.ask(json!({"connect": {}}));
        assert_eq!(client.closed().0, CONNECTION_EXPIRED, "{body}");
        assert_eq!(backend.count("/refresh"), 1, "{body}");
    }
}

#[test]
fn backend_that_fails_extends_the_connection_and_the_subscription() {
    let backend = backend(|| Some((500, String::new())));
    let server = server(&backend);
    let mut client = Client::fresh(&server);
    client.ask(json!({"connect": {}}));
    client.subscribe("room");
    for path in ["/refresh", "/sub_refresh"] {
        until(|| format!("{path} is not called"), || (backend.count(path) > 0).then_some(()));
    }
    server.wait_for_metric("corecast_backend_questions_failed_total", "", |n| n >= 2);
    server.api("publish", &json!({"channel": "room", "data": {"n": 1}}));
    assert_eq!(client.publication().1, json!({"n": 1}));
    assert_eq!((backend.count("/refresh"), backend.count("/sub_refresh")), (1, 1), "they are asked again in a minute");
}

#[test]
fn refresh_by_the_server_api_without_a_time_sets_no_end() {
    let server = Server::with(&[("client.insecure", "false"), ("client.token.hmac_secret_key", SECRET)]);
    let mut client = Client::fresh(&server);
    client.ask(json!({"connect": {"token": token(&json!({"sub": "ann", "exp": now_s() + 1000}))}}));
    server.api("refresh", &json!({"user": "ann"}));
    assert_eq!(client.next()["push"]["refresh"], json!({}));
}

#[test]
fn sub_refresh_with_an_expired_token_is_rejected_for_now_and_changes_nothing() {
    let server = Server::with(&[("client.insecure", "false"), ("client.token.hmac_secret_key", SECRET)]);
    let now = now_s();
    let of_room = |claims: Value| {
        let mut all = json!({"sub": "ann", "channel": "room"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        token(&all)
    };
    let mut client = Client::fresh(&server);
    client.ask(json!({"connect": {"token": token(&json!({"sub": "ann"}))}}));
    client.ask(json!({"subscribe": {"channel": "room", "token": of_room(json!({"exp": now + 1000}))}}));
    for (claims, code) in [(json!({"exp": now - 1}), 109), (json!({"exp": now + 1000, "expire_at": now - 1}), 110)] {
        let reply = client.ask(json!({"sub_refresh": {"channel": "room", "token": of_room(claims)}}));
        assert_eq!((&reply["error"]["code"], &reply["error"]["temporary"]), (&json!(code), &json!(true)), "{reply}");
    }
    let reply = client.ask(json!({"sub_refresh": {"channel": "room", "token": of_room(json!({"exp": now + 2000}))}}));
    assert_eq!(reply["sub_refresh"]["expires"], true, "{reply}");
}

#[test]
fn subscription_whose_token_is_not_replaced_ends_with_2501() {
    let server = Server::with(&[
        ("client.insecure", "false"),
        ("client.token.hmac_secret_key", SECRET),
        ("client.expired_sub_close_delay", "100ms"),
    ]);
    let now = now_s();
    let of_room = |exp: u64| token(&json!({"sub": "ann", "channel": "room", "exp": exp}));
    let mut client = Client::fresh(&server);
    client.ask(json!({"connect": {"token": token(&json!({"sub": "ann"}))}}));
    client.ask(json!({"subscribe": {"channel": "room", "token": of_room(now + 2)}}));
    client.ask(json!({"sub_refresh": {"channel": "room", "token": of_room(now - 1)}}));
    assert_eq!(client.next()["push"]["unsubscribe"]["code"], 2501);
}

#[test]
fn times_of_any_size_do_not_end_what_they_grant() {
    let server = Server::with(&[("client.insecure", "false"), ("client.token.hmac_secret_key", SECRET)]);
    let year = 365 * 24 * 3600;
    for exp in ["18446744073709551615", "18446744073709551600", "9223372036854775807", "1e300", "4294967296000"] {
        let key = SigningKey::secret(Hash::S256, SECRET);
        let of = |claims: String| key.sign(&claims, None).expect("an HMAC key signs");
        let connection = of(format!(r#"{{"sub":"ann","exp":{exp}}}"#));
        let subscription = of(format!(r#"{{"sub":"ann","channel":"room","exp":{exp}}}"#));
        let mut client = Client::fresh(&server);
        let ttl = |reply: &Value, of: &str| reply[of]["ttl"].as_u64().unwrap_or_else(|| panic!("{exp}: {reply}"));
        let reply = client.ask(json!({"connect": {"token": connection}}));
        assert_eq!(ttl(&reply, "connect"), year);
        let reply = client.ask(json!({"subscribe": {"channel": "room", "token": subscription}}));
        assert_eq!(ttl(&reply, "subscribe"), year);
        let reply = client.ask(json!({"sub_refresh": {"channel": "room", "token": subscription}}));
        assert_eq!(ttl(&reply, "sub_refresh"), year);
        let reply = client.ask(json!({"refresh": {"token": connection}}));
        assert_eq!(ttl(&reply, "refresh"), year);
        server.api("publish", &json!({"channel": "room", "data": {"n": 1}}));
        assert_eq!(client.publication().1, json!({"n": 1}), "{exp}: the subscription lives");
    }
}

#[test]
fn times_of_any_size_in_calls_of_the_server_api_are_cut_to_a_year() {
    let user = token(&json!({"sub": "ann"}));
    let server = Server::with(&[("client.insecure", "false"), ("client.token.hmac_secret_key", SECRET)]);
    let mut client = Client::fresh(&server);
    client.ask(json!({"connect": {"token": user}}));
    server.api("refresh", &json!({"user": "ann", "expire_at": i64::MAX}));
    assert_eq!(client.next()["push"]["refresh"], json!({"expires": true, "ttl": 365 * 24 * 3600}));
    server.api("subscribe", &json!({"user": "ann", "channel": "room", "expire_at": i64::MAX}));
    assert!(client.next()["push"]["subscribe"].is_object());
    server.api("publish", &json!({"channel": "room", "data": {"n": 1}}));
    assert_eq!(client.publication().1, json!({"n": 1}));
}
