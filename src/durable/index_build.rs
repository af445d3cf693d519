//! Builds the index of a segment when it is sealed, or again if its file is missing or corrupt.

/// One publication of a segment, in the order of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    /// `hash_name` of the channel's name.
    pub(crate) channel_hash: u64,
    pub(crate) offset: u64,
    /// Of the record, in bytes from the beginning of the segment.
    pub(crate) position: u32,
    /// Milliseconds. It never goes back inside a segment.
    pub(crate) time: u64,
    /// `hash_name` of the publisher; 0 for none.
    pub(crate) user_hash: u64,
    /// `hash_name` of the tag's value; 0 for none.
    pub(crate) tag_hash: u64,
}

/// The bytes of the index file. `dictionary`: the position of each dictionary entry of the segment, by channel index.
pub(crate) fn build(entries: &[IndexEntry], dictionary: &[u32]) -> Vec<u8> {
    let _ = (entries, dictionary);
    Vec::new()
}
