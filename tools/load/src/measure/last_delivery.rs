//! The time to the last subscriber of a publication if the subscribers are in several processes: each process keeps, for every
//! publication, how long its own last subscriber waited; the largest value over all processes counts.
//!
//! Publications are identified by channel, publisher and sequence number. Past a bound on their number nothing is reported,
//! because a figure over a part of them would be a different figure.

use crate::measure::histogram::LatencyHistogram;
use crate::scenarios::payload::Stamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Publications of a run whose times are kept: 4 bytes each in every process.
const PUBLICATIONS_MAX: usize = 1 << 20;
/// At least one delivery lay outside the measured time.
const UNMEASURED: u32 = u32::MAX;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDeliveries {
    /// Microseconds by channel and publisher, then sequence number; 0: no delivery.
    micros: BTreeMap<u32, Vec<u32>>,
    /// There were more publications than are kept.
    overflow: bool,
    #[serde(skip)]
    kept: usize,
}

impl LastDeliveries {
    /// A delivery of `stamp` on channel number `channel`, `age` nanoseconds after it was due.
    pub fn record(&mut self, channel: usize, stamp: Stamp, age: u64, measured: bool) {
        let row = self.micros.entry((channel as u32) << 8 | u32::from(stamp.publisher)).or_default();
        let at = stamp.seq as usize;
        if at >= row.len() {
            let more = at + 1 - row.len();
            if self.overflow || more > PUBLICATIONS_MAX - self.kept {
                self.overflow = true;
                return;
            }
            self.kept += more;
            row.resize(at + 1, 0);
        }
        let micros = if measured { (age / 1000).clamp(1, u64::from(UNMEASURED) - 1) as u32 } else { UNMEASURED };
        row[at] = row[at].max(micros);
    }

    /// Adds the times of another process.
    pub fn merge(&mut self, other: Self) {
        self.overflow |= other.overflow;
        for (key, theirs) in other.micros {
            let mine = self.micros.entry(key).or_default();
            mine.resize(mine.len().max(theirs.len()), 0);
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = theirs.max(*mine));
        }
    }

    /// The times of all publications that were measured everywhere; `None` if there were too many to keep.
    pub fn histogram(&self) -> Option<LatencyHistogram> {
        let mut sum = LatencyHistogram::default();
        for &micros in self.micros.values().flatten().filter(|micros| !matches!(**micros, 0 | UNMEASURED)) {
            sum.saturating_record(u64::from(micros) * 1000);
        }
        (!self.overflow).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u32) -> Stamp {
        Stamp { seq, channel: 0, publisher: 0, slot: 0 }
    }

    #[test]
    fn last_delivery_over_all_processes_counts() {
        let (mut one, mut other) = (LastDeliveries::default(), LastDeliveries::default());
        one.record(0, stamp(0), 5_000_000, true);
        one.record(0, stamp(0), 3_000_000, true);
        one.record(0, stamp(1), 1_000_000, true);
        other.record(0, stamp(0), 9_000_000, true);
        other.record(0, stamp(1), 2_000_000, false);
        one.merge(other);
        let sum = one.histogram().unwrap();
        assert_eq!((sum.len(), sum.max() / 100_000), (1, 90), "the second was not measured everywhere");
    }

    #[test]
    fn invalid_sequence_number_allocates_no_memory() {
        let mut last = LastDeliveries::default();
        last.record(0, stamp(u32::MAX), 1, true);
        assert!(last.overflow && last.micros[&0].is_empty() && last.histogram().is_none());
        last.record(1, stamp(0), 1, true);
        assert!(last.micros.values().all(Vec::is_empty));
    }
}
