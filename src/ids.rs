//! The names of things: shards, connections, and the token under which the kernel hands a socket back.
//!
//! A slot is reused, a generation is not: whoever kept an id across a close finds a stranger in the slot and knows
//! it by the generation.

use std::fmt;

/// A shard's place in the mesh, `0..shards`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u16);

impl ShardId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection of one shard: its slot in the shard's slab, and which of the slot's owners it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId {
    pub slot: u32,
    pub generation: u32,
}

impl ConnId {
    pub fn index(self) -> usize {
        self.slot as usize
    }

    /// The id as one word, which is how mio's `Token` carries it.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub fn unpack(word: u64) -> Self {
        Self { slot: word as u32, generation: (word >> 32) as u32 }
    }
}

/// A feed of one shard: one channel in one wire form. Homes name it in deliveries, so that the receiver looks nothing up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GroupId {
    pub slot: u32,
    pub generation: u32,
}

impl GroupId {
    pub fn index(self) -> usize {
        self.slot as usize
    }

    /// The id as one word, which is how what waits for a peer names it.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub fn unpack(word: u64) -> Self {
        Self { slot: word as u32, generation: (word >> 32) as u32 }
    }
}

/// A subscription of one shard: its slot, and which of the slot's owners it was. Homes name it in answers meant for it alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubscriptionId {
    pub slot: u32,
    pub serial: u32,
}

impl SubscriptionId {
    pub fn index(self) -> usize {
        self.slot as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_slot_and_generation() {
        for id in [ConnId { slot: 0, generation: 0 }, ConnId { slot: u32::MAX - 1, generation: u32::MAX }] {
            assert_eq!(ConnId::unpack(id.pack()), id);
        }
    }
}
