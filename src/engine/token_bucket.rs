//! A rate limit: a token bucket stored as one number, the time at which it would be full again (GCRA).
//!
//! It has no clock: time is an argument. A new bucket is full and needs no setup, and an unused bucket needs no upkeep.

/// Nanoseconds in a millisecond, the unit of the times that are passed in.
const NS: u64 = 1_000_000;

/// So many in a second, `burst` of them at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    cost_ns: u64,
    room_ns: u64,
}

/// The state of one bucket: when it is full again, in nanoseconds of the shard's clock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TokenBucket {
    full_at_ns: u64,
}

impl TokenBucket {
    pub const FULL: Self = Self { full_at_ns: 0 };
}

impl Rate {
    /// None if `per_second` is 0: there is no limit. A `burst` of 0 is that of one second.
    pub fn new(per_second: u64, burst: u64) -> Option<Self> {
        let cost_ns = 1_000_000_000u64.checked_div(per_second)?.max(1);
        let burst = if burst == 0 { per_second } else { burst };
        Some(Self { cost_ns, room_ns: cost_ns.saturating_mul(burst) })
    }

    /// One in each interval, `burst` of them at once.
    pub const fn every(interval_ms: u64, burst: u64) -> Self {
        let cost_ns = interval_ms * NS;
        Self { cost_ns, room_ns: cost_ns * burst }
    }

    /// Takes `n` at once, or nothing if they are not there.
    pub fn take(self, bucket: &mut TokenBucket, n: u64, now_ms: u64) -> bool {
        let now = now_ms * NS;
        let then = bucket.full_at_ns.max(now).saturating_add(self.cost_ns.saturating_mul(n));
        let taken = then - now <= self.room_ns;
        if taken {
            bucket.full_at_ns = then;
        }
        taken
    }

    /// Takes `n`, whether or not they are there. Returns the milliseconds until the debt is paid, 0 without debt.
    pub fn owe(self, bucket: &mut TokenBucket, n: u64, now_ms: u64) -> u64 {
        let now = now_ms * NS;
        bucket.full_at_ns = bucket.full_at_ns.max(now).saturating_add(self.cost_ns.saturating_mul(n));
        (bucket.full_at_ns - now).saturating_sub(self.room_ns).div_ceil(NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_at_once_and_the_rest_at_the_rate() {
        let rate = Rate::new(10, 3).expect("a limit");
        let mut bucket = TokenBucket::FULL;
        assert_eq!((0..5).filter(|_| rate.take(&mut bucket, 1, 1_000)).count(), 3);
        assert_eq!((0..5).filter(|_| rate.take(&mut bucket, 1, 1_100)).count(), 1);
        assert_eq!((0..9).filter(|_| rate.take(&mut bucket, 1, 60_000)).count(), 3);
    }

    #[test]
    fn debt_is_paid_at_the_rate() {
        let rate = Rate::new(1_000, 500).expect("a limit");
        let mut bucket = TokenBucket::FULL;
        assert_eq!(rate.owe(&mut bucket, 500, 0), 0);
        assert_eq!(rate.owe(&mut bucket, 250, 0), 250);
        assert_eq!(rate.owe(&mut bucket, 0, 250), 0);
    }

    #[test]
    fn rate_of_zero_is_no_limit_and_a_burst_of_zero_is_one_second() {
        assert_eq!(Rate::new(0, 5), None);
        assert_eq!(Rate::new(7, 0), Rate::new(7, 7));
        assert!(Rate::new(u64::MAX, u64::MAX).expect("a limit").take(&mut TokenBucket::default(), 1, u64::MAX / NS));
    }
}
