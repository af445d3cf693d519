//! The epochs of channels, so that a channel that was never published to need not be kept for its position.
//!
//! An epoch is one life of a channel's stream: offsets begin anew with the next one. A channel without publications is at
//! offset 0, and any number of such lives may share an epoch: a reader at offset 0 has missed nothing in them. So only the
//! removal of a channel with an offset above 0 ends an epoch. Which epoch a name is in is kept by groups of names, 4 bytes
//! for each group: the end of one name's epoch also ends that of the empty channels of its group, whose readers then load
//! their state anew.

use std::hash::{BuildHasher, RandomState};

use super::epoch::Epoch;

/// Groups of names. 16 KiB on each shard.
const GROUPS: usize = 4096;

pub(super) struct Epochs {
    last: u32,
    by_group: Box<[u32]>,
    /// Seeded at random in each process, so that no client can choose names of one group.
    hasher: RandomState,
}

impl Epochs {
    /// Epochs are counted from `first`.
    pub(super) fn new(first: u32) -> Self {
        let mut epochs = Self { last: first.wrapping_sub(1), by_group: Box::default(), hasher: RandomState::new() };
        // Each group begins with one of its own, so that two channels rarely have the same epoch.
        epochs.by_group = (0..GROUPS).map(|_| epochs.next_number()).collect();
        epochs
    }

    fn group(&self, name: &str) -> usize {
        self.hasher.hash_one(name) as usize % GROUPS
    }

    /// The epoch that a channel with this name begins in, or would if it existed.
    pub(super) fn of(&self, name: &str) -> Epoch {
        Epoch::of_number(self.by_group[self.group(name)])
    }

    /// A channel with offsets above 0 is gone: its name begins another epoch.
    pub(super) fn end(&mut self, name: &str) {
        self.by_group[self.group(name)] = self.next_number();
    }

    /// An epoch that no channel has had.
    pub(super) fn next(&mut self) -> Epoch {
        Epoch::of_number(self.next_number())
    }

    /// 0 is the number of no epoch.
    fn next_number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_lasts_until_a_channel_with_offsets_is_gone() {
        let mut epochs = Epochs::new(0);
        let first = epochs.of("a");
        assert_eq!(epochs.of("a"), first);
        epochs.end("a");
        let second = epochs.of("a");
        assert_ne!(second, first);
        assert!(![first, second].contains(&epochs.next()));
        let other = (0..).map(|n| n.to_string()).find(|name| epochs.group(name) != epochs.group("a")).expect("one");
        let epoch = epochs.of(&other);
        epochs.end("a");
        assert_eq!(epochs.of(&other), epoch, "names of other groups are not concerned");
        assert_ne!(epochs.of("a"), epoch);
    }

    #[test]
    fn groups_begin_with_epochs_of_their_own_and_none_with_0() {
        let mut epochs: Vec<u32> = Epochs::new(u32::MAX).by_group.into();
        assert!(!epochs.contains(&0));
        epochs.sort_unstable();
        epochs.dedup();
        assert_eq!(epochs.len(), GROUPS);
    }
}
