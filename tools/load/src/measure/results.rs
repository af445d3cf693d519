//! What a worker's scene found, in a form that can be added up over workers, processes and hosts.
//!
//! A message belongs to the measured time when it was due in it (closed loop: when it was sent in it), however late it came:
//! a stall at the end of a run hides nothing.

use crate::measure::last_delivery::Lasts;
use crate::measure::rate::{Rate, Span};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Nanoseconds, 100 ns to 100 s, three digits.
pub use crate::report::histogram;

/// Messages that were due in one step of the rate.
#[derive(Clone, Debug)]
pub struct Step {
    pub sent: u64,
    /// From when each was due to when it came.
    pub latency: Histogram<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Harvest {
    /// By step of the rate; one in all where there are no steps.
    pub steps: Vec<Step>,
    /// Other latencies by name.
    pub latency: BTreeMap<String, Histogram<u64>>,
    /// What adds up.
    pub counts: BTreeMap<String, u64>,
    /// What is the largest over all.
    pub most: BTreeMap<String, u64>,
    /// The first text of a kind, such as an error's.
    pub texts: BTreeMap<String, String>,
    /// Per channel the order in which its subscribers saw publications, as a hash.
    pub orders: BTreeMap<u32, u64>,
    /// Over processes: when each publication had reached the last subscriber of one process.
    pub lasts: Lasts,
}

impl Harvest {
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub fn add_count(&mut self, name: &str, n: u64) {
        *self.counts.entry(name.into()).or_default() += n;
    }

    pub fn histogram(&self, name: &str) -> Histogram<u64> {
        self.latency.get(name).cloned().unwrap_or_else(histogram)
    }

    /// Latency over all steps.
    pub fn all_steps(&self) -> Histogram<u64> {
        self.steps.iter().fold(histogram(), |mut sum, step| {
            add(&mut sum, &step.latency);
            sum
        })
    }

    pub fn sent(&self) -> u64 {
        self.steps.iter().map(|step| step.sent).sum()
    }

    /// Takes what another found into this.
    pub fn add(&mut self, other: Self) {
        let steps = self.steps.len().max(other.steps.len());
        self.steps.resize_with(steps, || Step { sent: 0, latency: histogram() });
        for (mine, theirs) in self.steps.iter_mut().zip(other.steps) {
            mine.sent += theirs.sent;
            add(&mut mine.latency, &theirs.latency);
        }
        for (name, theirs) in other.latency {
            add(self.latency.entry(name).or_insert_with(histogram), &theirs);
        }
        other.counts.into_iter().for_each(|(name, n)| *self.counts.entry(name).or_default() += n);
        for (name, n) in other.most {
            let mine = self.most.entry(name).or_default();
            *mine = n.max(*mine);
        }
        for (name, text) in other.texts {
            self.texts.entry(name).or_insert(text);
        }
        for (channel, order) in other.orders {
            if *self.orders.entry(channel).or_insert(order) != order {
                self.add_count("disagreeing", 1);
            }
        }
        self.lasts.add(other.lasts);
    }
}

/// What comes from another process may have been made with other bounds; what does not fit is put at the edge.
fn add(sum: &mut Histogram<u64>, more: &Histogram<u64>) {
    if sum.add(more).is_err() {
        more.iter_recorded().for_each(|bar| sum.saturating_record_n(bar.value_iterated_to(), bar.count_at_value()));
    }
}

/// A worker's figures by the step in which a message was due.
#[derive(Debug)]
pub struct Figures {
    spans: Vec<Span>,
    steps: Vec<Step>,
    /// The step that the last message belonged to: the next one mostly does too.
    hint: usize,
}

impl Figures {
    /// Without a rate all belongs to one step.
    pub fn new(rate: Option<&Rate>) -> Self {
        let spans = rate.cloned().unwrap_or_else(|| Rate::constant(1.0)).spans();
        let steps = spans.iter().map(|_| Step { sent: 0, latency: histogram() }).collect();
        Self { spans, steps, hint: 0 }
    }

    /// The step of what was due at `at`, where the measured time began at `from`; None before it, and after the last step.
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

    /// `n` messages that were due at `at` came `age` nanoseconds later; false if they are not measured.
    #[inline]
    pub fn came(&mut self, from: u64, at: u64, age: u64, n: u64) -> bool {
        let step = self.step(from, at);
        step.map(|step| step.latency.saturating_record_n(age, n)).is_some()
    }

    /// Gives the figures and begins anew.
    pub fn take(&mut self) -> Vec<Step> {
        let fresh = self.steps.iter().map(|_| Step { sent: 0, latency: histogram() }).collect();
        std::mem::replace(&mut self.steps, fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_in_the_step_in_which_it_was_due() {
        let mut figures = Figures::new(Some(&Rate::parse("10:1s,20:1s").unwrap()));
        let second = 1_000_000_000;
        assert!(!figures.came(0, 5, 1, 1), "the measured time has not begun");
        assert!(!figures.came(100, 99, 1, 1), "due in the warm-up");
        assert!(figures.came(100, 100 + second - 1, 7 * second, 1), "late, and yet of the first step");
        assert!(figures.came(100, 100 + second, 1000, 2));
        assert!(!figures.came(100, 100 + 2 * second, 1, 1));
        figures.sent(100, 100, 3);
        let steps = figures.take();
        let told: Vec<_> = steps.iter().map(|step| (step.sent, step.latency.len())).collect();
        assert_eq!(told, [(3, 1), (0, 2)]);
        assert_eq!(figures.take()[1].latency.len(), 0);
    }

    #[test]
    fn harvests_add_up() {
        let mut figures = Figures::new(None);
        figures.came(1, 5, 2000, 1);
        let mut one = Harvest { steps: figures.take(), ..Harvest::default() };
        one.add_count("wrong", 2);
        one.orders.insert(0, 77);
        one.texts.insert("first error".into(), "a".into());
        let mut other = one.clone();
        other.texts.insert("first error".into(), "b".into());
        one.add(other.clone());
        assert_eq!((one.count("wrong"), one.all_steps().len(), one.texts["first error"].as_str()), (4, 2, "a"));
        assert_eq!(one.count("disagreeing"), 0);
        other.orders.insert(0, 78);
        one.add(other);
        assert_eq!(one.count("disagreeing"), 1);
    }
}
