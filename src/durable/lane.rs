//! A lane: the log of the channels of one directory, written by one thread.
//!
//! - here: publishing, positions, and which files a read needs
//! - `commit`: writes and syncs what was staged, and what happens if that fails
//! - `open`: the start
//! - `retention`: sealing, removal of what expired, checkpoints, the end
//!
//! Invariants: what is staged changes the meta of its channel at once, and `Stage::before` has what it was; a channel is staged
//! in one class at a time; offsets of a channel's publications in the segments have no gaps, from its `first` on.

use std::collections::VecDeque;
use std::sync::Arc;

use super::class_log::{ClassLog, Hidden, Item, Maintenance, Stage};
use super::files::Files;
use super::format::{IS_STRICT, Kind, PublicationBody, RecordHead, push_record};
use super::keys::{Keys, hash_key};
use super::meta::{ChannelMeta, Channels, epoch_text};
use super::read::{Part, ReadPlan};
use super::sealed::{IndexTask, Sealed};
use super::segment::{CLASSES, HEADER, class_of, segment_bytes};
use super::state::State;
use super::types::{Durability, LaneHealth, LaneOptions, LaneStats, NewPublication, RefuseReason, Staged};
use crate::pubsub::{HistoryFilter, HistoryOptions, Position, TimeRange};

/// The class of idempotency keys that no publication with a position has.
const KEY_CLASS: usize = 1;
/// What the head of a batch and the name of a channel take at most, next to a record.
const OVERHEAD: usize = 2048;

/// All calls come from one thread; times are milliseconds since 1970. After an error of `commit`, publications of other retention
/// classes than the one that failed may have been written: they are in the histories. The others were not made.
pub struct Lane<F: Files> {
    pub(super) files: Arc<F>,
    pub(super) _lock: F::Lock,
    pub(super) options: LaneOptions,
    pub(super) state: State,
    pub(super) channels: Channels,
    pub(super) keys: Keys,
    /// By class.
    pub(super) classes: Vec<ClassLog<F>>,
    /// The latest time that the lane has seen: it never goes back.
    pub(super) time: u64,
    /// Of the last batch.
    pub(super) serial: u64,
    /// What is written must be synced before what is staged is written.
    pub(super) sync_before: bool,
    /// `commit` has to sync what it writes.
    pub(super) sync_after: bool,
    pub(super) failed: Option<String>,
    pub(super) is_full: bool,
    pub(super) quarantined: usize,
    pub(super) stats: LaneStats,
    pub(super) maintenance: Maintenance<F>,
    /// Was evicted while a segment was made: records that say so are not staged yet.
    pub(super) hidden: Vec<Hidden>,
    /// Sealed segments whose index may not be written yet.
    pub(super) unwritten: VecDeque<Arc<Sealed<F>>>,
}

impl<F: Files> Lane<F> {
    /// Takes a publication, which `commit` writes. If its durability is `Strict`, it is kept after `sync`.
    pub fn publish(
        &mut self,
        channel: &str,
        publication: &NewPublication<'_>,
        now: u64,
    ) -> Result<Staged, RefuseReason> {
        let now = self.tick(now);
        if self.failed.is_some() {
            return Err(RefuseReason::Failed);
        }
        let key = publication.idempotency_key;
        let key = (!key.is_empty()).then(|| hash_key(&self.state.log, channel, key));
        if let Some(position) = key.and_then(|key| self.keys.find(key, now)) {
            return Ok(Staged { position, time: now, is_suppressed: true });
        }
        if self.is_full {
            return Err(RefuseReason::DiskFull);
        }
        if !publication.history.has_history() {
            if let Some(key) = key {
                self.stage_key(key, now);
            }
            return Ok(Staged { position: None, time: now, is_suppressed: false });
        }
        let class = class_of(publication.history.ttl_ms);
        let room = segment_bytes(class, self.options.segment_bytes) - u64::from(HEADER);
        let body = PublicationBody {
            key,
            version: publication.version,
            version_epoch: publication.version_epoch,
            user: publication.user,
            tag: publication.tag,
            client_info: publication.client_info,
            tags: publication.tags,
            data: publication.data,
        };
        if (body.bytes() + channel.len() + OVERHEAD) as u64 > room {
            return Err(RefuseReason::TooLarge);
        }
        Ok(self.stage_publication(channel, publication, &body, now))
    }

    fn stage_publication(
        &mut self,
        channel: &str,
        publication: &NewPublication<'_>,
        body: &PublicationBody<'_>,
        now: u64,
    ) -> Staged {
        let (slot, is_new) = self.find_or_create(channel, now);
        let (history, is_strict) = (&publication.history, publication.durability == Durability::Strict);
        if self.channels.get(slot).is_stale(publication.version, publication.version_epoch) {
            self.touch(slot, now);
            let position = Some(self.channels.get(slot).position());
            return Staged { position, time: now, is_suppressed: true };
        }
        let class = self.class_for(slot, class_of(history.ttl_ms));
        self.keep_before(slot, class, is_new);
        let meta = self.channels.get_mut(slot);
        let options = (history.size, history.ttl_ms, history.meta_ttl_ms, class as u8, is_strict);
        let with_meta =
            options != (meta.history_size, meta.history_ttl_ms, meta.meta_ttl_ms, meta.class, meta.is_strict);
        // What the disk says of a strict channel must not be that it is one while it has unsynced publications.
        self.sync_after |= meta.is_strict && !is_strict && meta.top > 0;
        let offset = meta.top + 1;
        if meta.last_time.saturating_add(meta.history_ttl_ms) <= now {
            meta.first = offset;
        }
        meta.last_time = now;
        (meta.history_size, meta.history_ttl_ms, meta.meta_ttl_ms, meta.class, meta.is_strict) = options;
        meta.published(offset, now);
        meta.set_version(publication.version, publication.version_epoch);
        let (position, text) = (meta.position(), epoch_text(meta.epoch, meta.generation));
        let flags = body.flags() | if is_strict { IS_STRICT } else { 0 };
        let head = RecordHead { kind: Kind::Publication, flags, channel: 0, offset, time: now };
        self.stage(class, Some(slot), with_meta, &head, |out| body.put(out));
        if let Some(key) = body.key {
            self.keys.insert(key, now, Some((text, offset)));
            self.classes[class].stage.keys.push(key);
        }
        Staged { position: Some(position), time: now, is_suppressed: false }
    }

    /// The class in which the channel's next record goes. A channel that changes its class leaves what it has in the files of
    /// the other one, which must not be lost when what follows is kept.
    fn class_for(&mut self, slot: u32, class: u8) -> usize {
        let meta = self.channels.get(slot);
        let before = usize::from(meta.class);
        if meta.top == 0 || meta.class == class {
            return usize::from(class);
        }
        if self.classes[before].stage.before.contains_key(&slot) {
            return before;
        }
        self.sync_before = true;
        usize::from(class)
    }

    fn keep_before(&mut self, slot: u32, class: usize, is_new: bool) {
        let meta = self.channels.get(slot);
        self.classes[class].stage.before.entry(slot).or_insert_with(|| (!is_new).then(|| meta.clone()));
    }

    pub(super) fn stage(
        &mut self,
        class: usize,
        slot: Option<u32>,
        with_meta: bool,
        head: &RecordHead,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut record = Vec::new();
        push_record(&mut record, head, body);
        let epoch = slot.map_or([0; 6], |slot| self.channels.get(slot).epoch);
        self.classes[class].stage.items.push(Item { slot, with_meta, record, epoch });
    }

    fn stage_key(&mut self, key: u128, now: u64) {
        let head = RecordHead { kind: Kind::Key, flags: 0, channel: u32::MAX, offset: 0, time: now };
        self.stage(KEY_CLASS, None, false, &head, |out| out.extend_from_slice(&key.to_le_bytes()));
        self.keys.insert(key, now, None);
        self.classes[KEY_CLASS].stage.keys.push(key);
    }

    /// A publication that is not made lets the history live on.
    fn touch(&mut self, slot: u32, now: u64) {
        let meta = self.channels.get(slot);
        let (first, top) = meta.visible(now);
        let class = usize::from(meta.class);
        if first > top || meta.last_time == now {
            return;
        }
        self.keep_before(slot, class, false);
        let meta = self.channels.get_mut(slot);
        (meta.last_time, meta.last_use) = (now, now);
        let head = RecordHead { kind: Kind::Touch, flags: 0, channel: 0, offset: top, time: now };
        self.stage(class, Some(slot), false, &head, |_| {});
    }

    /// Drops the publications and keeps the position. Kept after `commit` and `sync` as a publication is.
    pub fn remove_history(&mut self, channel: &str, now: u64) -> Result<(), RefuseReason> {
        let now = self.tick(now);
        if self.failed.is_some() {
            return Err(RefuseReason::Failed);
        }
        let Some(slot) = self.find_living(channel, now) else { return Ok(()) };
        let meta = self.channels.get(slot);
        if meta.first <= meta.top {
            self.stage_truncation(slot, meta.top);
        }
        Ok(())
    }

    /// The channel has nothing up to this offset any more.
    pub(super) fn stage_truncation(&mut self, slot: u32, last: u64) {
        let class = usize::from(self.channels.get(slot).class);
        self.keep_before(slot, class, false);
        let meta = self.channels.get_mut(slot);
        meta.first = meta.first.max(last + 1);
        let head = RecordHead { kind: Kind::Truncate, flags: 0, channel: 0, offset: last, time: self.time };
        self.stage(class, Some(slot), false, &head, |_| {});
    }

    /// The position of a channel, and a use of it. Called when nothing is staged.
    pub fn position(&mut self, channel: &str, options: &HistoryOptions, now: u64) -> Position {
        let now = self.tick(now);
        match self.find_living(channel, now) {
            Some(slot) => {
                self.use_channel(slot, options, now);
                self.channels.get(slot).position()
            }
            None if options.has_history() => ChannelMeta::new("", self.state.epoch_of(channel), now).position(),
            None => Position::default(),
        }
    }

    /// Finds the files that hold a part of the history, without reading them. Called when nothing is staged, and nothing `Strict`
    /// is unsynced.
    pub fn plan_read(
        &mut self,
        channel: &str,
        filter: HistoryFilter,
        range: TimeRange,
        options: &HistoryOptions,
        now: u64,
    ) -> ReadPlan<F> {
        let top = self.position(channel, options, now);
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let reverse = filter.reverse;
        let mut plan = ReadPlan {
            files: Arc::clone(&self.files),
            name: channel.into(),
            epoch: [0; 6],
            top,
            since_is_kept: true,
            offsets: (1, 0),
            reverse,
            range,
            limit,
            parts: Vec::new(),
        };
        let Some(slot) = self.channels.find(channel) else {
            plan.since_is_kept = filter.is_of_epoch(top);
            return plan;
        };
        let meta = self.channels.get(slot);
        plan.epoch = meta.epoch;
        plan.since_is_kept = filter.since.is_none_or(|since| meta.keeps(since));
        if plan.since_is_kept && limit > 0 && !range.is_empty() {
            plan.offsets = offsets(meta.visible(self.time), filter, range.is_all().then_some(limit as u64));
        }
        let (from, to) = plan.offsets;
        if from > to {
            return plan;
        }
        for (number, class) in self.classes.iter().enumerate() {
            let first = plan.parts.len();
            if let Some(active) = &class.active {
                let found = active.index.find(slot, from, to);
                if !found.is_empty() {
                    plan.parts.push(Part::Active(Arc::clone(&active.segment.file), found));
                }
            }
            plan.parts.extend(class.sealed.iter().rev().map(|sealed| Part::Sealed(Arc::clone(sealed))));
            // The class in which the channel is now is the most likely one.
            if number == usize::from(meta.class) {
                plan.parts.rotate_left(first);
            }
        }
        plan
    }

    /// The index of a segment that was sealed, to be written by any thread. Without it, the first read that needs it or `close`
    /// writes it.
    pub fn take_index_task(&mut self) -> Option<IndexTask<F>> {
        let sealed = self.unwritten.pop_front()?;
        Some(IndexTask { files: Arc::clone(&self.files), sealed })
    }

    pub(super) fn tick(&mut self, now: u64) -> u64 {
        self.time = self.time.max(now);
        self.time
    }

    fn use_channel(&mut self, slot: u32, options: &HistoryOptions, now: u64) {
        if options.has_history() {
            let meta = self.channels.get_mut(slot);
            meta.last_use = now;
        }
    }

    /// The channel, unless its position has expired: then it is forgotten.
    fn find_living(&mut self, name: &str, now: u64) -> Option<u32> {
        let slot = self.channels.find(name)?;
        if self.channels.get(slot).is_forgotten(now) && !self.is_staged(slot) {
            self.forget(slot);
            return None;
        }
        Some(slot)
    }

    fn find_or_create(&mut self, name: &str, now: u64) -> (u32, bool) {
        if let Some(slot) = self.find_living(name, now) {
            return (slot, false);
        }
        let meta = ChannelMeta::new(name, self.state.epoch_of(name), now);
        (self.channels.insert(meta), true)
    }

    pub(super) fn is_staged(&self, slot: u32) -> bool {
        self.classes.iter().any(|class| class.stage.before.contains_key(&slot))
    }

    /// Removes a channel that is not staged. The record says so before anything of its next life is written.
    pub(super) fn forget(&mut self, slot: u32) {
        let meta = self.channels.get(slot);
        if meta.top > 0 {
            let (name, class, epoch, top) = (meta.name.clone(), usize::from(meta.class), meta.epoch, meta.top);
            let life = self.state.end_life(&name);
            let head = RecordHead { kind: Kind::Forget, flags: 0, channel: u32::MAX, offset: top, time: self.time };
            self.stage(class, None, false, &head, |out| {
                out.extend_from_slice(&life.to_le_bytes());
                out.extend_from_slice(&epoch);
                out.extend_from_slice(name.as_bytes());
            });
        }
        self.drop_channel(slot);
    }

    pub(super) fn drop_channel(&mut self, slot: u32) {
        self.channels.remove(slot);
        for class in &mut self.classes {
            class.active.iter_mut().for_each(|active| active.index.forget(slot));
        }
    }

    pub(super) fn take_stage(&mut self, class: usize) -> Stage {
        std::mem::take(&mut self.classes[class].stage)
    }

    pub fn health(&self) -> LaneHealth {
        LaneHealth { has_failed: self.failed.is_some(), is_full: self.is_full, quarantined: self.quarantined }
    }

    pub fn stats(&self) -> LaneStats {
        let active = self.classes.iter().flat_map(|class| &class.active).filter(|a| a.unsynced_bytes() > 0);
        LaneStats {
            channels: self.channels.len(),
            segments: self.classes.iter().map(|class| class.segments().count()).sum(),
            bytes: self.bytes(),
            oldest_unsynced: active.map(|active| active.unsynced_since).min(),
            ..self.stats
        }
    }

    /// Of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.classes.iter().flat_map(|class| class.segments()).map(|segment| segment.bytes).sum()
    }

    pub(super) fn empty_classes() -> Vec<ClassLog<F>> {
        (0..CLASSES).map(|_| ClassLog::default()).collect()
    }
}

/// The offsets that a filter asks for, of those from `first` to `top`. Without a range of times the limit counts.
fn offsets((first, top): (u64, u64), filter: HistoryFilter, limit: Option<u64>) -> (u64, u64) {
    let limit = limit.unwrap_or(u64::MAX);
    if !filter.reverse {
        let from = filter.since.map_or(first, |since| first.max(since.offset.saturating_add(1)));
        return (from, top.min(from.saturating_add(limit - 1)));
    }
    let last = match filter.since {
        None => top,
        // If the publication before the position is not kept, no older one is.
        Some(since) => match since.offset.checked_sub(1) {
            Some(last) if (first..=top).contains(&last) => last,
            _ => return (1, 0),
        },
    };
    (first.max((last + 1).saturating_sub(limit)), last)
}
