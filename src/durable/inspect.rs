//! Reads the log of a directory without a lane and without changing anything: for checks, dumps and exports.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use super::checkpoint::{CheckpointReader, CheckpointRow, ScanStart};
use super::codec::ReadAt;
use super::files::{Files, LOCK_FILE, LockError, lock_file};
use super::format::{BATCH_HEAD, Kind, PublicationBody, RECORD_HEAD, Record, parse_record};
use super::index::SegmentIndex;
use super::keys::Keys;
use super::meta::{ChannelMeta, Channels, epoch_text};
use super::replay::{Known, Replay};
use super::retention::CHECKPOINT;
use super::segment::{Header, HeaderFault, Scanned, Scanner, SegmentId, read_record_at};
use super::state::{Found, State};

/// A publication as the log has it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeptPublication {
    pub channel: Box<str>,
    pub epoch: String,
    pub offset: u64,
    /// Milliseconds.
    pub time: u64,
    pub data: Vec<u8>,
    /// Packed.
    pub client_info: Vec<u8>,
    /// Packed.
    pub tags: Vec<u8>,
    pub user: String,
    pub tag: String,
    pub version: u64,
    pub version_epoch: String,
    pub history_size: u32,
    pub history_ttl_ms: u64,
    pub meta_ttl_ms: u64,
    pub is_strict: bool,
}

/// A part of a file that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadPart {
    pub file: String,
    pub position: u64,
    pub reason: String,
}

/// What a directory has.
#[derive(Clone, Default, Debug)]
pub struct Inspection {
    pub segments: usize,
    pub batches: u64,
    pub publications: u64,
    /// Of the segments, up to the last whole batch.
    pub bytes: u64,
    pub channels: usize,
    /// What is lost: corrupt files, and what stands behind a bad batch.
    pub bad: Vec<BadPart>,
    /// Bytes after the last whole batch of the last segment of a class, which the next start drops.
    pub torn: Vec<BadPart>,
    /// Indexes that are built again when they are needed.
    pub bad_indexes: Vec<String>,
}

/// Whether a server has the directory locked; its process id, if that is known.
pub fn lock_holder(directory: &Path) -> io::Result<Option<Option<u32>>> {
    let file = match fs::File::open(directory.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match lock_file(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(LockError::Held(pid)) => Ok(Some(pid)),
        Err(LockError::Io(error)) => Err(error),
    }
}

/// A record, and where it stands.
pub struct Seen<'a> {
    pub file: &'a str,
    pub position: u32,
    /// `publication`, `channel`, ...
    pub kind: String,
    pub channel: &'a str,
    pub offset: u64,
    pub time: u64,
    /// Bytes.
    pub length: usize,
}

/// Reads everything, and calls `see` for each record.
pub fn inspect(directory: &Path, see: &mut dyn FnMut(&Seen<'_>)) -> io::Result<Inspection> {
    Ok(Scan::read(directory, see)?.found)
}

/// Calls `take` for each publication that a history has at this time, by time.
pub fn export(
    directory: &Path,
    now: u64,
    take: &mut dyn FnMut(KeptPublication) -> io::Result<()>,
) -> io::Result<Inspection> {
    let Scan { files, found, channels, mut places, .. } = Scan::read(directory, &mut |_| {})?;
    places.sort_unstable_by_key(|place| (place.time, place.id, place.position));
    for place in places {
        let Some(slot) = channels.find(&place.channel) else { continue };
        let meta = channels.get(slot);
        let (first, top) = meta.visible(now);
        if meta.epoch != place.epoch || meta.is_forgotten(now) || !(first..=top).contains(&place.offset) {
            continue;
        }
        let bytes = read_record_at(&files.open(&place.id.file_name())?, place.position)?.unwrap_or_default();
        if let Some(kept) = parse_record(&bytes, 0).and_then(|record| kept(&record, meta)) {
            take(kept)?;
        }
    }
    Ok(found)
}

fn kept(record: &Record<'_>, meta: &ChannelMeta) -> Option<KeptPublication> {
    let body = PublicationBody::read(record.head.flags, record.body)?;
    let epoch = epoch_text(meta.epoch, meta.generation);
    Some(KeptPublication {
        channel: meta.name.clone(),
        epoch: String::from_utf8_lossy(&epoch).trim_end_matches('\0').into(),
        offset: record.head.offset,
        time: record.head.time,
        data: body.data.to_vec(),
        client_info: body.client_info.to_vec(),
        tags: body.tags.to_vec(),
        user: body.user.into(),
        tag: body.tag.into(),
        version: body.version,
        version_epoch: body.version_epoch.into(),
        history_size: meta.history_size,
        history_ttl_ms: meta.history_ttl_ms,
        meta_ttl_ms: meta.meta_ttl_ms,
        is_strict: meta.is_strict,
    })
}

/// Where a publication stands.
struct PlaceOf {
    time: u64,
    id: SegmentId,
    position: u32,
    channel: Arc<str>,
    epoch: [u8; 6],
    offset: u64,
}

/// Where a batch stands.
struct BatchOf {
    /// The checkpoint does not have what it says.
    is_news: bool,
    serial: u64,
    id: SegmentId,
    position: u32,
    length: u32,
}

struct Scan {
    files: ReadOnly,
    found: Inspection,
    time: u64,
    channels: Channels,
    keys: Keys,
    state: State,
    /// Of the checkpoint.
    scan_from: Vec<ScanStart>,
    places: Vec<PlaceOf>,
    batches: Vec<BatchOf>,
}

impl Scan {
    fn read(directory: &Path, see: &mut dyn FnMut(&Seen<'_>)) -> io::Result<Self> {
        let files = ReadOnly(directory.to_owned());
        let mut scan = Self {
            files,
            found: Inspection::default(),
            time: 0,
            channels: Channels::default(),
            keys: Keys::default(),
            state: State::new(0, [0; 16]),
            scan_from: Vec::new(),
            places: Vec::new(),
            batches: Vec::new(),
        };
        scan.read_small_files()?;
        scan.read_segments(see)?;
        scan.replay()?;
        scan.found.channels = scan.channels.len();
        Ok(scan)
    }

    /// What the batches say of the channels, in the order in which they were written, of all classes.
    fn replay(&mut self) -> io::Result<()> {
        let mut batches = std::mem::take(&mut self.batches);
        batches.sort_unstable_by_key(|batch| (batch.is_news, batch.serial));
        let (mut segments, mut bytes) = (HashMap::new(), Vec::new());
        for BatchOf { is_news, id, position, length, .. } in batches {
            let (file, replay) = match segments.entry(id) {
                Entry::Occupied(segment) => segment.into_mut(),
                Entry::Vacant(segment) => segment.insert((self.files.open(&id.file_name())?, Replay::default())),
            };
            bytes.resize(length as usize, 0);
            file.read_exact_at(&mut bytes, position.into())?;
            let Self { time, channels, keys, state, .. } = self;
            let mut known = Known { time, channels, keys, state };
            let mut at = BATCH_HEAD;
            while let Some(record) = parse_record(&bytes, at) {
                known.replay(id.class, replay, &record, is_news);
                at += record.length;
            }
        }
        Ok(())
    }

    fn bad(&mut self, file: &str, position: u64, reason: &str) {
        self.found.bad.push(BadPart { file: file.into(), position, reason: reason.into() });
    }

    fn read_small_files(&mut self) -> io::Result<()> {
        match State::read(&self.files)? {
            Found::Corrupt => self.bad("state", 0, "the state file is corrupt"),
            Found::Newer(_) => self.bad("state", 0, "a newer version of this program wrote it"),
            Found::State(state) => self.state = state,
            Found::None => {}
        }
        let file = match self.files.open(CHECKPOINT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let read = CheckpointReader::open(file).and_then(|reader| {
            let head = reader.head().clone();
            Ok((head, reader.collect::<Result<Vec<_>, _>>()?))
        });
        match read {
            Ok((head, rows)) => {
                self.scan_from = head.scan_from;
                for row in rows {
                    if let CheckpointRow::Meta(row) = row {
                        self.channels.insert(ChannelMeta::of_row(row));
                    }
                }
            }
            Err(_) => self.bad(CHECKPOINT, 0, "the checkpoint is corrupt"),
        }
        Ok(())
    }

    fn read_segments(&mut self, see: &mut dyn FnMut(&Seen<'_>)) -> io::Result<()> {
        let mut ids: Vec<_> = self.files.list()?.iter().filter_map(|name| SegmentId::of_file_name(name)).collect();
        ids.sort_unstable();
        for (at, &id) in ids.iter().enumerate() {
            let next = ids.get(at + 1).filter(|next| next.class == id.class);
            let next = next.and_then(|&next| Header::read(&self.files.open(&next.file_name()).ok()?, next).ok());
            // The segment before it may be one that was removed since.
            let next = next.filter(|header| header.previous == id.sequence as u32);
            self.read_segment(id, next.map(|header| header.previous_end), see)?;
            self.found.segments += 1;
            if let Ok(index) = self.files.open(&id.index_name())
                && SegmentIndex::open(index).is_err()
            {
                self.found.bad_indexes.push(id.index_name());
            }
        }
        Ok(())
    }

    /// `end`: where it ends by the header of the next one.
    fn read_segment(&mut self, id: SegmentId, end: Option<u32>, see: &mut dyn FnMut(&Seen<'_>)) -> io::Result<()> {
        let name = id.file_name();
        let file = self.files.open(&name)?;
        let header = match Header::read(&file, id) {
            Ok(header) => header,
            Err(HeaderFault::Read(error)) => return Err(error),
            Err(HeaderFault::Newer(_)) => {
                self.bad(&name, 0, "a newer version of this program wrote it");
                return Ok(());
            }
            Err(HeaderFault::Corrupt) => {
                self.bad(&name, 0, "the header is corrupt");
                return Ok(());
            }
        };
        let from = self.scan_from.iter().find(|start| start.class == id.class);
        let from = from.map(|start| (start.sequence, start.position));
        let mut scanner = Scanner::<ReadOnly>::new(file, header.salt, end)?;
        let mut dictionary = Vec::new();
        loop {
            match scanner.advance()? {
                Scanned::Batch => {
                    let (position, records) = scanner.batch();
                    self.found.batches += 1;
                    let (serial, length) = (scanner.serial, scanner.position() - position);
                    let is_news = from.is_none_or(|from| (id.sequence, scanner.position()) > from);
                    // In the segment of the checkpoint's position, the others name channels.
                    if from.is_none_or(|(sequence, _)| id.sequence >= sequence) {
                        self.batches.push(BatchOf { is_news, serial, id, position, length });
                    }
                    for record in &records {
                        self.read_record(id, record, position + record.at as u32, &mut dictionary, see);
                    }
                }
                Scanned::End if end.is_none_or(|end| scanner.position() >= end) => break,
                Scanned::Bad if end.is_none() => {
                    let reason = format!("{} bytes after the last whole batch", scanner.rest()?);
                    let position = u64::from(scanner.position());
                    self.found.torn.push(BadPart { file: name.clone(), position, reason });
                    break;
                }
                Scanned::End | Scanned::Bad => {
                    let lost = end.map_or(0, |end| end.saturating_sub(scanner.position()));
                    self.bad(&name, scanner.position().into(), &format!("{lost} bytes after a bad batch are lost"));
                    break;
                }
            }
        }
        self.found.bytes += u64::from(scanner.position());
        Ok(())
    }

    fn read_record(
        &mut self,
        id: SegmentId,
        record: &Record<'_>,
        position: u32,
        dictionary: &mut Vec<(Arc<str>, [u8; 6])>,
        see: &mut dyn FnMut(&Seen<'_>),
    ) {
        let head = record.head;
        if head.kind == Kind::Channel
            && let Some(meta) = ChannelMeta::read(record.body, head.offset, head.time)
        {
            let entry = (Arc::from(&*meta.name), meta.epoch);
            match dictionary.get_mut(head.channel as usize) {
                Some(known) => *known = entry,
                None => dictionary.push(entry),
            }
        }
        let (channel, epoch) = dictionary.get(head.channel as usize).cloned().unwrap_or_else(|| ("".into(), [0; 6]));
        let kind = format!("{:?}", head.kind).to_lowercase();
        let file = id.file_name();
        let (offset, time, length) = (head.offset, head.time, record.body.len() + RECORD_HEAD);
        see(&Seen { file: &file, position, kind, channel: &channel, offset, time, length });
        if head.kind == Kind::Publication {
            self.found.publications += 1;
            self.places.push(PlaceOf { time, id, position, channel, epoch, offset });
        }
    }
}

/// A directory that is only read.
struct ReadOnly(PathBuf);

impl Files for ReadOnly {
    type File = fs::File;
    type Lock = ();

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default())).collect()
    }

    fn create(&self, _: &str, _: u64) -> io::Result<Arc<fs::File>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Arc<fs::File>> {
        fs::File::open(self.0.join(name)).map(Arc::new)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> Result<(), LockError> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}
