//! What a lane does from time to time: it removes what has expired, makes checkpoints, and watches the space on the disk.

use std::io;
use std::sync::Arc;

use super::checkpoint::{CheckpointHead, CheckpointRow, CheckpointWriter, ScanStart};
use super::class_log::{CheckpointProgress, Hidden, scan_sequences};
use super::commit::{RESERVE, is_full};
use super::files::{File, Files};
use super::lane::Lane;
use super::sealed::Sealed;
use super::segment::{CLASSES, segment_bytes};
use super::survey::{Survey, Verdict};
use super::types::{LaneError, OnFull};

pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const CHECKPOINT_NEW: &str = "checkpoint.new";
/// Channels that one call looks at, or puts into a checkpoint.
const SLOTS: usize = 4096;
/// Past so many bytes of segments a checkpoint is due: a start reads no more than about this.
const SCAN_BYTES_MAX: u64 = 1 << 30;
/// A checkpoint is synced in parts of this size, so that no sync takes long.
const CHECKPOINT_SYNC_BYTES: u64 = 4 << 20;
/// How often the channels are gone through for those to forget, in milliseconds. One that is used is forgotten at once.
const SWEEP_INTERVAL: u64 = 60_000;
/// Segments that one call removes.
const REMOVED_MAX: usize = 4;
/// The segment of a class is ended after this time, so that it can be removed.
const SEGMENT_AGE_MAX: u64 = 6 * 3_600_000;

impl<F: Files> Lane<F> {
    /// Seals, removes, makes checkpoints. Called when nothing is staged. Returns true if there is more to do at once.
    pub fn maintain(&mut self, now: u64) -> Result<bool, LaneError> {
        let now = self.tick(now);
        self.check_failed()?;
        self.keys.expire(now);
        let more_channels = self.forget_expired();
        self.commit()?;
        for class in 0..self.classes.len() {
            let is_old = |created: u64| created.saturating_add(SEGMENT_AGE_MAX) <= now;
            if self.classes[class].active.as_ref().is_some_and(|active| is_old(active.segment.created)) {
                self.end_segment(class)?;
            }
        }
        // Once for all calls of a sweep, a survey or a checkpoint.
        if !self.maintenance.has_more {
            self.watch_space();
        }
        let more_segments = self.remove_expired()?;
        let due = self.maintenance.checkpoint_time.saturating_add(self.options.checkpoint_interval_ms) <= now
            || self.maintenance.written > SCAN_BYTES_MAX;
        if due || self.maintenance.checkpoint.is_some() {
            self.step_checkpoint()?;
        }
        self.maintenance.has_more = more_channels || more_segments || self.maintenance.checkpoint.is_some();
        Ok(self.maintenance.has_more)
    }

    /// Makes the log clean and unlocks it.
    pub fn close(mut self, now: u64) -> Result<(), LaneError> {
        self.tick(now);
        self.commit()?;
        self.sync()?;
        for class in 0..self.classes.len() {
            self.end_segment(class)?;
        }
        while let Some(task) = self.take_index_task() {
            task.run();
        }
        self.maintenance.checkpoint = None;
        self.write_checkpoint()?;
        self.state.is_clean = true;
        self.state.write(&*self.files).map_err(|error| LaneError::Write(error.to_string()))
    }

    /// Forgets channels whose positions have expired. True: there are more to look at.
    fn forget_expired(&mut self) -> bool {
        let maintenance = &mut self.maintenance;
        if maintenance.forget_from.is_none() && maintenance.sweep_time <= self.time {
            (maintenance.forget_from, maintenance.sweep_time) = (Some(0), self.time + SWEEP_INTERVAL);
        }
        let Some(from) = maintenance.forget_from else { return false };
        let (metas, next) = self.channels.slice(from, SLOTS);
        let due: Vec<_> = metas.filter(|(_, meta)| meta.is_forgotten(self.time)).map(|(slot, _)| slot).collect();
        self.maintenance.forget_from = next;
        for slot in due {
            if !self.is_staged(slot) {
                self.forget(slot);
            }
        }
        next.is_some()
    }

    /// Updates `is_full`, and evicts segments if the options say so.
    fn watch_space(&mut self) {
        for _ in 0..REMOVED_MAX {
            // A file system that cannot say counts as one with space: a write will tell.
            let free = self.files.free_bytes().unwrap_or(u64::MAX);
            let is_over = self.options.bytes_max > 0 && self.bytes() > self.options.bytes_max;
            self.is_full = is_over || free < self.options.free_bytes_min;
            if !self.is_full || self.options.on_full == OnFull::Refuse {
                break;
            }
            // A checkpoint makes segments removable.
            if !self.evict_oldest() && (self.write_checkpoint().is_err() || !self.evict_oldest()) {
                break;
            }
        }
        if !self.is_full && self.files.open(RESERVE).is_err() {
            let bytes = segment_bytes(CLASSES - 1, self.options.segment_bytes);
            if let Err(error) = self.files.create(RESERVE, bytes) {
                self.is_full = is_full(&error);
            }
        }
    }

    /// Removes segments without a publication that can be read. True: there is more to look at.
    fn remove_expired(&mut self) -> Result<bool, LaneError> {
        let (mut removed, mut has_more) = (0, false);
        for class in 0..self.classes.len() {
            while removed < REMOVED_MAX && self.is_front_removable(class) {
                // An index that cannot be read keeps its segment.
                let verdict = self.survey_front(class).unwrap_or(Verdict::Read);
                has_more |= verdict == Verdict::Unknown;
                if verdict != Verdict::Unread {
                    break;
                }
                // What made it unread must not be lost once it is gone.
                self.sync()?;
                if self.remove_front(class).is_err() {
                    break;
                }
                removed += 1;
            }
        }
        Ok(has_more || removed == REMOVED_MAX)
    }

    /// The meta of its channels is in the checkpoint.
    fn is_front_removable(&self, class: usize) -> bool {
        let from = self.maintenance.scan_from.get(class).copied().unwrap_or_default();
        self.classes[class].sealed.front().is_some_and(|front| front.segment.id.sequence < from)
    }

    fn survey_front(&mut self, class: usize) -> io::Result<Verdict> {
        let log = &mut self.classes[class];
        let Some(front) = log.sealed.front() else { return Ok(Verdict::Read) };
        if !log.survey.as_ref().is_some_and(|survey| survey.is_of(front)) {
            log.survey = Some(Survey::new(front, &*self.files)?);
        }
        let Some(survey) = &mut log.survey else { return Ok(Verdict::Read) };
        survey.go_on(front, &*self.files, (&self.channels, self.time), SLOTS)
    }

    fn remove_front(&mut self, class: usize) -> io::Result<()> {
        let Some(segment) = self.classes[class].sealed.front() else { return Ok(()) };
        let id = segment.segment.id;
        self.files.remove(&id.file_name())?;
        // It may have none; the next start removes one that is left over.
        _ = self.files.remove(&id.index_name());
        self.classes[class].sealed.pop_front();
        Ok(())
    }

    /// Removes the oldest segment. What its channels have up to there is hidden, also after a restart. Called when nothing is
    /// staged. False: there is no segment to remove.
    fn evict_oldest(&mut self) -> bool {
        let Some(oldest) = self.oldest_removable() else { return false };
        if self.hide(&oldest).is_err() {
            return false;
        }
        self.stage_hidden();
        // A restart must not look for what is gone.
        if self.commit().and_then(|()| self.sync()).is_err() {
            return false;
        }
        // For lack of space the commit may have removed it.
        let is_there = self.oldest_removable().is_some_and(|now| now.segment.id == oldest.segment.id);
        !is_there || self.remove_evicted(&oldest)
    }

    /// As `evict_oldest`, while a segment is made: what is hidden is written later.
    pub(super) fn evict_for_segment(&mut self) -> bool {
        self.oldest_removable().is_some_and(|oldest| self.hide(&oldest).is_ok() && self.remove_evicted(&oldest))
    }

    /// Of all classes.
    fn oldest_removable(&self) -> Option<Arc<Sealed<F>>> {
        let fronts = (0..self.classes.len()).filter(|&class| self.is_front_removable(class));
        fronts.filter_map(|class| self.classes[class].sealed.front()).min_by_key(|front| front.segment.created).cloned()
    }

    /// Hides what the channels of a segment have up to its end.
    fn hide(&mut self, sealed: &Sealed<F>) -> io::Result<()> {
        for ((name, epoch), last) in sealed.last_offsets()? {
            if let Some(slot) = self.channels.find(&name).filter(|&slot| self.channels.epoch(slot) == Some(epoch)) {
                let meta = self.channels.get_mut(slot);
                meta.first = meta.first.max(last + 1);
                self.hidden.push(Hidden { slot, epoch, last });
            }
        }
        Ok(())
    }

    /// Stages the records of what was hidden. A commit that failed may have shown it again, and another one must not.
    pub(super) fn stage_hidden(&mut self) {
        for Hidden { slot, epoch, last } in std::mem::take(&mut self.hidden) {
            if self.channels.epoch(slot) == Some(epoch) {
                let meta = self.channels.get_mut(slot);
                meta.first = meta.first.max(last + 1);
                self.stage_truncation(slot, last);
            }
        }
    }

    fn remove_evicted(&mut self, sealed: &Sealed<F>) -> bool {
        self.stats.evicted_segments += 1;
        self.remove_front(usize::from(sealed.segment.id.class)).is_ok()
    }

    /// Writes a checkpoint at once.
    pub(super) fn write_checkpoint(&mut self) -> Result<(), LaneError> {
        self.step_checkpoint()?;
        while self.maintenance.checkpoint.is_some() {
            self.step_checkpoint()?;
        }
        Ok(())
    }

    /// Writes a part of a checkpoint. One that fails is begun again at the next interval; the old one stays.
    fn step_checkpoint(&mut self) -> Result<(), LaneError> {
        let error = |error: io::Error| LaneError::Write(format!("{CHECKPOINT}: {error}"));
        let mut progress = match self.maintenance.checkpoint.take() {
            Some(progress) => progress,
            None => self.begin_checkpoint().map_err(error)?,
        };
        let file = &progress.file;
        if let Some(from) = progress.next_slot {
            let (metas, next) = self.channels.slice(from, SLOTS);
            metas.for_each(|(_, meta)| progress.writer.push_meta(&meta.row()));
            progress.next_slot = next;
            let bytes = progress.writer.take_bytes();
            file.write_all_at(&bytes, progress.bytes).map_err(error)?;
            progress.bytes += bytes.len() as u64;
            if progress.bytes - progress.synced_bytes > CHECKPOINT_SYNC_BYTES {
                file.sync_data().map_err(error)?;
                progress.synced_bytes = progress.bytes;
            }
            self.maintenance.checkpoint = Some(progress);
            return Ok(());
        }
        self.keys.rows().for_each(|key| progress.writer.push(&CheckpointRow::Key(key)));
        let mut bytes = progress.writer.take_bytes();
        bytes.extend_from_slice(&progress.writer.finish());
        file.write_all_at(&bytes, progress.bytes).and_then(|()| file.sync_data()).map_err(error)?;
        // It must not say more than the segments keep; and a life that ended stays so.
        self.sync()?;
        self.state.write(&*self.files).map_err(error)?;
        self.files.rename(CHECKPOINT_NEW, CHECKPOINT).map_err(error)?;
        self.files.sync_directory().map_err(error)?;
        self.maintenance.scan_from = scan_sequences(&progress.scan_from);
        self.stats.checkpoints += 1;
        Ok(())
    }

    fn begin_checkpoint(&mut self) -> io::Result<CheckpointProgress<F>> {
        (self.maintenance.checkpoint_time, self.maintenance.written) = (self.time, 0);
        let start = |class: usize| {
            let log = &self.classes[class];
            let active = log.active.as_ref().map(|active| (active.segment.id.sequence, active.segment.end));
            let (sequence, position) = active.unwrap_or((log.next_sequence, 0));
            ScanStart { class: class as u8, sequence, position }
        };
        let scan_from: Vec<_> = (0..self.classes.len()).map(start).collect();
        let head = CheckpointHead { lane: self.options.lane, time: self.time, scan_from: scan_from.clone() };
        let file = self.files.create(CHECKPOINT_NEW, 0)?;
        let writer = CheckpointWriter::new(&head);
        Ok(CheckpointProgress { file, writer, next_slot: Some(0), bytes: 0, synced_bytes: 0, scan_from })
    }
}
