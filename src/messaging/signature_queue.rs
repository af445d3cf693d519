//! Who may have a costly signature checked: a few in a turn, and the others wait in a queue that is fair between client
//! addresses.
//!
//! A signature of a public key costs some 100 µs, many times as much as anything else that a command of a few hundred bytes
//! does, so ordinary reads are not delayed by more than `SIGNATURES_PER_TURN` of them. A hash (HMAC) costs about as much as
//! reading its token, and is bounded by the time of the turn alone (`engine::turn_time`).
//!
//! Each address has one place in the queue, whatever the number of its connections. Addresses from which a forged token came
//! lately have a second queue, which gets a quarter of the checks while others wait. A connection waits once, and is
//! checked once for that; its memory here is a few words, and its message waits where it is received.

use std::collections::{HashMap, VecDeque};

use crate::engine::Millis;
use crate::ids::ConnId;

/// Signatures of public keys that a shard checks in a turn.
const SIGNATURES_PER_TURN: u32 = 16;
/// One check of so many goes to an address of the second queue, if both have waiting connections.
const SUSPECT_PART: u32 = 4;
/// How long an address is in the second queue after a forged token.
const SUSPECT_MS: Millis = 60_000;
/// Addresses that are remembered for it. One more may take the place of another.
const SUSPECTS_MAX: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Waiting,
    /// Its next signature is checked, and was counted when this was decided.
    Granted,
}

pub(crate) struct SignatureQueue {
    /// Checks that are left in this turn.
    left: u32,
    granted: u32,
    places: HashMap<ConnId, Place>,
    /// By address: its waiting connections. Connections that closed meanwhile have no place any more.
    by_address: HashMap<u32, VecDeque<ConnId>>,
    /// The addresses of `by_address`, each once.
    trusted: VecDeque<u32>,
    suspect: VecDeque<u32>,
    /// Connections in `by_address` that have closed.
    gone: usize,
    /// By the low bits of an address: from which a forged token came, and until when that counts.
    suspects: Vec<(u32, Millis)>,
}

impl Default for SignatureQueue {
    fn default() -> Self {
        Self {
            left: SIGNATURES_PER_TURN,
            granted: 0,
            places: HashMap::new(),
            by_address: HashMap::new(),
            trusted: VecDeque::new(),
            suspect: VecDeque::new(),
            gone: 0,
            suspects: Vec::new(),
        }
    }
}

impl SignatureQueue {
    /// Whether a signature may be checked now. If not, the connection waits: a later `begin_turn` names it.
    pub(super) fn admit(&mut self, conn: ConnId, address: u32, now: Millis) -> bool {
        match self.places.get(&conn) {
            Some(Place::Granted) => {
                self.places.remove(&conn);
                return true;
            }
            Some(Place::Waiting) => return false,
            None => {}
        }
        if self.left > 0 && self.by_address.is_empty() {
            self.left -= 1;
            return true;
        }
        self.places.insert(conn, Place::Waiting);
        let waiting = self.by_address.entry(address).or_default();
        waiting.push_back(conn);
        if waiting.len() == 1 {
            self.line_up(address, now);
        }
        false
    }

    /// The connection waits for a check, or is about to have it.
    pub(super) fn has_place(&self, conn: ConnId) -> bool {
        self.places.contains_key(&conn)
    }

    /// Connections wait, so that another turn follows at once.
    pub(super) fn has_waiting(&self) -> bool {
        !self.by_address.is_empty()
    }

    /// A turn begins: the connections that have waited longest, address by address, have their signatures checked now.
    #[inline]
    pub(super) fn begin_turn(&mut self, now: Millis) -> Vec<ConnId> {
        self.left = SIGNATURES_PER_TURN;
        if self.has_waiting() { self.choose(now) } else { Vec::new() }
    }

    fn choose(&mut self, now: Millis) -> Vec<ConnId> {
        let mut chosen = Vec::new();
        while self.left > 0
            && let Some(conn) = self.next(now)
        {
            self.left -= 1;
            self.places.insert(conn, Place::Granted);
            chosen.push(conn);
        }
        chosen
    }

    /// A token from this address had a wrong signature.
    pub(super) fn forged(&mut self, address: u32, now: Millis) {
        if self.suspects.is_empty() {
            self.suspects = vec![(0, 0); SUSPECTS_MAX];
        }
        self.suspects[address as usize % SUSPECTS_MAX] = (address, now + SUSPECT_MS);
    }

    /// The connection is closed.
    pub(super) fn remove(&mut self, conn: ConnId) {
        if self.places.remove(&conn) == Some(Place::Waiting) {
            self.gone += 1;
            if self.gone > 64 + self.places.len() {
                self.forget_gone();
            }
        }
    }

    fn is_suspect(&self, address: u32, now: Millis) -> bool {
        let known = self.suspects.get(address as usize % SUSPECTS_MAX);
        known.is_some_and(|&(known, until)| known == address && now < until)
    }

    fn line_up(&mut self, address: u32, now: Millis) {
        let line = if self.is_suspect(address, now) { &mut self.suspect } else { &mut self.trusted };
        line.push_back(address);
    }

    /// Takes the next connection out of the queue.
    fn next(&mut self, now: Millis) -> Option<ConnId> {
        loop {
            self.granted = self.granted.wrapping_add(1);
            let (first, second) = match self.granted.is_multiple_of(SUSPECT_PART) {
                true => (&mut self.suspect, &mut self.trusted),
                false => (&mut self.trusted, &mut self.suspect),
            };
            let address = first.pop_front().or_else(|| second.pop_front())?;
            let waiting = self.by_address.get_mut(&address);
            let conn = waiting.and_then(|waiting| {
                while let Some(conn) = waiting.pop_front() {
                    if self.places.get(&conn) == Some(&Place::Waiting) {
                        return Some(conn);
                    }
                    self.gone -= 1;
                }
                None
            });
            match self.by_address.get(&address).is_some_and(|waiting| !waiting.is_empty()) {
                true => self.line_up(address, now),
                false => _ = self.by_address.remove(&address),
            }
            if conn.is_some() {
                return conn;
            }
        }
    }

    fn forget_gone(&mut self) {
        let Self { places, by_address, .. } = self;
        by_address.retain(|_, waiting| {
            waiting.retain(|conn| places.get(conn) == Some(&Place::Waiting));
            !waiting.is_empty()
        });
        self.trusted.retain(|address| by_address.contains_key(address));
        self.suspect.retain(|address| by_address.contains_key(address));
        self.gone = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections by number, of an address.
    fn conn(slot: u32) -> ConnId {
        ConnId::new(slot, slot)
    }

    /// The turn in which the connection is chosen, if each chosen one has its signature checked and wants no more.
    fn turn_of(queue: &mut SignatureQueue, wanted: ConnId, now: Millis) -> usize {
        for turn in 1..10_000 {
            let chosen = queue.begin_turn(now);
            assert!(chosen.len() <= SIGNATURES_PER_TURN as usize);
            assert!(chosen.iter().all(|&conn| queue.admit(conn, 0, now)), "it was named, so it is admitted");
            if chosen.contains(&wanted) {
                return turn;
            }
        }
        panic!("it is never checked");
    }

    #[test]
    fn so_many_are_checked_at_once_and_the_others_in_order() {
        let mut queue = SignatureQueue::default();
        let admitted = (0..40).filter(|&slot| queue.admit(conn(slot), 1, 0)).count();
        assert_eq!(admitted, SIGNATURES_PER_TURN as usize);
        assert!(queue.has_place(conn(39)) && !queue.admit(conn(39), 1, 0), "it waits once");
        assert_eq!(queue.begin_turn(0), (16..32).map(conn).collect::<Vec<_>>());
        assert_eq!(queue.begin_turn(0), (32..40).map(conn).collect::<Vec<_>>());
        assert!(!queue.has_waiting());
        assert!(queue.admit(conn(20), 1, 0), "it was chosen");
        assert!(queue.admit(conn(100), 1, 0), "and there is room for more");
    }

    #[test]
    fn many_connections_of_one_address_do_not_delay_another_address() {
        let mut queue = SignatureQueue::default();
        (0..10_000).for_each(|slot| _ = queue.admit(conn(slot), 1, 0));
        assert!(!queue.admit(conn(20_000), 2, 0));
        assert_eq!(turn_of(&mut queue, conn(20_000), 0), 1);
    }

    #[test]
    fn addresses_with_forged_tokens_leave_most_checks_to_the_others() {
        let mut queue = SignatureQueue::default();
        (0..10_000).for_each(|address| queue.forged(address % 1_000, 0));
        (0..10_000).for_each(|slot| _ = queue.admit(conn(slot), slot % 1_000, 0));
        (0..24).for_each(|n| assert!(!queue.admit(conn(20_000 + n), 5_000 + n, 0)));
        let turns = turn_of(&mut queue, conn(20_023), 0);
        assert!(turns <= 2, "{turns} turns for 24 connections");
        // Those of the others go on, and none of them is left out.
        assert!(turn_of(&mut queue, conn(9_999), 0) > 1);
        assert!(!queue.has_waiting());
        // A minute later an address is like any other.
        assert!(queue.is_suspect(3, SUSPECT_MS - 1) && !queue.is_suspect(3, SUSPECT_MS));
    }

    #[test]
    fn connections_that_leave_the_queue_take_no_memory_and_no_check() {
        let mut queue = SignatureQueue::default();
        for slot in 0..100_000 {
            queue.admit(conn(slot), slot % 7, 0);
            queue.remove(conn(slot));
        }
        let kept: usize = queue.by_address.values().map(VecDeque::len).sum();
        assert!(kept <= 65 && queue.places.is_empty(), "{kept} are kept");
        queue.admit(conn(200_000), 1, 0);
        assert!(queue.begin_turn(0).contains(&conn(200_000)));
        assert!(!queue.has_waiting() && queue.gone == 0);
    }
}
