//! A channel's lifecycle: when it is created, what keeps it, what removes it.
//!
//! ```text
//! created ─► in use: has shards or members ◄──► idle: kept for its position ─► removed: expired or evicted
//!                └── no history to keep ────────────────────────────────────────┘
//! ```

use super::channel::{Channel, IDLE_BYTES};
use super::history::HistoryOptions;
use super::home_channels::HomeChannels;
use crate::ids::ChannelKey;

impl HomeChannels {
    /// Removes what has expired, in at most about `budget` steps: a history of n publications takes n + 1.
    pub(crate) fn expire(&mut self, now: u64, budget: &mut u32) {
        let due = |next: Option<(u64, ChannelKey)>| next.filter(|&(expiry, _)| expiry <= now).map(|(_, key)| key);
        while *budget > 0 {
            let mut steps = 1;
            if let Some(key) = due(self.idle.next_expiry(&self.channels)) {
                steps += self.remove(key);
            } else if let Some(key) = due(self.with_records.next_expiry(&self.channels)) {
                steps += self.clear_history(key);
            } else if self.idempotency_keys.next_expiry().is_some_and(|expiry| expiry <= now) {
                self.idempotency_keys.remove_oldest();
            } else {
                return;
            }
            *budget = budget.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
        }
    }

    /// When `expire` has something to do next.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let lists = [self.idle.next_expiry(&self.channels), self.with_records.next_expiry(&self.channels)];
        lists.into_iter().flatten().map(|(expiry, _)| expiry).chain(self.idempotency_keys.next_expiry()).min()
    }

    /// The caller gives a new channel a shard, a member or a history at once.
    pub(super) fn find_or_create(&mut self, name: &str) -> ChannelKey {
        if let Some(key) = self.find(name) {
            return key;
        }
        // 0 is the epoch of no channel.
        self.last_epoch = self.last_epoch.wrapping_add(1).max(1);
        let key = ChannelKey::new(self.channels.insert(Channel::new(name, self.last_epoch)));
        self.name_index.insert(name, key, |key| &self.channels[key.index()].name);
        key
    }

    /// A use of the history, which is created if the channel has no history yet.
    pub(super) fn touch_history(&mut self, key: ChannelKey, options: &HistoryOptions, now: u64) {
        let channel = &mut self.channels[key.index()];
        channel.history.get_or_insert_default().meta_ttl_ms = options.meta_ttl_ms;
        if channel.is_idle() {
            self.list_idle(key, now);
        }
    }

    /// Decides what happens to a channel after a shard came or went, or the last member went.
    pub(super) fn keep_or_remove(&mut self, key: ChannelKey, now: u64) {
        let channel = &self.channels[key.index()];
        match (channel.is_idle(), &channel.history) {
            (false, _) => self.unlist_idle(key),
            (true, Some(_)) => self.list_idle(key, now),
            (true, None) => _ = self.remove(key),
        }
    }

    fn list_idle(&mut self, key: ChannelKey, now: u64) {
        let channel = &self.channels[key.index()];
        let history = channel.history.as_ref().expect("an idle channel without a history is removed");
        if !channel.is_listed_idle() {
            self.memory.history += IDLE_BYTES + channel.name.len();
        }
        let span = if history.meta_ttl_ms == 0 { u64::MAX } else { history.meta_ttl_ms };
        self.idle.touch(&mut self.channels, key, span, now);
    }

    pub(super) fn unlist_idle(&mut self, key: ChannelKey) {
        let channel = &self.channels[key.index()];
        if channel.is_listed_idle() {
            self.memory.history -= IDLE_BYTES + channel.name.len();
            self.idle.remove(&mut self.channels, key);
        }
    }

    /// Drops the publications; returns how many.
    pub(super) fn clear_history(&mut self, key: ChannelKey) -> usize {
        let Some(history) = &mut self.channels[key.index()].history else { return 0 };
        let dropped = history.len();
        self.memory.history -= history.bytes();
        history.clear();
        self.with_records.remove(&mut self.channels, key);
        dropped
    }

    /// Removes an idle channel; returns how many publications went with it.
    fn remove(&mut self, key: ChannelKey) -> usize {
        debug_assert!(self.channels[key.index()].is_idle());
        let dropped = self.clear_history(key);
        self.unlist_idle(key);
        let channel = self.channels.remove(key.index());
        self.name_index.remove(&channel.name, key);
        dropped
    }

    /// Frees memory until `bytes_max` is kept. The least recently used goes first: a whole history, with the position if
    /// the channel is idle; or a position that is kept alone.
    pub(super) fn evict(&mut self) {
        while self.memory.history > self.bytes_max {
            let (stored, idle) =
                (self.with_records.least_recent(&self.channels), self.idle.least_recent(&self.channels));
            match (stored, idle) {
                (Some((published, key)), idle) if idle.is_none_or(|(used, _)| published <= used) => {
                    self.clear_history(key);
                    if self.channels[key.index()].is_idle() {
                        self.remove(key);
                    }
                }
                (_, Some((_, key))) => _ = self.remove(key),
                (_, None) => return,
            }
            self.evictions += 1;
        }
    }
}
