//! What happened to the calls of one proxy, as plain numbers, and how rarely it is said in the log.

use std::time::{Duration, Instant};

/// Upper bounds of the buckets of call durations, in milliseconds; the last bucket is everything above.
pub const DURATION_BUCKETS_MS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];
/// Of one kind of failure of one proxy, a line no more often than this. A line says how many it stands for.
const LOG_GAP: Duration = Duration::from_secs(5);

/// Why a call had no good answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The circuit is open: the backend was not asked.
    Open,
    /// Too many calls were on their way and waiting: the backend was not asked.
    Busy,
    /// No answer in time.
    Late,
    /// No connection could be made.
    Unreachable,
    /// The connection ended before the reply.
    Broken,
    /// A status that is not 200.
    Status,
    /// A reply longer than its bound.
    TooLong,
    /// A reply that is not of the form.
    Malformed,
    /// A payload that cannot be sent to this proxy.
    Unsendable,
    /// A reply with bytes for a client whose protocol takes JSON only.
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

/// The numbers of one proxy. Counted over its life: `calls`, `failures`, `retries`, `opened`, `durations`.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ProxySnapshot {
    pub name: String,
    /// Calls that were asked for, whatever became of them.
    pub calls: u64,
    /// Calls without a good answer, by `Reason as usize`.
    pub failures: [u64; REASONS],
    /// Tries beyond the first.
    pub retries: u64,
    /// How often the circuit opened.
    pub opened: u64,
    /// The circuit is open.
    pub open: bool,
    /// Calls that wait or are on their way.
    pub in_flight: u64,
    /// Calls that went to the backend, by how long they were under way, every try counted; bucket `i` up to `DURATION_BUCKETS_MS[i]`.
    pub durations: [u64; DURATION_BUCKETS_MS.len() + 1],
    pub duration_sum: Duration,
}

impl ProxySnapshot {
    pub fn took(&mut self, duration: Duration) {
        let bucket = DURATION_BUCKETS_MS.partition_point(|&bound| duration > Duration::from_millis(bound));
        self.durations[bucket] += 1;
        self.duration_sum += duration;
    }
}

/// Says when a failure may be logged, so that a dead backend does not flood the log.
#[derive(Default, Debug)]
pub struct LogGate([Option<Gate>; REASONS]);

#[derive(Debug)]
struct Gate {
    next: Instant,
    swallowed: u64,
}

impl LogGate {
    /// The number of failures of this kind since the last line about one, if it is time for another.
    pub fn pass(&mut self, reason: Reason, now: Instant) -> Option<u64> {
        let gate = self.0[reason as usize].get_or_insert(Gate { next: now, swallowed: 0 });
        if now < gate.next {
            gate.swallowed += 1;
            return None;
        }
        gate.next = now + LOG_GAP;
        Some(std::mem::take(&mut gate.swallowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_place() {
        for (index, (reason, _)) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_pass() {
        let mut counts = ProxySnapshot::default();
        for micros in [0, 1000, 1001, 5_000_000, 5_000_001] {
            counts.took(Duration::from_micros(micros));
        }
        assert_eq!((counts.durations[0], counts.durations[1]), (2, 1));
        assert_eq!((counts.durations[10], counts.durations[11]), (1, 1));
        assert_eq!(counts.duration_sum, Duration::from_micros(10_002_002));
    }

    #[test]
    fn failures_of_one_kind_are_logged_rarely_and_counted_meanwhile() {
        let (mut gate, now) = (LogGate::default(), Instant::now());
        assert_eq!(gate.pass(Reason::Open, now), Some(0));
        for _ in 0..7 {
            assert_eq!(gate.pass(Reason::Open, now + LOG_GAP / 2), None);
        }
        assert_eq!(gate.pass(Reason::Late, now), Some(0), "another kind has its own gate");
        assert_eq!(gate.pass(Reason::Open, now + LOG_GAP), Some(7));
        assert_eq!(gate.pass(Reason::Open, now + LOG_GAP * 2), Some(0));
    }
}
