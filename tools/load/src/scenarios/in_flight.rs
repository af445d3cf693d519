//! Publications under way: who sends the next one, and when one has reached its last subscriber.
//!
//! Plan: a publication takes a slot, whose number travels in its payload. Workers count its deliveries down; the one that
//! counts to zero retires it. Worker 0 issues: in closed loop one for each retired, in open loop by the clock.
//! Invariants: a slot is reused only when nothing remains of it; per channel at most `window` slots are taken in closed loop.

use crate::scenarios::payload::Stamp;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

pub const SLOTS: usize = 1 << 16;

/// What all workers share of the publications under way.
#[derive(Debug)]
pub struct Slots {
    remaining: Vec<AtomicU32>,
    channel: Vec<AtomicU32>,
    /// Retired by workers other than the first.
    retired: Mutex<Vec<u16>>,
}

impl Slots {
    pub fn new() -> Self {
        Self {
            remaining: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            channel: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            retired: Mutex::new(Vec::new()),
        }
    }

    /// Counts `n` deliveries; true if they were the last ones.
    pub fn delivered(&self, slot: u16, n: u32) -> bool {
        self.remaining[usize::from(slot)].fetch_sub(n, AcqRel) == n
    }

    /// Whether that many deliveries of it are still due: a delivery out of nowhere is not counted.
    pub fn expects(&self, slot: u16, n: u32) -> bool {
        self.remaining[usize::from(slot)].load(Acquire) >= n
    }

    /// Hands a retired slot to the first worker.
    pub fn hand_over(&self, slots: &mut Vec<u16>) {
        self.retired.lock().expect("no holder panics: it only appends").append(slots);
    }

    pub fn take_over(&self, slots: &mut Vec<u16>) {
        slots.append(&mut self.retired.lock().expect("no holder panics: it only appends"));
    }

    pub fn channel_of(&self, slot: u16) -> usize {
        self.channel[usize::from(slot)].load(Relaxed) as usize
    }

    /// This publication's deliveries are counted elsewhere.
    pub fn forget(&self, slot: u16) {
        self.remaining[usize::from(slot)].store(0, Relaxed);
    }

    /// Deliveries that are still due.
    pub fn missing(&self) -> u64 {
        self.remaining.iter().map(|cell| u64::from(cell.load(Relaxed))).sum()
    }
}

#[derive(Clone, Debug)]
struct Channel {
    /// Those whose deliveries are followed one by one.
    subscribers: u32,
    /// The next sequence number, per publisher.
    seqs: Vec<u32>,
    publisher: usize,
}

/// Gives out publications; belongs to the first worker.
#[derive(Debug)]
pub struct Issuer {
    channels: Vec<Channel>,
    slot: u16,
}

/// A publication that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    pub channel: usize,
    pub stamp: Stamp,
}

impl Issuer {
    /// `subscribers` per channel, and how many publishers take turns on each.
    pub fn new(subscribers: &[u32], publishers: usize) -> Self {
        let channel = |&subscribers| Channel { subscribers, seqs: vec![0; publishers], publisher: 0 };
        Self { channels: subscribers.iter().map(channel).collect(), slot: 0 }
    }

    /// The same where each channel has publishers of its own.
    pub fn each(subscribers: &[u32], publishers: &[usize]) -> Self {
        let channel = |(&subscribers, &n): (&u32, &usize)| Channel { subscribers, seqs: vec![0; n], publisher: 0 };
        Self { channels: subscribers.iter().zip(publishers).map(channel).collect(), slot: 0 }
    }

    /// Publications of a channel until now.
    pub fn published(&self, channel: usize) -> u64 {
        self.channels[channel].seqs.iter().map(|&n| u64::from(n)).sum()
    }

    /// Publications until now.
    pub fn issued(&self) -> u64 {
        self.channels.iter().flat_map(|channel| &channel.seqs).map(|seq| u64::from(*seq)).sum()
    }

    pub fn subscribers(&self, channel: usize) -> u32 {
        self.channels[channel].subscribers
    }

    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The next publication of a channel, by the publisher whose turn it is; None if too many are under way to number another.
    pub fn issue(&mut self, slots: &Slots, channel: usize) -> Option<Issue> {
        let publisher = self.channels[channel].publisher;
        let issue = self.issue_by(slots, channel, publisher)?;
        let this = &mut self.channels[channel];
        this.publisher = (publisher + 1) % this.seqs.len();
        Some(issue)
    }

    /// The same by one that is known.
    pub fn issue_by(&mut self, slots: &Slots, channel: usize, publisher: usize) -> Option<Issue> {
        let free = |slot: &u16| slots.remaining[usize::from(*slot)].load(Acquire) == 0;
        let slot = (0..64).map(|i| self.slot.wrapping_add(i)).find(free)?;
        self.slot = slot.wrapping_add(1);
        let this = &mut self.channels[channel];
        let seq = this.seqs[publisher];
        this.seqs[publisher] += 1;
        slots.channel[usize::from(slot)].store(channel as u32, Relaxed);
        slots.remaining[usize::from(slot)].store(this.subscribers, Release);
        Some(Issue { channel, stamp: Stamp { seq, channel: channel as u8, publisher: publisher as u8, slot } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_retires_with_its_last_delivery_and_its_slot_is_used_again_only_then() {
        let (slots, mut issuer) = (Slots::new(), Issuer::new(&[3], 1));
        let first = issuer.issue(&slots, 0).unwrap();
        assert_eq!(first.stamp, Stamp { seq: 0, channel: 0, publisher: 0, slot: 0 });
        for i in 1..SLOTS {
            let next = issuer.issue(&slots, 0).unwrap().stamp;
            assert_eq!((usize::from(next.slot), next.seq as usize), (i, i));
        }
        assert_eq!(issuer.issue(&slots, 0), None, "every slot is taken");
        assert!(slots.expects(0, 3) && !slots.expects(0, 4));
        assert!(!slots.delivered(0, 2));
        assert_eq!(issuer.issue(&slots, 0), None);
        assert!(slots.delivered(0, 1));
        assert_eq!(issuer.issue(&slots, 0).unwrap().stamp.slot, 0);
    }

    #[test]
    fn publishers_take_turns_and_each_counts_for_itself() {
        let (slots, mut issuer) = (Slots::new(), Issuer::new(&[1, 1], 2));
        let mut next = |channel| {
            let stamp = issuer.issue(&slots, channel).unwrap().stamp;
            (stamp.channel, stamp.publisher, stamp.seq)
        };
        assert_eq!([next(0), next(0), next(1), next(0)], [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]);
    }

    #[test]
    fn what_other_workers_retire_arrives_once() {
        let slots = Slots::new();
        let mut mine = vec![7, 8];
        slots.hand_over(&mut mine);
        assert!(mine.is_empty());
        slots.take_over(&mut mine);
        slots.take_over(&mut mine);
        assert_eq!(mine, [7, 8]);
    }
}
