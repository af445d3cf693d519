//! Brokers: their queues are made before the shards, and their threads start once the shards run.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::broker::Broker;
use crate::broker::client_tls::client_config;
use crate::broker::control::{ControlBus, control_bus};
use crate::broker::port::{EventPort, PostEvents, RequestQueue, request_queue};
use crate::broker::stats::BrokerStats;
use crate::broker::{nats, redis, thread};
use crate::config::{BrokerKind, Brokers, Config, RedisTopology};
use crate::engine::control_port::{ControlCommand, ControlPort};
use crate::messaging::{BrokerLinks, ControlRequest};

/// The brokers before their threads run.
pub(crate) struct BrokerPlan {
    publications: Option<Planned<BrokerKind>>,
    presence: Option<Planned<crate::config::Redis>>,
    links: BrokerLinks,
    events_bytes_max: usize,
    queue_bytes_max: usize,
}

struct Planned<C> {
    config: C,
    queues: Vec<RequestQueue>,
}

/// What runs.
#[derive(Default)]
pub(crate) struct RunningBrokers {
    pub stats: Arc<BrokerStats>,
    pub bus: Option<ControlBus>,
    threads: Vec<JoinHandle<()>>,
}

/// Whether TLS can be set up with the certificates and keys of the settings. Errors: what is wrong.
pub(crate) fn check_tls(brokers: &Brokers) -> Result<(), String> {
    let redis = match &brokers.publications {
        Some(BrokerKind::Nats(nats)) => {
            nats::check(nats)?;
            None
        }
        Some(BrokerKind::Redis(redis)) => Some(redis),
        None => None,
    };
    for shard in redis.into_iter().chain(&brokers.presence).flat_map(|redis| &redis.shards) {
        let sentinel = match &shard.topology {
            RedisTopology::Sentinel { tls, .. } => tls.as_ref(),
            RedisTopology::Single(_) | RedisTopology::Cluster(_) => None,
        };
        for tls in shard.tls.iter().chain(sentinel) {
            client_config(tls).map_err(|what| format!("TLS to Redis {}: {what}", shard.topology))?;
        }
    }
    Ok(())
}

impl BrokerPlan {
    /// `brokers` are those of the settings with their files read. `None`: the settings name no broker.
    pub(crate) fn new(config: &Config, brokers: Brokers) -> Option<Self> {
        let Brokers { publications, presence, threads, queue_bytes_max, events_bytes_max, .. } = brokers;
        if publications.is_none() && presence.is_none() {
            return None;
        }
        let open = || {
            let (ports, queues): (Vec<_>, Vec<_>) = (0..threads.max(1)).map(|_| request_queue(queue_bytes_max)).unzip();
            (Broker::new(ports), queues)
        };
        let (broker, publications) = match publications {
            None => (None, None),
            Some(config) => {
                let (broker, queues) = open();
                let broker = match &config {
                    BrokerKind::Nats(config) => broker.with_subjects(nats::Subjects::new(config)),
                    BrokerKind::Redis(_) => broker,
                };
                (Some(broker), Some(Planned { config, queues }))
            }
        };
        let is_shared = publications.as_ref().is_some_and(
            |planned| matches!((&planned.config, &presence), (BrokerKind::Redis(one), Some(other)) if one == other),
        );
        let (presence_broker, presence) = match presence {
            None => (None, None),
            Some(_) if is_shared => (broker.clone(), None),
            Some(config) => {
                let (broker, queues) = open();
                (Some(broker), Some(Planned { config, queues }))
            }
        };
        let links = BrokerLinks {
            publications: broker,
            presence: presence_broker,
            publish_locally: config.brokers.publish_locally,
            ..BrokerLinks::without_brokers(config)
        };
        Some(Self { publications, presence, links, events_bytes_max, queue_bytes_max })
    }

    pub(crate) fn links(&self) -> BrokerLinks {
        self.links.clone()
    }

    /// Starts the threads. They end when the shards have ended. `uid` is what other servers know this one by.
    pub(crate) fn start(self, ports: &[ControlPort<ControlRequest>], uid: &str) -> io::Result<RunningBrokers> {
        let Self { publications, presence, links, events_bytes_max, queue_bytes_max } = self;
        drop(links);
        let events = || {
            ports
                .iter()
                .map(|port| EventPort::new(post_to(port, ControlPort::send_soon), events_bytes_max))
                .collect::<Vec<_>>()
        };
        let mut running = RunningBrokers { stats: Arc::new(BrokerStats::of_brokers()), ..RunningBrokers::default() };
        if let Some(Planned { config, queues }) = publications {
            let (bus, control) = control_bus(uid);
            let mut control = Some(control);
            running.bus = Some(bus);
            for (index, requests) in queues.into_iter().enumerate() {
                let (events, control, stats) = (events(), control.take(), Arc::clone(&running.stats));
                let name = format!("broker {index}");
                running.threads.push(match config.clone() {
                    BrokerKind::Redis(config) => {
                        let has_pub_sub = true;
                        let args = redis::ThreadArgs {
                            config,
                            requests,
                            events,
                            control,
                            stats,
                            has_pub_sub,
                            queue_bytes_max,
                        };
                        thread::spawn(name, move || redis::run(args))?
                    }
                    BrokerKind::Nats(config) => {
                        let args = nats::ThreadArgs { config, requests, events, control, stats, queue_bytes_max };
                        thread::spawn(name, move || nats::run(args))?
                    }
                });
            }
        }
        if let Some(Planned { config, queues }) = presence {
            for (index, requests) in queues.into_iter().enumerate() {
                let (events, stats, config) = (events(), Arc::clone(&running.stats), config.clone());
                let (control, has_pub_sub) = (None, false);
                let args = redis::ThreadArgs { config, requests, events, control, stats, has_pub_sub, queue_bytes_max };
                running.threads.push(thread::spawn(format!("presence {index}"), move || redis::run(args))?);
            }
        }
        Ok(running)
    }
}

impl RunningBrokers {
    /// Waits for the threads, which end after the shards.
    pub(crate) fn join(self) {
        thread::join(self.threads, "a broker thread has panicked");
    }
}

/// Puts a command into the mailbox of a shard: `ControlPort::send` or `send_soon`.
type Send =
    fn(&ControlPort<ControlRequest>, ControlCommand<ControlRequest>) -> Result<(), ControlCommand<ControlRequest>>;

/// The way of events to a shard.
pub(super) fn post_to(port: &ControlPort<ControlRequest>, send: Send) -> PostEvents {
    let port = port.clone();
    Arc::new(move |batch| match send(&port, ControlCommand::App(ControlRequest::Broker(batch))) {
        Ok(()) => Ok(()),
        Err(ControlCommand::App(ControlRequest::Broker(batch))) => Err(batch),
        Err(_) => unreachable!("the port gives back what it was given"),
    })
}
