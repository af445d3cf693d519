//! Numbers of the connections to brokers. Broker threads write them, and metrics and health checks read them.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets of round trips, in microseconds. One more bucket counts longer ones.
pub(crate) const ROUND_TRIP_BUCKETS_US: [u64; 14] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];
/// A connection that was lost is made again at once in most cases. Only a longer absence is a fault of the service.
const ABSENCE_MAX: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Commands,
    PubSub,
}

/// How a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkState {
    /// It was never up.
    Starting = 0,
    Up = 1,
    /// An answer is overdue.
    Slow = 2,
    /// The broker accepts publications and does not deliver them here.
    Undelivering = 3,
    Down = 4,
}

impl LinkState {
    /// Each with its name in metrics.
    pub(crate) const NAMES: [(Self, &'static str); 5] = [
        (Self::Starting, "starting"),
        (Self::Up, "up"),
        (Self::Slow, "slow"),
        (Self::Undelivering, "undelivering"),
        (Self::Down, "down"),
    ];
    const ALL: [Self; 5] = [Self::Starting, Self::Up, Self::Slow, Self::Undelivering, Self::Down];
}

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The broker is away.
    Away,
    /// Too many bytes wait for its answers.
    Full,
    /// The answer did not come: the outcome is unknown.
    Unanswered,
    /// The broker answered with an error.
    Rejected,
}

impl Refusal {
    /// Each with its name in metrics, in the order of the discriminants.
    pub(crate) const ALL: [(Self, &'static str); 4] =
        [(Self::Away, "away"), (Self::Full, "full"), (Self::Unanswered, "unanswered"), (Self::Rejected, "rejected")];
}

/// All connections of this process to its brokers. The default is a process without brokers.
#[derive(Default)]
pub struct BrokerStats {
    has_brokers: bool,
    connections: RwLock<Vec<Arc<ConnectionStats>>>,
}

/// One connection, through all its reconnects.
pub(crate) struct ConnectionStats {
    /// The broker's address, or what stands for it.
    pub(crate) name: Box<str>,
    pub(crate) purpose: Purpose,
    state: AtomicU8,
    /// When the state began, in milliseconds since `made`.
    state_since_ms: AtomicU64,
    /// When the last probe arrived, in milliseconds since `made`; 0 for never.
    probed_ms: AtomicU64,
    made: Instant,
    cause: Mutex<Box<str>>,
    pub(crate) round_trips: Histogram,
    /// Requests without an answer yet.
    pub(crate) in_flight: AtomicUsize,
    pub(crate) queued_bytes: AtomicUsize,
    pub(crate) reconnects: AtomicU64,
    /// Channels that were subscribed to again.
    pub(crate) resubscribes: AtomicU64,
    /// Messages from the broker that a shard, or the cluster, had no room for.
    pub(crate) dropped: AtomicU64,
    /// Messages from the broker that could not be read.
    pub(crate) malformed: AtomicU64,
    /// By `Refusal as usize`.
    pub(crate) refusals: [AtomicU64; Refusal::ALL.len()],
}

/// Durations by size.
#[derive(Default)]
pub(crate) struct Histogram {
    /// Bucket `i` ends at `ROUND_TRIP_BUCKETS_US[i]`.
    pub(crate) counts: [AtomicU64; ROUND_TRIP_BUCKETS_US.len() + 1],
    pub(crate) sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        let bucket = ROUND_TRIP_BUCKETS_US.partition_point(|&bound| micros > bound);
        add(&self.counts[bucket], 1);
        add(&self.sum_us, micros);
    }
}

impl std::fmt::Debug for BrokerStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.connections().iter().map(|connection| &connection.name)).finish()
    }
}

impl BrokerStats {
    /// Of a process whose settings name brokers.
    pub(crate) fn of_brokers() -> Self {
        Self { has_brokers: true, ..Self::default() }
    }

    pub(crate) fn register(&self, name: &str, purpose: Purpose) -> Arc<ConnectionStats> {
        let connection = Arc::new(ConnectionStats::new(name, purpose));
        self.connections.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&connection));
        connection
    }

    /// Forgets a connection that is not made again.
    pub(crate) fn remove(&self, connection: &Arc<ConnectionStats>) {
        let mut connections = self.connections.write().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|known| !Arc::ptr_eq(known, connection));
    }

    pub(crate) fn connections(&self) -> Vec<Arc<ConnectionStats>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether every connection serves, or what is wrong with which ones.
    pub(crate) fn health(&self) -> Result<(), String> {
        let connections = self.connections();
        if connections.is_empty() && self.has_brokers {
            return Err("the broker threads have not started yet".into());
        }
        let faults: Vec<_> = connections.iter().filter_map(|connection| connection.fault()).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

impl ConnectionStats {
    fn new(name: &str, purpose: Purpose) -> Self {
        Self {
            name: name.into(),
            purpose,
            state: AtomicU8::new(LinkState::Starting as u8),
            state_since_ms: AtomicU64::new(0),
            probed_ms: AtomicU64::new(0),
            made: Instant::now(),
            cause: Mutex::default(),
            round_trips: Histogram::default(),
            in_flight: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            reconnects: AtomicU64::new(0),
            resubscribes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            refusals: Default::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.made.elapsed().as_millis() as u64
    }

    pub(crate) fn state(&self) -> LinkState {
        LinkState::ALL[usize::from(self.state.load(Ordering::Relaxed))]
    }

    /// `cause` says why, in words for an operator.
    pub(crate) fn set_state(&self, state: LinkState, cause: &str) {
        if self.state.swap(state as u8, Ordering::Relaxed) != state as u8 {
            self.state_since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause.into();
    }

    /// A probe arrived.
    pub(crate) fn set_probed(&self) {
        self.probed_ms.store(self.now_ms().max(1), Ordering::Relaxed);
    }

    /// How long ago the last probe arrived.
    pub(crate) fn probe_age(&self) -> Option<Duration> {
        let probed = self.probed_ms.load(Ordering::Relaxed);
        (probed > 0).then(|| Duration::from_millis(self.now_ms().saturating_sub(probed)))
    }

    pub(crate) fn refuse(&self, reason: Refusal) {
        add(&self.refusals[reason as usize], 1);
    }

    /// What is wrong, in words.
    fn fault(&self) -> Option<String> {
        let state = self.state();
        let since = Duration::from_millis(self.now_ms().saturating_sub(self.state_since_ms.load(Ordering::Relaxed)));
        let what = match state {
            LinkState::Up => return None,
            LinkState::Down | LinkState::Slow if since < ABSENCE_MAX => return None,
            LinkState::Starting => "not connected yet",
            LinkState::Down => "down",
            LinkState::Slow => "slow",
            LinkState::Undelivering => "accepts publications and does not deliver them",
        };
        let purpose = match self.purpose {
            Purpose::Commands => "commands",
            Purpose::PubSub => "PUB/SUB",
        };
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = if cause.is_empty() { String::new() } else { format!(": {cause}") };
        Some(format!("{} ({purpose}) {what} for {} s{cause}", self.name, since.as_secs()))
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_names_each_connection_that_does_not_serve() {
        assert_eq!(BrokerStats::default().health(), Ok(()), "there is nothing to connect to");
        let stats = BrokerStats::of_brokers();
        assert!(stats.health().is_err());
        let commands = stats.register("redis a", Purpose::Commands);
        let pub_sub = stats.register("redis a", Purpose::PubSub);
        assert_eq!(
            stats.health().unwrap_err(),
            "redis a (commands) not connected yet for 0 s; redis a (PUB/SUB) not connected yet for 0 s"
        );
        commands.set_state(LinkState::Up, "");
        pub_sub.set_state(LinkState::Undelivering, "a probe did not arrive");
        assert_eq!(
            stats.health().unwrap_err(),
            "redis a (PUB/SUB) accepts publications and does not deliver them for 0 s: a probe did not arrive"
        );
        pub_sub.set_state(LinkState::Down, "closed");
        assert_eq!(stats.health(), Ok(()), "it may be back at once");
        stats.remove(&pub_sub);
        assert_eq!(stats.connections().len(), 1);
    }

    #[test]
    fn reasons_and_states_are_listed_in_the_order_of_their_discriminants() {
        assert!(Refusal::ALL.iter().enumerate().all(|(index, (reason, _))| *reason as usize == index));
        assert!(LinkState::ALL.iter().enumerate().all(|(index, state)| *state as usize == index));
    }

    #[test]
    fn round_trips_are_counted_up_to_the_bound_of_their_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 5_000_000, 5_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let counts: Vec<_> = histogram.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!((counts[0], counts[1], counts[13], counts[14]), (2, 1, 1, 1));
    }
}
