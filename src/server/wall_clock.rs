//! The wall clock, for the expiry of tokens. Shards count milliseconds since their beginning, on a clock that nobody sets and
//! that stands still while the machine sleeps; where the wall clock goes another way they are told.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::shard_client::ShardClient;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What a clock may be off before anyone is told: tokens count in seconds.
const STEP_MS: u64 = 500;

/// Where the shards' zero is believed to be, in milliseconds since 1970.
struct Zero {
    unix_ms: u64,
}

impl Zero {
    /// The wall clock says `unix_ms`, `elapsed_ms` after the zero. Returns how far it was moved, where it was.
    fn look(&mut self, unix_ms: u64, elapsed_ms: u64) -> Option<i64> {
        let now = unix_ms.saturating_sub(elapsed_ms);
        let step = now as i64 - self.unix_ms as i64;
        if step.unsigned_abs() < STEP_MS {
            return None;
        }
        self.unix_ms = now;
        Some(step)
    }
}

/// For ever.
pub async fn watch(shards: ShardClient) {
    let began = Instant::now();
    let mut zero = Zero { unix_ms: unix_ms() };
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if let Some(step) = zero.look(unix_ms(), began.elapsed().as_millis() as u64) {
            log::warn!("the wall clock was moved by {step} ms: tokens expire by the new time");
            shards.tell_clock(zero.unix_ms);
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_is_seen_once_and_a_drift_when_it_has_grown() {
        let mut zero = Zero { unix_ms: 1_000_000 };
        assert_eq!(zero.look(1_005_000, 5_000), None);
        assert_eq!(zero.look(1_006_499, 6_000), None, "it is off by less than a half second");
        assert_eq!(zero.look(1_007_500, 7_000), Some(500));
        assert_eq!(zero.look(1_008_500, 8_000), None);
        // Back to before the shards began, then a day ahead.
        assert_eq!(zero.look(5_000, 9_000), Some(-1_000_500));
        assert_eq!(zero.unix_ms, 0);
        assert_eq!(zero.look(86_400_000, 10_000), Some(86_390_000));
    }
}
