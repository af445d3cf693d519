//! Where the records of a segment stand that has no index file yet: the one that is written, and those that were scanned.

use std::collections::HashMap;

use super::codec::{Reader, hash_name};
use super::format::{Kind, PublicationBody, RecordHead};
use super::index::{FindRange, Found};
use super::index_build::{IndexEntry, RunKind, build};

#[derive(Default)]
pub(super) struct MemoryIndex {
    /// By the index of the dictionary.
    runs: Vec<Run>,
    /// The index of a channel, by its slot.
    by_slot: HashMap<u32, u32>,
    entries: Vec<IndexEntry>,
}

/// The publications of a channel.
struct Run {
    /// Of the record that names the channel.
    dictionary: u32,
    channel_hash: u64,
    /// Offsets, which grow, and positions. A gap is in files of another class.
    found: Vec<(u64, u32)>,
}

impl MemoryIndex {
    pub(super) fn index_of(&self, slot: u32) -> Option<u32> {
        self.by_slot.get(&slot).copied()
    }

    /// The index that the next channel gets.
    pub(super) fn next_index(&self) -> u32 {
        self.runs.len() as u32
    }

    /// Notes a record that stands in the segment. `slot`: of the channel that it names, if reads go by slots.
    pub(super) fn add(&mut self, slot: Option<u32>, head: &RecordHead, body: &[u8], position: u32) {
        match head.kind {
            // With an index that is known it only has newer meta.
            Kind::Channel => {
                if head.channel == self.next_index() {
                    let channel_hash = hash_name(Reader(body).text().unwrap_or_default());
                    self.runs.push(Run { dictionary: position, channel_hash, found: Vec::new() });
                }
                if let Some(slot) = slot {
                    self.by_slot.insert(slot, head.channel);
                }
            }
            Kind::Publication => {
                if let Some(body) = PublicationBody::read(head.flags, body) {
                    self.add_publication(head, &body, position);
                }
            }
            _ => {}
        }
    }

    fn add_publication(&mut self, head: &RecordHead, body: &PublicationBody<'_>, position: u32) {
        let Some(run) = self.runs.get_mut(head.channel as usize) else { return };
        // What is written again later counts.
        let before = run.found.partition_point(|&(offset, _)| offset < head.offset);
        run.found.truncate(before);
        run.found.push((head.offset, position));
        let hash = |name: &str| if name.is_empty() { 0 } else { hash_name(name) };
        self.entries.push(IndexEntry {
            channel_hash: run.channel_hash,
            offset: head.offset,
            position,
            time: head.time,
            user_hash: hash(body.user),
            tag_hash: hash(body.tag),
        });
    }

    /// The channel in this slot is forgotten, or another one.
    pub(super) fn forget(&mut self, slot: u32) {
        self.by_slot.remove(&slot);
    }

    /// Everything from this position on is void.
    pub(super) fn cut(&mut self, end: u32) {
        let kept = self.runs.partition_point(|run| run.dictionary < end);
        self.runs.truncate(kept);
        self.by_slot.retain(|_, index| (*index as usize) < kept);
        for run in &mut self.runs {
            run.found.retain(|&(_, position)| position < end);
        }
        self.entries.retain(|entry| entry.position < end);
    }

    /// The positions of the channel's publications with these offsets.
    pub(super) fn find(&self, slot: u32, from: u64, to: u64) -> Vec<(u64, u32)> {
        let Some(run) = self.index_of(slot).and_then(|index| self.runs.get(index as usize)) else { return Vec::new() };
        let from = run.found.partition_point(|&(offset, _)| offset < from);
        run.found[from..].iter().take_while(|&&(offset, _)| offset <= to).copied().collect()
    }

    /// The publications of a user or with a tag, as `SegmentIndex::by_name` gives them.
    pub(super) fn by_name(&self, kind: RunKind, hash: u64, range: &FindRange) -> Vec<Found> {
        let is_after = |position: u32| match range.after {
            Some(after) if range.reverse => position < after,
            after => after.is_none_or(|after| position > after),
        };
        let is_meant = |entry: &&IndexEntry| {
            kind.hash(entry) == hash && range.times.contains(&entry.time) && is_after(entry.position)
        };
        let found = |entry: &IndexEntry| Found { offset: 0, position: entry.position, time: entry.time };
        let all = self.entries.iter().filter(is_meant).map(found);
        if range.reverse { all.rev().take(range.limit).collect() } else { all.take(range.limit).collect() }
    }

    /// The position of each entry of the dictionary.
    pub(super) fn dictionary(&self) -> Vec<u32> {
        self.runs.iter().map(|run| run.dictionary).collect()
    }

    /// The segment is sealed: only what its index file needs is kept.
    pub(super) fn seal(&mut self) {
        self.by_slot = HashMap::new();
        self.runs.iter_mut().for_each(|run| run.found = Vec::new());
    }

    /// The bytes of the index file.
    pub(super) fn build(&self, tag: u64) -> Vec<u8> {
        build(&self.entries, &self.dictionary(), tag)
    }
}
