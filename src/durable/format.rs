//! Batches and records of a segment, as bytes. All numbers are little endian.
//!
//! ```text
//! batch:  magic u32 · length u32 · number u32 · records u32 · serial u64 · CRC32C u32, then the records, padded to 8 bytes
//! record: length u32 · CRC32C u32 · kind u8 · flags u8 · channel u32 · offset u64 · time u48, then the kind's body
//! ```
//!
//! A batch is what one write contains: it is there whole or not at all. Its checksum covers its head and the row of the
//! records' checksums, and begins with the segment's salt: what a client publishes is never taken for a batch. Numbers have
//! no gaps inside a segment; the serial grows over all segments of a lane and gives the order of batches of several classes.
//! Zero bytes follow the last batch.

use super::codec::{Reader, put_bytes, put_text, put_varint};

/// The version that this program writes.
pub(super) const FORMAT: u32 = 1;
pub(super) const BATCH_MAGIC: u32 = 0x4243_4c43;
pub(super) const BATCH_HEAD: usize = 28;
pub(super) const RECORD_HEAD: usize = 28;
/// What follows the checksum of a record begins here.
const RECORD_CHECKED: usize = 8;

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Names a channel index, with the meta of the channel.
    Channel = 1,
    Publication = 2,
    /// Everything up to the offset is removed.
    Truncate = 3,
    /// The channel is forgotten.
    Forget = 4,
    /// The history lives on from this time.
    Touch = 5,
    /// An idempotency key of a publication without a position.
    Key = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        const ALL: [Kind; 6] = [Kind::Channel, Kind::Publication, Kind::Truncate, Kind::Forget, Kind::Touch, Kind::Key];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What stands before a record's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHead {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    /// An index of the segment's dictionary.
    pub(super) channel: u32,
    pub(super) offset: u64,
    pub(super) time: u64,
}

/// A record that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) head: RecordHead,
    pub(super) body: &'a [u8],
    /// Of the record in its batch, or in what was read.
    pub(super) at: usize,
    pub(super) length: usize,
}

/// Appends a record. The channel's index and the checksum are set when it is put into a batch.
pub(super) fn push_record(out: &mut Vec<u8>, head: &RecordHead, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_CHECKED]);
    out.extend_from_slice(&[head.kind as u8, head.flags]);
    out.extend_from_slice(&head.channel.to_le_bytes());
    out.extend_from_slice(&head.offset.to_le_bytes());
    out.extend_from_slice(&head.time.to_le_bytes()[..6]);
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Gives a record its channel index and its checksum.
pub(super) fn finish_record(record: &mut [u8], channel: u32) {
    record[10..14].copy_from_slice(&channel.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[RECORD_CHECKED..]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The record at the beginning of these bytes, if it is whole and its checksum right.
pub(super) fn read_record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let read = parse_record(bytes, at)?;
    let record = &bytes[at..at + read.length];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[RECORD_CHECKED..]);
    (u32_at(record, 4)? == crc).then_some(read)
}

/// As `read_record`, of bytes whose checksum is known to be right.
pub(super) fn parse_record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let bytes = bytes.get(at..)?;
    let length = u32_at(bytes, 0)? as usize;
    let record = bytes.get(..length).filter(|record| record.len() >= RECORD_HEAD)?;
    Some(Record { head: record_head(record)?, body: &record[RECORD_HEAD..], at, length })
}

/// The head of a record whose checksum is known to be right, or that was never written.
pub(super) fn record_head(record: &[u8]) -> Option<RecordHead> {
    let mut time = [0; 8];
    time[..6].copy_from_slice(record.get(22..28)?);
    Some(RecordHead {
        kind: Kind::of(*record.get(8)?)?,
        flags: record[9],
        channel: u32_at(record, 10)?,
        offset: u64_at(record, 14)?,
        time: u64::from_le_bytes(time),
    })
}

/// Where a batch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchPlace {
    pub(super) salt: u32,
    pub(super) number: u32,
    pub(super) serial: u64,
}

/// A batch of finished records that stand behind `BATCH_HEAD` empty bytes: pads it and fills in the head.
pub(super) fn finish_batch(batch: &mut Vec<u8>, records: u32, place: BatchPlace) {
    batch.resize(batch.len().next_multiple_of(8), 0);
    let length = batch.len() as u32;
    batch[..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
    batch[4..8].copy_from_slice(&length.to_le_bytes());
    batch[8..12].copy_from_slice(&place.number.to_le_bytes());
    batch[12..16].copy_from_slice(&records.to_le_bytes());
    batch[16..24].copy_from_slice(&place.serial.to_le_bytes());
    let crc = batch_crc(batch, records, place.salt).unwrap_or_default();
    batch[24..28].copy_from_slice(&crc.to_le_bytes());
}

/// Of the head and the row of the records' checksums; `None` if the records do not fill the batch.
fn batch_crc(batch: &[u8], records: u32, salt: u32) -> Option<u32> {
    let mut crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), batch.get(..24)?);
    let mut at = BATCH_HEAD;
    for _ in 0..records {
        let length = u32_at(batch, at)? as usize;
        if length < RECORD_HEAD {
            return None;
        }
        crc = crc32c::crc32c_append(crc, batch.get(at + 4..at + 8)?);
        at = at.checked_add(length)?;
    }
    let padding = batch.get(at..)?;
    (padding.len() < 8 && padding.iter().all(|&byte| byte == 0)).then_some(crc)
}

/// The length of the batch that begins with these bytes, if they can be a batch's.
pub(super) fn batch_length(head: &[u8]) -> Option<usize> {
    let length = u32_at(head, 4)? as usize;
    (u32_at(head, 0)? == BATCH_MAGIC && length >= BATCH_HEAD && length.is_multiple_of(8)).then_some(length)
}

/// The serial and the records of a whole batch; `None` if anything about it is not right.
pub(super) fn read_batch(batch: &[u8], salt: u32, number: u32) -> Option<(u64, Vec<Record<'_>>)> {
    let count = u32_at(batch, 12)?;
    if batch_length(batch)? != batch.len() || u32_at(batch, 8)? != number {
        return None;
    }
    if batch_crc(batch, count, salt)? != u32_at(batch, 24)? {
        return None;
    }
    let (mut records, mut at) = (Vec::new(), BATCH_HEAD);
    for _ in 0..count {
        let record = read_record(batch, at)?;
        at += record.length;
        records.push(record);
    }
    Some((u64_at(batch, 16)?, records))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The body has an idempotency key.
const HAS_KEY: u8 = 1;
/// The body has a version.
const HAS_VERSION: u8 = 2;
/// The body has a user or a tag.
const HAS_NAMES: u8 = 4;
/// It was kept after a sync before it was shown.
pub(super) const IS_STRICT: u8 = 8;

/// The body of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct PublicationBody<'a> {
    /// The hash of the idempotency key.
    pub(super) key: Option<u128>,
    pub(super) version: u64,
    pub(super) version_epoch: &'a str,
    pub(super) user: &'a str,
    pub(super) tag: &'a str,
    pub(super) client_info: &'a [u8],
    pub(super) tags: &'a [u8],
    pub(super) data: &'a [u8],
}

impl<'a> PublicationBody<'a> {
    /// About what it takes, at most.
    pub(super) fn bytes(&self) -> usize {
        let names = self.version_epoch.len() + self.user.len() + self.tag.len();
        names + self.client_info.len() + self.tags.len() + self.data.len() + 64
    }

    pub(super) fn flags(&self) -> u8 {
        let has_names = !self.user.is_empty() || !self.tag.is_empty();
        (if self.key.is_some() { HAS_KEY } else { 0 })
            | (if self.version > 0 { HAS_VERSION } else { 0 })
            | (if has_names { HAS_NAMES } else { 0 })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let flags = self.flags();
        if let Some(key) = self.key {
            out.extend_from_slice(&key.to_le_bytes());
        }
        if flags & HAS_VERSION != 0 {
            put_varint(out, self.version);
            put_text(out, self.version_epoch);
        }
        if flags & HAS_NAMES != 0 {
            put_text(out, self.user);
            put_text(out, self.tag);
        }
        put_bytes(out, self.client_info);
        put_bytes(out, self.tags);
        out.extend_from_slice(self.data);
    }

    pub(super) fn read(flags: u8, body: &'a [u8]) -> Option<Self> {
        let (mut rest, mut read) = (Reader(body), Self::default());
        if flags & HAS_KEY != 0 {
            read.key = Some(u128::from_le_bytes(rest.array()?));
        }
        if flags & HAS_VERSION != 0 {
            (read.version, read.version_epoch) = (rest.varint()?, rest.text()?);
        }
        if flags & HAS_NAMES != 0 {
            (read.user, read.tag) = (rest.text()?, rest.text()?);
        }
        (read.client_info, read.tags, read.data) = (rest.bytes()?, rest.bytes()?, rest.0);
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Vec<u8> {
        let mut batch = vec![0; BATCH_HEAD];
        for offset in 1..4 {
            let body = PublicationBody {
                key: (offset == 2).then_some(7),
                version: offset,
                version_epoch: "v",
                user: "u",
                data: b"data",
                ..PublicationBody::default()
            };
            let head = RecordHead { kind: Kind::Publication, flags: body.flags(), channel: 0, offset, time: 1 << 40 };
            let start = batch.len();
            push_record(&mut batch, &head, |out| body.put(out));
            finish_record(&mut batch[start..], 9);
        }
        finish_batch(&mut batch, 3, BatchPlace { salt: 5, number: 2, serial: 11 });
        batch
    }

    #[test]
    fn batch_is_read_as_it_was_written() {
        let batch = batch();
        let (serial, records) = read_batch(&batch, 5, 2).expect("whole");
        assert_eq!((serial, records.len(), batch_length(&batch)), (11, 3, Some(batch.len())));
        let second = records[1];
        assert_eq!((second.head.channel, second.head.offset, second.head.time), (9, 2, 1 << 40));
        let body = PublicationBody::read(second.head.flags, second.body).expect("whole");
        assert_eq!((body.key, body.version, body.version_epoch, body.user), (Some(7), 2, "v", "u"));
        assert_eq!(body.data, b"data");
    }

    #[test]
    fn batch_with_another_salt_or_number_or_any_flipped_bit_is_not_read() {
        let whole = batch();
        assert!(read_batch(&whole, 4, 2).is_none() && read_batch(&whole, 5, 3).is_none());
        for at in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(read_batch(&flipped, 5, 2).is_none(), "bit {at}");
        }
        for end in 0..whole.len() {
            assert!(read_batch(&whole[..end], 5, 2).is_none());
        }
    }
}
