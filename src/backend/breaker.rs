//! The circuit breaker: while a backend is down, calls fail at once and do not wait for it. Time is an argument.
//!
//! One client must not open it for the others. A failure that a payload can provoke counts once for each caller until a call
//! succeeds; only a backend that cannot be reached counts with every call.
//!
//! ```text
//!  state      admits                    result of a regular call              result of the probe
//!  closed     every call                up: count to 0; down or failed:       -
//!                                       count up, at the limit: open
//!  open       no call; after `open_for` ignored                               -
//!             one probe: half-open
//!  half-open  no call                   ignored                               up: closed; down or failed: open
//!                                                                             again; unknown: the next call is the probe
//! ```
//!
//! Calls that were in progress when the circuit opened are ignored: only the probe decides.

use std::time::{Duration, Instant};

use super::settings::BreakerSettings;

#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Those whose calls failed since the last success; fewer than `failures_to_open`, and empty unless closed.
    failed_callers: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Failures that concern every caller. With the callers that failed, below `failures_to_open`.
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// The probe is in progress.
    HalfOpen,
}

/// How a call was admitted. The same value is passed to `record` with its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallKind {
    Regular,
    Probe,
}

/// What a call's result says about the backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Up,
    /// It cannot be reached, whatever the call.
    Down,
    /// The call of this caller failed, perhaps because of what it sent.
    Failed {
        caller: u64,
    },
    /// The backend was not called, or had no time to respond.
    Unknown,
}

/// A change of state, for the log and the counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transition {
    Opened,
    Closed,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failures: 0 }, failed_callers: Vec::new() }
    }

    /// Admits a call, or `None` if it must fail at once.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<CallKind> {
        match self.state {
            State::Closed { .. } => Some(CallKind::Regular),
            State::Open { until } if now >= until => {
                self.state = State::HalfOpen;
                Some(CallKind::Probe)
            }
            State::Open { .. } | State::HalfOpen => None,
        }
    }

    /// Whether an admitted call may still be sent. A call that waited must check again.
    pub(crate) fn still_admits(&self, kind: CallKind) -> bool {
        kind == CallKind::Probe || matches!(self.state, State::Closed { .. })
    }

    /// Records the result of an admitted call, exactly once for each.
    pub(crate) fn record(&mut self, kind: CallKind, health: Health, now: Instant) -> Option<Transition> {
        match (self.state, kind, health) {
            (State::Closed { .. }, CallKind::Regular, Health::Up) => {
                self.state = State::Closed { failures: 0 };
                self.failed_callers.clear();
                None
            }
            (State::Closed { failures }, CallKind::Regular, Health::Down) => {
                self.count(failures.saturating_add(1), now)
            }
            (State::Closed { failures }, CallKind::Regular, Health::Failed { caller }) => {
                if self.settings.failures_to_open > 0 && !self.failed_callers.contains(&caller) {
                    self.failed_callers.push(caller);
                }
                self.count(failures, now)
            }
            (State::HalfOpen, CallKind::Probe, Health::Up) => {
                self.state = State::Closed { failures: 0 };
                Some(Transition::Closed)
            }
            (State::HalfOpen, CallKind::Probe, Health::Down | Health::Failed { .. }) => {
                Some(self.open(now, self.settings.open_for))
            }
            (State::HalfOpen, CallKind::Probe, Health::Unknown) => {
                self.open(now, Duration::ZERO);
                None
            }
            (_, CallKind::Probe, _) => {
                debug_assert!(false, "a probe is in progress only in the half-open state");
                None
            }
            (_, CallKind::Regular, _) => None,
        }
    }

    /// Opens at the limit.
    fn count(&mut self, failures: u32, now: Instant) -> Option<Transition> {
        self.state = State::Closed { failures };
        let total = failures as usize + self.failed_callers.len();
        let limit = self.settings.failures_to_open as usize;
        (limit > 0 && total >= limit).then(|| self.open(now, self.settings.open_for))
    }

    fn open(&mut self, now: Instant, open_for: Duration) -> Transition {
        self.state = State::Open { until: now + open_for };
        self.failed_callers = Vec::new();
        Transition::Opened
    }

    /// Calls fail without reaching the backend.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(2);

    fn breaker(failures_to_open: u32) -> (Breaker, Instant) {
        (Breaker::new(BreakerSettings { failures_to_open, open_for: OPEN_FOR }), Instant::now())
    }

    fn call(breaker: &mut Breaker, health: Health, now: Instant) -> Option<Transition> {
        let kind = breaker.admit(now).expect("admitted");
        breaker.record(kind, health, now)
    }

    #[test]
    fn breaker_opens_after_consecutive_failures_and_a_success_resets_the_count() {
        let (mut breaker, now) = breaker(3);
        for health in [Health::Down, Health::Down, Health::Up, Health::Down, Health::Unknown, Health::Down] {
            assert_eq!(call(&mut breaker, health, now), None);
        }
        assert_eq!(call(&mut breaker, Health::Down, now), Some(Transition::Opened));
        assert!(breaker.is_open());
        assert_eq!(breaker.admit(now), None);
        assert_eq!(breaker.admit(now + OPEN_FOR - Duration::from_nanos(1)), None);
    }

    #[test]
    fn breaker_admits_one_probe_whose_result_decides() {
        let (mut breaker, now) = breaker(1);
        call(&mut breaker, Health::Down, now);
        let later = now + OPEN_FOR;
        assert_eq!(breaker.admit(later), Some(CallKind::Probe));
        assert_eq!(breaker.admit(later), None, "one probe at a time");
        assert_eq!(breaker.record(CallKind::Probe, Health::Down, later), Some(Transition::Opened));
        assert_eq!(breaker.admit(later + OPEN_FOR / 2), None, "`open_for` starts again");
        let later = later + OPEN_FOR;
        assert_eq!(call(&mut breaker, Health::Up, later), Some(Transition::Closed));
        assert_eq!(breaker.admit(later), Some(CallKind::Regular));
        assert!(!breaker.is_open());
    }

    #[test]
    fn breaker_admits_another_probe_after_an_inconclusive_one() {
        let (mut breaker, now) = breaker(1);
        call(&mut breaker, Health::Down, now);
        let later = now + OPEN_FOR;
        assert_eq!(call(&mut breaker, Health::Unknown, later), None);
        assert_eq!(breaker.admit(later), Some(CallKind::Probe));
    }

    #[test]
    fn breaker_ignores_calls_from_before_it_opened() {
        let (mut breaker, now) = breaker(1);
        let (early, late) = (breaker.admit(now).unwrap(), breaker.admit(now).unwrap());
        assert!(breaker.still_admits(late));
        breaker.record(early, Health::Down, now);
        assert!(!breaker.still_admits(late));
        assert_eq!(breaker.record(late, Health::Up, now), None);
        assert_eq!(breaker.admit(now), None);
        let later = now + OPEN_FOR;
        assert_eq!(breaker.admit(later), Some(CallKind::Probe));
        assert_eq!(breaker.record(CallKind::Regular, Health::Down, later), None);
        assert_eq!(breaker.record(CallKind::Probe, Health::Up, later), Some(Transition::Closed));
    }

    #[test]
    fn breaker_counts_what_one_caller_may_have_provoked_once() {
        let (mut breaker, now) = breaker(3);
        for _ in 0..1000 {
            assert_eq!(call(&mut breaker, Health::Failed { caller: 7 }, now), None);
        }
        assert_eq!(call(&mut breaker, Health::Failed { caller: 8 }, now), None);
        assert_eq!(call(&mut breaker, Health::Up, now), None);
        // Together with failures that concern every caller.
        assert_eq!(call(&mut breaker, Health::Failed { caller: 7 }, now), None);
        assert_eq!(call(&mut breaker, Health::Down, now), None);
        assert_eq!(call(&mut breaker, Health::Failed { caller: 7 }, now), None);
        assert_eq!(call(&mut breaker, Health::Failed { caller: 9 }, now), Some(Transition::Opened));
        let later = now + OPEN_FOR;
        assert_eq!(call(&mut breaker, Health::Failed { caller: 9 }, later), Some(Transition::Opened), "the probe");
        assert!(breaker.failed_callers.is_empty());
    }

    #[test]
    fn breaker_with_limit_zero_never_opens() {
        let (mut breaker, now) = breaker(0);
        for _ in 0..1000 {
            assert_eq!(call(&mut breaker, Health::Down, now), None);
        }
    }
}
