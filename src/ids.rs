//! Ids and indices: shards, connections, subscriber groups, subscriptions and channels.
//!
//! - [`SlotId`] names an entry of a slab over time. A slot is reused, a generation is not: an id that was kept past the
//!   end of its entry matches no later owner of the slot.
//! - [`Key`] is the slot alone, for code that runs while the entry exists.
//! - [`OptionU32`] is an `Option` of an index in four bytes.
//!
//! The tag is the entry's kind: the compiler rejects a connection's id where a subscription's is expected.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// A shard's index, `0..shards`.
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

/// What slots hold. These types have no values: they only tell ids and keys apart.
pub mod kind {
    /// A connection of one shard.
    pub enum Connection {}
    /// A subscriber group of one shard: one channel in one wire format.
    pub enum Group {}
    /// A subscription of one shard.
    pub enum Subscription {}
    /// A channel in its home shard.
    pub enum Channel {}
}

/// A connection of one shard.
pub type ConnId = SlotId<kind::Connection>;
/// A subscriber group of one shard. Homes put it into deliveries, so that the receiver needs no lookup by name.
pub type GroupId = SlotId<kind::Group>;
/// A subscription of one shard. Homes put it into answers that are for one subscription alone.
pub type SubscriptionId = SlotId<kind::Subscription>;

pub type ChannelKey = Key<kind::Channel>;
pub type GroupKey = Key<kind::Group>;
pub type SubscriptionKey = Key<kind::Subscription>;

/// An entry of a slab: its slot, and the generation that tells the slot's owners apart.
pub struct SlotId<Tag> {
    pub slot: u32,
    pub generation: u32,
    tag: PhantomData<Tag>,
}

impl<Tag> SlotId<Tag> {
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation, tag: PhantomData }
    }

    pub const fn index(self) -> usize {
        self.slot as usize
    }

    pub const fn key(self) -> Key<Tag> {
        Key(self.slot, PhantomData)
    }

    /// The id as one word: mio's `Token` and the owner of a backlog carry it so.
    pub const fn pack(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    pub const fn unpack(word: u64) -> Self {
        Self::new(word as u32, (word >> 32) as u32)
    }
}

/// The index of an entry of a slab, below `u32::MAX`. It is valid while the entry exists.
pub struct Key<Tag>(u32, PhantomData<Tag>);

impl<Tag> Key<Tag> {
    /// `index` is below `u32::MAX`: each entry of a slab takes more than one byte, and memory ends earlier.
    pub const fn new(index: usize) -> Self {
        debug_assert!(index < u32::MAX as usize);
        Self(index as u32, PhantomData)
    }

    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub const fn with(self, generation: u32) -> SlotId<Tag> {
        SlotId::new(self.0, generation)
    }
}

/// What an [`OptionU32`] can hold: a number below `u32::MAX`.
pub trait Index32: Copy {
    fn from_u32(value: u32) -> Self;
    fn into_u32(self) -> u32;
}

impl Index32 for u32 {
    fn from_u32(value: u32) -> Self {
        value
    }

    fn into_u32(self) -> u32 {
        self
    }
}

impl<Tag> Index32 for Key<Tag> {
    fn from_u32(value: u32) -> Self {
        Self(value, PhantomData)
    }

    fn into_u32(self) -> u32 {
        self.0
    }
}

/// An `Option<T>` in four bytes: `u32::MAX` is no index and means none. `get` costs one comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OptionU32<T>(u32, PhantomData<T>);

const _: () = assert!(size_of::<OptionU32<SubscriptionKey>>() == 4);

impl<T: Index32> OptionU32<T> {
    pub const NONE: Self = Self(u32::MAX, PhantomData);

    pub fn some(value: T) -> Self {
        debug_assert!(value.into_u32() != u32::MAX);
        Self(value.into_u32(), PhantomData)
    }

    pub fn get(self) -> Option<T> {
        (self.0 != u32::MAX).then(|| T::from_u32(self.0))
    }

    pub const fn is_none(self) -> bool {
        self.0 == u32::MAX
    }

    pub const fn is_some(self) -> bool {
        !self.is_none()
    }

    /// The value, and none in its place.
    pub fn take(&mut self) -> Option<T> {
        std::mem::replace(self, Self::NONE).get()
    }
}

impl<T: Index32> Default for OptionU32<T> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<T: Index32> From<Option<T>> for OptionU32<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NONE, Self::some)
    }
}

impl<T: Index32 + fmt::Debug> fmt::Debug for OptionU32<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

// By hand: derived implementations would require them of the tag too.

impl<Tag> Clone for SlotId<Tag> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Tag> Copy for SlotId<Tag> {}

impl<Tag> PartialEq for SlotId<Tag> {
    fn eq(&self, other: &Self) -> bool {
        (self.slot, self.generation) == (other.slot, other.generation)
    }
}

impl<Tag> Eq for SlotId<Tag> {}

impl<Tag> Hash for SlotId<Tag> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.slot, self.generation).hash(state);
    }
}

impl<Tag> fmt::Debug for SlotId<Tag> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl<Tag> Clone for Key<Tag> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Tag> Copy for Key<Tag> {}

impl<Tag> PartialEq for Key<Tag> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<Tag> Eq for Key<Tag> {}

impl<Tag> PartialOrd for Key<Tag> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<Tag> Ord for Key<Tag> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<Tag> Hash for Key<Tag> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<Tag> fmt::Debug for Key<Tag> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_id_round_trips_through_one_word() {
        for id in [ConnId::new(0, 0), ConnId::new(u32::MAX - 1, u32::MAX)] {
            assert_eq!(ConnId::unpack(id.pack()), id);
        }
    }

    #[test]
    fn option_u32_is_an_option() {
        for value in [None, Some(0), Some(7), Some(u32::MAX - 1)] {
            let mut option = OptionU32::from(value);
            assert_eq!((option.get(), option.is_none(), option.is_some()), (value, value.is_none(), value.is_some()));
            assert_eq!((option.take(), option), (value, OptionU32::default()));
        }
        let key = SubscriptionKey::new(3);
        assert_eq!(OptionU32::some(key).get(), Some(key));
        assert_eq!(key.with(9), SubscriptionId::new(3, 9));
        assert_eq!(SubscriptionId::new(3, 9).key(), key);
    }
}
