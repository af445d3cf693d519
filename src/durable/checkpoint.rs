//! The checkpoint of a lane: the meta of its channels, its idempotency keys, and where the scan of the segments goes on.

use std::io;

use super::codec::ReadAt;

/// Generations before the current one that a channel keeps.
pub(crate) const PAST_GENERATIONS_MAX: usize = 4;

/// A generation that ended with a crash of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct PastGeneration {
    pub(crate) generation: u8,
    /// The highest offset of the generation that is kept.
    pub(crate) durable_top: u64,
}

/// All that a lane keeps of a channel.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct MetaRow {
    pub(crate) name: Box<str>,
    /// The six letters of the epoch, without the generation.
    pub(crate) epoch: [u8; 6],
    /// 0 to 61.
    pub(crate) generation: u8,
    /// Oldest first, at most `PAST_GENERATIONS_MAX`.
    pub(crate) past: Vec<PastGeneration>,
    /// The offset of the last publication; 0 for none.
    pub(crate) top: u64,
    /// The lowest offset that was not removed: everything below is gone. `top + 1` if all is.
    pub(crate) first: u64,
    /// When the last publication was made, in milliseconds; 0 for never.
    pub(crate) last_time: u64,
    /// When the position was last used: `meta_ttl_ms` counts from here.
    pub(crate) last_use: u64,
    /// The publisher's version of the last publication; 0 for none.
    pub(crate) version: u64,
    pub(crate) version_epoch: Box<str>,
    /// As of the last publication.
    pub(crate) history_size: u32,
    pub(crate) history_ttl_ms: u64,
    pub(crate) meta_ttl_ms: u64,
    /// The retention class of the segments that have its publications.
    pub(crate) class: u8,
    /// What was shown was always synced before (`strict`): a crash of the machine begins no generation.
    pub(crate) is_strict: bool,
}

/// An idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct KeyRow {
    /// Of the channel's name and the key.
    pub(crate) hash: u128,
    /// When the first publication with it was made, in milliseconds.
    pub(crate) time: u64,
    /// What that was answered: the text of the epoch, padded with zeros, and the offset. `None`: it had no position.
    pub(crate) position: Option<([u8; 8], u64)>,
}

/// Up to where a checkpoint holds what a class' segments say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScanStart {
    pub(crate) class: u8,
    pub(crate) sequence: u64,
    /// In bytes from the beginning of the segment.
    pub(crate) position: u32,
}

/// What stands at the head of a checkpoint.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct CheckpointHead {
    pub(crate) lane: u16,
    /// When it was begun, in milliseconds.
    pub(crate) time: u64,
    /// One for each class with segments.
    pub(crate) scan_from: Vec<ScanStart>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CheckpointRow {
    Meta(MetaRow),
    Key(KeyRow),
}

/// Encodes a checkpoint. The caller writes what `take_bytes` gives, in that order, to a file with a temporary name, then syncs
/// and renames it.
pub(crate) struct CheckpointWriter {
    bytes: Vec<u8>,
}

impl CheckpointWriter {
    pub(crate) fn new(head: &CheckpointHead) -> Self {
        let _ = head;
        Self { bytes: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: &CheckpointRow) {
        let _ = row;
    }

    pub(crate) fn push_meta(&mut self, row: &MetaRow) {
        let _ = row;
    }

    /// The blocks that are complete. The writer holds at most one more.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The last block, and the end without which a checkpoint is not valid.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Why a checkpoint cannot be used: start from an older one, or from the segments alone.
#[derive(Debug)]
pub(crate) enum CheckpointError {
    Corrupt,
    /// Made by a newer version of this program.
    NewerFormat(u32),
    Read(io::Error),
}

/// Reads a checkpoint. After an error it ends, and what it gave before must not be used.
pub(crate) struct CheckpointReader<F> {
    file: F,
    head: CheckpointHead,
}

impl<F: ReadAt> CheckpointReader<F> {
    pub(crate) fn open(file: F) -> Result<Self, CheckpointError> {
        Ok(Self { file, head: CheckpointHead::default() })
    }

    pub(crate) fn head(&self) -> &CheckpointHead {
        let _ = &self.file;
        &self.head
    }
}

impl<F: ReadAt> Iterator for CheckpointReader<F> {
    type Item = Result<CheckpointRow, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
