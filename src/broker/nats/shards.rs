//! The way back to the shards, with what happens if one has no room.

use std::time::Duration;

use super::subscriptions::Subscriptions;
use crate::broker::message::{Answer, BrokerError, Event, Ticket};
use crate::broker::port::EventPort;
use crate::ids::ShardId;

/// How soon a full mailbox is tried again.
const RETRY: Duration = Duration::from_millis(2);

pub(super) struct Shards {
    /// By `ShardId`.
    ports: Vec<EventPort>,
    /// A mailbox was full.
    is_blocked: bool,
    /// Sids of the subscriptions that have a gap.
    with_gaps: Vec<u64>,
}

impl Shards {
    pub(super) fn new(ports: Vec<EventPort>) -> Self {
        Self { ports, is_blocked: false, with_gaps: Vec::new() }
    }

    pub(super) fn push(&mut self, shard: ShardId, event: Event) {
        self.ports[shard.index()].push(event);
    }

    pub(super) fn answer(&mut self, shard: ShardId, ticket: Ticket, answer: Result<Answer, BrokerError>) {
        self.push(shard, Event::Answer { ticket, answer });
    }

    pub(super) fn has_room(&self, shard: ShardId) -> bool {
        self.ports[shard.index()].has_room()
    }

    /// A message of a channel did not fit.
    pub(super) fn add_gap(&mut self, sid: u64) {
        self.with_gaps.push(sid);
    }

    /// Tells the shards that have room again which channels have gaps, and posts what waits.
    pub(super) fn flush(&mut self, subscriptions: &mut Subscriptions) {
        if !self.with_gaps.is_empty() {
            self.report_gaps(subscriptions);
        }
        self.is_blocked = false;
        for port in &mut self.ports {
            self.is_blocked |= !port.flush();
        }
    }

    fn report_gaps(&mut self, subscriptions: &mut Subscriptions) {
        let Self { ports, with_gaps, .. } = self;
        with_gaps.retain(|&sid| {
            let Some(subscription) = subscriptions.get_mut(sid).filter(|subscription| subscription.has_gap) else {
                return false;
            };
            let port = &mut ports[subscription.shard.index()];
            if !port.has_room() {
                return true;
            }
            subscription.has_gap = false;
            port.push(Event::Subscribed { channel: subscription.channel.clone(), serial: subscription.serial });
            false
        });
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.ports.iter().map(EventPort::queued_bytes).sum()
    }

    /// Ends when `flush` is to be called again.
    pub(super) async fn wait_for_room(&self) {
        if self.is_blocked || !self.with_gaps.is_empty() {
            tokio::time::sleep(RETRY).await;
        } else {
            std::future::pending().await
        }
    }
}
