//! `shutdown` and `handover`: how a process ends, and how the next one takes its place.

use std::path::PathBuf;
use std::time::Duration;

/// The part of the timeout over which closes are spread where no window is set; the rest is for the closing hand-shakes.
const WINDOW_PART: u32 = 3;
const WINDOW_MAX: Duration = Duration::from_secs(5);

/// `shutdown`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shutdown {
    pub timeout: Duration,
    /// Zero: a third of the timeout, at most five seconds.
    pub window: Duration,
    pub delay: Duration,
    /// Connections a second, of all shards together. Zero: as many as the window asks for.
    pub rate_max: u32,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), window: Duration::ZERO, delay: Duration::ZERO, rate_max: 0 }
    }
}

impl Shutdown {
    /// Over what time so many connections are closed, and whether the pace that was asked for holds: a window that reaches
    /// into the last third of the timeout would cut the last ones without a close hand-shake.
    pub fn window_for(&self, connections: u64) -> (Duration, bool) {
        let asked = if self.window.is_zero() { (self.timeout / WINDOW_PART).min(WINDOW_MAX) } else { self.window };
        let paced = match self.rate_max {
            0 => Duration::ZERO,
            rate => Duration::from_millis(connections.saturating_mul(1000).div_ceil(u64::from(rate))),
        };
        let latest = asked.max(self.timeout - self.timeout / WINDOW_PART);
        (asked.max(paced).min(latest), paced <= latest)
    }
}

/// `handover`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Handover {
    /// None: no other process takes this one's place.
    pub socket: Option<PathBuf>,
    /// Take the place of whoever answers there.
    pub take: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_window_is_short_by_default_and_as_long_as_the_pace_needs() {
        let mut shutdown = Shutdown::default();
        assert_eq!(shutdown.window_for(1_000_000), (s(5), true));
        shutdown.rate_max = 1000;
        assert_eq!(shutdown.window_for(100), (s(5), true));
        assert_eq!(shutdown.window_for(12_000), (s(12), true));
        assert_eq!(shutdown.window_for(1_000_000), (s(20), false), "the deadline wins, and it is said");
        shutdown.window = s(25);
        assert_eq!(shutdown.window_for(100), (s(25), true));
    }
}
