//! A directory in memory for tests. It keeps what was written and what was synced apart: a power loss keeps any of the unsynced
//! sectors of 512 bytes, and any of the unsynced changes of the directory. Calls fail as a test says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::files::{File, Files, LockError};

const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Eio,
    Enospc,
    /// A write that writes a part, and fails with EIO when it is continued.
    ShortWrite,
}

/// Which calls a fault concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Create,
    Write,
    Sync,
    Read,
    Rename,
    Remove,
    SyncDirectory,
}

#[derive(Clone, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// A sync of it has failed: what was not synced then is lost, whatever later syncs say.
    is_broken: bool,
}

#[derive(Default)]
struct Disk {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    is_locked: bool,
    /// Calls until the fault, which then happens so many times.
    faults: Vec<(Call, u64, u64, Fault)>,
    calls: u64,
    free: Option<u64>,
}

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<Disk>>);

pub(super) struct SimFile {
    disk: SimDisk,
    content: usize,
}

pub(super) struct SimLock(SimDisk);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.disk().is_locked = false;
    }
}

impl SimDisk {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("never poisoned: no code panics while holding the lock")
    }

    /// The call of this kind after `after` others fails, and the `times - 1` that follow it.
    pub(super) fn fail(&self, call: Call, after: u64, times: u64, fault: Fault) {
        self.disk().faults.push((call, after, times, fault));
    }

    pub(super) fn heal(&self) {
        self.disk().faults.clear();
    }

    pub(super) fn set_free(&self, bytes: u64) {
        self.disk().free = Some(bytes);
    }

    /// A copy of the disk as a process finds it that starts after a kill.
    pub(super) fn after_kill(&self) -> Self {
        let disk = self.disk();
        let (contents, names, synced_names) = (disk.contents.clone(), disk.names.clone(), disk.synced_names.clone());
        Self(Arc::new(Mutex::new(Disk { contents, names, synced_names, ..Disk::default() })))
    }

    /// A copy of the disk after a power loss.
    pub(super) fn after_power_loss(&self, random: &mut fastrand::Rng) -> Self {
        let disk = self.disk();
        let mut names = disk.synced_names.clone();
        // Changes of the directory survive up to one of them, or each for itself.
        let (changed, all) = (disk.names.clone(), random.u8(..4));
        for name in changed.keys().chain(disk.synced_names.keys()) {
            if changed.get(name) != disk.synced_names.get(name) && (all == 0 || all == 1 && random.bool()) {
                match changed.get(name) {
                    Some(&content) => _ = names.insert(name.clone(), content),
                    None => _ = names.remove(name),
                }
            }
        }
        let keep = random.u8(..3);
        let contents = disk.contents.iter().map(|content| content.after_power_loss(keep, random)).collect();
        let synced_names = names.clone();
        Self(Arc::new(Mutex::new(Disk { contents, names, synced_names, ..Disk::default() })))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.disk().names.keys().cloned().collect()
    }

    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.names.get(name).map_or_else(Vec::new, |&content| disk.contents[content].written.clone())
    }

    /// Replaces a file, as if it had been synced so.
    pub(super) fn set_content(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        disk.contents.push(Content { written: bytes.clone(), synced: bytes, is_broken: false });
        let content = disk.contents.len() - 1;
        disk.names.insert(name.to_string(), content);
        disk.synced_names.insert(name.to_string(), content);
    }

    fn call(&self, call: Call) -> Result<MutexGuard<'_, Disk>, Fault> {
        let mut disk = self.disk();
        disk.calls += 1;
        for fault in &mut disk.faults {
            if fault.0 != call {
                continue;
            }
            if fault.1 > 0 {
                fault.1 -= 1;
            } else if fault.2 > 0 {
                fault.2 -= 1;
                return Err(fault.3);
            }
        }
        Ok(disk)
    }
}

impl Content {
    fn after_power_loss(&self, keep: u8, random: &mut fastrand::Rng) -> Self {
        let mut kept = self.synced.clone();
        let length = self.written.len();
        if keep != 2 || random.bool() {
            kept.resize(length, 0);
        }
        for at in (0..length.min(kept.len())).step_by(SECTOR) {
            let sector = at..(at + SECTOR).min(length).min(kept.len());
            if keep == 0 || keep == 1 && random.bool() {
                kept[sector.clone()].copy_from_slice(&self.written[sector]);
            }
        }
        Self { written: kept.clone(), synced: kept, is_broken: false }
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Enospc => io::ErrorKind::StorageFull.into(),
        Fault::Eio | Fault::ShortWrite => io::Error::from_raw_os_error(5),
    }
}

impl Files for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<SimFile>> {
        let mut disk = self.call(Call::Create).map_err(error)?;
        if disk.free.is_some_and(|free| free < bytes) {
            return Err(error(Fault::Enospc));
        }
        disk.free = disk.free.map(|free| free - bytes);
        disk.contents.push(Content { written: vec![0; bytes as usize], ..Content::default() });
        let content = disk.contents.len() - 1;
        disk.names.insert(name.to_string(), content);
        drop(disk);
        Ok(Arc::new(SimFile { disk: self.clone(), content }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<SimFile>> {
        let found = self.disk().names.get(name).copied();
        let content = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Arc::new(SimFile { disk: self.clone(), content }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.call(Call::Rename).map_err(error)?;
        let content = disk.names.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        disk.names.insert(to.to_string(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.call(Call::Remove).map_err(error)?;
        let content = disk.names.remove(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let bytes = disk.contents[content].written.len() as u64;
        disk.free = disk.free.map(|free| free + bytes);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.call(Call::SyncDirectory).map_err(error)?;
        disk.synced_names = disk.names.clone();
        Ok(())
    }

    fn lock(&self) -> Result<SimLock, LockError> {
        if std::mem::replace(&mut self.disk().is_locked, true) {
            return Err(LockError::Held(Some(7)));
        }
        Ok(SimLock(self.clone()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.disk().free.unwrap_or(u64::MAX))
    }
}

impl File for SimFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        let (mut disk, count) = match self.disk.call(Call::Write) {
            Ok(disk) => (disk, bytes.len()),
            // The rest of it fails.
            Err(Fault::ShortWrite) if bytes.len() > 1 => {
                self.disk.fail(Call::Write, 0, 1, Fault::Eio);
                (self.disk.disk(), bytes.len() / 2)
            }
            Err(fault) => return Err(error(fault)),
        };
        let (written, from) = (&mut disk.contents[self.content].written, position as usize);
        if written.len() < from + count {
            written.resize(from + count, 0);
        }
        written[from..from + count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let disk = self.disk.call(Call::Read).map_err(error)?;
        let written = &disk.contents[self.content].written;
        let rest = written.get(position as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.call(Call::Sync) {
            Ok(mut disk) => {
                let content = &mut disk.contents[self.content];
                if !content.is_broken {
                    content.synced = content.written.clone();
                }
                Ok(())
            }
            Err(fault) => {
                self.disk.disk().contents[self.content].is_broken = true;
                Err(error(fault))
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.disk().contents[self.content].written.len() as u64)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk.disk().contents[self.content].written.truncate(bytes as usize);
        Ok(())
    }
}
