//! What records, the index and the checkpoint share: reads at a position, hashes of names, numbers of variable length.

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

/// Appends a number in LEB128: 1 to 10 bytes.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends bytes with their length.
pub(super) fn put_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    put_varint(bytes, part.len() as u64);
    bytes.extend_from_slice(part);
}

/// Appends a text with its length.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_bytes(bytes, text.as_bytes());
}

/// `to - from`, wrapping, so that small differences of either sign are small numbers.
pub(super) fn difference(from: u64, to: u64) -> u64 {
    let signed = to.wrapping_sub(from) as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

/// The inverse of `difference`: `from` and the difference give `to`.
pub(super) fn add_difference(from: u64, difference: u64) -> u64 {
    from.wrapping_add((difference >> 1) ^ (difference & 1).wrapping_neg())
}

/// Reads what the functions above wrote. `None`: the bytes end too early, or are not what was asked for.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
pub(crate) mod test_file {
    use super::*;

    /// A file in memory, for tests. It counts the reads.
    pub(crate) struct Bytes(pub(crate) Vec<u8>, pub(crate) std::cell::Cell<usize>);

    impl Bytes {
        pub(crate) fn new(bytes: Vec<u8>) -> Self {
            Self(bytes, std::cell::Cell::new(0))
        }
    }

    impl ReadAt for Bytes {
        fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
            self.1.set(self.1.get() + 1);
            let from = usize::try_from(position).unwrap_or(usize::MAX);
            let part = self.0.get(from..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn bytes(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [u64; 9] = [0, 1, 127, 128, 16_383, 16_384, u32::MAX as u64, u64::MAX - 1, u64::MAX];

    #[test]
    fn varints_come_back_and_cut_ones_are_none() {
        for number in NUMBERS {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(Reader(&bytes).varint(), Some(number));
            assert!((0..bytes.len()).all(|cut| Reader(&bytes[..cut]).varint().is_none()));
        }
        assert_eq!(Reader(&[0xff; 10]).varint(), None);
        assert_eq!(Reader(&[0x80; 20]).varint(), None);
        assert_eq!(Reader(&[5, 1, 2]).bytes(), None);
    }

    #[test]
    fn difference_has_an_inverse() {
        for from in NUMBERS {
            for to in NUMBERS {
                assert_eq!(add_difference(from, difference(from, to)), to);
            }
        }
        assert_eq!((difference(7, 7), difference(7, 6), difference(7, 8)), (0, 1, 2));
    }

    #[test]
    fn hash_of_a_name_is_the_same_in_every_process() {
        assert_eq!(hash_name("news"), 16_090_430_620_975_649_479);
    }
}
