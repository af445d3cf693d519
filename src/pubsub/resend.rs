//! Shards that did not keep up: home remembers where each stopped, and when there is room sends what history still has, and
//! says what it has not. What is published meanwhile extends the range, so the order holds.

use super::history::Record;
use super::home_channels::{HomeChannels, InterestedShard};
use crate::ids::{GroupId, ShardId};

/// Where a skipped interest stopped. What it misses ends at the channel's last delivery.
pub(crate) struct Lag {
    pub key: u32,
    pub shard: ShardId,
    pub feed: GroupId,
    /// The first delivery that was not queued for it.
    pub next: u64,
    /// The last offset before that.
    pub offset: u64,
}

/// One step of bringing a lagging shard up to date.
pub enum Repair<'a> {
    /// Send this publication, whole: the one before may not have arrived.
    Send { channel: &'a str, interest: InterestedShard, seq: u64, epoch: u32, record: &'a Record },
    /// The deliveries `first..=last` are gone. `stamped` of them had offsets, which now stand at `offset`.
    Lost { channel: &'a str, interest: InterestedShard, first: u64, last: u64, stamped: u64, offset: u64 },
}

impl HomeChannels {
    pub fn is_lagging(&self) -> bool {
        !self.lagging.is_empty()
    }

    /// Whether this feed was skipped and is not repaired yet.
    pub fn lags(&self, name: &str, shard: ShardId, feed: GroupId) -> bool {
        self.lagging
            .iter()
            .any(|lag| (lag.shard, lag.feed) == (shard, feed) && *self.channels[lag.key as usize].name == *name)
    }

    /// Brings skipped shards up to date, as far as there is room (`each` says false where there is none): each gets what it
    /// missed, in order, and is told what is lost at the place where it was.
    pub fn repair(&mut self, mut each: impl FnMut(Repair<'_>) -> bool) {
        for _ in 0..self.lagging.len() {
            let Some(mut lag) = self.lagging.pop_front() else { return };
            let channel = &mut self.channels[lag.key as usize];
            let found = channel.interests.iter_mut().find(|i| i.shard == lag.shard && i.feed == lag.feed);
            let interest = found.expect("an interest that ends leaves the list");
            let (name, top, end) = (&*channel.name, channel.top, channel.seq);
            let kept = channel.stream.as_ref().map(|stream| stream.records_at(lag.next));
            let mut records = kept.unwrap_or_default().peekable();
            while lag.next <= end {
                let record = records.peek().copied();
                let (last, offset) = record.map_or((end, top.offset), |record| (record.seq - 1, record.offset - 1));
                if lag.next <= last {
                    let (first, stamped) = (lag.next, offset - lag.offset);
                    if !each(Repair::Lost { channel: name, interest: *interest, first, last, stamped, offset }) {
                        break;
                    }
                    (lag.next, lag.offset) = (last + 1, offset);
                    continue;
                }
                let Some(record) = records.next() else { break };
                let (seq, epoch) = (record.seq, top.epoch);
                if !each(Repair::Send { channel: name, interest: *interest, seq, epoch, record }) {
                    break;
                }
                (lag.next, lag.offset) = (record.seq + 1, record.offset);
            }
            interest.lagging = lag.next <= end;
            if interest.lagging {
                self.lagging.push_back(lag);
            }
        }
    }
}
