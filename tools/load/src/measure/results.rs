//! What the workers of a scenario measured, in a form that is added up over workers, processes and hosts.
//!
//! A message belongs to the measured time if it was due in it (closed loop: if it was sent in it), however late it was received.
//! A stall at the end of a run therefore hides nothing.

use crate::measure::histogram::LatencyHistogram;
use crate::measure::last_delivery::LastDeliveries;
use crate::measure::rate::{Rate, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The messages that were due in one step of the rate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Step {
    pub sent: u64,
    /// From the intended send time to the delivery.
    pub latency: LatencyHistogram,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// By step of the rate; a single step if there are no steps.
    pub steps: Vec<Step>,
    /// Other latencies by name.
    pub latency: BTreeMap<String, LatencyHistogram>,
    /// Values that are summed.
    pub counts: BTreeMap<String, u64>,
    /// Bytes of the largest delivery frame.
    pub frame_bytes: usize,
    pub first_error: Option<String>,
    /// Per channel, the order in which its subscribers saw publications, as a hash.
    pub orders: BTreeMap<u32, u64>,
    /// Only with several processes: the last delivery of each publication in one process.
    pub last_deliveries: LastDeliveries,
}

impl Results {
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub fn add_count(&mut self, name: &str, n: u64) {
        *self.counts.entry(name.into()).or_default() += n;
    }

    pub fn histogram(&self, name: &str) -> LatencyHistogram {
        self.latency.get(name).cloned().unwrap_or_default()
    }

    /// Moves the contents of a histogram here, under a name.
    pub fn take_histogram(&mut self, name: &str, histogram: &mut LatencyHistogram) {
        self.latency.insert(name.into(), histogram.clone());
        histogram.reset();
    }

    /// The latency over all steps.
    pub fn all_steps(&self) -> LatencyHistogram {
        self.steps.iter().fold(LatencyHistogram::default(), |mut sum, step| {
            sum.merge(&step.latency);
            sum
        })
    }

    /// The time to the last subscriber; `None` if there were too many publications to compare over processes.
    pub fn last(&self) -> Option<LatencyHistogram> {
        let mut last = self.histogram("last");
        last.merge(&self.last_deliveries.histogram()?);
        Some(last)
    }

    pub fn sent(&self) -> u64 {
        self.steps.iter().map(|step| step.sent).sum()
    }

    /// Adds the results of another worker.
    pub fn merge(&mut self, other: Self) {
        let steps = self.steps.len().max(other.steps.len());
        self.steps.resize_with(steps, Step::default);
        for (mine, theirs) in self.steps.iter_mut().zip(other.steps) {
            mine.sent += theirs.sent;
            mine.latency.merge(&theirs.latency);
        }
        other.latency.iter().for_each(|(name, theirs)| self.latency.entry(name.clone()).or_default().merge(theirs));
        other.counts.iter().for_each(|(name, n)| self.add_count(name, *n));
        self.frame_bytes = self.frame_bytes.max(other.frame_bytes);
        self.first_error = self.first_error.take().or(other.first_error);
        for (channel, order) in other.orders {
            if *self.orders.entry(channel).or_insert(order) != order {
                self.add_count("disagreeing", 1);
            }
        }
        self.last_deliveries.merge(other.last_deliveries);
    }
}

/// Records the messages of a worker by the step in which they were due.
#[derive(Debug)]
pub struct StepRecorder {
    spans: Vec<Span>,
    steps: Vec<Step>,
    /// The step of the last message, which is mostly that of the next one too.
    hint: usize,
}

impl StepRecorder {
    /// Without a rate there is one step.
    pub fn new(rate: Option<&Rate>) -> Self {
        let spans = rate.cloned().unwrap_or_else(|| Rate::constant(1.0)).spans();
        Self { steps: spans.iter().map(|_| Step::default()).collect(), spans, hint: 0 }
    }

    /// The step of a message due at `at` if the measured time began at `from`; `None` before it and after the last step.
    #[inline]
    fn step(&mut self, from: u64, at: u64) -> Option<&mut Step> {
        let since = at.checked_sub(from).filter(|_| from > 0)?;
        let holds = |span: &Span| span.begin <= since && since < span.end;
        if !holds(&self.spans[self.hint]) {
            self.hint = self.spans.iter().position(holds)?;
        }
        Some(&mut self.steps[self.hint])
    }

    #[inline]
    pub fn sent(&mut self, from: u64, at: u64, n: u64) {
        if let Some(step) = self.step(from, at) {
            step.sent += n;
        }
    }

    /// `n` messages that were due at `at` were received `age` nanoseconds later; false if they are not in the measured time.
    #[inline]
    pub fn received(&mut self, from: u64, at: u64, age: u64, n: u64) -> bool {
        let step = self.step(from, at);
        step.map(|step| step.latency.saturating_record_n(age, n)).is_some()
    }

    /// Returns the steps and starts again with empty ones.
    pub fn take(&mut self) -> Vec<Step> {
        let empty = self.steps.iter().map(|_| Step::default()).collect();
        std::mem::replace(&mut self.steps, empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_counts_in_the_step_in_which_it_was_due() {
        let mut recorder = StepRecorder::new(Some(&Rate::parse("10:1s,20:1s").unwrap()));
        let second = 1_000_000_000;
        assert!(!recorder.received(0, 5, 1, 1), "the measured time has not begun");
        assert!(!recorder.received(100, 99, 1, 1), "due in the warm-up");
        assert!(recorder.received(100, 100 + second - 1, 7 * second, 1), "late, but due in the first step");
        assert!(recorder.received(100, 100 + second, 1000, 2));
        assert!(!recorder.received(100, 100 + 2 * second, 1, 1));
        recorder.sent(100, 100, 3);
        let steps = recorder.take();
        let found: Vec<_> = steps.iter().map(|step| (step.sent, step.latency.len())).collect();
        assert_eq!(found, [(3, 1), (0, 2)]);
        assert_eq!(recorder.take()[1].latency.len(), 0);
    }

    #[test]
    fn results_of_workers_are_merged() {
        let mut recorder = StepRecorder::new(None);
        recorder.received(1, 5, 2000, 1);
        let mut one = Results { steps: recorder.take(), first_error: Some("a".into()), ..Results::default() };
        one.add_count("wrong", 2);
        one.orders.insert(0, 77);
        let mut other = Results { first_error: Some("b".into()), ..one.clone() };
        one.merge(other.clone());
        assert_eq!((one.count("wrong"), one.all_steps().len(), one.first_error.as_deref()), (4, 2, Some("a")));
        assert_eq!(one.count("disagreeing"), 0);
        other.orders.insert(0, 78);
        one.merge(other);
        assert_eq!(one.count("disagreeing"), 1);
    }
}
