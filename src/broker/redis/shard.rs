//! One Redis shard of a broker thread: the links to it, and which of them a request goes to.

use std::rc::Rc;

use tokio::sync::mpsc::Sender;
use tokio::task::{JoinHandle, spawn_local};

use super::command_link::{CommandLink, Commander, LinkContext};
use super::commands::Commands;
use super::dial::{Dialer, Expect};
use super::job::Job;
use super::names::{Names, Tagging};
use super::pub_sub_link::{Order, Orders, PubSubLink, PubSubParts};
use super::random;
use super::service::ServiceChannels;
use super::subscriptions::Subscriber;
use super::target::Target;
use crate::broker::message::{Request, RequestKind};
use crate::config::{Redis, RedisTopology};

pub(super) struct Shard {
    commander: Commander,
    orders: Option<Orders>,
}

/// What a shard is made of.
pub(super) struct ShardArgs<'a> {
    pub(super) config: &'a Redis,
    /// Which of `config.shards`.
    pub(super) index: usize,
    pub(super) context: &'a LinkContext,
    pub(super) has_pub_sub: bool,
    /// Where control messages go, and the uid of this server.
    pub(super) incoming: Option<Sender<Vec<u8>>>,
    pub(super) uid: Option<&'a str>,
}

impl Shard {
    pub(super) fn start(args: ShardArgs<'_>, tasks: &mut Vec<JoinHandle<()>>) -> Self {
        let ShardArgs { config, index, context, has_pub_sub, incoming, uid } = args;
        let shard = &config.shards[index];
        let names = Names::new(&config.prefix, Tagging::None, config.history_use_lists);
        let dialer = Rc::new(Dialer::new(shard));
        let endpoint = match &shard.topology {
            RedisTopology::Single(endpoint) => endpoint.clone(),
            RedisTopology::Sentinel { sentinels, .. } => sentinels[0].clone(),
            RedisTopology::Cluster(endpoints) => endpoints[0].clone(),
        };
        let target = Target::Server { dialer, endpoint, expect: Expect::Any };
        let commands = Rc::new(Commands::new(names.clone(), config));
        let (commander, link) = CommandLink::new(target.clone(), commands, context);
        tasks.push(spawn_local(link.run()));
        let orders = has_pub_sub.then(|| {
            let control = uid.map(|uid| vec![names.control(), names.node(uid)]).unwrap_or_default();
            let probe_uid = format!("{:016x}", random::number());
            let service = ServiceChannels { probes: vec![names.probe(&probe_uid, 0)], control };
            let parts = PubSubParts {
                target,
                names,
                service,
                commander: commander.clone(),
                probe_interval: config.probe_interval,
                control: incoming,
            };
            let (orders, link) = PubSubLink::new(parts, context);
            tasks.push(spawn_local(link.run()));
            orders
        });
        Self { commander, orders }
    }

    pub(super) fn send(&self, request: Request) {
        let Request { from, channel, kind } = request;
        let order = match kind {
            RequestKind::Subscribe(serial) => Order::Subscribe { channel, subscriber: Subscriber { from, serial } },
            RequestKind::Unsubscribe => Order::Unsubscribe { channel },
            kind => return self.commander.send(Job::Request(Request { from, channel, kind })),
        };
        if let Some(orders) = &self.orders {
            // The link outlives its senders.
            _ = orders.send(order);
        }
    }

    pub(super) fn commander(&self) -> Commander {
        self.commander.clone()
    }
}
