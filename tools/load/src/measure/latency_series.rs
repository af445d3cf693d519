//! What a worker measures in each second: the latency of messages, and how late the worker itself was.
//!
//! One small histogram of each kind covers the current second. When a record or a turn finds the second over, its contents become
//! pairs of value and count, which the coordinator fetches. A record costs one comparison and one increment more.
//! Invariants: seconds are counted from the start of the run, the same for all workers; a worker hands out each second once.

use crate::engine::clock::SECOND;
use crate::measure::histogram::with_digits;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Values in nanoseconds, each with the number of its occurrences.
pub type Counts = BTreeMap<u64, u64>;

/// One second of one worker, or of several together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    pub latency: Counts,
    pub lag: Counts,
}

/// Seconds by their number.
pub type Seconds = BTreeMap<u64, Second>;

/// Adds the seconds of another worker.
pub fn merge(sum: &mut Seconds, other: Seconds) {
    for (index, second) in other {
        let sum = sum.entry(index).or_default();
        for (sum, counts) in [(&mut sum.latency, second.latency), (&mut sum.lag, second.lag)] {
            counts.into_iter().for_each(|(value, n)| *sum.entry(value).or_default() += n);
        }
    }
}

/// The value that a share `q` of the occurrences does not exceed; `None` if there are no values.
pub fn quantile(counts: &Counts, q: f64) -> Option<u64> {
    let total: u64 = counts.values().sum();
    let rank = ((total as f64 * q).ceil() as u64).max(1);
    let mut seen = 0;
    counts.iter().find_map(|(value, n)| {
        seen += n;
        (seen >= rank).then_some(*value)
    })
}

/// Records the current second; finished seconds wait in `done`.
#[derive(Debug)]
pub struct SecondRecorder {
    origin: u64,
    index: u64,
    /// When the current second is over.
    end: u64,
    latency: Histogram<u64>,
    lag: Histogram<u64>,
    pub done: Seconds,
}

fn take(histogram: &mut Histogram<u64>) -> Counts {
    let counts = histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    histogram.reset();
    counts
}

impl SecondRecorder {
    /// Two digits are what a plot can show, in a seventh of the memory of three.
    pub fn new(origin: u64) -> Self {
        let (latency, lag) = (with_digits(2), with_digits(2));
        Self { origin, index: 0, end: origin + SECOND, latency, lag, done: Seconds::new() }
    }

    /// `n` messages took `age` nanoseconds.
    #[inline]
    pub fn latency(&mut self, now: u64, age: u64, n: u64) {
        self.turn(now);
        self.latency.saturating_record_n(age, n);
    }

    /// A message left `age` nanoseconds after its intended time.
    #[inline]
    pub fn lag(&mut self, now: u64, age: u64) {
        self.turn(now);
        self.lag.saturating_record(age);
    }

    /// Ends the second if it is over.
    #[inline]
    pub fn turn(&mut self, now: u64) {
        if now >= self.end {
            self.finish(now);
        }
    }

    /// Ends the second now, as at the end of a run.
    #[cold]
    pub fn finish(&mut self, now: u64) {
        if !self.latency.is_empty() || !self.lag.is_empty() {
            let (latency, lag) = (take(&mut self.latency), take(&mut self.lag));
            self.done.insert(self.index, Second { latency, lag });
        }
        self.index = now.saturating_sub(self.origin) / SECOND;
        self.end = self.origin + (self.index + 1) * SECOND;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_belongs_to_the_second_in_which_it_was_made() {
        let mut recorder = SecondRecorder::new(10 * SECOND);
        recorder.latency(10 * SECOND, 5_000, 2);
        recorder.latency(11 * SECOND - 1, 5_000, 1);
        recorder.lag(14 * SECOND + 1, 700);
        recorder.finish(14 * SECOND + 2);
        let got: Vec<_> = recorder.done.iter().map(|(index, s)| (*index, s.latency.len(), s.lag.len())).collect();
        assert_eq!(got, [(0, 1, 0), (4, 0, 1)]);
        assert_eq!(recorder.done[&0].latency.values().copied().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn seconds_of_two_workers_are_merged() {
        let seconds = |list: &[(u64, u64)]| -> Seconds {
            let second = |value| Second { latency: Counts::from([(value, 1)]), lag: Counts::new() };
            list.iter().map(|&(index, value)| (index, second(value))).collect()
        };
        let mut sum = Seconds::new();
        [&[(3, 10), (4, 10)][..], &[(3, 20)], &[(3, 10)]].into_iter().for_each(|list| merge(&mut sum, seconds(list)));
        assert_eq!(sum[&3].latency, Counts::from([(10, 2), (20, 1)]));
        assert_eq!(sum.keys().copied().collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let counts = Counts::from([(1, 50), (2, 40), (9, 9), (100, 1)]);
        assert_eq!([0.0, 0.5, 0.51, 0.9, 0.99, 1.0].map(|q| quantile(&counts, q).unwrap()), [1, 1, 2, 2, 9, 100]);
        assert_eq!(quantile(&Counts::new(), 0.5), None);
    }
}
