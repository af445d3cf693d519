//! The way of a log record: a shard never writes logs, it hands records to the control thread through a bounded ring.
//! A full ring costs the record, which is counted, never the turn.

use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::stats::{Bound, TlsFailed};
use crate::ids::ShardId;

/// How often a shard reports that one and the same limit was reached, in milliseconds. The report counts how often it was.
pub const REACHED_INTERVAL_MS: u64 = 10_000;
/// Records that may wait for the control thread, per shard.
const NOTES_MAX: usize = 1024;

/// What a shard tells the operator. The shard adds who it is.
#[derive(Clone, Copy, Debug)]
pub enum LogRecord {
    Started {
        core: Option<usize>,
        wanted: Option<usize>,
    },
    /// The tables of connections lie in small pages although huge ones were wished.
    NoHugePages {
        errno: i32,
    },
    /// The listener rests and tries again.
    AcceptFailed {
        errno: i32,
    },
    SlowClosed {
        slot: u32,
        backlog_bytes: usize,
        address: Option<IpAddr>,
    },
    /// A limit was reached so often since this was last said, lately by this address.
    Reached {
        bound: Bound,
        count: u64,
        address: Option<IpAddr>,
    },
    /// Sessions of TLS that failed since this was last said, and why the last of them did.
    TlsFailed {
        count: u32,
        why: TlsFailed,
    },
    /// Nobody new is let in from here on, or everybody again.
    Lagging {
        lag_us: u64,
        shut: bool,
    },
    /// So much was dropped by policies since the last such record.
    Dropped {
        oldest: u64,
        all_but_latest: u64,
        subscriptions_cut: u64,
    },
    /// All backlogs together keep more alive than they may: the longest are closed.
    Crowded {
        kept_bytes: usize,
        connections: usize,
    },
    /// Publications were skipped for this shard and could not be sent later.
    Gap {
        count: u64,
        subscribers: u32,
    },
}

/// When each limit may be spoken of again, and how often it was reached since: a flood is a line in ten seconds.
#[derive(Default)]
pub(crate) struct Said {
    places: [(u64, u64); Bound::ALL.len()],
}

impl Said {
    /// A limit was reached. Where it may be spoken of, how often it was since that was last done.
    pub fn reached(&mut self, bound: Bound, now: u64) -> Option<u64> {
        let (next, count) = &mut self.places[bound as usize];
        *count += 1;
        if now < *next {
            return None;
        }
        *next = now + REACHED_INTERVAL_MS;
        Some(std::mem::take(count))
    }
}

pub struct LogRing {
    shard: ShardId,
    ring: Sender<(ShardId, LogRecord)>,
}

impl LogRing {
    /// A ring, and the end that the control thread drains.
    pub fn new(shard: ShardId) -> (Self, Receiver<(ShardId, LogRecord)>) {
        let (ring, drain) = bounded(NOTES_MAX);
        (Self { shard, ring }, drain)
    }

    /// False where the ring is full or nobody drains it.
    pub(crate) fn push(&self, note: LogRecord) -> bool {
        self.ring.try_send((self.shard, note)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_in_ten_seconds_with_its_number() {
        let mut said = Said::default();
        assert_eq!(said.reached(Bound::Message, 0), Some(1));
        assert_eq!((1..1000).filter_map(|now| said.reached(Bound::Message, now)).count(), 0);
        assert_eq!(said.reached(Bound::Channels, 5), Some(1));
        assert_eq!(said.reached(Bound::Message, REACHED_INTERVAL_MS), Some(1000));
    }

    #[test]
    fn limits_stand_at_their_places() {
        for (index, (bound, name)) in Bound::ALL.iter().enumerate() {
            assert_eq!((*bound as usize, bound.name()), (index, *name));
        }
    }
}
