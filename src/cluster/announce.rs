//! Announces this server: its numbers every 3 s, its metrics once a minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::nodes::ANNOUNCE_INTERVAL;
use super::own_shards::OwnShards;
use super::shared::Shared;
use super::view::NodeMetrics;
use crate::engine::stats::{Counters, Snapshot};
use crate::messaging::{ApiCall, ApiReply};

const METRICS_INTERVAL: Duration = Duration::from_secs(60);
/// How long the shards may take to report their numbers; else those before are announced.
const NUMBERS_TIMEOUT: Duration = Duration::from_secs(1);
/// Up to so many users they are counted exactly, which copies every name.
const USERS_COUNTED_MAX: u64 = 10_000;

/// A counter that is announced: its name in the metrics, and how to read it.
type Row = (&'static str, fn(&Counters) -> u64);

const COUNTERS: &[Row] = &[
    ("centrifugo.node.messages_sent_count.type.publication", |c| c.publications),
    ("corecast.connections_accepted", |c| c.accepted),
    ("corecast.deliveries", |c| c.deliveries),
    ("corecast.messages", |c| c.messages_in),
    ("corecast.received_bytes", |c| c.bytes_in),
    ("corecast.replies", |c| c.replies),
    ("corecast.sent_bytes", |c| c.bytes_out),
];

/// The numbers of this server.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Numbers {
    clients: u32,
    users: u32,
    channels: u32,
    subscriptions: u32,
}

/// Reads the numbers, and remembers what the next reading needs.
struct Reader<S> {
    shards: S,
    /// More shards have not answered than this.
    shard_count: usize,
    /// Distinct users for each user of a shard, when both were counted last.
    distinct_share: f64,
    counted: BTreeMap<&'static str, u64>,
    metrics_due: Instant,
}

/// Returns when this server has left.
pub(crate) async fn run(shared: Arc<Shared>, shards: impl OwnShards) {
    let mut reader = Reader::new(shards);
    let mut ticks = interval(ANNOUNCE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if shared.has_left() {
            return;
        }
        let mut with_metrics = false;
        if let Some((numbers, snapshots)) = reader.read().await {
            let metrics = reader.metrics(&shared, numbers, &snapshots);
            with_metrics = metrics.is_some();
            shared.update_own(|own| {
                let Numbers { clients, users, channels, subscriptions } = numbers;
                (own.clients, own.users, own.channels, own.subscriptions) = (clients, users, channels, subscriptions);
                own.metrics = metrics.or(own.metrics.take());
            });
        }
        shared.announce(None, with_metrics);
    }
}

impl<S: OwnShards> Reader<S> {
    fn new(shards: S) -> Self {
        Self { shards, shard_count: 0, distinct_share: 1.0, counted: BTreeMap::new(), metrics_due: Instant::now() }
    }

    /// `None` if a shard does not answer in time.
    async fn read(&mut self) -> Option<(Numbers, Vec<Snapshot>)> {
        let snapshots = timeout(NUMBERS_TIMEOUT, self.shards.numbers()).await.ok()?;
        if snapshots.is_empty() || snapshots.len() < self.shard_count {
            return None;
        }
        self.shard_count = snapshots.len();
        let sum = |of: fn(&Snapshot) -> u64| snapshots.iter().map(of).sum();
        let numbers = Numbers {
            clients: saturate(sum(|snapshot| snapshot.connections)),
            users: self.users(sum(|snapshot| snapshot.users)).await,
            channels: saturate(sum(|snapshot| snapshot.channels)),
            subscriptions: saturate(sum(|snapshot| snapshot.subscriptions)),
        };
        Some((numbers, snapshots))
    }

    /// `of_shards`: the users of each shard, added up. A user with connections on several shards counts once.
    async fn users(&mut self, of_shards: u64) -> u32 {
        if self.shard_count > 1
            && (1..=USERS_COUNTED_MAX).contains(&of_shards)
            && let Ok(Some(ApiReply::Info { users })) = timeout(NUMBERS_TIMEOUT, self.shards.ask(ApiCall::Info)).await
        {
            self.distinct_share = (users.len() as f64 / of_shards as f64).min(1.0);
            return saturate(users.len() as u64);
        }
        saturate((of_shards as f64 * self.distinct_share).round() as u64)
    }

    /// The metrics, if it is time for them.
    fn metrics(&mut self, shared: &Shared, numbers: Numbers, snapshots: &[Snapshot]) -> Option<NodeMetrics> {
        let now = Instant::now();
        if now < self.metrics_due {
            return None;
        }
        self.metrics_due = now + METRICS_INTERVAL;
        let counts = shared.counters.read();
        let mut totals: BTreeMap<_, u64> = COUNTERS
            .iter()
            .map(|(name, read)| (*name, snapshots.iter().map(|snapshot| read(&snapshot.counters)).sum()))
            .collect();
        totals.insert("centrifugo.node.messages_sent_count.type.control", counts.sent);
        totals.insert("centrifugo.node.messages_received_count.type.control", counts.received);
        let since = |(name, total): (&&'static str, &u64)| {
            let before = self.counted.get(name).copied().unwrap_or(0);
            ((*name).to_owned(), total.saturating_sub(before) as f64)
        };
        let mut items: BTreeMap<String, f64> = totals.iter().map(since).collect();
        let Numbers { clients, users, channels, subscriptions } = numbers;
        let nodes = shared.nodes().len() as u32 + 1;
        for (name, value) in [
            ("clients", clients),
            ("users", users),
            ("channels", channels),
            ("subscriptions", subscriptions),
            ("nodes", nodes),
        ] {
            items.insert(format!("centrifugo.node.num_{name}"), value.into());
        }
        self.counted = totals;
        Some(NodeMetrics { interval_s: METRICS_INTERVAL.as_secs_f64(), items })
    }
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
