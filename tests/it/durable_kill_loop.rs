//! A server with a durable log that is killed again and again, under publishers and under clients that recover: what was
//! acknowledged is there once and in order, and every client that comes back has all of it.

use std::net::SocketAddr;

use crate::common::follow::{Follower, Publisher};
use crate::common::log_dir::LogDir;
use crate::common::{Server, server_command};
use rustix::process::Signal;
use serde_json::json;

/// Rounds of each durability.
const ROUNDS: u64 = 25;
const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];

/// Small segments, so that the rounds also meet seals, checkpoints and removals.
fn start(log: &LogDir, durability: &str, at: Option<(SocketAddr, SocketAddr)>) -> Server {
    let dirs = log.dirs();
    Server::spawn(
        server_command(at, "2"),
        &[
            ("durable.enabled", "true"),
            ("durable.data_dirs", &*dirs),
            ("durable.segment_size", "1MiB"),
            ("durable.checkpoint_interval", "1s"),
            ("channel.without_namespace.durability", durability),
            ("channel.without_namespace.history_size", "100000"),
            ("channel.without_namespace.history_ttl", "1h"),
            ("client.recovery_max_publication_limit", "10000"),
            ("client.queue_max_size", "16777216"),
        ],
    )
}

fn kill_loop(durability: &str, rounds: u64) {
    let log = LogDir::new(&format!("kill-{durability}"));
    let mut server = start(&log, durability, None);
    let at = (server.client, server.admin);
    let followers = CHANNELS.map(|channel| Follower::start(&[at.0], channel));
    let publishers = CHANNELS.map(|channel| Publisher::with_padding(&[at.1], channel, 2000));
    for round in 0..rounds {
        // The kill meets another moment of the log's work in each round.
        publishers[round as usize % CHANNELS.len()].wait_for_more(1 + (round as usize * 7) % 19);
        server.signal(Signal::KILL);
        server.wait_for_exit();
        server = start(&log, durability, Some(at));
    }
    publishers.iter().for_each(|publisher| publisher.wait_for_more(1));
    for ((publisher, follower), channel) in publishers.into_iter().zip(followers).zip(CHANNELS) {
        let acknowledged = publisher.finish().acknowledged;
        follower.wait_for(*acknowledged.last().expect("many"));
        let history = server.api("history", &json!({"channel": channel, "limit": -1}));
        let publications = history["result"]["publications"].as_array().expect("a history").clone();
        let offsets: Vec<_> = publications.iter().map(|one| one["offset"].as_u64().expect("an offset")).collect();
        assert!(offsets.iter().copied().eq(1..=offsets.len() as u64), "{durability}: gapless offsets");
        let mut numbers: Vec<_> = publications.iter().map(|one| one["data"]["n"].as_u64().expect("a number")).collect();
        assert!(numbers.is_sorted(), "{durability}: the order of the publisher");
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "{durability}: each once");
        let lost: Vec<_> = acknowledged.iter().filter(|number| numbers.binary_search(number).is_err()).collect();
        assert!(lost.is_empty(), "{durability}: acknowledged and lost: {lost:?}");
        let followed = follower.finish(&acknowledged);
        assert_eq!(followed.unrecovered, 0, "{durability}: a client was told that something is lost");
        println!("{durability} {channel}: {rounds} kills, {} acknowledged, {count} kept", acknowledged.len());
    }
}

#[test]
fn process_loses_nothing_to_kills() {
    kill_loop("process", ROUNDS);
}

#[test]
fn strict_loses_nothing_to_kills() {
    kill_loop("strict", ROUNDS);
}

#[test]
#[ignore = "takes many minutes"]
fn a_thousand_kills_lose_nothing() {
    for durability in ["process", "strict"] {
        kill_loop(durability, 1000);
    }
}
