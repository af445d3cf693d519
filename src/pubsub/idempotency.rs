//! Publications that were made before: a second one with the same key is told what the first was told.
//!
//! A key is remembered as 128 bits of a keyed hash that nobody outside knows, so that what a publisher writes costs the same
//! however long it is.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::Position;

/// Milliseconds that a key is remembered.
pub(crate) const KEY_TTL: u64 = 5 * 60 * 1000;
/// Keys remembered by one shard: about 870 a second. Past it the oldest is forgotten before its time.
const KEYS_MAX: usize = 1 << 18;

type Key = (u64, u64);

pub(crate) struct Once {
    hashers: (RandomState, RandomState),
    /// Until when, and what the first was told: its position, if it has one.
    answers: HashMap<Key, (u64, Option<Position>)>,
    /// By age. Every key of the map stands here with the same time.
    keys: VecDeque<(u64, Key)>,
}

impl Once {
    pub fn new() -> Self {
        let hashers = (RandomState::new(), RandomState::new());
        Self { hashers, answers: HashMap::new(), keys: VecDeque::new() }
    }

    pub fn key(&self, channel: &str, key: &str) -> Key {
        (self.hashers.0.hash_one((channel, key)), self.hashers.1.hash_one((channel, key)))
    }

    /// What was answered to the first with this key, if there was one.
    pub fn answered(&self, key: Key, now: u64) -> Option<Option<Position>> {
        self.answers.get(&key).filter(|(due, _)| *due > now).map(|&(_, answer)| answer)
    }

    pub fn remember(&mut self, key: Key, answer: Option<Position>, now: u64) {
        if self.keys.len() == KEYS_MAX {
            self.forget_oldest();
        }
        let due = now.saturating_add(KEY_TTL);
        self.answers.insert(key, (due, answer));
        self.keys.push_back((due, key));
    }

    pub fn next_due(&self) -> Option<u64> {
        self.keys.front().map(|&(due, _)| due)
    }

    pub fn forget_oldest(&mut self) {
        // A key that came again after its time stands here twice until then.
        if let Some((due, key)) = self.keys.pop_front()
            && self.answers.get(&key).is_some_and(|(until, _)| *until == due)
        {
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_for_its_time_and_for_its_channel() {
        let mut once = Once::new();
        let (key, other) = (once.key("news", "a"), once.key("newsa", ""));
        assert_ne!(key, other);
        assert_eq!(once.answered(key, 0), None);
        once.remember(key, Some(Position { epoch: 1, offset: 2 }), 10);
        assert_eq!(once.answered(key, 9 + KEY_TTL), Some(Some(Position { epoch: 1, offset: 2 })));
        assert_eq!(once.answered(other, 9 + KEY_TTL), None);
        assert_eq!(once.answered(key, 10 + KEY_TTL), None);
        once.remember(key, None, 10 + KEY_TTL);
        once.forget_oldest();
        assert_eq!(once.answered(key, 11 + KEY_TTL), Some(None), "the second time outlives the first");
        once.forget_oldest();
        assert_eq!((once.answers.len(), once.keys.len()), (0, 0));
    }

    #[test]
    fn too_many_keys_push_the_oldest_out() {
        let mut once = Once::new();
        for i in 0..=KEYS_MAX as u64 {
            once.remember((i, i), None, i);
        }
        assert_eq!(once.answered((0, 0), 1), None);
        assert_eq!(once.answered((1, 1), 1), Some(None));
        assert_eq!((once.answers.len(), once.keys.len()), (KEYS_MAX, KEYS_MAX));
    }
}
