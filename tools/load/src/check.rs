//! Whether each subscriber got everything, once, in order.
//!
//! Plan: per subscriber and publisher the next sequence number; what comes must be it. Everything else is rare and may cost:
//! skipped numbers are remembered, so that one that comes late is told from one that comes twice. Between several publishers a
//! channel's order is one for all its subscribers: each folds what it sees into a hash, and the hashes must agree.
//! Invariant: a publication is counted as delivered to a subscriber at most once.

use crate::payload::Stamp;
use std::collections::HashSet;

/// What was wrong, over all subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Skipped and never seen.
    pub lost: u64,
    pub duplicates: u64,
    /// Came after one that was published later.
    pub reordered: u64,
    /// Of another channel, or nothing we ever published.
    pub strange: u64,
}

impl Findings {
    #[cfg(test)]
    fn total(self) -> u64 {
        self.lost + self.duplicates + self.reordered + self.strange
    }
}

#[derive(Debug)]
pub struct Checker {
    publishers: usize,
    next: Vec<u32>,
    order: Vec<u64>,
    missing: HashSet<(u32, u8, u32)>,
    pub findings: Findings,
}

/// Above this many remembered gaps a late one is called a duplicate: the run is void anyhow.
const MISSING_MAX: usize = 1 << 20;

impl Checker {
    pub fn new(subscribers: usize, publishers: usize) -> Self {
        Self {
            publishers,
            next: vec![0; subscribers * publishers],
            order: if publishers > 1 { vec![0; subscribers] } else { Vec::new() },
            missing: HashSet::new(),
            findings: Findings::default(),
        }
    }

    /// Notes a delivery; true if it is the first of this publication to this subscriber.
    #[inline]
    pub fn saw(&mut self, subscriber: usize, channel: u8, stamp: Stamp) -> bool {
        let publisher = usize::from(stamp.publisher);
        if stamp.channel != channel || publisher >= self.publishers {
            self.findings.strange += 1;
            return false;
        }
        if self.publishers > 1 {
            let fold = u64::from(stamp.seq) << 8 | u64::from(stamp.publisher);
            self.order[subscriber] = (self.order[subscriber] ^ fold).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let next = &mut self.next[subscriber * self.publishers + publisher];
        if stamp.seq == *next {
            *next += 1;
            return true;
        }
        self.out_of_turn(subscriber, stamp)
    }

    #[cold]
    fn out_of_turn(&mut self, subscriber: usize, stamp: Stamp) -> bool {
        let next = &mut self.next[subscriber * self.publishers + usize::from(stamp.publisher)];
        let key = |seq| (subscriber as u32, stamp.publisher, seq);
        if stamp.seq > *next {
            self.findings.lost += u64::from(stamp.seq - *next);
            let room = MISSING_MAX.saturating_sub(self.missing.len());
            self.missing.extend((*next..stamp.seq).take(room).map(key));
            *next = stamp.seq.wrapping_add(1);
            return true;
        }
        if self.missing.remove(&key(stamp.seq)) {
            self.findings.lost -= 1;
            self.findings.reordered += 1;
            return true;
        }
        self.findings.duplicates += 1;
        false
    }

    /// The order that a subscriber saw, as a hash; None with one publisher, where sequence numbers say all.
    pub fn order(&self, subscriber: usize) -> Option<u64> {
        self.order.get(subscriber).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(publisher: u8, seq: u32) -> Stamp {
        Stamp { seq, channel: 1, publisher, slot: 0 }
    }

    #[test]
    fn in_order_is_silent() {
        let mut checker = Checker::new(2, 2);
        for seq in 0..100 {
            assert!(checker.saw(0, 1, stamp(0, seq)) && checker.saw(0, 1, stamp(1, seq)));
        }
        assert_eq!(checker.findings, Findings::default());
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        let mut checker = Checker::new(1, 1);
        assert!(checker.saw(0, 1, stamp(0, 0)));
        assert!(checker.saw(0, 1, stamp(0, 3)));
        assert_eq!(checker.findings, Findings { lost: 2, ..Findings::default() });
        assert!(checker.saw(0, 1, stamp(0, 1)), "late, and yet its first delivery");
        assert_eq!(checker.findings, Findings { lost: 1, reordered: 1, ..Findings::default() });
        assert!(!checker.saw(0, 1, stamp(0, 1)) && !checker.saw(0, 1, stamp(0, 0)));
        assert_eq!(checker.findings.duplicates, 2);
        assert!(!checker.saw(0, 2, stamp(0, 4)) && !checker.saw(0, 1, stamp(9, 4)));
        assert_eq!(checker.findings.strange, 2);
        assert_eq!(checker.findings.total(), 6);
    }

    #[test]
    fn another_order_between_publishers_shows_in_the_hash() {
        let mut checker = Checker::new(3, 2);
        for (subscriber, order) in [(0, [0, 1]), (1, [0, 1]), (2, [1, 0])] {
            order.iter().for_each(|&publisher| assert!(checker.saw(subscriber, 1, stamp(publisher, 0))));
        }
        assert_eq!(checker.order(0), checker.order(1));
        assert_ne!(checker.order(0), checker.order(2));
        assert_eq!(checker.findings.total(), 0);
    }
}
