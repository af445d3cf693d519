//! Idempotency keys: a second publication with a key gets the answer of the first and is not made.
//!
//! A key is stored as 128 bits of a keyed hash, so that each costs the same memory whatever its length. The hash keys are
//! random in each process: no publisher can choose keys that collide.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::position::Position;

/// A key is remembered for so many milliseconds.
pub(super) const KEY_TTL: u64 = 5 * 60 * 1000;
/// Keys that one shard remembers: about 870 a second. Past it the oldest is forgotten early.
const KEYS_MAX: usize = 1 << 18;

type KeyHash = (u64, u64);

pub(super) struct IdempotencyKeys {
    hashers: (RandomState, RandomState),
    /// The expiry of each key, and what the first publication was answered: its position, if it has one.
    answers: HashMap<KeyHash, (u64, Option<Position>)>,
    /// All keys of the map with their expiry, by age.
    by_age: VecDeque<(u64, KeyHash)>,
}

impl IdempotencyKeys {
    pub(super) fn new() -> Self {
        let hashers = (RandomState::new(), RandomState::new());
        Self { hashers, answers: HashMap::new(), by_age: VecDeque::new() }
    }

    pub(super) fn hash(&self, channel: &str, key: &str) -> KeyHash {
        (self.hashers.0.hash_one((channel, key)), self.hashers.1.hash_one((channel, key)))
    }

    /// The answer to the first publication with this key; `None` if there was none or it expired.
    pub(super) fn find(&self, key: KeyHash, now: u64) -> Option<Option<Position>> {
        self.answers.get(&key).filter(|(expiry, _)| *expiry > now).map(|&(_, answer)| answer)
    }

    pub(super) fn insert(&mut self, key: KeyHash, answer: Option<Position>, now: u64) {
        if self.by_age.len() == KEYS_MAX {
            self.remove_oldest();
        }
        let expiry = now.saturating_add(KEY_TTL);
        self.answers.insert(key, (expiry, answer));
        self.by_age.push_back((expiry, key));
    }

    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.by_age.front().map(|&(expiry, _)| expiry)
    }

    pub(super) fn remove_oldest(&mut self) {
        // A key that was inserted again after its expiry is in the queue twice, and in the map with the later expiry.
        if let Some((expiry, key)) = self.by_age.pop_front()
            && self.answers.get(&key).is_some_and(|(until, _)| *until == expiry)
        {
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::epoch::Epoch;

    #[test]
    fn idempotency_key_is_remembered_for_its_time_and_for_its_channel() {
        let mut keys = IdempotencyKeys::new();
        let (key, other) = (keys.hash("news", "a"), keys.hash("newsa", ""));
        assert_ne!(key, other);
        assert_eq!(keys.find(key, 0), None);
        keys.insert(key, Some(Position { epoch: Epoch::of_number(1), offset: 2 }), 10);
        assert_eq!(keys.find(key, 9 + KEY_TTL), Some(Some(Position { epoch: Epoch::of_number(1), offset: 2 })));
        assert_eq!(keys.find(other, 9 + KEY_TTL), None);
        assert_eq!(keys.find(key, 10 + KEY_TTL), None);
        keys.insert(key, None, 10 + KEY_TTL);
        keys.remove_oldest();
        assert_eq!(keys.find(key, 11 + KEY_TTL), Some(None), "the second time outlives the first");
        keys.remove_oldest();
        assert_eq!((keys.answers.len(), keys.by_age.len()), (0, 0));
    }

    #[test]
    fn idempotency_keys_past_the_limit_push_the_oldest_out() {
        let mut keys = IdempotencyKeys::new();
        for i in 0..=KEYS_MAX as u64 {
            keys.insert((i, i), None, i);
        }
        assert_eq!(keys.find((0, 0), 1), None);
        assert_eq!(keys.find((1, 1), 1), Some(None));
        assert_eq!((keys.answers.len(), keys.by_age.len()), (KEYS_MAX, KEYS_MAX));
    }
}
