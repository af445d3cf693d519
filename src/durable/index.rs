//! The index of a sealed segment. Only its filter and its fences are in memory; the rest is read in blocks of 4 KiB.

use std::io;
use std::ops::RangeInclusive;

use super::codec::ReadAt;

/// A publication that the index has found. The record itself decides: two names may have one hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    /// Of the record, in bytes from the beginning of the segment.
    pub(crate) position: u32,
}

/// A publication of a user, with a tag or of a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Posting {
    pub(crate) time: u64,
    pub(crate) position: u32,
}

/// Which postings to read.
#[derive(Clone, Debug)]
pub(crate) struct PostingRange {
    /// Milliseconds, both inclusive.
    pub(crate) times: RangeInclusive<u64>,
    /// Only those after this position, or before it if `reverse`.
    pub(crate) after: Option<u32>,
    pub(crate) limit: usize,
    /// Newest first.
    pub(crate) reverse: bool,
}

/// Why an index cannot be used. Both: read the segment instead, and build the index again.
#[derive(Debug)]
pub(crate) enum IndexError {
    Corrupt,
    Read(io::Error),
}

pub(crate) struct SegmentIndex<F> {
    file: F,
}

impl<F: ReadAt> SegmentIndex<F> {
    pub(crate) fn open(file: F) -> Result<Self, IndexError> {
        Ok(Self { file })
    }

    /// False: the segment has no publication of this channel. True: it may have.
    pub(crate) fn may_have(&self, channel_hash: u64) -> bool {
        let _ = channel_hash;
        true
    }

    /// The first and the last time of the segment; `None` without publications.
    pub(crate) fn times(&self) -> Option<RangeInclusive<u64>> {
        None
    }

    /// The publications of a channel with these offsets, by offset and position.
    pub(crate) fn find(&self, channel_hash: u64, offsets: RangeInclusive<u64>) -> Result<Vec<Found>, IndexError> {
        let _ = (channel_hash, offsets, &self.file);
        Ok(Vec::new())
    }

    pub(crate) fn by_user(&self, user_hash: u64, range: &PostingRange) -> Result<Vec<Posting>, IndexError> {
        let _ = (user_hash, range);
        Ok(Vec::new())
    }

    pub(crate) fn by_tag(&self, tag_hash: u64, range: &PostingRange) -> Result<Vec<Posting>, IndexError> {
        let _ = (tag_hash, range);
        Ok(Vec::new())
    }

    pub(crate) fn by_channel(&self, channel_hash: u64, range: &PostingRange) -> Result<Vec<Posting>, IndexError> {
        let _ = (channel_hash, range);
        Ok(Vec::new())
    }

    /// The position of the dictionary entry with this channel index, so that a record's channel can be read.
    pub(crate) fn dictionary_entry(&self, channel: u32) -> Result<Option<u32>, IndexError> {
        let _ = channel;
        Ok(None)
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}
