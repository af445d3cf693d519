//! Whether each subscriber got everything, once, in order.
//!
//! Plan: per subscriber and publisher the next sequence number; what comes must be it. Everything else is rare and may cost:
//! skipped numbers are remembered, so that one that comes late is told from one that comes twice. Between several publishers a
//! channel's order is one for all its subscribers: each folds what it sees into a hash, and the hashes must agree. In a chat a
//! subscriber here is a seat, one member's subscription to one room, and rooms differ in how many publish there.
//! Invariant: a publication is counted as delivered to a subscriber at most once.

use crate::scenarios::payload::Stamp;
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

/// How many publishers each subscriber hears.
#[derive(Debug)]
enum Width {
    Same(usize),
    /// Where each subscriber's begin, and, last, where all end.
    Own(Vec<u32>),
}

impl Width {
    #[inline]
    fn of(&self, subscriber: usize) -> (usize, usize) {
        match self {
            Self::Same(n) => (subscriber * n, *n),
            Self::Own(starts) => {
                let begin = starts[subscriber] as usize;
                (begin, starts[subscriber + 1] as usize - begin)
            }
        }
    }
}

#[derive(Debug)]
pub struct Checker {
    width: Width,
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
            width: Width::Same(publishers),
            next: vec![0; subscribers * publishers],
            order: if publishers > 1 { vec![0; subscribers] } else { Vec::new() },
            missing: HashSet::new(),
            findings: Findings::default(),
        }
    }

    /// For subscribers of whom each hears as many publishers as `publishers` says.
    pub fn each(publishers: impl Iterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        starts.extend(publishers.scan(0, |sum, n| {
            *sum += n as u32;
            Some(*sum)
        }));
        let total = starts[starts.len() - 1] as usize;
        let order = vec![0; starts.len() - 1];
        let (missing, findings) = (HashSet::new(), Findings::default());
        Self { width: Width::Own(starts), next: vec![0; total], order, missing, findings }
    }

    /// Notes a delivery; true if it is the first of this publication to this subscriber.
    #[inline]
    pub fn saw(&mut self, subscriber: usize, channel: u8, stamp: Stamp) -> bool {
        let publisher = usize::from(stamp.publisher);
        let (begin, publishers) = self.width.of(subscriber);
        if stamp.channel != channel || publisher >= publishers {
            self.findings.strange += 1;
            return false;
        }
        if publishers > 1 {
            let fold = u64::from(stamp.seq) << 8 | u64::from(stamp.publisher);
            self.order[subscriber] = (self.order[subscriber] ^ fold).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let next = &mut self.next[begin + publisher];
        if stamp.seq == *next {
            *next += 1;
            return true;
        }
        self.out_of_turn(subscriber, stamp)
    }

    #[cold]
    fn out_of_turn(&mut self, subscriber: usize, stamp: Stamp) -> bool {
        let next = &mut self.next[self.width.of(subscriber).0 + usize::from(stamp.publisher)];
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
    fn seats_of_rooms_with_more_and_fewer_publishers_do_not_touch_each_other() {
        let mut checker = Checker::each([1, 3, 2].into_iter());
        for (seat, publishers) in [(0, 1), (1, 3), (2, 2)] {
            (0..publishers).for_each(|publisher| assert!(checker.saw(seat, 1, stamp(publisher, 0))));
            assert!(!checker.saw(seat, 1, stamp(publishers, 0)), "nobody of that number publishes there");
        }
        assert_eq!(checker.findings, Findings { strange: 3, ..Findings::default() });
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
