//! The home shard of a channel: keyed hash of the name → one of 4,096 slots → shard.
//!
//! The hash key is random in each process, so that no client can aim many channels at one shard. The slots allow moving a
//! part of the channels to another shard without moving all.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13; // the standard library's own hash, with a key one can give; kept, MIT or Apache-2.0

use crate::ids::ShardId;

pub(super) const SLOTS: usize = 4096;

/// The same for all shards of a process; cheap to clone.
#[derive(Clone)]
pub struct Placement {
    key: [u8; 16],
    shards: usize,
    slots: Arc<[ShardId]>,
}

impl Placement {
    /// `shards` is above 0. `key` is secret, and the same for all shards of the process.
    pub fn new(shards: usize, key: [u8; 16]) -> Self {
        assert!(shards > 0, "a channel needs a home shard");
        let slots = (0..SLOTS).map(|slot| ShardId((slot % shards) as u16)).collect();
        Self { key, shards, slots }
    }

    /// The home shard of a channel or of a user.
    pub fn shard_of(&self, name: &str) -> ShardId {
        self.slots[slot_of(&self.key, name)]
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards
    }

    /// The home shard of the names in a slot. Slots beyond the last begin anew.
    pub(crate) fn shard_of_slot(&self, slot: usize) -> ShardId {
        self.slots[slot % SLOTS]
    }

    /// The key, for the process that takes over: names keep their slots.
    pub(crate) fn key(&self) -> [u8; 16] {
        self.key
    }
}

/// The slot of a name under a key.
pub(super) fn slot_of(key: &[u8; 16], name: &str) -> usize {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(name.as_bytes());
    hasher.finish() as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_spreads_names_over_the_shards_and_is_stable() {
        let placement = Placement::new(3, [7; 16]);
        let mut counts = [0; 3];
        for i in 0..3_000 {
            let name = format!("channel-{i}");
            counts[placement.shard_of(&name).index()] += 1;
            assert_eq!(placement.clone().shard_of(&name), placement.shard_of(&name));
        }
        assert!(counts.iter().all(|&count| count > 700), "{counts:?}");
    }
}
