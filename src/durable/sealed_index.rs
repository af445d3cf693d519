//! The index of a segment on demand: opened, or built from the segment if it is missing or corrupt, by the first read that
//! needs it. That runs on a reader thread, so that sealing a segment costs the lane nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::files::{File, Files};
use super::format::{Kind, PublicationBody};
use super::index::{IndexError, SegmentIndex};
use super::memory_index::MemoryIndex;
use super::meta::ChannelMeta;
use super::segment::{Header, Scanned, Scanner, SegmentId};

pub(super) type OpenIndex<F> = SegmentIndex<Arc<<F as Files>::File>>;

/// Where the index of a segment is kept once it is open. Plans and the lane share it.
pub(super) struct SealedIndex<F: Files>(Mutex<Option<Arc<OpenIndex<F>>>>);

impl<F: Files> Default for SealedIndex<F> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<F: Files> SealedIndex<F> {
    /// The index of a sealed segment, whose batches end at `end`.
    pub(super) fn get(&self, files: &F, id: SegmentId, file: &Arc<F::File>, end: u32) -> io::Result<Arc<OpenIndex<F>>> {
        // A thread that panicked has left nothing half done: the place is set at once.
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &*place {
            return Ok(Arc::clone(index));
        }
        let opened = files.open(&id.index_name()).map_err(IndexError::Read).and_then(SegmentIndex::open);
        let index = match opened {
            Ok(index) => index,
            Err(_) => build_file(files, id, file, end)?,
        };
        Ok(Arc::clone(place.insert(Arc::new(index))))
    }

    /// Builds the index again: a read has found it corrupt.
    pub(super) fn rebuild(
        &self,
        files: &F,
        id: SegmentId,
        file: &Arc<F::File>,
        end: u32,
    ) -> io::Result<Arc<OpenIndex<F>>> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(place.insert(Arc::new(build_file(files, id, file, end)?))))
    }
}

/// Not synced: after a power loss it is built again.
fn build_file<F: Files>(files: &F, id: SegmentId, file: &Arc<F::File>, end: u32) -> io::Result<OpenIndex<F>> {
    let bytes = scan_segment::<F>(id, file, end)?.build();
    let (name, temporary) = (id.index_name(), format!("{}.new", id.index_name()));
    let index = files.create(&temporary, 0)?;
    index.write_all_at(&bytes, 0)?;
    files.rename(&temporary, &name)?;
    SegmentIndex::open(files.open(&name)?).map_err(|error| match error {
        IndexError::Read(error) => error,
        IndexError::Corrupt => io::Error::new(io::ErrorKind::InvalidData, "a new index is corrupt"),
    })
}

/// What the records of a segment say, up to the first batch that is not right.
fn scan_segment<F: Files>(id: SegmentId, file: &Arc<F::File>, end: u32) -> io::Result<MemoryIndex> {
    let mut index = MemoryIndex::default();
    let Ok(header) = Header::read(file, id) else { return Ok(index) };
    let mut scanner = Scanner::<F>::new(Arc::clone(file), header.salt, Some(end))?;
    while scanner.advance()? == Scanned::Batch {
        let (position, records) = scanner.batch();
        for record in &records {
            let (head, at) = (&record.head, position + record.at as u32);
            match head.kind {
                Kind::Channel => {
                    let meta = ChannelMeta::read(record.body, head.offset, head.time);
                    let name = meta.map_or_else(Box::default, |meta| meta.name);
                    index.add_channel(None, head.channel, &name, at);
                }
                Kind::Publication => {
                    if let Some(body) = PublicationBody::read(head.flags, record.body) {
                        index.add_publication(head, &body, at);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(index)
}
