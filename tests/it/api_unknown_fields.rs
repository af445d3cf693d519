//! Fields that a method of the server API does not have: named in the log, or rejected if the operator wants that.

use crate::common;
use crate::fake::{Server, settings_with};
use serde_json::{Value, json};

#[test]
fn unknown_fields_are_ignored_and_the_log_names_one() {
    let server = common::Server::start();
    let answer = server.api("history", &json!({"channel": "a", "user": "u", "from": 3}));
    assert!(answer["result"]["publications"].is_array(), "{answer}");
    let line = server.wait_for_log("server API: ");
    assert!(line.contains("history has no field \"from\"") && line.contains("http_api.unknown_fields"), "{line}");
    // Further ones are counted, not logged.
    for _ in 0..20 {
        server.api("publish", &json!({"channel": "a", "data": 1, "tag": {}}));
    }
    assert_eq!(server.log().iter().filter(|line| line.contains("server API: ")).count(), 1);
}

#[test]
fn known_fields_log_nothing() {
    let server = common::Server::start();
    for (method, body) in [
        ("publish", json!({"channel": "a", "data": {"any": {"thing": 1}}, "tags": {"k": "v"}, "b64data": ""})),
        ("history", json!({"channel": "a", "limit": 1, "reverse": false, "since": null})),
        (
            "subscribe",
            json!({"channel": "a", "user": "u", "override": {"presence": {"value": true}}, "info": {"x": 1}}),
        ),
        ("disconnect", json!({"user": "u", "disconnect": {"code": 4000, "reason": "r"}, "whitelist": []})),
        ("rpc", json!({"method": "x", "params": {"y": 1}})),
        ("refresh", json!({"user": "u", "label_filter": {"op": "and"}})),
        (
            "batch",
            json!({"commands": [{"info": {}}, {"publish": null, "presence": {"channel": "a"}}], "parallel": true}),
        ),
        ("info", json!({})),
    ] {
        server.api(method, &body);
    }
    assert!(!server.log().iter().any(|line| line.contains("has no field")), "{:?}", server.log());
}

#[test]
fn unknown_fields_are_rejected_if_the_setting_says_so() {
    let server = Server::start(settings_with(|api| api.rejects_unknown_fields = true));
    for (method, body, field) in [
        ("history", json!({"channel": "a", "user": "u"}), "history has no field `user`"),
        ("history", json!({"channel": "a", "since": {"ofset": 1}}), "history has no field `since.ofset`"),
        ("subscribe", json!({"channel": "a", "override": {"join": {}}}), "subscribe has no field `override.join`"),
        ("info", json!({"full": true}), "info has no field `full`"),
        ("batch", json!({"commands": [], "paralel": true}), "batch has no field `paralel`"),
        ("", json!({"method": "history", "params": {"channel": "a", "from": 1}}), "history has no field `from`"),
    ] {
        let error = &server.call(method, &body).json()["error"];
        assert_eq!(error["code"], 107, "{method} {body}: {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(field)), "{method} {body}: {error}");
    }
    assert!(server.fake.asked().is_empty());
    // A command of a batch has its error in its place.
    let commands = json!([{"publish": {"channel": "a", "data": 1}}, {"publish": {"channel": "a", "data": 1, "x": 1}},
                          {"presence": {"channel": "empty"}, "y": 1}]);
    let answer = server.call("batch", &json!({"commands": commands})).json();
    let codes: Vec<&Value> =
        answer["replies"].as_array().expect("replies").iter().map(|one| &one["error"]["code"]).collect();
    assert_eq!(codes, [&Value::Null, &json!(107), &json!(107)], "{answer}");
    assert_eq!(server.fake.published().len(), 1);
}
