//! Time to the last subscriber where subscribers are in several processes: each keeps, for every publication, how long its own
//! last subscriber waited, and the largest over all processes is the publication's.
//!
//! Publications are told apart by channel, publisher and sequence number. Past a bound on their number nothing is told any more:
//! a figure over a part of them would be another one.

use crate::measure::results::histogram;
use crate::scenarios::payload::Stamp;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Publications of a run whose times are kept: 4 bytes each in every process.
const PUBLICATIONS_MAX: usize = 1 << 20;
/// It came outside the measured time, to one subscriber at least.
const UNMEASURED: u32 = u32::MAX;

/// One process's part of a run that has several.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// Nanoseconds that this machine's clock is ahead of the publishers'.
    pub ahead: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasts {
    /// Microseconds by channel and publisher, then sequence number; 0: nothing came.
    pub micros: BTreeMap<u32, Vec<u32>>,
    /// More than are kept.
    pub over: bool,
    kept: usize,
}

impl Lasts {
    /// A delivery of `stamp` on channel number `channel`, `age` nanoseconds after it was due.
    pub fn note(&mut self, channel: usize, stamp: Stamp, age: u64, measured: bool) {
        let row = self.micros.entry((channel as u32) << 8 | u32::from(stamp.publisher)).or_default();
        let at = stamp.seq as usize;
        if at >= row.len() {
            let more = at + 1 - row.len();
            if self.over || more > PUBLICATIONS_MAX - self.kept {
                self.over = true;
                return;
            }
            self.kept += more;
            row.resize(at + 1, 0);
        }
        let micros = if measured { (age / 1000).clamp(1, u64::from(UNMEASURED) - 1) as u32 } else { UNMEASURED };
        row[at] = row[at].max(micros);
    }

    /// Takes another process's into this.
    pub fn add(&mut self, other: Self) {
        self.over |= other.over;
        for (key, theirs) in other.micros {
            let mine = self.micros.entry(key).or_default();
            let len = mine.len().max(theirs.len());
            mine.resize(len, 0);
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = theirs.max(*mine));
        }
    }

    /// The times of all that were measured everywhere; None if they were too many to keep.
    pub fn histogram(&self) -> Option<Histogram<u64>> {
        let mut sum = histogram();
        for &micros in self.micros.values().flatten().filter(|micros| !matches!(**micros, 0 | UNMEASURED)) {
            sum.saturating_record(u64::from(micros) * 1000);
        }
        (!self.over).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u32) -> Stamp {
        Stamp { seq, channel: 0, publisher: 0, slot: 0 }
    }

    #[test]
    fn the_last_of_all_processes_counts() {
        let (mut one, mut other) = (Lasts::default(), Lasts::default());
        one.note(0, stamp(0), 5_000_000, true);
        one.note(0, stamp(0), 3_000_000, true);
        one.note(0, stamp(1), 1_000_000, true);
        other.note(0, stamp(0), 9_000_000, true);
        other.note(0, stamp(1), 2_000_000, false);
        one.add(other);
        let sum = one.histogram().unwrap();
        assert_eq!((sum.len(), sum.max() / 100_000), (1, 90), "the second was not measured everywhere");
    }

    #[test]
    fn a_number_out_of_nowhere_takes_no_memory() {
        let mut lasts = Lasts::default();
        lasts.note(0, stamp(u32::MAX), 1, true);
        assert!(lasts.over && lasts.micros[&0].is_empty() && lasts.histogram().is_none());
        lasts.note(1, stamp(0), 1, true);
        assert!(lasts.micros.values().all(Vec::is_empty));
    }
}
