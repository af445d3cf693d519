//! Whether each subscription got every publication once and in order.
//!
//! Per subscription and publisher there is the next sequence number, which a delivery must have. Everything else is rare and may
//! cost: skipped numbers are remembered, so that a late delivery is distinguished from a duplicate. With several publishers, the
//! order in a channel must be the same for all subscribers: each subscription folds what it sees into a hash, and the hashes are
//! compared.
//! Faults count for the node whose delivery showed them: with several nodes, a client may move from one to another.
//! Invariant: a publication is counted at most once per subscription.

use crate::scenarios::payload::Stamp;
use std::collections::HashMap;
use std::iter::Sum;

/// The faults of subscriptions.
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

impl Sum for DeliveryFaults {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            lost: a.lost + b.lost,
            duplicates: a.duplicates + b.duplicates,
            reordered: a.reordered + b.reordered,
            unknown: a.unknown + b.unknown,
        })
    }
}

#[derive(Debug)]
pub struct DeliveryChecker {
    /// Where the publishers of each subscription begin and, last, where all end.
    starts: Vec<u32>,
    /// The next sequence number by subscription and publisher.
    next: Vec<u32>,
    /// The order that each subscription saw, as a hash; empty with one publisher, when sequence numbers say all.
    orders: Vec<u64>,
    /// The node at which each skipped publication was skipped, by subscription, publisher and number.
    missing: HashMap<(u32, u8, u32), u8>,
    /// Publications that were skipped and delivered later, with the node that delivered them, in the same form.
    late: Vec<((u32, u8, u32), u8)>,
    /// By node.
    pub faults: Vec<DeliveryFaults>,
}

/// Past so many remembered gaps, a late delivery counts as a duplicate. The run is void anyway.
const MISSING_MAX: usize = 1 << 20;

impl DeliveryChecker {
    /// For subscriptions with the given numbers of publishers, at one or several nodes.
    pub fn new(publishers: impl IntoIterator<Item = usize>, nodes: usize) -> Self {
        let (mut starts, mut several) = (vec![0], false);
        for n in publishers {
            several |= n > 1;
            starts.push(starts[starts.len() - 1] + n as u32);
        }
        let (next, orders) =
            (vec![0; starts[starts.len() - 1] as usize], vec![0; if several { starts.len() - 1 } else { 0 }]);
        Self {
            starts,
            next,
            orders,
            missing: HashMap::new(),
            late: Vec::new(),
            faults: vec![DeliveryFaults::default(); nodes],
        }
    }

    /// Records a delivery; true if it is the first one of this publication to this subscription.
    #[inline]
    pub fn record(&mut self, node: u8, subscription: usize, channel: u8, stamp: Stamp) -> bool {
        let at = self.starts[subscription] as usize + usize::from(stamp.publisher);
        if stamp.channel != channel || at >= self.starts[subscription + 1] as usize {
            self.faults[usize::from(node)].unknown += 1;
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
        self.record_out_of_order(node, subscription, at, stamp)
    }

    #[cold]
    fn record_out_of_order(&mut self, node: u8, subscription: usize, at: usize, stamp: Stamp) -> bool {
        let faults = &mut self.faults[usize::from(node)];
        let next = &mut self.next[at];
        let key = |seq| (subscription as u32, stamp.publisher, seq);
        if stamp.seq > *next {
            faults.lost += u64::from(stamp.seq - *next);
            let room = MISSING_MAX.saturating_sub(self.missing.len());
            self.missing.extend((*next..stamp.seq).take(room).map(|seq| (key(seq), node)));
            *next = stamp.seq.wrapping_add(1);
            return true;
        }
        if let Some(skipped_at) = self.missing.remove(&key(stamp.seq)) {
            faults.reordered += 1;
            self.faults[usize::from(skipped_at)].lost -= 1;
            self.late.push((key(stamp.seq), node));
            return true;
        }
        faults.duplicates += 1;
        false
    }

    /// The skipped publications that were never delivered: subscription, publisher, number, and the node that skipped it.
    pub fn gaps(&self) -> impl Iterator<Item = (usize, u8, u32, u8)> {
        self.missing.iter().map(|(key, node)| (key.0 as usize, key.1, key.2, *node))
    }

    /// The publications that were delivered after a later one, in the same form.
    pub fn late(&self) -> impl Iterator<Item = (usize, u8, u32, u8)> {
        self.late.iter().map(|(key, node)| (key.0 as usize, key.1, key.2, *node))
    }

    /// The number that would follow the last delivery of a publisher to a subscription.
    pub fn next(&self, subscription: usize, publisher: u8) -> u32 {
        self.next[self.starts[subscription] as usize + usize::from(publisher)]
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

    fn total(checker: &DeliveryChecker) -> DeliveryFaults {
        checker.faults.iter().copied().sum()
    }

    #[test]
    fn deliveries_in_order_are_no_fault() {
        let mut checker = DeliveryChecker::new([2, 2], 1);
        for seq in 0..100 {
            assert!(checker.record(0, 0, 1, stamp(0, seq)) && checker.record(0, 0, 1, stamp(1, seq)));
        }
        assert_eq!(total(&checker), DeliveryFaults::default());
    }

    #[test]
    fn faults_are_distinguished() {
        let mut checker = DeliveryChecker::new([1], 1);
        assert!(checker.record(0, 0, 1, stamp(0, 0)));
        assert!(checker.record(0, 0, 1, stamp(0, 3)));
        assert_eq!(total(&checker), DeliveryFaults { lost: 2, ..DeliveryFaults::default() });
        assert!(checker.record(0, 0, 1, stamp(0, 1)), "late, but its first delivery");
        assert_eq!(total(&checker), DeliveryFaults { lost: 1, reordered: 1, ..DeliveryFaults::default() });
        assert!(!checker.record(0, 0, 1, stamp(0, 1)) && !checker.record(0, 0, 1, stamp(0, 0)));
        assert_eq!(total(&checker).duplicates, 2);
        assert!(!checker.record(0, 0, 2, stamp(0, 4)) && !checker.record(0, 0, 1, stamp(9, 4)));
        assert_eq!(total(&checker).unknown, 2);
        assert_eq!(total(&checker).lost + total(&checker).reordered, 2);
    }

    #[test]
    fn subscriptions_with_different_numbers_of_publishers_are_independent() {
        let mut checker = DeliveryChecker::new([1, 3, 2], 1);
        for (index, publishers) in [(0, 1), (1, 3), (2, 2)] {
            (0..publishers).for_each(|publisher| assert!(checker.record(0, index, 1, stamp(publisher, 0))));
            assert!(!checker.record(0, index, 1, stamp(publishers, 0)), "no such publisher");
        }
        assert_eq!(total(&checker), DeliveryFaults { unknown: 3, ..DeliveryFaults::default() });
    }

    #[test]
    fn another_order_of_publishers_changes_the_hash() {
        let mut checker = DeliveryChecker::new([2; 3], 1);
        for (subscriber, order) in [(0, [0, 1]), (1, [0, 1]), (2, [1, 0])] {
            order.iter().for_each(|&publisher| assert!(checker.record(0, subscriber, 1, stamp(publisher, 0))));
        }
        assert_eq!(checker.order(0), checker.order(1));
        assert_ne!(checker.order(0), checker.order(2));
        assert_eq!(total(&checker), DeliveryFaults::default());
    }

    #[test]
    fn faults_count_for_the_node_that_showed_them() {
        let mut checker = DeliveryChecker::new([1], 2);
        assert!(checker.record(0, 0, 1, stamp(0, 0)) && checker.record(1, 0, 1, stamp(0, 3)));
        assert_eq!((checker.faults[0].lost, checker.faults[1].lost), (0, 2));
        assert!(checker.record(0, 0, 1, stamp(0, 2)), "late, from another node");
        assert_eq!((checker.faults[0].reordered, checker.faults[1].lost), (1, 1));
        assert_eq!(checker.gaps().collect::<Vec<_>>(), [(0, 0, 1, 1)]);
        assert_eq!(checker.late().collect::<Vec<_>>(), [(0, 0, 2, 0)]);
        assert_eq!(checker.next(0, 0), 4);
    }
}
