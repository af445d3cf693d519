//! What the clients of one node saw: deliveries, and how their connections failed and went on.

use crate::measure::histogram::LatencyHistogram;
use std::collections::BTreeMap;

/// What the clients of one node saw.
#[derive(Clone, Debug, Default)]
pub struct NodeFigures {
    pub deliveries: u64,
    /// In the measured time.
    pub latency: LatencyHistogram,
    /// The ages of recovered deliveries.
    pub missed: LatencyHistogram,
    pub closes: BTreeMap<u16, u64>,
    /// Codes of unsubscribes.
    pub unsubscribes: BTreeMap<u64, u64>,
    /// Connections that this tool ended because the server was silent.
    pub silent: u64,
    /// Attempts to reconnect, and to subscribe, that failed.
    pub failed: u64,
    /// Subscriptions with a position: replies with `recovered` true and false.
    pub recovered: u64,
    pub not_recovered: u64,
    /// From the close to the recovery, by client.
    pub away: LatencyHistogram,
    /// Clients that never reconnect because of their close code.
    pub ended: u64,
}

impl NodeFigures {
    pub fn merge(&mut self, other: &Self) {
        fn add<K: Ord + Copy>(sum: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
            other.iter().for_each(|(code, n)| *sum.entry(*code).or_default() += n);
        }
        add(&mut self.closes, &other.closes);
        add(&mut self.unsubscribes, &other.unsubscribes);
        self.latency.merge(&other.latency);
        self.missed.merge(&other.missed);
        self.away.merge(&other.away);
        self.deliveries += other.deliveries;
        self.silent += other.silent;
        self.failed += other.failed;
        self.recovered += other.recovered;
        self.not_recovered += other.not_recovered;
        self.ended += other.ended;
    }
}
