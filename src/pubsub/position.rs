//! Positions in a channel: of its history, and of its deliveries to shards.

use std::fmt;

/// A position in a channel's history.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// Changes when the home shard forgets the channel and creates it again. 0 is the epoch of no channel.
    pub epoch: u32,
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

/// The digits of an epoch on the wire.
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// An epoch on the wire: always six letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EpochText([u8; EpochText::BYTES]);

impl EpochText {
    const BYTES: usize = 6;

    pub(crate) fn of(epoch: u32) -> Self {
        let (mut text, mut rest) = ([0; Self::BYTES], epoch as usize);
        for letter in text.iter_mut().rev() {
            *letter = LETTERS[rest % LETTERS.len()];
            rest /= LETTERS.len();
        }
        Self(text)
    }

    /// `None` if the text is not an epoch.
    pub(crate) fn parse(text: &str) -> Option<u32> {
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

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("all bytes come from LETTERS, which is ASCII")
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
    fn epoch_text_parses_back_and_other_texts_do_not_parse() {
        for epoch in [0, 1, 51, 52, 1 << 31, u32::MAX] {
            assert_eq!(EpochText::parse(EpochText::of(epoch).as_str()), Some(epoch));
        }
        assert_eq!(EpochText::of(0).as_str(), "aaaaaa");
        for other in ["", "a", "aaaaa", "aaaaaaa", "ZZZZZZ", "aaaa-a", "aaaaä", "AAAA\0A"] {
            assert_eq!(EpochText::parse(other), None, "{other}");
        }
    }
}
