//! Watches the wall clock for the expiry of tokens. Shards count milliseconds since their start on a monotonic clock, which
//! does not advance while the machine sleeps. When the wall clock moves against it, the shards get the difference.

use std::time::{Duration, Instant};

use super::shard_client::ShardClient;
use crate::broker::clock::now_ms;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A smaller step is ignored: tokens count in seconds.
const STEP_MIN_MS: u64 = 500;

/// The start of the shards' clock in milliseconds since 1970, as the shards know it.
struct ClockStart {
    unix_ms: u64,
}

impl ClockStart {
    /// `elapsed_ms` after the start, the wall clock reads `unix_ms`. Returns the step of the wall clock if there was one.
    fn update(&mut self, unix_ms: u64, elapsed_ms: u64) -> Option<i64> {
        let now = unix_ms.saturating_sub(elapsed_ms);
        let step = now as i64 - self.unix_ms as i64;
        if step.unsigned_abs() < STEP_MIN_MS {
            return None;
        }
        self.unix_ms = now;
        Some(step)
    }
}

/// Never returns.
pub(crate) async fn watch(shards: ShardClient) {
    let began = Instant::now();
    let mut start = ClockStart { unix_ms: now_ms() };
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Some(step) = start.update(now_ms(), began.elapsed().as_millis() as u64) {
            let direction = if step > 0 { "forward" } else { "back" };
            log::warn!(
                "the wall clock was set {direction} by {} ms: token expiry follows the new time",
                step.unsigned_abs()
            );
            shards.send_clock(start.unix_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_is_reported_once_and_a_drift_when_it_has_grown() {
        let mut start = ClockStart { unix_ms: 1_000_000 };
        assert_eq!(start.update(1_005_000, 5_000), None);
        assert_eq!(start.update(1_006_499, 6_000), None, "less than half a second");
        assert_eq!(start.update(1_007_500, 7_000), Some(500));
        assert_eq!(start.update(1_008_500, 8_000), None);
        // Back to before the shards started, then a day ahead.
        assert_eq!(start.update(5_000, 9_000), Some(-1_000_500));
        assert_eq!(start.unix_ms, 0);
        assert_eq!(start.update(86_400_000, 10_000), Some(86_390_000));
    }
}
