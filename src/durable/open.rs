//! The start of a lane: the state, the checkpoint, and the scan of the segments after it.
//!
//! All segments are ended by it: a lane that was opened writes to new ones, so that nothing that an earlier process left behind
//! the last whole batch is ever read as a batch.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use super::checkpoint::{CheckpointError, CheckpointReader, CheckpointRow, ScanStart};
use super::class_log::{ClassLog, Maintenance, scan_sequences};
use super::files::{File, Files};
use super::keys::Keys;
use super::lane::Lane;
use super::memory_index::MemoryIndex;
use super::meta::{ChannelMeta, Channels};
use super::replay::{Known, Replay};
use super::retention::{CHECKPOINT, CHECKPOINT_NEW};
use super::sealed::{IndexTask, Sealed};
use super::segment::{CLASSES, HEADER, Header, HeaderFault, Scanned, Scanner, Segment, SegmentId};
use super::state::{Found as FoundState, State};
use super::types::{LaneOptions, LaneStats, LastEnd, OpenError, OpenReport};

/// A segment whose header was read.
struct Found<F: Files> {
    id: SegmentId,
    file: Arc<F::File>,
    header: Header,
    /// Of the file.
    bytes: u64,
}

/// A segment that is scanned.
struct Scan<F: Files> {
    found: Found<F>,
    scanner: Scanner<F>,
    /// What stands before it is in the checkpoint, and only names channels.
    apply_from: u32,
    /// Where it ends by the header of the next one; `None` for the last of its class.
    expected_end: Option<u32>,
    replay: Replay,
    /// What its index file is made of, if that is missing.
    index: Option<MemoryIndex>,
    /// It has a batch that is not applied yet.
    has_batch: bool,
    is_done: bool,
}

impl<F: Files> Lane<F> {
    /// Locks and reads the directory. Errors: another process has it, a newer program wrote it, or it cannot be read.
    pub fn open(files: F, options: LaneOptions, now: u64) -> Result<(Self, OpenReport), OpenError> {
        let lock = files.lock().map_err(OpenError::Lock)?;
        let (ids, indexes) = list_segments(&files)?;
        let (state, last_end) = read_state(&files, &options, !ids.is_empty())?;
        let mut lane = Self {
            files: Arc::new(files),
            _lock: lock,
            options,
            state,
            channels: Channels::default(),
            keys: Keys::default(),
            classes: Self::empty_classes(),
            // The clock may be behind what the log has: only that counts until the end of the scan.
            time: 0,
            serial: 0,
            sync_before: false,
            sync_after: false,
            failed: None,
            is_full: false,
            quarantined: 0,
            stats: LaneStats::default(),
            maintenance: Maintenance::new(now),
            hidden: Vec::new(),
            unwritten: VecDeque::new(),
        };
        let mut report = OpenReport { last_end, segments: ids.len(), ..OpenReport::default() };
        let scan_from = lane.read_checkpoint(&mut report)?;
        let has_loss = lane.scan((&ids, &indexes), &scan_from, &mut report)?;
        lane.sync_scanned()?;
        lane.time = lane.time.max(now);
        lane.keys.expire(lane.time);
        lane.begin(last_end, has_loss)?;
        report.channels = lane.channels.len();
        lane.quarantined = report.quarantined.len();
        Ok((lane, report))
    }

    /// What the last process did not sync must not be lost when what follows is kept.
    fn sync_scanned(&self) -> Result<(), OpenError> {
        for segment in self.classes.iter().flat_map(ClassLog::segments) {
            let from = self.maintenance.scan_from.get(usize::from(segment.id.class)).copied().unwrap_or_default();
            if segment.id.sequence >= from {
                let synced = segment.file.sync_data();
                synced.map_err(|error| OpenError::Io { file: segment.id.file_name(), error })?;
            }
        }
        Ok(())
    }

    /// Where the scan begins, by class. Without a checkpoint: everywhere at the beginning.
    fn read_checkpoint(&mut self, report: &mut OpenReport) -> Result<Vec<ScanStart>, OpenError> {
        let error = |error| OpenError::Io { file: CHECKPOINT.into(), error };
        let file = match self.files.open(CHECKPOINT) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                if report.segments > 0 {
                    report.notes.push("there is no checkpoint: all files are read".into());
                }
                return Ok(Vec::new());
            }
            file => file.map_err(error)?,
        };
        let read = CheckpointReader::open(file).and_then(|reader| {
            let (head, mut channels, mut keys) = (reader.head().clone(), Channels::default(), Keys::default());
            for row in reader {
                match row? {
                    CheckpointRow::Meta(row) => _ = channels.insert(ChannelMeta::of_row(row)),
                    CheckpointRow::Key(key) => keys.insert(key.hash, key.time, key.position),
                }
            }
            Ok((head, channels, keys))
        });
        let (head, channels, keys) = match read {
            Ok(read) => read,
            Err(CheckpointError::NewerFormat(version)) => {
                return Err(OpenError::NewerFormat { file: CHECKPOINT.into(), version });
            }
            Err(CheckpointError::Read(fault)) => return Err(error(fault)),
            Err(CheckpointError::Corrupt) => {
                report.quarantined.push(CHECKPOINT.into());
                return Ok(Vec::new());
            }
        };
        (self.time, self.channels, self.keys) = (head.time, channels, keys);
        self.maintenance.scan_from = scan_sequences(&head.scan_from);
        Ok(head.scan_from)
    }

    /// Reads the segments from the checkpoint on; of older ones only the headers. True: something that was acknowledged may be
    /// missing.
    fn scan(
        &mut self,
        (ids, indexes): (&[SegmentId], &HashSet<SegmentId>),
        from: &[ScanStart],
        report: &mut OpenReport,
    ) -> Result<bool, OpenError> {
        let mut has_loss = report.quarantined.iter().any(|name| name == CHECKPOINT);
        let mut segments = Vec::new();
        for &id in ids {
            let start = from.iter().find(|start| start.class == id.class);
            let is_old = start.is_some_and(|start| id.sequence < start.sequence);
            match self.read_header(id, report)? {
                Some(found) => segments.push(found),
                // What it said of channels is in the checkpoint.
                None => has_loss |= !is_old && report.quarantined.last().is_some_and(|name| *name == id.file_name()),
            }
        }
        let mut scans = self.begin_scans(segments, indexes, from)?;
        for start in from {
            let log = &mut self.classes[usize::from(start.class)];
            log.next_sequence = log.next_sequence.max(start.sequence);
        }
        for scan in scans.iter_mut().filter_map(VecDeque::front_mut) {
            while !scan.is_done && scan.scanner.position() < scan.apply_from {
                has_loss |= self.advance(scan, report)?;
                if scan.has_batch && scan.scanner.position() <= scan.apply_from {
                    self.apply(scan, false);
                }
            }
        }
        // In the order in which they were written, of all classes.
        loop {
            for class in &mut scans {
                while let Some(scan) = class.front_mut().filter(|scan| !scan.has_batch) {
                    if scan.is_done {
                        class.pop_front();
                    } else {
                        has_loss |= self.advance(scan, report)?;
                    }
                }
            }
            let fronts = scans.iter_mut().filter_map(VecDeque::front_mut);
            let Some(first) = fronts.min_by_key(|scan| scan.scanner.serial) else { return Ok(has_loss) };
            self.apply(first, true);
        }
    }

    /// By class, oldest first. Those before the checkpoint are not scanned.
    fn begin_scans(
        &mut self,
        segments: Vec<Found<F>>,
        indexes: &HashSet<SegmentId>,
        from: &[ScanStart],
    ) -> Result<Vec<VecDeque<Scan<F>>>, OpenError> {
        let mut scans: Vec<_> = (0..CLASSES).map(|_| VecDeque::new()).collect();
        let mut segments = segments.into_iter().peekable();
        while let Some(found) = segments.next() {
            // One that was removed between the two has ended whole.
            let next = segments
                .peek()
                .filter(|next| next.id.class == found.id.class && next.header.previous == found.id.sequence as u32);
            let expected_end = next.map(|next| next.header.previous_end);
            let start = from.iter().find(|start| start.class == found.id.class);
            let apply_from = match start {
                Some(start) if found.id.sequence < start.sequence => {
                    let end = expected_end.unwrap_or(u32::MAX).min(found.bytes.min(u64::from(u32::MAX)) as u32);
                    self.add_sealed(&found, end, None);
                    continue;
                }
                Some(start) if found.id.sequence == start.sequence => start.position,
                _ => HEADER,
            };
            let index = (!indexes.contains(&found.id)).then(MemoryIndex::default);
            let scanner = Scanner::new(Arc::clone(&found.file), found.header.salt, None)
                .map_err(|error| OpenError::Io { file: found.id.file_name(), error })?;
            let (replay, has_batch, is_done) = (Replay::default(), false, false);
            let class = &mut scans[usize::from(found.id.class)];
            class.push_back(Scan { found, scanner, apply_from, expected_end, replay, index, has_batch, is_done });
        }
        Ok(scans)
    }

    /// `None`: the segment is not used.
    fn read_header(&mut self, id: SegmentId, report: &mut OpenReport) -> Result<Option<Found<F>>, OpenError> {
        let name = id.file_name();
        let error = |error| OpenError::Io { file: id.file_name(), error };
        self.classes[usize::from(id.class)].next_sequence = id.sequence + 1;
        let file = self.files.open(&name).map_err(error)?;
        match Header::read(&file, id) {
            Ok(header) => {
                let bytes = file.len().map_err(error)?;
                return Ok(Some(Found { id, file, header, bytes }));
            }
            Err(HeaderFault::Newer(version)) => return Err(OpenError::NewerFormat { file: name, version }),
            Err(HeaderFault::Read(fault)) => return Err(error(fault)),
            // Nothing in it was ever synced.
            Err(HeaderFault::Corrupt) if is_unused(&file, report.last_end).map_err(error)? => {
                self.files.remove(&name).map_err(error)?;
            }
            Err(HeaderFault::Corrupt) => report.quarantined.push(name),
        }
        Ok(None)
    }

    fn add_sealed(&mut self, found: &Found<F>, end: u32, index: Option<MemoryIndex>) {
        let Found { id, file, header, bytes } = found;
        let file = Arc::clone(file);
        let segment = Segment { id: *id, file, salt: header.salt, created: header.created, end, bytes: *bytes };
        let log = &mut self.classes[usize::from(id.class)];
        log.previous = (end, id.sequence as u32);
        let is_missing = index.is_some();
        let sealed = Sealed::new(segment, index);
        if is_missing {
            let files = Arc::clone(&self.files);
            IndexTask { files, sealed: Arc::clone(&sealed) }.run();
        }
        log.sealed.push_back(sealed);
    }

    /// Reads the next batch. True: something that was acknowledged may be missing.
    fn advance(&mut self, scan: &mut Scan<F>, report: &mut OpenReport) -> Result<bool, OpenError> {
        let id = scan.found.id;
        let error = |error| OpenError::Io { file: id.file_name(), error };
        let at = scan.scanner.position();
        let is_at_end = scan.expected_end.is_some_and(|end| at >= end);
        let scanned = if is_at_end { Scanned::End } else { scan.scanner.advance().map_err(error)? };
        if scanned == Scanned::Batch {
            scan.has_batch = true;
            report.scanned_bytes += u64::from(scan.scanner.position() - at);
            return Ok(false);
        }
        scan.is_done = true;
        let is_last = scan.expected_end.is_none() && at >= scan.apply_from;
        let is_loss = match (is_at_end, is_last) {
            (true, _) => false,
            (false, true) if scanned == Scanned::End => {
                // Only space is lost if the file stays as long as it is.
                if scan.found.file.truncate(u64::from(at)).is_ok() {
                    scan.found.bytes = u64::from(at);
                }
                false
            }
            (false, true) => {
                report.torn_bytes += scan.scanner.rest().map_err(error)?;
                // After a crash of the machine, later sectors may be there without earlier ones.
                let is_torn = report.last_end == LastEnd::Crashed || !scan.scanner.has_later_batch().map_err(error)?;
                if is_torn {
                    // Otherwise later sectors would look like a loss to the next start.
                    scan.found.file.truncate(u64::from(at)).map_err(error)?;
                    scan.found.bytes = u64::from(at);
                }
                !is_torn
            }
            (false, false) => true,
        };
        if is_loss {
            report.quarantined.push(id.file_name());
        }
        let index = scan.index.take();
        if index.is_some() && at > HEADER {
            report.notes.push(format!("the index of {} is missing and is made", id.file_name()));
        }
        self.add_sealed(&scan.found, at, index);
        Ok(is_loss)
    }

    fn apply(&mut self, scan: &mut Scan<F>, with_meta: bool) {
        scan.has_batch = false;
        self.serial = self.serial.max(scan.scanner.serial);
        let (position, records) = scan.scanner.batch();
        let Self { time, channels, keys, state, .. } = self;
        let mut known = Known { time, channels, keys, state };
        for record in &records {
            if let Some(index) = &mut scan.index {
                index.add(None, &record.head, record.body, position + record.at as u32);
            }
            known.replay(scan.found.id.class, &mut scan.replay, record, with_meta);
        }
    }

    /// Writes what has to be known before anything is shown.
    fn begin(&mut self, last_end: LastEnd, has_loss: bool) -> Result<(), OpenError> {
        let error = |error| OpenError::Io { file: "state".into(), error };
        if last_end == LastEnd::Crashed || has_loss {
            let state = &mut self.state;
            state.crashes = state.crashes.wrapping_add(1);
            for meta in self.channels.iter_mut().filter(|meta| has_loss || !meta.is_strict) {
                let base = state.next_base(&meta.name);
                meta.begin_generation(base);
            }
            // The checkpoint first: with the old state, the next start would do this again.
            self.write_checkpoint().map_err(OpenError::Lane)?;
        }
        (self.state.is_clean, self.state.boot_id) = (false, self.options.boot_id);
        self.state.write(&*self.files).map_err(error)
    }
}

/// The segments, oldest first in each class, and which of them have an index.
fn list_segments<F: Files>(files: &F) -> Result<(Vec<SegmentId>, HashSet<SegmentId>), OpenError> {
    let error = |error| OpenError::Io { file: ".".into(), error };
    let names = files.list().map_err(error)?;
    let mut ids: Vec<_> = names.iter().filter_map(|name| SegmentId::of_file_name(name)).collect();
    ids.sort_unstable();
    let mut indexes = HashSet::new();
    for name in &names {
        let is_part = name == CHECKPOINT_NEW || name.ends_with(".idx.new");
        match SegmentId::of_index_name(name) {
            Some(id) if ids.binary_search(&id).is_ok() => _ = indexes.insert(id),
            // What was not renamed is not complete, and an index without its segment is of no use. They only take space.
            id if is_part || id.is_some() => _ = files.remove(name),
            _ => {}
        }
    }
    Ok((ids, indexes))
}

fn read_state<F: Files>(files: &F, options: &LaneOptions, has_segments: bool) -> Result<(State, LastEnd), OpenError> {
    let file = || "state".to_string();
    let new = || State::new(options.seed, options.boot_id);
    Ok(match State::read(files).map_err(|error| OpenError::Io { file: file(), error })? {
        FoundState::None if !has_segments => (new(), LastEnd::New),
        FoundState::None | FoundState::Corrupt => (new(), LastEnd::Crashed),
        FoundState::Newer(version) => return Err(OpenError::NewerFormat { file: file(), version }),
        FoundState::State(state) => {
            let is_same_boot = state.boot_id == options.boot_id;
            let last_end = match (state.is_clean, is_same_boot) {
                (true, _) => LastEnd::Clean,
                (false, true) => LastEnd::Killed,
                (false, false) => LastEnd::Crashed,
            };
            (state, last_end)
        }
    })
}

/// The header was not written; after a crash of the machine, batches may be there without it, of which none was synced.
fn is_unused<F: File>(file: &Arc<F>, last_end: LastEnd) -> io::Result<bool> {
    let batches = if last_end == LastEnd::Crashed { 0 } else { 64 };
    let mut head = vec![0; (HEADER as usize + batches).min(file.len()? as usize)];
    super::codec::ReadAt::read_exact_at(file, &mut head, 0)?;
    Ok(head.iter().all(|&byte| byte == 0))
}
