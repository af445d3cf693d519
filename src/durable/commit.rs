//! Writing and syncing what was staged.
//!
//! A file whose write or sync failed is used no more: the kernel may have dropped what it did not write, and would report
//! success the next time. What was not synced is written again to a new segment, whose header says where the old one ends. If
//! that fails too, the lane has failed.

use std::io;
use std::sync::Arc;

use super::class_log::{Active, Item, Stage};
use super::files::{File, Files};
use super::format::{
    BATCH_HEAD, BatchPlace, Kind, RECORD_HEAD, RecordHead, finish_batch, finish_record, push_record, record_head,
};
use super::lane::Lane;
use super::memory_index::MemoryIndex;
use super::sealed::Sealed;
use super::segment::{HEADER, Header, Segment, SegmentId, segment_bytes};
use super::state::mix;
use super::types::{LaneError, OnFull};

pub(super) const RESERVE: &str = "reserve";
/// Past so many bytes that wait for a sync, `commit` syncs: they are in memory, too.
const UNSYNCED_BYTES_MAX: u64 = 32 << 20;
/// Sealed segments whose index is in memory until it is written; past it the first read makes the index from the segment.
const UNWRITTEN_MAX: usize = 8;

/// A batch that is ready, and where its records stand in it.
struct Batch {
    bytes: Vec<u8>,
    /// How many of the items are in it.
    items: usize,
    places: Vec<Place>,
}

struct Place {
    /// Of the record in the batch.
    at: usize,
    /// A channel's slot, for a record that names it.
    slot: Option<u32>,
}

/// Why a segment could not be written.
enum WriteFault {
    /// Nothing was written.
    Full,
    File(io::Error),
    /// Of the file before it, which could not be replaced.
    Lane(LaneError),
}

impl<F: Files> Lane<F> {
    /// Writes what is staged.
    pub fn commit(&mut self) -> Result<(), LaneError> {
        let synced = if std::mem::take(&mut self.sync_before) { self.sync() } else { self.check_failed() };
        let mut first_error = synced.err();
        for class in 0..self.classes.len() {
            if self.classes[class].stage.items.is_empty() {
                self.classes[class].stage.before.clear();
                continue;
            }
            let Stage { items, before, keys } = self.take_stage(class);
            let written = match &first_error {
                Some(error) => Err(error.clone()),
                None => self.write_items(class, items, false),
            };
            if let Err(error) = written {
                self.revert(Stage { items: Vec::new(), before, keys });
                first_error = Some(error);
            }
        }
        // The next commit writes them.
        self.stage_hidden();
        if let Some(error) = first_error {
            return Err(error);
        }
        let unsynced: u64 = self.classes.iter().flat_map(|class| &class.active).map(Active::unsynced_bytes).sum();
        if std::mem::take(&mut self.sync_after) || unsynced > UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        Ok(())
    }

    /// Syncs what is written.
    pub fn sync(&mut self) -> Result<(), LaneError> {
        self.check_failed()?;
        for class in 0..self.classes.len() {
            let Some(active) = &mut self.classes[class].active else { continue };
            if let Err(error) = active.sync() {
                self.replace_segment(class, &error)?;
            }
        }
        Ok(())
    }

    pub(super) fn check_failed(&self) -> Result<(), LaneError> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(LaneError::Failed(reason.clone())))
    }

    fn fail(&mut self, reason: &str) -> LaneError {
        self.failed = Some(reason.to_string());
        LaneError::Failed(reason.to_string())
    }

    /// The channels are what they were before the commit.
    fn revert(&mut self, stage: Stage) {
        for (slot, before) in stage.before {
            match before {
                Some(meta) => *self.channels.get_mut(slot) = meta,
                None => self.drop_channel(slot),
            }
        }
        stage.keys.into_iter().for_each(|key| self.keys.remove(key));
    }

    /// Writes items in as few batches as fit. `is_retry`: a file has failed before, and another failure is that of the lane.
    fn write_items(&mut self, class: usize, items: Vec<Item>, is_retry: bool) -> Result<(), LaneError> {
        let (mut rest, mut is_retry, mut any_written) = (items, is_retry, false);
        while !rest.is_empty() {
            let error = match self.write_batch(class, &mut rest) {
                Ok(()) => {
                    any_written = true;
                    continue;
                }
                Err(error) => error,
            };
            match error {
                // What was written cannot be taken back.
                WriteFault::Full if any_written || is_retry => return Err(self.fail("the disk is full within a batch")),
                WriteFault::Full => return Err(LaneError::DiskFull),
                WriteFault::Lane(error) => return Err(error),
                WriteFault::File(error) if is_retry => return Err(self.fail(&error.to_string())),
                WriteFault::File(_) => {
                    is_retry = true;
                    self.stats.file_failures += 1;
                    self.end_segment(class)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the first items, as many as fit into the segment, and removes them.
    fn write_batch(&mut self, class: usize, items: &mut Vec<Item>) -> Result<(), WriteFault> {
        if self.classes[class].active.is_none() {
            self.start_segment(class)?;
        }
        let serial = self.serial + 1;
        let mut batch = self.build_batch(class, items, serial);
        let is_fresh = self.classes[class].active.as_ref().is_none_or(|active| active.segment.end == HEADER);
        // What a commit writes is one batch, unless it is more than a segment.
        if batch.items < items.len() && !is_fresh {
            self.end_segment(class).map_err(WriteFault::Lane)?;
            if self.classes[class].active.is_none() {
                self.start_segment(class)?;
            }
            batch = self.build_batch(class, items, serial);
        }
        if batch.items == 0 {
            return Err(WriteFault::File(io::Error::other("a record does not fit into a segment")));
        }
        let time = self.time;
        let Some(active) = &mut self.classes[class].active else { return Err(WriteFault::Full) };
        let position = active.segment.end;
        if let Err(error) = active.segment.file.write_all_at(&batch.bytes, u64::from(position)) {
            // A head of zeros ends the segment. If that fails too, the header of the next one says where this one ends.
            _ = active.segment.file.write_all_at(&[0; BATCH_HEAD], u64::from(position));
            return Err(WriteFault::File(error));
        }
        self.serial = serial;
        if active.unsynced_bytes() == 0 {
            active.unsynced_since = time;
        }
        active.segment.end += batch.bytes.len() as u32;
        active.number += 1;
        for place in &batch.places {
            add_to_index(&mut active.index, &batch.bytes[place.at..], place.slot, position + place.at as u32);
        }
        self.maintenance.written += batch.bytes.len() as u64;
        active.unsynced.extend(items.drain(..batch.items));
        Ok(())
    }

    /// A batch of the first items. It names each channel that the segment does not know yet.
    fn build_batch(&self, class: usize, items: &[Item], serial: u64) -> Batch {
        let mut batch = Batch { bytes: vec![0; BATCH_HEAD], items: 0, places: Vec::new() };
        let Some(active) = &self.classes[class].active else { return batch };
        let room = (active.segment.bytes - u64::from(active.segment.end)) as usize;
        let index = &active.index;
        let mut named: std::collections::HashMap<u32, u32> = std::collections::HashMap::new();
        let mut next = index.next_index();
        for item in items {
            let (start, places) = (batch.bytes.len(), batch.places.len());
            let known = item.slot.and_then(|slot| named.get(&slot).copied().or_else(|| index.index_of(slot)));
            let channel = known.unwrap_or(if item.slot.is_some() { next } else { u32::MAX });
            if let Some(slot) = item.slot.filter(|_| known.is_none() || item.with_meta) {
                let meta = self.channels.get(slot);
                let head = RecordHead { offset: top_before(&item.record), ..channel_head(meta.last_time) };
                push_record(&mut batch.bytes, &head, |out| meta.put(out));
                finish_record(&mut batch.bytes[start..], channel);
                batch.places.push(Place { at: start, slot: Some(slot) });
            }
            let at = batch.bytes.len();
            batch.bytes.extend_from_slice(&item.record);
            finish_record(&mut batch.bytes[at..], channel);
            batch.places.push(Place { at, slot: None });
            if batch.bytes.len() + 8 > room {
                batch.bytes.truncate(start);
                batch.places.truncate(places);
                break;
            }
            if let Some(slot) = item.slot.filter(|_| known.is_none()) {
                named.insert(slot, channel);
                next += 1;
            }
            batch.items += 1;
        }
        let place = BatchPlace { salt: active.segment.salt, number: active.number, serial };
        let records = batch.places.len() as u32;
        finish_batch(&mut batch.bytes, records, place);
        batch
    }

    /// Begins a segment. Its header and its name are on the disk before anything that is synced stands in it.
    fn start_segment(&mut self, class: usize) -> Result<(), WriteFault> {
        let bytes = segment_bytes(class as u8, self.options.segment_bytes);
        let log = &mut self.classes[class];
        let id = SegmentId { class: class as u8, sequence: log.next_sequence };
        log.next_sequence += 1;
        let (previous_end, previous) = log.previous;
        let (file, bytes) = self.create_segment(id, bytes)?;
        let salt = mix(self.options.seed ^ mix(id.sequence << 8 | u64::from(id.class)) ^ self.time) as u32;
        let (lane, boot_id) = (self.options.lane, self.options.boot_id);
        let header = Header { id, lane, created: self.time, boot_id, salt, previous_end, previous };
        let written = file.write_all_at(&header.encode(), 0).and_then(|()| self.files.sync_directory());
        if let Err(error) = written {
            _ = self.files.remove(&id.file_name());
            return Err(WriteFault::File(error));
        }
        let segment = Segment { id, file, salt, created: self.time, end: HEADER, bytes };
        let active = Active {
            segment,
            index: MemoryIndex::default(),
            number: 0,
            synced_end: HEADER,
            unsynced: Vec::new(),
            unsynced_since: self.time,
        };
        self.classes[class].active = Some(active);
        Ok(())
    }

    /// The file of a segment; if there is no space, what was kept in reserve.
    fn create_segment(&mut self, id: SegmentId, bytes: u64) -> Result<(Arc<F::File>, u64), WriteFault> {
        loop {
            let error = match self.files.create(&id.file_name(), bytes) {
                Ok(file) => return Ok((file, bytes)),
                Err(error) => error,
            };
            if !is_full(&error) {
                return Err(WriteFault::File(error));
            }
            if self.options.on_full == OnFull::EvictOldest && self.evict_for_segment() {
                continue;
            }
            self.is_full = true;
            self.files.rename(RESERVE, &id.file_name()).map_err(|_| WriteFault::Full)?;
            let file = self.files.open(&id.file_name()).map_err(WriteFault::File)?;
            let reserved = file.len().map_err(WriteFault::File)?;
            return Ok((file, reserved));
        }
    }

    /// Ends the active segment of a class: the next write begins another one.
    pub(super) fn end_segment(&mut self, class: usize) -> Result<(), LaneError> {
        let Some(active) = &mut self.classes[class].active else { return Ok(()) };
        if let Err(error) = active.sync() {
            return self.replace_segment(class, &error);
        }
        self.seal(class);
        Ok(())
    }

    /// A sync failed: what the file has behind what was synced before is written to another one.
    fn replace_segment(&mut self, class: usize, error: &io::Error) -> Result<(), LaneError> {
        self.stats.file_failures += 1;
        let Some(active) = &mut self.classes[class].active else { return Ok(()) };
        let mut items = std::mem::take(&mut active.unsynced);
        // Of a channel that was forgotten since, only the record that says so is written again.
        let channels = &self.channels;
        items.retain(|item| item.slot.is_none_or(|slot| channels.epoch(slot) == Some(item.epoch)));
        active.segment.end = active.synced_end;
        active.index.cut(active.synced_end);
        self.seal(class);
        self.write_items(class, items, true).map_err(|_| self.fail(&error.to_string()))?;
        let Some(active) = &mut self.classes[class].active else { return Ok(()) };
        active.sync().map_err(|error| self.fail(&error.to_string()))
    }

    fn seal(&mut self, class: usize) {
        let log = &mut self.classes[class];
        let Some(Active { mut segment, mut index, .. }) = log.active.take() else { return };
        log.previous = (segment.end, segment.id.sequence as u32);
        index.seal();
        // Only space is lost if the file stays as long as it is.
        if segment.file.truncate(u64::from(segment.end)).is_ok() {
            segment.bytes = u64::from(segment.end);
        }
        let sealed = Sealed::new(segment, Some(index));
        log.sealed.push_back(Arc::clone(&sealed));
        self.unwritten.push_back(sealed);
        if self.unwritten.len() > UNWRITTEN_MAX
            && let Some(oldest) = self.unwritten.pop_front()
        {
            oldest.drop_unwritten();
        }
    }
}

/// The top of a channel before a record of it.
fn top_before(record: &[u8]) -> u64 {
    record_head(record).map_or(0, |head| head.offset - u64::from(head.kind == Kind::Publication))
}

fn channel_head(time: u64) -> RecordHead {
    RecordHead { kind: Kind::Channel, flags: 0, channel: 0, offset: 0, time }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Notes a record that stands in the segment.
fn add_to_index(index: &mut MemoryIndex, record: &[u8], slot: Option<u32>, position: u32) {
    let Some(head) = record_head(record) else { return };
    let Some(length) = super::format::u32_at(record, 0) else { return };
    let Some(body) = record.get(RECORD_HEAD..length as usize) else { return };
    index.add(slot, &head, body, position);
}
