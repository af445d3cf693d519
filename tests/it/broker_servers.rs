//! The servers that other tests start: each starts, keeps or loses its data, and comes back.

use crate::common::brokers::{NatsServer, Node, RedisCluster, RedisKind, RedisServer, SentinelGroup};
use crate::common::until;
use serde_json::json;

#[test]
fn a_redis_server_restarts_with_and_without_its_data() {
    for kind in [RedisKind::Redis, RedisKind::Redis62, RedisKind::Valkey] {
        let mut server = RedisServer::start(kind);
        let get = |server: &RedisServer| server.ask::<Option<String>>(&["GET", "a"]);
        let () = server.ask(&["SET", "a", "1"]);
        server.kill();
        server.start_again();
        assert_eq!(get(&server).as_deref(), Some("1"), "{kind:?}");
        server.stop();
        server.start_again_empty();
        assert_eq!(get(&server), None, "{kind:?}");
        assert!(std::fs::exists(server.socket_path()).expect("a readable folder"), "{kind:?}");
    }
}

#[test]
fn a_redis_server_that_is_stopped_answers_later() {
    let server = RedisServer::start(RedisKind::Valkey);
    server.pause();
    let waiting = std::thread::spawn({
        let client = redis::Client::open(server.address()).expect("an address");
        move || redis::cmd("PING").query::<String>(&mut client.get_connection().expect("the kernel accepts"))
    });
    server.resume();
    assert_eq!(waiting.join().expect("no panic"), Ok("PONG".to_owned()));
}

#[test]
fn a_cluster_moves_a_slot_with_its_keys() {
    let cluster = RedisCluster::start(RedisKind::Redis);
    let slot = cluster.slot_of("a");
    let from = cluster.owner_of(slot);
    let to = (from + 1) % cluster.masters.len();
    let () = cluster.masters[from].ask(&["SET", "a", "1"]);
    cluster.move_slot(slot, to);
    assert_eq!(cluster.owner_of(slot), to);
    assert_eq!(cluster.masters[to].ask::<String>(&["GET", "a"]), "1");
    assert!(cluster.address().matches("addr=").count() == 2);
}

#[test]
fn sentinels_promote_the_replica() {
    let mut group = SentinelGroup::start(RedisKind::Valkey);
    let first = group.master();
    let second = group.fail_over();
    assert_ne!(first, second);
    until(
        || "the old master does not become a replica".into(),
        || group.servers[first].info("role").filter(|role| role == "slave"),
    );
    group.wait_until_complete();
    group.servers[second].kill();
    assert_eq!(group.wait_for_master(first), first);
    assert_eq!((group.sentinel_ports().len(), group.address().matches("addr=").count()), (3, 2));
}

#[test]
fn a_nats_server_restarts() {
    let mut server = NatsServer::start();
    server.kill();
    server.start_again();
    server.pause();
    server.resume();
    server.stop();
    server.start_again();
    assert!(server.url().starts_with("nats://127.0.0.1:"));
}

#[test]
fn a_centrifugo_starts_with_a_configuration() {
    let redis = RedisServer::start(RedisKind::Redis);
    let engine = json!({"type": "redis", "redis": {"address": redis.address()}});
    let config = json!({"engine": engine, "client": {"insecure": true}, "http_api": {}});
    let node = Node::centrifugo(&config);
    let (mut client, reply) = node.connect(&json!({}));
    assert!(reply["client"].is_string(), "{reply}");
    client.subscribe("news");
    node.api("publish", &json!({"channel": "news", "data": 1}));
    assert_eq!(client.publication().1, 1);
    assert!(node.log().contains("serving"), "{}", node.log());
    node.kill();
}
