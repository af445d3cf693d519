//! Replies and pushes, as the original server library was seen to write them (its order of fields included).

use super::*;
use crate::protocol::codes::ErrorCode;

fn told(id: u32, what: &Reply) -> String {
    let mut out = Vec::new();
    reply(&mut out, id, what);
    checked(out)
}

fn checked(out: Vec<u8>) -> String {
    assert!(!out.contains(&b'\n'));
    serde_json::from_slice::<serde_json::Value>(&out).expect("valid JSON");
    String::from_utf8(out).expect("UTF-8")
}

fn published(channel: &str, data: &[u8], info: Option<ClientInfo>, offset: u64) -> String {
    let mut out = Vec::new();
    publication(&mut out, channel, &Publication { data, info, offset });
    checked(out)
}

#[test]
fn replies_without_a_result_are_empty_objects() {
    assert_eq!(told(2, &Reply::Subscribe(SubscribeResult::default())), r#"{"id":2,"subscribe":{}}"#);
    assert_eq!(told(3, &Reply::Publish), r#"{"id":3,"publish":{}}"#);
    assert_eq!(told(u32::MAX, &Reply::Unsubscribe), r#"{"id":4294967295,"unsubscribe":{}}"#);
    assert_eq!(told(8, &Reply::Rpc { data: b"" }), r#"{"id":8,"rpc":{}}"#);
    assert_eq!(told(7, &Reply::Rpc { data: b"{\"q\":1}" }), r#"{"id":7,"rpc":{"data":{"q":1}}}"#);
}

#[test]
fn errors_say_whether_to_try_again() {
    let temporary = r#"{"id":6,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    assert_eq!(told(6, &Reply::Error(ErrorCode::Internal)), temporary);
    let lasting = r#"{"id":4,"error":{"code":105,"message":"already subscribed"}}"#;
    assert_eq!(told(4, &Reply::Error(ErrorCode::AlreadySubscribed)), lasting);
}

#[test]
fn connect_results() {
    let plain = ConnectResult { client: "3a66", ping_s: 25, pong: true, ..Default::default() };
    assert_eq!(told(1, &Reply::Connect(plain)), r#"{"id":1,"connect":{"client":"3a66","ping":25,"pong":true}}"#);
    let sub = SubscribeResult { epoch: "e", positioned: true, ..Default::default() };
    let full = ConnectResult {
        client: "3a66",
        version: "0.1",
        expiry: Expiry(Some(600)),
        data: b"{\n}",
        subs: &[("a\"", sub), ("b", SubscribeResult::default())],
        ping_s: 0,
        pong: false,
    };
    let text = r#"{"id":1,"connect":{"client":"3a66","version":"0.1","expires":true,"ttl":600,"data":{ },"subs":{"a\"":{"epoch":"e","positioned":true},"b":{}}}}"#;
    assert_eq!(told(1, &Reply::Connect(full)), text);
}

#[test]
fn subscribe_results() {
    let positioned =
        SubscribeResult { recoverable: true, epoch: "MFAA", offset: 1, positioned: true, ..Default::default() };
    let text = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"MFAA","offset":1,"positioned":true}}"#;
    assert_eq!(told(2, &Reply::Subscribe(positioned.clone())), text);
    let publications =
        [Publication { data: b"1", info: None, offset: 4 }, Publication { data: b"[2]", info: None, offset: 5 }];
    let recovered = SubscribeResult {
        expiry: Expiry(Some(0)),
        publications: &publications,
        recovered: true,
        data: b"{}",
        was_recovering: true,
        delta: true,
        ..positioned
    };
    let text = r#"{"id":2,"subscribe":{"expires":true,"recoverable":true,"epoch":"MFAA","publications":[{"data":1,"offset":4},{"data":[2],"offset":5}],"recovered":true,"offset":1,"positioned":true,"data":{},"was_recovering":true,"delta":true}}"#;
    assert_eq!(told(2, &Reply::Subscribe(recovered)), text);
}

#[test]
fn results_whose_fields_are_always_there() {
    let empty = told(10, &Reply::History(HistoryResult::default()));
    assert_eq!(empty, r#"{"id":10,"history":{"publications":[],"epoch":"","offset":0}}"#);
    let info = Some(ClientInfo { user: "u1", client: "bb37", ..Default::default() });
    let publications = [Publication { data: b"{}", info, offset: 1 }];
    let text = r#"{"id":10,"history":{"publications":[{"data":{},"info":{"user":"u1","client":"bb37"},"offset":1}],"epoch":"MFAA","offset":1}}"#;
    assert_eq!(
        told(10, &Reply::History(HistoryResult { publications: &publications, epoch: "MFAA", offset: 1 })),
        text
    );
    let stats = Reply::PresenceStats { num_clients: 0, num_users: 0 };
    assert_eq!(told(9, &stats), r#"{"id":9,"presence_stats":{"num_clients":0,"num_users":0}}"#);
    assert_eq!(told(9, &Reply::Presence(&[])), r#"{"id":9,"presence":{"presence":{}}}"#);
    let client = ClientInfo { user: "", client: "bb37", conn_info: b"{}", chan_info: b"1" };
    let text = r#"{"id":9,"presence":{"presence":{"bb37":{"user":"","client":"bb37","conn_info":{},"chan_info":1}}}}"#;
    assert_eq!(told(9, &Reply::Presence(&[client])), text);
}

#[test]
fn renewals() {
    let refresh = Reply::Refresh { client: "3a66", version: "0.1", expiry: Expiry(Some(60)) };
    assert_eq!(told(1, &refresh), r#"{"id":1,"refresh":{"client":"3a66","version":"0.1","expires":true,"ttl":60}}"#);
    assert_eq!(told(1, &Reply::SubRefresh(Expiry(None))), r#"{"id":1,"sub_refresh":{}}"#);
}

#[test]
fn publications_have_what_they_have() {
    assert_eq!(published("room", b"[1]", None, 0), r#"{"push":{"channel":"room","pub":{"data":[1]}}}"#);
    let anonymous = Some(ClientInfo { client: "96cc", ..Default::default() });
    let text = r#"{"push":{"channel":"pos","pub":{"data":null,"info":{"user":"","client":"96cc"},"offset":2}}}"#;
    assert_eq!(published("pos", b"null", anonymous, 2), text);
    assert_eq!(published("room", b"", None, u64::MAX).matches("18446744073709551615").count(), 1);
}

#[test]
fn payloads_are_embedded_as_they_are_but_for_line_breaks() {
    let text = published("room", b"{\n\"a\":\n \"x\\n\\u2028<\xc3\xa9\"\n}\n", None, 0);
    assert_eq!(text, r#"{"push":{"channel":"room","pub":{"data":{ "a":  "x\n\u2028<é" } }}}"#);
}

#[test]
fn strings_are_escaped() {
    let channel: String = (0..=0x30).map(char::from).chain("\"\\/é\u{2028}\u{7f}😀".chars()).collect();
    let text = published(&channel, b"1", None, 0);
    let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(value["push"]["channel"], channel.as_str());
    assert!(text.starts_with(r#"{"push":{"channel":"\u0000\u0001"#) && text.contains(r#"\t\n\u000b\u000c\r\u000e"#));
}

#[test]
fn the_notice_of_an_ended_subscription() {
    let mut out = Vec::new();
    unsubscribe_push(&mut out, "room", 2500, "insufficient state");
    let text = r#"{"push":{"channel":"room","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    assert_eq!(checked(out), text);
}
