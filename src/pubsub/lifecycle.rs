//! A channel's lifecycle: when it is created, what keeps it, what removes it.
//!
//! ```text
//! created ─► in use: has shards or members ◄──► idle: kept for its position ─► removed: expired or evicted
//!                └── never published to, or no history to keep ────────────────┘
//! ```
//!
//! A channel that was never published to has nothing to keep: its position follows from its name (`epochs`). So channels
//! that clients merely name cost nothing once they leave, and evict nothing.

use super::channel::Channel;
use super::history::HistoryOptions;
use super::home_channels::HomeChannels;
use super::retention::ListClass;
use super::shares::NamespaceNumber;
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

    /// The caller gives a new channel a shard, a member or a history at once. Without histories, each life of a channel is
    /// an epoch of its own.
    pub(super) fn find_or_create(&mut self, name: &str, has_history: bool) -> ChannelKey {
        if let Some(key) = self.find(name) {
            return key;
        }
        let epoch = if has_history { self.epochs.of(name) } else { self.epochs.next() };
        let key = ChannelKey::new(self.channels.insert(Channel::new(name, epoch)));
        self.name_index.insert(name, key, |key| &self.channels[key.index()].name);
        key
    }

    /// A use of the history, if the channel has one.
    pub(super) fn touch_history(&mut self, key: ChannelKey, options: &HistoryOptions, now: u64) {
        let channel = &mut self.channels[key.index()];
        let Some(history) = &mut channel.history else { return };
        history.meta_ttl_ms = options.meta_ttl_ms;
        if channel.is_idle() {
            self.list_idle(key, now);
        }
    }

    /// A use of the history by a publication, which creates it. Its bytes count to the namespace of the options.
    pub(super) fn open_history(&mut self, key: ChannelKey, options: &HistoryOptions, now: u64) {
        let history = self.channels[key.index()].history.get_or_insert_default();
        let before = std::mem::replace(&mut history.namespace, options.namespace);
        if before != options.namespace {
            let bytes = self.channels[key.index()].kept_bytes();
            self.history_bytes.remove(before, bytes);
            self.history_bytes.add(options.namespace, bytes);
        }
        self.touch_history(key, options, now);
    }

    /// Decides what happens to a channel after a shard came or went, or the last member went.
    pub(super) fn keep_or_remove(&mut self, key: ChannelKey, now: u64) {
        let channel = &self.channels[key.index()];
        match (channel.is_idle(), &channel.history) {
            (false, _) => self.unlist_idle(key),
            (true, Some(history)) => {
                let namespace = history.namespace;
                self.list_idle(key, now);
                self.evict(namespace);
            }
            (true, None) => _ = self.remove(key),
        }
    }

    pub(super) fn list_idle(&mut self, key: ChannelKey, now: u64) {
        let channel = &self.channels[key.index()];
        let history = channel.history.as_ref().expect("an idle channel without a history is removed");
        let (namespace, meta_ttl_ms) = (history.namespace, history.meta_ttl_ms);
        if !channel.is_listed_idle() {
            self.history_bytes.add(namespace, channel.idle_bytes());
        }
        let span = if meta_ttl_ms == 0 { u64::MAX } else { meta_ttl_ms };
        self.idle.touch(&mut self.channels, key, ListClass { namespace, span }, now);
    }

    pub(super) fn unlist_idle(&mut self, key: ChannelKey) {
        let channel = &self.channels[key.index()];
        if channel.is_listed_idle() {
            self.history_bytes.remove(channel.namespace(), channel.idle_bytes());
            self.idle.remove(&mut self.channels, key);
        }
    }

    /// Drops the publications; returns how many.
    pub(super) fn clear_history(&mut self, key: ChannelKey) -> usize {
        let Some(history) = &mut self.channels[key.index()].history else { return 0 };
        let dropped = history.len();
        self.history_bytes.remove(history.namespace, history.bytes());
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
        if channel.top.offset > 0 {
            self.epochs.end(&channel.name);
        }
        dropped
    }

    /// Frees memory until `bytes_max` is kept, after a namespace has grown. `shares` says which namespace gives way; of that,
    /// the least recently used goes first: a whole history, with the position if the channel is idle; or a position that is
    /// kept alone.
    pub(super) fn evict(&mut self, growing: NamespaceNumber) {
        while self.history_bytes.total() > self.bytes_max {
            let namespace = self.history_bytes.gives_way(growing, self.bytes_max);
            let stored = self.with_records.least_recent(&self.channels, namespace);
            let idle = self.idle.least_recent(&self.channels, namespace);
            match (stored, idle) {
                (Some((published, key)), idle) if idle.is_none_or(|(used, _)| published <= used) => {
                    self.clear_history(key);
                    if self.channels[key.index()].is_idle() {
                        self.remove(key);
                    }
                }
                (_, Some((_, key))) => _ = self.remove(key),
                (_, None) => {
                    debug_assert!(false, "the bytes of a namespace are those of its records and idle channels");
                    return;
                }
            }
            self.evictions += 1;
        }
    }
}
