//! Lost connections, slow servers, full mailboxes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use super::harness::{Driver, HISTORY, Options, data, kept};
use super::servers::Server;
use crate::broker::control::{ControlMessage, control_bus};
use crate::broker::message::{Answer, BrokerError, Event, PublishRequest, RequestKind, SubscribeSerial};
use crate::config::{Endpoint, Redis};
use crate::pubsub::HistoryOptions;

#[test]
fn killed_connection_is_made_again_and_every_channel_told() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    let channels: Vec<String> = (0..1500).map(|n| format!("c{n}")).collect();
    for channel in &channels {
        driver.send(channel, RequestKind::Subscribe(SubscribeSerial(1)));
    }
    for channel in &channels {
        driver.wait_subscribed(channel, 1);
    }
    let () = server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    for channel in &channels {
        driver.wait_subscribed(channel, 1);
    }
    driver.publish("c7", data("back")).expect("it is published");
    assert_eq!(driver.wait_publication("c7").0, "back");
    assert!(driver.take_seen().iter().all(|event| !matches!(event, Event::SubscribeDelayed { .. })));
    let resubscribes: u64 = driver.stats.connections().iter().map(|c| c.resubscribes.load(Ordering::Relaxed)).sum();
    assert_eq!(resubscribes, 1500);
}

#[test]
fn publications_survive_the_loss_of_their_connection_exactly_once() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    let history = HistoryOptions { size: 5000, ..HISTORY };
    let mut made = Vec::new();
    for round in 0..6 {
        driver.wait_until_healthy();
        let publish = |n: u32| {
            let text = format!("{round}.{n}");
            let ticket = driver.publish_later("a", PublishRequest { history, ..data(&text) });
            (text, ticket)
        };
        let mut tickets: Vec<_> = (0..100).map(publish).collect();
        let () = server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        tickets.extend((100..200).map(publish));
        for (text, ticket) in tickets {
            match driver.answer(ticket) {
                Ok(Answer::Published(published)) => made.push((published.position.expect("it has one").offset, text)),
                Err(BrokerError::Unavailable) => (),
                other => panic!("{other:?}"),
            }
        }
    }
    driver.wait_until_healthy();
    let history = driver.history("a", None, -1, false);
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    let kept: Vec<_> = history.records.iter().map(|record| (record.offset, text(&record.data))).collect();
    assert_eq!(kept, made, "what was acknowledged is there once, in order, and nothing else");
    assert!(made.len() > 300, "{}", made.len());
}

#[test]
fn server_that_is_away_refuses_at_once_and_delays_subscriptions() {
    let mut server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    driver.subscribe("a", 1);
    server.kill();
    // The connection may still count as up for a moment.
    while driver.publish("a", data("x")).is_ok() {}
    driver.send("b", RequestKind::Subscribe(SubscribeSerial(2)));
    driver.wait_for("delay", |event| match event {
        Event::SubscribeDelayed { channel, serial: SubscribeSerial(2) } => (&**channel == "b").then_some(()),
        _ => None,
    });
    assert_eq!(driver.publish("a", kept("x")), Err(BrokerError::Unavailable));
    server.start_again();
    driver.wait_subscribed("a", 1);
    driver.wait_subscribed("b", 2);
    driver.wait_until_healthy();
    driver.publish("b", data("y")).expect("it is back");
    assert_eq!(driver.wait_publication("b").0, "y");
}

#[test]
fn stopped_server_leaves_the_outcome_unknown_and_then_serves() {
    let server = Server::start("redis-server");
    let mut config = server.config();
    config.shards[0].io_timeout = Duration::from_millis(700);
    let driver = Driver::ready(config);
    server.signal(Signal::STOP);
    assert_eq!(driver.publish("a", data("x")), Err(BrokerError::OutcomeUnknown));
    server.signal(Signal::CONT);
    driver.wait_until_healthy();
    driver.subscribe("a", 1);
    driver.publish("a", data("y")).or_else(|_| driver.publish("a", data("y"))).expect("it serves");
}

#[test]
fn subscription_is_kept_for_a_moment_after_it_is_left() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    let subscribers = || -> Vec<(String, u32)> { server.ask(&["PUBSUB", "NUMSUB", "centrifugo.client.a"]) };
    driver.subscribe("a", 1);
    driver.send("a", RequestKind::Unsubscribe);
    driver.subscribe("a", 2);
    assert_eq!(subscribers()[0].1, 1);
    driver.publish("a", data("x")).expect("it is published");
    assert_eq!(driver.wait_publication("a").0, "x");
    driver.send("a", RequestKind::Unsubscribe);
    wait_until("the subscription ends", || subscribers()[0].1 == 0);
    driver.subscribe("a", 3);
    assert_eq!(subscribers()[0].1, 1);
}

#[test]
fn shard_without_room_is_told_of_the_gap_when_it_has_room() {
    let server = Server::start("redis-server");
    let options = Options { events_bytes_max: 2000, ..Options::default() };
    let driver = Driver::start_with(server.config(), options);
    driver.wait_until_healthy();
    driver.subscribe("a", 1);
    for n in 0..100 {
        let () = server.ask(&["PUBLISH", "centrifugo.client.a", &format!("\u{22}\u{2}{n:02}")]);
    }
    let dropped = || -> u64 { driver.stats.connections().iter().map(|c| c.dropped.load(Ordering::Relaxed)).sum() };
    wait_until("publications are dropped", || dropped() > 0);
    driver.wait_subscribed("a", 1);
    driver.publish("a", data("after")).expect("it is published");
    while driver.wait_publication("a").0 != "after" {}
}

#[test]
fn request_queue_that_is_full_refuses_at_once() {
    let server = Server::start("redis-server");
    let options = Options { queue_bytes_max: 20_000, ..Options::default() };
    let driver = Driver::start_with(server.config(), options);
    driver.wait_until_healthy();
    server.signal(Signal::STOP);
    let big = "x".repeat(5000);
    let tickets: Vec<_> = (0..20).map(|_| driver.publish_later("a", data(&big))).collect();
    assert_eq!(driver.answer(tickets[19]).expect_err("there is no room"), BrokerError::Unavailable);
    server.signal(Signal::CONT);
    driver.answer(tickets[0]).expect("the first ones are carried out");
}

#[test]
fn control_messages_reach_all_servers_or_one() {
    let server = Server::start("redis-server");
    let (mut one, one_port) = control_bus("uid-1");
    let (mut two, two_port) = control_bus("uid-2");
    let start = |port| Driver::start_with(server.config(), Options { control: Some(port), ..Options::default() });
    let drivers = (start(one_port), start(two_port));
    drivers.0.wait_until_healthy();
    drivers.1.wait_until_healthy();
    let message = |to: Option<&str>, payload: &[u8]| ControlMessage { to: to.map(Into::into), payload: payload.into() };
    one.outgoing.try_send(message(None, b"all")).expect("there is room");
    one.outgoing.try_send(message(Some("uid-2"), b"\0two")).expect("there is room");
    two.outgoing.try_send(message(Some("uid-1"), b"one")).expect("there is room");
    let take = |bus: &mut crate::broker::control::ControlBus| bus.incoming.blocking_recv();
    assert_eq!((take(&mut two), take(&mut two)), (Some(b"all".to_vec()), Some(b"\0two".to_vec())));
    let mut got = [take(&mut one), take(&mut one)];
    got.sort();
    assert_eq!(got, [Some(b"all".to_vec()), Some(b"one".to_vec())]);
}

pub(super) fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !check() {
        assert!(start.elapsed() < super::servers::PATIENCE, "{what}: not yet");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn request_before_the_server_is_known_is_answered() {
    // Nothing listens: the first request may find no connection registered yet.
    for _ in 0..20 {
        let config = Redis::at(Endpoint::Tcp("127.0.0.1".into(), 1));
        let driver = Driver::start(config);
        assert!(matches!(driver.publish("a", data("x")), Err(BrokerError::Unavailable)));
    }
}
