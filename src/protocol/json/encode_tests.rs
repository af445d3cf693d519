//! Replies and pushes, written as Centrifugo's server library writes them, in the same order of fields.

use super::*;
use crate::protocol::codes::ErrorCode;
use crate::protocol::reply::SubscribePush;

fn reply_text(id: u32, what: &Reply) -> String {
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
    publication::<IN_REPLY>(&mut out, channel, &WirePublication { data, info, offset, ..Default::default() });
    checked(out)
}

#[test]
fn replies_without_a_result_are_empty_objects() {
    assert_eq!(reply_text(2, &Reply::Subscribe(SubscribeResult::default())), r#"{"id":2,"subscribe":{}}"#);
    assert_eq!(reply_text(3, &Reply::Publish), r#"{"id":3,"publish":{}}"#);
    assert_eq!(reply_text(u32::MAX, &Reply::Unsubscribe), r#"{"id":4294967295,"unsubscribe":{}}"#);
    assert_eq!(reply_text(8, &Reply::Rpc { data: b"" }), r#"{"id":8,"rpc":{}}"#);
    assert_eq!(reply_text(7, &Reply::Rpc { data: b"{\"q\":1}" }), r#"{"id":7,"rpc":{"data":{"q":1}}}"#);
}

#[test]
fn errors_say_whether_they_are_temporary() {
    let temporary = r#"{"id":6,"error":{"code":100,"message":"internal server error","temporary":true}}"#;
    assert_eq!(reply_text(6, &ErrorCode::Internal.into()), temporary);
    let lasting = r#"{"id":4,"error":{"code":105,"message":"already subscribed"}}"#;
    assert_eq!(reply_text(4, &ErrorCode::AlreadySubscribed.into()), lasting);
    let own = Reply::Error { code: 1000, message: "no \"way\"", temporary: true };
    assert_eq!(reply_text(4, &own), r#"{"id":4,"error":{"code":1000,"message":"no \"way\"","temporary":true}}"#);
}

#[test]
fn connect_results_are_written() {
    let plain = ConnectResult { client: "3a66", ping_s: 25, pong: true, ..Default::default() };
    assert_eq!(reply_text(1, &Reply::Connect(plain)), r#"{"id":1,"connect":{"client":"3a66","ping":25,"pong":true}}"#);
    let sub = SubscribeResult { epoch: "e", positioned: true, ..Default::default() };
    let full = ConnectResult {
        client: "3a66",
        version: "0.1",
        expiry: Expiry(Some(600)),
        data: b"{\n}",
        subs: &[("a\"", sub), ("b", SubscribeResult::default())],
        ping_s: 0,
        pong: false,
        session: "s",
        node: "n",
        time_ms: 1_700_000_000_000,
    };
    let text = r#"{"id":1,"connect":{"client":"3a66","version":"0.1","expires":true,"ttl":600,"data":{ },"subs":{"a\"":{"epoch":"e","positioned":true},"b":{}},"session":"s","node":"n","time":1700000000000}}"#;
    assert_eq!(reply_text(1, &Reply::Connect(full)), text);
}

#[test]
fn subscribe_results_are_written() {
    let positioned =
        SubscribeResult { recoverable: true, epoch: "MFAA", offset: 1, positioned: true, ..Default::default() };
    let text = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"MFAA","offset":1,"positioned":true}}"#;
    assert_eq!(reply_text(2, &Reply::Subscribe(positioned.clone())), text);
    let publications = [
        WirePublication { data: b"1", offset: 4, ..Default::default() },
        WirePublication { data: b"[2]", offset: 5, ..Default::default() },
    ];
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
    assert_eq!(reply_text(2, &Reply::Subscribe(recovered)), text);
}

#[test]
fn results_with_required_fields_write_them_when_empty() {
    let empty = reply_text(10, &Reply::History(HistoryResult::default()));
    assert_eq!(empty, r#"{"id":10,"history":{"publications":[],"epoch":"","offset":0}}"#);
    let info = Some(ClientInfo { user: "u1", client: "bb37", ..Default::default() });
    let publications = [WirePublication { data: b"{}", info, offset: 1, ..Default::default() }];
    let text = r#"{"id":10,"history":{"publications":[{"data":{},"info":{"user":"u1","client":"bb37"},"offset":1}],"epoch":"MFAA","offset":1}}"#;
    assert_eq!(
        reply_text(10, &Reply::History(HistoryResult { publications: &publications, epoch: "MFAA", offset: 1 })),
        text
    );
    let stats = Reply::PresenceStats { num_clients: 0, num_users: 0 };
    assert_eq!(reply_text(9, &stats), r#"{"id":9,"presence_stats":{"num_clients":0,"num_users":0}}"#);
    assert_eq!(reply_text(9, &Reply::Presence(&[])), r#"{"id":9,"presence":{"presence":{}}}"#);
    let client = ClientInfo { user: "", client: "bb37", conn_info: b"{}", chan_info: b"1" };
    let text = r#"{"id":9,"presence":{"presence":{"bb37":{"user":"","client":"bb37","conn_info":{},"chan_info":1}}}}"#;
    assert_eq!(reply_text(9, &Reply::Presence(&[client])), text);
}

#[test]
fn refresh_results_are_written() {
    let refresh = Reply::Refresh { client: "3a66", version: "0.1", expiry: Expiry(Some(60)) };
    assert_eq!(
        reply_text(1, &refresh),
        r#"{"id":1,"refresh":{"client":"3a66","version":"0.1","expires":true,"ttl":60}}"#
    );
    assert_eq!(reply_text(1, &Reply::SubRefresh(Expiry(None))), r#"{"id":1,"sub_refresh":{}}"#);
}

#[test]
fn publications_leave_empty_fields_out() {
    assert_eq!(published("room", b"[1]", None, 0), r#"{"push":{"channel":"room","pub":{"data":[1]}}}"#);
    let anonymous = Some(ClientInfo { client: "96cc", ..Default::default() });
    let text = r#"{"push":{"channel":"pos","pub":{"data":null,"info":{"user":"","client":"96cc"},"offset":2}}}"#;
    assert_eq!(published("pos", b"null", anonymous, 2), text);
    assert_eq!(published("room", b"", None, u64::MAX).matches("18446744073709551615").count(), 1);
}

#[test]
fn payloads_are_embedded_with_line_breaks_as_spaces() {
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
fn publications_with_every_field_are_written() {
    let mut tags = Vec::new();
    Tags::write(&mut tags, [("k\"", "v"), ("price", "12.5")]);
    let tags = Tags::from_bytes(&tags);
    let full = WirePublication {
        data: b"\"a\"\xff\xff\xe2\x82,\n",
        json_form: JsonForm::Text,
        offset: 3,
        tags,
        delta: true,
        time_ms: 9,
        epoch: "e",
        info: None,
        version: 4,
        channel: "c.d",
    };
    let text = r#"{"channel":"c","pub":{"data":"\"a\"\ufffd\ufffd\ufffd\ufffd,\n","offset":3,"tags":{"k\"":"v","price":"12.5"},"delta":true,"time":9,"channel":"c.d","epoch":"e","version":4}}"#;
    let mut out = Vec::new();
    publication::<BARE>(&mut out, "c", &full);
    assert_eq!(checked(out), text);

    for (data, json_form, expected) in [
        (&b"{\"a\":\"\xc3\xa9\"}"[..], JsonForm::Text, r#""{\"a\":\"é\"}""#),
        (b"", JsonForm::Text, r#""""#),
        (b"\x00\xff\n", JsonForm::Base64, r#""AP8K""#),
        (b"", JsonForm::Base64, r#""""#),
    ] {
        let mut out = Vec::new();
        publication::<IN_REPLY>(&mut out, "c", &WirePublication { data, json_form, ..Default::default() });
        assert_eq!(checked(out), format!(r#"{{"push":{{"channel":"c","pub":{{"data":{expected}}}}}}}"#));
    }
}

fn pushed(channel: &str, what: &Push) -> String {
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    push::<BARE>(&mut bare, channel, what);
    push::<IN_REPLY>(&mut whole, channel, what);
    let bare = checked(bare);
    assert_eq!(checked(whole), format!(r#"{{"push":{bare}}}"#));
    bare
}

#[test]
fn pushes_are_the_same_with_and_without_a_reply_around_them() {
    let info = ClientInfo { user: "u", client: "bb37", conn_info: b"{}", chan_info: b"" };
    let member = r#"{"info":{"user":"u","client":"bb37","conn_info":{}}}"#;
    assert_eq!(pushed("c", &Push::Join(info)), format!(r#"{{"channel":"c","join":{member}}}"#));
    assert_eq!(pushed("c", &Push::Leave(info)), format!(r#"{{"channel":"c","leave":{member}}}"#));
    let ended = Push::Unsubscribe { code: 2500, reason: "insufficient state" };
    let text = r#"{"channel":"room","unsubscribe":{"code":2500,"reason":"insufficient state"}}"#;
    assert_eq!(pushed("room", &ended), text);
    assert_eq!(pushed("", &Push::Message { data: b"[1]" }), r#"{"message":{"data":[1]}}"#);
    let sub = SubscribePush { recoverable: true, epoch: "e", offset: 2, positioned: true, data: b"1" };
    let text = r#"{"channel":"c","subscribe":{"recoverable":true,"epoch":"e","offset":2,"positioned":true,"data":1}}"#;
    assert_eq!(pushed("c", &Push::Subscribe(sub)), text);
    assert_eq!(pushed("c", &Push::Subscribe(SubscribePush::default())), r#"{"channel":"c","subscribe":{}}"#);
    assert_eq!(pushed("", &Push::Refresh(Expiry(Some(9)))), r#"{"refresh":{"expires":true,"ttl":9}}"#);
    let over = Push::Disconnect { code: 3000, reason: "x", reconnect: true };
    assert_eq!(pushed("", &over), r#"{"disconnect":{"code":3000,"reason":"x","reconnect":true}}"#);
    let subs = [("a", SubscribeResult::default())];
    let connected = ConnectResult {
        client: "3a66",
        version: "0.1",
        expiry: Expiry(Some(7)),
        data: b"1",
        subs: &subs,
        ping_s: 25,
        session: "s",
        ..Default::default()
    };
    let text = r#"{"connect":{"client":"3a66","version":"0.1","data":1,"subs":{"a":{}},"expires":true,"ttl":7,"ping":25,"session":"s"}}"#;
    assert_eq!(pushed("", &Push::Connect(connected)), text);
}

#[test]
fn presence_reply_in_slices_equals_the_reply_in_one() {
    let infos: Vec<_> = ["a", "b\"", "c"].map(|client| ClientInfo { client, ..Default::default() }).into();
    for count in 0..=infos.len() {
        let (mut entries, mut out) = (Vec::new(), Vec::new());
        for info in &infos[..count] {
            presence_entry(&mut entries, info);
        }
        presence_head(&mut out, 9);
        out.extend_from_slice(&entries);
        out.extend_from_slice(PRESENCE_TAIL);
        assert_eq!(checked(out), reply_text(9, &Reply::Presence(&infos[..count])));
    }
}
