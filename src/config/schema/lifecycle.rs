//! `shutdown` and `handover`: how a process ends, and how the next process takes over.

use std::time::Duration;

use super::section::section;
use crate::config::parse::scalar::{Bool, Bytes, Count, Text, Time};

/// The part of the timeout over which closes are spread if no window is set; the rest is for the closing handshakes.
const WINDOW_PART: u32 = 3;
const WINDOW_MAX: Duration = Duration::from_secs(5);

section! {
    /// The section `shutdown`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Shutdown {}

    /// Time to close every connection with a closing handshake when the process is asked to end; past it the remaining ones are
    /// cut.
    timeout: Duration as Time = Duration::from_secs(30);

    /// Time over which the closes are spread evenly, so that clients do not all reconnect at once. Each client is served until
    /// it is closed. 0s: a third of the timeout, at most 5 s.
    window: Duration as Time = Duration::ZERO;

    /// Connections closed per second at most, all shards together. The window grows as this needs, up to two thirds of the
    /// timeout. 0: only the window decides.
    rate_max: u32 as Count = 0;

    /// Time between /health answering 503 (at both addresses) and the listeners closing. Load balancers may still send clients
    /// until then, and they are accepted. The timeout begins after it.
    delay: Duration as Time = Duration::ZERO;
}

impl Shutdown {
    /// The time over which `connections` are closed, and whether `rate_max` can be kept. A window that reaches into the last
    /// third of the timeout would cut the last connections without a closing handshake.
    pub fn window_for(&self, connections: u64) -> (Duration, bool) {
        let wanted = if self.window.is_zero() { (self.timeout / WINDOW_PART).min(WINDOW_MAX) } else { self.window };
        let paced = match self.rate_max {
            0 => Duration::ZERO,
            rate => Duration::from_millis(connections.saturating_mul(1000).div_ceil(u64::from(rate))),
        };
        let latest = wanted.max(self.timeout - self.timeout / WINDOW_PART);
        (wanted.max(paced).min(latest), paced <= latest)
    }
}

section! {
    /// The section `handover`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Handover {}

    /// Path of a unix socket, only for this user, through which the next process takes over the listeners. No connection is
    /// refused meanwhile, channels move too, and a publication to either process reaches the subscribers of both. Empty: no
    /// handover.
    socket: String as Text = String::new(), restart;

    /// Take over from the process that answers at handover.socket. It shuts down once this process has served for trial_time. If
    /// no process answers, this one starts as usual.
    take: bool as Bool = false, restart, flag("takeover");

    /// Time that this process must have served after it took over. Until then the old process accepts clients too, and goes on
    /// alone if this one ends.
    trial_time: Duration as Time = Duration::from_secs(3), restart;

    /// Bytes of publications that may wait for the other process during a handover; past it publishers wait, and the server API
    /// answers with error 111.
    bytes_max: usize as Bytes = 16 * 1024 * 1024, restart;
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn window_is_short_by_default_and_as_long_as_the_pace_needs() {
        let mut shutdown = Shutdown::default();
        assert_eq!(shutdown.window_for(1_000_000), (s(5), true));
        shutdown.rate_max = 1000;
        assert_eq!(shutdown.window_for(100), (s(5), true));
        assert_eq!(shutdown.window_for(12_000), (s(12), true));
        assert_eq!(shutdown.window_for(1_000_000), (s(20), false), "the deadline wins");
        shutdown.window = s(25);
        assert_eq!(shutdown.window_for(100), (s(25), true));
    }
}
