//! The start of a lane: the state, the checkpoint, and the scan of the segments after it.
//!
//! All segments are ended by it: a lane that was opened writes to new ones, so that nothing that an earlier process left behind
//! the last whole batch is ever read as a batch.

use std::io;
use std::sync::Arc;

use super::checkpoint::{CheckpointError, CheckpointReader, CheckpointRow, ScanStart};
use super::class_log::{Maintenance, Segment, scan_sequences};
use super::files::{File, Files};
use super::keys::Keys;
use super::lane::Lane;
use super::memory_index::MemoryIndex;
use super::meta::{ChannelMeta, Channels};
use super::replay::Replay;
use super::retention::{CHECKPOINT, CHECKPOINT_NEW};
use super::segment::{HEADER, Header, HeaderFault, Scanned, Scanner, SegmentId};
use super::state::{Found, State};
use super::types::{LaneOptions, LaneStats, LastEnd, OpenError, OpenReport};

/// A segment that is scanned.
struct Scan<F: Files> {
    scanner: Scanner<F>,
    id: SegmentId,
    /// Batches before it only give positions: the checkpoint has what they say.
    apply_from: u32,
    /// Where it ends by the header of the next one; `None` for the last of its class.
    expected_end: Option<u32>,
    replay: Replay,
    /// It has a batch that is not applied yet.
    has_batch: bool,
    is_done: bool,
}

impl<F: Files> Lane<F> {
    /// Locks and reads the directory. Errors: another process has it, a newer program wrote it, or it cannot be read.
    pub fn open(files: F, options: LaneOptions, now: u64) -> Result<(Self, OpenReport), OpenError> {
        let lock = files.lock().map_err(OpenError::Lock)?;
        let mut ids = list_segments(&files)?;
        ids.sort_unstable();
        let (state, last_end) = read_state(&files, &options, !ids.is_empty())?;
        let mut lane = Self {
            files: Arc::new(files),
            _lock: lock,
            options,
            state,
            channels: Channels::default(),
            keys: Keys::default(),
            classes: Self::empty_classes(),
            time: now,
            serial: 0,
            sync_before: false,
            sync_after: false,
            failed: None,
            is_full: false,
            quarantined: 0,
            stats: LaneStats::default(),
            maintenance: Maintenance { checkpoint_time: now, ..Maintenance::default() },
        };
        // The clock may be behind what the log has: only that counts until the end of the scan.
        lane.time = 0;
        let mut report = OpenReport { last_end, segments: ids.len(), ..OpenReport::default() };
        let scan_from = lane.read_checkpoint(&mut report)?;
        let has_loss = lane.scan(&ids, &scan_from, &mut report)?;
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
        for segment in self.classes.iter().flat_map(|class| &class.sealed) {
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
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file.map_err(error)?,
        };
        let read = CheckpointReader::open(file).and_then(|reader| {
            let head = reader.head().clone();
            Ok((head, reader.collect::<Result<Vec<_>, _>>()?))
        });
        let (head, rows) = match read {
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
        self.time = head.time;
        for row in rows {
            match row {
                CheckpointRow::Meta(row) => _ = self.channels.insert(ChannelMeta::of_row(row)),
                CheckpointRow::Key(key) => self.keys.insert(key.hash, key.time, key.position),
            }
        }
        self.maintenance.scan_from = scan_sequences(&head.scan_from);
        Ok(head.scan_from)
    }

    /// Reads the segments. True: something that was acknowledged may be missing.
    fn scan(&mut self, ids: &[SegmentId], from: &[ScanStart], report: &mut OpenReport) -> Result<bool, OpenError> {
        let mut has_loss = report.quarantined.iter().any(|name| name == CHECKPOINT);
        let mut scans = Vec::new();
        for &id in ids {
            has_loss |= self.open_segment(id, from, &mut scans, report)?;
        }
        for start in from {
            let log = &mut self.classes[usize::from(start.class)];
            log.next_sequence = log.next_sequence.max(start.sequence);
        }
        for scan in &mut scans {
            while !scan.is_done && scan.scanner.position() < scan.apply_from {
                has_loss |= self.advance(scan, report)?;
                if scan.has_batch && scan.scanner.position() <= scan.apply_from {
                    self.apply(scan, false);
                }
            }
        }
        // In the order in which they were written, of all classes.
        loop {
            for at in 0..scans.len() {
                let is_first = scans[..at].iter().all(|before| before.is_done || before.id.class != scans[at].id.class);
                if is_first && !scans[at].is_done && !scans[at].has_batch {
                    has_loss |= self.advance(&mut scans[at], report)?;
                }
            }
            let all_done = scans.iter().all(|scan| scan.is_done && !scan.has_batch);
            if all_done {
                return Ok(has_loss);
            }
            let ready = scans.iter_mut().filter(|scan| scan.has_batch).min_by_key(|scan| scan.scanner.serial);
            if let Some(scan) = ready {
                self.apply(scan, true);
            }
        }
    }

    /// True: its header cannot be read.
    fn open_segment(
        &mut self,
        id: SegmentId,
        from: &[ScanStart],
        scans: &mut Vec<Scan<F>>,
        report: &mut OpenReport,
    ) -> Result<bool, OpenError> {
        let name = id.file_name();
        let error = |error| OpenError::Io { file: id.file_name(), error };
        let log = &mut self.classes[usize::from(id.class)];
        log.next_sequence = id.sequence + 1;
        let file = self.files.open(&name).map_err(error)?;
        let header = match Header::read(&file, id) {
            Ok(header) => header,
            Err(HeaderFault::Newer(version)) => return Err(OpenError::NewerFormat { file: name, version }),
            Err(HeaderFault::Read(fault)) => return Err(error(fault)),
            Err(HeaderFault::Corrupt) if is_unused(&file, report.last_end).map_err(error)? => {
                // Nothing in it was ever synced.
                self.files.remove(&name).map_err(error)?;
                return Ok(false);
            }
            Err(HeaderFault::Corrupt) => {
                report.quarantined.push(name);
                return Ok(true);
            }
        };
        let before = scans.last_mut().filter(|scan| scan.id.class == id.class);
        // One that was removed between the two has ended whole.
        let before = before.filter(|scan| scan.id.sequence as u32 == header.previous);
        if let Some(before) = before {
            before.expected_end = Some(header.previous_end);
        }
        let start = from.iter().find(|start| start.class == id.class);
        let apply_from = match start {
            Some(start) if id.sequence < start.sequence => u32::MAX,
            Some(start) if id.sequence == start.sequence => start.position,
            _ => HEADER,
        };
        let scanner = Scanner::new(Arc::clone(&file), header.salt, None).map_err(error)?;
        let bytes = file.len().map_err(error)?;
        log.sealed.push_back(Segment {
            id,
            file,
            end: HEADER,
            index: MemoryIndex::default(),
            sealed_index: Arc::default(),
            bytes,
        });
        let replay = Replay::default();
        scans.push(Scan { scanner, id, apply_from, expected_end: None, replay, has_batch: false, is_done: false });
        Ok(false)
    }

    /// Reads the next batch. True: something that was acknowledged may be missing.
    fn advance(&mut self, scan: &mut Scan<F>, report: &mut OpenReport) -> Result<bool, OpenError> {
        let error = |error| OpenError::Io { file: scan.id.file_name(), error };
        let at = scan.scanner.position();
        let is_at_end = scan.expected_end.is_some_and(|end| at >= end);
        let scanned = if is_at_end { Scanned::End } else { scan.scanner.advance().map_err(error)? };
        if scanned == Scanned::Batch {
            scan.has_batch = true;
            report.scanned_bytes += u64::from(scan.scanner.position() - at);
            return Ok(false);
        }
        scan.is_done = true;
        if let Some(segment) = self.segment_mut(scan.id) {
            segment.end = at;
            segment.index.drop_entries();
        }
        self.classes[usize::from(scan.id.class)].previous = (at, scan.id.sequence as u32);
        if is_at_end || (scanned == Scanned::End && scan.expected_end.is_none() && at >= scan.apply_from) {
            return Ok(false);
        }
        let is_applied = scan.apply_from < u32::MAX;
        let is_loss = if scan.expected_end.is_none() && at >= scan.apply_from {
            report.torn_bytes += scan.scanner.rest().map_err(error)?;
            // After a crash of the machine, later sectors may be there without earlier ones.
            report.last_end != LastEnd::Crashed && scan.scanner.has_later_batch().map_err(error)?
        } else if scan.expected_end.is_none() && !is_applied {
            // The last one before the checkpoint's: it ends where it ends, or is cut there.
            scanned == Scanned::Bad
        } else {
            true
        };
        if is_loss {
            report.quarantined.push(scan.id.file_name());
        } else if let Some(segment) = self.segment_mut(scan.id) {
            // Otherwise later sectors would look like a loss to the next start.
            segment.file.truncate(u64::from(at)).map_err(error)?;
            segment.bytes = u64::from(at);
        }
        Ok(is_loss && is_applied)
    }

    fn apply(&mut self, scan: &mut Scan<F>, with_meta: bool) {
        scan.has_batch = false;
        self.serial = self.serial.max(scan.scanner.serial);
        let (position, records) = scan.scanner.batch();
        for record in &records {
            self.replay(scan.id, &mut scan.replay, record, position, with_meta);
        }
    }

    pub(super) fn segment_mut(&mut self, id: SegmentId) -> Option<&mut Segment<F>> {
        self.classes[usize::from(id.class)].sealed.iter_mut().find(|segment| segment.id == id)
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

fn list_segments<F: Files>(files: &F) -> Result<Vec<SegmentId>, OpenError> {
    let error = |error| OpenError::Io { file: ".".into(), error };
    let names = files.list().map_err(error)?;
    // What was not renamed is not complete.
    if names.iter().any(|name| name == CHECKPOINT_NEW) {
        files.remove(CHECKPOINT_NEW).map_err(error)?;
    }
    Ok(names.iter().filter_map(|name| SegmentId::of_file_name(name)).collect())
}

fn read_state<F: Files>(files: &F, options: &LaneOptions, has_segments: bool) -> Result<(State, LastEnd), OpenError> {
    let file = || "state".to_string();
    let new = || State::new(options.seed, options.boot_id);
    Ok(match State::read(files).map_err(|error| OpenError::Io { file: file(), error })? {
        Found::None if !has_segments => (new(), LastEnd::New),
        Found::None | Found::Corrupt => (new(), LastEnd::Crashed),
        Found::Newer(version) => return Err(OpenError::NewerFormat { file: file(), version }),
        Found::State(state) => {
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
