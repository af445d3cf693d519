//! Who is let in: what one address may have, and whether anybody is while the server has more than it can do.
//!
//! All shards share one `Admission`: the table of addresses and one flag that the control thread sets when the process's memory
//! reaches its mark. A shard's own lag is its own affair (`Lag`). A newcomer is judged before a byte of his is read,
//! where his address is known then; behind a proxy, when it is.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::address_table::{AddressSlot, Addresses, Entered, PerAddress};
use crate::engine::Millis;
use crate::engine::config::EngineConfig;

/// The span over which a shard's lag is taken.
const LAG_WINDOW: Millis = 500;

/// Shared by all shards.
pub struct Admission {
    /// Made when an address is first limited: nobody pays for it before.
    addresses: OnceLock<Addresses>,
    /// Of the whole process.
    connections_max: usize,
    memory_full: AtomicBool,
}

impl Admission {
    /// `connections_max` are those of the whole process.
    pub fn new(limits: &EngineConfig, connections_max: usize) -> Self {
        let door = Self { addresses: OnceLock::new(), connections_max, memory_full: AtomicBool::new(false) };
        door.limit_addresses(limits);
        door
    }

    /// What one address may have from now on. Who came before the first such limit is not counted for it.
    pub fn limit_addresses(&self, limits: &EngineConfig) {
        let limit = PerAddress {
            connections: limits.connections_per_address,
            handshakes_per_second: limits.handshakes_per_address,
            burst: limits.handshakes_per_address_burst,
        };
        if limit.connections > 0 || limit.handshakes_per_second > 0 || self.counts() {
            self.addresses.get_or_init(|| Addresses::new(limit, self.connections_max)).set(limit);
        }
    }

    /// The control thread's word: nobody new while it stands.
    pub fn set_memory_full(&self, full: bool) {
        self.memory_full.store(full, Relaxed);
    }

    pub fn is_memory_full(&self) -> bool {
        self.memory_full.load(Relaxed)
    }

    pub(crate) fn counts(&self) -> bool {
        self.addresses.get().is_some()
    }

    pub(crate) fn enter(&self, address: IpAddr, now: Millis) -> Entered {
        self.addresses.get().map_or(Entered::Seated(AddressSlot::NONE), |addresses| addresses.enter(address, now))
    }

    pub(crate) fn leave(&self, seat: AddressSlot) {
        if let Some(addresses) = self.addresses.get() {
            addresses.leave(seat);
        }
    }
}

/// How long a socket that became ready waits for its turn, on the average over a window.
///
/// Whoever becomes ready within a turn of length t waits t/2 for its end, and falls into it with the chance t/window:
/// together the sum of t² over twice the window. An idle shard has none, one long turn counts as what it was, and a row of
/// short ones as little.
#[derive(Default)]
pub(crate) struct Lag {
    window_began: Millis,
    squares: u64,
    pub lag_us: u64,
    pub shut: bool,
}

impl Lag {
    /// A turn took so long.
    pub fn turn(&mut self, us: u32) {
        self.squares = self.squares.saturating_add(u64::from(us) * u64::from(us));
    }

    /// Closes the window where it is over. True where the door was shut or opened by it: it opens again at half the mark,
    /// so that it does not swing. `max_us` 0: never shut.
    pub fn look(&mut self, now: Millis, max_us: u64) -> bool {
        let window = now.saturating_sub(self.window_began);
        if window < LAG_WINDOW {
            return false;
        }
        self.lag_us = self.squares / (2 * window * 1000);
        (self.squares, self.window_began) = (0, now);
        let mark = if self.shut { max_us / 2 } else { max_us };
        let shut = max_us > 0 && self.lag_us >= mark.max(1);
        std::mem::replace(&mut self.shut, shut) != shut
    }
}

/// Seconds after which one who is refused may come again: from `least` to twice that and one, spread over those who are
/// refused one after the other, so that they do not come back as one.
pub(crate) fn retry_after(least: u32, nth: u64) -> u32 {
    let spread = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    least + ((spread * u64::from(least + 2)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_shuts_at_the_mark_and_opens_at_half_of_it() {
        let mut lag = Lag::default();
        let mut now = 0;
        let mut window = |turn_us: u32, turns: u32| {
            (0..turns).for_each(|_| lag.turn(turn_us));
            now += LAG_WINDOW;
            (lag.look(now, 50_000), lag.shut, lag.lag_us)
        };
        // Turns back to back: half of one is waited for.
        assert_eq!(window(20_000, 25), (false, false, 10_000));
        assert_eq!(window(125_000, 4), (true, true, 62_500));
        assert_eq!(window(62_500, 8), (false, true, 31_250));
        assert_eq!(window(20_000, 25), (true, false, 10_000));
        // One long turn is waited for by those who came in it.
        assert_eq!(window(250_000, 1), (true, true, 62_500));
        assert_eq!(window(100, 10), (true, false, 0));
    }

    #[test]
    fn without_a_mark_nothing_shuts() {
        let mut lag = Lag::default();
        lag.turn(u32::MAX);
        assert!(!lag.look(LAG_WINDOW, 0) && !lag.shut && lag.lag_us > 0);
    }

    #[test]
    fn those_who_are_refused_come_again_at_different_times() {
        let mut seen = [0; 12];
        (0..1200).for_each(|nth| seen[retry_after(5, nth) as usize] += 1);
        assert!(seen[..5].iter().all(|&n| n == 0) && seen[5..].iter().all(|&n| n > 100), "{seen:?}");
    }
}
