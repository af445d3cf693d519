//! The epochs of channels, so that a channel that was never published to need not be kept for its position.
//!
//! An epoch is one life of a channel's stream: offsets begin anew with the next one. A channel without publications is at
//! offset 0, and any number of such lives may share an epoch: a reader at offset 0 has missed nothing in them. So only the
//! removal of a channel with an offset above 0 ends an epoch. Which epoch a name is in is kept by groups of names, 4 bytes
//! for each group: the end of one name's epoch also ends that of the empty channels of its group, whose readers then load
//! their state anew.
//!
//! The groups are the slots of `placement`: all names of a group have the same home shard, also in the process that takes
//! over, whatever its number of shards. So it takes over the epochs of groups.

use super::epoch::Epoch;
use super::placement::{SLOTS as GROUPS, slot_of};

pub(super) struct Epochs {
    last: u32,
    /// 16 KiB on each shard.
    by_group: Box<[u32]>,
    /// Of the placement. Secret, so that no client can choose names of one group.
    key: [u8; 16],
}

impl Epochs {
    /// Epochs are counted from `first`.
    pub(super) fn new(first: u32, key: [u8; 16]) -> Self {
        let mut epochs = Self { last: first.wrapping_sub(1), by_group: Box::default(), key };
        // Each group begins with one of its own, so that two channels rarely have the same epoch.
        epochs.by_group = (0..GROUPS).map(|_| epochs.next_number()).collect();
        epochs
    }

    fn group(&self, name: &str) -> usize {
        slot_of(&self.key, name)
    }

    /// The epoch that a channel with this name begins in, or would if it existed.
    pub(super) fn of(&self, name: &str) -> Epoch {
        Epoch::of_number(self.by_group[self.group(name)])
    }

    /// A channel with offsets above 0 is gone: its name begins another epoch.
    pub(super) fn end(&mut self, name: &str) {
        self.by_group[self.group(name)] = self.next_number();
    }

    /// Every group begins another epoch.
    pub(super) fn end_all(&mut self) {
        for group in 0..GROUPS {
            self.by_group[group] = self.next_number();
        }
    }

    /// The numbers of the epochs of all groups, in their order.
    pub(super) fn numbers(&self) -> &[u32] {
        &self.by_group
    }

    /// The epoch that a group has in the process before.
    pub(super) fn take_over(&mut self, group: usize, number: u32) {
        if let Some(own) = self.by_group.get_mut(group).filter(|_| number != 0) {
            *own = number;
        }
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
        let mut epochs = Epochs::new(0, [7; 16]);
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
        let mut epochs: Vec<u32> = Epochs::new(u32::MAX, [7; 16]).by_group.into();
        assert!(!epochs.contains(&0));
        epochs.sort_unstable();
        epochs.dedup();
        assert_eq!(epochs.len(), GROUPS);
    }
}
