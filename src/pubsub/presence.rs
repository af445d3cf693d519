//! The clients in a channel: who is there, how many, of how many users.
//!
//! Members stand in slots that do not move, so that a crowd can be copied out in slices over many turns: who is there all
//! the while is in it once.
//!
//! Invariants: where there are tables, `slots[index[client]]` holds that client's member, every member is in the index, and
//! `users` counts the members of each user; `free` holds the slots without one; `bytes` is the sum of what members cost.

use std::collections::HashMap;
use std::rc::Rc;

use super::home_channels::HomeChannels;

/// A client in a channel.
#[derive(Debug)]
pub struct Member {
    pub client: [u8; 16],
    /// One copy for all clients of the user in the channel.
    pub user: Rc<str>,
    /// The client as others see it, packed by the caller.
    pub who: Box<[u8]>,
}

impl Member {
    /// About what it takes, with its places in the tables.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of::<([u8; 16], u32)>()
            + size_of::<(Rc<str>, u32)>()
            + self.user.len()
            + self.who.len()
    }
}

#[derive(Default)]
pub(crate) struct Presence {
    slots: Vec<Option<Member>>,
    free: Vec<u32>,
    clients: u32,
    bytes: usize,
    /// Once there are more than `FEW`: most channels have a few members, and look through them.
    tables: Option<Box<Tables>>,
}

#[derive(Default)]
struct Tables {
    index: HashMap<[u8; 16], u32>,
    users: HashMap<Rc<str>, u32>,
}

/// Members up to which nothing but the slots is kept.
const FEW: usize = 8;

impl Presence {
    pub fn is_empty(&self) -> bool {
        self.clients == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn clients(&self) -> u32 {
        self.clients
    }

    pub fn users(&self) -> u32 {
        match &self.tables {
            Some(tables) => tables.users.len() as u32,
            None => {
                let members = || self.slots.iter().flatten();
                let first = |(at, member): &(usize, &Member)| members().take(*at).all(|one| one.user != member.user);
                members().enumerate().filter(first).count() as u32
            }
        }
    }

    fn find(&self, client: [u8; 16]) -> Option<u32> {
        match &self.tables {
            Some(tables) => tables.index.get(&client).copied(),
            None => {
                let is = |slot: &Option<Member>| slot.as_ref().is_some_and(|member| member.client == client);
                self.slots.iter().position(is).map(|slot| slot as u32)
            }
        }
    }

    /// Whether the client is new; what is known of one that is not is replaced.
    pub fn add(&mut self, client: [u8; 16], user: &str, who: &[u8]) -> bool {
        let known = self.find(client);
        if let Some(slot) = known {
            self.take(slot);
        }
        let user = self.enter(user);
        let member = Member { client, user, who: who.into() };
        self.bytes += member.bytes();
        let slot = known.or_else(|| self.free.pop()).unwrap_or_else(|| {
            if self.slots.len() < FEW {
                self.slots.reserve_exact(1);
            }
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(member);
        self.clients += 1;
        if let Some(tables) = &mut self.tables {
            tables.index.insert(client, slot);
        } else if self.slots.len() > FEW {
            self.make_tables();
        }
        known.is_none()
    }

    fn make_tables(&mut self) {
        let mut tables = Box::<Tables>::default();
        for (slot, member) in self.slots.iter().enumerate().filter_map(|(slot, member)| Some((slot, member.as_ref()?)))
        {
            tables.index.insert(member.client, slot as u32);
            *tables.users.entry(Rc::clone(&member.user)).or_default() += 1;
        }
        self.tables = Some(tables);
    }

    pub fn remove(&mut self, client: [u8; 16]) -> Option<Box<[u8]>> {
        let slot = self.find(client)?;
        if let Some(tables) = &mut self.tables {
            tables.index.remove(&client);
        }
        self.free.push(slot);
        Some(self.take(slot).who)
    }

    /// One more client of the user.
    fn enter(&mut self, user: &str) -> Rc<str> {
        let Some(tables) = &mut self.tables else {
            let same = self.slots.iter().flatten().find(|member| *member.user == *user);
            return same.map_or_else(|| Rc::from(user), |member| Rc::clone(&member.user));
        };
        let name = tables.users.get_key_value(user).map_or_else(|| Rc::from(user), |(name, _)| Rc::clone(name));
        *tables.users.entry(Rc::clone(&name)).or_default() += 1;
        name
    }

    /// Out of its slot and out of the user's count.
    fn take(&mut self, slot: u32) -> Member {
        let member = self.slots[slot as usize].take().expect("a slot that was found has a member");
        self.bytes -= member.bytes();
        self.clients -= 1;
        if let Some(tables) = &mut self.tables {
            let count = tables.users.get_mut(&member.user).expect("a member's user is counted");
            *count -= 1;
            if *count == 0 {
                tables.users.remove(&member.user);
            }
        }
        member
    }

    /// The members in up to `max` slots from this one on, and where the next slice begins.
    pub fn slice(&self, from: u32, max: u32) -> (impl Iterator<Item = &Member>, Option<u32>) {
        let from = (from as usize).min(self.slots.len());
        let to = from.saturating_add(max.max(1) as usize).min(self.slots.len());
        (self.slots[from..to].iter().flatten(), (to < self.slots.len()).then_some(to as u32))
    }
}

impl HomeChannels {
    /// A client is in the channel: whether it is new there. What is known of one that is not is replaced.
    pub fn presence_add(&mut self, name: &str, client: [u8; 16], user: &str, who: &[u8]) -> bool {
        let key = self.open(name);
        let presence = self.channels[key as usize].presence.get_or_insert_default();
        let bytes = presence.bytes();
        let new = presence.add(client, user, who);
        self.memory.presence = self.memory.presence + presence.bytes() - bytes;
        self.leave_idle(key);
        new
    }

    /// A client left the channel: what others saw of it, if it was in.
    pub fn presence_remove(&mut self, name: &str, client: [u8; 16], now: u64) -> Option<Box<[u8]>> {
        let key = self.key(name)?;
        let place = &mut self.channels[key as usize].presence;
        let presence = place.as_mut()?;
        let bytes = presence.bytes();
        let who = presence.remove(client)?;
        self.memory.presence -= bytes - presence.bytes();
        if presence.is_empty() {
            *place = None;
            self.settle(key, now);
            self.shed();
        }
        Some(who)
    }

    /// Clients in the channel, and distinct users.
    pub fn presence_stats(&self, name: &str) -> (u32, u32) {
        self.presence(name).map_or((0, 0), |presence| (presence.clients(), presence.users()))
    }

    /// The members in up to `max` slots from this one on, and where the next slice begins: none for the last. Who is in the
    /// channel from the first slice to the last is in exactly one of them.
    pub fn presence_slice(&self, name: &str, from: u32, max: u32) -> (impl Iterator<Item = &Member>, Option<u32>) {
        let slice = self.presence(name).map(|presence| presence.slice(from, max));
        let (members, next) = slice.map_or((None, None), |(members, next)| (Some(members), next));
        (members.into_iter().flatten(), next)
    }

    fn presence(&self, name: &str) -> Option<&Presence> {
        self.channels[self.key(name)? as usize].presence.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_users_are_counted_and_what_is_known_is_replaced() {
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
    fn who_is_there_all_the_while_is_in_the_slices_once() {
        let mut presence = Presence::default();
        let id = |i: u8| [i; 16];
        (0..100).for_each(|i| _ = presence.add(id(i), "", b""));
        let (mut seen, mut from) = (Vec::new(), Some(0));
        for step in 0.. {
            let Some(at) = from else { break };
            let (members, next) = presence.slice(at, 7);
            seen.extend(members.map(|member| member.client));
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
