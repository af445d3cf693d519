//! Publications in flight: which one is sent next, and when one has reached its last subscriber.
//!
//! A publication takes a slot, whose number is part of its payload. Workers count its deliveries down; the one that counts to zero
//! retires it. The first worker publishes: in closed loop one for each that is retired, in open loop by the schedule.
//! Invariants: a slot is reused only when no delivery is missing; in closed loop, at most `window` slots are taken per channel.

use crate::scenarios::payload::Stamp;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

pub const SLOTS: usize = 1 << 16;
/// Slots that are examined for the next publication.
const PROBES: u16 = 64;

/// What all workers share about the publications in flight.
#[derive(Debug)]
pub struct InFlight {
    /// Deliveries that are still due, and the channel, by slot.
    slots: Vec<(AtomicU32, AtomicU32)>,
    /// Slots that were retired by other workers than the first.
    retired: Mutex<Vec<u16>>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Default::default()).collect(), retired: Mutex::default() }
    }
}

impl InFlight {
    fn remaining(&self, slot: u16) -> &AtomicU32 {
        &self.slots[usize::from(slot)].0
    }

    /// Counts `n` deliveries; true if they were the last ones.
    pub fn delivered(&self, slot: u16, n: u32) -> bool {
        self.remaining(slot).fetch_sub(n, AcqRel) == n
    }

    /// Whether at least `n` deliveries are still due. An invalid delivery is not counted.
    pub fn expects(&self, slot: u16, n: u32) -> bool {
        self.remaining(slot).load(Acquire) >= n
    }

    /// Hands retired slots to the first worker.
    pub fn hand_over(&self, slots: &mut Vec<u16>) {
        self.retired.lock().expect("never poisoned: no code panics while holding the lock").append(slots);
    }

    pub fn take_over(&self, slots: &mut Vec<u16>) {
        slots.append(&mut self.retired.lock().expect("never poisoned: no code panics while holding the lock"));
    }

    pub fn channel_of(&self, slot: u16) -> usize {
        self.slots[usize::from(slot)].1.load(Relaxed) as usize
    }

    /// The deliveries of this publication are counted elsewhere.
    pub fn forget(&self, slot: u16) {
        self.remaining(slot).store(0, Relaxed);
    }

    /// Deliveries that are still due.
    pub fn missing(&self) -> u64 {
        self.slots.iter().map(|(remaining, _)| u64::from(remaining.load(Relaxed))).sum()
    }
}

#[derive(Clone, Debug)]
struct Channel {
    /// Subscribers whose deliveries are checked one by one.
    subscribers: u32,
    /// The next sequence number, per publisher.
    seqs: Vec<u32>,
    /// The publisher whose turn it is.
    publisher: usize,
}

/// Assigns slots and sequence numbers; belongs to the first worker.
#[derive(Debug)]
pub struct Sequencer {
    channels: Vec<Channel>,
    slot: u16,
}

/// A publication that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    pub channel: usize,
    pub stamp: Stamp,
}

impl Sequencer {
    /// Subscribers and publishers per channel.
    pub fn new(subscribers: &[u32], publishers: &[usize]) -> Self {
        let channel = |(&subscribers, &n): (&u32, &usize)| Channel { subscribers, seqs: vec![0; n], publisher: 0 };
        Self { channels: subscribers.iter().zip(publishers).map(channel).collect(), slot: 0 }
    }

    /// Publications to a channel so far.
    pub fn published(&self, channel: usize) -> u64 {
        self.channels[channel].seqs.iter().map(|&n| u64::from(n)).sum()
    }

    /// Publications of one publisher to a channel so far.
    pub fn published_by(&self, channel: usize, publisher: u8) -> u32 {
        self.channels[channel].seqs[usize::from(publisher)]
    }

    /// All publications so far.
    pub fn published_in_all(&self) -> u64 {
        (0..self.channels.len()).map(|channel| self.published(channel)).sum()
    }

    pub fn subscribers(&self, channel: usize) -> u32 {
        self.channels[channel].subscribers
    }

    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The next publication to a channel, by the publisher whose turn it is; `None` if too many are in flight.
    pub fn next(&mut self, in_flight: &InFlight, channel: usize) -> Option<Publication> {
        let publisher = self.channels[channel].publisher;
        let publication = self.next_by(in_flight, channel, publisher)?;
        let this = &mut self.channels[channel];
        this.publisher = (publisher + 1) % this.seqs.len();
        Some(publication)
    }

    /// The same by a given publisher.
    pub fn next_by(&mut self, in_flight: &InFlight, channel: usize, publisher: usize) -> Option<Publication> {
        let is_free = |slot: &u16| in_flight.remaining(*slot).load(Acquire) == 0;
        let slot = (0..PROBES).map(|i| self.slot.wrapping_add(i)).find(is_free);
        let Some(slot) = slot else {
            // Deliveries that a server lost keep their slots: the next publication looks behind them.
            self.slot = self.slot.wrapping_add(PROBES);
            return None;
        };
        self.slot = slot.wrapping_add(1);
        let this = &mut self.channels[channel];
        let seq = this.seqs[publisher];
        this.seqs[publisher] += 1;
        in_flight.slots[usize::from(slot)].1.store(channel as u32, Relaxed);
        in_flight.remaining(slot).store(this.subscribers, Release);
        Some(Publication { channel, stamp: Stamp { seq, channel: channel as u8, publisher: publisher as u8, slot } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_is_reused_only_after_the_last_delivery_of_its_publication() {
        let (in_flight, mut sequencer) = (InFlight::default(), Sequencer::new(&[3], &[1]));
        let first = sequencer.next(&in_flight, 0).unwrap();
        assert_eq!(first.stamp, Stamp { seq: 0, channel: 0, publisher: 0, slot: 0 });
        for i in 1..SLOTS {
            let next = sequencer.next(&in_flight, 0).unwrap().stamp;
            assert_eq!((usize::from(next.slot), next.seq as usize), (i, i));
        }
        assert_eq!(sequencer.next(&in_flight, 0), None, "every slot is taken");
        assert!(in_flight.expects(0, 3) && !in_flight.expects(0, 4));
        assert!(!in_flight.delivered(0, 2));
        assert_eq!(sequencer.next(&in_flight, 0), None);
        assert!(in_flight.delivered(0, 1));
        // Each attempt looks at the next slots.
        let found = (0..SLOTS / usize::from(PROBES)).find_map(|_| sequencer.next(&in_flight, 0));
        assert_eq!(found.unwrap().stamp.slot, 0);
    }

    #[test]
    fn publishers_take_turns_with_sequence_numbers_of_their_own() {
        let (in_flight, mut sequencer) = (InFlight::default(), Sequencer::new(&[1, 1], &[2, 2]));
        let mut next = |channel| {
            let stamp = sequencer.next(&in_flight, channel).unwrap().stamp;
            (stamp.channel, stamp.publisher, stamp.seq)
        };
        assert_eq!([next(0), next(0), next(1), next(0)], [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]);
    }

    #[test]
    fn slots_retired_by_other_workers_are_taken_over_once() {
        let in_flight = InFlight::default();
        let mut mine = vec![7, 8];
        in_flight.hand_over(&mut mine);
        assert!(mine.is_empty());
        in_flight.take_over(&mut mine);
        in_flight.take_over(&mut mine);
        assert_eq!(mine, [7, 8]);
    }
}
