//! A read whose files are known: it runs on any thread, while the lane goes on.

use std::sync::Arc;

use super::files::Files;
use super::format::{Kind, PublicationBody, RECORD_HEAD, record_head};
use super::segment::read_record_at;
use super::types::{LogRead, ReadError, optional};
use crate::pubsub::{Position, PublicationRecord, TimeRange};
use bytes::Bytes;

/// A read whose files are known. It runs on any thread.
pub struct ReadPlan<F: Files> {
    pub(super) top: Position,
    pub(super) since_is_kept: bool,
    /// The offsets to read; empty if the first is above the last.
    pub(super) offsets: (u64, u64),
    pub(super) reverse: bool,
    pub(super) range: TimeRange,
    pub(super) limit: usize,
    /// Newest first: an offset is read from the first part that has it.
    pub(super) parts: Vec<Part<F>>,
}

/// What one segment has.
pub(super) struct Part<F: Files> {
    pub(super) file: Arc<F::File>,
    /// Offsets, which grow, with their positions.
    pub(super) found: Vec<(u64, u32)>,
}

impl<F: Files> ReadPlan<F> {
    /// Reads the records. Publications that should be there and cannot be read are an error, never left out.
    pub fn run(self) -> Result<LogRead, ReadError> {
        let mut records = Vec::new();
        let (from, to) = self.offsets;
        let (mut next, mut left) =
            if self.reverse { (to, (to + 1).saturating_sub(from)) } else { (from, (to + 1).saturating_sub(from)) };
        while left > 0 && records.len() < self.limit {
            let record = self.read(next)?;
            let time = record.time_ms();
            let is_past_end = if self.reverse { time < self.range.from_ms } else { time >= self.range.to_ms };
            if is_past_end {
                break;
            }
            if self.range.contains(time) {
                records.push(record);
            }
            left -= 1;
            next = if self.reverse { next.wrapping_sub(1) } else { next + 1 };
        }
        Ok(LogRead { records, top: self.top, since_is_kept: self.since_is_kept })
    }

    fn read(&self, offset: u64) -> Result<PublicationRecord, ReadError> {
        for part in &self.parts {
            let Ok(at) = part.found.binary_search_by_key(&offset, |&(offset, _)| offset) else { continue };
            let bytes =
                read_record_at(&part.file, part.found[at].1).map_err(|error| ReadError::Io(error.to_string()))?;
            return bytes.and_then(|bytes| publication(&bytes, offset)).ok_or(ReadError::Missing);
        }
        Err(ReadError::Missing)
    }
}

/// The publication with this offset from its record.
fn publication(record: &[u8], offset: u64) -> Option<PublicationRecord> {
    let head = record_head(record).filter(|head| head.kind == Kind::Publication && head.offset == offset)?;
    let body = PublicationBody::read(head.flags, &record[RECORD_HEAD..])?;
    let (data, tags) = (Bytes::copy_from_slice(body.data), Bytes::copy_from_slice(body.tags));
    let read = PublicationRecord::of_broker(offset, data, optional(body.client_info), tags, body.version);
    Some(read.published_at(head.time))
}
