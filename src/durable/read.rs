//! A read whose files are known: it runs on any thread, while the lane goes on.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::codec::hash_name;
use super::files::Files;
use super::format::{Kind, PublicationBody, RECORD_HEAD, RecordHead, record_head};
use super::sealed::{OpenIndex, Sealed};
use super::segment::read_record_at;
use super::types::{LogRead, ReadError};
use crate::pubsub::{Position, PublicationRecord, TimeRange};
use bytes::Bytes;

/// A read whose files are known. It runs on any thread.
pub struct ReadPlan<F: Files> {
    pub(super) files: Arc<F>,
    pub(super) name: Box<str>,
    /// Of the channel's life.
    pub(super) epoch: [u8; 6],
    /// Of the channel, at the moment of the plan.
    pub top: Position,
    pub since_is_kept: bool,
    /// The offsets to read; empty if the first is above the last.
    pub(super) offsets: (u64, u64),
    pub(super) reverse: bool,
    pub(super) range: TimeRange,
    pub(super) limit: usize,
    /// Newest first: an offset is read from the first part that has it.
    pub(super) parts: Vec<Part<F>>,
}

/// A segment that may have some of the offsets.
pub(super) enum Part<F: Files> {
    /// The one that is written: offsets, which grow, with their positions.
    Active(Arc<F::File>, Vec<(u64, u32)>),
    Sealed(Arc<Sealed<F>>),
    Located(Located<F>),
}

/// A sealed segment in which the offsets were looked up.
pub(super) struct Located<F: Files> {
    sealed: Arc<Sealed<F>>,
    /// By offset and position. Another life of the channel may have the same offsets.
    found: Vec<(u64, u32)>,
    /// Whether an index of the dictionary is this life of the channel.
    is_meant: HashMap<u32, bool>,
}

impl<F: Files> ReadPlan<F> {
    /// There is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.offsets.0 > self.offsets.1
    }

    /// Reads the records. Publications that should be there and cannot be read are an error, never left out.
    pub fn run(mut self) -> Result<LogRead, ReadError> {
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

    fn read(&mut self, offset: u64) -> Result<PublicationRecord, ReadError> {
        let mut at = 0;
        while at < self.parts.len() {
            if let Part::Sealed(sealed) = &self.parts[at] {
                let (sealed, hash) = (Arc::clone(sealed), hash_name(&self.name));
                // What was read already is not needed any more.
                let wanted = if self.reverse { self.offsets.0..=offset } else { offset..=self.offsets.1 };
                let find = |index: &OpenIndex<F>| index.find(hash, wanted.clone(), usize::MAX, false);
                let found = sealed.with_index(&*self.files, find)?;
                let found: Vec<_> = found.iter().map(|found| (found.offset, found.position)).collect();
                if found.is_empty() {
                    self.parts.remove(at);
                    continue;
                }
                self.parts[at] = Part::Located(Located { sealed, found, is_meant: HashMap::new() });
            }
            let meant = (&*self.name, self.epoch);
            let record = match &mut self.parts[at] {
                Part::Active(file, found) => match found.binary_search_by_key(&offset, |&(offset, _)| offset) {
                    Ok(place) => Some(read_record_at(file, found[place].1)?),
                    Err(_) => None,
                },
                Part::Located(located) => located.read(&*self.files, meant, offset)?,
                Part::Sealed(_) => None,
            };
            if let Some(bytes) = record {
                return bytes.and_then(|bytes| publication(&bytes, offset)).ok_or(ReadError::Missing);
            }
            at += 1;
        }
        Err(ReadError::Missing)
    }
}

impl<F: Files> Located<F> {
    /// The record of the channel with this offset. `Some(None)`: it should be there, and cannot be read.
    fn read(&mut self, files: &F, meant: (&str, [u8; 6]), offset: u64) -> io::Result<Option<Option<Vec<u8>>>> {
        let first = self.found.partition_point(|found| found.0 < offset);
        let after = self.found.partition_point(|found| found.0 <= offset);
        for &(_, position) in self.found[first..after].iter().rev() {
            let Some(bytes) = read_record_at(&self.sealed.segment.file, position)? else { return Ok(Some(None)) };
            let Some(channel) = record_head(&bytes).map(|head| head.channel) else { return Ok(Some(None)) };
            let is_meant = match self.is_meant.get(&channel) {
                Some(&is_meant) => is_meant,
                None => {
                    let Some((name, epoch)) = self.sealed.channel(files, channel)? else { return Ok(Some(None)) };
                    *self.is_meant.entry(channel).or_insert((&*name, epoch) == meant)
                }
            };
            if is_meant {
                return Ok(Some(Some(bytes)));
            }
        }
        Ok(None)
    }
}

/// The publication with this offset from its record.
fn publication(record: &[u8], offset: u64) -> Option<PublicationRecord> {
    let head = record_head(record).filter(|head| head.kind == Kind::Publication && head.offset == offset)?;
    let body = PublicationBody::read(head.flags, &record[RECORD_HEAD..])?;
    Some(record_of(&head, &body))
}

pub(super) fn record_of(head: &RecordHead, body: &PublicationBody<'_>) -> PublicationRecord {
    let (data, tags) = (Bytes::copy_from_slice(body.data), Bytes::copy_from_slice(body.tags));
    let client_info = (!body.client_info.is_empty()).then(|| Bytes::copy_from_slice(body.client_info));
    PublicationRecord::of_broker(head.offset, data, client_info, tags, body.version).published_at(head.time)
}
