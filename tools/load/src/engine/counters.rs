//! What a worker counts. The worker owns plain numbers and copies them once per turn to shared cells for the coordinator.
//!
//! The cells are relaxed atomics with one writer. A reader may see a mix of the numbers of two successive turns, which is below
//! the resolution of every figure.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64),*
        }

        const FIELDS: usize = [$(stringify!($name)),*].len();

        impl Counters {
            fn array(&self) -> [u64; FIELDS] {
                [$(self.$name),*]
            }

            fn from_array([$($name),*]: [u64; FIELDS]) -> Self {
                Self { $($name),* }
            }
        }
    };
}

counters! {
    /// Connections that finished the upgrade and the connection setup.
    ready,
    /// Connections that ended before they were ready.
    failed,
    /// Ready connections that the server ended.
    closed,
    /// Ready connections that this tool ended.
    left,
    /// Messages (echoes, deliveries) received.
    received,
    /// Messages (echo requests, publications) sent.
    sent,
    reads,
    writes,
    polls,
    /// Messages that were lost or wrong.
    faults,
    /// A gauge: messages in flight now.
    in_flight,
    /// A gauge: clients that are to be connected and subscribed again.
    away,
    /// Nanoseconds of turns that had work; counted only if the worker spins.
    busy_ns,
}

impl Counters {
    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.ready.saturating_sub(self.closed + self.left)
    }

    /// Connections whose opening has succeeded or failed.
    pub fn settled(&self) -> usize {
        (self.ready + self.failed) as usize
    }

    /// Field by field, `self` plus `other`. `in_flight` may be negative (wrapped) in one of several processes.
    pub fn plus(&self, other: &Self) -> Self {
        let (a, b) = (self.array(), other.array());
        Self::from_array(std::array::from_fn(|i| a[i].wrapping_add(b[i])))
    }

    /// Field by field, the increase since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let (a, b) = (self.array(), earlier.array());
        Self::from_array(std::array::from_fn(|i| a[i].saturating_sub(b[i])))
    }
}

/// The cells through which other threads read the counters of a worker.
#[derive(Debug, Default)]
pub struct SharedCounters([AtomicU64; FIELDS]);

impl SharedCounters {
    pub fn store(&self, counters: &Counters) {
        for (cell, value) in self.0.iter().zip(counters.array()) {
            cell.store(value, Relaxed);
        }
    }

    pub fn load(&self) -> Counters {
        Counters::from_array(std::array::from_fn(|i| self.0[i].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_counters_are_read_back_field_by_field() {
        let counters = Counters::from_array(std::array::from_fn(|i| i as u64 + 1));
        let shared = SharedCounters::default();
        shared.store(&counters);
        assert_eq!(shared.load(), counters);
        assert_eq!(counters.plus(&counters).since(&counters), counters);
    }
}
