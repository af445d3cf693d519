//! Idempotency keys: a second publication with a key gets the answer of the first and is not made.
//!
//! A key is stored as 128 bits of a keyed hash, so that each costs the same memory whatever its length. The hash is keyed by
//! the secret of the placement: no publisher can choose keys that collide, and the process that takes over knows them too.
//! The lowest bits of the first half are the slot of the channel, which says which home shard has to know the key.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

use super::placement::{SLOTS, slot_of};
use super::position::Position;

/// A key is remembered for so many milliseconds.
pub(super) const KEY_TTL: u64 = 5 * 60 * 1000;
/// Keys that one shard remembers: about 870 a second. Past it the oldest is forgotten early.
const KEYS_MAX: usize = 1 << 18;

pub(super) type KeyHash = (u64, u64);

pub(super) struct IdempotencyKeys {
    secret: [u8; 16],
    /// The expiry of each key, and what the first publication was answered: its position, if it has one.
    answers: HashMap<KeyHash, (u64, Option<Position>)>,
    /// All keys of the map with their expiry, by age.
    by_age: VecDeque<(u64, KeyHash)>,
    /// Keys that `by_age` had before its first one.
    forgotten: u64,
}

/// A remembered key, as another process gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KnownKey {
    pub(crate) hash: (u64, u64),
    /// Milliseconds until it is forgotten.
    pub(crate) left: u64,
    /// What the first publication was answered.
    pub(crate) answer: Option<Position>,
}

impl KnownKey {
    /// The slot of its channel.
    pub(crate) fn slot(&self) -> usize {
        self.hash.0 as usize % SLOTS
    }
}

impl IdempotencyKeys {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self { secret, answers: HashMap::new(), by_age: VecDeque::new(), forgotten: 0 }
    }

    pub(super) fn hash(&self, channel: &str, key: &str) -> KeyHash {
        let half = |number: u8| {
            let mut hasher = SipHasher13::new_with_key(&self.secret);
            (number, channel, key).hash(&mut hasher);
            hasher.finish()
        };
        let slots = SLOTS as u64;
        (half(1) / slots * slots + slot_of(&self.secret, channel) as u64, half(2))
    }

    /// The answer to the first publication with this key; `None` if there was none or it expired.
    pub(super) fn find(&self, key: KeyHash, now: u64) -> Option<Option<Position>> {
        self.answers.get(&key).filter(|(expiry, _)| *expiry > now).map(|&(_, answer)| answer)
    }

    pub(super) fn insert(&mut self, key: KeyHash, answer: Option<Position>, now: u64) {
        self.insert_until(key, answer, now.saturating_add(KEY_TTL));
    }

    fn insert_until(&mut self, key: KeyHash, answer: Option<Position>, expiry: u64) {
        if self.by_age.len() == KEYS_MAX {
            self.remove_oldest();
        }
        self.answers.insert(key, (expiry, answer));
        self.by_age.push_back((expiry, key));
    }

    /// Up to `max` known keys from the one with this number on, and the number of the next; `None` after the last.
    pub(super) fn known(&self, from: u64, max: usize, now: u64) -> (Vec<KnownKey>, Option<u64>) {
        let first = usize::try_from(from.saturating_sub(self.forgotten)).unwrap_or(usize::MAX).min(self.by_age.len());
        let end = first.saturating_add(max).min(self.by_age.len());
        let known = |&(expiry, hash): &(u64, KeyHash)| {
            let &(until, answer) = self.answers.get(&hash).filter(|(until, _)| *until == expiry && expiry > now)?;
            Some(KnownKey { hash, left: until - now, answer })
        };
        let keys = self.by_age.range(first..end).filter_map(known).collect();
        (keys, (end < self.by_age.len()).then_some(self.forgotten + end as u64))
    }

    /// A key that the process before knows. `sort` follows when all of them are here.
    pub(super) fn take_over(&mut self, key: KnownKey, now: u64) {
        self.insert_until(key.hash, key.answer, now.saturating_add(key.left.min(KEY_TTL)));
    }

    /// Puts the keys in the order of their age.
    pub(super) fn sort(&mut self) {
        self.by_age.make_contiguous().sort_unstable_by_key(|&(expiry, _)| expiry);
    }

    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.by_age.front().map(|&(expiry, _)| expiry)
    }

    pub(super) fn remove_oldest(&mut self) {
        // A key that was inserted again after its expiry is in the queue twice, and in the map with the later expiry.
        let Some((expiry, key)) = self.by_age.pop_front() else { return };
        self.forgotten += 1;
        if self.answers.get(&key).is_some_and(|(until, _)| *until == expiry) {
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
        let mut keys = IdempotencyKeys::new([7; 16]);
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
    fn idempotency_keys_are_known_in_the_process_that_takes_over() {
        let mut before = IdempotencyKeys::new([7; 16]);
        let hashes = ["a", "b", "c"].map(|key| before.hash("news", key));
        let at = Some(Position { epoch: Epoch::of_number(1), offset: 2 });
        for (time, hash) in hashes.into_iter().enumerate() {
            before.insert(hash, at, time as u64);
        }
        let (first, next) = before.known(0, 2, 100);
        before.remove_oldest();
        let (rest, none) = before.known(next.expect("one is left"), 2, 100);
        assert_eq!((first.len(), rest.len(), none), (2, 1, None));
        let mut after = IdempotencyKeys::new([7; 16]);
        for key in rest.into_iter().chain(first) {
            assert_eq!(key.slot(), slot_of(&[7; 16], "news"));
            after.take_over(key, 5);
        }
        after.sort();
        assert_eq!(after.find(after.hash("news", "b"), 5), Some(at));
        assert_eq!(after.next_expiry(), Some(5 + KEY_TTL - 100));
    }

    #[test]
    fn idempotency_keys_past_the_limit_push_the_oldest_out() {
        let mut keys = IdempotencyKeys::new([7; 16]);
        for i in 0..=KEYS_MAX as u64 {
            keys.insert((i, i), None, i);
        }
        assert_eq!(keys.find((0, 0), 1), None);
        assert_eq!(keys.find((1, 1), 1), Some(None));
        assert_eq!((keys.answers.len(), keys.by_age.len()), (KEYS_MAX, KEYS_MAX));
    }
}
