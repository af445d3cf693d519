//! What a channel keeps of its past: its last publications, and for longer than those its position.
//!
//! Who read up to a position is owed what came behind it, all of it or none: a reader is never told that he has recovered
//! what he has not.
//!
//! Invariants: offsets of the records grow by one and end at the channel's top; their sequence numbers grow; `bytes` is
//! the sum of what they cost.

use std::collections::vec_deque::{self, VecDeque};

use bytes::Bytes;

use super::retention::Place;
use super::{EpochText, Position};

/// What a channel keeps. It keeps a history where `size` and `ttl` both are above 0, and no position without one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StreamOptions {
    /// Publications.
    pub size: u32,
    /// Milliseconds from the last publication to the end of all of them.
    pub ttl: u64,
    /// Milliseconds from the last use to the end of the position; 0 for never.
    pub meta_ttl: u64,
}

impl StreamOptions {
    pub const NONE: Self = Self { size: 0, ttl: 0, meta_ttl: 0 };

    pub fn keeps(&self) -> bool {
        self.size > 0 && self.ttl > 0
    }
}

/// A publication as history keeps it: what every form is encoded from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub offset: u64,
    /// The payload. Shared by whoever is still to be sent it.
    pub data: Bytes,
    /// The publishing client as others see it, packed by the caller.
    pub who: Option<Bytes>,
    /// The payload is JSON.
    pub json: bool,
    /// Packed by the caller; empty for none.
    pub tags: Bytes,
    /// As the publisher counts; 0 for none.
    pub version: u64,
    /// When it was stamped, milliseconds.
    pub time: u64,
    /// Its place among all deliveries of the channel, those without an offset included.
    pub(crate) seq: u64,
}

impl Record {
    /// What it takes of the memory that histories may have.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.data.len() + self.who.as_ref().map_or(0, Bytes::len) + self.tags.len()
    }
}

/// Up to where a reader has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Since {
    /// `None` takes whatever epoch the channel has.
    pub epoch: Option<u32>,
    pub offset: u64,
}

impl Since {
    /// As peers say it: the empty epoch takes any, and what no epoch is written as is one that no channel has.
    pub fn new(epoch: &str, offset: u64) -> Self {
        let epoch = (!epoch.is_empty()).then(|| EpochText::parse(epoch).unwrap_or(0));
        Self { epoch, offset }
    }

    fn fits(&self, top: Position) -> bool {
        self.epoch.is_none_or(|epoch| epoch == top.epoch)
    }
}

/// What a history is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Query {
    /// Begins behind it, or before it where `reverse`.
    pub since: Option<Since>,
    /// 0 asks for the position alone; below 0 for all there is.
    pub limit: i32,
    /// Newest first.
    pub reverse: bool,
}

#[derive(Clone, Debug)]
pub struct History<'a> {
    pub publications: Records<'a>,
    pub top: Position,
}

/// The position asked from belongs to another life of the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unrecoverable {
    pub top: Position,
}

/// What counts as recovered.
#[derive(Clone, Copy)]
pub enum RecoveryMode<'a> {
    /// All that was missed.
    Stream,
    /// The latest publication alone, of those that the reader wants: a filter looks at no more than the limit.
    Cache { wanted: Option<&'a dyn Fn(&Record) -> bool> },
}

#[derive(Clone, Debug)]
pub struct Recovery<'a> {
    pub recovered: bool,
    /// What was missed, oldest first; nothing where it was not recovered.
    pub publications: Records<'a>,
    pub top: Position,
}

/// A run of a history.
#[derive(Clone, Default, Debug)]
pub struct Records<'a> {
    run: vec_deque::Iter<'a, Record>,
    reverse: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a Record;

    fn next(&mut self) -> Option<&'a Record> {
        if self.reverse { self.run.next_back() } else { self.run.next() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.run.size_hint()
    }
}

impl ExactSizeIterator for Records<'_> {}

/// The version that a publisher's own state has.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Version {
    pub number: u64,
    pub epoch: Box<str>,
}

/// Behind a pointer: most channels have none.
#[derive(Default)]
pub(crate) struct Stream {
    records: VecDeque<Record>,
    bytes: usize,
    /// Of the last publication, where it had one.
    pub version: Option<Box<Version>>,
    /// Where the channel stands in the lanes of each kind.
    pub places: [Place; 2],
    pub meta_ttl: u64,
}

impl Stream {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn last(&self) -> Option<&Record> {
        self.records.back()
    }

    /// The record with this sequence number, or the next there is.
    pub fn records_at(&self, seq: u64) -> Records<'_> {
        let from = self.records.partition_point(|record| record.seq < seq);
        Records { run: self.records.range(from..), reverse: false }
    }

    /// Whether a publication with this version changes nothing any more.
    pub fn has_version(&self, version: u64, epoch: &str) -> bool {
        let has = |last: &Version| (epoch.is_empty() || *epoch == *last.epoch) && version <= last.number;
        version > 0 && self.version.as_deref().is_some_and(has)
    }

    pub fn push(&mut self, record: Record, size: u32) {
        self.bytes += record.bytes();
        self.records.push_back(record);
        while self.records.len() > size as usize {
            self.bytes -= self.records.pop_front().map_or(0, |record| record.bytes());
        }
    }

    /// Gives the memory back too.
    pub fn clear(&mut self) {
        self.records = VecDeque::new();
        self.bytes = 0;
    }

    fn index_of(&self, offset: u64) -> Option<usize> {
        let first = self.records.front()?.offset;
        usize::try_from(offset.checked_sub(first)?).ok().filter(|&at| at < self.records.len())
    }

    /// The index of the first record behind the offset; the number of records where there is none.
    fn behind(&self, offset: u64) -> usize {
        let first = self.records.front().map_or(0, |record| record.offset);
        usize::try_from(offset.saturating_add(1).saturating_sub(first)).map_or(self.len(), |i| i.min(self.len()))
    }
}

/// A channel's past as readers see it: `None` stands for a channel that keeps nothing.
pub(crate) fn history(stream: Option<&Stream>, top: Position, query: Query) -> Result<History<'_>, Unrecoverable> {
    if query.since.is_some_and(|since| !since.fits(top)) {
        return Err(Unrecoverable { top });
    }
    let Some(stream) = stream else { return Ok(History { publications: Records::default(), top }) };
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let records = &stream.records;
    let run = match query.since {
        _ if !query.reverse => {
            let from = query.since.map_or(0, |since| stream.behind(since.offset));
            records.range(from..from.saturating_add(limit).min(records.len()))
        }
        None => records.range(records.len().saturating_sub(limit)..),
        // Backwards from a publication that is not kept there is nothing: what lies before it is not kept either.
        Some(since) => {
            let to = since.offset.checked_sub(1).and_then(|last| stream.index_of(last)).map_or(0, |last| last + 1);
            records.range(to.saturating_sub(limit)..to)
        }
    };
    Ok(History { publications: Records { run, reverse: query.reverse }, top })
}

/// What a reader gets who read up to `since`. `limit` is the most that he may be owed.
pub(crate) fn recover<'a>(
    stream: Option<&'a Stream>,
    top: Position,
    since: Since,
    limit: usize,
    mode: RecoveryMode<'_>,
) -> Recovery<'a> {
    let none = |recovered| Recovery { recovered, publications: Records::default(), top };
    let RecoveryMode::Cache { wanted } = mode else {
        if !since.fits(top) || since.offset > top.offset {
            return none(false);
        }
        let missed = top.offset - since.offset;
        let Some(stream) = stream.filter(|_| missed > 0) else { return none(missed == 0) };
        // The records end at the top, so that they hold what was missed where there are that many.
        if missed > limit as u64 || missed > stream.len() as u64 {
            return none(false);
        }
        let run = stream.records.range(stream.len() - missed as usize..);
        return Recovery { recovered: true, publications: Records { run, reverse: false }, top };
    };
    // Here an empty epoch is the client's own business: it knows nothing.
    let has_it = since.offset > 0 && since.offset == top.offset && since.epoch == Some(top.epoch);
    let records = stream.map(|stream| &stream.records).filter(|records| !records.is_empty());
    let Some(records) = records else { return none(has_it) };
    let found = match wanted {
        None => Some(records.len() - 1),
        Some(wanted) => {
            let reach = records.len().saturating_sub(limit);
            (reach..records.len()).rev().find(|&at| wanted(&records[at]))
        }
    };
    match found {
        None => none(has_it),
        Some(_) if has_it => none(true),
        Some(at) => {
            Recovery { recovered: true, publications: Records { run: records.range(at..=at), reverse: false }, top }
        }
    }
}
