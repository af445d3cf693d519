//! The path of a log record: a shard never writes logs, but passes records to the control thread through a bounded
//! ring. If the ring is full, the record is dropped and counted, and the turn is not delayed.

use std::mem;
use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::rejection::Rejection;
use super::stats::{Bound, Refused, TlsFailed};
use super::timer_wheel::Millis;
use super::token_bucket::{Rate, TokenBucket};
use crate::ids::{ConnId, ShardId};

/// How often a shard logs that one and the same limit was reached, in milliseconds. The record says how often it was.
pub const REACHED_INTERVAL_MS: Millis = 10_000;
/// How often a shard logs a refusal of one kind: some at once, for a person who tries, then one in ten seconds. A record says
/// how many others there were.
const REFUSALS: Rate = Rate::every(10_000, 5);
/// Records that may wait for the control thread, per shard.
const RECORDS_MAX: usize = 1024;

/// What a shard reports to the operator. The ring adds the shard's id.
#[derive(Clone, Debug)]
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
    /// A command, frame or request was refused: what, why, and what the server did. So many others of the kind were not
    /// logged since the last such record.
    Refused {
        what: Box<str>,
        suppressed: u64,
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
    /// A channel goes on at another position of its broker.
    Restarted {
        cause: RestartCause,
        subscribers: u32,
    },
}

/// Why a channel could not continue at its last delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartCause {
    /// So many publications are no longer in the history.
    NotKept(u64),
    /// So many publications take more bytes than are delivered at once; they are in the history.
    TooLarge(u64),
    /// The broker has begun a new epoch, or its position is an earlier one.
    NewEpoch,
}

impl LogRecord {
    /// The record with the address of its connection.
    pub(crate) fn with_address(mut self, from: Option<IpAddr>) -> Self {
        if let Self::Reached { address, .. } | Self::Refused { address, .. } = &mut self {
            *address = from;
        }
        self
    }
}

/// What is refused, by a kind that is logged apart from the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefusalKind {
    /// A command or a frame.
    Command(Rejection),
    /// A request for a connection.
    Request(Refused),
}

/// When each limit and each kind of refusal may be logged again, and how often it occurred since: a flood is one line in
/// ten seconds.
#[derive(Default)]
pub(crate) struct LogThrottle {
    /// By limit: the time from which it may be logged, and the count.
    limits: [(Millis, u64); Bound::ALL.len()],
    /// By kind: the lines that may be written, and how many were not.
    commands: [(TokenBucket, u64); Rejection::ALL.len()],
    requests: [(TokenBucket, u64); Refused::ALL.len()],
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

    /// Something was refused. Returns how many of its kind were not logged since the last record, if it may be logged now.
    pub(crate) fn refused(&mut self, kind: RefusalKind, now: Millis) -> Option<u64> {
        let (bucket, suppressed) = match kind {
            RefusalKind::Command(rejection) => &mut self.commands[rejection as usize],
            RefusalKind::Request(refused) => &mut self.requests[refused as usize],
        };
        if !REFUSALS.take(bucket, 1, now) {
            *suppressed += 1;
            return None;
        }
        Some(mem::take(suppressed))
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

/// The ring of a shard, and the limits that were reached and the refusals that may be logged.
pub(crate) struct LimitLog {
    ring: LogRing,
    throttle: LogThrottle,
    /// Records of connections. Their addresses are looked up at the end of the turn.
    pending: Vec<(LogRecord, ConnId)>,
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

    /// As `LogThrottle::refused`.
    pub(crate) fn throttle_refusal(&mut self, kind: RefusalKind, now: Millis) -> Option<u64> {
        self.throttle.refused(kind, now)
    }

    /// A connection has reached a limit.
    pub(crate) fn reached_by_connection(&mut self, bound: Bound, conn: ConnId, now: Millis) {
        if let Some(count) = self.throttle.reached(bound, now) {
            self.pending.push((LogRecord::Reached { bound, count, address: None }, conn));
        }
    }

    /// Something of a connection was refused. `describe` runs only if it is logged.
    pub(crate) fn refused_by_connection(
        &mut self,
        kind: RefusalKind,
        conn: ConnId,
        now: Millis,
        describe: impl FnOnce() -> String,
    ) {
        if let Some(suppressed) = self.throttle.refused(kind, now) {
            let what = describe().into_boxed_str();
            self.pending.push((LogRecord::Refused { what, suppressed, address: None }, conn));
        }
    }

    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The records that wait for their addresses, in order.
    pub(crate) fn take_pending(&mut self) -> Vec<(LogRecord, ConnId)> {
        mem::take(&mut self.pending)
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
    fn flood_of_refusals_writes_a_bounded_number_of_lines_and_describes_no_other() {
        let (ring, _drain) = LogRing::new(ShardId(0));
        let mut log = LimitLog::new(ring);
        let conn = ConnId::new(3, 1);
        let mut described = 0;
        for now in 0..100_000 {
            let kind = RefusalKind::Command(Rejection::TokenSignature);
            log.refused_by_connection(kind, conn, now, || {
                described += 1;
                "a token".into()
            });
        }
        let lines = log.take_pending();
        assert_eq!((described, lines.len()), (14, 14), "5 at once, then one in ten seconds");
        let suppressed: Vec<u64> = lines
            .iter()
            .map(|(record, _)| match record {
                LogRecord::Refused { suppressed, .. } => *suppressed,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((suppressed[4], suppressed[5]), (0, 9_995));
        let kind = RefusalKind::Request(Refused::Origin);
        log.refused_by_connection(kind, conn, 0, || "an origin".into());
        assert_eq!(log.take_pending().len(), 1, "another kind is logged apart");
    }

    #[test]
    fn index_of_a_limit_is_its_place_in_the_table() {
        for (index, (bound, name)) in Bound::ALL.iter().enumerate() {
            assert_eq!((*bound as usize, bound.name()), (index, *name));
        }
    }
}
