//! What a worker measured, second by second: latency, and how late it was itself.
//!
//! Plan: one small histogram of each kind for the second that runs; when a record or a turn finds it over, what it held is kept as
//! pairs of value and count, and the coordinator fetches it. A record costs one comparison and one increment more.
//! Invariants: seconds are counted from the crew's beginning, the same for all its workers; a worker hands a second out once.

use crate::engine::clock::{self, SECOND};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Values in nanoseconds, each with how often it was seen; in rising order.
pub type Counts = Vec<(u64, u64)>;

/// One second of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Counted from the crew's beginning.
    pub index: u64,
    pub latency: Counts,
    pub lag: Counts,
}

/// The second that runs, and those that nobody fetched yet.
#[derive(Debug)]
pub struct Pulse {
    origin: u64,
    index: u64,
    /// When the second that runs is over.
    border: u64,
    latency: Histogram<u64>,
    lag: Histogram<u64>,
    pub done: Vec<Second>,
}

/// Two digits: what a plot can show, in a seventh of the memory of three.
fn small() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 100_000_000_000, 2).expect("the bounds are in order and two digits are allowed")
}

fn take(histogram: &mut Histogram<u64>) -> Counts {
    let counts = histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    histogram.reset();
    counts
}

impl Pulse {
    pub fn new(origin: u64) -> Self {
        Self { origin, index: 0, border: origin + SECOND, latency: small(), lag: small(), done: Vec::new() }
    }

    /// `n` messages took `age` nanoseconds.
    #[inline]
    pub fn took(&mut self, now: u64, age: u64, n: u64) {
        self.turn(now);
        self.latency.saturating_record_n(age, n);
    }

    /// Something left `age` nanoseconds later than it should have.
    #[inline]
    pub fn late(&mut self, now: u64, age: u64) {
        self.turn(now);
        self.lag.saturating_record(age);
    }

    /// Ends the second if it is over.
    #[inline]
    pub fn turn(&mut self, now: u64) {
        if now >= self.border {
            self.end(now);
        }
    }

    /// Ends the second, as at the end of a run.
    #[cold]
    pub fn end(&mut self, now: u64) {
        if !self.latency.is_empty() || !self.lag.is_empty() {
            let (latency, lag) = (take(&mut self.latency), take(&mut self.lag));
            self.done.push(Second { index: self.index, latency, lag });
        }
        self.index = now.saturating_sub(self.origin) / SECOND;
        self.border = self.origin + (self.index + 1) * SECOND;
    }
}

/// Seconds of several workers, put together by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Seconds(BTreeMap<u64, Second>);

impl Seconds {
    pub fn add(&mut self, seconds: impl IntoIterator<Item = Second>) {
        for second in seconds {
            let sum = self.0.entry(second.index).or_default();
            sum.latency = merged(&sum.latency, &second.latency);
            sum.lag = merged(&sum.lag, &second.lag);
        }
    }

    pub fn into_vec(self) -> Vec<Second> {
        self.0.into_iter().map(|(index, second)| Second { index, ..second }).collect()
    }

    pub fn get(&self, index: u64) -> Option<&Second> {
        self.0.get(&index)
    }
}

fn merged(a: &Counts, b: &Counts) -> Counts {
    let mut sum: BTreeMap<u64, u64> = a.iter().copied().collect();
    b.iter().for_each(|(value, n)| *sum.entry(*value).or_default() += n);
    sum.into_iter().collect()
}

/// The value that a share `q` of them does not exceed; none of no values.
pub fn quantile(counts: &Counts, q: f64) -> Option<u64> {
    let total: u64 = counts.iter().map(|(_, n)| n).sum();
    let rank = ((total as f64 * q).ceil() as u64).max(1);
    let mut seen = 0;
    counts.iter().find_map(|(value, n)| {
        seen += n;
        (seen >= rank).then_some(*value)
    })
}

/// How late something is that should have left at `at`: the clock is read anew, since a turn's time may be a batch old.
pub fn lag(at: u64) -> (u64, u64) {
    let now = clock::now();
    (now, now.saturating_sub(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_belongs_to_the_second_in_which_it_was_made() {
        let mut pulse = Pulse::new(10 * SECOND);
        pulse.took(10 * SECOND, 5_000, 2);
        pulse.took(11 * SECOND - 1, 5_000, 1);
        pulse.late(14 * SECOND + 1, 700);
        pulse.end(14 * SECOND + 2);
        let got: Vec<_> = pulse.done.iter().map(|s| (s.index, s.latency.len(), s.lag.len())).collect();
        assert_eq!(got, [(0, 1, 0), (4, 0, 1)]);
        assert_eq!(pulse.done[0].latency[0].1, 3);
    }

    #[test]
    fn seconds_of_two_workers_are_one() {
        let second = |index, value| Second { index, latency: vec![(value, 1)], lag: Vec::new() };
        let mut seconds = Seconds::default();
        seconds.add([second(3, 10), second(4, 10)]);
        seconds.add([second(3, 20), second(3, 10)]);
        assert_eq!(seconds.get(3).unwrap().latency, [(10, 2), (20, 1)]);
        assert!(seconds.get(4).is_some() && seconds.get(5).is_none());
        assert_eq!(seconds.into_vec().iter().map(|second| second.index).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let counts = vec![(1, 50), (2, 40), (9, 9), (100, 1)];
        assert_eq!([0.0, 0.5, 0.51, 0.9, 0.99, 1.0].map(|q| quantile(&counts, q).unwrap()), [1, 1, 2, 2, 9, 100]);
        assert_eq!(quantile(&Counts::new(), 0.5), None);
    }
}
