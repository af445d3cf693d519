//! Whether each subscription got every publication once and in order.
//!
//! Per subscription and publisher there is the next sequence number, which a delivery must have. Everything else is rare and may
//! cost: skipped numbers are remembered, so that a late delivery is distinguished from a duplicate. With several publishers, the
//! order in a channel must be the same for all subscribers: each subscription folds what it sees into a hash, and the hashes are
//! compared.
//! Invariant: a publication is counted at most once per subscription.

use crate::scenarios::payload::Stamp;
use std::collections::HashSet;

/// The faults of all subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFaults {
    /// Skipped and never delivered.
    pub lost: u64,
    pub duplicates: u64,
    /// Delivered after a later publication.
    pub reordered: u64,
    /// Of another channel, or not published by this run.
    pub unknown: u64,
}

#[derive(Debug)]
pub struct DeliveryChecker {
    /// Where the publishers of each subscription begin and, last, where all end.
    starts: Vec<u32>,
    /// The next sequence number by subscription and publisher.
    next: Vec<u32>,
    /// The order that each subscription saw, as a hash; empty with one publisher, when sequence numbers say all.
    orders: Vec<u64>,
    missing: HashSet<(u32, u8, u32)>,
    pub faults: DeliveryFaults,
}

/// Past so many remembered gaps, a late delivery counts as a duplicate. The run is void anyway.
const MISSING_MAX: usize = 1 << 20;

impl DeliveryChecker {
    /// For subscriptions with the given numbers of publishers.
    pub fn new(publishers: impl IntoIterator<Item = usize>) -> Self {
        let (mut starts, mut several) = (vec![0], false);
        for n in publishers {
            several |= n > 1;
            starts.push(starts[starts.len() - 1] + n as u32);
        }
        let (next, orders) =
            (vec![0; starts[starts.len() - 1] as usize], vec![0; if several { starts.len() - 1 } else { 0 }]);
        Self { starts, next, orders, missing: HashSet::new(), faults: DeliveryFaults::default() }
    }

    /// Records a delivery; true if it is the first one of this publication to this subscription.
    #[inline]
    pub fn record(&mut self, subscription: usize, channel: u8, stamp: Stamp) -> bool {
        let at = self.starts[subscription] as usize + usize::from(stamp.publisher);
        if stamp.channel != channel || at >= self.starts[subscription + 1] as usize {
            self.faults.unknown += 1;
            return false;
        }
        if let Some(order) = self.orders.get_mut(subscription) {
            let fold = u64::from(stamp.seq) << 8 | u64::from(stamp.publisher);
            *order = (*order ^ fold).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let next = &mut self.next[at];
        if stamp.seq == *next {
            *next += 1;
            return true;
        }
        self.record_out_of_order(subscription, at, stamp)
    }

    #[cold]
    fn record_out_of_order(&mut self, subscription: usize, at: usize, stamp: Stamp) -> bool {
        let next = &mut self.next[at];
        let key = |seq| (subscription as u32, stamp.publisher, seq);
        if stamp.seq > *next {
            self.faults.lost += u64::from(stamp.seq - *next);
            let room = MISSING_MAX.saturating_sub(self.missing.len());
            self.missing.extend((*next..stamp.seq).take(room).map(key));
            *next = stamp.seq.wrapping_add(1);
            return true;
        }
        if self.missing.remove(&key(stamp.seq)) {
            self.faults.lost -= 1;
            self.faults.reordered += 1;
            return true;
        }
        self.faults.duplicates += 1;
        false
    }

    /// The order that a subscription saw, as a hash; `None` with one publisher.
    pub fn order(&self, subscription: usize) -> Option<u64> {
        self.orders.get(subscription).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(publisher: u8, seq: u32) -> Stamp {
        Stamp { seq, channel: 1, publisher, slot: 0 }
    }

    #[test]
    fn deliveries_in_order_are_no_fault() {
        let mut checker = DeliveryChecker::new([2, 2]);
        for seq in 0..100 {
            assert!(checker.record(0, 1, stamp(0, seq)) && checker.record(0, 1, stamp(1, seq)));
        }
        assert_eq!(checker.faults, DeliveryFaults::default());
    }

    #[test]
    fn faults_are_distinguished() {
        let mut checker = DeliveryChecker::new([1]);
        assert!(checker.record(0, 1, stamp(0, 0)));
        assert!(checker.record(0, 1, stamp(0, 3)));
        assert_eq!(checker.faults, DeliveryFaults { lost: 2, ..DeliveryFaults::default() });
        assert!(checker.record(0, 1, stamp(0, 1)), "late, but its first delivery");
        assert_eq!(checker.faults, DeliveryFaults { lost: 1, reordered: 1, ..DeliveryFaults::default() });
        assert!(!checker.record(0, 1, stamp(0, 1)) && !checker.record(0, 1, stamp(0, 0)));
        assert_eq!(checker.faults.duplicates, 2);
        assert!(!checker.record(0, 2, stamp(0, 4)) && !checker.record(0, 1, stamp(9, 4)));
        assert_eq!(checker.faults.unknown, 2);
        assert_eq!(checker.faults.lost + checker.faults.reordered, 2);
    }

    #[test]
    fn subscriptions_with_different_numbers_of_publishers_are_independent() {
        let mut checker = DeliveryChecker::new([1, 3, 2]);
        for (index, publishers) in [(0, 1), (1, 3), (2, 2)] {
            (0..publishers).for_each(|publisher| assert!(checker.record(index, 1, stamp(publisher, 0))));
            assert!(!checker.record(index, 1, stamp(publishers, 0)), "no such publisher");
        }
        assert_eq!(checker.faults, DeliveryFaults { unknown: 3, ..DeliveryFaults::default() });
    }

    #[test]
    fn another_order_of_publishers_changes_the_hash() {
        let mut checker = DeliveryChecker::new([2; 3]);
        for (subscriber, order) in [(0, [0, 1]), (1, [0, 1]), (2, [1, 0])] {
            order.iter().for_each(|&publisher| assert!(checker.record(subscriber, 1, stamp(publisher, 0))));
        }
        assert_eq!(checker.order(0), checker.order(1));
        assert_ne!(checker.order(0), checker.order(2));
        assert_eq!(checker.faults, DeliveryFaults::default());
    }
}
