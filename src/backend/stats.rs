//! Counters of the calls of one proxy, and the throttle of its log lines.

use std::time::{Duration, Instant};

/// Upper bounds of the buckets of call durations, in milliseconds. One more bucket counts longer calls.
pub const DURATION_BUCKETS_MS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];
/// Shortest time between two log lines about the same kind of failure of one proxy.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The circuit is open: the backend was not called.
    Open,
    /// Too many calls were in progress and waiting: the backend was not called.
    Busy,
    /// No response within the timeout.
    Late,
    /// No connection could be made.
    Unreachable,
    /// The connection ended before the response was complete.
    Broken,
    /// A status other than 200.
    Status,
    /// The response exceeds its size limit.
    TooLong,
    /// The response is malformed.
    Malformed,
    /// The payload cannot be sent to this proxy.
    Unsendable,
    /// The response has bytes for a client whose protocol takes only JSON.
    Unfit,
}

impl Reason {
    /// Each with its name in metrics, in the order of the discriminants.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Open, "circuit_open"),
        (Self::Busy, "busy"),
        (Self::Late, "timeout"),
        (Self::Unreachable, "unreachable"),
        (Self::Broken, "broken"),
        (Self::Status, "status"),
        (Self::TooLong, "too_long"),
        (Self::Malformed, "malformed"),
        (Self::Unsendable, "unsendable"),
        (Self::Unfit, "unfit"),
    ];
}

const REASONS: usize = Reason::ALL.len();

/// The counters of one proxy. `open` and `in_flight` are current values; the others count since the proxy was made.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ProxySnapshot {
    pub name: String,
    /// Calls made by shards, whatever their result.
    pub calls: u64,
    /// Failed calls, by `Reason as usize`.
    pub failures: [u64; REASONS],
    /// Attempts after the first one of a call.
    pub retries: u64,
    /// How often the circuit opened.
    pub opened: u64,
    /// The circuit is open.
    pub open: bool,
    /// Calls waiting or in progress.
    pub in_flight: u64,
    /// Calls sent to the backend by duration, with all attempts; bucket `i` ends at `DURATION_BUCKETS_MS[i]`.
    pub durations: [u64; DURATION_BUCKETS_MS.len() + 1],
    pub duration_sum: Duration,
}

impl ProxySnapshot {
    pub fn record_duration(&mut self, duration: Duration) {
        let bucket = DURATION_BUCKETS_MS.partition_point(|&bound| duration > Duration::from_millis(bound));
        self.durations[bucket] += 1;
        self.duration_sum += duration;
    }
}

/// Decides which failures are logged, so that a backend that is down does not flood the log.
#[derive(Default, Debug)]
pub(crate) struct LogThrottle([Option<Throttle>; REASONS]);

#[derive(Debug)]
struct Throttle {
    next: Instant,
    suppressed: u64,
}

impl LogThrottle {
    /// `Some` if a failure of this kind is to be logged, with the number that were not since the last line.
    pub(crate) fn admit(&mut self, reason: Reason, now: Instant) -> Option<u64> {
        let throttle = self.0[reason as usize].get_or_insert(Throttle { next: now, suppressed: 0 });
        if now < throttle.next {
            throttle.suppressed += 1;
            return None;
        }
        throttle.next = now + LOG_INTERVAL;
        Some(std::mem::take(&mut throttle.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_the_order_of_their_discriminants() {
        for (index, (reason, _)) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn durations_are_counted_up_to_the_bound_of_their_bucket() {
        let mut counts = ProxySnapshot::default();
        for micros in [0, 1000, 1001, 5_000_000, 5_000_001] {
            counts.record_duration(Duration::from_micros(micros));
        }
        assert_eq!((counts.durations[0], counts.durations[1]), (2, 1));
        assert_eq!((counts.durations[10], counts.durations[11]), (1, 1));
        assert_eq!(counts.duration_sum, Duration::from_micros(10_002_002));
    }

    #[test]
    fn failures_of_one_kind_are_logged_once_per_interval() {
        let (mut throttle, now) = (LogThrottle::default(), Instant::now());
        assert_eq!(throttle.admit(Reason::Open, now), Some(0));
        for _ in 0..7 {
            assert_eq!(throttle.admit(Reason::Open, now + LOG_INTERVAL / 2), None);
        }
        assert_eq!(throttle.admit(Reason::Late, now), Some(0), "another kind is throttled separately");
        assert_eq!(throttle.admit(Reason::Open, now + LOG_INTERVAL), Some(7));
        assert_eq!(throttle.admit(Reason::Open, now + LOG_INTERVAL * 2), Some(0));
    }
}
