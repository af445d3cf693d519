//! What the index and the checkpoint share: reads at a position, hashes of names, numbers of variable length.

use std::hash::Hasher;
use std::io;

use siphasher::sip::SipHasher13;

/// A file that is read at positions.
pub(crate) trait ReadAt {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;
    fn bytes(&self) -> io::Result<u64>;
}

/// The hash of a channel, a user or a tag's value in an index. It is the same in every process, and never 0.
pub(crate) fn hash_name(name: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    hasher.finish().max(1)
}
