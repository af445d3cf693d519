//! What a lane does from time to time: it removes what has expired, makes checkpoints, and watches the space on the disk.

use std::io;

use super::checkpoint::{CheckpointHead, CheckpointRow, CheckpointWriter, ScanStart};
use super::class_log::{CheckpointProgress, scan_sequences};
use super::commit::{RESERVE, is_full};
use super::files::{File, Files};
use super::lane::Lane;
use super::segment::{CLASSES, segment_bytes};
use super::types::{LaneError, OnFull};

pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const CHECKPOINT_NEW: &str = "checkpoint.new";
/// Channels that one call looks at, or puts into a checkpoint.
const SLOTS: usize = 4096;
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
            if self.classes[class].active.as_ref().is_some_and(|active| is_old(active.created)) {
                self.end_segment(class)?;
            }
        }
        self.watch_space();
        let more_segments = self.remove_expired();
        let due = self.maintenance.checkpoint_time.saturating_add(self.options.checkpoint_interval_ms) <= now;
        if due || self.maintenance.checkpoint.is_some() {
            self.step_checkpoint()?;
        }
        Ok(more_channels || more_segments || self.maintenance.checkpoint.is_some())
    }

    /// Makes the log clean and unlocks it.
    pub fn close(mut self, now: u64) -> Result<(), LaneError> {
        self.tick(now);
        self.commit()?;
        self.sync()?;
        for class in 0..self.classes.len() {
            self.end_segment(class)?;
        }
        self.maintenance.checkpoint = None;
        self.write_checkpoint()?;
        self.state.is_clean = true;
        self.state.write(&*self.files).map_err(|error| LaneError::Write(error.to_string()))
    }

    /// Forgets channels whose positions have expired. True: there are more to look at.
    fn forget_expired(&mut self) -> bool {
        let (metas, next) = self.channels.slice(self.maintenance.forget_from, SLOTS);
        let due: Vec<_> = metas.filter(|(_, meta)| meta.is_forgotten(self.time)).map(|(slot, _)| slot).collect();
        self.maintenance.forget_from = next.unwrap_or_default();
        for slot in due {
            if !self.is_staged(slot) {
                self.forget(slot);
            }
        }
        next.is_some()
    }

    /// Whether publications fit, and what has to give way.
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

    /// Removes segments without a publication that can be read. True: there may be more.
    fn remove_expired(&mut self) -> bool {
        let mut removed = 0;
        for class in 0..self.classes.len() {
            while removed < REMOVED_MAX && self.is_front_expired(class) && self.remove_front(class).is_ok() {
                removed += 1;
            }
        }
        removed == REMOVED_MAX
    }

    /// The meta of its channels is in the checkpoint.
    fn is_front_removable(&self, class: usize) -> bool {
        let from = self.maintenance.scan_from.get(class).copied().unwrap_or_default();
        self.classes[class].sealed.front().is_some_and(|segment| segment.id.sequence < from)
    }

    fn is_front_expired(&self, class: usize) -> bool {
        let Some(segment) = self.classes[class].sealed.front() else { return false };
        let is_read = |(slot, last): (u32, u64)| {
            let (first, top) = self.channels.get(slot).visible(self.time);
            first <= last && first <= top
        };
        self.is_front_removable(class) && !segment.index.last_offsets().any(is_read)
    }

    fn remove_front(&mut self, class: usize) -> io::Result<()> {
        let Some(segment) = self.classes[class].sealed.front() else { return Ok(()) };
        self.files.remove(&segment.id.file_name())?;
        // It has one only if a query needed it.
        _ = self.files.remove(&segment.id.index_name());
        self.classes[class].sealed.pop_front();
        Ok(())
    }

    /// Removes the oldest segment, and hides what its channels have up to there. False: there is none to remove.
    pub(super) fn evict_oldest(&mut self) -> bool {
        let fronts = (0..self.classes.len()).filter(|&class| self.is_front_removable(class));
        let newest = |&class: &usize| self.classes[class].sealed.front().map_or(0, |segment| segment.index.newest);
        let Some(class) = fronts.min_by_key(newest) else { return false };
        let front = self.classes[class].sealed.front();
        let last: Vec<_> = front.map_or_else(Vec::new, |segment| segment.index.last_offsets().collect());
        for (slot, last) in last {
            let meta = self.channels.get_mut(slot);
            meta.first = meta.first.max(last + 1);
        }
        self.stats.evicted_segments += 1;
        self.remove_front(class).is_ok()
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
        let file = self.files.open(CHECKPOINT_NEW).map_err(error)?;
        if let Some(from) = progress.next_slot {
            let (metas, next) = self.channels.slice(from, SLOTS);
            metas.for_each(|(_, meta)| progress.writer.push_meta(&meta.row()));
            progress.next_slot = next;
            let bytes = progress.writer.take_bytes();
            file.write_all_at(&bytes, progress.bytes).map_err(error)?;
            progress.bytes += bytes.len() as u64;
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

    fn begin_checkpoint(&mut self) -> io::Result<CheckpointProgress> {
        self.maintenance.checkpoint_time = self.time;
        let start = |class: usize| {
            let log = &self.classes[class];
            let active = log.active.as_ref().map(|active| (active.segment.id.sequence, active.segment.end));
            let (sequence, position) = active.unwrap_or((log.next_sequence, 0));
            ScanStart { class: class as u8, sequence, position }
        };
        let scan_from: Vec<_> = (0..self.classes.len()).map(start).collect();
        let head = CheckpointHead { lane: self.options.lane, time: self.time, scan_from: scan_from.clone() };
        self.files.create(CHECKPOINT_NEW, 0)?;
        Ok(CheckpointProgress { writer: CheckpointWriter::new(&head), next_slot: Some(0), bytes: 0, scan_from })
    }
}
