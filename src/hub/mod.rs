//! Channels, without sockets, clocks or threads.
//!
//! - `homes`: which shard is a channel's home.
//! - `home`: the one truth about a channel: its order, its history, and which shards want it.
//! - `feeds`: a shard's own subscribers of a channel in one wire form, and what the turn has for them.

mod feeds;
mod home;
mod homes;

pub use feeds::{Feeds, Joined, Left, NO_SUB, Out, Share, Turn};
pub use home::{Home, Interest, Record, Repair};
pub use homes::Homes;

/// How a publication is written for a subscriber. Encoded once per form in use, whatever the number of subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    Json,
}

/// A place in a channel's stream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// Which life of the channel: it changes when home forgot the channel meanwhile.
    pub epoch: u32,
    /// Publications stamped in that life.
    pub offset: u64,
}
