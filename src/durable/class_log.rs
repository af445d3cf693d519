//! The segments of one retention class, and what waits to be written to them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::checkpoint::{CheckpointWriter, ScanStart};
use super::files::{File, Files};
use super::memory_index::MemoryIndex;
use super::meta::ChannelMeta;
use super::sealed::Sealed;
use super::segment::{CLASSES, Segment};
use super::survey::Survey;

/// A record that waits for a batch. It has neither a channel index nor a checksum yet.
pub(super) struct Item {
    /// Of the channel; none for a record without one.
    pub(super) slot: Option<u32>,
    /// The meta of the channel changed: the record that names it stands before this one.
    pub(super) with_meta: bool,
    pub(super) record: Vec<u8>,
    /// Of the channel: another one means that the slot was used again.
    pub(super) epoch: [u8; 6],
}

/// What a commit writes.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) items: Vec<Item>,
    /// What the channels were before; `None` for a new one.
    pub(super) before: HashMap<u32, Option<ChannelMeta>>,
    /// Idempotency keys that were added.
    pub(super) keys: Vec<u128>,
}

/// The segment that is written.
pub(super) struct Active<F: Files> {
    pub(super) segment: Segment<F>,
    pub(super) index: MemoryIndex,
    /// Of the next batch.
    pub(super) number: u32,
    pub(super) synced_end: u32,
    /// What stands behind `synced_end`: it is written again, to another file, if the sync fails.
    pub(super) unsynced: Vec<Item>,
    /// When the first of it was written.
    pub(super) unsynced_since: u64,
}

impl<F: Files> Active<F> {
    pub(super) fn unsynced_bytes(&self) -> u64 {
        u64::from(self.segment.end - self.synced_end)
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced_bytes() > 0 {
            self.segment.file.sync_data()?;
            self.synced_end = self.segment.end;
            self.unsynced.clear();
        }
        Ok(())
    }
}

pub(super) struct ClassLog<F: Files> {
    /// Oldest first.
    pub(super) sealed: VecDeque<Arc<Sealed<F>>>,
    pub(super) active: Option<Active<F>>,
    pub(super) next_sequence: u64,
    /// Where the last segment before the active one ends, and the last four bytes of its sequence.
    pub(super) previous: (u32, u32),
    pub(super) stage: Stage,
    /// Of the oldest segment, once it may be removed.
    pub(super) survey: Option<Survey>,
}

impl<F: Files> Default for ClassLog<F> {
    fn default() -> Self {
        Self {
            sealed: VecDeque::new(),
            active: None,
            next_sequence: 1,
            previous: (0, 0),
            stage: Stage::default(),
            survey: None,
        }
    }
}

impl<F: Files> ClassLog<F> {
    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment<F>> {
        let sealed = self.sealed.iter().map(|sealed| &sealed.segment);
        sealed.chain(self.active.as_ref().map(|active| &active.segment))
    }
}

/// The publications of a channel up to an offset, whose file is gone or is about to go.
pub(super) struct Hidden {
    pub(super) slot: u32,
    pub(super) epoch: [u8; 6],
    pub(super) last: u64,
}

/// Where maintenance goes on.
pub(super) struct Maintenance<F: Files> {
    /// When the last checkpoint was made.
    pub(super) checkpoint_time: u64,
    /// Written to segments since it was begun: what the next start has to read.
    pub(super) written: u64,
    pub(super) checkpoint: Option<CheckpointProgress<F>>,
    /// Up to where the last checkpoint has everything, by class: older segments may be removed.
    pub(super) scan_from: Vec<u64>,
    /// The next slot to look at for channels to forget, while they are gone through.
    pub(super) forget_from: Option<usize>,
    /// When they are gone through again.
    pub(super) sweep_time: u64,
    /// The last call has left something to do.
    pub(super) has_more: bool,
}

impl<F: Files> Maintenance<F> {
    /// No checkpoint was made yet.
    pub(super) fn new(now: u64) -> Self {
        Self {
            checkpoint_time: now,
            written: 0,
            checkpoint: None,
            scan_from: Vec::new(),
            forget_from: None,
            sweep_time: 0,
            has_more: false,
        }
    }
}

/// A checkpoint that is being written.
pub(super) struct CheckpointProgress<F: Files> {
    pub(super) file: Arc<F::File>,
    pub(super) writer: CheckpointWriter,
    pub(super) next_slot: Option<usize>,
    /// Written to the file already.
    pub(super) bytes: u64,
    /// So many of them are synced.
    pub(super) synced_bytes: u64,
    pub(super) scan_from: Vec<ScanStart>,
}

/// The sequence of each class from which on segments are needed for the meta.
pub(super) fn scan_sequences(starts: &[ScanStart]) -> Vec<u64> {
    (0..CLASSES)
        .map(|class| starts.iter().find(|start| start.class == class).map_or(0, |start| start.sequence))
        .collect()
}
