//! How long to wait before the next attempt to connect.

use std::time::Duration;

use super::random;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from attempt to attempt. Jitter keeps the servers of a cluster apart when they all lost the broker at once.
#[derive(Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.attempts.min(8)).min(LONGEST);
        self.attempts += 1;
        // Between three quarters and five quarters of it.
        pause * 3 / 4 + pause / 2 * (random::number() % 1000) as u32 / 1000
    }

    /// Whether the next failure is to be logged: fewer and fewer are.
    pub(super) fn deserves_a_line(&self) -> bool {
        (self.attempts + 1).is_power_of_two()
    }

    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        let mut between = |least, most| {
            let pause = backoff.next().as_millis();
            assert!((least..=most).contains(&pause), "{pause}");
        };
        between(187, 313);
        between(375, 625);
        between(750, 1250);
        for _ in 0..100 {
            between(1500, 2500);
        }
        backoff.reset();
        assert!(backoff.next().as_millis() < 313);
    }
}
