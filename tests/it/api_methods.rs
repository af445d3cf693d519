//! Every method of the server API: the call that the shards get, and the exact bytes of the reply, which clients
//! written for Centrifugo expect.

use crate::fake::{KEY, Server, connections, error, publication, settings_with};
use corecast::auth::grant::{Overrides, Publish, RefreshGrant, SubscribeGrant};
use corecast::messaging::api_call::{ApiCall, HistoryQuery, PAST_LIMIT_DEFAULT, PastKey, PastQuery, StreamPosition};
use serde_json::{Value, json};

/// Compares the exact bytes: the order of the fields is part of the contract.
fn asserted_call(server: &Server, method: &str, body: &Value, answer: &str) -> Vec<ApiCall> {
    let got = server.call(method, body);
    assert_eq!((got.status, got.body.as_str()), (200, answer), "{method} {body}");
    server.fake.asked()
}

#[test]
fn publication_carries_all_its_fields() {
    let server = Server::with_key();
    let asked = asserted_call(
        &server,
        "publish",
        &json!({
            "channel": "kept", "data": {"a": 1}, "skip_history": true, "tags": {"b": "2", "a": "1"},
            "idempotency_key": "k", "delta": true, "version": 5, "version_epoch": "v"
        }),
        r#"{"result":{"offset":7,"epoch":"e"}}"#,
    );
    let expected = Publish {
        data: b"{\"a\":1}".into(),
        tags: vec![("a".into(), "1".into()), ("b".into(), "2".into())],
        skip_history: true,
        idempotency_key: "k".into(),
        delta: true,
        version: 5,
        version_epoch: "v".into(),
    };
    assert_eq!(asked, [ApiCall::Publish { channel: "kept".into(), publish: expected }]);
}

#[test]
fn payloads_are_json_on_one_line_or_bytes_as_they_are() {
    let server = Server::with_key();
    for (fields, data) in [
        ("\"data\":{ \"a\" : 1.50 }", "{ \"a\" : 1.50 }".as_bytes()),
        ("\"data\":{\r\n  \"a\": \"x\\n\"\n}", b"{  \"a\": \"x\\n\"}"),
        ("\"data\":null", b"null"),
        ("\"data\":\"text\"", b"\"text\""),
        ("\"b64data\":\"AP8K\"", b"\0\xff\n"),
        ("\"data\":null,\"b64data\":\"AP8K\"", b"\0\xff\n"),
        ("\"data\":1,\"b64data\":\"\"", b"1"),
        ("\"data\":1,\"b64data\":null,\"tags\":null,\"delta\":null,\"version\":null", b"1"),
        ("\"unknown\":[{}],\"data\":1,\"label_filter\":{}", b"1"),
        ("\"d\\u0061ta\":1", b"1"),
    ] {
        let answer = server.call_text("publish", &format!("{{\"channel\":\"a\",{fields}}}"));
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"result":{}}"#), "{fields}");
        let expected = ApiCall::Publish { channel: "a".into(), publish: publication(data) };
        assert_eq!(server.fake.asked(), [expected], "{fields}");
    }
}

#[test]
fn invalid_calls_are_explained() {
    let server = Server::with_key();
    for (method, body, code, part) in [
        ("publish", json!({"data": 1}), 107, "`channel` is missing"),
        ("publish", json!({"channels": ["a"], "data": 1}), 107, "publish takes `channel`"),
        ("publish", json!({"channel": "a"}), 107, "`data` is missing"),
        ("publish", json!({"channel": "a", "data": "x".repeat(999)}), 107, "longer than 1000"),
        ("publish", Value::Null, 107, "null"),
        ("broadcast", json!({"channels": [], "data": 1}), 107, "`channels` is missing"),
        ("broadcast", json!({"channel": "a", "data": 1}), 107, "broadcast takes `channels`"),
        ("broadcast", json!({"channels": ["a"]}), 107, "`data` is missing"),
        ("subscribe", json!({"user": "u"}), 107, "`channel` is missing"),
        ("subscribe", json!({"channel": "a", "b64data": "!"}), 107, "`b64data` is not base64"),
        ("subscribe", json!({"channel": "a", "info": 1, "b64info": "MQ=="}), 107, "`info` and `b64info`"),
        ("subscribe", json!({"channel": "a", "expire_at": -1}), 107, "`expire_at`"),
        ("subscribe", json!({"channel": "a", "label_filter": {"op": "and"}}), 108, "`label_filter`"),
        ("subscribe", json!({"channel": "ns:unknown"}), 102, "unknown channel"),
        ("unsubscribe", json!({"all_users": true}), 108, "`all_users`"),
        ("disconnect", json!({"all_users": true}), 108, "`all_users`"),
        ("disconnect", json!({"disconnect": {"code": 2999}}), 107, "3000 to 4999"),
        ("disconnect", json!({"disconnect": {"code": 70000}}), 107, "3000 to 4999"),
        ("disconnect", json!({"disconnect": {"code": 4000, "reason": "x".repeat(124)}}), 107, "123 bytes"),
        ("refresh", json!({"label_filter": {}}), 108, "`label_filter`"),
        ("presence", json!({}), 107, "`channel` is missing"),
        ("presence", json!({"channel": "off"}), 108, "not available"),
        ("presence_stats", json!({"channel": "off"}), 108, "not available"),
        ("history", json!({"channel": "lost"}), 112, "unrecoverable position"),
        ("history", json!({"channel": "binary"}), 108, "gRPC"),
        ("history_remove", json!({"channel": "off"}), 108, "not available"),
        ("rpc", json!({}), 107, "`method` is missing"),
        ("rpc", json!({"method": "x", "params": 1}), 104, "not found"),
    ] {
        let answer = server.call(method, &body);
        let error = &answer.json()["error"];
        assert_eq!((answer.status, error["code"].as_u64()), (200, Some(code)), "{method} {body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{method} {body}: {error}");
    }
}

#[test]
fn subscribe_applies_its_options() {
    let server = Server::with_key();
    let body = json!({
        "user": "u", "client": "c", "session": "s", "channel": "a", "b64info": "AP8=", "data": {"d": 1},
        "expire_at": 99, "recover_since": {"offset": 4, "epoch": "e"},
        "override": {"presence": {"value": true}, "join_leave": {"value": false}, "force_recovery": {},
                     "force_positioning": null}
    });
    let asked = asserted_call(&server, "subscribe", &body, r#"{"result":{}}"#);
    let grant = SubscribeGrant {
        info: b"\0\xff".into(),
        data: b"{\"d\":1}".into(),
        expire_at: Some(99),
        overrides: Overrides {
            presence: Some(true),
            join_leave: Some(false),
            force_recovery: Some(false),
            ..Overrides::default()
        },
    };
    let since = Some(StreamPosition { offset: 4, epoch: "e".into() });
    let expected = ApiCall::Subscribe { connections: connections("u", "c", "s"), channel: "a".into(), grant, since };
    assert_eq!(asked, [expected]);
    let asked =
        asserted_call(&server, "subscribe", &json!({"user": "u", "channel": "a", "info": null}), r#"{"result":{}}"#);
    let (connections, grant) = (connections("u", "", ""), SubscribeGrant::default());
    let expected = ApiCall::Subscribe { connections, channel: "a".into(), grant, since: None };
    assert_eq!(asked, [expected]);
}

#[test]
fn unsubscribe_disconnect_and_refresh_reach_connections() {
    let server = Server::with_key();
    let done = r#"{"result":{}}"#;
    let unsubscribed =
        |channel: &str| [ApiCall::Unsubscribe { connections: connections("u", "", ""), channel: channel.into() }];
    let disconnected = |session: &str, except_clients: &[&str], code, reason: &str| {
        let except_clients = except_clients.iter().copied().map(Box::from).collect();
        [ApiCall::Disconnect {
            connections: connections("u", "", session),
            except_clients,
            code,
            reason: reason.into(),
        }]
    };
    assert_eq!(asserted_call(&server, "unsubscribe", &json!({"user": "u", "channel": "a"}), done), unsubscribed("a"));
    assert_eq!(asserted_call(&server, "unsubscribe", &json!({"user": "u"}), done), unsubscribed(""));

    let asked = asserted_call(&server, "disconnect", &json!({"user": "u", "whitelist": ["c1", "c2"]}), done);
    assert_eq!(asked, disconnected("", &["c1", "c2"], 3503, "force disconnect"));
    let body = json!({"user": "u", "session": "s", "disconnect": {"code": 4500, "reason": "bye"}, "all_users": false});
    let asked = asserted_call(&server, "disconnect", &body, done);
    assert_eq!(asked, disconnected("s", &[], 4500, "bye"));

    let body = json!({"user": "u", "client": "c", "expired": true, "expire_at": 7, "info": {"i": 1}});
    let renewal = RefreshGrant { expired: true, expire_at: Some(7), info: b"{\"i\":1}".into(), meta: Vec::new() };
    let expected = ApiCall::Refresh { connections: connections("u", "c", ""), renewal };
    assert_eq!(asserted_call(&server, "refresh", &body, done), [expected]);
    let never = [ApiCall::Refresh { connections: connections("", "", ""), renewal: RefreshGrant::default() }];
    assert_eq!(asserted_call(&server, "refresh", &json!({}), done), never);
}

#[test]
fn presence_lists_all_clients_without_empty_fields() {
    let server = Server::with_key();
    for (method, channel, answer) in [
        (
            "presence",
            "a",
            r#"{"result":{"presence":{"c1":{"user":"u1","client":"c1","conn_info":{"a":1}},"c2":{"user":"","client":"c2","chan_info":[1]}}}}"#,
        ),
        ("presence", "empty", r#"{"result":{"presence":{}}}"#),
        ("presence_stats", "a", r#"{"result":{"num_clients":3,"num_users":2}}"#),
        ("presence_stats", "empty", r#"{"result":{"num_clients":0,"num_users":0}}"#),
    ] {
        asserted_call(&server, method, &json!({"channel": channel}), answer);
    }
}

#[test]
fn history_returns_the_position_even_if_empty() {
    let server = Server::with_key();
    let asked = asserted_call(
        &server,
        "history",
        &json!({"channel": "a", "limit": -1, "reverse": true, "since": {"offset": 3, "epoch": "e"}}),
        r#"{"result":{"publications":[{"data":null,"offset":8},{"data":{"x":1},"info":{"user":"u1","client":"c1","conn_info":{"a":1}},"offset":9,"tags":{"k":"v"}}],"epoch":"e","offset":9}}"#,
    );
    let since = Some(StreamPosition { offset: 3, epoch: "e".into() });
    let query = HistoryQuery { limit: -1, since, reverse: true, ..HistoryQuery::default() };
    assert_eq!(asked, [ApiCall::History { channel: "a".into(), query }]);
    let answer = r#"{"result":{"publications":[],"epoch":"","offset":0}}"#;
    let asked = asserted_call(&server, "history", &json!({"channel": "empty"}), answer);
    assert_eq!(asked, [ApiCall::History { channel: "empty".into(), query: HistoryQuery::default() }]);
    let asked = asserted_call(&server, "history_remove", &json!({"channel": "a"}), r#"{"result":{}}"#);
    assert_eq!(asked, [ApiCall::HistoryRemove { channel: "a".into() }]);
}

#[test]
fn history_takes_bounds_of_time() {
    let server = Server::with_key();
    let answer = r#"{"result":{"publications":[],"epoch":"","offset":0}}"#;
    let body = json!({"channel": "empty", "time_from": 5, "time_to": 1_700_000_000_123_u64});
    let asked = asserted_call(&server, "history", &body, answer);
    let query = HistoryQuery { time_from: 5, time_to: 1_700_000_000_123, ..HistoryQuery::default() };
    assert_eq!(asked, [ApiCall::History { channel: "empty".into(), query }]);
}

#[test]
fn history_query_names_what_it_looks_for_and_has_bounds() {
    let server = Server::with_key();
    let answer = r#"{"result":{"publications":[{"channel":"a","data":{"x":1},"offset":9,"time":1700000000123}],"cursor":"next"}}"#;
    let body = json!({
        "namespace": "news", "user": "ann", "time_from": 1, "time_to": 2, "limit": 7, "reverse": true, "cursor": "c"
    });
    let asked = asserted_call(&server, "history_query", &body, answer);
    let query = PastQuery {
        channel: "".into(),
        namespace: Some("news".into()),
        key: PastKey::User("ann".into()),
        time_from: 1,
        time_to: 2,
        limit: 7,
        reverse: true,
        cursor: "c".into(),
    };
    assert_eq!(asked, [ApiCall::HistoryQuery { query: Box::new(query) }]);
    for (body, key) in [
        (json!({"channel": "a"}), PastKey::Channel),
        (json!({"channel": "a", "user": "ann"}), PastKey::User("ann".into())),
        (json!({"tag": {"key": "k", "value": "v"}}), PastKey::Tag { key: "k".into(), value: "v".into() }),
    ] {
        let asked = asserted_call(&server, "history_query", &body, answer);
        let [ApiCall::HistoryQuery { query }] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((&query.key, query.limit, &*query.cursor), (&key, PAST_LIMIT_DEFAULT, ""));
    }
    for (body, word) in [
        (json!({}), "needed"),
        (json!({"namespace": "news", "time_from": 1}), "needed"),
        (json!({"user": "ann", "tag": {"key": "k"}}), "exclude"),
        (json!({"user": "ann", "channel": "a", "namespace": "b"}), "exclude"),
        (json!({"tag": {"value": "v"}}), "tag.key"),
        (json!({"user": "ann", "limit": 1001}), "limit"),
        (json!({"user": "ann", "limit": -1}), "limit"),
    ] {
        let error = server.call("history_query", &body).json()["error"].take();
        assert_eq!(error["code"], json!(107), "{body}");
        assert!(error["message"].as_str().expect("a text").contains(word), "{body}: {error}");
    }
    assert!(server.fake.asked().is_empty());
}

#[test]
fn channels_and_info_sum_over_the_shards() {
    let server = Server::with_key();
    let answer = r#"{"result":{"channels":{"a":{},"b":{"num_clients":2}}}}"#;
    let asked = asserted_call(&server, "channels", &json!({"pattern": "x*"}), answer);
    assert_eq!(asked, [ApiCall::Channels { pattern: "x*".into() }]);
    let version = corecast::api::settings::VERSION;
    let answer = format!(
        r#"{{"result":{{"nodes":[{{"uid":"the-uid","name":"the-name","version":"{version}","num_clients":10,"num_users":4,"num_channels":6,"num_subs":12}}]}}}}"#
    );
    asserted_call(&server, "info", &json!({}), &answer);
}

#[test]
fn info_and_stats_list_the_other_servers_of_the_cluster() {
    let server = Server::with_key();
    assert!(server.get("/stats").json().get("nodes").is_none());
    server.fake.join_cluster();
    let version = corecast::api::settings::VERSION;
    let answer = format!(
        r#"{{"result":{{"nodes":[{{"uid":"the-uid","name":"the-name","version":"{version}","num_clients":10,"num_users":4,"num_channels":6,"num_subs":12}},{{"uid":"running","name":"other-name","version":"6.9.1","num_clients":1,"num_users":2,"num_channels":3,"uptime":5,"metrics":{{"interval":60,"items":{{"a.b":2.5,"c":7}}}},"num_subs":4}}]}}}}"#
    );
    asserted_call(&server, "info", &json!({}), &answer);
    let stats = server.get("/stats").json();
    let nodes = &stats["nodes"];
    assert_eq!(
        (&nodes[1]["uid"], &nodes[1]["state"], &nodes[1]["heard_ms_ago"]),
        (&json!("lost"), &json!("lost"), &json!(1500))
    );
}

#[test]
fn batch_has_a_reply_for_each_command_without_a_wrapper() {
    let server = Server::with_key();
    for parallel in [false, true] {
        let commands = json!([
            {"publish": {"channel": "kept", "data": 1}}, {}, null, {"presence": {"channel": "empty"}},
            {"publish": {"channel": "busy", "data": 1}}, {"broadcast": {"channels": ["a", "busy"], "data": 1}},
            {"subscribe": {"channel": "a"}}, {"history": {"channel": "empty"}}, {"channels": {}},
            {"rpc": {"method": "q"}}, {"connections": {"user": "a"}}, {"publish": null, "disconnect": {"user": "a"}},
            {"unsubscribe": {}}, {"refresh": {}}, {"history_remove": {"channel": "a"}},
            {"presence_stats": {"channel": "a"}}, {"history": {"channel": "binary"}}
        ]);
        let answer = server.call("batch", &json!({"commands": commands, "parallel": parallel})).json();
        let not_found = error(104, "not found");
        let expected = json!([
            {"publish": {"offset": 7, "epoch": "e"}}, not_found, error(107, "bad request: the request is `null`"),
            {"presence": {"presence": {}}}, error(111, "too many requests"),
            {"broadcast": {"responses": [{"result": {}}, error(111, "too many requests")]}},
            {"subscribe": {}}, {"history": {"publications": [], "epoch": "", "offset": 0}},
            {"channels": {"channels": {"a": {}, "b": {"num_clients": 2}}}},
            not_found, not_found, {"disconnect": {}},
            {"unsubscribe": {}}, {"refresh": {}}, {"history_remove": {}},
            {"presence_stats": {"num_clients": 3, "num_users": 2}},
            error(108, "not available: the reply holds bytes that are not JSON; use the gRPC API")
        ]);
        assert_eq!(answer, json!({"replies": expected}), "parallel: {parallel}");
    }
    asserted_call(&server, "batch", &json!({"commands": null}), "{}");
    asserted_call(&server, "batch", &json!({}), "{}");
}

#[test]
fn publications_of_a_batch_keep_their_order() {
    let server = Server::with_key();
    let numbers = 0..1000;
    let commands: Vec<_> = numbers.clone().map(|n| json!({"publish": {"channel": "a", "data": n}})).collect();
    let answer = server.call("batch", &json!({"commands": commands, "parallel": true}));
    assert_eq!(answer.json()["replies"].as_array().unwrap().len(), 1000);
    let expected: Vec<_> = numbers.map(|n| ("a".to_owned(), n.to_string())).collect();
    assert_eq!(server.fake.published(), expected);
}

#[test]
fn malformed_or_too_long_batch_has_no_effect() {
    let server = Server::with_key();
    let many = format!("{{\"commands\":[{}{{}}]}}", "{},".repeat(corecast::api::BATCH_COMMANDS_MAX));
    let wrong = "{\"commands\":[{\"publish\":{\"channel\":\"a\",\"data\":1}},{\"publish\":{\"channel\":1}}]}";
    for body in [many.as_str(), wrong, "{\"commands\":{}}", "{\"commands\":[1]}"] {
        let answer = server.call_text("batch", body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(107)));
    }
    assert!(server.fake.asked().is_empty());
}

#[test]
fn old_style_request_has_its_method_in_the_body() {
    let server = Server::with_key();
    for (body, answer) in [
        (r#"{"method":"publish","params":{"channel":"kept","data":1}}"#, r#"{"result":{"offset":7,"epoch":"e"}}"#),
        (
            "{\"id\":4,\"method\":\"PUBLISH\",\"params\":{\"channel\":\"kept\",\"data\":1}}\n\
             {\"method\":\"broadcast\",\"params\":{\"channels\":[\"a\"],\"data\":1}}",
            "{\"id\":4,\"result\":{\"offset\":7,\"epoch\":\"e\"}}\n{\"result\":{\"responses\":[{\"result\":{}}]}}",
        ),
        (r#"{"params":{"channel":"a","data":1}}"#, r#"{"result":{}}"#),
        (r#"{"method":11,"params":{"channel":"a"}}"#, r#"{"result":{}}"#),
        (r#"{"method":99,"params":{}}"#, r#"{"error":{"code":104,"message":"not found"}}"#),
        (
            r#"{"id":1,"method":"publish"}"#,
            r#"{"id":1,"error":{"code":107,"message":"bad request: `params` is missing"}}"#,
        ),
    ] {
        let got = server.call_text("", body);
        assert_eq!((got.status, got.body.as_str()), (200, answer), "{body}");
    }
    assert!(server.call_text("", r#"{"method":"info"}"#).json()["result"]["nodes"].is_array());
    server.fake.asked();
    for body in ["", "x", r#"{"method":"nope","params":{}}"#, r#"{"params":{"channel":"a","data":1}} x"#] {
        assert_eq!(server.call_text("", body).status, 400, "{body}");
    }
    assert!(server.fake.asked().is_empty(), "a malformed body has no effect");
}

#[test]
fn transport_error_mode_turns_every_error_into_a_status() {
    let server = Server::start(settings_with(|api| api.transport_errors = true));
    for (channel, status) in [("busy", 429), ("silent", 500), ("ns:unknown", 404), ("off", 400), ("lost", 416)] {
        let answer = server.call("history", &json!({"channel": channel}));
        assert_eq!(answer.status, status, "{channel}");
        assert!(answer.json()["code"].is_u64(), "the bare error");
    }
    assert_eq!(server.call("history", &json!({"channel": "a"})).status, 200);
    // A batch has its errors in the replies of the commands.
    let body = json!({"commands": [{"history": {"channel": "lost"}}]});
    assert_eq!(server.call("batch", &body).status, 200);
}

#[test]
fn pipelined_calls_on_one_connection_are_answered_in_order() {
    use std::io::{Read, Write};
    let server = Server::with_key();
    let mut socket = std::net::TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut text = String::new();
    for number in 0..50 {
        let body = format!("{{\"channel\":\"a\",\"data\":{number}}}");
        let close = if number == 49 { "connection: close\r\n" } else { "" };
        let length = body.len();
        let head = format!("host: t\r\nx-api-key: {KEY}\r\n{close}content-length: {length}");
        text.push_str(&format!("POST /api/publish HTTP/1.1\r\n{head}\r\n\r\n{body}"));
    }
    socket.write_all(text.as_bytes()).unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 50);
    let expected: Vec<_> = (0..50).map(|number| ("a".to_owned(), number.to_string())).collect();
    assert_eq!(server.fake.published(), expected);
}
