//! Names of things that stand in a slab and know their names themselves: a hash table of their keys alone, five bytes for each
//! place, where a map would hold every name a second time.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

#[derive(Default)]
pub(crate) struct Names {
    keys: HashTable<u32>,
    /// Seeded anew in each process, so that nobody can choose names that fall together.
    hasher: RandomState,
}

impl Names {
    /// `of` gives the name of a key that is in the table.
    pub fn find<'a>(&self, name: &str, of: impl Fn(u32) -> &'a str) -> Option<u32> {
        self.keys.find(self.hasher.hash_one(name), |&key| of(key) == name).copied()
    }

    /// Of a name that is not there.
    pub fn insert<'a>(&mut self, name: &str, key: u32, of: impl Fn(u32) -> &'a str) {
        let Self { keys, hasher } = self;
        keys.insert_unique(hasher.hash_one(name), key, |&key| hasher.hash_one(of(key)));
    }

    /// Takes the name out, or gives it another key.
    pub fn replace(&mut self, name: &str, key: u32, with: Option<u32>) {
        if let Ok(mut entry) = self.keys.find_entry(self.hasher.hash_one(name), |&other| other == key) {
            match with {
                Some(with) => *entry.get_mut() = with,
                None => _ = entry.remove(),
            }
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = u32> + '_ {
        self.keys.iter().copied()
    }

    /// Gives the memory back of a table that is empty.
    pub fn shrink(&mut self) {
        if self.keys.is_empty() {
            self.keys = HashTable::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_until_they_are_taken_out() {
        let all: Vec<String> = (0..1000).map(|n| format!("name-{n}")).collect();
        let of = |key: u32| all[key as usize].as_str();
        let mut names = Names::default();
        for (key, name) in all.iter().enumerate() {
            assert_eq!(names.find(name, of), None);
            names.insert(name, key as u32, of);
        }
        for (key, name) in all.iter().enumerate() {
            assert_eq!(names.find(name, of), Some(key as u32));
        }
        names.replace("name-7", 7, None);
        names.replace("name-8", 9, None);
        assert_eq!(names.find("name-7", of), None);
        assert_eq!(names.find("name-8", of), Some(8), "another key's name is not taken out");
        assert_eq!(names.keys().count(), 999);
    }
}
