//! The history of a channel: its last publications and, for a longer time, its position.
//!
//! A reader that asks for everything after a position gets all of it or nothing: a recovery is never reported as complete if
//! publications are missing.
//!
//! Invariants: offsets of the records grow by one and end at the channel's top; their sequence numbers grow; their times
//! never go back; `bytes` is the sum of their costs.

use std::collections::vec_deque::{self, VecDeque};

use super::epoch::Epoch;
use super::position::Position;
use super::publication::PublicationRecord;
use super::retention::{ListKind, ListLinks};
use super::shares::NamespaceNumber;
use super::time::TimeRange;

/// What a channel keeps. A channel has a history if `size` and `ttl_ms` are above 0; without one it keeps no position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct HistoryOptions {
    /// The namespace's number in the settings.
    pub namespace: u16,
    /// Publications.
    pub size: u32,
    /// All publications expire this long after the last one.
    pub ttl_ms: u64,
    /// The position expires this long after its last use; 0 for never.
    pub meta_ttl_ms: u64,
}

impl HistoryOptions {
    #[cfg(test)]
    pub(super) const NONE: Self = Self { namespace: 0, size: 0, ttl_ms: 0, meta_ttl_ms: 0 };

    pub fn has_history(&self) -> bool {
        self.size > 0 && self.ttl_ms > 0
    }
}

/// The position up to which a reader has read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Since {
    /// `None` matches any epoch.
    pub epoch: Option<Epoch>,
    pub offset: u64,
}

impl Since {
    /// From the wire: an empty epoch matches any, and a text that is not an epoch matches none.
    pub(crate) fn new(epoch: &str, offset: u64) -> Self {
        Self { epoch: Epoch::from_client(epoch), offset }
    }

    pub(super) fn is_of_epoch(&self, top: Position) -> bool {
        self.epoch.is_none_or(|epoch| epoch == top.epoch)
    }
}

/// Which part of a history to read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct HistoryFilter {
    /// The part begins after this position, or before it if `reverse`.
    pub since: Option<Since>,
    /// 0 reads only the position; a negative limit reads everything.
    pub limit: i32,
    /// Newest first.
    pub reverse: bool,
}

/// A part of a history.
#[derive(Clone, Debug)]
pub(crate) struct HistorySlice<'a> {
    pub(crate) publications: RecordIter<'a>,
    pub(crate) top: Position,
}

/// The epoch of `HistoryFilter::since` is not the channel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unrecoverable {
    pub(crate) top: Position,
}

/// What a reader lacks, and how much of it the reply may hold.
#[derive(Clone, Copy)]
pub(crate) struct RecoveryRequest<'a> {
    pub(crate) since: Since,
    /// Publications, at most.
    pub(crate) limit: usize,
    pub(crate) mode: RecoveryMode<'a>,
}

/// What counts as recovered.
#[derive(Clone, Copy)]
pub(crate) enum RecoveryMode<'a> {
    /// All publications after the position.
    Stream,
    /// The latest publication that the filter accepts. The filter looks at no more publications than the limit.
    Cache { filter: Option<&'a dyn Fn(&PublicationRecord) -> bool> },
}

#[derive(Clone, Debug)]
pub(crate) struct Recovery<'a> {
    pub(crate) recovered: bool,
    /// The missed publications, oldest first; empty if `recovered` is false.
    pub(crate) publications: RecordIter<'a>,
    pub(crate) top: Position,
}

/// Iterates over a part of a history.
#[derive(Clone, Default, Debug)]
pub(crate) struct RecordIter<'a> {
    records: vec_deque::Iter<'a, PublicationRecord>,
    reverse: bool,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = &'a PublicationRecord;

    fn next(&mut self) -> Option<&'a PublicationRecord> {
        if self.reverse { self.records.next_back() } else { self.records.next() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for RecordIter<'_> {}

/// The publisher's version of the last publication.
#[derive(PartialEq, Eq, Debug)]
struct LastVersion {
    number: u64,
    epoch: Box<str>,
}

/// A channel's history, from its first publication on. Boxed in its channel, since most channels have none.
#[derive(Default)]
pub(super) struct ChannelHistory {
    records: VecDeque<PublicationRecord>,
    bytes: usize,
    /// None if the last publication had no version.
    last_version: Option<Box<LastVersion>>,
    /// The channel's links in the expiry lists of each kind.
    pub(super) links: [ListLinks; ListKind::COUNT],
    pub(super) meta_ttl_ms: u64,
    /// The namespace to which its bytes count.
    pub(super) namespace: NamespaceNumber,
}

impl ChannelHistory {
    pub(super) fn of_records(records: Vec<PublicationRecord>) -> Self {
        Self { records: records.into(), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn last(&self) -> Option<&PublicationRecord> {
        self.records.back()
    }

    /// The records from this sequence number on.
    pub(super) fn records_from(&self, seq: u64) -> RecordIter<'_> {
        let from = self.records.partition_point(|record| record.seq < seq);
        RecordIter { records: self.records.range(from..), reverse: false }
    }

    /// The records after this offset.
    pub(super) fn records_after(&self, offset: u64) -> RecordIter<'_> {
        RecordIter { records: self.records.range(self.index_after(offset)..), reverse: false }
    }

    /// True if a publication with this version is not above the last one.
    pub(super) fn is_stale(&self, version: u64, epoch: &str) -> bool {
        let covers = |last: &LastVersion| (epoch.is_empty() || *epoch == *last.epoch) && version <= last.number;
        version > 0 && self.last_version.as_deref().is_some_and(covers)
    }

    /// The last version with its epoch; 0 for none.
    pub(super) fn version(&self) -> (u64, &str) {
        self.last_version.as_deref().map_or((0, ""), |last| (last.number, &last.epoch))
    }

    /// A version of 0 forgets the last one.
    pub(super) fn set_version(&mut self, version: u64, epoch: &str) {
        let last = || Box::new(LastVersion { number: version, epoch: epoch.into() });
        self.last_version = (version > 0).then(last);
    }

    /// Appends the record and drops the oldest ones beyond `size`.
    pub(super) fn push(&mut self, record: PublicationRecord, size: u32) {
        self.bytes += record.bytes();
        self.records.push_back(record);
        while self.records.len() > size as usize {
            self.bytes -= self.records.pop_front().map_or(0, |record| record.bytes());
        }
    }

    /// Drops the records and frees their memory.
    pub(super) fn clear(&mut self) {
        self.records = VecDeque::new();
        self.bytes = 0;
    }

    /// The indices of the records of a time.
    fn indices_within(&self, range: TimeRange) -> std::ops::Range<usize> {
        if range.is_all() {
            return 0..self.len();
        }
        let first_from = |ms| self.records.partition_point(|record| record.time_ms() < ms);
        first_from(range.from_ms)..first_from(range.to_ms)
    }

    fn index_of(&self, offset: u64) -> Option<usize> {
        let first = self.records.front()?.offset;
        usize::try_from(offset.checked_sub(first)?).ok().filter(|&at| at < self.records.len())
    }

    /// The index of the first record after the offset; the number of records if no record follows it.
    fn index_after(&self, offset: u64) -> usize {
        let first = self.records.front().map_or(0, |record| record.offset);
        usize::try_from(offset.saturating_add(1).saturating_sub(first)).map_or(self.len(), |i| i.min(self.len()))
    }
}

/// Reads a part of a history, as far as it is of a time; `None` is a channel without one.
pub(super) fn read(
    history: Option<&ChannelHistory>,
    top: Position,
    filter: HistoryFilter,
    range: TimeRange,
) -> Result<HistorySlice<'_>, Unrecoverable> {
    if filter.since.is_some_and(|since| !since.is_of_epoch(top)) {
        return Err(Unrecoverable { top });
    }
    let Some(history) = history else { return Ok(HistorySlice { publications: RecordIter::default(), top }) };
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let within = history.indices_within(range);
    let (from, to) = match filter.reverse {
        false => {
            let from = filter.since.map_or(0, |since| history.index_after(since.offset)).max(within.start);
            (from, from.saturating_add(limit).min(within.end))
        }
        true => {
            // If the publication before `since` is not kept, no older one is.
            let before = |since: Since| since.offset.checked_sub(1).and_then(|last| history.index_of(last));
            let to = filter.since.map_or(history.len(), |since| before(since).map_or(0, |last| last + 1));
            let to = to.min(within.end);
            (to.saturating_sub(limit).max(within.start), to)
        }
    };
    let records = history.records.range(from.min(to)..to);
    Ok(HistorySlice { publications: RecordIter { records, reverse: filter.reverse }, top })
}

/// Reads what a reader lacks; `None` is a channel without a history.
pub(super) fn recover<'a>(
    history: Option<&'a ChannelHistory>,
    top: Position,
    request: RecoveryRequest<'_>,
) -> Recovery<'a> {
    let RecoveryRequest { since, limit, mode } = request;
    let none = |recovered| Recovery { recovered, publications: RecordIter::default(), top };
    let RecoveryMode::Cache { filter } = mode else {
        if !since.is_of_epoch(top) || since.offset > top.offset {
            return none(false);
        }
        let missed = top.offset - since.offset;
        let Some(history) = history.filter(|_| missed > 0) else { return none(missed == 0) };
        // The records end at the top: if there are at least `missed` of them, the last ones are the missed ones.
        if missed > limit as u64 || missed > history.len() as u64 {
            return none(false);
        }
        let records = history.records.range(history.len() - missed as usize..);
        return Recovery { recovered: true, publications: RecordIter { records, reverse: false }, top };
    };
    // Unlike above, an empty epoch matches none here: such a client has nothing yet.
    let has_latest = since.offset > 0 && since.offset == top.offset && since.epoch == Some(top.epoch);
    let records = history.map(|history| &history.records).filter(|records| !records.is_empty());
    let Some(records) = records else { return none(has_latest) };
    let found = match filter {
        None => Some(records.len() - 1),
        Some(accepts) => {
            let first = records.len().saturating_sub(limit);
            (first..records.len()).rev().find(|&at| accepts(&records[at]))
        }
    };
    match found {
        None => none(has_latest),
        Some(_) if has_latest => none(true),
        Some(at) => {
            let publications = RecordIter { records: records.range(at..=at), reverse: false };
            Recovery { recovered: true, publications, top }
        }
    }
}
