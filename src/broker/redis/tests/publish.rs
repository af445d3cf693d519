//! Publications: what other servers read of them, and what comes back.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::harness::{Driver, HISTORY, client_info, data, kept};
use super::servers::{PROGRAMS, Server};
use crate::broker::message::{BrokerError, Event, PublishRequest, RequestKind};
use crate::protocol::Tags;
use crate::pubsub::HistoryOptions;

#[test]
fn publications_come_back_in_order_with_their_positions() {
    for program in PROGRAMS {
        let server = Server::start(program);
        let driver = Driver::ready(server.config());
        driver.subscribe("news", 1);
        let tickets: Vec<_> = (1..=300).map(|n| driver.publish_later("news", kept(&n.to_string()))).collect();
        let mut epochs = Vec::new();
        for (ticket, n) in tickets.into_iter().zip(1..) {
            let Ok(crate::broker::message::Answer::Published(published)) = driver.answer(ticket) else { panic!() };
            let position = published.position.expect("the channel has a history");
            assert_eq!((position.offset, published.is_suppressed), (n, false), "{program}");
            epochs.push(position.epoch);
        }
        for n in 1..=300 {
            let (data, offset, epoch) = driver.wait_publication("news");
            assert_eq!((data, offset, epoch), (n.to_string().into(), n, Some(epochs[0])), "{program}");
        }
        epochs.dedup();
        assert_eq!((epochs.len(), epochs[0].text().as_str().len()), (1, 8));
    }
}

#[test]
fn layout_is_that_of_the_original() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    let idempotent = PublishRequest { idempotency_key: "k".into(), version: 3, version_epoch: "v".into(), ..kept("x") };
    driver.publish("a", idempotent).expect("it is published");
    let mut keys: Vec<String> = server.ask(&["KEYS", "*"]);
    keys.sort();
    assert_eq!(keys, ["centrifugo.result.a.k", "centrifugo.stream.a", "centrifugo.stream.meta.a"]);
    let meta: BTreeMap<String, String> = server.ask(&["HGETALL", "centrifugo.stream.meta.a"]);
    let epoch = meta["e"].clone();
    let expected = [("e", &*epoch), ("s", "1"), ("v", "3"), ("ve", "v")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(meta, BTreeMap::from(expected));
    let result: BTreeMap<String, String> = server.ask(&["HGETALL", "centrifugo.result.a.k"]);
    assert_eq!(result, BTreeMap::from([("e", &*epoch), ("s", "1")].map(|(k, v)| (k.into(), v.into()))));
    let ttl = |key: &str| -> u64 { server.ask(&["TTL", key]) };
    assert!((290..=300).contains(&ttl("centrifugo.stream.a")) && (290..=300).contains(&ttl("centrifugo.result.a.k")));
    assert!((3590..=3600).contains(&ttl("centrifugo.stream.meta.a")));
    let entries: Vec<(String, BTreeMap<String, Vec<u8>>)> = server.ask(&["XRANGE", "centrifugo.stream.a", "-", "+"]);
    assert_eq!((entries.len(), &*entries[0].0), (1, "1-0"));
    // Field 4, which is the data, is first.
    assert!(entries[0].1["d"].starts_with(b"\x22\x01x"));
}

#[test]
fn publication_is_read_with_all_its_parts() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    driver.subscribe("a", 1);
    let mut tags = Vec::new();
    Tags::write(&mut tags, [("k", "v"), ("l", "")]);
    let info = client_info(7, "ann");
    for history in [HISTORY, HistoryOptions::default()] {
        for use_delta in [false, true] {
            let (client_info, tags) = (info.clone(), tags.clone().into());
            let publish = PublishRequest { client_info, tags, version: 9, use_delta, history, ..data("{}") };
            let version = if use_delta { 10 } else { 9 };
            driver.publish("a", PublishRequest { version, ..publish }).expect("it is published");
            let record = driver.wait_for("publication", |event| match event {
                Event::Publication { record, .. } => Some(record.clone()),
                _ => None,
            });
            let parts = (&*record.data, record.client_info.as_deref(), &*record.tags, record.version);
            assert_eq!(parts, (&b"{}"[..], Some(&*info), &*tags_of(), version));
        }
    }

    fn tags_of() -> Bytes {
        let mut tags = Vec::new();
        Tags::write(&mut tags, [("k", "v"), ("l", "")]);
        tags.into()
    }
}

#[test]
fn key_or_version_that_is_known_suppresses_a_publication() {
    for (program, lists) in [("redis-server", false), ("valkey-server", false), ("redis-server", true)] {
        let server = Server::start(program);
        let mut config = server.config();
        config.history_use_lists = lists;
        let driver = Driver::ready(config);
        let publish = |publish| {
            let published = driver.publish("a", publish).expect("it is answered");
            (published.position.map(|position| position.offset), published.is_suppressed)
        };
        let keyed = |key: &str| PublishRequest { idempotency_key: key.into(), ..kept("x") };
        assert_eq!(publish(keyed("1")), (Some(1), false));
        assert_eq!(publish(keyed("2")), (Some(2), false));
        assert_eq!(publish(keyed("1")), (Some(1), true));
        let bare = |key: &str| PublishRequest { idempotency_key: key.into(), ..data("x") };
        assert_eq!(publish(bare("3")), (None, false));
        assert_eq!(publish(bare("3")), (None, true));
        if lists {
            continue;
        }
        let versioned = |version, epoch: &str| PublishRequest { version, version_epoch: epoch.into(), ..kept("x") };
        assert_eq!(publish(versioned(5, "")), (Some(3), false));
        assert_eq!(publish(versioned(5, "")), (Some(3), true));
        assert_eq!(publish(versioned(6, "a")), (Some(4), false));
        assert_eq!(publish(versioned(6, "a")), (Some(4), true));
        assert_eq!(publish(versioned(1, "b")), (Some(5), false), "another epoch of versions");
        assert_eq!(publish(versioned(1, "")), (Some(5), true));
    }
}

#[test]
fn join_and_leave_carry_the_client() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    driver.subscribe("a", 1);
    let info = client_info(1, "ann");
    for is_join in [true, false] {
        driver.send("a", RequestKind::JoinLeave { is_join, client_info: info.clone() });
        driver.wait_for("join or leave", |event| match event {
            Event::JoinLeave { channel, is_join: of, client_info } => {
                (&**channel == "a" && *of == is_join && *client_info == info).then_some(())
            }
            _ => None,
        });
    }
}

#[test]
fn messages_that_cannot_be_read_are_counted_and_skipped() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    driver.subscribe("a", 1);
    for message in ["__p1:x:y__", "__d1:1:ep:999:", "__", "\u{7f}\u{7f}", "__j__\u{7f}"] {
        let () = server.ask(&["PUBLISH", "centrifugo.client.a", message]);
    }
    driver.publish("a", data("ok")).expect("it is published");
    assert_eq!(driver.wait_publication("a").0, "ok");
    let malformed: u64 = driver
        .stats
        .connections()
        .iter()
        .map(|connection| connection.malformed.load(std::sync::atomic::Ordering::Relaxed))
        .sum();
    assert_eq!(malformed, 5);
}

#[test]
fn command_that_redis_rejects_is_refused_with_the_reason() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    let () = server.ask(&["SET", "centrifugo.stream.meta.a", "x"]);
    let error = driver.publish("a", kept("x")).expect_err("the key is of another type");
    assert!(matches!(&error, BrokerError::Refused(reason) if reason.contains("WRONGTYPE")), "{error}");
    driver.publish("b", kept("x")).expect("the connection serves on");
}

#[test]
fn scripts_that_redis_forgets_are_sent_again_in_order() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    driver.subscribe("a", 1);
    let mut tickets = Vec::new();
    for n in 0..600 {
        if n % 100 == 50 {
            let () = server.ask(&["SCRIPT", "FLUSH"]);
        }
        tickets.push(driver.publish_later("a", kept(&n.to_string())));
    }
    for ticket in tickets {
        driver.answer(ticket).expect("it is published");
    }
    let order: Vec<_> = (0..600).map(|_| driver.wait_publication("a").0).collect();
    assert_eq!(order, (0..600).map(|n: u32| Bytes::from(n.to_string())).collect::<Vec<_>>());
}
