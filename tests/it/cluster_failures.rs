//! What two Corecast nodes on one Redis do when Redis fails: every acknowledged publication is delivered once and in order, or
//! the client is told that some are lost; and no client is closed.

use std::time::Duration;

use crate::common::brokers::{Node, RedisKind, RedisRelay, RedisServer};
use crate::common::follow::{Followed, Follower, Published, Publisher, wait_out};
use crate::common::until;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The configuration of nodes on this Redis.
pub fn config(address: &str) -> Value {
    json!({
        "engine": {"type": "redis", "redis": {"address": address}},
        "client": {"allowed_origins": ["*"], "insecure": true, "recovery_max_publication_limit": 10_000},
        "http_api": {},
        "channel": {"without_namespace": {
            "history_size": 10_000,
            "history_ttl": "300s",
            "force_recovery": true,
            "presence": true,
        }},
    })
}

/// Two nodes, with a publisher and two followers of a channel: one at the node of the publisher, one at the other.
pub struct Service {
    pub nodes: Vec<Node>,
    pub followers: Vec<Follower>,
    pub publisher: Publisher,
}

impl Service {
    pub fn start(config: &Value) -> Self {
        Self::with(config, &[], 0)
    }

    pub fn with(config: &Value, settings: &[(&str, &str)], padding: usize) -> Self {
        let nodes: Vec<_> = (0..2).map(|_| Node::corecast_with(config, settings)).collect();
        let followers = nodes.iter().map(|node| Follower::start(&[node.client], "news")).collect();
        let publisher = Publisher::with_padding(&[nodes[0].api_address], "news", padding);
        publisher.wait_for_more(20);
        Self { nodes, followers, publisher }
    }

    /// Publishes until both followers get what is published, waits until everything has arrived, and checks it.
    pub fn finish(self) -> (Published, Vec<Followed>) {
        self.publisher.wait_for_more(20);
        let mark = *self.publisher.so_far().acknowledged.last().expect("some are acknowledged");
        self.followers.iter().for_each(|follower| follower.wait_for_later_than(mark));
        let published = self.publisher.finish();
        let last = *published.acknowledged.last().expect("some are acknowledged");
        self.followers.iter().for_each(|follower| follower.wait_for(last));
        let finish = |follower: Follower| follower.finish(&published.acknowledged);
        let followed: Vec<_> = self.followers.into_iter().map(finish).collect();
        for follower in &followed {
            assert!(follower.closed.is_empty(), "closed: {:?}", follower.closed);
        }
        (published, followed)
    }
}

/// Nothing was lost, as far as the server says.
pub fn expect_recovered(followed: &[Followed]) {
    for follower in followed {
        assert_eq!(follower.unrecovered, 0, "an outage is no loss");
    }
}

fn ready(node: &Node) -> (u16, String) {
    node.server().http("GET", "/health/ready", &[], "")
}

fn wait_until_ready(node: &Node) {
    until(|| format!("it does not become ready: {:?}", ready(node)), || (ready(node).0 == 200).then_some(()));
}

/// Its cause.
fn wait_until_not_ready(node: &Node) -> String {
    until(|| "it stays ready".into(), || Some(ready(node)).filter(|(status, _)| *status == 503)).1
}

#[test]
fn redis_that_is_killed_and_comes_back_with_its_data_loses_nothing() {
    let mut redis = RedisServer::start(RedisKind::Redis);
    let service = Service::start(&config(&redis.address()));
    redis.kill();
    service.publisher.wait_for_failures(2);
    redis.start_again();
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn redis_that_comes_back_without_its_data_is_a_loss_of_which_clients_learn() {
    let mut redis = RedisServer::start(RedisKind::Redis);
    let service = Service::start(&config(&redis.address()));
    redis.kill();
    service.publisher.wait_for_failures(2);
    redis.start_again_empty();
    service.finish();
}

#[test]
fn redis_that_is_stopped_for_a_moment_only_delays() {
    let redis = RedisServer::start(RedisKind::Valkey);
    let service = Service::start(&config(&redis.address()));
    redis.pause();
    wait_out(Duration::from_secs(2));
    redis.resume();
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn redis_that_is_stopped_for_longer_is_an_outage_without_losses() {
    let redis = RedisServer::start(RedisKind::Redis);
    let service = Service::start(&config(&redis.address()));
    redis.pause();
    service.publisher.wait_for_failures(1);
    wait_until_not_ready(&service.nodes[0]);
    redis.resume();
    let nodes: Vec<_> = service.nodes.iter().collect();
    nodes.into_iter().for_each(wait_until_ready);
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
#[ignore = "it takes over a minute"]
fn redis_that_is_stopped_for_a_minute_is_an_outage_without_losses() {
    let redis = RedisServer::start(RedisKind::Redis);
    let service = Service::start(&config(&redis.address()));
    redis.pause();
    wait_out(Duration::from_secs(60));
    redis.resume();
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn subscribers_that_lose_their_connections_again_and_again_miss_nothing() {
    let redis = RedisServer::start(RedisKind::Redis);
    let service = Service::start(&config(&redis.address()));
    for _ in 0..20 {
        let _: u32 = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        service.publisher.wait_for_more(5);
    }
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn output_buffer_that_is_too_small_for_redis_loses_nothing() {
    let redis = RedisServer::start(RedisKind::Redis);
    let _: String = redis.ask(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 65536 0"]);
    let service = Service::with(&config(&redis.address()), &[], 50_000);
    // Nothing is read for a while, so Redis closes the connection of this node when the buffers of the kernel are full.
    service.nodes[1].signal(Signal::STOP);
    let pub_sub_connections = || redis.ask::<String>(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count();
    until(|| "Redis keeps the connection".into(), || (pub_sub_connections() == 1).then_some(()));
    service.nodes[1].signal(Signal::CONT);
    service.nodes[1].server().wait_for_log("connection for PUB/SUB is lost");
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn redis_that_accepts_and_does_not_deliver_is_found_by_the_probe() {
    let redis = RedisServer::start(RedisKind::Redis);
    let relay = RedisRelay::start(redis.port);
    let service = Service::with(&config(&relay.address()), &[("broker.probe_interval", "1s")], 0);
    let nodes: Vec<_> = service.nodes.iter().collect();
    nodes.iter().for_each(|node| wait_until_ready(node));
    let connections = relay.connections();
    relay.swallow_messages(true);
    for node in &nodes {
        let cause = wait_until_not_ready(node);
        assert!(cause.contains("redis"), "{cause}");
    }
    assert!(relay.swallowed() > 0);
    // It tries with new connections.
    until(|| "no new connection".into(), || (relay.connections() > connections).then_some(()));
    relay.swallow_messages(false);
    nodes.iter().for_each(|node| wait_until_ready(node));
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn flushed_redis_begins_a_new_epoch() {
    let redis = RedisServer::start(RedisKind::Redis);
    let service = Service::start(&config(&redis.address()));
    let epoch = |node: &Node| node.api("history", &json!({"channel": "news"}))["epoch"].clone();
    let before = epoch(&service.nodes[0]);
    let () = redis.ask(&["FLUSHALL"]);
    service.publisher.wait_for_more(20);
    let after = epoch(&service.nodes[0]);
    assert_ne!(before, after);
    let removed: u32 = redis.ask(&["DEL", "centrifugo.stream.meta.news"]);
    assert_eq!(removed, 1, "the layout is that of the original");
    service.publisher.wait_for_more(20);
    service.nodes[1].server().wait_for_log("it is unknown how many publications are lost");
    let last = epoch(&service.nodes[1]);
    assert!(last != after && last != before);
    let (_, followed) = service.finish();
    // What was published before the flush and not delivered yet is gone, and each client is told.
    assert!(followed.iter().all(|follower| follower.unsubscribed > 0 && follower.unrecovered > 0), "{followed:?}");
}

#[test]
fn redis_whose_memory_is_full_refuses_and_loses_nothing() {
    let redis = RedisServer::start(RedisKind::Redis);
    let service = Service::with(&config(&redis.address()), &[], 2000);
    let set = |value: &str| redis.ask::<String>(&["CONFIG", "SET", "maxmemory", value]);
    let policy: Vec<String> = redis.ask(&["CONFIG", "GET", "maxmemory-policy"]);
    assert_eq!(policy[1], "noeviction");
    let used: usize = redis.info("used_memory").and_then(|bytes| bytes.parse().ok()).expect("a number");
    set(&(used + 200_000).to_string());
    service.publisher.wait_for_failures(5);
    let refused = || service.nodes[0].server().metric("corecast_publications_refused_total", "");
    assert!(refused() >= 5);
    assert!(service.nodes[0].server().metric("corecast_broker_refusals_total", "rejected") >= 5);
    set("0");
    let (published, followed) = service.finish();
    expect_recovered(&followed);
    assert!(published.failed >= 5);
    for follower in &followed {
        assert_eq!(follower.unsubscribed, 0, "subscribers notice nothing");
        assert_eq!(follower.numbers.len(), published.acknowledged.len(), "what was refused was not made");
    }
}

#[test]
fn redis_without_memory_refuses_or_forgets_and_clients_learn_of_it() {
    let redis = RedisServer::start(RedisKind::Redis);
    let service = Service::with(&config(&redis.address()), &[], 2000);
    let set = |name: &str, value: &str| redis.ask::<String>(&["CONFIG", "SET", name, value]);
    let used: usize = redis.info("used_memory").and_then(|bytes| bytes.parse().ok()).expect("a number");
    set("maxmemory", &(used + 200_000).to_string());
    service.publisher.wait_for_failures(3);
    set("maxmemory-policy", "allkeys-random");
    service.publisher.wait_for_more(20);
    set("maxmemory", "0");
    service.finish();
}

#[test]
fn redis_that_is_blocked_for_three_seconds_only_delays() {
    let redis = RedisServer::start(RedisKind::Redis);
    let service = Service::start(&config(&redis.address()));
    let before: Vec<_> = service.nodes.iter().map(|node| node.server().memory_bytes()).collect();
    redis.block_for(Duration::from_secs(3));
    service.publisher.wait_for_more(20);
    for (node, before) in service.nodes.iter().zip(before) {
        let after = node.server().memory_bytes();
        assert!(after < before + (64 << 20), "{before} bytes became {after}");
    }
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn publication_whose_answer_is_lost_is_made_once() {
    let redis = RedisServer::start(RedisKind::Redis);
    let relay = RedisRelay::start(redis.port);
    let service = Service::start(&config(&relay.address()));
    for cut in 1..=5 {
        relay.cut_next_answer();
        until(|| "no answer was cut".into(), || (relay.cut() >= cut).then_some(()));
        service.publisher.wait_for_more(3);
    }
    let unanswered = service.nodes[0].server().metric("corecast_broker_refusals_total", "unanswered");
    let (published, followed) = service.finish();
    expect_recovered(&followed);
    // One that loses its second answer, too, stays without one.
    assert!(unanswered < 5, "{unanswered} of 5 were not asked for again");
    assert!(followed[0].numbers.len() >= published.acknowledged.len());
    let kept: usize = redis.ask(&["XLEN", "centrifugo.stream.news"]);
    assert_eq!(kept, followed[0].numbers.len(), "none twice");
}
