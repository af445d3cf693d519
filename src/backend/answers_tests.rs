//! Every form of response and its answer, and the responses that are rejected.

use super::*;
use crate::backend::call::Caller;
use crate::backend::json;
use crate::ids::{ConnId, ShardId};

fn call(question: Question) -> Call {
    let conn = ConnId::new(0, 0);
    Call { shard: ShardId(0), conn, serial: 0, proxy: 0, caller: Caller::default(), question }
}

fn connecting() -> Call {
    call(Question::Connect { name: String::new(), version: String::new(), data: vec![], channels: vec![] })
}

fn subscribing() -> Call {
    call(Question::Subscribe { channel: "a".into(), token: String::new(), data: vec![] })
}

fn publishing() -> Call {
    call(Question::Publish { channel: "a".into(), data: vec![] })
}

fn rpc() -> Call {
    call(Question::Rpc { method: "m".into(), data: vec![] })
}

fn every_kind() -> [Call; 6] {
    let sub_refresh = call(Question::SubRefresh { channel: "a".into() });
    [connecting(), call(Question::Refresh), subscribing(), publishing(), sub_refresh, rpc()]
}

fn read(call: &Call, empty_connect: EmptyConnect, body: &[u8]) -> Result<Answer, Malformed> {
    json::answer(call, empty_connect, body)
}

fn answer(call: &Call, body: &str) -> Answer {
    read(call, EmptyConnect::Reject, body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}"))
}

fn fault(call: &Call, body: &str) -> Malformed {
    read(call, EmptyConnect::Reject, body.as_bytes()).expect_err(body)
}

#[test]
fn connect_result_has_user_payloads_and_subscriptions() {
    let body = r#"{"result": {"user": "7", "expire_at": 1700000000, "info": {"n":
        "x"}, "data": [1], "meta": {"k": 1}, "channels": ["b", "a"], "unknown": 1, "caps": [],
        "subs": {"a": {"info": 1, "b64data": "MQ==", "expire_at": 5, "override": {"presence": {"value": true},
        "join_leave": {"value": false}, "force_recovery": null, "force_positioning": {}}}, "c": null}}}"#;
    let overrides = Overrides {
        presence: Some(true),
        join_leave: Some(false),
        force_positioning: Some(false),
        ..Overrides::default()
    };
    let a = SubscribeGrant { info: b"1".into(), data: b"1".into(), expire_at: None, overrides };
    let grant = ConnectGrant {
        user: "7".into(),
        expire_at: Some(1_700_000_000),
        info: br#"{"n":        "x"}"#.into(),
        data: b"[1]".into(),
        meta: br#"{"k": 1}"#.into(),
        subs: vec![("a".into(), a), ("b".into(), Default::default()), ("c".into(), Default::default())],
    };
    assert_eq!(answer(&connecting(), body), Answer::Connect(grant));
    assert_eq!(answer(&connecting(), r#"{"result":{}}"#), Answer::Connect(ConnectGrant::default()));
    let none = r#"{"result":{"user":null,"expire_at":null,"b64info":null,"channels":null,"subs":null},"error":null}"#;
    assert_eq!(answer(&connecting(), none), Answer::Connect(ConnectGrant::default()));
}

#[test]
fn connect_response_without_result_is_anonymous_or_rejected() {
    let rejected = Answer::Disconnect { code: 3501, reason: "bad request".into() };
    for body in ["{}", r#"{"result":null}"#] {
        assert_eq!(answer(&connecting(), body), rejected);
        assert_eq!(
            read(&connecting(), EmptyConnect::Anonymous, body.as_bytes()),
            Ok(Answer::Connect(ConnectGrant::default()))
        );
    }
}

#[test]
fn response_without_result_allows_a_command_and_ends_what_was_to_be_refreshed() {
    for body in ["{}", r#"{"result":null}"#, r#"{"result":{}}"#] {
        assert_eq!(answer(&subscribing(), body), Answer::Subscribe(SubscribeGrant::default()));
        assert_eq!(answer(&publishing(), body), Answer::Publish(Publish::default()));
        assert_eq!(answer(&rpc(), body), Answer::Rpc { data: vec![] });
    }
    let sub_refresh = call(Question::SubRefresh { channel: "a".into() });
    for body in [
        "{}",
        " null ",
        r#"{"result":null}"#,
        r#"{"error":{"code":100}}"#,
        r#"{"error":{},"result":{"expire_at":9}}"#,
        r#"{"disconnect":{"code":4000}}"#,
        r#"{"disconnect":{"code":1000}}"#,
        r#"{"disconnect":{}}"#,
        r#"{"result":{"expired":true}}"#,
        r#"{"result":{"expired":true,"expire_at":9}}"#,
    ] {
        let expired = RefreshGrant { expired: true, ..RefreshGrant::default() };
        assert_eq!(answer(&call(Question::Refresh), body), Answer::Refresh(expired.clone()));
        assert_eq!(answer(&sub_refresh, body), Answer::SubRefresh(expired));
    }
    // The session decides what a time that is missing, zero or negative means.
    for body in [r#"{"result":{}}"#, r#"{"result":{"expire_at":0}}"#, r#"{"result":{"expire_at":-9,"expired":null}}"#] {
        assert_eq!(answer(&call(Question::Refresh), body), Answer::Refresh(RefreshGrant::default()), "{body}");
        assert_eq!(answer(&sub_refresh, body), Answer::SubRefresh(RefreshGrant::default()), "{body}");
    }
    let renewed = r#"{"result":{"expire_at":9,"b64info":"AP8=","meta":{}}}"#;
    let renewal = RefreshGrant { expired: false, expire_at: Some(9), info: vec![0, 255], meta: b"{}".into() };
    assert_eq!(answer(&call(Question::Refresh), renewed), Answer::Refresh(renewal.clone()));
    assert_eq!(answer(&sub_refresh, renewed), Answer::SubRefresh(RefreshGrant { meta: vec![], ..renewal }));
}

#[cfg(feature = "grpc")]
#[test]
fn responses_over_grpc_with_missing_fields_mean_the_same() {
    use crate::backend::proto;
    let expired = Answer::Refresh(RefreshGrant { expired: true, ..RefreshGrant::default() });
    let of = |response: proto::RefreshResponse| refresh(&call(Question::Refresh), response.into()).unwrap();
    assert_eq!(of(proto::RefreshResponse::default()), expired);
    let disconnect = Some(proto::Disconnect::default());
    assert_eq!(of(proto::RefreshResponse { disconnect, ..Default::default() }), expired);
    let error = Some(proto::Error::default());
    let result = Some(proto::RefreshResult { expire_at: 9, ..Default::default() });
    assert_eq!(of(proto::RefreshResponse { error, result, ..Default::default() }), expired);
    let result = Some(proto::RefreshResult::default());
    let no_time = of(proto::RefreshResponse { result, ..Default::default() });
    assert_eq!(no_time, Answer::Refresh(RefreshGrant::default()));
    let channel = call(Question::SubRefresh { channel: "a".into() });
    let ended = refresh(&channel, proto::SubRefreshResponse::default().into()).unwrap();
    assert_eq!(ended, Answer::SubRefresh(RefreshGrant { expired: true, ..RefreshGrant::default() }));
    let rejected = connect(&connecting(), proto::ConnectResponse::default().into(), EmptyConnect::Reject).unwrap();
    assert_eq!(rejected, Answer::Disconnect { code: 3501, reason: "bad request".into() });
}

#[test]
fn results_of_subscribe_publish_and_rpc_have_their_fields() {
    let body =
        r#"{"result":{"expire_at":7,"info":null,"data":{"a":1},"override":{"force_push_join_leave":{"value":true}}}}"#;
    let overrides = Overrides { force_push_join_leave: Some(true), ..Overrides::default() };
    let grant = SubscribeGrant { info: b"null".into(), data: br#"{"a":1}"#.into(), expire_at: Some(7), overrides };
    assert_eq!(answer(&subscribing(), body), Answer::Subscribe(grant));
    let body = r#"{"result":{"data":1,"b64data":"Mg==","skip_history":true,"tags":{"b":"2","a":"1","c":null},
        "idempotency_key":"k","delta":true,"version":18446744073709551615,"version_epoch":"e"}}"#;
    let tags = [("a", "1"), ("b", "2"), ("c", "")].map(|(key, value)| (key.to_string(), value.to_string()));
    let publish = Publish {
        data: b"1".into(),
        tags: tags.into(),
        skip_history: true,
        idempotency_key: "k".into(),
        delta: true,
        version: u64::MAX,
        version_epoch: "e".into(),
    };
    assert_eq!(answer(&publishing(), body), Answer::Publish(publish));
    assert_eq!(answer(&rpc(), r#"{"result":{"data":{"x":1}}}"#), Answer::Rpc { data: br#"{"x":1}"#.into() });
    assert_eq!(answer(&rpc(), r#"{"result":{"data":1,"b64data":"Mg=="}}"#), Answer::Rpc { data: b"2".into() });
}

#[test]
fn times_of_any_size_are_the_nearest_that_fits() {
    let largest = i64::MAX as u64;
    for (text, at) in [
        ("9223372036854775807", Some(largest)),
        ("18446744073709551615", Some(largest)),
        ("1e300", Some(largest)),
        ("1700000000.9", Some(1_700_000_000)),
        ("0.5", None),
        ("-1e300", None),
        ("-9223372036854775808", None),
        ("null", None),
    ] {
        let body = format!(r#"{{"result":{{"expire_at":{text}}}}}"#);
        let refresh = Answer::Refresh(RefreshGrant { expire_at: at, ..RefreshGrant::default() });
        assert_eq!(answer(&call(Question::Refresh), &body), refresh, "{text}");
        let subscribe = Answer::Subscribe(SubscribeGrant { expire_at: at, ..SubscribeGrant::default() });
        assert_eq!(answer(&subscribing(), &body), subscribe, "{text}");
        let connect = Answer::Connect(ConnectGrant { expire_at: at, ..ConnectGrant::default() });
        assert_eq!(answer(&connecting(), &body), connect, "{text}");
    }
    for text in ["\"soon\"", "true", "[]"] {
        assert!(matches!(
            fault(&subscribing(), &format!(r#"{{"result":{{"expire_at":{text}}}}}"#)),
            Malformed::WireFormat { .. }
        ));
    }
}

#[test]
fn bytes_are_only_for_clients_of_the_protobuf_protocol() {
    let mut call = rpc();
    let body = r#"{"result":{"b64data":"AP8="}}"#;
    assert_eq!(fault(&call, body), Malformed::Unfit);
    call.caller.binary = true;
    assert_eq!(answer(&call, body), Answer::Rpc { data: vec![0, 255] });
}

#[test]
fn errors_and_disconnects_are_passed_on_and_a_disconnect_has_precedence() {
    for call in
        every_kind().iter().filter(|call| !matches!(call.question, Question::Refresh | Question::SubRefresh { .. }))
    {
        let body = r#"{"error":{"code":103,"message":"no","temporary":true},"result":{}}"#;
        assert_eq!(answer(call, body), Answer::Error { code: 103, message: "no".into(), temporary: true });
        let body = r#"{"error":{"code":1},"disconnect":{"code":4501,"reason":"go"}}"#;
        assert_eq!(answer(call, body), Answer::Disconnect { code: 4501, reason: "go".into() });
    }
    let long = format!(r#"{{"disconnect":{{"code":3000,"reason":"{}"}}}}"#, "\u{e9}".repeat(100));
    assert_eq!(answer(&rpc(), &long), Answer::Disconnect { code: 3000, reason: "\u{e9}".repeat(61) });
}

#[test]
fn malformed_responses_are_rejected_without_quoting_them() {
    for call in every_kind() {
        let refreshes = matches!(call.question, Question::Refresh | Question::SubRefresh { .. });
        if !refreshes {
            for code in [0u32, 200, 1006, 2999, 5000, u32::MAX] {
                assert_eq!(
                    fault(&call, &format!(r#"{{"disconnect":{{"code":{code}}}}}"#)),
                    Malformed::DisconnectCode(code)
                );
            }
            assert_eq!(fault(&call, r#"{"error":{"message":"no code"}}"#), Malformed::ErrorCode);
            assert!(matches!(fault(&call, "null"), Malformed::WireFormat { .. }));
        }
        for body in [
            "",
            "<html>",
            "{",
            "[1]",
            "[]",
            r#"{"result":[]}"#,
            r#"{"error":[]}"#,
            r#"{"disconnect":[4000]}"#,
            r#"{"result":"secret"}"#,
            r#"{"error":{"code":-1}}"#,
            r#"{"result":{}} trailing"#,
            "{\"result\":\"\u{1}\"}",
        ] {
            let fault = fault(&call, body);
            assert!(matches!(fault, Malformed::WireFormat { .. }), "{body}: {fault}");
            assert!(!fault.to_string().contains("secret"));
        }
        assert!(matches!(
            read(&call, EmptyConnect::Anonymous, b"{\"result\":{\"data\":\"\xff\"}}"),
            Err(Malformed::WireFormat { .. }) | Ok(_)
        ));
    }
    assert_eq!(fault(&connecting(), r#"{"result":{"b64info":"!"}}"#), Malformed::Base64("info"));
    assert_eq!(fault(&connecting(), r#"{"result":{"subs":{"a":{"b64data":"="}}}}"#), Malformed::Base64("data"));
    let plain = r#"{"result":{"override":{"presence":true}}}"#;
    assert!(matches!(fault(&subscribing(), plain), Malformed::WireFormat { .. }));
}
