//! Connections and handshakes by address: one fixed table of relaxed atomics for all shards, changed when a connection
//! is accepted and when it closes. It is the one exception to "shards share nothing".
//!
//! An entry is one word, so that it is claimed, counted and freed by one compare-and-swap:
//!
//! ```text
//! | fingerprint 22 | connections 18 | when its handshakes are fully allowed again 24, in 1/16 ms |
//! ```
//!
//! An address may use 16 entries, 8 in each of two cache lines chosen by a keyed hash, and is identified there by its
//! fingerprint: 22 bits of the same hash. Two addresses share an entry with a probability of 16 in 2^22, and a client
//! cannot choose an address that shares an entry with another, since the key is random. The table has two entries for
//! each connection that the process can have, so that both lines are full for fewer than one address in a thousand.
//! Such an address is admitted without a limit, and the table counts this: rejecting it would punish it for its
//! neighbors.
//!
//! An entry without connections and with expired handshakes is free. The 24 bits of time wrap around every 17 minutes:
//! a time further ahead than a burst can reach belongs to an earlier round.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::engine::timer_wheel::Millis;

/// Connections that the table can count for one address.
pub const ADDRESS_CONNECTIONS_MAX: u32 = (1 << 18) - 1;
/// Handshakes in a second that one address may be allowed.
pub const ADDRESS_HANDSHAKES_MAX: u32 = 10_000;
/// Seconds until the whole burst of an address is allowed again, at most.
pub const ADDRESS_BURST_S_MAX: u32 = 500;

const WAYS: usize = 8;
const CONNECTIONS_BITS: u32 = 18;
const TIME_BITS: u32 = 24;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const CONNECTIONS_MASK: u64 = (1 << CONNECTIONS_BITS) - 1;
/// Units of time in a millisecond.
const UNITS: u64 = 16;
const _: () = assert!(ADDRESS_CONNECTIONS_MAX as u64 <= CONNECTIONS_MASK);
// Half a round of the clock, so that a time ahead differs from one behind.
const _: () = assert!(ADDRESS_BURST_S_MAX as u64 * 1000 * UNITS < 1 << (TIME_BITS - 1));
/// Entries of the table, at least and at most (32 MiB).
const ENTRIES_MIN: usize = 4096;
const ENTRIES_MAX: usize = 1 << 22;

/// What one address may have; 0 is no limit. It may change while the table is in use.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PerAddress {
    pub connections: u32,
    pub handshakes_per_second: u32,
    /// Handshakes at once.
    pub burst: u32,
}

/// The entry of an address, kept by each of its connections until it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressSlot(pub u32);

impl AddressSlot {
    /// Nothing is counted for this connection.
    pub const NONE: Self = Self(u32::MAX);
}

/// The result for a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entered {
    Counted(AddressSlot),
    /// Admitted, and not counted: the table had no room.
    Uncounted,
    TooMany,
    TooFast,
}

/// The counts of all addresses.
pub struct AddressTable {
    entries: Box<[AtomicU64]>,
    lines: usize,
    key: RandomState,
    /// Connections; 0 is no limit.
    most: AtomicU32,
    /// Of one handshake, and of a burst, in units of time.
    cost: AtomicU64,
    room: AtomicU64,
}

impl AddressTable {
    /// `connections_max` are those of the whole process.
    pub fn new(limit: PerAddress, connections_max: usize) -> Self {
        let entries = (2 * connections_max).next_power_of_two().clamp(ENTRIES_MIN, ENTRIES_MAX);
        let table = Self {
            entries: (0..entries).map(|_| AtomicU64::new(0)).collect(),
            lines: entries / WAYS,
            key: RandomState::new(),
            most: AtomicU32::new(0),
            cost: AtomicU64::new(0),
            room: AtomicU64::new(0),
        };
        table.set(limit);
        table
    }

    /// Holds for connections from now on.
    pub fn set(&self, limit: PerAddress) {
        let cost = (1000 * UNITS).checked_div(u64::from(limit.handshakes_per_second)).map_or(0, |cost| cost.max(1));
        let room = (cost * u64::from(limit.burst.max(1))).min(u64::from(ADDRESS_BURST_S_MAX) * 1000 * UNITS);
        self.most.store(limit.connections, Relaxed);
        self.cost.store(cost, Relaxed);
        self.room.store(room, Relaxed);
    }

    /// A new connection from `address`.
    pub fn enter(&self, address: IpAddr, now: Millis) -> Entered {
        let (fingerprint, lines) = self.find_lines(address);
        loop {
            let slots = || lines.iter().flat_map(|line| line * WAYS..(line + 1) * WAYS);
            let known = slots().find(|&slot| fingerprint_of(self.entries[slot].load(Relaxed)) == fingerprint);
            let free = || slots().find(|&slot| self.is_free(self.entries[slot].load(Relaxed), now));
            let Some(slot) = known.or_else(free) else { return Entered::Uncounted };
            let word = self.entries[slot].load(Relaxed);
            let fresh = fingerprint << (CONNECTIONS_BITS + TIME_BITS);
            let base = match fingerprint_of(word) == fingerprint {
                true => word,
                false if self.is_free(word, now) => fresh,
                // Another shard has taken it since.
                false => continue,
            };
            let next = match self.count(base, now) {
                Ok(next) => next,
                Err(refused) => return refused,
            };
            if self.entries[slot].compare_exchange(word, next, Relaxed, Relaxed).is_ok() {
                return Entered::Counted(AddressSlot(slot as u32));
            }
        }
    }

    /// A counted connection ends.
    pub fn leave(&self, slot: AddressSlot) {
        if slot != AddressSlot::NONE {
            let before = self.entries[slot.0 as usize].fetch_sub(1 << TIME_BITS, Relaxed);
            debug_assert!(connections_of(before) > 0, "only a counted connection leaves");
        }
    }

    /// The entry with one connection and one handshake more.
    fn count(&self, word: u64, now: Millis) -> Result<u64, Entered> {
        let connections = connections_of(word);
        let most = match self.most.load(Relaxed) {
            0 => ADDRESS_CONNECTIONS_MAX,
            most => most,
        };
        if connections >= u64::from(most) {
            return Err(Entered::TooMany);
        }
        let now = now * UNITS;
        let debt = self.debt(word, now) + self.cost.load(Relaxed);
        if debt > self.room.load(Relaxed) {
            return Err(Entered::TooFast);
        }
        Ok(((word & !TIME_MASK) + (1 << TIME_BITS)) | ((now + debt) & TIME_MASK))
    }

    /// How far the time of an entry is ahead of now.
    fn debt(&self, word: u64, now_units: u64) -> u64 {
        let ahead = (word & TIME_MASK).wrapping_sub(now_units) & TIME_MASK;
        if ahead <= self.room.load(Relaxed) { ahead } else { 0 }
    }

    fn is_free(&self, word: u64, now: Millis) -> bool {
        word == 0 || connections_of(word) == 0 && self.debt(word, now * UNITS) == 0
    }

    /// The fingerprint, never 0, and the two lines.
    fn find_lines(&self, address: IpAddr) -> (u64, [usize; 2]) {
        let hash = self.key.hash_one(prefix(address));
        let other = self.key.hash_one(!hash);
        let line = |hash: u64| (hash % self.lines as u64) as usize;
        ((hash >> 42).max(1), [line(hash), line(other)])
    }
}

fn fingerprint_of(word: u64) -> u64 {
    word >> (CONNECTIONS_BITS + TIME_BITS)
}

fn connections_of(word: u64) -> u64 {
    word >> TIME_BITS & CONNECTIONS_MASK
}

/// What counts as one address: all of a v4, /64 of a v6, which is the least that one site gets (RFC 6177). A v4 address
/// that is written as a v6 one is a v4 address.
pub(super) fn prefix(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        // No routed v6 prefix is below 2^32, so the two ranges do not overlap.
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn table(connections: u32, handshakes_per_second: u32, burst: u32) -> AddressTable {
        AddressTable::new(PerAddress { connections, handshakes_per_second, burst }, 1000)
    }

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    fn slot(entered: Entered) -> AddressSlot {
        let Entered::Counted(slot) = entered else { panic!("{entered:?}") };
        slot
    }

    #[test]
    fn each_address_has_its_own_limit() {
        let table = table(2, 0, 0);
        let first = slot(table.enter(v4(1), 0));
        slot(table.enter(v4(1), 0));
        assert_eq!(table.enter(v4(1), 0), Entered::TooMany);
        slot(table.enter(v4(2), 0));
        table.leave(first);
        slot(table.enter(v4(1), 0));
    }

    #[test]
    fn handshakes_pass_in_a_burst_and_then_at_their_rate_also_when_the_clock_wraps() {
        let table = table(0, 10, 3);
        for now in [0, 1_000_000, (TIME_MASK + 1) / UNITS * 3 - 50, u64::from(u32::MAX)] {
            let burst = (0..9).filter(|_| table.enter(v4(1), now) != Entered::TooFast).count();
            assert_eq!(burst, 3, "{now}");
            let later = (0..9).filter(|_| table.enter(v4(1), now + 200) != Entered::TooFast).count();
            assert_eq!(later, 2, "{now}");
        }
    }

    #[test]
    fn changed_limits_hold_for_the_next_connections() {
        let table = table(1, 0, 0);
        slot(table.enter(v4(1), 0));
        assert_eq!(table.enter(v4(1), 0), Entered::TooMany);
        table.set(PerAddress { connections: 2, handshakes_per_second: 1, burst: 1 });
        let second = slot(table.enter(v4(1), 0));
        table.leave(second);
        assert_eq!(table.enter(v4(1), 0), Entered::TooFast);
        table.set(PerAddress::default());
        (0..5).for_each(|_| assert_ne!(slot(table.enter(v4(1), 0)), AddressSlot::NONE));
    }

    #[test]
    fn v6_site_is_one_address_and_a_mapped_v4_is_a_v4() {
        let table = table(1, 0, 0);
        let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().expect("an address"));
        slot(table.enter(v6("2001:db8:1:2::1"), 0));
        assert_eq!(table.enter(v6("2001:db8:1:2:3::9"), 0), Entered::TooMany);
        slot(table.enter(v6("2001:db8:1:3::1"), 0));
        slot(table.enter(v6("::ffff:10.0.0.1"), 0));
        assert_eq!(table.enter("10.0.0.1".parse().expect("an address"), 0), Entered::TooMany);
    }

    #[test]
    fn full_table_admits_without_counting() {
        let table = table(1, 0, 0);
        let half = table.entries.len() as u32 / 2;
        let uncounted = (0..half).filter(|&n| table.enter(v4(n), 0) == Entered::Uncounted).count();
        assert!(uncounted * 1000 <= half as usize, "{uncounted} of {half}");
        for n in half..16 * half {
            assert_ne!(table.enter(v4(n), 0), Entered::TooFast);
        }
        assert_eq!(table.enter(v4(u32::MAX), 0), Entered::Uncounted);
    }

    #[test]
    fn entries_that_were_left_are_free_for_other_addresses() {
        let table = table(1, 100, 1);
        for round in 0..50u64 {
            let now = round * 1000;
            let slots: Vec<_> = (0..2000).map(|n| table.enter(v4(n + 10_000 * round as u32), now)).collect();
            let counted = slots.iter().filter(|entered| matches!(entered, Entered::Counted(_))).count();
            assert!(counted >= 1990, "{counted} in round {round}");
            slots.into_iter().for_each(|entered| {
                if let Entered::Counted(slot) = entered {
                    table.leave(slot)
                }
            });
        }
        assert!(table.entries.iter().all(|entry| connections_of(entry.load(Relaxed)) == 0));
    }

    #[test]
    fn concurrent_threads_lose_no_count() {
        let table = table(100_000, 0, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..20_000u32 {
                        let slot = slot(table.enter(v4(n % 64), 0));
                        if n % 64 != 0 {
                            table.leave(slot);
                        }
                    }
                });
            }
        });
        let all: u64 = table.entries.iter().map(|entry| connections_of(entry.load(Relaxed))).sum();
        assert_eq!(all, 4 * 313);
    }
}
