//! Three servers as a Redis Cluster.

use std::collections::BTreeSet;

use super::failures::wait_until;
use super::harness::{Driver, client_info, data, kept};
use super::servers::Server;
use crate::broker::message::{Answer, BrokerError, RequestKind, SubscribeSerial};
use crate::broker::redis::hash::slot_of;
use crate::config::{Endpoint, Redis, RedisTopology};

struct Cluster {
    servers: Vec<(Server, u16)>,
}

impl Cluster {
    fn start() -> Self {
        let servers: Vec<_> = (0..3)
            .map(|_| {
                Server::start_tcp("redis-server", |_, bus| {
                    let words = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port"];
                    words.map(str::to_owned).into_iter().chain([bus.to_string()]).collect()
                })
            })
            .collect();
        let cluster = Self { servers };
        for (index, range) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].into_iter().enumerate() {
            let () = cluster.servers[index].0.ask(&["CLUSTER", "ADDSLOTSRANGE", range.0, range.1]);
        }
        let bus = |server: &Server| -> String {
            let config: Vec<String> = server.ask(&["CONFIG", "GET", "cluster-port"]);
            config[1].clone()
        };
        for (server, port) in &cluster.servers[1..] {
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus(server)].map(str::to_owned);
            let words: Vec<&str> = meet.iter().map(String::as_str).collect();
            let () = cluster.servers[0].0.ask(&words);
        }
        wait_until("the cluster is complete", || {
            cluster.servers.iter().all(|(server, _)| {
                let info: String = server.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        cluster
    }

    fn config(&self) -> Redis {
        let endpoint = Endpoint::Tcp("127.0.0.1".into(), self.servers[1].1);
        let mut config = Redis::at(endpoint.clone());
        config.shards[0].topology = RedisTopology::Cluster(vec![endpoint]);
        config
    }

    fn id(&self, index: usize) -> String {
        self.servers[index].0.ask(&["CLUSTER", "MYID"])
    }

    fn owner(&self, slot: u16) -> usize {
        usize::from(slot > 5460) + usize::from(slot > 10_922)
    }

    /// Moves a slot with its keys, as `redis-cli` does.
    fn migrate(&self, slot: u16, from: usize, to: usize) {
        let (number, ids) = (slot.to_string(), [self.id(from), self.id(to)]);
        let (source, target) = (&self.servers[from].0, &self.servers[to].0);
        let () = target.ask(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &ids[0]]);
        let () = source.ask(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &ids[1]]);
        let port = self.servers[to].1.to_string();
        loop {
            let keys: Vec<String> = source.ask(&["CLUSTER", "GETKEYSINSLOT", &number, "100"]);
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let () = source.ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
            }
        }
        let () = target.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &ids[1]]);
        let () = source.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &ids[1]]);
        let third = 3 - from - to;
        let () = self.servers[third].0.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &ids[1]]);
    }
}

fn ready(config: Redis) -> Driver {
    let driver = Driver::ready(config);
    // The first publication waits until the slots are known.
    wait_until("the slots are known", || driver.publish("probe", data("x")).is_ok());
    driver
}

#[test]
fn channels_of_all_slots_are_served() {
    let cluster = Cluster::start();
    let mut plain = cluster.config();
    plain.shards[0].topology = RedisTopology::Single(Endpoint::Tcp("127.0.0.1".into(), cluster.servers[0].1));
    plain.prefix = "recognized".into();
    let sharded = Redis { sharded_pub_sub_partitions: 16, prefix: "sharded".into(), ..cluster.config() };
    let tagged = Redis { use_precomputed_partition_tags: true, prefix: "tagged".into(), ..sharded.clone() };
    let grouped = Redis { group_sharded_pub_sub_by_node: true, prefix: "grouped".into(), ..tagged.clone() };
    for config in [plain, cluster.config(), sharded, tagged, grouped] {
        let prefix = config.prefix.clone();
        let driver = ready(config);
        let channels: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
        for channel in &channels {
            driver.send(channel, RequestKind::Subscribe(SubscribeSerial(1)));
        }
        for channel in &channels {
            driver.wait_subscribed(channel, 1);
        }
        for n in 0..50 {
            for channel in &channels {
                let publish = if n % 2 == 0 { kept(&n.to_string()) } else { data(&n.to_string()) };
                driver.publish_later(channel, publish);
            }
        }
        for channel in &channels {
            let kept: Vec<_> = (0..25).map(|_| driver.wait_publication_with(channel, true)).collect();
            assert_eq!(kept, (0..50).step_by(2).map(|n: u32| n.to_string()).collect::<Vec<_>>(), "{prefix} {channel}");
            let bare: Vec<_> = (0..25).map(|_| driver.wait_publication_with(channel, false)).collect();
            assert_eq!(bare, (1..50).step_by(2).map(|n: u32| n.to_string()).collect::<Vec<_>>(), "{prefix} {channel}");
            assert_eq!(driver.offsets(channel, None, -1, false).len(), 25);
            driver.send(channel, RequestKind::PresenceSet { client: [1; 16], client_info: client_info(1, "ann") });
            assert_eq!(driver.presence_stats(channel), (1, 1));
        }
    }
}

#[test]
fn publications_keep_their_order_while_their_slot_moves() {
    let cluster = Cluster::start();
    for sharded_pub_sub_partitions in [0, 16] {
        let prefix = format!("p{sharded_pub_sub_partitions}");
        let driver = ready(Redis { sharded_pub_sub_partitions, prefix, ..cluster.config() });
        let tag = if sharded_pub_sub_partitions == 0 { "news" } else { "3" };
        // "news" is of partition 3 of 16.
        let slot = slot_of(tag.as_bytes());
        let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
        driver.subscribe("news", 1);
        // All that is published while the slot moves, however long that takes.
        let history = crate::pubsub::HistoryOptions { size: 1_000_000, ..super::harness::HISTORY };
        let mut tickets = Vec::new();
        let mut publish = |count: u32| {
            for _ in 0..count {
                let n = tickets.len().to_string();
                let publish = crate::broker::message::PublishRequest { history, ..data(&n) };
                tickets.push((n, driver.publish_later("news", publish)));
            }
        };
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| cluster.migrate(slot, from, to));
            while !moving.is_finished() {
                publish(20);
                wait_until_written(&driver);
            }
            publish(200);
        });
        let mut made = Vec::new();
        for (n, ticket) in tickets {
            match driver.answer(ticket) {
                Ok(Answer::Published(published)) => made.push((published.position.expect("it has one").offset, n)),
                Err(BrokerError::Unavailable) => (),
                other => panic!("{other:?}"),
            }
        }
        let read = driver.history("news", None, -1, false);
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        let kept: Vec<_> = read.records.iter().map(|record| (record.offset, text(&record.data))).collect();
        assert_eq!(kept, made, "once, in order, and nothing else");
        // Whatever was missed meanwhile, the home shard is told, and from then on everything arrives.
        wait_until("deliveries go on", || {
            driver.publish("news", data("after")).expect("it is published");
            driver.take_seen().iter().any(|event| {
                matches!(event, crate::broker::message::Event::Publication { record, .. } if record.data == "after")
            })
        });
    }

    fn wait_until_written(driver: &Driver) {
        driver.answer(driver.publish_later("other", data("x"))).ok();
    }
}

#[test]
fn grouped_partitions_have_one_connection_for_each_server_and_follow_their_slots() {
    let cluster = Cluster::start();
    let config = Redis {
        sharded_pub_sub_partitions: 16,
        use_precomputed_partition_tags: true,
        group_sharded_pub_sub_by_node: true,
        ..cluster.config()
    };
    let driver = ready(config);
    let connections = |servers: &[(Server, u16)]| -> Vec<usize> {
        let count = |server: &Server| server.ask::<String>(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count();
        servers.iter().map(|(server, _)| count(server)).collect()
    };
    wait_until("each server has one connection", || connections(&cluster.servers) == [1, 1, 1]);
    let channels: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    channels.iter().for_each(|channel| driver.send(channel, RequestKind::Subscribe(SubscribeSerial(1))));
    channels.iter().for_each(|channel| driver.wait_subscribed(channel, 1));
    driver.send("c99", RequestKind::Unsubscribe);
    // "ms3" is the tag of the first partition, whose link also hears control messages.
    let slot = slot_of(b"ms3");
    let from = cluster.owner(slot);
    cluster.migrate(slot, from, (from + 1) % 3);
    // Every home shard is told that something may be missing, and from then on everything arrives.
    channels[..99].iter().for_each(|channel| driver.wait_subscribed(channel, 1));
    for channel in &channels {
        wait_until("it is published", || driver.publish(channel, kept("after")).is_ok());
    }
    channels[..99].iter().for_each(|channel| assert_eq!(driver.wait_publication(channel).0, "after"));
    wait_until("each server has one connection", || connections(&cluster.servers) == [1, 1, 1]);
    let is_left = |event: &crate::broker::message::Event| matches!(event, crate::broker::message::Event::Publication { channel, .. } if **channel == *"c99");
    assert!(!driver.take_seen().iter().any(is_left));
}

#[test]
fn control_messages_cross_the_cluster() {
    let cluster = Cluster::start();
    let (one, one_port) = crate::broker::control::control_bus("uid-1");
    let (mut two, two_port) = crate::broker::control::control_bus("uid-2");
    let start = |control, sharded_pub_sub_partitions| {
        let config = Redis { sharded_pub_sub_partitions, ..cluster.config() };
        Driver::start_with(config, super::harness::Options { control: Some(control), ..Default::default() })
    };
    let drivers = [start(one_port, 0), start(two_port, 16)];
    drivers.iter().for_each(Driver::wait_until_healthy);
    for payload in [&b"1"[..], b"2", b"3"] {
        let message = crate::broker::control::ControlMessage { to: None, payload: payload.into() };
        one.outgoing.try_send(message).expect("there is room");
    }
    let got: BTreeSet<_> = (0..3).map(|_| two.incoming.blocking_recv().expect("it comes")).collect();
    assert_eq!(got, [b"1".to_vec(), b"2".to_vec(), b"3".to_vec()].into());
}
