//! The index of a sealed segment. Only its filters and its fences are in memory; the rest is read in blocks of 4 KiB.
//!
//! A page of one channel, user or tag reads the blocks that hold it and no others.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;

use super::codec::{ReadAt, Reader, add_difference};
use super::filter::Filter;
use super::index_build::{BLOCK_BYTES, DICTIONARY_ENTRIES, HEAD_BYTES, Head, MAGIC, PAYLOAD_BYTES, RunKind, block_crc};

/// A publication that the index has found. The record itself decides: two names may have one hash, and a channel that
/// begins a new epoch uses its offsets again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// 0 if it was found by user or tag.
    pub(crate) offset: u64,
    /// Of the record, in bytes from the beginning of the segment.
    pub(crate) position: u32,
    /// Milliseconds.
    pub(crate) time: u64,
}

/// Which publications of a user or with a tag to find.
#[derive(Clone, Debug)]
pub(crate) struct FindRange {
    /// Milliseconds, both inclusive.
    pub(crate) times: RangeInclusive<u64>,
    /// Only those after this position, or before it if `reverse`.
    pub(crate) after: Option<u32>,
    pub(crate) limit: usize,
    /// Newest first.
    pub(crate) reverse: bool,
}

/// Why an index cannot be used. In both cases: read the segment instead, and build the index again.
#[derive(Debug)]
pub(crate) enum IndexError {
    Corrupt,
    Read(io::Error),
}

/// What is in memory of one kind of runs.
struct Runs {
    /// Of the file.
    first_block: u32,
    filter: Filter,
    /// The hash and the key (offset or position) of the first entry of each block.
    fences: Box<[(u64, u64)]>,
}

pub(crate) struct SegmentIndex<F> {
    file: F,
    head: Head,
    /// By `RunKind`.
    runs: [Runs; 3],
    /// The time and the position of each 1,024th publication, in the order of the file.
    times: Box<[(u64, u32)]>,
}

/// What a search takes from the entries of one hash.
struct Search {
    kind: RunKind,
    hash: u64,
    /// Offsets or positions.
    keys: RangeInclusive<u64>,
    times: RangeInclusive<u64>,
    limit: usize,
    reverse: bool,
}

impl<F: ReadAt> SegmentIndex<F> {
    pub(crate) fn open(file: F) -> Result<Self, IndexError> {
        let mut bytes = [0; HEAD_BYTES];
        let length = file.bytes().map_err(IndexError::Read)?;
        if length < HEAD_BYTES as u64 {
            return Err(IndexError::Corrupt);
        }
        file.read_exact_at(&mut bytes, 0).map_err(IndexError::Read)?;
        let head = Head::decode(&bytes).filter(|head| head.fits(length)).ok_or(IndexError::Corrupt)?;
        let mut memory = vec![0; head.memory_bytes as usize];
        file.read_exact_at(&mut memory, head.memory_from).map_err(IndexError::Read)?;
        if crc32c::crc32c(&memory) != head.memory_crc {
            return Err(IndexError::Corrupt);
        }
        let (runs, times) = decode_memory(&head, &memory).ok_or(IndexError::Corrupt)?;
        Ok(Self { file, head, runs, times })
    }

    /// What it was built for.
    pub(crate) fn tag(&self) -> u64 {
        self.head.tag
    }

    /// The times of the first and of the last publication; `None` without publications.
    pub(crate) fn times(&self) -> Option<RangeInclusive<u64>> {
        (self.head.entries > 0).then_some(self.head.first_time..=self.head.last_time)
    }

    /// The publications of a channel with these offsets: the first `limit` by offset and position, or the last ones if
    /// `reverse`, which then come in the reverse order.
    pub(crate) fn find(
        &self,
        channel_hash: u64,
        offsets: RangeInclusive<u64>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Found>, IndexError> {
        let kind = RunKind::Channels;
        self.search(&Search { kind, hash: channel_hash, keys: offsets, times: 0..=u64::MAX, limit, reverse })
    }

    /// The part of the segment outside which no publication has such a time, in positions of records.
    pub(crate) fn by_time(&self, times: &RangeInclusive<u64>) -> Option<RangeInclusive<u32>> {
        let own = self.times()?;
        if times.is_empty() || times.start() > own.end() || times.end() < own.start() {
            return None;
        }
        // A publication of the first time may stand before the first entry that has this time.
        let first = self.times.partition_point(|(time, _)| time < times.start()).saturating_sub(1);
        let after_last = self.times.partition_point(|(time, _)| time <= times.end());
        let last = self.times.get(after_last).map_or(u32::MAX, |&(_, position)| position.saturating_sub(1));
        Some(self.times[first].1..=last)
    }

    /// The position of the dictionary entry with this channel index, so that the channel of a record can be read.
    pub(crate) fn dictionary_entry(&self, channel: u32) -> Result<Option<u32>, IndexError> {
        if channel >= self.head.dictionary {
            return Ok(None);
        }
        let at = channel as usize;
        let blocks: u32 = self.head.block_counts[..3].iter().sum();
        let payload = self.read_block(blocks + (at / DICTIONARY_ENTRIES) as u32)?;
        let entry = payload[at % DICTIONARY_ENTRIES * 4..].first_chunk().ok_or(IndexError::Corrupt)?;
        Ok(Some(u32::from_le_bytes(*entry)))
    }

    /// The last offset of each channel hash. It reads all blocks of channels.
    pub(crate) fn last_offsets(&self) -> Result<HashMap<u64, u64>, IndexError> {
        let mut last = HashMap::new();
        let runs = &self.runs[RunKind::Channels as usize];
        for block in 0..runs.fences.len() {
            let payload = self.read_block(runs.first_block + block as u32)?;
            decode_last_offsets(&payload, &mut last).ok_or(IndexError::Corrupt)?;
        }
        Ok(last)
    }

    /// What it takes in memory.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let runs = |runs: &Runs| runs.filter.as_bytes().len() + size_of_val(&*runs.fences);
        size_of::<Self>() + self.runs.iter().map(runs).sum::<usize>() + size_of_val(&*self.times)
    }

    /// The publications of a user, or with a tag.
    pub(crate) fn by_name(&self, kind: RunKind, hash: u64, range: &FindRange) -> Result<Vec<Found>, IndexError> {
        let Some(positions) = self.by_time(&range.times) else { return Ok(Vec::new()) };
        let (mut first, mut last) = (u64::from(*positions.start()), u64::from(*positions.end()));
        match range.after.map(u64::from) {
            Some(after) if range.reverse => match after.checked_sub(1) {
                Some(before) => last = last.min(before),
                None => return Ok(Vec::new()),
            },
            Some(after) => first = first.max(after + 1),
            None => {}
        }
        let (times, limit, reverse) = (range.times.clone(), range.limit, range.reverse);
        self.search(&Search { kind, hash, keys: first..=last, times, limit, reverse })
    }

    fn search(&self, search: &Search) -> Result<Vec<Found>, IndexError> {
        let runs = &self.runs[search.kind as usize];
        let mut found = Vec::new();
        if search.keys.is_empty() || search.limit == 0 || search.hash == 0 || !runs.filter.may_have(search.hash) {
            return Ok(found);
        }
        // The first block may begin before the first key; entries with one key may be in several blocks.
        let first = runs.fences.partition_point(|fence| *fence < (search.hash, *search.keys.start())).saturating_sub(1);
        let after = runs.fences.partition_point(|fence| *fence <= (search.hash, *search.keys.end()));
        let mut in_block = Vec::new();
        for step in 0..after.saturating_sub(first) {
            let block = if search.reverse { after - 1 - step } else { first + step };
            in_block.clear();
            let payload = self.read_block(runs.first_block + block as u32)?;
            decode_runs(&payload, search, &mut in_block).ok_or(IndexError::Corrupt)?;
            let room = search.limit - found.len();
            match search.reverse {
                true => found.extend(in_block.iter().rev().take(room)),
                false => found.extend(in_block.iter().take(room)),
            }
            if found.len() == search.limit {
                break;
            }
        }
        Ok(found)
    }

    fn read_block(&self, number: u32) -> Result<[u8; PAYLOAD_BYTES], IndexError> {
        let mut block = [0; BLOCK_BYTES];
        let position = HEAD_BYTES as u64 + u64::from(number) * BLOCK_BYTES as u64;
        self.file.read_exact_at(&mut block, position).map_err(IndexError::Read)?;
        let (crc, payload) = block.split_first_chunk().expect("a block is longer than its checksum");
        if u32::from_le_bytes(*crc) != block_crc(number, payload) {
            return Err(IndexError::Corrupt);
        }
        payload.try_into().map_err(|_| IndexError::Corrupt)
    }
}

impl Head {
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (fields, crc) = bytes.split_last_chunk()?;
        if crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut reader = Reader(fields);
        if reader.array()? != *MAGIC {
            return None;
        }
        Some(Self {
            entries: reader.u32()?,
            dictionary: reader.u32()?,
            first_time: reader.u64()?,
            last_time: reader.u64()?,
            block_counts: [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?],
            memory_from: reader.u64()?,
            memory_bytes: reader.u64()?,
            memory_crc: reader.u32()?,
            tag: reader.u64()?,
        })
    }

    /// The parts are where they must be in a file of this length.
    fn fits(&self, length: u64) -> bool {
        let blocks: u64 = self.block_counts.iter().map(|&count| u64::from(count)).sum();
        let dictionary_blocks = (self.dictionary as usize).div_ceil(DICTIONARY_ENTRIES);
        self.memory_from == HEAD_BYTES as u64 + blocks * BLOCK_BYTES as u64
            && self.memory_from.checked_add(self.memory_bytes) == Some(length)
            && dictionary_blocks == self.block_counts[3] as usize
    }
}

/// The runs of each kind, and sparse times with their positions.
type Memory = ([Runs; 3], Box<[(u64, u32)]>);

fn decode_memory(head: &Head, memory: &[u8]) -> Option<Memory> {
    let mut reader = Reader(memory);
    let mut first_block = 0;
    let mut runs = |kind: RunKind| {
        let filter_bytes = usize::try_from(reader.varint()?).ok()?;
        let filter = Filter::of_bytes(reader.take(filter_bytes)?);
        let count = head.block_counts[kind as usize];
        let fences = (0..count).map(|_| Some((reader.u64()?, reader.u64()?))).collect::<Option<_>>()?;
        let first = first_block;
        first_block += count;
        Some(Runs { first_block: first, filter, fences })
    };
    let runs = [runs(RunKind::Channels)?, runs(RunKind::Users)?, runs(RunKind::Tags)?];
    let count = reader.varint()?;
    let times: Box<[_]> = (0..count).map(|_| Some((reader.u64()?, reader.u32()?))).collect::<Option<_>>()?;
    let is_whole = reader.is_empty() && (times.is_empty() == (head.entries == 0));
    is_whole.then_some((runs, times))
}

/// Adds the entries of a block that the search accepts, in the order of the block. `None`: the block is not what it must be.
fn decode_runs(payload: &[u8], search: &Search, found: &mut Vec<Found>) -> Option<()> {
    let mut reader = Reader(payload);
    // Zeros end the runs: no hash is 0.
    while let Some(hash) = reader.u64().filter(|&hash| hash != 0 && hash <= search.hash) {
        let count = reader.u16()?;
        let mut last = Found { offset: 0, position: 0, time: 0 };
        for _ in 0..count {
            if search.kind.has_offsets() {
                last.offset = add_difference(last.offset, reader.varint()?);
            }
            let position = add_difference(u64::from(last.position), reader.varint()?);
            last.position = u32::try_from(position).ok()?;
            last.time = add_difference(last.time, reader.varint()?);
            let key = if search.kind.has_offsets() { last.offset } else { position };
            if hash == search.hash && search.keys.contains(&key) && search.times.contains(&last.time) {
                found.push(last);
            }
        }
    }
    Some(())
}

/// The last offsets of a block of channels.
fn decode_last_offsets(payload: &[u8], last: &mut HashMap<u64, u64>) -> Option<()> {
    let mut reader = Reader(payload);
    while let Some(hash) = reader.u64().filter(|&hash| hash != 0) {
        let mut offset = 0;
        for _ in 0..reader.u16()? {
            offset = add_difference(offset, reader.varint()?);
            reader.varint()?;
            reader.varint()?;
        }
        let known = last.entry(hash).or_default();
        *known = offset.max(*known);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::codec::hash_name;
    use super::super::codec::test_file::Bytes;
    use super::super::index_build::{IndexEntry, build};
    use super::*;

    /// Publications in the order of a segment: channels, users and tags of different sizes; some channels begin anew.
    fn entries(count: u32, rng: &mut fastrand::Rng) -> Vec<IndexEntry> {
        let (mut tops, mut time, mut position) = (vec![0u64; 300], 1_790_000_000_000, 4096);
        let name = |prefix: &str, n: usize| hash_name(&format!("{prefix}{n}"));
        let mut entry = || {
            let channel = (rng.f64().powi(3) * 300.0) as usize;
            tops[channel] = if rng.u32(..500) == 0 { 1 } else { tops[channel] + 1 };
            (time, position) = (time + rng.u64(..3), position + rng.u32(60..400));
            IndexEntry {
                channel_hash: name("channel", channel),
                offset: tops[channel],
                position,
                time,
                user_hash: if rng.bool() { name("user", rng.usize(..40)) } else { 0 },
                tag_hash: if rng.u32(..4) == 0 { name("tag", rng.usize(..5)) } else { 0 },
            }
        };
        (0..count).map(|_| entry()).collect()
    }

    fn open(entries: &[IndexEntry]) -> SegmentIndex<Bytes> {
        let dictionary: Vec<u32> = (0..2_000).map(|n| n * 7).collect();
        SegmentIndex::open(Bytes::new(build(entries, &dictionary, 7))).expect("not corrupt")
    }

    /// What `find` has to give, from all entries.
    fn find_in(entries: &[IndexEntry], hash: u64, offsets: &RangeInclusive<u64>, reverse: bool) -> Vec<Found> {
        let is_meant = |entry: &&IndexEntry| entry.channel_hash == hash && offsets.contains(&entry.offset);
        let found = |entry: &IndexEntry| Found { offset: entry.offset, position: entry.position, time: entry.time };
        let mut all: Vec<_> = entries.iter().filter(is_meant).map(found).collect();
        all.sort_by_key(|found| (found.offset, found.position));
        if reverse {
            all.reverse();
        }
        all
    }

    fn by_in(entries: &[IndexEntry], hash: u64, of: fn(&IndexEntry) -> u64, range: &FindRange) -> Vec<Found> {
        let is_after = |position: u32| match range.after {
            Some(after) if range.reverse => position < after,
            Some(after) => position > after,
            None => true,
        };
        let is_meant =
            |entry: &&IndexEntry| of(entry) == hash && range.times.contains(&entry.time) && is_after(entry.position);
        let found = |entry: &IndexEntry| Found { offset: 0, position: entry.position, time: entry.time };
        let mut all: Vec<_> = entries.iter().filter(is_meant).map(found).collect();
        if range.reverse {
            all.reverse();
        }
        all.truncate(range.limit);
        all
    }

    #[test]
    fn index_answers_as_a_list_of_all_publications() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let entries = entries(30_000, &mut rng);
        let index = open(&entries);
        let (first, last) = (entries[0].time, entries[entries.len() - 1].time);
        assert_eq!((index.tag(), index.times()), (7, Some(first..=last)));
        let mut tops = HashMap::new();
        for entry in &entries {
            let top = tops.entry(entry.channel_hash).or_insert(0);
            *top = entry.offset.max(*top);
        }
        assert_eq!(index.last_offsets().expect("not corrupt"), tops);
        for _ in 0..1_000 {
            let entry = *rng.choice(&entries).expect("not empty");
            let (reverse, limit) = (rng.bool(), *rng.choice(&[1, 3, 100, usize::MAX]).expect("not empty"));
            let offsets = entry.offset.saturating_sub(rng.u64(..50))..=entry.offset + rng.u64(..50);
            let mut wanted = find_in(&entries, entry.channel_hash, &offsets, reverse);
            wanted.truncate(limit);
            let found = index.find(entry.channel_hash, offsets, limit, reverse).expect("not corrupt");
            assert_eq!(found, wanted, "seed {seed}");
            let times = rng.u64(first - 5..=last)..=rng.u64(first..=last + 5);
            let after = rng.bool().then(|| rng.choice(&entries).expect("not empty").position);
            let range = FindRange { times, after, limit, reverse };
            let found = index.by_name(RunKind::Users, entry.user_hash, &range).expect("not corrupt");
            let wanted =
                if entry.user_hash == 0 { vec![] } else { by_in(&entries, entry.user_hash, |e| e.user_hash, &range) };
            assert_eq!(found, wanted, "seed {seed}");
            let found = index.by_name(RunKind::Tags, entry.tag_hash, &range).expect("not corrupt");
            let wanted =
                if entry.tag_hash == 0 { vec![] } else { by_in(&entries, entry.tag_hash, |e| e.tag_hash, &range) };
            assert_eq!(found, wanted, "seed {seed}");
            let inside = index.by_time(&range.times);
            let of_time = entries.iter().filter(|entry| range.times.contains(&entry.time));
            assert!(of_time.clone().all(|entry| inside.as_ref().is_some_and(|part| part.contains(&entry.position))));
            let scanned = entries.iter().filter(|e| inside.as_ref().is_some_and(|part| part.contains(&e.position)));
            assert!(scanned.count() <= of_time.count() + 3 * 1024, "seed {seed}");
        }
        assert!((0..2_000).all(|n| index.dictionary_entry(n).expect("not corrupt") == Some(n * 7)));
        assert_eq!(index.dictionary_entry(2_000).expect("not corrupt"), None);
    }

    #[test]
    fn index_of_an_empty_segment_finds_nothing() {
        let index = SegmentIndex::open(Bytes::new(build(&[], &[], 7))).expect("not corrupt");
        assert_eq!((index.times(), index.by_time(&(0..=u64::MAX))), (None, None));
        assert_eq!(index.find(1, 0..=u64::MAX, 9, false).expect("not corrupt"), []);
    }

    #[test]
    fn flipped_or_missing_byte_gives_no_wrong_publication_and_no_panic() {
        let entries = entries(600, &mut fastrand::Rng::with_seed(1));
        let bytes = build(&entries, &[1, 2, 3], 7);
        let entry = entries[300];
        let times = 0..=u64::MAX;
        let range = FindRange { times, after: None, limit: 1_000, reverse: false };
        let user = entries.iter().find(|entry| entry.user_hash != 0).expect("half of them").user_hash;
        let right = (
            find_in(&entries, entry.channel_hash, &(0..=u64::MAX), false),
            by_in(&entries, user, |entry| entry.user_hash, &range),
            Some(2),
        );
        let check = |bytes: Vec<u8>, what: &str| {
            let Ok(index) = SegmentIndex::open(Bytes::new(bytes)) else { return };
            let found = index.find(entry.channel_hash, 0..=u64::MAX, 1_000, false);
            assert!(found.is_ok_and(|found| found == right.0) || what != "whole");
            if let Ok(found) = index.find(entry.channel_hash, 0..=u64::MAX, 1_000, false) {
                assert_eq!(found, right.0, "{what}");
            }
            if let Ok(found) = index.by_name(RunKind::Users, user, &range) {
                assert_eq!(found, right.1, "{what}");
            }
            if let Ok(found) = index.dictionary_entry(1) {
                assert_eq!(found, right.2, "{what}");
            }
        };
        check(bytes.clone(), "whole");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            check(flipped, &format!("byte {at}"));
        }
        for end in (0..bytes.len()).step_by(97) {
            assert!(SegmentIndex::open(Bytes::new(bytes[..end].to_vec())).is_err());
        }
    }

    #[test]
    fn page_reads_few_blocks_and_a_publication_takes_few_bytes() {
        let entries = entries(200_000, &mut fastrand::Rng::with_seed(2));
        let bytes = build(&entries, &[], 7);
        let table = bytes.len() as f64 / entries.len() as f64;
        assert!(table < 12.0, "{table} bytes a publication, with user and tag");
        let index = SegmentIndex::open(Bytes::new(bytes)).expect("not corrupt");
        // 200,000 publications of 256 bytes are a segment of 64 MiB.
        assert!(index.bytes() < 20_000, "{} bytes in memory", index.bytes());
        index.file.1.set(0);
        let range = FindRange { times: 0..=u64::MAX, after: None, limit: 100, reverse: true };
        assert_eq!(index.by_name(RunKind::Users, hash_name("user7"), &range).expect("not corrupt").len(), 100);
        assert!(index.file.1.get() <= 2, "{} reads for a page", index.file.1.get());
        index.file.1.set(0);
        assert_eq!(index.by_name(RunKind::Users, hash_name("unknown"), &range).expect("not corrupt"), []);
        assert_eq!(index.file.1.get(), 0);
    }
}
