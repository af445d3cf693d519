//! The path of a log record: a shard never writes logs, but passes records to the control thread through a bounded
//! ring. If the ring is full, the record is dropped and counted, and the turn is not delayed.

use std::mem;
use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::stats::{Bound, TlsFailed};
use super::timer_wheel::Millis;
use crate::ids::{ConnId, ShardId};

/// How often a shard logs that one and the same limit was reached, in milliseconds. The record says how often it was.
pub const REACHED_INTERVAL_MS: Millis = 10_000;
/// Records that may wait for the control thread, per shard.
const RECORDS_MAX: usize = 1024;

/// What a shard reports to the operator. The ring adds the shard's id.
#[derive(Clone, Copy, Debug)]
pub enum LogRecord {
    /// The shard runs. `core`: where its thread is pinned; `wanted`: where it should be.
    Started {
        core: Option<usize>,
        wanted: Option<usize>,
    },
    /// The tables of connections are in small pages although huge ones were asked for.
    NoHugePages {
        errno: i32,
    },
    /// The listener rests and tries again.
    AcceptFailed {
        errno: i32,
    },
    /// Epoll did not accept a new connection, which was closed. The listener rests and tries again.
    WatchFailed {
        errno: i32,
    },
    SlowClosed {
        slot: u32,
        backlog_bytes: usize,
        address: Option<IpAddr>,
    },
    /// A limit was reached so often since the last record of it, most recently by this address.
    Reached {
        bound: Bound,
        count: u64,
        address: Option<IpAddr>,
    },
    /// TLS sessions that failed since the last such record, and the reason of the last one.
    TlsFailed {
        count: u32,
        why: TlsFailed,
    },
    /// The event-loop lag started (`shedding`) or ended the refusal of new connections.
    Lagging {
        lag_us: u64,
        shedding: bool,
    },
    /// What policies dropped since the last such record.
    Dropped {
        oldest: u64,
        all_but_latest: u64,
        subscriptions_cut: u64,
    },
    /// All backlogs together keep more memory alive than they may: the longest are closed.
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

/// When each limit may be logged again, and how often it was reached since: a flood is one line in ten seconds.
#[derive(Default)]
pub(crate) struct LogThrottle {
    /// By limit: the time from which it may be logged, and the count.
    limits: [(Millis, u64); Bound::ALL.len()],
}

impl LogThrottle {
    /// A limit was reached. Returns how often it was since the last record, if it may be logged now.
    pub(crate) fn reached(&mut self, bound: Bound, now: Millis) -> Option<u64> {
        let (next, count) = &mut self.limits[bound as usize];
        *count += 1;
        if now < *next {
            return None;
        }
        *next = now + REACHED_INTERVAL_MS;
        Some(mem::take(count))
    }
}

/// The shard's end of the way to the log.
pub struct LogRing {
    shard: ShardId,
    ring: Sender<(ShardId, LogRecord)>,
}

impl LogRing {
    /// A ring, and the end that the control thread drains.
    pub fn new(shard: ShardId) -> (Self, Receiver<(ShardId, LogRecord)>) {
        let (ring, drain) = bounded(RECORDS_MAX);
        (Self { shard, ring }, drain)
    }

    /// False if the ring is full or its other end is gone.
    fn push(&self, record: LogRecord) -> bool {
        self.ring.try_send((self.shard, record)).is_ok()
    }
}

/// The ring of a shard, and the limits that were reached.
pub(crate) struct LimitLog {
    ring: LogRing,
    throttle: LogThrottle,
    /// Limits that may be logged now, with how often and by which connection they were reached. Their addresses are looked
    /// up at the end of the turn.
    pending: Vec<(Bound, u64, ConnId)>,
}

impl LimitLog {
    pub(crate) fn new(ring: LogRing) -> Self {
        Self { ring, throttle: LogThrottle::default(), pending: Vec::new() }
    }

    /// False if the record is lost.
    pub(crate) fn push(&self, record: LogRecord) -> bool {
        self.ring.push(record)
    }

    /// As `LogThrottle::reached`.
    pub(crate) fn throttle(&mut self, bound: Bound, now: Millis) -> Option<u64> {
        self.throttle.reached(bound, now)
    }

    /// A connection has reached a limit.
    pub(crate) fn reached_by_connection(&mut self, bound: Bound, conn: ConnId, now: Millis) {
        if let Some(count) = self.throttle.reached(bound, now) {
            self.pending.push((bound, count, conn));
        }
    }

    pub(crate) fn pending(&mut self) -> Option<(Bound, u64, ConnId)> {
        self.pending.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_is_one_line_in_ten_seconds_with_its_count() {
        let mut throttle = LogThrottle::default();
        assert_eq!(throttle.reached(Bound::Message, 0), Some(1));
        assert_eq!((1..1000).filter_map(|now| throttle.reached(Bound::Message, now)).count(), 0);
        assert_eq!(throttle.reached(Bound::Channels, 5), Some(1));
        assert_eq!(throttle.reached(Bound::Message, REACHED_INTERVAL_MS), Some(1000));
    }

    #[test]
    fn index_of_a_limit_is_its_place_in_the_table() {
        for (index, (bound, name)) in Bound::ALL.iter().enumerate() {
            assert_eq!((*bound as usize, bound.name()), (index, *name));
        }
    }
}
