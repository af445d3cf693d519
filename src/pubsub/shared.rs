//! Channels that a broker orders: the home shard takes over its position, and keeps the last publications to send them again.

use super::channel::InterestedShard;
use super::history::{self, ChannelHistory, HistoryFilter, HistoryOptions, RecoveryRequest};
use super::home_channels::HomeChannels;
use super::position::{ChannelTop, Position};
use super::presence::PresenceEntry;
use super::publication::PublicationRecord;
use crate::ids::{GroupId, ShardId};

/// What a reader lacks, read from a broker.
pub(crate) struct BrokerRecovery {
    pub(crate) recovered: bool,
    pub(crate) records: Box<[PublicationRecord]>,
}

/// Judges what was read from a broker, oldest first and up to `top`, as the memory of a home shard is judged.
pub(crate) fn recover_read(
    records: &[PublicationRecord],
    top: Position,
    request: RecoveryRequest<'_>,
) -> BrokerRecovery {
    let history = ChannelHistory::of_records(records);
    let found = history::recover(Some(&history), top, request);
    BrokerRecovery { recovered: found.recovered, records: found.publications.cloned().collect() }
}

impl HomeChannels {
    /// The position of a channel that exists.
    pub(crate) fn top(&self, name: &str) -> Option<Position> {
        Some(self.channels[self.find(name)?.index()].top)
    }

    /// The broker's position of a channel to which no shard has got a delivery yet.
    pub(crate) fn begin_at(&mut self, name: &str, top: Position) -> Option<ChannelTop> {
        let key = self.find(name)?;
        let channel = &mut self.channels[key.index()];
        channel.top = top;
        Some(ChannelTop { position: top, seq: channel.seq })
    }

    /// Whether a shard gets the channel's deliveries for this group.
    pub(crate) fn is_interested(&self, name: &str, shard: ShardId, group: GroupId) -> bool {
        self.interested_shards(name).iter().any(|one| (one.shard, one.group) == (shard, group))
    }

    /// The end of a channel's deliveries.
    pub(crate) fn channel_top(&self, name: &str) -> Option<ChannelTop> {
        let channel = &self.channels[self.find(name)?.index()];
        Some(ChannelTop { position: channel.top, seq: channel.seq })
    }

    /// What was delivered is not continued: the channel goes on at another position. Returns the shards that have to learn of
    /// it, and the end of their deliveries.
    pub(crate) fn restart_at(&mut self, name: &str, top: Position) -> (Vec<InterestedShard>, ChannelTop) {
        let Some(key) = self.find(name) else { return (Vec::new(), ChannelTop::default()) };
        self.clear_history(key);
        let channel = &mut self.channels[key.index()];
        channel.top = top;
        channel.seq += 1;
        channel.shards.iter_mut().for_each(|shard| shard.lagging = false);
        let (shards, top) = (channel.shards.to_vec(), ChannelTop { position: top, seq: channel.seq });
        self.lagging.retain(|lagging| lagging.channel != key);
        (shards, top)
    }

    /// The kept publications after an offset up to the top; `None` if one of them is not kept.
    pub(crate) fn kept_after(&self, name: &str, offset: u64) -> Option<Vec<PublicationRecord>> {
        let channel = &self.channels[self.find(name)?.index()];
        let missed = channel.top.offset.checked_sub(offset)?;
        let Some(history) = channel.history.as_deref() else { return (missed == 0).then(Vec::new) };
        let records = history.records_after(offset);
        (records.len() as u64 == missed).then(|| records.cloned().collect())
    }

    /// Clients in the presences of all channels.
    pub(crate) fn members(&self) -> usize {
        self.members
    }

    /// Slots of channels, for `members_at`.
    pub(crate) fn channel_slots(&self) -> usize {
        self.channels.capacity()
    }

    /// The clients of up to `max` slots of the presence of the channel in this slot, and where the next slice of it begins.
    pub(crate) fn members_at(
        &self,
        slot: usize,
        from: u32,
        max: u32,
    ) -> (Option<(&str, impl Iterator<Item = &PresenceEntry>)>, Option<u32>) {
        let channel = self.channels.get(slot);
        let presence = channel.and_then(|channel| Some((&*channel.name, channel.presence.as_deref()?)));
        let Some((name, presence)) = presence else { return (None, None) };
        let (members, next) = presence.slice(from, max);
        (Some((name, members)), next)
    }

    /// The channel has no subscribers any more: what is kept of the broker's publications goes.
    pub(crate) fn forget(&mut self, name: &str, now: u64) {
        let Some(key) = self.find(name) else { return };
        self.clear_history(key);
        self.unlist_idle(key);
        self.channels[key.index()].history = None;
        self.channels[key.index()].top.offset = 0;
        self.keep_or_remove(key, now);
    }
}

impl HistoryOptions {
    /// What a home shard keeps of a broker's history.
    pub(crate) fn cached(self) -> Self {
        const RECORDS_MAX: u32 = 512;
        Self { size: self.size.min(RECORDS_MAX), ..self }
    }
}

impl HistoryFilter {
    /// Whether the position that a reader names is of the epoch of the top, or of any.
    pub(crate) fn is_of_epoch(&self, top: Position) -> bool {
        self.since.is_none_or(|since| since.is_of_epoch(top))
    }
}
