//! Calls to a correct backend: the requests that it receives, and the results of its responses.

use std::cell::RefCell;
use std::sync::Arc;

use crate::common::backend::{
    Reply, Server, backend, call, connecting, counts, failures, publishing, rpc, subscribing,
};
use corecast::auth::grant::{ConnectGrant, Publish, RefreshGrant, SubscribeGrant};
use corecast::backend;
use corecast::backend::call::{Answer, Question};
use corecast::backend::{Backend, ProxySettings, SetupError, StatusAnswer};
use corecast::ids::ShardId;
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;

#[tokio::test]
async fn each_call_is_one_post_with_its_fields() {
    let server = Server::responding("{}").await;
    let settings = ProxySettings { include_connection_meta: true, ..ProxySettings::default() };
    let backend = backend(&format!("{}/hook?key=1", server.url), settings);
    let start = json!({"client": "c1", "transport": "websocket", "protocol": "json", "encoding": "json"});
    let user = json!({"user": "7", "meta": {"m": 1}});
    let data = br#"{"n":1}"#.to_vec();
    for (question, fields) in [
        (
            Question::Connect {
                name: "js".into(),
                version: "2".into(),
                data: data.clone(),
                channels: vec!["x".into()],
            },
            json!({"name": "js", "version": "2", "data": {"n": 1}, "channels": ["x"]}),
        ),
        (Question::Refresh, user.clone()),
        (
            Question::Subscribe { channel: "x".into(), token: "t".into(), data: data.clone() },
            merged(&user, &json!({"channel": "x", "token": "t", "data": {"n": 1}})),
        ),
        (
            Question::Publish { channel: "x".into(), data: data.clone() },
            merged(&user, &json!({"channel": "x", "data": {"n": 1}})),
        ),
        (Question::SubRefresh { channel: "x".into() }, merged(&user, &json!({"channel": "x"}))),
        (Question::Rpc { method: "m".into(), data }, merged(&user, &json!({"method": "m", "data": {"n": 1}}))),
    ] {
        let mut call = call(question);
        call.caller.meta = br#"{"m":1}"#.into();
        backend.ask(call).await;
        let seen = server.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!((&seen[0].method, seen[0].path.as_str()), (&Method::POST, "/hook?key=1"));
        assert_eq!(seen[0].json(), merged(&start, &fields));
        assert_eq!(seen[0].header("content-type"), ["application/json"]);
    }
    assert_eq!(server.connections(), 1, "the connection is kept alive");
}

fn merged(one: &serde_json::Value, other: &serde_json::Value) -> serde_json::Value {
    let mut all = one.as_object().unwrap().clone();
    all.extend(other.as_object().unwrap().clone());
    all.into()
}

#[tokio::test]
async fn listed_client_headers_and_static_headers_are_sent() {
    let server = Server::responding("{}").await;
    let settings = ProxySettings {
        http_headers: vec!["Cookie".into(), "X-Real-IP".into(), "Host".into()],
        static_http_headers: vec![("X-Key".into(), "k".into()), ("X-Real-Ip".into(), "none".into())],
        ..ProxySettings::default()
    };
    let backend = backend(&server.url, settings);
    let mut call = connecting();
    let sent = [("cookie", "a=1"), ("x-real-ip", "10.0.0.1"), ("authorization", "secret"), ("host", "other")];
    call.caller.headers = sent.map(|(name, value)| (name.to_string(), value.to_string())).into();
    backend.ask(call).await;
    let seen = server.seen().remove(0);
    assert_eq!(seen.header("cookie"), ["a=1"]);
    assert_eq!(seen.header("x-real-ip"), ["10.0.0.1"]);
    assert_eq!(seen.header("x-key"), ["k"]);
    assert!(seen.header("authorization").is_empty());
    assert_eq!(format!("http://{}", seen.header("host")[0]), server.url);
}

#[tokio::test]
async fn results_errors_and_disconnects_come_back() {
    let server = Server::start(|seen, _| async move {
        let response = match seen.json()["channel"].as_str() {
            Some("error") => json!({"error": {"code": 1001, "message": "not now", "temporary": true}}),
            Some("close") => json!({"disconnect": {"code": 4500, "reason": "go away"}}),
            Some("empty") => json!({"result": {}}),
            _ => json!({"result": {"user": "9", "data": [1], "expire_at": 5}}),
        };
        (StatusCode::OK, response.to_string())
    })
    .await;
    let backend = backend(&server.url, ProxySettings::default());
    let subscribe = |channel: &str| Question::Subscribe { channel: channel.into(), token: String::new(), data: vec![] };
    let publish = |channel: &str| Question::Publish { channel: channel.into(), data: b"1".into() };
    let error = Answer::Error { code: 1001, message: "not now".into(), temporary: true };
    let close = Answer::Disconnect { code: 4500, reason: "go away".into() };
    let connect = ConnectGrant { user: "9".into(), data: b"[1]".into(), expire_at: Some(5), ..Default::default() };
    let grant = SubscribeGrant { data: b"[1]".into(), expire_at: Some(5), ..Default::default() };
    for (question, answer) in [
        (connecting().question, Answer::Connect(connect)),
        (Question::Refresh, Answer::Refresh(RefreshGrant { expire_at: Some(5), ..Default::default() })),
        (subscribe("x"), Answer::Subscribe(grant)),
        (subscribe("empty"), Answer::Subscribe(SubscribeGrant::default())),
        (subscribe("error"), error.clone()),
        (subscribe("close"), close.clone()),
        (publish("x"), Answer::Publish(Publish { data: b"[1]".into(), ..Default::default() })),
        (publish("empty"), Answer::Publish(Publish::default())),
        (publish("error"), error),
        (publish("close"), close),
        (rpc().question, Answer::Rpc { data: b"[1]".into() }),
    ] {
        assert_eq!(backend.ask(call(question)).await, answer);
    }
    assert_eq!(failures(&backend), [], "a response is not a failure");
    let counts = counts(&backend);
    assert_eq!((counts.calls, counts.in_flight, counts.durations.iter().sum::<u64>()), (11, 0, 11));
    assert!(!counts.duration_sum.is_zero());
}

#[tokio::test]
async fn status_can_be_mapped_to_a_result() {
    let server = Server::start(|seen, _| async move {
        let status = if seen.json()["method"] == "m" { StatusCode::FORBIDDEN } else { StatusCode::NOT_FOUND };
        (status, "<html>")
    })
    .await;
    let denied = Answer::Error { code: 103, message: "permission denied".into(), temporary: false };
    let status_answers = vec![StatusAnswer { status: 403, answer: denied.clone() }];
    let backend = backend(&server.url, ProxySettings { status_answers, ..ProxySettings::default() });
    assert_eq!(backend.ask(rpc()).await, denied);
    assert_eq!(failures(&backend), []);
    assert_eq!(backend.ask(publishing()).await, Answer::Failed);
    assert_eq!(failures(&backend), [("status", 1)]);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = Server::responding(r#"{"result":{"user":"9"}}"#).await;
    let to = server.url.clone();
    let elsewhere = Server::start(move |_, _| {
        let to = to.clone();
        async move { Reply::redirect(StatusCode::TEMPORARY_REDIRECT, to) }
    })
    .await;
    let backend = backend(&elsewhere.url, ProxySettings::default());
    assert_eq!(backend.ask(connecting()).await, Answer::Failed);
    assert_eq!(failures(&backend), [("status", 1)]);
    assert_eq!((elsewhere.seen().len(), server.seen().len()), (1, 0));
}

#[tokio::test]
async fn each_reply_reaches_the_connection_that_called() {
    let server = Server::start(|seen, _| async move {
        let data = seen.json()["data"].clone();
        (StatusCode::OK, json!({"result": {"data": data}}).to_string())
    })
    .await;
    let backend = Arc::new(backend(&server.url, ProxySettings { concurrency_max: 4, ..ProxySettings::default() }));
    let (sender, calls) = mpsc::channel(8);
    let delivered = RefCell::new(Vec::new());
    let asked = |call| (Arc::clone(&backend), call);
    let feed = async move {
        for serial in 0..100u32 {
            let mut call = call(Question::Rpc { method: "m".into(), data: serial.to_string().into() });
            (call.shard, call.serial, call.conn.slot) = (ShardId(serial as u16 % 3), serial, serial * 2);
            sender.send(asked(call)).await.unwrap();
        }
        let lost = Question::Keys { subscription: false };
        sender.send(asked(call(lost))).await.unwrap();
    };
    let deliver = |shard: ShardId, conn: corecast::ids::ConnId, serial, answer| {
        delivered.borrow_mut().push((shard, conn.slot, serial, answer));
    };
    tokio::join!(feed, backend::run(calls, deliver));
    let mut delivered = delivered.into_inner();
    assert_eq!(delivered.len(), 101);
    let keys = delivered.iter().position(|(.., answer)| *answer == Answer::Failed).expect("there is no key set");
    delivered.remove(keys);
    delivered.sort_by_key(|(_, _, serial, _)| *serial);
    for (index, (shard, slot, serial, answer)) in delivered.into_iter().enumerate() {
        let serial_of = index as u32;
        assert_eq!((shard, slot, serial), (ShardId(serial_of as u16 % 3), serial_of * 2, serial_of));
        assert_eq!(answer, Answer::Rpc { data: serial_of.to_string().into() });
    }
    assert!(server.connections() <= 4);
}

#[tokio::test]
async fn unusable_settings_are_rejected() {
    let refused = |settings| Backend::new(vec![settings]).expect_err("refused");
    let name = "hooks".to_string();
    let ftp = ProxySettings { name: name.clone(), endpoint: "ftp://a:1".into(), ..ProxySettings::default() };
    assert_eq!(refused(ftp), SetupError::Scheme { name: name.clone() });
    let none = ProxySettings { name: name.clone(), ..ProxySettings::default() };
    assert_eq!(
        refused(none).to_string(),
        "hooks: `endpoint` is neither a URL nor host:port; write a host name outside ASCII in Punycode"
    );
    let server = Server::responding("{}").await;
    assert!(Backend::new(vec![ProxySettings { endpoint: server.url.clone(), ..ProxySettings::default() }]).is_ok());
    let backend = backend(&server.url, ProxySettings::default());
    assert_eq!(backend.ask(subscribing()).await, Answer::Subscribe(SubscribeGrant::default()));
}
