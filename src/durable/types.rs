//! What goes into a lane and comes out of it.

use std::fmt;
use std::io;

use super::files::LockError;
use crate::pubsub::{HistoryOptions, Position, PublicationRecord};

/// When a publication counts as kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// After `Lane::commit`: it survives the end of the process.
    Process,
    /// After `Lane::sync`: it survives a power loss.
    Strict,
}

/// A publication to write.
#[derive(Clone, Copy, Debug)]
pub struct NewPublication<'a> {
    pub data: &'a [u8],
    /// Packed; empty if the server API published.
    pub client_info: &'a [u8],
    /// Packed.
    pub tags: &'a [u8],
    /// The publisher, for queries by user; empty if they are not wanted.
    pub user: &'a str,
    /// The value of the tag by which queries find it; empty for none.
    pub tag: &'a str,
    pub version: u64,
    /// Empty for any.
    pub version_epoch: &'a str,
    /// Empty for none.
    pub idempotency_key: &'a str,
    pub history: HistoryOptions,
    pub durability: Durability,
}

/// What to do when the disk, or `LaneOptions::bytes_max`, is full.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum OnFull {
    /// Refuse publications.
    #[default]
    Refuse,
    /// Remove the oldest segments.
    EvictOldest,
}

#[derive(Clone, Debug)]
pub struct LaneOptions {
    pub lane: u16,
    /// Bytes of a segment; up to 4 GiB. Classes of up to 10 minutes have at most 8 MiB.
    pub segment_bytes: u64,
    /// Bytes of all segments; 0 for no limit.
    pub bytes_max: u64,
    /// Free space of the file system below which the disk counts as full, in bytes.
    pub free_bytes_min: u64,
    pub on_full: OnFull,
    pub checkpoint_interval_ms: u64,
    /// Of this start of the machine, e.g. from `/proc/sys/kernel/random/boot_id`.
    pub boot_id: [u8; 16],
    /// Random bytes.
    pub seed: u64,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            lane: 0,
            segment_bytes: 64 << 20,
            bytes_max: 0,
            free_bytes_min: 1 << 30,
            on_full: OnFull::Refuse,
            checkpoint_interval_ms: 300_000,
            boot_id: [0; 16],
            seed: 0,
        }
    }
}

/// The answer to a publication. It holds once `commit`, or for `Strict` `sync`, has returned `Ok`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Staged {
    /// `None` if the channel has no history. If suppressed: what the first publication got, or the channel's position.
    pub position: Option<Position>,
    /// Milliseconds.
    pub time: u64,
    /// It is not made, since its idempotency key or its version is known.
    pub is_suppressed: bool,
}

/// Why nothing was staged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefuseReason {
    /// The disk, or `LaneOptions::bytes_max`, is full.
    DiskFull,
    /// The publication does not fit into a segment.
    TooLarge,
    /// The lane has failed.
    Failed,
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full",
            Self::TooLarge => "the publication does not fit into a file of the log",
            Self::Failed => "the log has failed",
        })
    }
}

/// Why what was staged does not count as kept. Offsets of what was not written are given again.
#[derive(Clone, Debug)]
pub enum LaneError {
    /// There is no space. Nothing else changed.
    DiskFull,
    /// This batch could not be written; the next one goes to another file.
    Write(String),
    /// The lane takes nothing any more; reads go on.
    Failed(String),
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull => f.write_str("the disk is full"),
            Self::Write(reason) => write!(f, "the log could not be written: {reason}"),
            Self::Failed(reason) => write!(f, "the log has failed: {reason}"),
        }
    }
}

/// What the log was when it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LastEnd {
    /// There was none.
    #[default]
    New,
    Clean,
    /// The process ended, the machine did not.
    Killed,
    /// The machine ended, or it is not known: `process` channels have a new generation.
    Crashed,
}

#[derive(Clone, Default, Debug)]
pub struct OpenReport {
    pub last_end: LastEnd,
    pub channels: usize,
    pub segments: usize,
    pub scanned_bytes: u64,
    /// Bytes after the last whole batch, which were dropped.
    pub torn_bytes: u64,
    /// Files with a part that cannot be read.
    pub quarantined: Vec<String>,
    /// Things for the log that change nothing: an index or checkpoint that was made again.
    pub notes: Vec<String>,
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    Lock(LockError),
    /// The file was written by a newer version of this program.
    NewerFormat {
        file: String,
        version: u32,
    },
    Io {
        file: String,
        error: io::Error,
    },
    /// It was opened, but the state could not be written.
    Lane(LaneError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(error) => error.fmt(f),
            Self::NewerFormat { file, version } => {
                write!(
                    f,
                    "{file} has format {version}, which a newer version of this program wrote; start that version"
                )
            }
            Self::Io { file, error } => write!(f, "{file}: {error}"),
            Self::Lane(error) => error.fmt(f),
        }
    }
}

/// A part of a history.
#[derive(Debug)]
pub struct LogRead {
    /// In the order that the filter asks for.
    pub records: Vec<PublicationRecord>,
    pub top: Position,
    /// The position in the filter is one of this channel's stream as it is now: its epoch is the current one, or a generation
    /// before, of which nothing up to the offset was lost. True without a position.
    pub since_is_kept: bool,
}

/// Why a read has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// Publications that should be there are lost: they were in a file that is corrupt.
    Missing,
    Io(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub struct LaneHealth {
    /// The lane takes nothing any more.
    pub has_failed: bool,
    pub is_full: bool,
    /// Files with a part that cannot be read.
    pub quarantined: usize,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct LaneStats {
    pub channels: usize,
    pub segments: usize,
    /// Of all segments.
    pub bytes: u64,
    /// When the oldest write that is not synced was made, in milliseconds.
    pub oldest_unsynced: Option<u64>,
    /// Files that were given up after a failed write or sync.
    pub file_failures: u64,
    pub evicted_segments: u64,
    pub checkpoints: u64,
}
