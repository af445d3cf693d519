//! The timer wheel: one deadline per connection, with the precision of a tick.
//!
//! Links are in a dense array parallel to the connections, so that setting, moving and cancelling are a few stores
//! without ownership. A deadline beyond one round stays in its list and is checked once a round.
//!
//! Invariants: an entry is in exactly one list or in none (`at == NEVER`); list heads hold `NIL` or a slot whose `prev`
//! is `NIL`; a list's bit in `busy` is set if the list is not empty.

use std::time::Duration;

/// The step of the timer wheel: deadlines are kept to this.
pub const TICK: Duration = Duration::from_millis(100);

/// Milliseconds since the shard's clock began. Time is an argument everywhere: the clock is read once a turn.
pub type Millis = u64;

const WHEEL: usize = 1024;
const WORDS: usize = WHEEL / 64;
const NIL: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;
const TICK_MS: u64 = TICK.as_millis() as u64;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
    /// The tick at which it is due.
    at: u64,
}

const UNLINKED: Link = Link { prev: NIL, next: NIL, at: NEVER };

pub struct Wheel {
    heads: Vec<u32>,
    /// So that a turn finds the next deadline without a walk over empty lists.
    busy: [u64; WORDS],
    links: Vec<Link>,
    /// Every tick up to this one has been swept.
    swept: u64,
    armed: usize,
}

impl Wheel {
    pub fn new(now: Millis) -> Self {
        Self { heads: vec![NIL; WHEEL], busy: [0; WORDS], links: Vec::new(), swept: now / TICK_MS, armed: 0 }
    }

    /// Sets the one deadline of `slot`, in place of an earlier one. A deadline never comes early.
    pub fn set(&mut self, slot: u32, at: Millis) {
        self.cancel(slot);
        let tick = at.div_ceil(TICK_MS).max(self.swept + 1);
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, UNLINKED);
        }
        let list = tick as usize % WHEEL;
        self.busy[list / 64] |= 1 << (list % 64);
        let head = &mut self.heads[list];
        self.links[slot as usize] = Link { prev: NIL, next: *head, at: tick };
        if *head != NIL {
            self.links[*head as usize].prev = slot;
        }
        *head = slot;
        self.armed += 1;
    }

    pub fn cancel(&mut self, slot: u32) {
        let Some(&Link { prev, next, at }) = self.links.get(slot as usize) else { return };
        if at == NEVER {
            return;
        }
        if prev == NIL {
            let list = at as usize % WHEEL;
            self.heads[list] = next;
            if next == NIL {
                self.busy[list / 64] &= !(1 << (list % 64));
            }
        } else {
            self.links[prev as usize].next = next;
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        self.links[slot as usize] = UNLINKED;
        self.armed -= 1;
    }

    /// Takes out every slot that is due by `now` and appends it to `due`.
    pub fn sweep(&mut self, now: Millis, due: &mut Vec<u32>) {
        let last = now / TICK_MS;
        // After a long pause one round checks every list.
        let from = (self.swept + 1).max(last.saturating_sub(WHEEL as u64 - 1));
        for tick in from..=last {
            let mut slot = self.heads[tick as usize % WHEEL];
            while slot != NIL {
                let Link { next, at, .. } = self.links[slot as usize];
                if at <= last {
                    self.cancel(slot);
                    due.push(slot);
                }
                slot = next;
            }
        }
        self.swept = self.swept.max(last);
    }

    /// Milliseconds from `now` to the next tick whose list is not empty. `None` without deadlines.
    pub fn next_in(&self, now: Millis) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        let from = (self.swept + 1) as usize % WHEEL;
        // The first word counts from `from` on, and once more at the end, whole.
        let bits = |nth: usize| self.busy[(from / 64 + nth) % WORDS] & if nth == 0 { !0 << (from % 64) } else { !0 };
        let nth = (0..=WORDS).find(|&nth| bits(nth) != 0)?;
        let list = (from / 64 + nth) * 64 + bits(nth).trailing_zeros() as usize;
        let ahead = 1 + (list - from) as u64;
        Some(((self.swept + ahead) * TICK_MS).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_their_tick_and_never_early() {
        let mut wheel = Wheel::new(1_000);
        for (slot, at) in [(0, 1_001), (1, 1_100), (2, 1_101), (3, 90_000), (4, 500_000)] {
            wheel.set(slot, at);
        }
        let mut met = Vec::new();
        let mut now = 1_000;
        while met.len() < 5 {
            now += wheel.next_in(now).expect("there are deadlines");
            let mut due = Vec::new();
            wheel.sweep(now, &mut due);
            met.extend(due.into_iter().map(|slot| (slot, now)));
        }
        met.sort_unstable();
        assert_eq!(met, [(0, 1_100), (1, 1_100), (2, 1_200), (3, 90_000), (4, 500_000)]);
        assert_eq!(wheel.next_in(now), None);
    }

    #[test]
    fn moved_and_canceled_deadlines_leave_nothing_behind() {
        let mut wheel = Wheel::new(0);
        for slot in 0..3 {
            wheel.set(slot, 200);
        }
        wheel.set(1, 300);
        wheel.cancel(0);
        wheel.cancel(0);
        wheel.cancel(99);
        let mut due = Vec::new();
        wheel.sweep(250, &mut due);
        assert_eq!(due, [2]);
        wheel.sweep(300, &mut due);
        assert_eq!(due, [2, 1]);
        assert_eq!(wheel.next_in(300), None);
    }

    #[test]
    fn clock_that_jumps_far_sweeps_every_deadline_once() {
        let mut wheel = Wheel::new(0);
        for slot in 0..2_000u32 {
            wheel.set(slot, u64::from(slot) * 97 + 1);
        }
        let mut due = Vec::new();
        wheel.sweep(10_000_000, &mut due);
        due.sort_unstable();
        assert_eq!(due, (0..2_000).collect::<Vec<_>>());
    }
}
