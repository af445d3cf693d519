//! The channels of one broker thread that home shards want, each under a number of this process (sid).

use std::collections::HashMap;

use crate::broker::message::SubscribeSerial;
use crate::ids::ShardId;

/// Smaller numbers are those of the thread's own subjects.
pub(super) const FIRST_SID: u64 = 16;

pub(super) struct Subscription {
    pub(super) channel: Box<str>,
    pub(super) shard: ShardId,
    pub(super) serial: SubscribeSerial,
    /// The server has it: everything arrives.
    pub(super) is_live: bool,
    /// A message was dropped since the shard had no room.
    pub(super) has_gap: bool,
}

pub(super) struct Subscriptions {
    by_sid: HashMap<u64, Subscription>,
    sids: HashMap<Box<str>, u64>,
    next_sid: u64,
}

/// What a subscribe changes.
pub(super) enum Inserted {
    New(u64),
    /// It exists on the server, or will in a moment.
    Known(u64),
}

impl Subscriptions {
    pub(super) fn new() -> Self {
        Self { by_sid: HashMap::new(), sids: HashMap::new(), next_sid: FIRST_SID }
    }

    pub(super) fn len(&self) -> usize {
        self.by_sid.len()
    }

    pub(super) fn insert(&mut self, channel: Box<str>, shard: ShardId, serial: SubscribeSerial) -> Inserted {
        if let Some(&sid) = self.sids.get(&channel) {
            if let Some(known) = self.by_sid.get_mut(&sid) {
                (known.shard, known.serial) = (shard, serial);
            }
            return Inserted::Known(sid);
        }
        let sid = self.next_sid;
        self.next_sid += 1;
        self.sids.insert(channel.clone(), sid);
        self.by_sid.insert(sid, Subscription { channel, shard, serial, is_live: false, has_gap: false });
        Inserted::New(sid)
    }

    /// The number of the one that ends.
    pub(super) fn remove(&mut self, channel: &str) -> Option<u64> {
        let sid = self.sids.remove(channel)?;
        self.by_sid.remove(&sid);
        Some(sid)
    }

    pub(super) fn get_mut(&mut self, sid: u64) -> Option<&mut Subscription> {
        self.by_sid.get_mut(&sid)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Subscription)> {
        self.by_sid.iter_mut().map(|(&sid, subscription)| (sid, subscription))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_subscribe_replaces_the_serial_and_keeps_the_number() {
        let mut subscriptions = Subscriptions::new();
        let Inserted::New(sid) = subscriptions.insert("a".into(), ShardId(0), SubscribeSerial(1)) else {
            panic!("it is new");
        };
        let again = subscriptions.insert("a".into(), ShardId(1), SubscribeSerial(2));
        assert!(matches!(again, Inserted::Known(known) if known == sid));
        let known = subscriptions.get_mut(sid).expect("it is there");
        assert_eq!((known.shard, known.serial), (ShardId(1), SubscribeSerial(2)));
        assert_eq!((subscriptions.remove("a"), subscriptions.remove("a")), (Some(sid), None));
        assert_eq!((subscriptions.len(), subscriptions.iter_mut().count()), (0, 0));
        let next = subscriptions.insert("a".into(), ShardId(0), SubscribeSerial(3));
        assert!(matches!(next, Inserted::New(other) if other > sid), "a number is used once");
    }
}
