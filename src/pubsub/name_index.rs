//! An index by name over entries of a slab that hold their names themselves. It stores only their keys, five bytes for
//! each place of the table; a map would store every name a second time.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::ids::Key;

pub(super) struct NameIndex<Tag> {
    keys: HashTable<Key<Tag>>,
    /// Seeded at random in each process, so that no client can choose names that collide.
    hasher: RandomState,
}

impl<Tag> Default for NameIndex<Tag> {
    fn default() -> Self {
        Self { keys: HashTable::new(), hasher: RandomState::new() }
    }
}

impl<Tag> NameIndex<Tag> {
    /// `name_of` returns the name of a key in the index.
    pub(super) fn find<'a>(&self, name: &str, name_of: impl Fn(Key<Tag>) -> &'a str) -> Option<Key<Tag>> {
        self.keys.find(self.hasher.hash_one(name), |&key| name_of(key) == name).copied()
    }

    /// The name is not in the index yet.
    pub(super) fn insert<'a>(&mut self, name: &str, key: Key<Tag>, name_of: impl Fn(Key<Tag>) -> &'a str) {
        let Self { keys, hasher } = self;
        keys.insert_unique(hasher.hash_one(name), key, |&key| hasher.hash_one(name_of(key)));
    }

    /// Does nothing if the name has another key or none.
    pub(super) fn remove(&mut self, name: &str, key: Key<Tag>) {
        if let Ok(entry) = self.keys.find_entry(self.hasher.hash_one(name), |&other| other == key) {
            entry.remove();
        }
    }

    /// Gives the name another key. Does nothing if its key is not `key`.
    pub(super) fn replace(&mut self, name: &str, key: Key<Tag>, with: Key<Tag>) {
        if let Some(entry) = self.keys.find_mut(self.hasher.hash_one(name), |&other| other == key) {
            *entry = with;
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key<Tag>> + '_ {
        self.keys.iter().copied()
    }

    /// Frees the memory of an empty index.
    pub(super) fn shrink(&mut self) {
        if self.keys.is_empty() {
            self.keys = HashTable::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChannelKey;

    #[test]
    fn names_are_found_until_they_are_removed() {
        let all: Vec<String> = (0..1000).map(|n| format!("name-{n}")).collect();
        let name_of = |key: ChannelKey| all[key.index()].as_str();
        let mut names = NameIndex::default();
        for (key, name) in all.iter().enumerate() {
            assert_eq!(names.find(name, name_of), None);
            names.insert(name, ChannelKey::new(key), name_of);
        }
        for (key, name) in all.iter().enumerate() {
            assert_eq!(names.find(name, name_of), Some(ChannelKey::new(key)));
        }
        names.remove("name-7", ChannelKey::new(7));
        names.remove("name-8", ChannelKey::new(9));
        assert_eq!(names.find("name-7", name_of), None);
        assert_eq!(names.find("name-8", name_of), Some(ChannelKey::new(8)), "another key's name is not removed");
        assert_eq!(names.keys().count(), 999);
    }
}
