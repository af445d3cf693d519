//! Queries over the past: the publications of a user or with a tag, of all channels of a lane, by time. A plan is made by the
//! lane and runs on any thread; the lane then leaves out what its channels do not have any more.
//!
//! The order is that of (time, class, segment, position), so that a cursor stays right whatever is written, sealed or removed
//! between two pages.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::codec::hash_name;
use super::cursor::{Place, QueryId};
use super::files::Files;
use super::format::{Kind, PublicationBody, RECORD_HEAD, parse_record};
use super::index::{FindRange, Found};
use super::index_build::RunKind;
use super::lane::Lane;
use super::read::record_of;
use super::sealed::{Named, Sealed, named_at};
use super::segment::{SegmentId, read_record_at};
use super::types::ReadError;
use crate::pubsub::{PublicationRecord, TimeRange};

/// Records that one page reads, at most: those that other channels or names have count too.
const EXAMINED_MAX: usize = 4_096;
/// Entries that are taken from an index at once.
const TAKEN: usize = 256;

/// What finds the publications of a query, besides the time. Neither is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueryBy<'a> {
    User(&'a str),
    /// The value of the tag of `NewPublication::tag`.
    Tag(&'a str),
}

/// Whether a query is about a channel.
pub type AcceptChannel = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Clone)]
pub struct Query<'a> {
    pub by: QueryBy<'a>,
    pub range: TimeRange,
    /// Publications, at most.
    pub limit: usize,
    /// The page ends behind the publication that passes it.
    pub bytes_max: usize,
    /// Newest first.
    pub reverse: bool,
    /// Where the page before ended; empty for the first page.
    pub cursor: &'a str,
    pub accepts: AcceptChannel,
}

/// The lane did not make this cursor, or it made it for another query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadCursor;

/// A query whose files are known. It runs on any thread.
pub struct QueryPlan<F: Files> {
    files: Arc<F>,
    id: QueryId,
    kind: RunKind,
    name: Box<str>,
    range: TimeRange,
    limit: usize,
    bytes_max: usize,
    after: Option<Place>,
    accepts: AcceptChannel,
    /// Of each class.
    chains: Vec<Chain<F>>,
}

/// A publication that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundPublication {
    pub channel: Box<str>,
    pub record: PublicationRecord,
    /// Of the channel, when it was made.
    pub(super) epoch: [u8; 6],
}

/// A page. It may be short, or empty, before the last one: only an empty cursor ends a query.
#[derive(Clone, Default, Debug)]
pub struct FoundPage {
    pub publications: Vec<FoundPublication>,
    /// Where the next page begins; empty after the last one.
    pub cursor: Box<str>,
    /// Records that could not be read.
    pub unreadable: usize,
}

/// The segments of a class that are not read yet, in the order of the query.
struct Chain<F: Files> {
    sources: VecDeque<Source<F>>,
    current: Option<Current<F>>,
}

struct Source<F: Files> {
    id: SegmentId,
    file: Arc<F::File>,
    entries: Entries<F>,
}

enum Entries<F: Files> {
    Sealed(Arc<Sealed<F>>),
    /// Of the segment that is written: what was found, in the order of the query, and the positions of its dictionary.
    Active(VecDeque<Found>, Vec<u32>),
}

/// The segment of a chain that is read.
struct Current<F: Files> {
    source: Source<F>,
    taken: VecDeque<Found>,
    /// The index may have more after the last one that was taken.
    has_more: bool,
    last: Option<u32>,
    /// By channel index.
    channels: HashMap<u32, Option<Named>>,
}

impl<F: Files> Lane<F> {
    /// Finds the files of a query, without reading them. Called when nothing is staged, and nothing `Strict` is unsynced.
    pub fn plan_query(&self, query: &Query<'_>) -> Result<QueryPlan<F>, BadCursor> {
        let (kind, name) = match query.by {
            QueryBy::User(name) => (RunKind::Users, name),
            QueryBy::Tag(name) => (RunKind::Tags, name),
        };
        let id = QueryId::new(&self.state.log, kind, name, query.range, query.reverse);
        let after = match query.cursor {
            "" => None,
            cursor => Some(id.place(cursor).ok_or(BadCursor)?),
        };
        let mut plan = QueryPlan {
            files: Arc::clone(&self.files),
            id,
            kind,
            name: name.into(),
            range: query.range,
            limit: query.limit,
            bytes_max: query.bytes_max,
            after,
            accepts: Arc::clone(&query.accepts),
            chains: Vec::new(),
        };
        if query.range.is_empty() || query.limit == 0 || name.is_empty() {
            return Ok(plan);
        }
        for log in &self.classes {
            let mut sources = VecDeque::new();
            for sealed in &log.sealed {
                let (id, file) = (sealed.segment.id, Arc::clone(&sealed.segment.file));
                sources.push_back(Source { id, file, entries: Entries::Sealed(Arc::clone(sealed)) });
            }
            if let Some(active) = &log.active {
                let (id, file) = (active.segment.id, Arc::clone(&active.segment.file));
                let range = plan.find_range(id, None, EXAMINED_MAX);
                let found = range.map_or_else(Vec::new, |range| active.index.by_name(kind, plan.hash(), &range));
                let entries = Entries::Active(found.into(), active.index.dictionary());
                sources.push_back(Source { id, file, entries });
            }
            if query.reverse {
                sources.make_contiguous().reverse();
            }
            plan.chains.push(Chain { sources, current: None });
        }
        Ok(plan)
    }

    /// Leaves out what the channels do not have any more: removed, expired, or beyond their size.
    pub fn keep_visible(&mut self, page: &mut FoundPage, now: u64) {
        let now = self.tick(now);
        page.publications.retain(|found| {
            let Some(slot) = self.channels.find(&found.channel) else { return false };
            let meta = self.channels.get(slot);
            let (first, top) = meta.visible(now);
            !meta.is_forgotten(now) && meta.epoch == found.epoch && (first..=top).contains(&found.record.offset)
        });
    }
}

impl<F: Files> QueryPlan<F> {
    /// Reads a page.
    pub fn run(mut self) -> Result<FoundPage, ReadError> {
        let mut page = FoundPage::default();
        let mut chains = std::mem::take(&mut self.chains);
        let (mut bytes, mut examined) = (0, 0);
        while let Some((place, at)) = self.next(&mut chains)? {
            let current = chains[at].current.as_mut().expect("`next` has found an entry in it");
            let found = current.taken.pop_front().expect("`next` has found an entry in it");
            match self.read(current, found) {
                Ok(Some(publication)) => {
                    bytes += publication.record.bytes() + publication.channel.len();
                    page.publications.push(publication);
                }
                Ok(None) => {}
                Err(_) => page.unreadable += 1,
            }
            examined += 1;
            if page.publications.len() >= self.limit || bytes > self.bytes_max || examined >= EXAMINED_MAX {
                page.cursor = self.id.cursor(place);
                break;
            }
        }
        Ok(page)
    }

    fn hash(&self) -> u64 {
        hash_name(&self.name)
    }

    /// What of a segment the page may have: nothing before the cursor. `after`: what was taken already.
    fn find_range(&self, id: SegmentId, after: Option<u32>, limit: usize) -> Option<FindRange> {
        let (mut first, mut last) = (self.range.from_ms, self.range.to_ms.checked_sub(1)?);
        let mut range = FindRange { times: 0..=0, after, limit, reverse: self.id.reverse };
        if let Some(place) = self.after {
            let is_before = if self.id.reverse { id > place.segment } else { id < place.segment };
            if id.class == place.segment.class && is_before {
                return None;
            }
            if id == place.segment && after.is_none() {
                range.after = Some(place.position);
            }
            // Of one time, the classes come in their order.
            let step = u64::from(is_before);
            match self.id.reverse {
                false => first = first.max(place.time + step),
                true => last = last.min(place.time.checked_sub(step)?),
            }
        }
        range.times = first..=last;
        (!range.times.is_empty()).then_some(range)
    }

    /// The next entry in the order of the query, and its chain.
    fn next(&self, chains: &mut [Chain<F>]) -> Result<Option<(Place, usize)>, ReadError> {
        let mut best: Option<(Place, usize)> = None;
        for (at, chain) in chains.iter_mut().enumerate() {
            let Some(place) = self.front(chain)? else { continue };
            let is_better = best.as_ref().is_none_or(|(best, _)| (place < *best) != self.id.reverse);
            if is_better {
                best = Some((place, at));
            }
        }
        Ok(best)
    }

    /// The first entry of a chain that is left.
    fn front(&self, chain: &mut Chain<F>) -> Result<Option<Place>, ReadError> {
        loop {
            if let Some(current) = &mut chain.current {
                if current.taken.is_empty() && current.has_more {
                    self.take(current)?;
                }
                if let Some(found) = current.taken.front() {
                    let (time, segment, position) = (found.time, current.source.id, found.position);
                    return Ok(Some(Place { time, segment, position }));
                }
            }
            let Some(source) = chain.sources.pop_front() else { return Ok(None) };
            let current =
                Current { source, taken: VecDeque::new(), has_more: true, last: None, channels: HashMap::new() };
            chain.current = Some(current);
        }
    }

    /// Takes the next entries from the index of a segment.
    fn take(&self, current: &mut Current<F>) -> std::io::Result<()> {
        current.has_more = false;
        let source = &mut current.source;
        let Some(range) = self.find_range(source.id, current.last, TAKEN) else { return Ok(()) };
        let sealed = match &mut source.entries {
            Entries::Active(found, _) => {
                current.taken = std::mem::take(found);
                return Ok(());
            }
            Entries::Sealed(sealed) => sealed,
        };
        let found = sealed.with_index(&*self.files, |index| index.by_name(self.kind, self.hash(), &range))?;
        current.has_more = found.len() == TAKEN;
        current.last = found.last().map(|found| found.position).or(current.last);
        current.taken = found.into();
        Ok(())
    }

    /// The publication of an entry, if the query is about it.
    fn read(&self, current: &mut Current<F>, found: Found) -> Result<Option<FoundPublication>, ReadError> {
        let bytes = read_record_at(&current.source.file, found.position)?.ok_or(ReadError::Missing)?;
        let record = parse_record(&bytes, 0).filter(|record| record.head.kind == Kind::Publication);
        let head = record.ok_or(ReadError::Missing)?.head;
        let body = PublicationBody::read(head.flags, &bytes[RECORD_HEAD..]).ok_or(ReadError::Missing)?;
        let name = if self.kind == RunKind::Users { body.user } else { body.tag };
        if *name != *self.name || !self.range.contains(head.time) {
            return Ok(None);
        }
        if !current.channels.contains_key(&head.channel) {
            let channel = current.channel(&*self.files, head.channel)?.filter(|(name, _)| (self.accepts)(name));
            current.channels.insert(head.channel, channel);
        }
        let Some(Some((channel, epoch))) = current.channels.get(&head.channel) else { return Ok(None) };
        Ok(Some(FoundPublication { channel: channel.clone(), record: record_of(&head, &body), epoch: *epoch }))
    }
}

impl<F: Files> Current<F> {
    /// A channel of the segment's dictionary.
    fn channel(&self, files: &F, index: u32) -> Result<Option<Named>, ReadError> {
        let read = match &self.source.entries {
            Entries::Active(_, dictionary) => match dictionary.get(index as usize) {
                Some(&position) => named_at(&self.source.file, position, index),
                None => Ok(None),
            },
            Entries::Sealed(sealed) => sealed.channel(files, index),
        };
        read?.ok_or(ReadError::Missing).map(Some)
    }
}
