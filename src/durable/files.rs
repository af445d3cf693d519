//! The files of a lane: a directory behind a small trait, so that tests can lose power. No mmap: a failed read has to be an
//! error, not a signal.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

use super::codec::ReadAt;

/// The directory of one lane.
pub trait Files: Send + Sync + 'static {
    type File: File;
    /// Keeps the directory locked until it is dropped.
    type Lock: Send + 'static;

    /// The names of the files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file of so many zero bytes, whose space is taken at once. An old one with this name is replaced.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<Self::File>>;
    fn open(&self, name: &str) -> io::Result<Arc<Self::File>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Creations, renames and removals before it survive a power loss.
    fn sync_directory(&self) -> io::Result<()>;
    fn lock(&self) -> Result<Self::Lock, LockError>;
    /// Free space of the file system, in bytes.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Readers on other threads share it.
pub trait File: Send + Sync + 'static {
    /// Writes some of the bytes and returns how many.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;
    /// Reads some bytes and returns how many; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    fn sync_data(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file and frees the space behind.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    fn write_all_at(&self, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => (bytes, position) = (&bytes[count.min(bytes.len())..], position + count as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<F: File> ReadAt for Arc<F> {
    fn read_exact_at(&self, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, position) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => (buffer, position) = (&mut buffer[count..], position + count as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        self.len()
    }
}

/// Why a directory cannot be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it; its id, if the lock file names one.
    Held(Option<u32>),
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(Some(pid)) => write!(f, "process {pid} has the directory locked"),
            Self::Held(None) => f.write_str("another process has the directory locked"),
            Self::Io(error) => write!(f, "the directory cannot be locked: {error}"),
        }
    }
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Creates the directory if it is missing.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }
}

pub(super) const LOCK_FILE: &str = "LOCK";

impl Files for Directory {
    type File = fs::File;
    type Lock = fs::File;

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        entries.collect()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<fs::File>> {
        let path = self.path.join(name);
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let allocated = if bytes == 0 { Ok(()) } else { allocate(&file, bytes) };
        if let Err(error) = allocated {
            // What could not be allocated is not left behind; the error to report is the first one.
            _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<fs::File>> {
        fs::OpenOptions::new().read(true).write(true).open(self.path.join(name)).map(Arc::new)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn lock(&self) -> Result<fs::File, LockError> {
        let mut open = fs::OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let mut file = open.open(self.path.join(LOCK_FILE)).map_err(LockError::Io)?;
        lock_file(&file, FlockOperation::NonBlockingLockExclusive)?;
        let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        named.map_err(LockError::Io)?;
        Ok(file)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// Locks the lock file of a directory, until it is closed.
pub(super) fn lock_file(mut file: &fs::File, how: FlockOperation) -> Result<(), LockError> {
    match rustix::fs::flock(file, how) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // An unreadable file only leaves the id out.
            _ = file.read_to_string(&mut text);
            Err(LockError::Held(text.trim().parse().ok()))
        }
        Err(error) => Err(LockError::Io(error.into())),
    }
}

/// A file system without preallocation gets a sparse file.
fn allocate(file: &fs::File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

impl File for fs::File {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, position)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}
