//! What a channel does with publications for a subscriber that does not read its socket.
//!
//! It is a module of its own below the rooms because three of them hold it and may not see each other: `config` names it,
//! `pubsub` keeps one subscriber group for each policy, and `engine::outbound` applies it.

/// The policy for publications that wait for a slow consumer.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum SlowConsumerPolicy {
    /// They wait. A connection whose backlog passes its bound closes as slow.
    #[default]
    Close,
    /// The oldest are dropped when more than `bytes_max` bytes of one subscription wait, or when the backlog of the connection
    /// passes its bound.
    DropOldest { bytes_max: u32 },
    /// Only the newest waits.
    KeepLatest,
}
