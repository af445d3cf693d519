//! A sealed segment. Its index stands in a file beside it, which any thread opens when a read needs it. One that is missing,
//! corrupt, or of another segment is made again; one that cannot be written stays in memory.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::codec::{ReadAt, hash_name};
use super::files::{File, Files};
use super::format::{Kind, Record, parse_record};
use super::index::{IndexError, SegmentIndex};
use super::memory_index::MemoryIndex;
use super::meta::ChannelMeta;
use super::segment::{Header, Scanned, Scanner, Segment, read_record_at};

pub(super) type OpenIndex<F> = SegmentIndex<IndexFile<<F as Files>::File>>;

pub(super) struct Sealed<F: Files> {
    pub(super) segment: Segment<F>,
    index: Mutex<IndexState<F>>,
}

enum IndexState<F: Files> {
    /// Not opened yet.
    Closed,
    /// Not written yet.
    Unwritten(Box<MemoryIndex>),
    Open(Arc<OpenIndex<F>>),
}

/// What an index is read from.
pub(super) enum IndexFile<F> {
    Stored(Arc<F>),
    InMemory(Vec<u8>),
}

/// Writes the index of a segment that was sealed. It runs on any thread.
pub struct IndexTask<F: Files> {
    pub(super) files: Arc<F>,
    pub(super) sealed: Arc<Sealed<F>>,
}

impl<F: Files> IndexTask<F> {
    /// Errors are not reported: what needs the index tries again.
    pub fn run(self) {
        _ = self.sealed.index(&*self.files);
    }

    /// Frees what the index is made of: the first read that needs it makes it from the segment.
    pub fn give_up(self) {
        self.sealed.drop_unwritten();
    }
}

/// A channel that a segment names: its name and its epoch.
pub(super) type Named = (Box<str>, [u8; 6]);

impl<F: Files> Sealed<F> {
    /// `index`: what its file has to contain; without it, the file is expected to be there.
    pub(super) fn new(segment: Segment<F>, index: Option<MemoryIndex>) -> Arc<Self> {
        let index = index.map_or(IndexState::Closed, |index| IndexState::Unwritten(Box::new(index)));
        Arc::new(Self { segment, index: Mutex::new(index) })
    }

    /// The index, opened or made if it is not yet.
    pub(super) fn index(&self, files: &F) -> io::Result<Arc<OpenIndex<F>>> {
        // A thread that panicked has left nothing half done: the state is set at once.
        let mut state = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match &*state {
            IndexState::Open(index) => return Ok(Arc::clone(index)),
            IndexState::Unwritten(index) => index.build(self.tag()),
            IndexState::Closed => {
                let stored = files.open(&self.segment.id.index_name()).map_err(IndexError::Read);
                let opened = stored.and_then(|file| SegmentIndex::open(IndexFile::Stored(file)));
                if let Ok(index) = opened
                    && index.tag() == self.tag()
                {
                    let index = Arc::new(index);
                    *state = IndexState::Open(Arc::clone(&index));
                    return Ok(index);
                }
                self.scan_index()?.build(self.tag())
            }
        };
        let index = Arc::new(self.store(files, bytes)?);
        *state = IndexState::Open(Arc::clone(&index));
        Ok(index)
    }

    /// Makes the index again: a read has found it corrupt.
    pub(super) fn rebuild(&self, files: &F) -> io::Result<Arc<OpenIndex<F>>> {
        let mut state = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let index = Arc::new(self.store(files, self.scan_index()?.build(self.tag()))?);
        *state = IndexState::Open(Arc::clone(&index));
        Ok(index)
    }

    /// Uses the index; one that is corrupt is made again.
    pub(super) fn with_index<T>(
        &self,
        files: &F,
        read: impl Fn(&OpenIndex<F>) -> Result<T, IndexError>,
    ) -> io::Result<T> {
        match read(&*self.index(files)?) {
            Ok(found) => Ok(found),
            Err(_) => read(&*self.rebuild(files)?).map_err(new_index_error),
        }
    }

    /// Gives up the index that is not written, unless another thread is about to write it.
    pub(super) fn drop_unwritten(&self) {
        if let Ok(mut state) = self.index.try_lock()
            && matches!(*state, IndexState::Unwritten(_))
        {
            *state = IndexState::Closed;
        }
    }

    /// The channel with this index of the dictionary. `None`: it cannot be read.
    pub(super) fn channel(&self, files: &F, channel: u32) -> io::Result<Option<Named>> {
        match self.with_index(files, |index| index.dictionary_entry(channel))? {
            Some(position) => named_at(&self.segment.file, position, channel),
            None => Ok(None),
        }
    }

    /// Whether the segment has a publication of this channel's life with one of these offsets. True if it cannot be told.
    pub(super) fn has_channel(&self, files: &F, named: (&str, [u8; 6]), from: u64, to: u64) -> io::Result<bool> {
        /// Publications of other lives, or of names with the same hash, that are looked at.
        const LOOKED_AT: usize = 16;
        let hash = hash_name(named.0);
        let found = self.with_index(files, |index| index.find(hash, from..=to, LOOKED_AT, true))?;
        for one in &found {
            let Some(bytes) = read_record_at(&self.segment.file, one.position)? else { return Ok(true) };
            let Some(record) = parse_record(&bytes, 0) else { return Ok(true) };
            match self.channel(files, record.head.channel)? {
                Some((name, epoch)) if (&*name, epoch) != named => {}
                _ => return Ok(true),
            }
        }
        Ok(found.len() == LOOKED_AT)
    }

    /// Reads the whole segment: the channels that it has publications of, with the last offset of each.
    pub(super) fn last_offsets(&self) -> io::Result<Vec<(Named, u64)>> {
        let mut channels: Vec<Option<(Named, u64)>> = Vec::new();
        self.scan(|record, _| {
            let (head, at) = (&record.head, record.head.channel as usize);
            if head.kind == Kind::Channel && at == channels.len() {
                let meta = ChannelMeta::read(record.body, head.offset, head.time);
                channels.push(meta.map(|meta| ((meta.name, meta.epoch), 0)));
            } else if let (Kind::Publication, Some(Some((_, last)))) = (head.kind, channels.get_mut(at)) {
                *last = head.offset.max(*last);
            }
        })?;
        Ok(channels.into_iter().flatten().filter(|(_, last)| *last > 0).collect())
    }

    fn scan_index(&self) -> io::Result<MemoryIndex> {
        let mut index = MemoryIndex::default();
        self.scan(|record, position| index.add(None, &record.head, record.body, position))?;
        Ok(index)
    }

    /// Reads the records up to the first batch that is not right.
    fn scan(&self, mut visit: impl FnMut(&Record<'_>, u32)) -> io::Result<()> {
        let segment = &self.segment;
        if Header::read(&segment.file, segment.id).is_err() {
            return Ok(());
        }
        let mut scanner = Scanner::<F>::new(Arc::clone(&segment.file), segment.salt, Some(segment.end))?;
        while scanner.advance()? == Scanned::Batch {
            let (position, records) = scanner.batch();
            records.iter().for_each(|record| visit(record, position + record.at as u32));
        }
        Ok(())
    }

    /// An index with another tag is not that of this segment as it is.
    fn tag(&self) -> u64 {
        u64::from(self.segment.salt) << 32 | u64::from(self.segment.end)
    }

    /// Writes the index. It is not synced: after a power loss it is made again.
    fn store(&self, files: &F, bytes: Vec<u8>) -> io::Result<OpenIndex<F>> {
        let (name, temporary) = (self.segment.id.index_name(), self.segment.id.index_name_new());
        let written = files.create(&temporary, 0).and_then(|file| file.write_all_at(&bytes, 0).map(|()| file));
        let stored = written.and_then(|file| files.rename(&temporary, &name).map(|()| file));
        let file = match stored {
            Ok(file) => IndexFile::Stored(file),
            Err(_) => {
                // What is left of it only takes space.
                _ = files.remove(&temporary);
                IndexFile::InMemory(bytes)
            }
        };
        SegmentIndex::open(file).map_err(new_index_error)
    }
}

fn new_index_error(error: IndexError) -> io::Error {
    match error {
        IndexError::Read(error) => error,
        IndexError::Corrupt => io::Error::new(io::ErrorKind::InvalidData, "a new index is corrupt"),
    }
}

/// The channel that the record at this position names.
pub(super) fn named_at<F: File>(file: &Arc<F>, position: u32, channel: u32) -> io::Result<Option<Named>> {
    let bytes = read_record_at(file, position)?;
    let record = bytes.as_deref().and_then(|bytes| parse_record(bytes, 0));
    let record = record.filter(|record| record.head.kind == Kind::Channel && record.head.channel == channel);
    let meta = record.and_then(|record| ChannelMeta::read(record.body, record.head.offset, record.head.time));
    Ok(meta.map(|meta| (meta.name, meta.epoch)))
}

impl<F: File> ReadAt for IndexFile<F> {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        match self {
            Self::Stored(file) => file.read_exact_at(buffer, position),
            Self::InMemory(bytes) => {
                let from = usize::try_from(position).unwrap_or(usize::MAX);
                let part = bytes.get(from..).and_then(|rest| rest.get(..buffer.len()));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        match self {
            Self::Stored(file) => file.bytes(),
            Self::InMemory(bytes) => Ok(bytes.len() as u64),
        }
    }
}
