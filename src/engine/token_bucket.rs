//! How often something may happen: a token bucket kept as one number, the time at which it would be full again (GCRA).
//!
//! Knows no clock: time is an argument. A state that says 0 is a full bucket, so that nothing has to be set up, and a
//! bucket that rested needs no upkeep.

/// Nanoseconds in a millisecond, which is how time comes here.
const NS: u64 = 1_000_000;

/// So many in a second, `burst` of them at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    cost_ns: u64,
    room_ns: u64,
}

/// One bucket's state: when it is full again, in nanoseconds of the shard's clock.
pub type Full = u64;

impl Rate {
    /// None where `per_second` is 0: there is no limit. A `burst` of 0 is that of one second.
    pub fn new(per_second: u64, burst: u64) -> Option<Self> {
        let cost_ns = 1_000_000_000u64.checked_div(per_second)?.max(1);
        let burst = if burst == 0 { per_second } else { burst };
        Some(Self { cost_ns, room_ns: cost_ns.saturating_mul(burst) })
    }

    /// Takes `n` at once, or nothing where they are not there.
    pub fn take(self, full: &mut Full, n: u64, now_ms: u64) -> bool {
        let now = now_ms * NS;
        let then = (*full).max(now).saturating_add(self.cost_ns.saturating_mul(n));
        let taken = then - now <= self.room_ns;
        if taken {
            *full = then;
        }
        taken
    }

    /// Takes `n`, whether or not they are there. Says in how many milliseconds the debt is paid: 0 where there is none.
    pub fn owe(self, full: &mut Full, n: u64, now_ms: u64) -> u64 {
        let now = now_ms * NS;
        *full = (*full).max(now).saturating_add(self.cost_ns.saturating_mul(n));
        (*full - now).saturating_sub(self.room_ns).div_ceil(NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_as_many_as_the_rate_says() {
        let rate = Rate::new(10, 3).expect("a limit");
        let mut full = 0;
        assert_eq!((0..5).filter(|_| rate.take(&mut full, 1, 1_000)).count(), 3);
        assert_eq!((0..5).filter(|_| rate.take(&mut full, 1, 1_100)).count(), 1);
        assert_eq!((0..9).filter(|_| rate.take(&mut full, 1, 60_000)).count(), 3);
    }

    #[test]
    fn what_is_owed_is_paid_in_its_time() {
        let rate = Rate::new(1_000, 500).expect("a limit");
        let mut full = 0;
        assert_eq!(rate.owe(&mut full, 500, 0), 0);
        assert_eq!(rate.owe(&mut full, 250, 0), 250);
        assert_eq!(rate.owe(&mut full, 0, 250), 0);
    }

    #[test]
    fn nothing_set_is_no_limit_and_no_burst_is_a_second_of_it() {
        assert_eq!(Rate::new(0, 5), None);
        assert_eq!(Rate::new(7, 0), Rate::new(7, 7));
        assert!(Rate::new(u64::MAX, u64::MAX).expect("a limit").take(&mut 0, 1, u64::MAX / NS));
    }
}
