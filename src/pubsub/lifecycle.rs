//! A channel's life: when it begins, what keeps it, what ends it.
//!
//! ```text
//! open ─► somebody is in it ◄──► idle: kept for its position ─► forgotten: had its time, or made room
//!              └── nothing to keep ────────────────────────────────┘
//! ```

use smallvec::SmallVec;

use super::history::Stream;
use super::home_channels::{Channel, HomeChannels};
use super::retention::Kind;
use super::{Position, StreamOptions};

/// What an idle channel takes beside its name: itself, its stream, its entry in the table of names.
pub(crate) const IDLE_BYTES: usize = size_of::<Channel>() + size_of::<Stream>() + 32;

impl HomeChannels {
    /// Drops what has had its time, `budget` steps of it at most: a history of n publications takes n + 1.
    pub fn expire(&mut self, now: u64, budget: &mut u32) {
        let due = |next: Option<(u64, u32)>| next.filter(|&(due, _)| due <= now).map(|(_, key)| key);
        while *budget > 0 {
            let mut steps = 1;
            if let Some(key) = due(self.idle.next_due(&self.channels)) {
                steps += self.forget(key);
            } else if let Some(key) = due(self.histories.next_due(&self.channels)) {
                steps += self.drop_history(key);
            } else if self.once.next_due().is_some_and(|due| due <= now) {
                self.once.forget_oldest();
            } else {
                return;
            }
            *budget = budget.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
        }
    }

    /// When there is next something to expire.
    pub fn next_expiry(&self) -> Option<u64> {
        let lanes = [self.idle.next_due(&self.channels), self.histories.next_due(&self.channels)];
        lanes.into_iter().flatten().map(|(due, _)| due).chain(self.once.next_due()).min()
    }

    /// The channel, which is given an interest, a member or a stream next.
    pub(crate) fn open(&mut self, name: &str) -> u32 {
        if let Some(key) = self.key(name) {
            return key;
        }
        // 0 is the epoch of no channel.
        self.epochs = self.epochs.wrapping_add(1).max(1);
        let top = Position { epoch: self.epochs, offset: 0 };
        let interests = SmallVec::new();
        let channel = Channel { name: name.into(), top, seq: 0, interests, stream: None, presence: None };
        let key = self.channels.insert(channel) as u32;
        self.names.insert(name, key, |key| &self.channels[key as usize].name);
        key
    }

    /// The stream is used: it lives on from now, and begins where there was none.
    pub(crate) fn touch(&mut self, key: u32, options: &StreamOptions, now: u64) {
        let channel = &mut self.channels[key as usize];
        channel.stream.get_or_insert_default().meta_ttl = options.meta_ttl;
        if channel.is_idle() {
            self.enter_idle(key, now);
        }
    }

    /// After an interest or the last member came or went: whether the channel is kept, and as what.
    pub(crate) fn settle(&mut self, key: u32, now: u64) {
        let channel = &self.channels[key as usize];
        match (channel.is_idle(), &channel.stream) {
            (false, _) => self.leave_idle(key),
            (true, Some(_)) => self.enter_idle(key, now),
            (true, None) => _ = self.forget(key),
        }
    }

    fn enter_idle(&mut self, key: u32, now: u64) {
        let channel = &self.channels[key as usize];
        let stream = channel.stream.as_ref().expect("without a stream nothing is kept");
        if !stream.places[Kind::Idle as usize].is_taken() {
            self.memory.history += IDLE_BYTES + channel.name.len();
        }
        let span = if stream.meta_ttl == 0 { u64::MAX } else { stream.meta_ttl };
        self.idle.touch(&mut self.channels, key, span, now);
    }

    pub(crate) fn leave_idle(&mut self, key: u32) {
        let channel = &self.channels[key as usize];
        if channel.stream.as_ref().is_some_and(|stream| stream.places[Kind::Idle as usize].is_taken()) {
            self.memory.history -= IDLE_BYTES + channel.name.len();
            self.idle.leave(&mut self.channels, key);
        }
    }

    /// Drops the publications; returns how many.
    pub(crate) fn drop_history(&mut self, key: u32) -> usize {
        let Some(stream) = &mut self.channels[key as usize].stream else { return 0 };
        let dropped = stream.len();
        self.memory.history -= stream.bytes();
        stream.clear();
        self.histories.leave(&mut self.channels, key);
        dropped
    }

    /// Ends the channel, in which nobody is; returns how many publications went with it.
    fn forget(&mut self, key: u32) -> usize {
        debug_assert!(self.channels[key as usize].is_idle());
        let dropped = self.drop_history(key);
        self.leave_idle(key);
        let channel = self.channels.remove(key as usize);
        self.names.replace(&channel.name, key, None);
        dropped
    }

    /// Makes room. What was used least recently goes first: a whole history, and with it the position where nobody is in the
    /// channel; or a position that is kept alone.
    pub(crate) fn shed(&mut self) {
        while self.memory.history > self.bytes_max {
            let (history, idle) = (self.histories.oldest(&self.channels), self.idle.oldest(&self.channels));
            match (history, idle) {
                (Some((published, key)), idle) if idle.is_none_or(|(used, _)| published <= used) => {
                    self.drop_history(key);
                    if self.channels[key as usize].is_idle() {
                        self.forget(key);
                    }
                }
                (_, Some((_, key))) => _ = self.forget(key),
                (_, None) => return,
            }
            self.evictions += 1;
        }
    }
}
