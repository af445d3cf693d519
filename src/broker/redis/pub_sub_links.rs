//! The links for PUB/SUB of a Redis shard: one, one for each partition, or one for each server of a cluster.
//!
//! One for each server: its partitions are those whose slots it has. When slots move to another server, all links end and are
//! made anew for the new servers, with all subscriptions. Each home shard is told as after a lost connection, and reads what it
//! missed. An old link has ended before a new one begins, so that no message comes twice.

use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::mpsc::{Sender, UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::command_link::LinkContext;
use super::hash::slot_of;
use super::names::Names;
use super::pub_sub_link::{Order, Orders, PubSubLink, PubSubParts};
use super::publisher::Publisher;
use super::random;
use super::service::ServiceChannels;
use super::subscriptions::Subscriber;
use super::target::Target;
use super::topology::Topology;
use crate::config::{Endpoint, Redis};

/// Orders taken from the queue at once.
const ORDERS: usize = 512;

/// What the links of a shard have in common.
pub(super) struct PubSubLinks {
    pub(super) config: Rc<Redis>,
    pub(super) context: LinkContext,
    pub(super) names: Names,
    pub(super) publisher: Publisher,
    /// Where control messages go, and the uid of this server.
    pub(super) incoming: Option<Sender<Vec<u8>>>,
    pub(super) uid: Option<Box<str>>,
    pub(super) probe_uid: String,
}

impl PubSubLinks {
    pub(super) fn probe_uid() -> String {
        format!("{:016x}", random::number())
    }

    fn probe(&self, partition: usize) -> String {
        self.names.probe(&self.probe_uid, partition)
    }

    /// The slot of a partition. `None`: PUB/SUB is not sharded.
    fn slot(&self, partition: usize) -> Option<u16> {
        self.names.is_sharded().then(|| slot_of(self.probe(partition).as_bytes()))
    }

    fn link(&self, partitions: &[usize], target: Target) -> (Orders, PubSubLink) {
        // One link of a shard listens for the server itself.
        let uid = self.uid.as_deref().filter(|_| partitions.contains(&0));
        let control = uid.map(|uid| vec![self.names.control(), self.names.node(uid)]).unwrap_or_default();
        let probes = partitions.iter().map(|&partition| self.probe(partition)).collect();
        let parts = PubSubParts {
            target,
            names: self.names.clone(),
            service: ServiceChannels { probes, control },
            publisher: self.publisher.clone(),
            probe_interval: self.config.probe_interval,
            control: self.incoming.clone(),
        };
        PubSubLink::new(parts, &self.context)
    }

    /// Starts a link for each partition. `target` takes the slot of a partition. Returns where orders go, by partition.
    pub(super) fn start_each(&self, target: impl Fn(Option<u16>) -> Target) -> Vec<Orders> {
        let start = |partition| {
            let (orders, link) = self.link(&[partition], target(self.slot(partition)));
            self.context.spawn(link.run());
            orders
        };
        (0..self.names.partitions()).map(start).collect()
    }

    /// Starts a link for each server of a cluster. Returns where orders go, by partition.
    pub(super) fn start_grouped(self, topology: Rc<Topology>) -> Vec<Orders> {
        let (orders, receiver) = unbounded_channel();
        let partitions = self.names.partitions();
        let context = self.context.clone();
        context.spawn(Groups { links: self, topology, wanted: HashMap::new() }.run(receiver));
        vec![orders; partitions]
    }
}

/// Links that are made anew when the slots of the partitions move.
struct Groups {
    links: PubSubLinks,
    topology: Rc<Topology>,
    wanted: HashMap<Box<str>, Subscriber>,
}

/// By partition; `None` if it is not known, or no server has the slot.
type Servers = Vec<Option<Endpoint>>;

impl Groups {
    /// Serves until the senders of orders are gone.
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        loop {
            let servers = self.servers();
            let mut tasks = JoinSet::new();
            let senders = self.start(&servers, &mut tasks);
            let is_over = self.serve(&mut orders, &senders, &servers).await;
            drop(senders);
            while tasks.join_next().await.is_some() {}
            if is_over {
                return;
            }
            log::info!(
                "redis cluster: partitions have moved; {} channels are subscribed to again, and are then checked for gaps",
                self.wanted.len()
            );
        }
    }

    fn servers(&self) -> Servers {
        let on_replica = self.links.config.subscribe_on_replica;
        let server = |partition| {
            let slot = self.links.slot(partition)?;
            if on_replica {
                return self.topology.replica_of(slot).map(|(endpoint, _)| endpoint);
            }
            self.topology.master_of(slot)
        };
        (0..self.links.names.partitions()).map(server).collect()
    }

    /// One link for each server. Returns where orders go, by partition.
    fn start(&self, servers: &Servers, tasks: &mut JoinSet<()>) -> Vec<Orders> {
        let mut partitions_of: Vec<(&Option<Endpoint>, Vec<usize>)> = Vec::new();
        for (partition, server) in servers.iter().enumerate() {
            match partitions_of.iter_mut().find(|(of, _)| *of == server) {
                Some((_, partitions)) => partitions.push(partition),
                None => partitions_of.push((server, vec![partition])),
            }
        }
        let mut senders: Vec<Option<Orders>> = vec![None; servers.len()];
        for (_, partitions) in partitions_of {
            let (slot, on_replica) = (self.links.slot(partitions[0]), self.links.config.subscribe_on_replica);
            let target = Target::Cluster { topology: Rc::clone(&self.topology), slot, on_replica };
            let (orders, link) = self.links.link(&partitions, target);
            tasks.spawn_local(link.run());
            partitions.into_iter().for_each(|partition| senders[partition] = Some(orders.clone()));
        }
        let senders: Vec<Orders> = senders.into_iter().flatten().collect();
        for (channel, &subscriber) in &self.wanted {
            self.send(&senders, Order::Subscribe { channel: channel.clone(), subscriber });
        }
        senders
    }

    /// Passes orders on until the servers have changed. True: there are no senders of orders any more.
    async fn serve(&mut self, orders: &mut UnboundedReceiver<Order>, senders: &[Orders], servers: &Servers) -> bool {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = orders.recv_many(&mut batch, ORDERS) => {
                    if count == 0 {
                        return true;
                    }
                    for order in batch.drain(..) {
                        self.note(&order);
                        self.send(senders, order);
                    }
                }
                () = self.topology.changed.notified() => {
                    if self.servers() != *servers {
                        return false;
                    }
                }
            }
        }
    }

    fn note(&mut self, order: &Order) {
        match order {
            Order::Subscribe { channel, subscriber } => _ = self.wanted.insert(channel.clone(), *subscriber),
            Order::Unsubscribe { channel } => _ = self.wanted.remove(channel),
        }
    }

    fn send(&self, senders: &[Orders], order: Order) {
        let (Order::Subscribe { channel, .. } | Order::Unsubscribe { channel }) = &order;
        if let Some(orders) = senders.get(self.links.names.partition_of(channel)) {
            // The link outlives its senders.
            _ = orders.send(order);
        }
    }
}
