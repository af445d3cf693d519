//! What a worker counts: plain numbers in its own hands, copied once per turn to where the coordinator reads them.
//!
//! The copies are relaxed atomics with one writer; a reader may see numbers of two neighbouring turns mixed, which is below
//! what any figure here resolves.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Names of the numbers, in the order of `Tally`'s fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that are upgraded and greeted, ever.
    pub ready: u64,
    /// Connections that ended before they were ready.
    pub failed: u64,
    /// Ready connections that ended, by whomever.
    pub closed: u64,
    /// Messages (echoes, deliveries) that came.
    pub received: u64,
    /// Messages (echoes asked for, publications) that left.
    pub sent: u64,
    pub reads: u64,
    pub writes: u64,
    pub polls: u64,
    pub bytes_in: u64,
    /// Deliveries that did not come although later ones did, or that were wrong.
    pub faults: u64,
    /// A gauge: messages that are under way now.
    pub in_flight: u64,
    /// Nanoseconds of turns that had something to do; kept only when the worker spins.
    pub busy_ns: u64,
    /// Ready connections that we ended ourselves.
    pub left: u64,
}

const FIELDS: usize = 13;

impl Tally {
    pub fn array(&self) -> [u64; FIELDS] {
        [
            self.ready,
            self.failed,
            self.closed,
            self.received,
            self.sent,
            self.reads,
            self.writes,
            self.polls,
            self.bytes_in,
            self.faults,
            self.in_flight,
            self.busy_ns,
            self.left,
        ]
    }

    fn from_array(a: [u64; FIELDS]) -> Self {
        let [ready, failed, closed, received, sent, reads, writes, polls, bytes_in, faults, in_flight, busy_ns, left] =
            a;
        Self { ready, failed, closed, received, sent, reads, writes, polls, bytes_in, faults, in_flight, busy_ns, left }
    }

    /// Connections that stand.
    pub fn open(&self) -> u64 {
        self.ready.saturating_sub(self.closed + self.left)
    }

    /// From what another process said; what it left out is 0.
    pub fn from_slice(numbers: &[u64]) -> Self {
        Self::from_array(std::array::from_fn(|i| numbers.get(i).copied().unwrap_or(0)))
    }

    /// Field by field, `self` plus `other`. What is under way may be less than nothing in one of several processes.
    pub fn plus(&self, other: &Self) -> Self {
        let (a, b) = (self.array(), other.array());
        Self::from_array(std::array::from_fn(|i| a[i].wrapping_add(b[i])))
    }

    /// Field by field, what was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let (a, b) = (self.array(), earlier.array());
        Self::from_array(std::array::from_fn(|i| a[i].saturating_sub(b[i])))
    }
}

/// The place where others read a worker's tally.
#[derive(Debug, Default)]
pub struct Board([AtomicU64; FIELDS]);

impl Board {
    pub fn show(&self, tally: &Tally) {
        for (cell, value) in self.0.iter().zip(tally.array()) {
            cell.store(value, Relaxed);
        }
    }

    pub fn read(&self) -> Tally {
        Tally::from_array(std::array::from_fn(|i| self.0[i].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back_field_by_field() {
        let tally = Tally::from_array(std::array::from_fn(|i| i as u64 + 1));
        let board = Board::default();
        board.show(&tally);
        assert_eq!(board.read(), tally);
        assert_eq!(tally.plus(&tally).since(&tally), tally);
    }
}
