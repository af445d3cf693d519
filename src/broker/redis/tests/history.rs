//! Histories: parts, positions, epochs.

use super::harness::{Driver, HISTORY, kept};
use super::servers::{PROGRAMS, Server};
use crate::broker::message::{Answer, PublishRequest, RequestKind};
use crate::pubsub::HistoryOptions;

#[test]
fn parts_of_a_history_are_read() {
    for (program, lists) in PROGRAMS.map(|program| (program, false)).into_iter().chain([("redis-server", true)]) {
        let server = Server::start(program);
        let mut config = server.config();
        config.history_use_lists = lists;
        let driver = Driver::ready(config);
        let few = HistoryOptions { size: 5, ..HISTORY };
        for n in 1..=8 {
            driver.publish("a", PublishRequest { history: few, ..kept(&n.to_string()) }).expect("it is published");
        }
        let read = |since, limit, reverse| driver.offsets("a", since, limit, reverse);
        assert_eq!(read(None, -1, false), [4, 5, 6, 7, 8], "{program} {lists}");
        assert_eq!(read(None, 2, false), [4, 5]);
        assert_eq!(read(None, 2, true), [8, 7]);
        assert_eq!(read(None, 0, false), [0; 0]);
        assert_eq!(read(Some(6), -1, false), [7, 8]);
        assert_eq!(read(Some(1), 2, false), [4, 5], "the caller sees the gap");
        assert_eq!(read(Some(8), -1, false), [0; 0]);
        assert_eq!(read(Some(u64::MAX), -1, false), [0; 0]);
        assert_eq!(read(Some(6), -1, true), [5, 4]);
        assert_eq!(read(Some(6), 1, true), [5]);
        assert_eq!(read(Some(1), -1, true), [0; 0]);
        assert_eq!(read(Some(0), -1, true), [0; 0]);
        let whole = driver.history("a", None, 1, false);
        assert_eq!((whole.top.offset, &whole.records[0].data[..]), (8, &b"4"[..]));
    }
}

#[test]
fn channel_without_publications_has_a_position() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    let first = driver.history("a", None, -1, false);
    assert_eq!((first.top.offset, first.records.len()), (0, 0));
    assert_eq!(driver.history("a", None, 0, false).top, first.top, "the epoch is kept");
    let published = driver.publish("a", kept("x")).expect("it is published");
    assert_eq!(published.position.map(|position| position.epoch), Some(first.top.epoch));
}

#[test]
fn removed_history_keeps_its_position_and_a_flushed_one_begins_anew() {
    let server = Server::start("valkey-server");
    let driver = Driver::ready(server.config());
    let before = driver.publish("a", kept("1")).expect("it is published").position.expect("it has one");
    let ticket = driver.ticket();
    driver.send("a", RequestKind::HistoryRemove { ticket });
    assert!(matches!(driver.answer(ticket), Ok(Answer::HistoryRemoved)));
    let read = driver.history("a", None, -1, false);
    assert_eq!((read.records.len(), read.top), (0, before));
    let () = server.ask(&["FLUSHALL"]);
    let after = driver.publish("a", kept("2")).expect("it is published").position.expect("it has one");
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
    // The meta hash alone is evicted: the old entries are not of the new epoch.
    driver.publish("a", kept("3")).expect("it is published");
    let () = server.ask(&["DEL", "centrifugo.stream.meta.a"]);
    let position = driver.publish("a", kept("4")).expect("it is published").position.expect("it has one");
    assert_eq!((position.offset, driver.offsets("a", None, -1, false)), (1, vec![1]));
}

#[test]
fn entries_that_cannot_be_read_are_left_out() {
    let server = Server::start("redis-server");
    let driver = Driver::ready(server.config());
    driver.publish("a", kept("1")).expect("it is published");
    let () = server.ask(&["XADD", "centrifugo.stream.a", "2-0", "d", "\u{7f}"]);
    let () = server.ask(&["XADD", "centrifugo.stream.a", "3-0", "e", "x"]);
    assert_eq!(driver.offsets("a", None, -1, false), [1]);
}
