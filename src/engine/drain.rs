//! The shutdown of a shard: open connections are closed evenly over a window, and served until then.

use super::timer_wheel::{Millis, TICK};

const TICK_MS: Millis = TICK.as_millis() as Millis;

/// What happens to upgrades that are under way when the drain begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upgrades {
    /// They are completed, and closed with a later wave: another process takes the new connections.
    Complete,
    /// They are refused with 503.
    Refuse,
}

pub(crate) struct Drain {
    /// Where the next wave begins.
    next_slot: u32,
    /// The last tick of the window; after it all that are left are closed at once.
    until: Millis,
    /// The part of one more close that is due, in millionths.
    owed_millionths: u64,
    /// When the next wave goes.
    wave_at: Millis,
    pub upgrades: Upgrades,
    waves: u64,
}

/// One wave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wave {
    /// Open connections to close.
    pub closes: u64,
    /// The slot to look at first.
    pub from: u32,
    /// Upgrades under way end with this wave.
    pub ends_upgrades: bool,
}

impl Drain {
    pub(crate) fn new(now: Millis, window: Millis, upgrades: Upgrades) -> Self {
        Self { next_slot: 0, until: now + window, owed_millionths: 0, wave_at: now, upgrades, waves: 0 }
    }

    /// The next wave if it is due. `open` counts the open connections, not those that answer their close: each wave closes an
    /// even share of what is left. A part of one is kept for the next wave, so that few are spread as many are.
    pub(crate) fn wave(&mut self, now: Millis, open: u64) -> Option<Wave> {
        if now < self.wave_at {
            return None;
        }
        self.wave_at = now + TICK_MS;
        self.waves += 1;
        let waves_left = self.until.saturating_sub(now) / TICK_MS + 1;
        let ends_upgrades = waves_left == 1 || self.waves == 1 && self.upgrades == Upgrades::Refuse;
        self.owed_millionths += open * 1_000_000 / waves_left;
        let closes = self.owed_millionths / 1_000_000;
        self.owed_millionths %= 1_000_000;
        Some(Wave { closes, from: self.next_slot, ends_upgrades })
    }

    /// The wave looked at the slots before `next`, of `slots`. The round after the last slot finds those that were not open
    /// yet, or took a freed slot.
    pub(crate) fn looked_up_to(&mut self, next: u32, slots: u32) {
        self.next_slot = if next == slots { 0 } else { next };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_are_spread_over_the_whole_window() {
        let mut drain = Drain::new(0, 10 * TICK_MS, Upgrades::Complete);
        let mut open = 3;
        let mut closes = Vec::new();
        for tick in 0..=10 {
            let wave = drain.wave(tick * TICK_MS, open).expect("a wave with each tick");
            open -= wave.closes;
            closes.push(wave.closes);
            assert_eq!(wave.ends_upgrades, tick == 10);
        }
        assert_eq!(open, 0);
        assert!(closes[..5].iter().sum::<u64>() >= 1 && closes[5..].iter().sum::<u64>() >= 1, "{closes:?}");
    }

    #[test]
    fn waves_go_with_the_tick_and_upgrades_may_end_with_the_first() {
        let mut drain = Drain::new(500, 0, Upgrades::Refuse);
        assert_eq!(drain.wave(500, 7), Some(Wave { closes: 7, from: 0, ends_upgrades: true }));
        assert_eq!(drain.wave(500 + TICK_MS - 1, 7), None);
        drain.looked_up_to(4, 9);
        assert_eq!(drain.wave(500 + TICK_MS, 1).map(|wave| wave.from), Some(4));
        drain.looked_up_to(9, 9);
        assert_eq!(drain.wave(500 + 2 * TICK_MS, 1).map(|wave| wave.from), Some(0));
    }
}
