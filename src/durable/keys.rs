//! Idempotency keys of a lane, by their hashes. The hash is keyed by the log's own number: no publisher can choose keys that
//! collide, and a start finds the keys of before.

use std::collections::{HashMap, VecDeque};

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use super::checkpoint::KeyRow;
use super::meta::epoch_of_text;
use crate::pubsub::Position;

/// A key is remembered for so many milliseconds.
pub(super) const KEY_TTL: u64 = 5 * 60 * 1000;
/// Keys that a lane remembers: about 870 a second. Past it the oldest is forgotten early.
const KEYS_MAX: usize = 1 << 18;

/// What the first publication with a key got.
pub(super) type KeyPosition = Option<([u8; 8], u64)>;

#[derive(Default)]
pub(super) struct Keys {
    answers: HashMap<u128, (u64, KeyPosition)>,
    by_age: VecDeque<(u64, u128)>,
}

pub(super) fn hash_key(log: &[u8; 16], channel: &str, key: &str) -> u128 {
    let mut hasher = SipHasher13::new_with_key(log);
    hasher.write_u64(channel.len() as u64);
    hasher.write(channel.as_bytes());
    hasher.write(key.as_bytes());
    hasher.finish128().into()
}

impl Keys {
    /// What the first publication with the key got; `None` if there was none, or it is too long ago.
    pub(super) fn find(&self, hash: u128, now: u64) -> Option<Option<Position>> {
        let &(time, position) = self.answers.get(&hash)?;
        let position = position.map(|(text, offset)| Position { epoch: epoch_of_text(&text), offset });
        (time.saturating_add(KEY_TTL) > now).then_some(position)
    }

    pub(super) fn insert(&mut self, hash: u128, time: u64, position: KeyPosition) {
        if self.answers.insert(hash, (time, position)).is_some_and(|(before, _)| before == time) {
            return;
        }
        self.by_age.push_back((time, hash));
        if self.by_age.len() > KEYS_MAX {
            self.remove_oldest();
        }
    }

    /// The publication was not made.
    pub(super) fn remove(&mut self, hash: u128) {
        self.answers.remove(&hash);
    }

    pub(super) fn expire(&mut self, now: u64) {
        while self.by_age.front().is_some_and(|(time, _)| time.saturating_add(KEY_TTL) <= now) {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        // A key that was inserted again is in the queue twice, and in the map with the later time.
        if let Some((time, hash)) = self.by_age.pop_front()
            && self.answers.get(&hash).is_some_and(|(at, _)| *at == time)
        {
            self.answers.remove(&hash);
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = KeyRow> {
        self.by_age.iter().filter_map(|&(time, hash)| {
            let &(at, position) = self.answers.get(&hash)?;
            (at == time).then_some(KeyRow { hash, time, position })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_remembered_for_its_time_and_for_its_channel() {
        let (log, mut keys) = ([1; 16], Keys::default());
        let (hash, other) = (hash_key(&log, "news", "a"), hash_key(&log, "newsa", ""));
        assert!(hash != other && hash != hash_key(&[2; 16], "news", "a"));
        keys.insert(hash, 10, None);
        assert_eq!((keys.find(hash, 9 + KEY_TTL), keys.find(other, 10)), (Some(None), None));
        assert_eq!(keys.find(hash, 10 + KEY_TTL), None);
        keys.insert(hash, 10 + KEY_TTL, Some((*b"abcdef\0\0", 3)));
        keys.expire(10 + KEY_TTL);
        assert_eq!(keys.find(hash, 10 + KEY_TTL).flatten().map(|position| position.offset), Some(3));
        assert_eq!(keys.rows().count(), 1);
    }

    #[test]
    fn keys_past_the_limit_push_the_oldest_out() {
        let mut keys = Keys::default();
        (0..=KEYS_MAX as u128).for_each(|hash| keys.insert(hash, 1, None));
        assert_eq!((keys.find(0, 1), keys.find(1, 1)), (None, Some(None)));
        assert_eq!((keys.answers.len(), keys.by_age.len()), (KEYS_MAX, KEYS_MAX));
    }
}
