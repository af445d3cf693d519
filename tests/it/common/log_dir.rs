//! The directory of a durable log.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory for the log of one test; it is removed when the test ends.
pub struct LogDir(pub PathBuf);

impl LogDir {
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corecast-log-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    /// As a value of `durable.data_dirs`.
    pub fn dirs(&self) -> String {
        format!("[\"{}\"]", self.0.display())
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}
