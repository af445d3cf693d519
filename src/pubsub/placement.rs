//! Which shard is a channel's home: keyed hash of the name → one of 4,096 slots → shard.
//!
//! The key is the process's own, so that nobody outside can aim at one shard. Slots stand between so that they can be
//! moved one day without moving everything.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13; // the standard library's own hash, with a key one can give; kept, MIT or Apache-2.0

use crate::ids::ShardId;

const SLOTS: usize = 4096;

/// The same for all shards of a process; cheap to clone.
#[derive(Clone)]
pub struct Placement {
    key: [u8; 16],
    slots: Arc<[ShardId]>,
}

impl Placement {
    /// `key` is secret, and the same on all shards.
    pub fn new(shards: usize, key: [u8; 16]) -> Self {
        assert!(shards > 0, "a channel needs a home");
        let slots = (0..SLOTS).map(|slot| ShardId((slot % shards) as u16)).collect();
        Self { key, slots }
    }

    pub fn of(&self, channel: &str) -> ShardId {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(channel.as_bytes());
        self.slots[hasher.finish() as usize % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_spread_over_the_shards_and_stay_where_they_are() {
        let homes = Placement::new(3, [7; 16]);
        let mut counts = [0; 3];
        for i in 0..3_000 {
            let name = format!("channel-{i}");
            counts[homes.of(&name).index()] += 1;
            assert_eq!(homes.clone().of(&name), homes.of(&name));
        }
        assert!(counts.iter().all(|&count| count > 700), "{counts:?}");
    }
}
