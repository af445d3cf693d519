//! The environment variables.

/// The variables. Bytes that are not UTF-8 become U+FFFD, which the reading of a setting rejects.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |bytes: std::ffi::OsString| bytes.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
