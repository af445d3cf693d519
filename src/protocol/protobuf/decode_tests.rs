//! Commands written by prost: whole, cut at every byte, one after the other, and damaged.

use prost::Message;

use super::super::peer;
use super::*;
use crate::protocol::{Encoding, HistoryRequest, RawFilter, StreamPosition, SubscribeRequest};

fn frame(commands: &[peer::Command]) -> Vec<u8> {
    commands.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn items(frame: &[u8], start: usize) -> Vec<Result<(Command<'_>, usize), Malformed>> {
    Encoding::Protobuf.commands(frame, start).collect()
}

/// A frame with one message.
fn one(message: &[u8]) -> Vec<u8> {
    frame_of(&[message])
}

fn frame_of(messages: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    for message in messages {
        prost::encode_length_delimiter(message.len(), &mut frame).expect("room");
        frame.extend_from_slice(message);
    }
    frame
}

fn full_subscribe() -> peer::SubscribeRequest {
    peer::SubscribeRequest {
        channel: "news".into(),
        token: "t".into(),
        recover: true,
        epoch: "xyz".into(),
        offset: u64::MAX,
        data: b"\xff\0".into(),
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: "fossil".into(),
        tf: Some(peer::FilterNode { key: "k".into(), cmp: "ex".into(), ..Default::default() }),
        flag: 1 << 40,
        kind: -1,
        cursor: "c".into(),
        asc: true,
    }
}

fn full_connect() -> peer::ConnectRequest {
    let sub = peer::SubscribeRequest { recover: true, offset: 7, ..Default::default() };
    peer::ConnectRequest {
        token: "t".into(),
        data: b"\xff".into(),
        subs: [("a".into(), sub), ("".into(), Default::default())].into(),
        name: "js".into(),
        version: "5.0".into(),
        headers: [("X-A".into(), "1".into()), ("b".into(), "".into())].into(),
        flag: -1,
    }
}

/// One command of every kind, with every field.
fn every_command() -> Vec<peer::Command> {
    let named = || Some(peer::Named { name: "c".into() });
    let since = Some(peer::StreamPosition { offset: 5, epoch: "e".into() });
    let history = peer::HistoryRequest { channel: "c".into(), limit: -1, since, reverse: true };
    let publish =
        peer::PublishRequest { channel: "c".into(), data: b"\x80".into(), kind: 1, key: "k".into(), removed: true };
    let untrack = vec!["x".into()];
    let sub_refresh = peer::SubRefreshRequest { channel: "c".into(), token: "t".into(), kind: 2, untrack };
    let with = |change: fn(&mut peer::Command)| {
        let mut command = peer::Command { id: u32::MAX, ..Default::default() };
        change(&mut command);
        command
    };
    let mut all = vec![
        with(|c| c.connect = Some(full_connect())),
        with(|c| c.subscribe = Some(full_subscribe())),
        peer::Command { id: 3, unsubscribe: named(), ..Default::default() },
        peer::Command { id: 4, publish: Some(publish), ..Default::default() },
        peer::Command { id: 5, presence: named(), ..Default::default() },
        peer::Command { id: 6, presence_stats: named(), ..Default::default() },
        peer::Command { id: 7, history: Some(history), ..Default::default() },
        with(|c| c.send = Some(peer::Data { data: b"1".into() })),
        with(|c| c.rpc = Some(peer::RpcRequest { data: b"2".into(), method: "m".into() })),
        peer::Command { id: 8, refresh: named(), ..Default::default() },
        peer::Command { id: 9, sub_refresh: Some(sub_refresh), ..Default::default() },
        with(|c| c.ping = Some(peer::Nothing {})),
        peer::Command::default(),
    ];
    all.push(peer::Command { send: Some(peer::Data::default()), ..Default::default() });
    all
}

#[test]
fn commands_with_every_field_are_read() {
    let commands = every_command();
    let frame = frame(&commands);
    let bodies: Vec<_> = items(&frame, 0).into_iter().map(|item| item.expect("well formed").0.body).collect();
    let c = Cow::Borrowed("c");
    let Body::Connect(connect) = &bodies[0] else { panic!() };
    assert_eq!((&*connect.token, connect.data, &*connect.name, &*connect.version), ("t", &b"\xff"[..], "js", "5.0"));
    assert_eq!(connect.flag, -1);
    let sub = SubscribeRequest { recover: true, offset: 7, ..Default::default() };
    let subs: Vec<_> = connect.subs.map(|sub| sub.expect("well formed")).collect();
    assert_eq!(subs, [("".into(), SubscribeRequest::default()), ("a".into(), sub)]);
    let headers: Vec<_> = connect.headers.map(|header| header.expect("well formed")).collect();
    assert_eq!(headers, [("X-A".into(), "1".into()), ("b".into(), "".into())]);

    let tf = full_subscribe().tf.expect("there").encode_to_vec();
    let subscribe = SubscribeRequest {
        channel: "news".into(),
        token: "t".into(),
        recover: true,
        epoch: "xyz".into(),
        offset: u64::MAX,
        data: b"\xff\0",
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: "fossil".into(),
        tf: RawFilter::Protobuf(&tf),
        flag: 1 << 40,
        kind: -1,
    };
    assert!(matches!(subscribe.tf.filter(), Ok(Some(_))));
    let since = Some(StreamPosition { offset: 5, epoch: "e".into() });
    let expected = [
        Body::Subscribe(subscribe),
        Body::Unsubscribe { channel: c.clone() },
        Body::Publish { channel: c.clone(), data: b"\x80", kind: 1 },
        Body::Presence { channel: c.clone() },
        Body::PresenceStats { channel: c.clone() },
        Body::History(HistoryRequest { channel: c.clone(), limit: -1, since, reverse: true }),
        Body::Send { data: b"1" },
        Body::Rpc { method: "m".into(), data: b"2" },
        Body::Refresh { token: c.clone() },
        Body::SubRefresh { channel: c, token: "t".into(), kind: 2 },
        Body::Unknown,
        Body::Pong,
        Body::Send { data: b"" },
    ];
    assert_eq!(bodies[1..], expected);
    let Body::Publish { channel: Cow::Borrowed(channel), .. } = &bodies[3] else { panic!("a copy") };
    assert!(frame.as_ptr_range().contains(&channel.as_ptr()));
}

#[test]
fn frame_reading_resumes_after_any_command() {
    let commands = every_command();
    let frame = frame(&commands);
    let whole = items(&frame, 0);
    assert_eq!(whole.len(), commands.len());
    let mut start = 0;
    for (index, item) in whole.iter().enumerate() {
        assert_eq!(items(&frame, start), whole[index..]);
        let (command, end) = item.as_ref().expect("well formed");
        assert_eq!(
            (command.id, *end),
            (commands[index].id, start + commands[index].encode_length_delimited_to_vec().len())
        );
        start = *end;
    }
    assert_eq!((start, items(&frame, start).len()), (frame.len(), 0));
    assert_eq!(items(b"", 0), [Err(Malformed)]);
    assert_eq!(items(&[0], 0), [Ok((Command { id: 0, body: Body::Pong }, 1))]);
    assert_eq!(items(&[0, 0], 1).len(), 1);
}

#[test]
fn frame_cut_at_any_byte_is_malformed_and_so_is_a_message_except_between_fields() {
    for command in every_command() {
        let whole = frame(std::slice::from_ref(&command));
        for end in 0..whole.len() {
            assert_eq!(items(&whole[..end], 0), [Err(Malformed)], "{end}");
            let row = [&[2, 8, 1], &whole[..end]].concat();
            assert_eq!(items(&row, 0).len(), if end == 0 { 1 } else { 2 });
        }
        let message = command.encode_to_vec();
        for end in 0..message.len() {
            let read = items(&one(&message[..end]), 0)[0].is_ok();
            assert_eq!(read, peer::Command::decode(&message[..end]).is_ok(), "{end}");
        }
    }
}

#[test]
fn command_without_an_id_is_a_pong() {
    let subscribe = peer::Command { subscribe: Some(full_subscribe()), ..Default::default() };
    for message in [subscribe.encode_to_vec(), vec![8, 0], vec![0x5a, 0], vec![0x82, 1, 0]] {
        assert_eq!(items(&one(&message), 0)[0], Ok((Command { id: 0, body: Body::Pong }, message.len() + 1)));
    }
}

#[test]
fn bodies_count_in_the_order_of_the_protocol_and_the_last_of_repeated_fields() {
    let bodies = |message: &[u8]| match items(&one(message), 0).remove(0) {
        Ok((Command { id: 2, body }, _)) => format!("{body:?}"),
        other => panic!("{other:?}"),
    };
    let id = &[8, 2][..];
    let (send, rpc, publish) = (&[0x62, 0][..], &[0x6a, 0][..], &[0x3a, 3, 0x0a, 1, b'x'][..]);
    assert!(bodies(&[send, rpc, id].concat()).starts_with("Rpc"));
    assert!(bodies(&[id, rpc, send].concat()).starts_with("Rpc"));
    assert!(bodies(&[rpc, publish, id, send].concat()).starts_with("Publish"));
    let later = &[0x3a, 6, 0x0a, 1, b'y', 0x0a, 1, b'z'][..];
    assert!(bodies(&[&[8, 1], publish, later, id].concat()).contains("\"z\""));
}

#[test]
fn messages_that_are_malformed_are_refused() {
    for (fault, message) in [
        ("an id as bytes", &[0x0a, 1, 1][..]),
        ("an id of 32 bits", &[0x0d, 1, 0, 0, 0]),
        ("a body as a number", &[8, 2, 0x28, 1]),
        ("a body as a group", &[8, 2, 0x2b, 0x2c]),
        ("a channel as a number", &[8, 2, 0x2a, 2, 0x08, 1]),
        ("a channel that is no text", &[8, 2, 0x2a, 3, 0x0a, 1, 0xff]),
        ("an offset as bytes", &[8, 2, 0x2a, 3, 0x3a, 1, 1]),
        ("a body that does not count", &[8, 2, 0x32, 0, 0x3a, 1, 0xff]),
        ("a position as a number", &[8, 2, 0x52, 2, 0x40, 1]),
        ("a filter as a number", &[8, 2, 0x2a, 2, 0x68, 1]),
        ("a map's entry as a number", &[8, 2, 0x22, 2, 0x18, 1]),
        ("an unknown field cut short", &[8, 2, 0xa2, 1, 5, 1]),
    ] {
        assert_eq!(items(&one(message), 0), [Err(Malformed)], "{fault}");
        assert_eq!(items(&frame_of(&[message, &[8, 3]]), 0), [Err(Malformed)], "{fault}, and more");
    }
    assert_eq!(items(&[0xff; 11], 0), [Err(Malformed)]);
    assert_eq!(items(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0], 0), [Err(Malformed)]);
}

#[test]
fn maps_that_are_malformed_fail_when_they_are_used() {
    for (fault, entry) in [
        ("a key that is no text", &[0x0a, 1, 0xff][..]),
        ("a key as a number", &[0x08, 1]),
        ("a value as a number", &[0x10, 1]),
        ("a value cut short", &[0x12, 3, 0]),
        ("no fields", &[0xff]),
    ] {
        for number in [0x1a, 0x32] {
            let request = [&[number, 0, number, entry.len() as u8], entry, &[number, 0]].concat();
            let message = [&[8, 1, 0x22, request.len() as u8][..], &request].concat();
            let frame = one(&message);
            let Ok((Command { body: Body::Connect(request), .. }, _)) = items(&frame, 0).remove(0) else { panic!() };
            let read: Vec<_> = match number {
                0x1a => request.subs.map(|sub| sub.is_ok()).collect(),
                _ => request.headers.map(|header| header.is_ok()).collect(),
            };
            assert_eq!(read, [true, false], "{fault}");
        }
    }
}

/// Reads everything, maps included. Returns false if something is malformed.
fn drained(frame: &[u8]) -> bool {
    Encoding::Protobuf.commands(frame, 0).all(|item| match item.map(|(command, _)| command.body) {
        Ok(Body::Connect(mut request)) => request.subs.all(|sub| sub.is_ok()) && request.headers.all(|sub| sub.is_ok()),
        Ok(Body::Subscribe(request)) => request.tf.filter() != Err(crate::protocol::FilterError::Malformed),
        other => other.is_ok(),
    })
}

#[test]
fn messages_that_are_damaged_do_not_panic_and_are_read_as_prost_reads_them() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let samples: Vec<_> = every_command().iter().map(Message::encode_to_vec).collect();
    for _ in 0..20_000 {
        let mut message = random.choice(&samples).expect("some").clone();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..=message.len());
            match random.u8(..4) {
                0 => message.insert(at, random.u8(..)),
                1 => message.truncate(at.max(1)),
                2 => message.extend_from_slice(random.choice(&samples).expect("some")),
                _ if at < message.len() => message[at] ^= 1 << random.u8(..8),
                _ => (),
            }
        }
        let ours = drained(&one(&message));
        if peer::Command::decode(&*message).is_ok() {
            assert!(ours, "{message:02x?}");
        }
    }
    for _ in 0..20_000 {
        let garbage: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
        drained(&garbage);
        drained(&one(&garbage));
    }
}
