//! Builds the index of a segment when it is sealed, or again if its file is missing or corrupt.
//!
//! ```text
//! head      128 bytes: magic, numbers, the place of each part, CRC32C
//! blocks    of 4 KiB: CRC32C of block number and payload, payload
//!           channels: runs of (channel hash; offset, position, time), sorted by hash, offset and position
//!           users, tags: runs of (hash; position, time), sorted by hash and position
//!           dictionary: positions, by channel index
//! memory    what a reader keeps in memory, and its CRC32C: a filter and the fences of each kind of runs, the sparse time index
//! ```
//!
//! A fence is the first entry of a block.

use super::codec::{difference, put_varint};
use super::filter::Filter;

pub(super) const MAGIC: &[u8; 8] = b"CCINDEX1";
pub(super) const HEAD_BYTES: usize = 128;
pub(super) const BLOCK_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;
pub(super) const PAYLOAD_BYTES: usize = BLOCK_BYTES - CRC_BYTES;
/// Positions in one block of the dictionary.
pub(super) const DICTIONARY_ENTRIES: usize = PAYLOAD_BYTES / 4;
/// The time index has the time of each so many publications.
pub(super) const TIME_STEP: usize = 1024;
/// At most: the hash and the number of entries of a run, and its first entry.
const ENTRY_BYTES_MAX: usize = 8 + 2 + 3 * 10;

/// One publication of a segment, in the order of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    /// `hash_name` of the channel's name.
    pub(crate) channel_hash: u64,
    pub(crate) offset: u64,
    /// Of the record, in bytes from the beginning of the segment.
    pub(crate) position: u32,
    /// Milliseconds. It never goes back inside a segment.
    pub(crate) time: u64,
    /// `hash_name` of the publisher; 0 for none.
    pub(crate) user_hash: u64,
    /// `hash_name` of the tag's value; 0 for none.
    pub(crate) tag_hash: u64,
}

/// The kinds of runs, in the order of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RunKind {
    Channels = 0,
    Users = 1,
    Tags = 2,
}

impl RunKind {
    pub(super) const ALL: [Self; 3] = [Self::Channels, Self::Users, Self::Tags];

    /// Runs of channels are sorted by offset, and have it in each entry.
    pub(super) fn has_offsets(self) -> bool {
        self == Self::Channels
    }

    pub(super) fn hash(self, entry: &IndexEntry) -> u64 {
        match self {
            Self::Channels => entry.channel_hash,
            Self::Users => entry.user_hash,
            Self::Tags => entry.tag_hash,
        }
    }

    /// The second part of the sort key.
    fn key(self, entry: &IndexEntry) -> u64 {
        if self.has_offsets() { entry.offset } else { u64::from(entry.position) }
    }
}

/// The bytes of the index file. `dictionary`: the position of each dictionary entry of the segment, by channel index.
/// It sorts the entries. `tag`: names the segment.
pub(crate) fn build(entries: &[IndexEntry], dictionary: &[u32], tag: u64) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    let mut memory = Vec::new();
    let mut order: Vec<u32> = Vec::new();
    let mut block_counts = [0u32; 4];
    for kind in RunKind::ALL {
        order.clear();
        order.extend((0..entries.len() as u32).filter(|&at| kind.hash(&entries[at as usize]) != 0));
        order.sort_unstable_by_key(|&at| {
            let entry = &entries[at as usize];
            (kind.hash(entry), kind.key(entry), entry.position)
        });
        let blocks = write_runs(&mut bytes, &mut memory, kind, order.iter().map(|&at| &entries[at as usize]));
        block_counts[kind as usize] = blocks;
    }
    for part in dictionary.chunks(DICTIONARY_ENTRIES) {
        let payload: Vec<u8> = part.iter().flat_map(|position| position.to_le_bytes()).collect();
        put_block(&mut bytes, &payload);
        block_counts[3] += 1;
    }
    let times = entries.iter().step_by(TIME_STEP);
    put_varint(&mut memory, times.len() as u64);
    for entry in times {
        memory.extend_from_slice(&entry.time.to_le_bytes());
        memory.extend_from_slice(&entry.position.to_le_bytes());
    }
    let memory_from = bytes.len();
    bytes.extend_from_slice(&memory);
    let head = Head {
        entries: entries.len() as u32,
        dictionary: dictionary.len() as u32,
        first_time: entries.first().map_or(0, |entry| entry.time),
        last_time: entries.last().map_or(0, |entry| entry.time),
        block_counts,
        memory_from: memory_from as u64,
        memory_bytes: memory.len() as u64,
        memory_crc: crc32c::crc32c(&memory),
        tag,
    };
    bytes[..HEAD_BYTES].copy_from_slice(&head.encode());
    bytes
}

/// What stands at the head of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) entries: u32,
    pub(super) dictionary: u32,
    pub(super) first_time: u64,
    pub(super) last_time: u64,
    /// Of each kind of runs, and of the dictionary.
    pub(super) block_counts: [u32; 4],
    pub(super) memory_from: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_crc: u32,
    pub(super) tag: u64,
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut fields = MAGIC.to_vec();
        fields.extend_from_slice(&self.entries.to_le_bytes());
        fields.extend_from_slice(&self.dictionary.to_le_bytes());
        fields.extend_from_slice(&self.first_time.to_le_bytes());
        fields.extend_from_slice(&self.last_time.to_le_bytes());
        fields.extend(self.block_counts.iter().flat_map(|count| count.to_le_bytes()));
        fields.extend_from_slice(&self.memory_from.to_le_bytes());
        fields.extend_from_slice(&self.memory_bytes.to_le_bytes());
        fields.extend_from_slice(&self.memory_crc.to_le_bytes());
        fields.extend_from_slice(&self.tag.to_le_bytes());
        let mut head = [0; HEAD_BYTES];
        head[..fields.len()].copy_from_slice(&fields);
        let crc = crc32c::crc32c(&head[..HEAD_BYTES - CRC_BYTES]);
        head[HEAD_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        head
    }
}

/// The CRC32C of a block: its number is part of it, so that a block at another place is corrupt.
pub(super) fn block_crc(number: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), payload)
}

fn put_block(bytes: &mut Vec<u8>, payload: &[u8]) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES);
    let number = (bytes.len() - HEAD_BYTES) / BLOCK_BYTES;
    let from = bytes.len();
    bytes.resize(from + BLOCK_BYTES, 0);
    bytes[from + CRC_BYTES..][..payload.len()].copy_from_slice(payload);
    let crc = block_crc(number as u32, &bytes[from + CRC_BYTES..]);
    bytes[from..][..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// A block while it is filled: runs, each a hash, the number of its entries, and the differences between them.
#[derive(Default)]
struct Block {
    payload: Vec<u8>,
    /// The run that is open: its hash, its number of entries, their bytes and the last one.
    run: Option<(u64, u16, Vec<u8>, IndexEntry)>,
}

impl Block {
    fn has_room(&self) -> bool {
        let run = self.run.as_ref().map_or(0, |(_, _, entries, _)| entries.len());
        self.payload.len() + run + 2 * ENTRY_BYTES_MAX <= PAYLOAD_BYTES
    }

    fn push(&mut self, kind: RunKind, entry: &IndexEntry) {
        let hash = kind.hash(entry);
        if self.run.as_ref().is_some_and(|(of, ..)| *of != hash) {
            self.close_run();
        }
        const START: IndexEntry =
            IndexEntry { channel_hash: 0, offset: 0, position: 0, time: 0, user_hash: 0, tag_hash: 0 };
        let (_, count, bytes, last) = self.run.get_or_insert_with(|| (hash, 0, Vec::new(), START));
        if kind.has_offsets() {
            put_varint(bytes, difference(last.offset, entry.offset));
        }
        put_varint(bytes, difference(u64::from(last.position), u64::from(entry.position)));
        put_varint(bytes, difference(last.time, entry.time));
        (*count, *last) = (*count + 1, *entry);
    }

    fn close_run(&mut self) {
        if let Some((hash, count, entries, _)) = self.run.take() {
            self.payload.extend_from_slice(&hash.to_le_bytes());
            self.payload.extend_from_slice(&count.to_le_bytes());
            self.payload.extend_from_slice(&entries);
        }
    }
}

/// Writes the blocks of sorted entries, and their filter and fences to `memory`. Returns the number of blocks.
fn write_runs<'a>(
    bytes: &mut Vec<u8>,
    memory: &mut Vec<u8>,
    kind: RunKind,
    sorted: impl Iterator<Item = &'a IndexEntry> + Clone,
) -> u32 {
    let mut hashes: Vec<u64> = sorted.clone().map(|entry| kind.hash(entry)).collect();
    hashes.dedup();
    let filter = Filter::new(&hashes);
    let (mut block, mut fences) = (Block::default(), Vec::new());
    let mut close = |block: &mut Block| {
        block.close_run();
        put_block(bytes, &block.payload);
        block.payload.clear();
    };
    for entry in sorted {
        if !block.has_room() {
            close(&mut block);
        }
        if block.payload.is_empty() && block.run.is_none() {
            fences.push((kind.hash(entry), kind.key(entry)));
        }
        block.push(kind, entry);
    }
    if !fences.is_empty() {
        close(&mut block);
    }
    put_varint(memory, filter.as_bytes().len() as u64);
    memory.extend_from_slice(filter.as_bytes());
    for (hash, key) in &fences {
        memory.extend_from_slice(&hash.to_le_bytes());
        memory.extend_from_slice(&key.to_le_bytes());
    }
    fences.len() as u32
}
