//! Whether new connections are admitted: limits per address, memory, and the lag of the event loop.
//!
//! All shards share one `Admission`: the table of addresses, and one flag that the control thread sets when the memory
//! of the process reaches its limit. Each shard measures its own lag (`Lag`). A new connection is admitted or rejected
//! before a byte of it is read if its address is known then; behind a proxy, when the proxy has named the address.

use std::mem;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::address_table::{AddressSlot, AddressTable, Entered, PerAddress};
use crate::engine::config::EngineConfig;
use crate::engine::timer_wheel::Millis;

/// The span over which the lag of a shard is measured.
const LAG_WINDOW: Millis = 500;

/// What the shards share about new connections.
pub struct Admission {
    /// Made when an address is first limited: without a limit it costs nothing.
    addresses: OnceLock<AddressTable>,
    /// Of the whole process.
    connections_max: usize,
    memory_full: AtomicBool,
}

impl Admission {
    /// `connections_max` are those of the whole process.
    pub fn new(config: &EngineConfig, connections_max: usize) -> Self {
        let admission = Self { addresses: OnceLock::new(), connections_max, memory_full: AtomicBool::new(false) };
        admission.limit_addresses(config);
        admission
    }

    /// What one address may have from now on. Connections from before the first such limit are not counted.
    pub fn limit_addresses(&self, config: &EngineConfig) {
        let limit = PerAddress {
            connections: config.connections_per_address,
            handshakes_per_second: config.handshakes_per_address,
            burst: config.handshakes_per_address_burst,
        };
        if limit.connections > 0 || limit.handshakes_per_second > 0 || self.counts() {
            self.addresses.get_or_init(|| AddressTable::new(limit, self.connections_max)).set(limit);
        }
    }

    /// The control thread sets it: no new connection is admitted while it is true.
    pub fn set_memory_full(&self, full: bool) {
        self.memory_full.store(full, Relaxed);
    }

    pub fn is_memory_full(&self) -> bool {
        self.memory_full.load(Relaxed)
    }

    /// Connections are counted for their addresses.
    pub(crate) fn counts(&self) -> bool {
        self.addresses.get().is_some()
    }

    pub(crate) fn enter(&self, address: IpAddr, now: Millis) -> Entered {
        self.addresses.get().map_or(Entered::Counted(AddressSlot::NONE), |addresses| addresses.enter(address, now))
    }

    pub(crate) fn leave(&self, slot: AddressSlot) {
        if let Some(addresses) = self.addresses.get() {
            addresses.leave(slot);
        }
    }
}

/// How long a socket that became ready waits until it is served, on the average over a window.
///
/// A socket that becomes ready within a turn of length t waits t/2 for its end, and falls into it with the probability
/// t/window: together the sum of t² over twice the window. An idle shard has no lag, one long turn counts as what it was, and
/// a row of short ones as little.
#[derive(Default)]
pub(crate) struct Lag {
    window_began: Millis,
    squares: u64,
    pub lag_us: u64,
    /// New connections are refused because of the lag.
    pub shedding: bool,
}

impl Lag {
    /// A turn took so long.
    pub(crate) fn turn(&mut self, us: u32) {
        self.squares = self.squares.saturating_add(u64::from(us) * u64::from(us));
    }

    /// Measures the lag if the window is over. True if that started or ended the shedding, which ends at half the mark, so
    /// that it does not swing. `max_us` 0: never shed.
    pub(crate) fn update(&mut self, now: Millis, max_us: u64) -> bool {
        let window = now.saturating_sub(self.window_began);
        if window < LAG_WINDOW {
            return false;
        }
        self.lag_us = self.squares / (2 * window * 1000);
        (self.squares, self.window_began) = (0, now);
        let mark = if self.shedding { max_us / 2 } else { max_us };
        let shedding = max_us > 0 && self.lag_us >= mark.max(1);
        mem::replace(&mut self.shedding, shedding) != shedding
    }
}

/// Seconds after which a refused peer may come again: from `least` to twice that and one, spread over the peers that are
/// refused one after the other, so that they do not come back all at once.
pub(crate) fn retry_after(least: u32, nth: u64) -> u32 {
    let spread = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    least + ((spread * u64::from(least + 2)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shedding_starts_at_the_mark_and_ends_at_half_of_it() {
        let mut lag = Lag::default();
        let mut now = 0;
        let mut window = |turn_us: u32, turns: u32| {
            (0..turns).for_each(|_| lag.turn(turn_us));
            now += LAG_WINDOW;
            (lag.update(now, 50_000), lag.shedding, lag.lag_us)
        };
        // Turns back to back: a socket waits for half of one.
        assert_eq!(window(20_000, 25), (false, false, 10_000));
        assert_eq!(window(125_000, 4), (true, true, 62_500));
        assert_eq!(window(62_500, 8), (false, true, 31_250));
        assert_eq!(window(20_000, 25), (true, false, 10_000));
        // Only the sockets that became ready in one long turn wait for it.
        assert_eq!(window(250_000, 1), (true, true, 62_500));
        assert_eq!(window(100, 10), (true, false, 0));
    }

    #[test]
    fn without_a_mark_nothing_is_shed() {
        let mut lag = Lag::default();
        lag.turn(u32::MAX);
        assert!(!lag.update(LAG_WINDOW, 0) && !lag.shedding && lag.lag_us > 0);
    }

    #[test]
    fn refused_peers_are_asked_to_retry_at_different_times() {
        let mut seen = [0; 12];
        (0..1200).for_each(|nth| seen[retry_after(5, nth) as usize] += 1);
        assert!(seen[..5].iter().all(|&n| n == 0) && seen[5..].iter().all(|&n| n > 100), "{seen:?}");
    }
}
