//! The time of a turn: how long its reads may take before the kernel is asked for events again, and which part of that
//! one connection may use.
//!
//! The clock is not read for each message. Work is counted in units: a byte of input is one, and what costs more than its
//! bytes is charged more. The clock is read after `work_per_look` units, so a turn without much work never reads it, and a
//! turn or a connection exceeds its time by one such portion at most.
//!
//! Time is what counts and not units, because the same bytes may cost a hundred times as much as others: a ping, or a
//! token with a signature.

use std::sync::LazyLock;
use std::time::Instant;

use super::config::EngineConfig;

/// A monotonic clock in microseconds, from any zero.
pub type Clock = fn() -> u64;

/// The work of a read or of a message of another shard, besides its bytes: about a microsecond.
pub(crate) const STEP_WORK: u32 = 128;

/// The zero of `monotonic_us`.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clock of the host.
fn monotonic_us() -> u64 {
    BEGAN.elapsed().as_micros() as u64
}

pub(crate) struct TurnTime {
    clock: Clock,
    work_per_look: u32,
    turn_us: u64,
    share_us: u64,
    /// Units until the clock is read.
    left: u32,
    /// When the clock was first read in this part of the turn.
    began_us: Option<u64>,
    /// The slot that works now, and when the clock was first read for it.
    share: Option<(u32, u64)>,
    /// The time is over: what is not read yet waits for the next turn.
    pub is_over: bool,
    /// What the kernel reports is not read at once: the time is over, or other connections wait already.
    pub reads_wait: bool,
}

impl TurnTime {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        let mut time = Self {
            clock: monotonic_us,
            work_per_look: 0,
            turn_us: 0,
            share_us: 0,
            left: 0,
            began_us: None,
            share: None,
            is_over: false,
            reads_wait: false,
        };
        time.set_config(config);
        time
    }

    pub(crate) fn set_config(&mut self, config: &EngineConfig) {
        self.work_per_look = config.work_per_look.max(1);
        self.turn_us = config.time_per_turn.as_micros() as u64;
        self.share_us = config.time_per_connection.as_micros() as u64;
        self.left = self.work_per_look;
    }

    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// A part of a turn begins that has the whole time for itself: its mail, or its reads.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.began_us = None;
        self.share = None;
        self.is_over = false;
        self.reads_wait = false;
    }

    /// The part of the turn that has begun has no time: it does the least that keeps it going.
    pub(crate) fn end(&mut self) {
        (self.is_over, self.reads_wait) = (true, true);
    }

    /// Units until the clock is read.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.left as usize
    }

    /// Counts work without a look at the clock: the next step looks.
    #[inline]
    pub(crate) fn charge(&mut self, units: u32) {
        self.left = self.left.saturating_sub(units);
    }

    /// Counts work of the connection in this slot. True if it has used up its share of the turn.
    #[inline]
    pub(crate) fn work(&mut self, slot: u32, units: u32) -> bool {
        self.charge(units);
        self.left == 0 && self.look(slot)
    }

    /// As `work`, for work that is no connection's. True if the time is over.
    #[inline]
    pub(crate) fn work_of_shard(&mut self, units: u32) -> bool {
        self.charge(units);
        if self.left == 0 {
            self.read_clock();
        }
        self.is_over
    }

    /// Reads the clock for the connection in this slot. True if it has used up its share of the turn.
    pub(crate) fn look(&mut self, slot: u32) -> bool {
        let now = self.read_clock();
        match self.share {
            Some((of, since)) if of == slot => now.saturating_sub(since) >= self.share_us,
            _ => {
                self.share = Some((slot, now));
                false
            }
        }
    }

    #[cold]
    fn read_clock(&mut self) -> u64 {
        self.left = self.work_per_look;
        let now = (self.clock)();
        let began = *self.began_us.get_or_insert(now);
        self.is_over |= now.saturating_sub(began) >= self.turn_us;
        self.reads_wait |= self.is_over;
        now
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    thread_local! {
        static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    /// Each look finds 100 µs more.
    fn clock() -> u64 {
        LOOKS.set(LOOKS.get() + 1);
        LOOKS.get() * 100
    }

    fn time() -> TurnTime {
        let config = EngineConfig {
            work_per_look: 1_000,
            time_per_turn: Duration::from_micros(1_000),
            time_per_connection: Duration::from_micros(300),
            ..EngineConfig::default()
        };
        let mut time = TurnTime::new(&config);
        time.set_clock(clock);
        time
    }

    #[test]
    fn clock_is_read_once_per_portion_of_work() {
        let (mut time, before) = (time(), LOOKS.get());
        (0..999).for_each(|_| assert!(!time.work(1, 1)));
        assert_eq!(LOOKS.get() - before, 0);
        assert!(!time.work(1, 1));
        assert_eq!(LOOKS.get() - before, 1);
        time.charge(u32::MAX);
        assert!(!time.work(1, 0));
        assert_eq!(LOOKS.get() - before, 2, "more work than a portion is one look");
    }

    #[test]
    fn connection_uses_up_its_share_and_the_next_one_has_a_whole_share() {
        let mut time = time();
        let looks = |time: &mut TurnTime, slot| (1..20).find(|_| time.work(slot, 1_000)).expect("the share ends");
        assert_eq!(looks(&mut time, 1), 4, "the first look begins the share");
        assert_eq!(looks(&mut time, 2), 4);
        assert!(!time.is_over);
        assert_eq!(looks(&mut time, 3), 4);
        assert!(time.is_over, "1,000 µs have passed since the first look");
        time.begin();
        assert_eq!((looks(&mut time, 3), time.is_over), (4, false));
    }
}
