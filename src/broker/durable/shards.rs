//! The way back to the shards: who wants the publications of a channel, and what happens if its shard has no room.

use std::collections::HashMap;
use std::time::Duration;

use smallvec::SmallVec;

use crate::broker::message::{Answer, BrokerError, Event, SubscribeSerial, Ticket};
use crate::broker::port::EventPort;
use crate::ids::ShardId;
use crate::pubsub::{Position, PublicationRecord};

/// How soon a full mailbox is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(2);

/// What a home shard wants of a channel.
struct Subscription {
    shard: ShardId,
    serial: SubscribeSerial,
    /// A publication did not fit.
    has_gap: bool,
}

pub(super) struct Shards {
    /// By `ShardId`.
    ports: Vec<EventPort>,
    /// A mailbox was full.
    is_blocked: bool,
    /// One home shard has a channel, and during a takeover one of the other process too.
    subscriptions: HashMap<Box<str>, SmallVec<[Subscription; 1]>>,
    with_gaps: Vec<(Box<str>, ShardId)>,
}

impl Shards {
    pub(super) fn new(ports: Vec<EventPort>) -> Self {
        Self { ports, is_blocked: false, subscriptions: HashMap::new(), with_gaps: Vec::new() }
    }

    pub(super) fn subscribe(&mut self, shard: ShardId, channel: Box<str>, serial: SubscribeSerial) {
        self.push(shard, Event::Subscribed { channel: channel.clone(), serial });
        let subscriptions = self.subscriptions.entry(channel).or_default();
        subscriptions.retain(|one| one.shard != shard && !self.ports[one.shard.index()].has_ended());
        subscriptions.push(Subscription { shard, serial, has_gap: false });
    }

    pub(super) fn unsubscribe(&mut self, shard: ShardId, channel: &str) {
        let Some(subscriptions) = self.subscriptions.get_mut(channel) else { return };
        subscriptions.retain(|one| one.shard != shard);
        if subscriptions.is_empty() {
            self.subscriptions.remove(channel);
        }
    }

    pub(super) fn answer(&mut self, shard: ShardId, ticket: Ticket, answer: Result<Answer, BrokerError>) {
        self.push(shard, Event::Answer { ticket, answer });
    }

    /// A publication for the subscribers of its channel. Without room in the shard's queue it is left out, and the shard reads
    /// it later.
    pub(super) fn deliver(
        &mut self,
        channel: &str,
        position: Option<Position>,
        record: impl FnOnce() -> PublicationRecord,
    ) {
        let Some(subscriptions) = self.subscriptions.get_mut(channel) else { return };
        subscriptions.retain(|one| !self.ports[one.shard.index()].has_ended());
        if subscriptions.is_empty() {
            self.subscriptions.remove(channel);
            return;
        }
        let record = record();
        for subscription in subscriptions {
            let port = &mut self.ports[subscription.shard.index()];
            if port.has_room() {
                port.push(Event::Publication { channel: channel.into(), record: record.clone(), position });
            } else if !std::mem::replace(&mut subscription.has_gap, true) {
                self.with_gaps.push((channel.into(), subscription.shard));
            }
        }
    }

    /// Tells the shards that have room again which channels have gaps, and posts what waits.
    pub(super) fn flush(&mut self) {
        let Self { ports, with_gaps, subscriptions, .. } = self;
        with_gaps.retain(|(channel, shard)| {
            let subscription =
                subscriptions.get_mut(channel).and_then(|all| all.iter_mut().find(|one| one.shard == *shard));
            let Some(subscription) = subscription.filter(|one| one.has_gap) else { return false };
            let port = &mut ports[subscription.shard.index()];
            if !port.has_room() {
                return true;
            }
            subscription.has_gap = false;
            port.push(Event::Subscribed { channel: channel.clone(), serial: subscription.serial });
            false
        });
        self.is_blocked = ports.iter_mut().fold(false, |blocked, port| blocked | !port.flush());
    }

    /// `flush` is to be called again after `RETRY`.
    pub(super) fn needs_flush(&self) -> bool {
        self.is_blocked || !self.with_gaps.is_empty()
    }

    fn push(&mut self, shard: ShardId, event: Event) {
        self.ports[shard.index()].push(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::*;

    #[test]
    fn shard_of_a_process_that_has_ended_gets_nothing_more() {
        let (has_ended, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let post = {
            let posted = Arc::clone(&posted);
            Arc::new(move |batch: crate::broker::port::EventBatch| {
                posted.fetch_add(batch.events.len(), Ordering::Relaxed);
                Ok(())
            })
        };
        let ended = Arc::clone(&has_ended);
        let port = EventPort::new(post, 1 << 20).until(Arc::new(move || ended.load(Ordering::Relaxed)));
        let mut shards = Shards::new(vec![port]);
        let record = || PublicationRecord::of_broker(1, Bytes::from_static(b"1"), None, Bytes::new(), 0);
        shards.subscribe(ShardId(0), "a".into(), SubscribeSerial(1));
        shards.deliver("a", None, record);
        shards.flush();
        assert_eq!(posted.load(Ordering::Relaxed), 2);
        has_ended.store(true, Ordering::Relaxed);
        shards.deliver("a", None, || panic!("no one gets it"));
        shards.flush();
        assert_eq!((posted.load(Ordering::Relaxed), shards.subscriptions.len()), (2, 0));
    }
}
