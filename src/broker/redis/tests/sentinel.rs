//! A master, its replica and a sentinel.

use std::io::Write;
use std::path::PathBuf;

use super::failures::wait_until;
use super::harness::{Driver, data, kept};
use super::servers::Server;
use crate::broker::message::{BrokerError, RequestKind};
use crate::config::{Endpoint, Redis, RedisTopology};

struct Group {
    servers: [Server; 2],
    ports: [u16; 2],
    sentinel: Server,
    sentinel_port: u16,
    /// The port of the first master.
    monitored: u16,
}

fn sentinel_file(master_port: u16) -> PathBuf {
    std::env::temp_dir().join(format!("corecast-sentinel-{master_port}.conf"))
}

impl Drop for Group {
    fn drop(&mut self) {
        _ = std::fs::remove_file(sentinel_file(self.monitored));
    }
}

impl Group {
    fn start() -> Self {
        let (master, master_port) = Server::start_tcp("redis-server", |_, _| Vec::new());
        let (replica, replica_port) = Server::start_tcp("redis-server", |_, _| {
            vec!["--replicaof".into(), "127.0.0.1".into(), master_port.to_string()]
        });
        let linked = || replica.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up");
        wait_until("the replica is linked", linked);
        let config = sentinel_file(master_port);
        let mut file = std::fs::File::create(&config).expect("the temporary folder takes files");
        writeln!(file, "sentinel monitor mine 127.0.0.1 {master_port} 1").expect("it is written");
        writeln!(file, "sentinel down-after-milliseconds mine 300").expect("it is written");
        writeln!(file, "sentinel failover-timeout mine 2000").expect("it is written");
        drop(file);
        let path = config.to_str().expect("a path of text").to_owned();
        let (sentinel, sentinel_port) = Server::start_sentinel(&path);
        wait_until("the sentinel knows the replica", || {
            let replicas: Vec<redis::Value> = sentinel.ask(&["SENTINEL", "REPLICAS", "mine"]);
            replicas.len() == 1
        });
        let ports = [master_port, replica_port];
        Self { servers: [master, replica], ports, sentinel, sentinel_port, monitored: master_port }
    }

    fn config(&self) -> Redis {
        let endpoint = Endpoint::Tcp("127.0.0.1".into(), self.sentinel_port);
        let mut config = Redis::at(endpoint.clone());
        config.shards[0].topology = RedisTopology::Sentinel {
            sentinels: vec![Endpoint::Unix("/nonexistent/sentinel".into()), endpoint],
            master_name: "mine".into(),
            login: Default::default(),
            tls: None,
        };
        config
    }

    fn master_port(&self) -> u16 {
        let address: (String, u16) = self.sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mine"]);
        address.1
    }
}

#[test]
fn connections_follow_the_master() {
    let mut group = Group::start();
    let driver = Driver::ready(group.config());
    driver.subscribe("a", 1);
    let before = driver.publish("a", kept("1")).expect("it is published").position.expect("it has one");
    assert_eq!(driver.wait_publication("a").0, "1");
    let replicated = || group.servers[1].ask::<bool>(&["EXISTS", "centrifugo.stream.a"]);
    wait_until("the replica has it", replicated);

    group.servers[0].kill();
    wait_until("the replica is the master", || group.master_port() == group.ports[1]);
    driver.wait_subscribed("a", 1);
    driver.wait_until_healthy();
    let after = driver.publish("a", kept("2")).expect("it is published").position.expect("it has one");
    assert_eq!((after.epoch, after.offset), (before.epoch, 2));
    assert_eq!(driver.wait_publication("a").0, "2");

    // The old master comes back as a replica, and both change places while their connections stay open.
    group.servers[0].start_again();
    // A failover breaks the connections of those who ask.
    let linked = || {
        let answer = group.servers[0].try_ask::<String>(&["INFO", "replication"]);
        answer.is_ok_and(|answer| answer.contains("master_link_status:up"))
    };
    wait_until("the old master is a replica", linked);
    wait_until("the sentinel permits a failover", || {
        group.sentinel.try_ask::<String>(&["SENTINEL", "FAILOVER", "mine"]).is_ok()
    });
    driver.wait_subscribed("a", 1);
    wait_until("the old master is the master", || group.master_port() == group.ports[0]);
    let mut published = driver.publish("a", kept("3"));
    wait_until("it is published", || {
        if published == Err(BrokerError::Unavailable) {
            published = driver.publish("a", kept("3"));
        }
        published.is_ok()
    });
    driver.wait_until_healthy();
    assert_eq!(driver.offsets("a", None, -1, false).len(), 3);
}

#[test]
fn replicas_deliver_and_answer_reads_of_presence() {
    let group = Group::start();
    let mut config = group.config();
    (config.subscribe_on_replica, config.presence_read_from_replica) = (true, true);
    let driver = Driver::ready(config);
    driver.subscribe("a", 1);
    let at_replica: Vec<(String, u32)> = group.servers[1].ask(&["PUBSUB", "NUMSUB", "centrifugo.client.a"]);
    assert_eq!(at_replica[0].1, 1);
    driver.publish("a", data("x")).expect("it is published");
    assert_eq!(driver.wait_publication("a").0, "x");
    let info = super::harness::client_info(1, "ann");
    driver.send("a", RequestKind::PresenceSet { client: [1; 16], client_info: info });
    assert_eq!(driver.stats.connections().len(), 3);
}
