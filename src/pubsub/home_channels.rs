//! The channels of a home shard: their order, the shards with subscribers, their presence and their history.
//!
//! A channel lists shards in a wire format, not subscribers: a million subscribers on eight shards are eight entries. A
//! shard without room for a delivery is skipped, and gets the missed ones when it has room again (`resend`).
//!
//! Every delivery has a sequence number, by which a receiver notices a gap. A delivery that the history stores also has an
//! offset, which is what clients see.
//!
//! - here: subscribers, positions and reading
//! - `publish`: stamps a publication, delivers it and stores it
//! - `resend`: what lagging shards missed
//! - `lifecycle`: when a channel is created, kept and removed
//!
//! Invariants: sequence numbers of a channel grow by one; a shard of a channel is `lagging` exactly while it is in
//! `HomeChannels::lagging`; a channel has a history from its first stored publication on; a channel without shards, members
//! and history does not exist; one without shards and members is in `idle`; one with records is in `with_records`;
//! `history_bytes` is the sum of what records and idle channels cost, and `presence_bytes` that of members.

use std::collections::VecDeque;

use slab::Slab;

use super::channel::{Channel, InterestedShard, LaggingShard};
use super::epoch::Epoch;
use super::epochs::Epochs;
use super::history::{
    self, ChannelHistory, HistoryFilter, HistoryOptions, HistorySlice, Recovery, RecoveryRequest, Unrecoverable,
};
use super::idempotency::IdempotencyKeys;
use super::name_index::NameIndex;
use super::position::{ChannelTop, Position};
use super::presence::{Presence, PresenceEntry};
use super::retention::{ExpiryLists, ListKind};
use super::shares::NamespaceBytes;
use super::time::TimeRange;
use crate::ids::{ChannelKey, GroupId, ShardId, kind};

/// Approximate bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct MemoryUse {
    /// Records, and channels that are kept only for their position. `bytes_max` limits this.
    pub(crate) history: usize,
    pub(crate) presence: usize,
}

/// All channels whose home is this shard.
pub(crate) struct HomeChannels {
    pub(super) name_index: NameIndex<kind::Channel>,
    pub(super) channels: Slab<Channel>,
    pub(super) epochs: Epochs,
    /// Shards that were skipped. They are looked at when there is room.
    pub(super) lagging: VecDeque<LaggingShard>,
    pub(super) idempotency_keys: IdempotencyKeys,
    pub(super) with_records: ExpiryLists,
    pub(super) idle: ExpiryLists,
    pub(super) history_bytes: NamespaceBytes,
    pub(super) presence_bytes: usize,
    /// Clients in presences.
    pub(super) members: usize,
    pub(super) bytes_max: usize,
    pub(super) evictions: u64,
}

impl HomeChannels {
    #[cfg(test)]
    pub(crate) fn new(first_epoch: u32, bytes_max: usize) -> Self {
        Self::with_key(first_epoch, bytes_max, uuid::Uuid::new_v4().into_bytes())
    }

    /// Epochs are counted from `first_epoch`, which differs from that of earlier processes. Histories and idle channels may
    /// take `bytes_max`; past it the least recently used of a namespace are evicted, see `shares`. `key` is that of the
    /// placement, which the process that takes over has too.
    pub(crate) fn with_key(first_epoch: u32, bytes_max: usize, key: [u8; 16]) -> Self {
        Self {
            name_index: NameIndex::default(),
            channels: Slab::new(),
            epochs: Epochs::new(first_epoch, key),
            lagging: VecDeque::new(),
            idempotency_keys: IdempotencyKeys::new(key),
            with_records: ExpiryLists::new(ListKind::History),
            idle: ExpiryLists::new(ListKind::Idle),
            history_bytes: NamespaceBytes::default(),
            presence_bytes: 0,
            members: 0,
            bytes_max,
            evictions: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    pub(crate) fn memory(&self) -> MemoryUse {
        MemoryUse { history: self.history_bytes.total(), presence: self.presence_bytes }
    }

    /// Histories and positions that were dropped to stay within `bytes_max`.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The shards with subscribers for the channel.
    pub(crate) fn interested_shards(&self, name: &str) -> &[InterestedShard] {
        self.find(name).map_or(&[], |key| &self.channels[key.index()].shards)
    }

    pub(super) fn find(&self, name: &str) -> Option<ChannelKey> {
        self.name_index.find(name, |key| &self.channels[key.index()].name)
    }

    /// A shard gets the channel's deliveries from now on: those after the returned position.
    pub(crate) fn subscribe(
        &mut self,
        name: &str,
        shard: InterestedShard,
        options: &HistoryOptions,
        now: u64,
    ) -> ChannelTop {
        let key = self.find_or_create(name, options.has_history());
        self.channels[key.index()].shards.push(shard);
        self.keep_or_remove(key, now);
        if options.has_history() {
            self.touch_history(key, options, now);
        }
        let channel = &self.channels[key.index()];
        ChannelTop { position: channel.top, seq: channel.seq }
    }

    /// Ends what `subscribe` with the same shard and group began. Exactly one call follows each `subscribe`.
    pub(crate) fn unsubscribe(&mut self, name: &str, shard: ShardId, group: GroupId, now: u64) {
        let Some(key) = self.find(name) else { return };
        let shards = &mut self.channels[key.index()].shards;
        let Some(at) = shards.iter().position(|s| s.shard == shard && s.group == group) else { return };
        if shards.swap_remove(at).lagging {
            self.lagging.retain(|lagging| (lagging.shard, lagging.group) != (shard, group));
        }
        self.keep_or_remove(key, now);
    }

    /// The channel's position. If the channel has a history, this is a use of it.
    #[cfg(test)]
    pub(super) fn position(&mut self, name: &str, options: &HistoryOptions, now: u64) -> Position {
        self.find_used(name, options, now).1
    }

    /// Reads what a reader lacks. A use of the history.
    pub(crate) fn recover(
        &mut self,
        name: &str,
        request: RecoveryRequest<'_>,
        options: &HistoryOptions,
        now: u64,
    ) -> Recovery<'_> {
        let (history, top) = self.find_used(name, options, now);
        history::recover(history, top, request)
    }

    /// Reads a part of the history. A use of the history.
    pub(crate) fn history(
        &mut self,
        name: &str,
        filter: HistoryFilter,
        options: &HistoryOptions,
        now: u64,
    ) -> Result<HistorySlice<'_>, Unrecoverable> {
        self.history_within(name, filter, TimeRange::ALL, options, now)
    }

    /// The same for publications of a time.
    pub(crate) fn history_within(
        &mut self,
        name: &str,
        filter: HistoryFilter,
        range: TimeRange,
        options: &HistoryOptions,
        now: u64,
    ) -> Result<HistorySlice<'_>, Unrecoverable> {
        let (history, top) = self.find_used(name, options, now);
        history::read(history, top, filter, range)
    }

    /// Drops the publications and keeps the position.
    pub(crate) fn history_remove(&mut self, name: &str) {
        if let Some(key) = self.find(name) {
            self.clear_history(key);
        }
    }

    /// The history and the position for a reader. A channel that does not exist is not created: if its namespace has
    /// histories, it is at the beginning of the epoch that its first publication will have.
    fn find_used(&mut self, name: &str, options: &HistoryOptions, now: u64) -> (Option<&ChannelHistory>, Position) {
        let Some(key) = self.find(name) else {
            let epoch = if options.has_history() { self.epochs.of(name) } else { Epoch::default() };
            return (None, Position { epoch, offset: 0 });
        };
        if options.has_history() {
            self.touch_history(key, options, now);
        }
        let channel = &self.channels[key.index()];
        (channel.history.as_deref(), channel.top)
    }

    /// Adds a client to the presence. Returns true if it is new; the entry of a known client is replaced.
    pub(crate) fn presence_add(&mut self, name: &str, client: [u8; 16], user: &str, client_info: &[u8]) -> bool {
        let key = self.find_or_create(name, true);
        let presence = self.channels[key.index()].presence.get_or_insert_default();
        let bytes = presence.bytes();
        let new = presence.add(client, user, client_info);
        self.members += usize::from(new);
        self.presence_bytes = self.presence_bytes + presence.bytes() - bytes;
        self.unlist_idle(key);
        new
    }

    /// Removes a client from the presence. Returns its client info, or `None` if it was not there.
    pub(crate) fn presence_remove(&mut self, name: &str, client: [u8; 16], now: u64) -> Option<Box<[u8]>> {
        let key = self.find(name)?;
        let entry = &mut self.channels[key.index()].presence;
        let presence = entry.as_mut()?;
        let bytes = presence.bytes();
        let client_info = presence.remove(client)?;
        self.presence_bytes -= bytes - presence.bytes();
        self.members -= 1;
        if presence.is_empty() {
            *entry = None;
            self.keep_or_remove(key, now);
        }
        Some(client_info)
    }

    /// The number of clients in the channel, and of distinct users.
    pub(crate) fn presence_stats(&self, name: &str) -> (u32, u32) {
        self.presence(name).map_or((0, 0), |presence| (presence.clients(), presence.users()))
    }

    /// What the entries of the channel's presence take, and their number.
    pub(crate) fn presence_size(&self, name: &str) -> (usize, u32) {
        self.presence(name).map_or((0, 0), |presence| (presence.bytes(), presence.clients()))
    }

    /// The entries of up to `max` slots from slot `from` on, and where the next slice begins: `None` after the last slice. A
    /// client that stays in the channel from the first slice to the last is in exactly one of them.
    pub(crate) fn presence_slice(
        &self,
        name: &str,
        from: u32,
        max: u32,
    ) -> (impl Iterator<Item = &PresenceEntry>, Option<u32>) {
        let slice = self.presence(name).map(|presence| presence.slice(from, max));
        let (entries, next) = slice.map_or((None, None), |(entries, next)| (Some(entries), next));
        (entries.into_iter().flatten(), next)
    }

    fn presence(&self, name: &str) -> Option<&Presence> {
        self.channels[self.find(name)?.index()].presence.as_deref()
    }
}
