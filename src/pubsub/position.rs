//! Positions in a channel: of its history, and of its deliveries to shards.

use super::epoch::Epoch;

/// A position in a channel's history.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// Changes when the home shard, or the broker, forgets the channel and creates it again.
    pub epoch: Epoch,
    /// The number of publications that the history has taken in this epoch.
    pub offset: u64,
}

/// The position of a delivery in its channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliveryPosition {
    /// One above that of the delivery before, so that a receiver notices a gap.
    pub seq: u64,
    /// The offset in the channel's history; 0 if the history does not store it.
    pub offset: u64,
}

/// The end of a channel's deliveries: a shard that subscribes gets those after it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ChannelTop {
    pub position: Position,
    pub seq: u64,
}

/// A range of deliveries that a shard missed and that the history does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostDeliveries {
    pub first_seq: u64,
    pub last_seq: u64,
    /// How many of them had an offset.
    pub with_offset: u64,
    /// The channel's offset after the last one.
    pub offset: u64,
}

impl LostDeliveries {
    pub(crate) fn count(&self) -> u64 {
        self.last_seq - self.first_seq + 1
    }
}
