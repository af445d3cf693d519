//! A segment: one file of batches, what its header says, and how it is scanned.

use std::io;
use std::sync::Arc;

use super::codec::ReadAt;
use super::files::{File, Files};
use super::format::{BATCH_HEAD, FORMAT, Record, batch_length, parse_record, read_batch, read_record, u32_at, u64_at};

pub(super) const HEADER: u32 = 4096;
const MAGIC: &[u8; 8] = b"CorLogSg";
/// Bytes that the header uses, without its checksum.
const HEADER_USED: usize = 60;
/// What is read of a segment at once.
const READ_BYTES: usize = 1 << 20;
/// What is read of a record at first.
const RECORD_GUESS: usize = 512;

/// Retention classes: publications that expire at about the same time are in the same files.
const CLASS_TTL_MAX: [u64; 7] = [60_000, 600_000, 3_600_000, 21_600_000, 86_400_000, 7 * 86_400_000, 30 * 86_400_000];
pub(super) const CLASSES: u8 = CLASS_TTL_MAX.len() as u8 + 1;
/// The last class whose segments are small.
const SMALL_CLASS: u8 = 1;
const SMALL_BYTES: u64 = 8 << 20;

pub(super) fn class_of(history_ttl_ms: u64) -> u8 {
    CLASS_TTL_MAX.partition_point(|&ttl| ttl < history_ttl_ms) as u8
}

pub(super) fn segment_bytes(class: u8, bytes: u64) -> u64 {
    let bytes = bytes.clamp(2 * u64::from(HEADER), u64::from(u32::MAX) / 8 * 8);
    if class <= SMALL_CLASS { bytes.min(SMALL_BYTES) } else { bytes }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct SegmentId {
    pub(super) class: u8,
    pub(super) sequence: u64,
}

impl SegmentId {
    pub(super) fn file_name(self) -> String {
        format!("{}-{:016x}.seg", self.class, self.sequence)
    }

    pub(super) fn index_name(self) -> String {
        format!("{}-{:016x}.idx", self.class, self.sequence)
    }

    /// Of an index that is being written.
    pub(super) fn index_name_new(self) -> String {
        format!("{}.new", self.index_name())
    }

    /// From the name of a segment's file.
    pub(super) fn of_file_name(name: &str) -> Option<Self> {
        Self::of_stem(name.strip_suffix(".seg")?).filter(|id| id.file_name() == name)
    }

    /// From the name of an index.
    pub(super) fn of_index_name(name: &str) -> Option<Self> {
        Self::of_stem(name.strip_suffix(".idx")?).filter(|id| id.index_name() == name)
    }

    fn of_stem(stem: &str) -> Option<Self> {
        let (class, sequence) = stem.split_once('-')?;
        let id = Self { class: class.parse().ok()?, sequence: u64::from_str_radix(sequence, 16).ok()? };
        (id.class < CLASSES).then_some(id)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) id: SegmentId,
    pub(super) lane: u16,
    pub(super) created: u64,
    pub(super) boot_id: [u8; 16],
    /// Begins the checksums of the batches.
    pub(super) salt: u32,
    /// Where the segment before it in its class ends; what stands behind is void. 0: it is the first one.
    pub(super) previous_end: u32,
    /// The last four bytes of that segment's sequence.
    pub(super) previous: u32,
}

/// A segment that is open.
pub(super) struct Segment<F: Files> {
    pub(super) id: SegmentId,
    pub(super) file: Arc<F::File>,
    pub(super) salt: u32,
    pub(super) created: u64,
    /// What stands behind is void.
    pub(super) end: u32,
    /// Of the file.
    pub(super) bytes: u64,
}

/// Why a header cannot be used.
pub(super) enum HeaderFault {
    Corrupt,
    Newer(u32),
    Read(io::Error),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&self.lane.to_le_bytes());
        bytes.extend_from_slice(&[self.id.class, 0]);
        bytes.extend_from_slice(&self.id.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.created.to_le_bytes());
        bytes.extend_from_slice(&self.boot_id);
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.previous_end.to_le_bytes());
        bytes.extend_from_slice(&self.previous.to_le_bytes());
        debug_assert_eq!(bytes.len(), HEADER_USED);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(HEADER as usize, 0);
        bytes
    }

    pub(super) fn read<F: ReadAt>(file: &F, id: SegmentId) -> Result<Self, HeaderFault> {
        let mut bytes = [0; HEADER_USED + 4];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(HeaderFault::Corrupt),
            read => read.map_err(HeaderFault::Read)?,
        }
        Self::decode(&bytes, id)
    }

    fn decode(bytes: &[u8], id: SegmentId) -> Result<Self, HeaderFault> {
        let corrupt = HeaderFault::Corrupt;
        let number = |at| u32_at(bytes, at).unwrap_or_default();
        if !bytes.starts_with(MAGIC) || number(HEADER_USED) != crc32c::crc32c(&bytes[..HEADER_USED]) {
            return Err(corrupt);
        }
        if number(8) > FORMAT {
            return Err(HeaderFault::Newer(number(8)));
        }
        let mut boot_id = [0; 16];
        boot_id.copy_from_slice(&bytes[32..48]);
        let header = Self {
            id: SegmentId { class: bytes[14], sequence: u64_at(bytes, 16).unwrap_or_default() },
            lane: u16::from_le_bytes([bytes[12], bytes[13]]),
            created: u64_at(bytes, 24).unwrap_or_default(),
            boot_id,
            salt: number(48),
            previous_end: number(52),
            previous: number(56),
        };
        if header.id == id { Ok(header) } else { Err(corrupt) }
    }
}

/// Reads the batches of a segment one after the other.
pub(super) struct Scanner<F: Files> {
    file: Arc<F::File>,
    salt: u32,
    buffer: Vec<u8>,
    /// Of the buffer's first byte in the file.
    buffer_at: u64,
    /// Of the next batch in the file.
    at: u64,
    /// The first byte that is not read.
    limit: u64,
    number: u32,
    batch: Vec<u8>,
    pub(super) serial: u64,
}

/// What a scanner came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scanned {
    /// A batch, which `Scanner::batch` has.
    Batch,
    /// Zeros, or the end of the file.
    End,
    /// Bytes that are no batch.
    Bad,
}

impl<F: Files> Scanner<F> {
    /// `end`: where the segment ends, if that is known.
    pub(super) fn new(file: Arc<F::File>, salt: u32, end: Option<u32>) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self {
            file,
            salt,
            buffer: Vec::new(),
            buffer_at: 0,
            at: u64::from(HEADER),
            limit: end.map_or(length, |end| length.min(u64::from(end))),
            number: 0,
            batch: Vec::new(),
            serial: 0,
        })
    }

    /// Where the next batch begins: the end of those that were read.
    pub(super) fn position(&self) -> u32 {
        self.at as u32
    }

    /// Goes to the next batch.
    pub(super) fn advance(&mut self) -> io::Result<Scanned> {
        let Some(head) = self.bytes(BATCH_HEAD)? else {
            let rest = self.limit.saturating_sub(self.at) as usize;
            let is_end = self.bytes(rest)?.is_none_or(|rest| rest.iter().all(|&byte| byte == 0));
            return Ok(if is_end { Scanned::End } else { Scanned::Bad });
        };
        if head.iter().all(|&byte| byte == 0) {
            return Ok(Scanned::End);
        }
        let Some(length) = batch_length(head) else { return Ok(Scanned::Bad) };
        let (salt, number) = (self.salt, self.number);
        let Some(batch) = self.bytes(length)? else { return Ok(Scanned::Bad) };
        let Some((serial, _)) = read_batch(batch, salt, number) else { return Ok(Scanned::Bad) };
        let batch = batch.to_vec();
        (self.batch, self.serial) = (batch, serial);
        self.at += length as u64;
        self.number += 1;
        Ok(Scanned::Batch)
    }

    /// The position of the batch in the file, and its records.
    pub(super) fn batch(&self) -> (u32, Vec<Record<'_>>) {
        let position = (self.at - self.batch.len() as u64) as u32;
        let mut at = BATCH_HEAD;
        let mut records = Vec::new();
        while let Some(record) = parse_record(&self.batch, at) {
            at += record.length;
            records.push(record);
        }
        (position, records)
    }

    /// Whether a whole batch follows behind bytes that are no batch: then it was not the end of a write that made them.
    pub(super) fn has_later_batch(&self) -> io::Result<bool> {
        let mut rest = vec![0; self.limit.saturating_sub(self.at) as usize];
        self.file.read_exact_at(&mut rest, self.at)?;
        let is_batch = |at: usize| {
            let length = batch_length(&rest[at..])?;
            let batch = rest.get(at..at.checked_add(length)?)?;
            read_batch(batch, self.salt, u32_at(batch, 8)?)
        };
        Ok((8..rest.len()).step_by(8).any(|at| is_batch(at).is_some()))
    }

    /// How many bytes follow that are not zero, up to the last one.
    pub(super) fn rest(&mut self) -> io::Result<u64> {
        let (mut at, mut last) = (self.at, self.at);
        let mut buffer = vec![0; READ_BYTES];
        while at < self.limit {
            let count = buffer.len().min((self.limit - at) as usize);
            self.file.read_exact_at(&mut buffer[..count], at)?;
            if let Some(found) = buffer[..count].iter().rposition(|&byte| byte != 0) {
                last = at + found as u64 + 1;
            }
            at += count as u64;
        }
        Ok(last - self.at)
    }

    /// So many bytes from the next batch on; `None` if the segment has fewer.
    fn bytes(&mut self, count: usize) -> io::Result<Option<&[u8]>> {
        if self.at.checked_add(count as u64).is_none_or(|end| end > self.limit) {
            return Ok(None);
        }
        let end = self.at + count as u64;
        if self.at < self.buffer_at || end > self.buffer_at + self.buffer.len() as u64 {
            let wanted = count.max(READ_BYTES).min((self.limit - self.at) as usize);
            self.buffer.resize(wanted, 0);
            self.buffer_at = self.at;
            self.file.read_exact_at(&mut self.buffer, self.at)?;
        }
        let from = (self.at - self.buffer_at) as usize;
        Ok(Some(&self.buffer[from..from + count]))
    }
}

/// Reads the record at a position of a file. `Ok(None)`: there is no whole record.
pub(super) fn read_record_at<F: ReadAt>(file: &F, position: u32) -> io::Result<Option<Vec<u8>>> {
    let position = u64::from(position);
    let rest = file.bytes()?.saturating_sub(position);
    let mut bytes = vec![0; RECORD_GUESS.min(rest as usize)];
    file.read_exact_at(&mut bytes, position)?;
    let Some(length) = u32_at(&bytes, 0) else { return Ok(None) };
    if u64::from(length) > rest {
        return Ok(None);
    }
    let read = bytes.len().min(length as usize);
    bytes.resize(length as usize, 0);
    if read < bytes.len() {
        file.read_exact_at(&mut bytes[read..], position + read as u64)?;
    }
    Ok(read_record(&bytes, 0).is_some().then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_are_read_as_written() {
        let id = SegmentId { class: 3, sequence: 0xabc };
        assert_eq!(SegmentId::of_file_name(&id.file_name()), Some(id));
        for name in ["3-abc.seg", "9-0000000000000abc.seg", "LOCK", "3-0000000000000abc.idx"] {
            assert_eq!(SegmentId::of_file_name(name), None);
        }
    }

    #[test]
    fn class_is_the_first_whose_time_is_enough() {
        assert_eq!([1, 60_000, 60_001, 86_400_000, u64::MAX].map(class_of), [0, 0, 1, 4, CLASSES - 1]);
    }

    #[test]
    fn header_with_a_flipped_byte_or_another_id_is_not_read() {
        let id = SegmentId { class: 2, sequence: 5 };
        let header = Header { id, lane: 1, created: 2, boot_id: [4; 16], salt: 5, previous_end: 6, previous: 4 };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER as usize);
        assert!(matches!(Header::decode(&bytes, id), Ok(read) if read == header));
        assert!(Header::decode(&bytes, SegmentId { class: 2, sequence: 6 }).is_err());
        for at in 0..HEADER_USED + 4 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(matches!(Header::decode(&flipped, id), Err(HeaderFault::Corrupt)), "byte {at}");
        }
    }
}
