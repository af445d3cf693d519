//! The way of a log record: a shard never writes logs, it hands records to the control thread through a bounded ring.
//! A full ring costs the record, which is counted, never the turn.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ids::ShardId;

/// Records that may wait for the control thread, per shard.
const NOTES_MAX: usize = 1024;

/// What a shard tells the operator. The shard adds who it is.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    Started {
        core: Option<usize>,
        wanted: Option<usize>,
    },
    /// The listener rests and tries again.
    AcceptFailed {
        errno: i32,
    },
    SlowClosed {
        slot: u32,
        backlog_bytes: usize,
    },
    /// Publications were skipped for this shard and could not be sent later.
    Gap {
        count: u64,
        subscribers: u32,
    },
}

pub struct Journal {
    shard: ShardId,
    ring: Sender<(ShardId, Note)>,
}

impl Journal {
    /// A ring, and the end that the control thread drains.
    pub fn new(shard: ShardId) -> (Self, Receiver<(ShardId, Note)>) {
        let (ring, drain) = bounded(NOTES_MAX);
        (Self { shard, ring }, drain)
    }

    /// False where the ring is full or nobody drains it.
    pub(super) fn push(&self, note: Note) -> bool {
        self.ring.try_send((self.shard, note)).is_ok()
    }
}
