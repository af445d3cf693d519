//! Replies and pushes, read and written again by prost.

use std::collections::BTreeMap;

use prost::Message as _;

use super::super::peer;
use super::*;
use crate::protocol::codes::ErrorCode;
use crate::protocol::reply::JsonForm;

/// What prost reads; it writes the same bytes again.
fn read(out: &[u8]) -> peer::Reply {
    let reply = peer::Reply::decode_length_delimited(out).expect("one message");
    assert_eq!(reply.encode_length_delimited_to_vec(), out);
    reply
}

fn read_reply(id: u32, what: &Reply) -> peer::Reply {
    let mut out = Vec::new();
    reply(&mut out, id, what);
    let reply = read(&out);
    assert_eq!(reply.id, id);
    peer::Reply { id: 0, ..reply }
}

fn pushed(channel: &str, what: &Push) -> peer::Push {
    let mut out = Vec::new();
    push(&mut out, channel, what);
    let push = read(&out).push.expect("a push");
    assert_eq!(push.channel, channel);
    peer::Push { channel: String::new(), ..push }
}

const INFO: ClientInfo = ClientInfo { user: "u", client: "bb37", conn_info: b"\xff", chan_info: b"2" };

fn info() -> peer::ClientInfo {
    peer::ClientInfo { user: "u".into(), client: "bb37".into(), conn_info: b"\xff".into(), chan_info: b"2".into() }
}

fn full_sub<'a>(publications: &'a [WirePublication<'a>]) -> SubscribeResult<'a> {
    SubscribeResult {
        expiry: Expiry(Some(300)),
        recoverable: true,
        epoch: "e",
        publications,
        recovered: true,
        offset: 1 << 50,
        positioned: true,
        data: b"d",
        was_recovering: true,
        delta: true,
    }
}

fn full_sub_read(publications: Vec<peer::Publication>) -> peer::SubscribeResult {
    peer::SubscribeResult {
        expires: true,
        ttl: 300,
        recoverable: true,
        epoch: "e".into(),
        publications,
        recovered: true,
        offset: 1 << 50,
        positioned: true,
        data: b"d".into(),
        was_recovering: true,
        delta: true,
    }
}

#[test]
fn replies_with_few_fields_are_written() {
    let empty = peer::Reply::default;
    assert_eq!(read_reply(1, &Reply::Unsubscribe), peer::Reply { unsubscribe: Some(peer::Nothing {}), ..empty() });
    assert_eq!(read_reply(u32::MAX, &Reply::Publish), peer::Reply { publish: Some(peer::Nothing {}), ..empty() });
    let rpc = Some(peer::Data { data: b"\0".into() });
    assert_eq!(read_reply(2, &Reply::Rpc { data: b"\0" }), peer::Reply { rpc, ..empty() });
    let error = Some(peer::Error { code: 100, message: "internal server error".into(), temporary: true });
    assert_eq!(read_reply(3, &ErrorCode::Internal.into()), peer::Reply { error, ..empty() });
    let refresh = Some(peer::RefreshResult { client: "c".into(), version: "v".into(), expires: true, ttl: 60 });
    let ours = Reply::Refresh { client: "c", version: "v", expiry: Expiry(Some(60)) };
    assert_eq!(read_reply(4, &ours), peer::Reply { refresh, ..empty() });
    let sub_refresh = Some(peer::Expiry { expires: true, ttl: 0 });
    assert_eq!(read_reply(5, &Reply::SubRefresh(Expiry(Some(0)))), peer::Reply { sub_refresh, ..empty() });
    let presence_stats = Some(peer::PresenceStatsResult { num_clients: 3, num_users: 0 });
    let ours = Reply::PresenceStats { num_clients: 3, num_users: 0 };
    assert_eq!(read_reply(6, &ours), peer::Reply { presence_stats, ..empty() });
}

#[test]
fn results_with_nested_messages_are_written() {
    let long = vec![b'x'; 70_000];
    let publications = [
        WirePublication { data: &long, offset: 7, info: Some(INFO), ..Default::default() },
        WirePublication { data: b"2", ..Default::default() },
    ];
    let read = vec![
        peer::Publication { data: long.clone(), offset: 7, info: Some(info()), ..Default::default() },
        peer::Publication { data: b"2".into(), ..Default::default() },
    ];
    let sub = read_reply(2, &Reply::Subscribe(full_sub(&publications))).subscribe;
    assert_eq!(sub, Some(full_sub_read(read.clone())));
    let history =
        read_reply(3, &Reply::History(HistoryResult { publications: &publications, epoch: "e", offset: 9 })).history;
    assert_eq!(history, Some(peer::HistoryResult { publications: read, epoch: "e".into(), offset: 9 }));
    let subs = [("a", full_sub(&[])), ("b", SubscribeResult { delta: true, ..Default::default() })];
    let connect = ConnectResult {
        client: "c",
        version: "v",
        expiry: Expiry(Some(1)),
        data: b"\xfe",
        subs: &subs,
        ping_s: 25,
        pong: true,
        session: "s",
        node: "n",
        time_ms: 1_700_000_000_000,
    };
    let subs: BTreeMap<_, _> = [
        ("a".into(), full_sub_read(vec![])),
        ("b".into(), peer::SubscribeResult { delta: true, ..Default::default() }),
    ]
    .into();
    let (client, version, data, session, node) = ("c".into(), "v".into(), b"\xfe".into(), "s".into(), "n".into());
    let time = 1_700_000_000_000;
    let read =
        peer::Connect { client, version, expires: true, ttl: 1, data, subs, ping: 25, pong: true, session, node, time };
    assert_eq!(pushed("", &Push::Connect(connect.clone())).connect.as_ref(), Some(&read));
    let peer::Connect { client, version, expires, ttl, data, subs, ping, pong, session, node, time } = read;
    let read = peer::ConnectResult { client, version, expires, ttl, data, subs, ping, pong, session, node, time };
    assert_eq!(read_reply(1, &Reply::Connect(connect)).connect, Some(read));
    assert_eq!(read_reply(1, &Reply::Connect(ConnectResult::default())).connect, Some(peer::ConnectResult::default()));
}

#[test]
fn pushes_are_written() {
    let member = Some(peer::Who { info: Some(info()) });
    assert_eq!(pushed("c", &Push::Join(INFO)), peer::Push { join: member.clone(), ..Default::default() });
    assert_eq!(pushed("c", &Push::Leave(INFO)), peer::Push { leave: member, ..Default::default() });
    let unsubscribe = Some(peer::Unsubscribe { code: 2500, reason: "r".into() });
    let ours = Push::Unsubscribe { code: 2500, reason: "r" };
    assert_eq!(pushed("c", &ours), peer::Push { unsubscribe, ..Default::default() });
    let message = Some(peer::Data { data: b"m".into() });
    assert_eq!(pushed("", &Push::Message { data: b"m" }), peer::Push { message, ..Default::default() });
    let ours = SubscribePush { recoverable: true, epoch: "e", offset: 3, positioned: true, data: b"d" };
    let subscribe =
        peer::Subscribe { recoverable: true, epoch: "e".into(), offset: 3, positioned: true, data: b"d".into() };
    assert_eq!(pushed("c", &Push::Subscribe(ours)), peer::Push { subscribe: Some(subscribe), ..Default::default() });
    let disconnect = Some(peer::Disconnect { code: 3001, reason: "shutdown".into(), reconnect: true });
    let ours = Push::Disconnect { code: 3001, reason: "shutdown", reconnect: true };
    assert_eq!(pushed("", &ours), peer::Push { disconnect, ..Default::default() });
    let refresh = Some(peer::Expiry { expires: true, ttl: 8 });
    assert_eq!(pushed("", &Push::Refresh(Expiry(Some(8)))), peer::Push { refresh, ..Default::default() });
}

#[test]
fn publications_of_every_size_have_their_length_before_them() {
    let mut tags = Vec::new();
    Tags::write(&mut tags, [("a", "1"), ("b", "2")]);
    let tags = Tags::from_bytes(&tags);
    let mut row = Vec::new();
    let sizes = [0, 1, 100, 127, 128, 16_383, 16_384, 100_000];
    for size in sizes {
        let data = vec![0xff; size];
        // Payloads are bytes here, whatever JSON does with them.
        let ours = WirePublication {
            data: &data,
            json_form: JsonForm::Text,
            info: Some(INFO),
            offset: u64::MAX,
            tags,
            delta: true,
            time_ms: 1,
            epoch: "e",
            version: 300,
            channel: "rooms.*",
        };
        let mut out = Vec::new();
        publication(&mut out, "room", &ours);
        let push = read(&out).push.expect("a push");
        assert_eq!(push.channel, "room");
        let tags = [("a".into(), "1".into()), ("b".into(), "2".into())].into();
        publication(&mut row, "room", &ours);
        let read = peer::Publication {
            data,
            info: Some(info()),
            offset: u64::MAX,
            tags,
            delta: true,
            time: 1,
            epoch: "e".into(),
            version: 300,
            channel: "rooms.*".into(),
        };
        assert_eq!(push.publication, Some(read));
    }
    let mut rest = &row[..];
    for _ in sizes {
        peer::Reply::decode_length_delimited(&mut rest).expect("one after the other");
    }
    assert!(rest.is_empty());
    let mut out = Vec::new();
    publication(&mut out, "", &WirePublication::default());
    assert_eq!(out, [4, 0x22, 2, 0x22, 0]);
}

#[test]
fn tags_have_both_fields_even_if_one_is_empty() {
    let mut tags = Vec::new();
    Tags::write(&mut tags, [("a", "")]);
    let mut out = Vec::new();
    publication(&mut out, "", &WirePublication { tags: Tags::from_bytes(&tags), ..Default::default() });
    assert_eq!(out, [11, 0x22, 9, 0x22, 7, 0x3a, 5, 0x0a, 1, b'a', 0x12, 0]);
}

#[test]
fn presence_reply_in_slices_equals_the_reply_in_one() {
    let names: Vec<_> = (0..300).map(|number| format!("{number:03}")).collect();
    let infos: Vec<_> = names.iter().map(|client| ClientInfo { client, ..INFO }).collect();
    for count in [0, 1, 2, 300] {
        let (mut entries, mut out) = (Vec::new(), Vec::new());
        for info in &infos[..count] {
            presence_entry(&mut entries, info);
        }
        presence_head(&mut out, 9, entries.len());
        out.extend_from_slice(&entries);
        let read = read(&out);
        assert_eq!(peer::Reply { id: 0, ..read.clone() }, read_reply(9, &Reply::Presence(&infos[..count])));
        assert_eq!((read.id, read.presence.expect("there").presence.len()), (9, count));
    }
}
