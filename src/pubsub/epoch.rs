//! An epoch as eight bytes, whatever text names it: this server's own six letters, or the text of a broker.
//!
//! A text of up to eight bytes is its own number. A longer one, which no known broker makes, is kept in a table of the process
//! and named by its index there. Only brokers add to the table: a client's unknown text is `UNKNOWN`, which no channel has.

use std::fmt;
use std::num::NonZero;
use std::sync::{PoisonError, RwLock};

/// One life of a channel's stream. The default is the epoch of no channel. An optional epoch takes no more room.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Epoch(NonZero<u64>);

impl Default for Epoch {
    fn default() -> Self {
        Self::NONE
    }
}

/// The digits of this server's own epochs.
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LETTERS_OF_NUMBER: usize = 6;

/// The last byte of an epoch whose text is in the table. No UTF-8 text has it.
const IN_TABLE: NonZero<u64> = NonZero::new(0xff << 56).unwrap();
/// Longer texts in the table, and bytes of one: 4 MiB at most.
const TABLE_MAX: usize = 1 << 16;
const TEXT_BYTES_MAX: usize = 64;

static TABLE: RwLock<Vec<&'static str>> = RwLock::new(Vec::new());

impl Epoch {
    /// Of no channel, with the empty text.
    const NONE: Self = Self(NonZero::new(u64::MAX - 1).unwrap());
    /// A text that names no epoch of a channel.
    const UNKNOWN: Self = Self(NonZero::<u64>::MAX);

    /// This server's own epoch with this number: six letters. 0 is the epoch of no channel.
    pub(crate) fn of_number(number: u32) -> Self {
        if number == 0 {
            return Self::default();
        }
        let (mut text, mut rest) = ([0; 8], number as usize);
        for letter in text[..LETTERS_OF_NUMBER].iter_mut().rev() {
            *letter = LETTERS[rest % LETTERS.len()];
            rest /= LETTERS.len();
        }
        NonZero::new(u64::from_le_bytes(text)).map_or(Self::NONE, Self)
    }

    /// From a client. The empty text names no epoch.
    pub(crate) fn from_client(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let of_table = || {
            let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
            table.iter().position(|known| *known == text).map(Self::in_table)
        };
        Some(Self::short(text).or_else(of_table).unwrap_or(Self::UNKNOWN))
    }

    /// From a broker. `None`: the text is longer than 64 bytes, or the table is full.
    pub fn from_broker(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        if let Some(short) = Self::short(text) {
            return Some(short);
        }
        let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = table.iter().position(|known| *known == text) {
            return Some(Self::in_table(at));
        }
        if table.len() == TABLE_MAX || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        table.push(Box::leak(text.into()));
        Some(Self::in_table(table.len() - 1))
    }

    /// Of a text that fits. Zero bytes end a text here, so one that has them does not.
    fn short(text: &str) -> Option<Self> {
        let mut bytes = [0; 8];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        NonZero::new(u64::from_le_bytes(bytes)).filter(|_| !text.contains('\0')).map(Self)
    }

    fn in_table(at: usize) -> Self {
        Self(IN_TABLE | at as u64)
    }

    /// What names it on the wire.
    pub(crate) fn text(self) -> EpochText {
        let number = self.0.get();
        if number & IN_TABLE.get() != IN_TABLE.get() {
            return EpochText { short: number.to_le_bytes(), long: "" };
        }
        let at = (number & !IN_TABLE.get()) as usize;
        let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
        EpochText { short: [0; 8], long: table.get(at).copied().unwrap_or_default() }
    }
}

/// The text of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EpochText {
    short: [u8; 8],
    long: &'static str,
}

impl EpochText {
    pub(crate) fn as_str(&self) -> &str {
        if !self.long.is_empty() {
            return self.long;
        }
        let length = self.short.iter().position(|&byte| byte == 0).unwrap_or(self.short.len());
        std::str::from_utf8(&self.short[..length]).expect("made of a str")
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
    fn own_epochs_are_six_letters_and_distinct() {
        let texts = [1, 51, 52, 1 << 31, u32::MAX].map(|number| Epoch::of_number(number).text().to_string());
        assert!(texts.iter().all(|text| text.len() == 6), "{texts:?}");
        assert!((1..texts.len()).all(|at| !texts[..at].contains(&texts[at])), "{texts:?}");
        assert_eq!(Epoch::of_number(0).text().as_str(), "");
    }

    #[test]
    fn text_of_a_broker_comes_back_as_it_was() {
        for text in [
            "a",
            "abcdef",
            "AbCdEfGh",
            "0123abcd",
            "ä",
            "a\0b",
            "1732790000123",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ] {
            let epoch = Epoch::from_broker(text).expect("short enough");
            assert_eq!(epoch.text().as_str(), text);
            assert_eq!((Epoch::from_client(text), Epoch::from_broker(text)), (Some(epoch), Some(epoch)));
        }
        assert_eq!(Epoch::from_broker(&"x".repeat(65)), None);
    }

    #[test]
    fn text_of_a_client_adds_nothing_and_matches_no_channel_if_unknown() {
        assert_eq!(Epoch::from_client(""), None);
        let unknown = Epoch::from_client("a text that no broker made").expect("not empty");
        assert_eq!((unknown, unknown.text().as_str()), (Epoch::UNKNOWN, ""));
        assert_ne!(Epoch::from_client("aaaaaa"), Some(Epoch::default()));
    }
}
