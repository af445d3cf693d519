//! NATS as a broker: messages are delivered at most once, and nothing is kept, so channels have no history, no positions and
//! no recovery. Subjects and payloads are Centrifugo's, so both kinds of servers work on the same channels.
//!
//! One broker thread runs [`run`], with one connection and the channels that are hashed to it. The client of the NATS project
//! is not used: it makes a lost connection again by itself, may drop the event that says so, holds publications meanwhile, and
//! does not tell when the server has a subscription. Here each of these is an event or an error.
//!
//! - `url`, `dial`: where the servers are, and the way to a connection
//! - `wire`, `payload`, `subjects`: the protocol, the content of messages, and the subjects of channels
//! - `subscriptions`, `shards`: what home shards want, and the way back to them
//! - `link`: what one connection waits for
//! - `outage`, `serve`: the thread without and with a connection

mod dial;
#[cfg(test)]
mod driver_tests;
mod link;
mod outage;
mod payload;
mod serve;
mod shards;
mod subjects;
mod subscriptions;
mod url;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::control::ControlPort;
use super::message::{BrokerError, Event, Ticket};
use super::port::{EventPort, RequestQueue};
use super::stats::{BrokerStats, ConnectionStats, LinkState, Purpose, Refusal, add};
use crate::config::Nats;
use crate::ids::ShardId;
use dial::Dialer;
use shards::Shards;
use subscriptions::Subscriptions;
use url::ServerAddress;

pub(crate) use subjects::{ChannelUse, Subjects};

/// Requests that are handled at once.
const REQUESTS_MAX: usize = 512;
/// Servers that a server may tell of.
const ANNOUNCED_MAX: usize = 64;

/// A subject that the server does not allow is logged this often.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What one broker thread works with.
pub(crate) struct ThreadArgs {
    pub(crate) config: Nats,
    pub(crate) requests: RequestQueue,
    /// By `ShardId`.
    pub(crate) events: Vec<EventPort>,
    /// Of one thread only.
    pub(crate) control: Option<ControlPort>,
    pub(crate) stats: Arc<BrokerStats>,
    /// Bytes of requests that may be without an answer.
    pub(crate) queue_bytes_max: usize,
}

/// What is wrong with the addresses or certificates, in a sentence.
pub(crate) fn check(config: &Nats) -> Result<(), String> {
    parts(config).map(drop)
}

fn parts(config: &Nats) -> Result<(Vec<ServerAddress>, Dialer), String> {
    let tls = match &config.tls {
        Some(tls) => Some((tls.clone(), super::client_tls::client_config(tls)?)),
        None => None,
    };
    Ok((url::servers(&config.url)?, Dialer { tls, timeout: config.dial_timeout }))
}

/// Serves requests until every sender of them is gone. It runs on the runtime of `thread::spawn`.
pub(crate) async fn run(args: ThreadArgs) {
    let (servers, dialer) = match parts(&args.config) {
        Ok(parts) => parts,
        Err(error) => {
            log::error!("broker NATS: {error}; every request is rejected");
            return;
        }
    };
    let mut driver = Driver::new(args, servers, dialer);
    while let Some((server, dialed)) = outage::wait_for_connection(&mut driver).await {
        match serve::serve(&mut driver, &server, dialed).await {
            serve::End::Finished => break,
            serve::End::Lost(cause) => driver.lose(&server, &cause),
        }
    }
    driver.shards.flush(&mut driver.subscriptions);
}

/// A broker thread through all its connections.
struct Driver {
    subjects: Subjects,
    dialer: Dialer,
    /// The next one to try is the first.
    servers: VecDeque<ServerAddress>,
    write_timeout: Duration,
    queue_bytes_max: usize,
    requests: RequestQueue,
    control: Option<ControlPort>,
    shards: Shards,
    subscriptions: Subscriptions,
    stats: Arc<ConnectionStats>,
    /// In the subject of its probes.
    name: String,
    /// Connections that were lost since a probe arrived: each makes the next attempt wait longer.
    losses: u32,
    /// The last probe did not arrive.
    is_undelivering: bool,
    /// When a subject that the server does not allow was logged.
    refusal_logged: Option<Instant>,
}

impl Driver {
    fn new(args: ThreadArgs, servers: Vec<ServerAddress>, dialer: Dialer) -> Self {
        let ThreadArgs { config, requests, events, control, stats, queue_bytes_max } = args;
        let mut servers = VecDeque::from(servers);
        // The nodes of a cluster spread over its servers.
        servers.rotate_left(random_below(servers.len() as u64) as usize);
        let stats = stats.register(&servers[0].name(), Purpose::PubSub);
        Self {
            subjects: Subjects::new(&config),
            dialer,
            servers,
            write_timeout: config.write_timeout,
            queue_bytes_max,
            requests,
            control,
            shards: Shards::new(events),
            subscriptions: Subscriptions::new(),
            stats,
            name: Uuid::new_v4().simple().to_string(),
            losses: 0,
            is_undelivering: false,
            refusal_logged: None,
        }
    }

    /// Adds the servers of a cluster that one of them told of.
    fn add_announced(&mut self, from: &ServerAddress, addresses: &[String]) {
        for address in addresses {
            let Ok(announced) = url::server(address) else { continue };
            let announced = ServerAddress { needs_tls: from.needs_tls, login: from.login.clone(), ..announced };
            let is_known =
                self.servers.iter().any(|known| known.host == announced.host && known.port == announced.port);
            if !is_known && self.servers.len() < ANNOUNCED_MAX {
                self.servers.push_back(announced);
            }
        }
    }

    /// Nothing arrives from here on.
    fn lose(&mut self, server: &ServerAddress, cause: &str) {
        self.losses = self.losses.saturating_add(1);
        add(&self.stats.reconnects, 1);
        self.stats.set_state(if self.is_undelivering { LinkState::Undelivering } else { LinkState::Down }, cause);
        log::error!(
            "broker {}: connection lost: {cause}; {} channels get nothing until it is back, and what is published \
             meanwhile is rejected; connecting again",
            server.name(),
            self.subscriptions.len()
        );
        for (_, subscription) in self.subscriptions.iter_mut() {
            (subscription.is_live, subscription.has_gap) = (false, false);
            let (channel, serial) = (subscription.channel.clone(), subscription.serial);
            self.shards.push(subscription.shard, Event::SubscribeDelayed { channel, serial });
        }
        self.shards.flush(&mut self.subscriptions);
    }

    /// Clients decide how often it happens.
    fn may_log_refusal(&mut self) -> bool {
        let may = self.refusal_logged.is_none_or(|at| at.elapsed() > REFUSAL_LOG_INTERVAL);
        if may {
            self.refusal_logged = Some(Instant::now());
        }
        may
    }

    /// A publication was not made, or it is not known whether it was.
    fn reject(&mut self, (shard, ticket): (ShardId, Ticket), reason: Refusal, error: BrokerError) {
        self.stats.refuse(reason);
        self.shards.answer(shard, ticket, Err(error));
    }
}

fn random_below(bound: u64) -> u64 {
    (Uuid::new_v4().as_u128() as u64).checked_rem(bound).unwrap_or(0)
}
