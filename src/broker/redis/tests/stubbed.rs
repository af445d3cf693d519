//! Lost answers, lost requests, and messages that Redis does not deliver.

use std::time::Duration;

use super::failures::wait_until;
use super::harness::{Driver, HISTORY, data, kept};
use super::servers::Server;
use super::stub::{Mode, Stub};
use crate::broker::message::{Answer, BrokerError, PublishRequest};
use crate::broker::stats::LinkState;
use crate::pubsub::HistoryOptions;

#[test]
fn publication_whose_answer_or_request_is_lost_is_made_once() {
    for uses_lists in [false, true] {
        for mode in [Mode::LoseAnswer, Mode::LoseRequest] {
            let server = Server::start("redis-server");
            let stub = Stub::before(&server);
            let mut config = stub.config();
            config.history_use_lists = uses_lists;
            let driver = Driver::ready(config);
            driver.publish("a", kept("before")).expect("it is published");
            stub.set(mode);
            let ticket = driver.publish_later("a", kept("lost"));
            wait_until("the connection is cut", || stub.is(Mode::Away));
            stub.set(Mode::Pass);
            let Ok(Answer::Published(published)) = driver.answer(ticket) else { panic!("{mode:?}") };
            assert_eq!(published.position.expect("it has one").offset, 2, "{mode:?}");
            assert!(!published.is_suppressed);
            let history = driver.history("a", None, -1, false);
            let data: Vec<_> = history.records.iter().map(|record| &record.data[..]).collect();
            assert_eq!(data, [&b"before"[..], b"lost"], "{mode:?} {uses_lists}");
        }
    }
}

#[test]
fn outcome_is_unknown_if_the_history_cannot_tell() {
    let server = Server::start("redis-server");
    let stub = Stub::before(&server);
    let (driver, other) = (Driver::ready(stub.config()), Driver::ready(server.config()));
    let one = |text| PublishRequest { history: HistoryOptions { size: 1, ..HISTORY }, ..data(text) };
    stub.set(Mode::LoseAnswer);
    let ticket = driver.publish_later("a", one("lost"));
    wait_until("the connection is cut", || stub.is(Mode::Away));
    // It takes the place of the lost one.
    other.publish("a", one("other")).expect("it is published");
    stub.set(Mode::Pass);
    assert_eq!(driver.answer(ticket).expect_err("it may have been made"), BrokerError::OutcomeUnknown);
    assert_eq!(other.offsets("a", None, -1, false), [2]);
}

#[test]
fn publication_without_history_is_not_repeated() {
    let server = Server::start("redis-server");
    let stub = Stub::before(&server);
    let driver = Driver::ready(stub.config());
    stub.set(Mode::LoseAnswer);
    let keyed = PublishRequest { idempotency_key: "k".into(), ..data("x") };
    let ticket = driver.publish_later("a", keyed);
    wait_until("the connection is cut", || stub.is(Mode::Away));
    stub.set(Mode::Pass);
    assert!(driver.answer(ticket).is_ok(), "its key makes it safe to repeat");
}

#[test]
fn broker_that_does_not_deliver_is_noticed_and_named() {
    let server = Server::start("redis-server");
    let stub = Stub::before(&server);
    let mut config = stub.config();
    config.probe_interval = Some(Duration::from_millis(200));
    let driver = Driver::ready(config);
    driver.subscribe("a", 1);
    stub.set(Mode::SwallowMessages);
    let is_undelivering = || driver.stats.connections().iter().any(|c| c.state() == LinkState::Undelivering);
    wait_until("the probe is missed", is_undelivering);
    let fault = driver.stats.health().expect_err("nothing is delivered");
    assert!(fault.contains("accepts publications and does not deliver them"), "{fault}");
    driver.publish("a", kept("x")).expect("Redis accepts it");
    // The connection is made again, which tells the home shard, but does not help yet.
    driver.wait_subscribed("a", 1);
    assert!(is_undelivering());
    stub.set(Mode::Pass);
    wait_until("probes arrive again", || driver.stats.health().is_ok());
    driver.publish("a", kept("y")).expect("it is published");
    assert_eq!(driver.wait_publication("a").0, "y");
    assert!(driver.stats.connections().iter().any(|connection| connection.probe_age().is_some()));
}
