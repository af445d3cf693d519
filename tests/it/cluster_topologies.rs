//! Failures of the ways in which several Redis servers, several services and several nodes are combined.

use crate::cluster_failures::{Service, config, expect_recovered};
use crate::common::brokers::{Node, RedisCluster, RedisKind, RedisServer, SentinelGroup};
use crate::common::follow::{Follower, Publisher};
use crate::common::{SocketPath, until};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn sentinels_that_promote_the_replica_are_followed() {
    let group = SentinelGroup::start(RedisKind::Redis);
    let service = Service::start(&config(&group.address()));
    let old = group.master();
    group.fail_over();
    until(
        || "the old master does not become a replica".into(),
        || group.servers[old].info("role").filter(|role| role == "slave"),
    );
    // Everything is at the new master: also what is subscribed to.
    until(
        || "the subscriptions stay at the old master".into(),
        || {
            let [_, count]: [redis::Value; 2] = group.servers[1 - old]
                .ask::<Vec<redis::Value>>(&["PUBSUB", "NUMSUB", "centrifugo.client.news"])
                .try_into()
                .ok()?;
            (count == redis::Value::Int(2)).then_some(())
        },
    );
    let (_, followed) = service.finish();
    // The replica may have lacked the last publications: then the clients are told (checked by the followers).
    assert!(followed.iter().all(|follower| follower.closed.is_empty()));
}

#[test]
fn master_that_dies_is_replaced_by_its_replica() {
    let mut group = SentinelGroup::start(RedisKind::Valkey);
    let service = Service::start(&config(&group.address()));
    let old = group.master();
    group.servers[old].kill();
    group.wait_for_master(1 - old);
    service.publisher.wait_for_more(20);
    group.servers[old].start_again();
    until(
        || "the old master does not become a replica".into(),
        || group.servers[old].info("role").filter(|role| role == "slave"),
    );
    service.finish();
}

/// With sharded PUB/SUB.
fn sharded(cluster: &RedisCluster) -> Value {
    let mut config = config(&cluster.address());
    config["engine"]["redis"]["sharded_pub_sub_partitions"] = json!(16);
    config
}

/// The slot in which the keys of the channel "news" are.
fn slot_of_news(cluster: &RedisCluster) -> u16 {
    let found = cluster.masters.iter().flat_map(|master| master.ask::<Vec<String>>(&["KEYS", "*stream.meta*"]));
    let key = found.into_iter().find(|key| key.contains("news")).expect("there is a history");
    cluster.slot_of(&key)
}

#[test]
fn cluster_that_moves_a_slot_under_load_loses_nothing() {
    let cluster = RedisCluster::start(RedisKind::Redis);
    for config in [config(&cluster.address()), sharded(&cluster)] {
        let service = Service::start(&config);
        let slot = slot_of_news(&cluster);
        for step in 1..=2 {
            cluster.move_slot(slot, (cluster.owner_of(slot) + step) % cluster.masters.len());
            service.publisher.wait_for_more(20);
        }
        let (_, followed) = service.finish();
        expect_recovered(&followed);
        cluster.masters.iter().for_each(|master| master.ask::<()>(&["FLUSHALL"]));
    }
}

#[test]
fn cluster_master_that_dies_and_comes_back_loses_nothing() {
    let mut cluster = RedisCluster::start(RedisKind::Redis);
    let service = Service::start(&sharded(&cluster));
    let owner = cluster.owner_of(slot_of_news(&cluster));
    cluster.masters[owner].kill();
    service.publisher.wait_for_failures(2);
    cluster.masters[owner].start_again();
    cluster.wait_until_ok();
    let (_, followed) = service.finish();
    expect_recovered(&followed);
}

#[test]
fn cluster_master_that_dies_is_replaced_by_its_replica() {
    let mut cluster = RedisCluster::start_with_replicas(RedisKind::Redis);
    let mut config = sharded(&cluster);
    config["engine"]["redis"]["use_precomputed_partition_tags"] = json!(true);
    config["engine"]["redis"]["group_sharded_pub_sub_by_node"] = json!(true);
    let service = Service::start(&config);
    let owner = cluster.owner_of(slot_of_news(&cluster));
    // The replica has what is acknowledged so far. What the master acknowledges from here on may be lost, and clients are told.
    let _: u32 = cluster.masters[owner].ask(&["WAIT", "1", "5000"]);
    cluster.masters[owner].kill();
    until(
        || "the replica does not take over".into(),
        || cluster.replicas[owner].info("role").filter(|role| role == "master"),
    );
    service.finish();
}

#[test]
fn presence_is_read_from_replicas_and_from_the_master_while_there_is_none() {
    let mut cluster = RedisCluster::start_with_replicas(RedisKind::Valkey);
    let mut config = config(&cluster.address());
    let redis = &mut config["engine"]["redis"];
    redis["replica_client"] = json!({"enabled": true});
    for setting in ["presence_read_from_replica", "presence_hash_field_ttl"] {
        redis[setting] = json!(true);
    }
    let node = Node::corecast(&config);
    node.wait_until_publishing("news");
    let (mut client, _) = node.connect(&json!({}));
    client.subscribe("news");
    let members = || {
        let answer = node.call("presence", &json!({"channel": "news"}));
        answer["result"]["presence"].as_object().map_or(0, serde_json::Map::len)
    };
    let reads = |servers: &[RedisServer]| -> u64 { servers.iter().map(|server| server.calls("hgetall")).sum() };
    let is_read = || members() == 1 && reads(&cluster.replicas) > 0;
    until(|| "no replica is read".into(), || is_read().then_some(()));
    let at_masters = reads(&cluster.masters);
    (0..5).for_each(|_| assert_eq!(members(), 1));
    assert_eq!(reads(&cluster.masters), at_masters, "a replica answers");
    cluster.replicas.iter_mut().for_each(RedisServer::kill);
    until(|| "nothing answers without replicas".into(), || (members() == 1).then_some(()));
}

#[test]
fn channels_answers_while_a_node_is_stopped() {
    let redis = RedisServer::start(RedisKind::Redis);
    let config = config(&redis.address());
    let mut nodes: Vec<_> = (0..3).map(|_| Node::corecast(&config)).collect();
    let wait_for_nodes = |node: &Node, count: usize| {
        until(
            || format!("it does not know {count} nodes: {}", node.api("info", &json!({}))),
            || (node.api("info", &json!({}))["nodes"].as_array()?.len() == count).then_some(()),
        );
    };
    nodes.iter().for_each(|node| wait_for_nodes(node, 3));
    let _followers: Vec<_> = nodes.iter().map(|node| Follower::start(&[node.client], "news")).collect();
    assert_eq!(nodes[0].api("channels", &json!({}))["channels"]["news"]["num_clients"], json!(3));
    nodes[2].signal(Signal::STOP);
    // It waits for the stopped node within its bound, and then it is an error, or the node is known to be gone.
    until(
        || "channels does not answer".into(),
        || {
            (nodes[0].call("channels", &json!({}))["result"]["channels"]["news"]["num_clients"] == json!(2))
                .then_some(())
        },
    );
    wait_for_nodes(&nodes[0], 2);
    nodes[2].signal(Signal::CONT);
    wait_for_nodes(&nodes[0], 3);
    until(
        || "the node that is back does not count".into(),
        || {
            (nodes[0].call("channels", &json!({}))["result"]["channels"]["news"]["num_clients"] == json!(3))
                .then_some(())
        },
    );
    // Nodes that turn over: whatever is known of the dead, no call waits for them for long.
    for _ in 0..3 {
        let node = Node::corecast(&config);
        wait_for_nodes(&nodes[0], nodes.len() + 1);
        nodes.push(node);
        let second = nodes.remove(1);
        second.kill();
        wait_for_nodes(&nodes[0], nodes.len());
        nodes[0].api("channels", &json!({}));
    }
}

#[test]
fn services_with_two_prefixes_on_one_redis_do_not_meet() {
    let redis = RedisServer::start(RedisKind::Redis);
    let with_prefix = |prefix: &str| {
        let mut config = config(&redis.address());
        config["engine"]["redis"]["prefix"] = json!(prefix);
        config
    };
    let nodes = [
        Node::corecast(&with_prefix("one")),
        Node::corecast(&with_prefix("two")),
        Node::centrifugo(&with_prefix("three")),
    ];
    let followers: Vec<_> = nodes.iter().map(|node| Follower::start(&[node.client], "news")).collect();
    let publishers: Vec<_> = nodes.iter().map(|node| Publisher::start(&[node.api_address], "news")).collect();
    publishers.iter().for_each(|publisher| publisher.wait_for_more(30));
    for ((publisher, follower), node) in publishers.into_iter().zip(followers).zip(&nodes) {
        let published = publisher.finish();
        follower.wait_for(*published.acknowledged.last().expect("some"));
        let followed = follower.finish(&published.acknowledged);
        assert_eq!(followed.numbers, published.acknowledged, "each gets its own, and nothing else");
        assert_eq!(node.api("info", &json!({}))["nodes"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn node_of_three_that_hands_over_loses_and_doubles_nothing() {
    let redis = RedisServer::start(RedisKind::Redis);
    let config = config(&redis.address());
    let socket = SocketPath::new("cluster-handover");
    let handover = [("handover.socket", socket.text()), ("handover.trial_time", "0s"), ("shutdown.window", "1s")];
    let nodes = [Node::corecast(&config), Node::corecast(&config)];
    let mut old = Node::corecast_with(&config, &handover);
    old.server().wait_for_log("handover: a new process can take over at ");
    let at: Vec<_> = nodes.iter().map(|node| node.client).chain([old.client]).collect();
    let followers: Vec<_> = at.iter().map(|at| Follower::start(&[*at], "news")).collect();
    let publisher = Publisher::start(&[nodes[0].api_address, nodes[1].api_address], "news");
    publisher.wait_for_more(20);
    let new = old.take_over(&config, &handover);
    old.wait_for_exit();
    publisher.wait_for_more(50);
    let published = publisher.finish();
    let last = *published.acknowledged.last().expect("some are acknowledged");
    followers.iter().for_each(|follower| follower.wait_for(last));
    let followed: Vec<_> = followers.into_iter().map(|follower| follower.finish(&published.acknowledged)).collect();
    expect_recovered(&followed);
    assert_eq!(
        (followed[0].closed.len(), followed[1].closed.len()),
        (0, 0),
        "the clients of the others notice nothing"
    );
    assert_eq!(published.failed, 0);
    assert_eq!(new.client, old.client);
}
