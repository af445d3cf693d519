//! A Redis Cluster of three masters, which share the slots evenly, with or without a replica of each.

use super::{BUS_PORT_OFFSET, RedisKind, RedisServer};
use crate::common::until;

const MASTERS: u16 = 3;
const SLOTS: u16 = 16_384;

pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
    /// None, or one of each master, in their order.
    pub replicas: Vec<RedisServer>,
}

impl RedisCluster {
    pub fn start(kind: RedisKind) -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let masters: Vec<_> = (0..MASTERS).map(|_| RedisServer::start_with(kind, &arguments)).collect();
        for (at, master) in (0..).zip(&masters) {
            let epoch = (at + 1).to_string();
            let () = master.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let slots: Vec<String> = (slots_of(at)).map(|slot| slot.to_string()).collect();
            let mut command = vec!["CLUSTER", "ADDSLOTS"];
            command.extend(slots.iter().map(String::as_str));
            let () = master.ask(&command);
        }
        for other in &masters[1..] {
            let (port, bus) = (other.port.to_string(), (other.port + BUS_PORT_OFFSET).to_string());
            let () = masters[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let cluster = Self { masters, replicas: Vec::new() };
        cluster.wait_until_ok();
        cluster
    }

    pub fn start_with_replicas(kind: RedisKind) -> Self {
        let mut cluster = Self::start(kind);
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        for master in &cluster.masters {
            let replica = RedisServer::start_with(kind, &arguments);
            let (port, bus) = (master.port.to_string(), (master.port + BUS_PORT_OFFSET).to_string());
            let () = replica.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            let id: String = master.ask(&["CLUSTER", "MYID"]);
            until(
                || "the replica does not know its master".into(),
                || replica.try_ask::<String>(&["CLUSTER", "REPLICATE", &id]).ok(),
            );
            until(
                || format!("the replica does not follow: {:?}", replica.info("master_link_status")),
                || replica.info("master_link_status").filter(|status| status == "up"),
            );
            cluster.replicas.push(replica);
        }
        cluster.wait_until_ok();
        cluster
    }

    /// As a value of `engine.redis.address`.
    pub fn address(&self) -> String {
        let (first, others) = self.masters.split_first().expect("three");
        let others: Vec<_> = others.iter().map(|other| format!("addr=127.0.0.1:{}", other.port)).collect();
        format!("redis+cluster://127.0.0.1:{}?{}", first.port, others.join("&"))
    }

    /// Waits until each master reports every slot and every other master.
    pub fn wait_until_ok(&self) {
        let nodes = self.masters.len() + self.replicas.len();
        for master in &self.masters {
            until(
                || format!("the cluster does not form: {:?}", master.try_ask::<String>(&["CLUSTER", "INFO"])),
                || {
                    let info: String = master.try_ask(&["CLUSTER", "INFO"]).ok()?;
                    let holds = |line: &str| info.lines().any(|one| one == line);
                    (holds("cluster_state:ok") && holds(&format!("cluster_known_nodes:{nodes}"))).then_some(())
                },
            );
        }
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        self.masters[0].ask(&["CLUSTER", "KEYSLOT", key])
    }

    /// The number of the master that has this slot.
    pub fn owner_of(&self, slot: u16) -> usize {
        let has_it = |master: &RedisServer| {
            let ranges: Vec<(u16, u16, redis::Value)> = master
                .ask::<Vec<Vec<redis::Value>>>(&["CLUSTER", "SLOTS"])
                .into_iter()
                .map(|range| {
                    let number = |at: usize| redis::from_redis_value_ref::<u16>(&range[at]).expect("a slot");
                    (number(0), number(1), range[2].clone())
                })
                .collect();
            let id: String = master.ask(&["CLUSTER", "MYID"]);
            ranges
                .iter()
                .any(|(first, last, owner)| (*first..=*last).contains(&slot) && format!("{owner:?}").contains(&id))
        };
        self.masters.iter().position(has_it).expect("every slot has an owner")
    }

    /// Moves a slot with its keys to another master, as `redis-cli --cluster reshard` does.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.owner_of(slot);
        let (source, target) = (&self.masters[from], &self.masters[to]);
        let (source_id, target_id): (String, String) =
            (source.ask(&["CLUSTER", "MYID"]), target.ask(&["CLUSTER", "MYID"]));
        let (slot, port) = (slot.to_string(), target.port.to_string());
        let () = target.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]);
        let () = source.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]);
        loop {
            let keys: Vec<String> = source.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                break;
            }
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            let _: String = source.ask(&command);
        }
        let () = target.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
        for other in self.masters.iter().filter(|other| other.port != target.port) {
            let () = other.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
        }
    }
}

fn slots_of(master: u16) -> std::ops::Range<u16> {
    let start = |at: u16| (u32::from(SLOTS) * u32::from(at) / u32::from(MASTERS)) as u16;
    start(master)..start(master + 1)
}
