//! The presence of a channel: its clients, and the number of clients and users.
//!
//! Entries stay in their slots, so that a large presence can be copied in slices over many turns: a client that stays is
//! in exactly one slice.
//!
//! Invariants: if there is an index, `slots[index.clients[client]]` is that client's entry, every entry is in it, and
//! `index.users` counts the entries of each user; `free` holds the empty slots; `bytes` is the sum of the entries' costs.

use std::collections::HashMap;
use std::rc::Rc;

/// A client in a channel.
#[derive(Debug)]
pub(crate) struct PresenceEntry {
    pub(super) client: [u8; 16],
    /// One copy for all clients of the user in the channel.
    user: Rc<str>,
    /// Packed by the caller.
    pub(crate) client_info: Box<[u8]>,
}

impl PresenceEntry {
    pub(crate) fn client(&self) -> [u8; 16] {
        self.client
    }

    /// Its approximate memory, places in the index included.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of::<([u8; 16], u32)>()
            + size_of::<(Rc<str>, u32)>()
            + self.user.len()
            + self.client_info.len()
    }
}

#[derive(Default)]
pub(super) struct Presence {
    slots: Vec<Option<PresenceEntry>>,
    free: Vec<u32>,
    clients: u32,
    bytes: usize,
    /// Created past `SCANNED_MAX` entries: most channels have few, and scanning those is faster.
    index: Option<Box<Index>>,
}

#[derive(Default)]
struct Index {
    /// The slot of each client.
    clients: HashMap<[u8; 16], u32>,
    /// The number of entries of each user.
    users: HashMap<Rc<str>, u32>,
}

/// A presence of up to so many slots has no index.
const SCANNED_MAX: usize = 8;

impl Presence {
    pub(super) fn is_empty(&self) -> bool {
        self.clients == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clients(&self) -> u32 {
        self.clients
    }

    pub(super) fn users(&self) -> u32 {
        match &self.index {
            Some(index) => index.users.len() as u32,
            None => {
                let entries = || self.slots.iter().flatten();
                let is_first =
                    |(at, entry): &(usize, &PresenceEntry)| entries().take(*at).all(|other| other.user != entry.user);
                entries().enumerate().filter(is_first).count() as u32
            }
        }
    }

    fn find(&self, client: [u8; 16]) -> Option<u32> {
        match &self.index {
            Some(index) => index.clients.get(&client).copied(),
            None => {
                let is_it = |slot: &Option<PresenceEntry>| slot.as_ref().is_some_and(|entry| entry.client == client);
                self.slots.iter().position(is_it).map(|slot| slot as u32)
            }
        }
    }

    /// Returns true if the client is new; the entry of a known client is replaced.
    pub(super) fn add(&mut self, client: [u8; 16], user: &str, client_info: &[u8]) -> bool {
        let known = self.find(client);
        if let Some(slot) = known {
            self.take(slot);
        }
        let user = self.count_user(user);
        let entry = PresenceEntry { client, user, client_info: client_info.into() };
        self.bytes += entry.bytes();
        let slot = known.or_else(|| self.free.pop()).unwrap_or_else(|| {
            if self.slots.len() < SCANNED_MAX {
                self.slots.reserve_exact(1);
            }
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(entry);
        self.clients += 1;
        if let Some(index) = &mut self.index {
            index.clients.insert(client, slot);
        } else if self.slots.len() > SCANNED_MAX {
            self.create_index();
        }
        known.is_none()
    }

    fn create_index(&mut self) {
        let mut index = Box::<Index>::default();
        let entries = self.slots.iter().enumerate().filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)));
        for (slot, entry) in entries {
            index.clients.insert(entry.client, slot as u32);
            *index.users.entry(Rc::clone(&entry.user)).or_default() += 1;
        }
        self.index = Some(index);
    }

    /// Returns the client info, or `None` if the client was not there.
    pub(super) fn remove(&mut self, client: [u8; 16]) -> Option<Box<[u8]>> {
        let slot = self.find(client)?;
        if let Some(index) = &mut self.index {
            index.clients.remove(&client);
        }
        self.free.push(slot);
        Some(self.take(slot).client_info)
    }

    /// Counts one more client of the user; returns the shared copy of the user's id.
    fn count_user(&mut self, user: &str) -> Rc<str> {
        let Some(index) = &mut self.index else {
            let same = self.slots.iter().flatten().find(|entry| *entry.user == *user);
            return same.map_or_else(|| Rc::from(user), |entry| Rc::clone(&entry.user));
        };
        let name = index.users.get_key_value(user).map_or_else(|| Rc::from(user), |(name, _)| Rc::clone(name));
        *index.users.entry(Rc::clone(&name)).or_default() += 1;
        name
    }

    /// Takes an entry out of its slot and out of its user's count.
    fn take(&mut self, slot: u32) -> PresenceEntry {
        let entry = self.slots[slot as usize].take().expect("find returns slots with an entry");
        self.bytes -= entry.bytes();
        self.clients -= 1;
        if let Some(index) = &mut self.index {
            let count = index.users.get_mut(&entry.user).expect("the index counts the user of every entry");
            *count -= 1;
            if *count == 0 {
                index.users.remove(&entry.user);
            }
        }
        entry
    }

    /// The entries of up to `max` slots from slot `from` on, and where the next slice begins.
    pub(super) fn slice(&self, from: u32, max: u32) -> (impl Iterator<Item = &PresenceEntry>, Option<u32>) {
        let from = (from as usize).min(self.slots.len());
        let to = from.saturating_add(max.max(1) as usize).min(self.slots.len());
        (self.slots[from..to].iter().flatten(), (to < self.slots.len()).then_some(to as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_counts_clients_and_users_and_replaces_known_clients() {
        let mut presence = Presence::default();
        assert!(presence.add([1; 16], "ann", b"a"));
        assert!(presence.add([2; 16], "ann", b"b"));
        assert!(presence.add([3; 16], "", b"c"));
        assert!(!presence.add([2; 16], "bob", b"d"));
        assert_eq!((presence.clients(), presence.users()), (3, 3));
        assert_eq!(presence.remove([1; 16]).as_deref(), Some(&b"a"[..]));
        assert_eq!(presence.remove([1; 16]), None);
        assert_eq!((presence.clients(), presence.users()), (2, 2));
        assert_eq!(presence.remove([2; 16]).as_deref(), Some(&b"d"[..]));
        assert!(!presence.is_empty());
        presence.remove([3; 16]);
        assert!(presence.is_empty() && presence.users() == 0 && presence.bytes() == 0);
    }

    #[test]
    fn presence_client_that_stays_is_in_exactly_one_slice() {
        let mut presence = Presence::default();
        let id = |i: u8| [i; 16];
        (0..100).for_each(|i| _ = presence.add(id(i), "", b""));
        let (mut seen, mut from) = (Vec::new(), Some(0));
        for step in 0.. {
            let Some(at) = from else { break };
            let (entries, next) = presence.slice(at, 7);
            seen.extend(entries.map(|entry| entry.client));
            from = next;
            presence.remove(id(step * 2));
            presence.add(id(200 + step), "", b"");
        }
        for stayed in (0..100).filter(|i| i % 2 == 1) {
            assert_eq!(seen.iter().filter(|&&client| client == id(stayed)).count(), 1, "{stayed}");
        }
        assert!(presence.slice(1000, 5).1.is_none());
    }
}
