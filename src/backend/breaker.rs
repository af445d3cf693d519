//! The circuit breaker: answers for a backend that is gone, so that its absence costs no waiting. Time is an argument.
//!
//! ```text
//!  state      admit                    a call's verdict                        the probe's verdict
//!  closed     every call               alive: count to 0; dead: count up,      -
//!                                      at the bound: open
//!  open       none; when its time is   none counts                             -
//!             over, one: half-open
//!  half-open  none                     none counts                             alive: closed; dead: open anew;
//!                                                                              unknown: the next call probes
//! ```
//!
//! Calls that were on their way when the circuit opened say nothing any more: only the probe decides.

use std::time::{Duration, Instant};

use super::settings::BreakerSettings;

#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Failures in a row, below `failures_to_open`.
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// The probe is on its way.
    HalfOpen,
}

/// What a call was let through as; it comes back with the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    Call,
    Probe,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Alive,
    Dead,
    /// The backend was not asked, or had no time to answer.
    Unknown,
}

/// What a verdict changed, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Opened,
    Closed,
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// Whether a call may go to the backend.
    pub fn admit(&mut self, now: Instant) -> Option<Pass> {
        match self.state {
            State::Closed { .. } => Some(Pass::Call),
            State::Open { until } if now >= until => {
                self.state = State::HalfOpen;
                Some(Pass::Probe)
            }
            State::Open { .. } | State::HalfOpen => None,
        }
    }

    /// Whether a pass still holds: a call that waited for its turn looks again.
    pub fn stands(&self, pass: Pass) -> bool {
        pass == Pass::Probe || matches!(self.state, State::Closed { .. })
    }

    /// Every admitted call comes back here once.
    pub fn settle(&mut self, pass: Pass, verdict: Verdict, now: Instant) -> Option<Change> {
        match (self.state, pass, verdict) {
            (State::Closed { .. }, Pass::Call, Verdict::Alive) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (State::Closed { failures }, Pass::Call, Verdict::Dead) => {
                let failures = failures.saturating_add(1);
                if self.settings.failures_to_open > 0 && failures >= self.settings.failures_to_open {
                    return Some(self.open(now, self.settings.open_for));
                }
                self.state = State::Closed { failures };
                None
            }
            (State::HalfOpen, Pass::Probe, Verdict::Alive) => {
                self.state = State::Closed { failures: 0 };
                Some(Change::Closed)
            }
            (State::HalfOpen, Pass::Probe, Verdict::Dead) => Some(self.open(now, self.settings.open_for)),
            (State::HalfOpen, Pass::Probe, Verdict::Unknown) => {
                self.open(now, Duration::ZERO);
                None
            }
            (_, Pass::Probe, _) => {
                debug_assert!(false, "a probe is on its way in the half-open state only");
                None
            }
            (_, Pass::Call, _) => None,
        }
    }

    fn open(&mut self, now: Instant, open_for: Duration) -> Change {
        self.state = State::Open { until: now + open_for };
        Change::Opened
    }

    /// Calls are being answered for the backend.
    pub fn is_open(&self) -> bool {
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

    fn call(breaker: &mut Breaker, verdict: Verdict, now: Instant) -> Option<Change> {
        let pass = breaker.admit(now).expect("admitted");
        breaker.settle(pass, verdict, now)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_an_answer_between_them_starts_the_count_anew() {
        let (mut breaker, now) = breaker(3);
        for verdict in [Verdict::Dead, Verdict::Dead, Verdict::Alive, Verdict::Dead, Verdict::Unknown, Verdict::Dead] {
            assert_eq!(call(&mut breaker, verdict, now), None);
        }
        assert_eq!(call(&mut breaker, Verdict::Dead, now), Some(Change::Opened));
        assert!(breaker.is_open());
        assert_eq!(breaker.admit(now), None);
        assert_eq!(breaker.admit(now + OPEN_FOR - Duration::from_nanos(1)), None);
    }

    #[test]
    fn one_call_probes_and_decides() {
        let (mut breaker, now) = breaker(1);
        call(&mut breaker, Verdict::Dead, now);
        let later = now + OPEN_FOR;
        assert_eq!(breaker.admit(later), Some(Pass::Probe));
        assert_eq!(breaker.admit(later), None, "one is enough");
        assert_eq!(breaker.settle(Pass::Probe, Verdict::Dead, later), Some(Change::Opened));
        assert_eq!(breaker.admit(later + OPEN_FOR / 2), None, "its time starts anew");
        let later = later + OPEN_FOR;
        assert_eq!(call(&mut breaker, Verdict::Alive, later), Some(Change::Closed));
        assert_eq!(breaker.admit(later), Some(Pass::Call));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_probe_that_learnt_nothing_hands_its_place_to_the_next_call() {
        let (mut breaker, now) = breaker(1);
        call(&mut breaker, Verdict::Dead, now);
        let later = now + OPEN_FOR;
        assert_eq!(call(&mut breaker, Verdict::Unknown, later), None);
        assert_eq!(breaker.admit(later), Some(Pass::Probe));
    }

    #[test]
    fn calls_from_before_say_nothing_once_it_is_open() {
        let (mut breaker, now) = breaker(1);
        let (early, late) = (breaker.admit(now).unwrap(), breaker.admit(now).unwrap());
        assert!(breaker.stands(late));
        breaker.settle(early, Verdict::Dead, now);
        assert!(!breaker.stands(late));
        assert_eq!(breaker.settle(late, Verdict::Alive, now), None);
        assert_eq!(breaker.admit(now), None);
        let later = now + OPEN_FOR;
        assert_eq!(breaker.admit(later), Some(Pass::Probe));
        assert_eq!(breaker.settle(Pass::Call, Verdict::Dead, later), None);
        assert_eq!(breaker.settle(Pass::Probe, Verdict::Alive, later), Some(Change::Closed));
    }

    #[test]
    fn a_bound_of_zero_never_opens() {
        let (mut breaker, now) = breaker(0);
        for _ in 0..1000 {
            assert_eq!(call(&mut breaker, Verdict::Dead, now), None);
        }
    }
}
