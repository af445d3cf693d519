//! The checkpoint of a lane: the meta of its channels, its idempotency keys, and where the scan of the segments goes on.

use std::io;

use super::codec::{ReadAt, Reader, put_text, put_varint};

/// Generations before the current one that a channel keeps.
pub(crate) const PAST_GENERATIONS_MAX: usize = 4;

/// A generation that ended with a crash of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct PastGeneration {
    pub(crate) generation: u8,
    /// The highest offset of the generation that is kept.
    pub(crate) durable_top: u64,
}

/// All that a lane keeps of a channel.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct MetaRow {
    pub(crate) name: Box<str>,
    /// The six letters of the epoch, without the generation.
    pub(crate) epoch: [u8; 6],
    /// 0 to 61.
    pub(crate) generation: u8,
    /// Oldest first, at most `PAST_GENERATIONS_MAX`.
    pub(crate) past: Vec<PastGeneration>,
    /// The offset of the last publication; 0 for none.
    pub(crate) top: u64,
    /// The lowest offset that was not removed: everything below is gone. `top + 1` if all is.
    pub(crate) first: u64,
    /// When the last publication was made, in milliseconds; 0 for never.
    pub(crate) last_time: u64,
    /// When the position was last used: `meta_ttl_ms` counts from here.
    pub(crate) last_use: u64,
    /// The publisher's version of the last publication; 0 for none.
    pub(crate) version: u64,
    pub(crate) version_epoch: Box<str>,
    /// As of the last publication.
    pub(crate) history_size: u32,
    pub(crate) history_ttl_ms: u64,
    pub(crate) meta_ttl_ms: u64,
    /// The retention class of the segments that have its publications.
    pub(crate) class: u8,
    /// What was shown was always synced before (`strict`): a crash of the machine begins no generation.
    pub(crate) is_strict: bool,
}

/// An idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct KeyRow {
    /// Of the channel's name and the key.
    pub(crate) hash: u128,
    /// When the first publication with it was made, in milliseconds.
    pub(crate) time: u64,
    /// What that was answered: the text of the epoch, padded with zeros, and the offset. `None`: it had no position.
    pub(crate) position: Option<([u8; 8], u64)>,
}

/// Up to where a checkpoint holds what a class' segments say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScanStart {
    pub(crate) class: u8,
    pub(crate) sequence: u64,
    /// In bytes from the beginning of the segment.
    pub(crate) position: u32,
}

/// What stands at the head of a checkpoint.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct CheckpointHead {
    pub(crate) lane: u16,
    /// When it was begun, in milliseconds.
    pub(crate) time: u64,
    /// One for each class with segments.
    pub(crate) scan_from: Vec<ScanStart>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CheckpointRow {
    Meta(MetaRow),
    Key(KeyRow),
}

const MAGIC: &[u8; 8] = b"CCCHECK1";
const FORMAT: u32 = 1;
/// A block is written when it has so many bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// The names in a row are far below: a longer block is corrupt.
const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Length and CRC32C of a block.
const BLOCK_HEAD_BYTES: usize = 8;
const META_ROW: u8 = 1;
const KEY_ROW: u8 = 2;
/// The last row: the number of rows before it.
const END_ROW: u8 = 3;

/// Encodes a checkpoint. The caller writes what `take_bytes` gives, in that order, to a file with a temporary name, then syncs
/// and renames it.
pub(crate) struct CheckpointWriter {
    /// Complete blocks.
    bytes: Vec<u8>,
    block: Vec<u8>,
    blocks: u32,
    rows: u64,
}

impl CheckpointWriter {
    pub(crate) fn new(head: &CheckpointHead) -> Self {
        let mut writer = Self { bytes: MAGIC.to_vec(), block: Vec::new(), blocks: 0, rows: 0 };
        writer.bytes.extend_from_slice(&FORMAT.to_le_bytes());
        writer.block.extend_from_slice(&head.lane.to_le_bytes());
        put_varint(&mut writer.block, head.time);
        put_varint(&mut writer.block, head.scan_from.len() as u64);
        for start in &head.scan_from {
            writer.block.push(start.class);
            put_varint(&mut writer.block, start.sequence);
            put_varint(&mut writer.block, u64::from(start.position));
        }
        writer.close_block();
        writer
    }

    pub(crate) fn push(&mut self, row: &CheckpointRow) {
        match row {
            CheckpointRow::Meta(row) => self.push_meta(row),
            CheckpointRow::Key(row) => self.push_key(row),
        }
    }

    pub(crate) fn push_meta(&mut self, row: &MetaRow) {
        let block = &mut self.block;
        block.push(META_ROW);
        put_text(block, &row.name);
        block.extend_from_slice(&row.epoch);
        block.extend_from_slice(&[row.generation, row.class, u8::from(row.is_strict)]);
        put_varint(block, row.past.len() as u64);
        for past in &row.past {
            block.push(past.generation);
            put_varint(block, past.durable_top);
        }
        let times = [row.last_time, row.last_use, row.history_ttl_ms, row.meta_ttl_ms];
        let numbers = [row.top, row.first, row.version, u64::from(row.history_size)];
        numbers.into_iter().chain(times).for_each(|number| put_varint(block, number));
        put_text(block, &row.version_epoch);
        self.end_row();
    }

    fn push_key(&mut self, row: &KeyRow) {
        let block = &mut self.block;
        block.push(KEY_ROW);
        block.extend_from_slice(&row.hash.to_le_bytes());
        put_varint(block, row.time);
        block.push(u8::from(row.position.is_some()));
        if let Some((epoch, offset)) = row.position {
            block.extend_from_slice(&epoch);
            put_varint(block, offset);
        }
        self.end_row();
    }

    fn end_row(&mut self) {
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        self.bytes.extend_from_slice(&(self.block.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&block_crc(self.blocks, &self.block).to_le_bytes());
        self.bytes.append(&mut self.block);
        self.blocks += 1;
    }

    /// The blocks that are complete. The writer holds at most one more.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The last block, and the end without which a checkpoint is not valid.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.block.push(END_ROW);
        put_varint(&mut self.block, self.rows);
        self.close_block();
        self.bytes
    }
}

/// The CRC32C of a block: its number and its length are part of it.
fn block_crc(number: u32, block: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &(block.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc, block)
}

/// Why a checkpoint cannot be used: start from an older one, or from the segments alone.
#[derive(Debug)]
pub(crate) enum CheckpointError {
    Corrupt,
    /// Made by a newer version of this program.
    NewerFormat(u32),
    Read(io::Error),
}

/// Reads a checkpoint. After an error it ends, and what it gave before must not be used.
pub(crate) struct CheckpointReader<F> {
    file: F,
    head: CheckpointHead,
    /// Of the file.
    length: u64,
    /// Of the next block.
    position: u64,
    blocks: u32,
    block: Vec<u8>,
    /// In the block.
    at: usize,
    rows: u64,
    is_over: bool,
}

impl<F: ReadAt> CheckpointReader<F> {
    pub(crate) fn open(file: F) -> Result<Self, CheckpointError> {
        let length = file.bytes().map_err(CheckpointError::Read)?;
        let mut magic = [0; MAGIC.len() + 4];
        if length < magic.len() as u64 {
            return Err(CheckpointError::Corrupt);
        }
        file.read_exact_at(&mut magic, 0).map_err(CheckpointError::Read)?;
        let mut fields = Reader(&magic);
        let is_checkpoint = fields.take(MAGIC.len()) == Some(MAGIC);
        match fields.u32() {
            Some(FORMAT) if is_checkpoint => {}
            Some(newer) if is_checkpoint && newer > FORMAT => return Err(CheckpointError::NewerFormat(newer)),
            _ => return Err(CheckpointError::Corrupt),
        }
        let mut reader = Self {
            file,
            head: CheckpointHead::default(),
            length,
            position: magic.len() as u64,
            blocks: 0,
            block: Vec::new(),
            at: 0,
            rows: 0,
            is_over: false,
        };
        reader.read_block()?;
        reader.head = CheckpointHead::decode(&reader.block).ok_or(CheckpointError::Corrupt)?;
        reader.at = reader.block.len();
        Ok(reader)
    }

    pub(crate) fn head(&self) -> &CheckpointHead {
        &self.head
    }

    fn read_block(&mut self) -> Result<(), CheckpointError> {
        let left = self.length - self.position;
        let mut head = [0; BLOCK_HEAD_BYTES];
        if left < head.len() as u64 {
            return Err(CheckpointError::Corrupt);
        }
        self.file.read_exact_at(&mut head, self.position).map_err(CheckpointError::Read)?;
        let [a, b, c, d, crc @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > BLOCK_BYTES_MAX || length as u64 > left - head.len() as u64 {
            return Err(CheckpointError::Corrupt);
        }
        self.block.resize(length, 0);
        let position = self.position + head.len() as u64;
        self.file.read_exact_at(&mut self.block, position).map_err(CheckpointError::Read)?;
        if block_crc(self.blocks, &self.block) != u32::from_le_bytes(crc) {
            return Err(CheckpointError::Corrupt);
        }
        (self.position, self.at) = (position + length as u64, 0);
        self.blocks += 1;
        Ok(())
    }

    /// The next row; `None` after the last one.
    fn read_row(&mut self) -> Result<Option<CheckpointRow>, CheckpointError> {
        if self.at == self.block.len() {
            self.read_block()?;
        }
        let mut reader = Reader(&self.block[self.at..]);
        let row = match reader.u8() {
            Some(META_ROW) => MetaRow::decode(&mut reader).map(CheckpointRow::Meta),
            Some(KEY_ROW) => KeyRow::decode(&mut reader).map(CheckpointRow::Key),
            Some(END_ROW) => {
                let is_whole = reader.varint() == Some(self.rows) && reader.is_empty() && self.position == self.length;
                return if is_whole { Ok(None) } else { Err(CheckpointError::Corrupt) };
            }
            _ => None,
        };
        self.at = self.block.len() - reader.0.len();
        self.rows += 1;
        row.map(Some).ok_or(CheckpointError::Corrupt)
    }
}

impl<F: ReadAt> Iterator for CheckpointReader<F> {
    type Item = Result<CheckpointRow, CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let row = self.read_row().transpose();
        self.is_over = !matches!(row, Some(Ok(_)));
        row
    }
}

impl CheckpointHead {
    fn decode(block: &[u8]) -> Option<Self> {
        let mut reader = Reader(block);
        let (lane, time, count) = (reader.u16()?, reader.varint()?, reader.varint()?);
        let mut scan_from = Vec::new();
        for _ in 0..count {
            let (class, sequence) = (reader.u8()?, reader.varint()?);
            scan_from.push(ScanStart { class, sequence, position: u32::try_from(reader.varint()?).ok()? });
        }
        reader.is_empty().then_some(Self { lane, time, scan_from })
    }
}

impl MetaRow {
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let name = reader.text()?.into();
        let epoch = reader.array()?;
        let [generation, class, is_strict] = reader.array()?;
        let past_count = usize::try_from(reader.varint()?).ok().filter(|&count| count <= PAST_GENERATIONS_MAX)?;
        let mut past = Vec::with_capacity(past_count);
        for _ in 0..past_count {
            past.push(PastGeneration { generation: reader.u8()?, durable_top: reader.varint()? });
        }
        let mut number = || reader.varint();
        let (top, first, version, history_size) = (number()?, number()?, number()?, u32::try_from(number()?).ok()?);
        let (last_time, last_use, history_ttl_ms, meta_ttl_ms) = (number()?, number()?, number()?, number()?);
        Some(Self {
            name,
            epoch,
            generation,
            past,
            top,
            first,
            last_time,
            last_use,
            version,
            version_epoch: reader.text()?.into(),
            history_size,
            history_ttl_ms,
            meta_ttl_ms,
            class,
            is_strict: is_strict != 0,
        })
    }
}

impl KeyRow {
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (hash, time) = (u128::from_le_bytes(reader.array()?), reader.varint()?);
        let position = match reader.u8()? {
            0 => None,
            _ => Some((reader.array()?, reader.varint()?)),
        };
        Some(Self { hash, time, position })
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::test_file::Bytes;
    use super::*;

    fn rows(count: u64) -> Vec<CheckpointRow> {
        let generation = |n: u64| PastGeneration { generation: n as u8, durable_top: n * 1_000 };
        let meta = |n: u64| MetaRow {
            name: format!("news:{n}").into(),
            epoch: *b"abcdef",
            generation: (n % 62) as u8,
            past: (0..n % 5).map(generation).collect(),
            top: n << (n % 60),
            first: n,
            last_time: 1_790_000_000_000 + n,
            last_use: n,
            version: n * 7,
            version_epoch: if n % 3 == 0 { "v".into() } else { "".into() },
            history_size: n as u32,
            history_ttl_ms: 300_000,
            meta_ttl_ms: u64::MAX,
            class: (n % 8) as u8,
            is_strict: n % 2 == 0,
        };
        let key =
            |n: u64| KeyRow { hash: u128::from(n) << 70, time: n, position: (n % 2 == 0).then_some((*b"abcdef.1", n)) };
        (0..count).flat_map(|n| [CheckpointRow::Meta(meta(n)), CheckpointRow::Key(key(n))]).collect()
    }

    fn head() -> CheckpointHead {
        let start = |class| ScanStart { class, sequence: 1 << 40, position: u32::MAX };
        CheckpointHead { lane: 3, time: 1_790_000_000_000, scan_from: vec![start(0), start(7)] }
    }

    fn written(rows: &[CheckpointRow]) -> Vec<u8> {
        let mut writer = CheckpointWriter::new(&head());
        let mut bytes = Vec::new();
        for row in rows {
            writer.push(row);
            bytes.extend(writer.take_bytes());
        }
        bytes.extend(writer.finish());
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<CheckpointRow>, CheckpointError> {
        let reader = CheckpointReader::open(Bytes::new(bytes))?;
        assert_eq!(*reader.head(), head());
        reader.collect()
    }

    #[test]
    fn rows_come_back_over_many_blocks() {
        for count in [0, 1, 5_000] {
            let rows = rows(count);
            assert_eq!(read(written(&rows)).expect("not corrupt"), rows);
        }
    }

    #[test]
    fn flipped_or_missing_byte_is_an_error() {
        let bytes = written(&rows(8));
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                assert!(read(flipped).is_err(), "byte {at} flipped by {flip:#x}");
            }
            assert!(read(bytes[..at].to_vec()).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(read(longer).is_err());
    }

    #[test]
    fn newer_format_is_named() {
        let mut bytes = written(&[]);
        bytes[8] = 2;
        assert!(matches!(read(bytes), Err(CheckpointError::NewerFormat(2))));
    }

    #[test]
    fn row_of_an_idle_channel_takes_at_most_64_bytes_and_its_name() {
        let name = "news:politics";
        let row = MetaRow {
            name: name.into(),
            epoch: *b"abcdef",
            top: 1_000_000,
            first: 999_900,
            last_time: 1_790_000_000_000,
            last_use: 1_790_000_000_000,
            history_size: 100,
            history_ttl_ms: 86_400_000,
            meta_ttl_ms: 30 * 86_400_000,
            ..MetaRow::default()
        };
        let one = written(&[CheckpointRow::Meta(row)]).len() - written(&[]).len();
        assert!(one <= 64 + name.len(), "{one} bytes");
    }
}
