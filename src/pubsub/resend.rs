//! Resending to shards that were skipped. The home shard keeps the position of each; when there is room it sends what
//! the history still has and reports the rest as lost. Publications made in the meantime extend the range, so the order
//! is preserved.

use super::channel::InterestedShard;
use super::home_channels::HomeChannels;
use super::position::{DeliveryPosition, LostDeliveries};
use super::publication::Delivery;
use crate::ids::{GroupId, ShardId};

/// One step of bringing a lagging shard up to date.
pub(crate) enum ResendStep<'a> {
    /// Send this publication, without a delta: the one before may not have arrived.
    Publication { to: InterestedShard, delivery: Delivery<'a> },
    /// The history does not have these deliveries any more.
    Lost { to: InterestedShard, lost: LostDeliveries },
}

impl HomeChannels {
    pub(crate) fn has_lagging_shards(&self) -> bool {
        !self.lagging.is_empty()
    }

    /// True if deliveries for this group were skipped and not yet resent.
    pub(crate) fn is_lagging(&self, name: &str, shard: ShardId, group: GroupId) -> bool {
        self.lagging.iter().any(|lagging| {
            (lagging.shard, lagging.group) == (shard, group) && *self.channels[lagging.channel.index()].name == *name
        })
    }

    /// Brings lagging shards up to date: each gets what it missed in order, and losses at the place where they were. `each`
    /// returns false if there is no room for the step.
    pub(crate) fn resend(&mut self, mut each: impl FnMut(ResendStep<'_>) -> bool) {
        for _ in 0..self.lagging.len() {
            let Some(mut lagging) = self.lagging.pop_front() else { return };
            let channel = &mut self.channels[lagging.channel.index()];
            let found = channel.shards.iter_mut().find(|s| s.shard == lagging.shard && s.group == lagging.group);
            let to = found.expect("unsubscribe removes a shard from both lists");
            let (name, top, end) = (&*channel.name, channel.top, channel.seq);
            let kept = channel.history.as_ref().map(|history| history.records_from(lagging.next_seq));
            let mut records = kept.unwrap_or_default().peekable();
            while lagging.next_seq <= end {
                let record = records.peek().copied();
                let (last_seq, offset) = record.map_or((end, top.offset), |record| (record.seq - 1, record.offset - 1));
                if lagging.next_seq <= last_seq {
                    let (first_seq, with_offset) = (lagging.next_seq, offset - lagging.offset);
                    let lost = LostDeliveries { first_seq, last_seq, with_offset, offset };
                    if !each(ResendStep::Lost { to: *to, lost }) {
                        break;
                    }
                    (lagging.next_seq, lagging.offset) = (last_seq + 1, offset);
                    continue;
                }
                let Some(record) = records.next() else { break };
                let publication = record.publication(name);
                let at = DeliveryPosition { seq: record.seq, offset: record.offset };
                let delivery = Delivery { publication: &publication, at, epoch: top.epoch, previous: None };
                if !each(ResendStep::Publication { to: *to, delivery }) {
                    break;
                }
                (lagging.next_seq, lagging.offset) = (record.seq + 1, record.offset);
            }
            to.lagging = lagging.next_seq <= end;
            if to.lagging {
                self.lagging.push_back(lagging);
            }
        }
    }
}
