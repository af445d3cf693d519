//! A certificate, key or ticket file that cannot be used.

use std::fmt;

#[derive(Debug)]
pub struct TlsError {
    /// The setting that names the file.
    pub setting: &'static str,
    pub file: String,
    pub what: String,
    pub fix: &'static str,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}\n  {}", self.setting, self.file, self.what, self.fix)
    }
}

impl std::error::Error for TlsError {}
