//! One Redis shard of a broker thread: the links to it, and which of them a request goes to.
//!
//! A single server may turn out to be a member of a cluster. Until that is known, subscriptions wait, and requests are refused.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::cluster::Cluster;
use super::command_link::{CommandLink, Commander, LinkContext};
use super::commands::Commands;
use super::dial::{Dialer, Expect};
use super::job::Job;
use super::names::{Names, Tagging};
use super::partition_tags;
use super::pub_sub_link::{Order, Orders};
use super::pub_sub_links::PubSubLinks;
use super::publisher::Publisher;
use super::sentinel::Sentinels;
use super::subscriptions::Subscriber;
use super::target::Target;
use super::topology::Topology;
use crate::broker::message::{BrokerError, Event, Request, RequestKind};
use crate::broker::stats::{LinkState, Purpose, Refusal};
use crate::config::{Endpoint, Redis, RedisShard, RedisTopology};

pub(super) struct Shard {
    args: ShardArgs,
    state: RefCell<State>,
}

/// What a shard is made of.
pub(super) struct ShardArgs {
    pub(super) config: Rc<Redis>,
    /// Which of `config.shards`.
    pub(super) index: usize,
    pub(super) context: LinkContext,
    pub(super) has_pub_sub: bool,
    /// Where control messages go, and the uid of this server.
    pub(super) incoming: Option<Sender<Vec<u8>>>,
    pub(super) uid: Option<Box<str>>,
}

enum State {
    /// It is not known yet whether it is a cluster. Subscriptions wait here.
    Unknown(Vec<(Box<str>, Order)>),
    Known(Links),
}

struct Links {
    names: Names,
    publisher: Publisher,
    /// A link to a replica, for presence.
    reader: Option<Commander>,
    /// By partition; empty without PUB/SUB.
    orders: Vec<Orders>,
}

impl Shard {
    pub(super) fn start(args: ShardArgs) -> Rc<Self> {
        let config = args.config.shards[args.index].clone();
        let shard = Rc::new(Self { args, state: RefCell::new(State::Unknown(Vec::new())) });
        let dialer = Rc::new(Dialer::new(&config));
        match &config.topology {
            RedisTopology::Single(endpoint) => {
                let task = Rc::clone(&shard).recognize(dialer, endpoint.clone());
                shard.args.context.spawn_endless(task);
            }
            RedisTopology::Sentinel { .. } => {
                let links = shard.links_by_sentinel(&config, dialer);
                shard.set_known(links);
            }
            RedisTopology::Cluster(seeds) => {
                let links = shard.links_of_cluster(seeds.clone(), dialer);
                shard.set_known(links);
            }
        }
        shard
    }

    pub(super) fn send(&self, request: Request) {
        let Request { from, channel, kind } = request;
        let order = match kind {
            RequestKind::Subscribe(serial) => {
                Order::Subscribe { channel: channel.clone(), subscriber: Subscriber { from, serial } }
            }
            RequestKind::Unsubscribe => Order::Unsubscribe { channel: channel.clone() },
            RequestKind::Query { ticket, .. } => {
                return self.args.context.events.answer(from, ticket, Err(BrokerError::NotSupported));
            }
            kind => return self.send_job(Request { from, channel, kind }),
        };
        match &mut *self.state.borrow_mut() {
            State::Known(links) => links.order(&channel, order),
            State::Unknown(waiting) => {
                if let Order::Subscribe { subscriber: Subscriber { from, serial }, .. } = &order {
                    let event = Event::SubscribeDelayed { channel: channel.clone(), serial: *serial };
                    self.args.context.events.push(*from, event);
                }
                waiting.push((channel, order));
            }
        }
    }

    /// Where messages of the cluster go; `None` until it is known.
    pub(super) fn publisher(&self) -> Option<Publisher> {
        if let State::Known(links) = &*self.state.borrow() { Some(links.publisher.clone()) } else { None }
    }

    fn send_job(&self, request: Request) {
        let State::Known(links) = &*self.state.borrow() else { return self.refuse(request) };
        let reads_presence = matches!(request.kind, RequestKind::Presence { .. } | RequestKind::PresenceStats { .. });
        match &links.reader {
            // Without a replica in service the master answers.
            Some(reader) if reads_presence && reader.is_up() => reader.send(Job::Request(request)),
            _ => links.publisher.send(Job::Request(request)),
        }
    }

    /// Nothing is known about the server yet. There may be no connection to count it at.
    fn refuse(&self, request: Request) {
        let ShardArgs { context, .. } = &self.args;
        if let Some(stats) = context.stats.connections().first() {
            stats.refuse(Refusal::Away);
        }
        if let Some(ticket) = request.ticket() {
            context.events.answer(request.from, ticket, Err(BrokerError::Unavailable));
        }
    }

    fn set_known(&self, links: Links) {
        let before = std::mem::replace(&mut *self.state.borrow_mut(), State::Known(links));
        let (State::Unknown(waiting), State::Known(links)) = (before, &*self.state.borrow()) else { return };
        for (channel, order) in waiting {
            links.order(&channel, order);
        }
    }

    /// Connects once, to learn what kind of server it is.
    async fn recognize(self: Rc<Self>, dialer: Rc<Dialer>, endpoint: Endpoint) {
        let target = Target::Server {
            dialer: Rc::clone(&dialer),
            endpoint: endpoint.clone(),
            expect: Expect::Any,
            topology: None,
        };
        let context = &self.args.context;
        let stats = context.stats.register(&target.name(), Purpose::Commands);
        let mut backoff = Backoff::default();
        let is_cluster = loop {
            match target.dial().await {
                Ok((dialed, _)) => break dialed.is_cluster,
                Err(error) => {
                    if backoff.deserves_a_line() {
                        log::warn!("{}: no connection: {error}", stats.name);
                    }
                    stats.set_state(LinkState::Starting, &error.to_string());
                }
            }
            sleep(backoff.next()).await;
        };
        let links = if is_cluster {
            log::info!("{}: it is a member of a cluster", stats.name);
            self.links_of_cluster(vec![endpoint], dialer)
        } else {
            self.links_to(target, None)
        };
        self.set_known(links);
        context.events.flush();
        context.stats.remove(&stats);
    }

    fn links_by_sentinel(&self, shard: &RedisShard, dialer: Rc<Dialer>) -> Links {
        let RedisTopology::Sentinel { sentinels, master_name, login, tls } = &shard.topology else {
            unreachable!("the caller has matched it")
        };
        let asks = dialer.with_login(login, tls.as_ref());
        let sentinels = Rc::new(Sentinels::new(sentinels.clone(), master_name, asks));
        let watching = Rc::clone(&sentinels);
        self.args.context.spawn_endless(async move { watching.watch().await });
        let target = |expect| {
            let (dialer, sentinels) = (Rc::clone(&dialer), Rc::clone(&sentinels));
            Target::Sentinel { dialer, sentinels, expect }
        };
        self.links_to(target(Expect::Master), Some(target(Expect::Replica)))
    }

    /// The links to one server, and to its replica where the settings ask for it.
    fn links_to(&self, master: Target, replica: Option<Target>) -> Links {
        let ShardArgs { config, context, .. } = &self.args;
        let names = Names::new(&config.prefix, Tagging::None, config.history_use_lists);
        let commands = Rc::new(Commands::new(names.clone(), config));
        let link = |target: Target| {
            let (commander, link) = CommandLink::new(target, Rc::clone(&commands), context, None);
            context.spawn(link.run());
            commander
        };
        let publisher = Publisher::Link(link(master.clone()));
        let reader = replica.clone().filter(|_| config.presence_read_from_replica).map(link);
        let target = replica.filter(|_| config.subscribe_on_replica).unwrap_or(master);
        let orders = self.pub_sub(&names, &publisher).map(|links| links.start_each(|_| target.clone()));
        let orders = orders.unwrap_or_default();
        Links { names, publisher, reader, orders }
    }

    fn links_of_cluster(&self, seeds: Vec<Endpoint>, dialer: Rc<Dialer>) -> Links {
        let ShardArgs { config, context, .. } = &self.args;
        let tagging = match config.sharded_pub_sub_partitions {
            0 => Tagging::Channel,
            count if config.use_precomputed_partition_tags => Tagging::Partition(partition_tags::precomputed(count)),
            count => Tagging::Partition(partition_tags::numbers(count)),
        };
        let names = Names::new(&config.prefix, tagging, config.history_use_lists);
        let commands = Rc::new(Commands::new(names.clone(), config));
        let topology = Rc::new(Topology::new(seeds, Rc::clone(&dialer)));
        let reads_replicas = config.presence_read_from_replica;
        let cluster = Cluster::start(Rc::clone(&topology), dialer, commands, context, reads_replicas);
        let publisher = Publisher::Cluster(cluster);
        let orders = match self.pub_sub(&names, &publisher) {
            None => Vec::new(),
            Some(links) if names.is_sharded() && config.group_sharded_pub_sub_by_node => links.start_grouped(topology),
            Some(links) => {
                let on_replica = config.subscribe_on_replica;
                links.start_each(|slot| Target::Cluster { topology: Rc::clone(&topology), slot, on_replica })
            }
        };
        Links { names, publisher, reader: None, orders }
    }

    /// `None` without PUB/SUB.
    fn pub_sub(&self, names: &Names, publisher: &Publisher) -> Option<PubSubLinks> {
        let ShardArgs { config, context, has_pub_sub, incoming, uid, .. } = &self.args;
        has_pub_sub.then(|| PubSubLinks {
            config: Rc::clone(config),
            context: context.clone(),
            names: names.clone(),
            publisher: publisher.clone(),
            incoming: incoming.clone(),
            uid: uid.clone(),
            probe_uid: PubSubLinks::probe_uid(),
        })
    }
}

impl Links {
    fn order(&self, channel: &str, order: Order) {
        if let Some(orders) = self.orders.get(self.names.partition_of(channel)) {
            // The link outlives its senders.
            _ = orders.send(order);
        }
    }
}
