//! Channels, without sockets, clocks or threads.
//!
//! - `homes`: which shard is a channel's home.
//! - `home`: the one truth about a channel: its order, and which shards want it.
//! - `stream`: what a channel keeps of its past, and what of it a reader is owed.
//! - `life`, `keep`: how long a channel lives and keeps it, and who gives way where all is too much.
//! - `repair`: shards that did not keep up.
//! - `presence`: the clients in a channel.
//! - `once`: publications that were made before. `names`: who is called what.
//! - `feeds`: a shard's own subscribers of a channel in one wire form, and what the turn has for them.

pub(crate) mod history;
pub(crate) mod home_channels;
#[cfg(test)]
mod home_channels_tests;
pub(crate) mod idempotency;
pub(crate) mod lifecycle;
#[cfg(test)]
mod model_tests;
pub(crate) mod name_index;
pub(crate) mod placement;
pub(crate) mod presence;
pub(crate) mod resend;
pub(crate) mod retention;
pub(crate) mod subscribers;

use std::fmt;

pub use history::{History, Query, Record, Records, Recovery, RecoveryMode, Since, StreamOptions, Unrecoverable};
pub use home_channels::{Delivery, Draft, HomeChannels, InterestedShard, Memory, Outcome, Top};
pub use placement::Placement;
pub use presence::Member;
pub use resend::Repair;
pub use subscribers::{At, Joined, Left, NO_SUB, Out, PendingBroadcast, Share, Subscribers, Wanted, flag};

/// How a publication is written for a subscriber. Encoded once per form in use, whatever the number of subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WireFormat {
    /// Which encoding and compression, by the caller's own index.
    pub wire: u8,
    /// Publications come as differences to the one before.
    pub delta: bool,
    /// Subscribers look at tags, each with a filter of its own.
    pub filtered: bool,
    /// Joins and leaves are wanted too.
    pub join_leave: bool,
}

const _: () = assert!(size_of::<WireFormat>() == 4);

impl WireFormat {
    /// Whole publications and nothing else.
    pub const fn plain(wire: u8) -> Self {
        Self { wire, delta: false, filtered: false, join_leave: false }
    }
}

/// A place in a channel's stream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// Which life of the channel: it changes when home forgot the channel meanwhile. 0 is nobody's.
    pub epoch: u32,
    /// Publications stamped in that life.
    pub offset: u64,
}

/// The letters of an epoch on the wire.
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// An epoch as peers see it: always six letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochText([u8; EpochText::BYTES]);

impl EpochText {
    const BYTES: usize = 6;

    pub fn of(epoch: u32) -> Self {
        let (mut text, mut rest) = ([0; Self::BYTES], epoch as usize);
        for letter in text.iter_mut().rev() {
            *letter = LETTERS[rest % LETTERS.len()];
            rest /= LETTERS.len();
        }
        Self(text)
    }

    /// `None` for what no epoch is written as.
    pub fn parse(text: &str) -> Option<u32> {
        let text: [u8; Self::BYTES] = text.as_bytes().try_into().ok()?;
        let value = text.iter().try_fold(0u64, |value, letter| {
            let digit = match letter {
                b'a'..=b'z' => letter - b'a',
                b'A'..=b'Z' => letter - b'A' + 26,
                _ => return None,
            };
            Some(value * LETTERS.len() as u64 + u64::from(digit))
        });
        u32::try_from(value?).ok()
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("letters are text")
    }
}

impl fmt::Display for EpochText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_survives_its_text_and_nothing_else_is_one() {
        for epoch in [0, 1, 51, 52, 1 << 31, u32::MAX] {
            assert_eq!(EpochText::parse(EpochText::of(epoch).as_str()), Some(epoch));
        }
        assert_eq!(EpochText::of(0).as_str(), "aaaaaa");
        for other in ["", "a", "aaaaa", "aaaaaaa", "ZZZZZZ", "aaaa-a", "aaaaä", "AAAA\0A"] {
            assert_eq!(EpochText::parse(other), None, "{other}");
        }
    }
}
