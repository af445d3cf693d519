//! Unmasks a payload (RFC 6455, section 5.3), in place or moved towards the front in the same pass.
//!
//! Blocks of 64 bytes from the start, whatever the alignment (unaligned loads cost nothing on the supported processors), in
//! the widest vectors that the processor has (`sys::xor_blocks`); then words of eight bytes. The last eight bytes are read
//! before all others and written after them, so that single bytes are needed only for payloads shorter than a word. The same
//! pass detects whether all bytes are ASCII, so that most texts need no second pass.

use std::ops::Range;

use crate::sys::{BLOCK, xor_blocks};

const NOT_ASCII: u64 = 0x8080_8080_8080_8080;
const WORD: usize = size_of::<u64>();

/// Unmasks `payload`, whose first byte is byte `offset` of the frame's payload. A mask of zero costs nothing.
#[inline]
pub fn unmask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    if mask != [0; 4] {
        unmask_to(payload, 0..payload.len(), 0, mask, offset);
    }
}

/// Unmasks the bytes `from`, whose first is byte `offset` of the frame's payload, and moves them to `to`, which is not after
/// their place. Returns true if every byte of the result is ASCII.
#[inline]
pub(super) fn unmask_to(bytes: &mut [u8], from: Range<usize>, to: usize, mask: [u8; 4], offset: usize) -> bool {
    let (length, by) = (from.len(), from.start - to);
    xor(&mut bytes[to..from.end], by, length, rotated(mask, offset)) & NOT_ASCII == 0
}

/// The key rotated for byte `offset` of the payload; its first byte is the lowest.
#[inline]
fn rotated(mask: [u8; 4], offset: usize) -> u32 {
    u32::from_le_bytes(mask).rotate_right(8 * (offset as u32 & 3))
}

#[inline]
fn doubled(key: u32) -> u64 {
    u64::from(key) | u64::from(key) << 32
}

/// Applies `key` to the last `length` of `bytes` and moves them `by` bytes to the front, which is the number of bytes before
/// them. Returns the bitwise or of all resulting bytes, in eight lanes.
#[inline]
fn xor(bytes: &mut [u8], by: usize, length: usize, key: u32) -> u64 {
    let Some(last) = length.checked_sub(WORD) else { return xor_few(bytes, by, length, key) };
    let end = word(bytes, by + last) ^ doubled(key.rotate_right(8 * (last as u32 & 3)));
    let key = doubled(key);
    let (mut seen, mut at) = (end, length & !(BLOCK - 1));
    if at > 0 {
        seen |= xor_blocks(&mut bytes[..by + at], by, key);
    }
    while at < last {
        let plain = word(bytes, by + at) ^ key;
        put(bytes, at, plain);
        seen |= plain;
        at += WORD;
    }
    put(bytes, last, end);
    seen
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("callers leave eight bytes after `at`"))
}

#[inline]
fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + WORD].copy_from_slice(&word.to_le_bytes());
}

/// For payloads shorter than a word.
#[inline]
fn xor_few(bytes: &mut [u8], by: usize, length: usize, key: u32) -> u64 {
    let mut seen = 0;
    for (at, key) in doubled(key).to_le_bytes().into_iter().take(length).enumerate() {
        bytes[at] = bytes[by + at] ^ key;
        seen |= bytes[at];
    }
    u64::from(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plainly(payload: &[u8], mask: [u8; 4], offset: usize) -> Vec<u8> {
        payload.iter().enumerate().map(|(at, byte)| byte ^ mask[(offset + at) % 4]).collect()
    }

    #[test]
    fn unmasking_agrees_with_the_definition_for_every_length_phase_and_alignment() {
        let source: Vec<u8> = (0..300u32).map(|at| (at * 31 % 251) as u8).collect();
        for mask in [[0x12, 0x84, 0xfe, 0x07], [0, 0, 0, 0], [0xff, 0, 0, 1]] {
            for length in (0..70).chain([127, 128, 255, 256, 257]) {
                for start in 0..9 {
                    for offset in 0..5 {
                        let expected = plainly(&source[start..start + length], mask, offset);
                        let mut got = source.clone();
                        unmask(&mut got[start..start + length], mask, offset);
                        assert_eq!(&got[start..start + length], &expected, "{length} from {start}, phase {offset}");
                        assert_eq!(&got[..start], &source[..start]);
                        assert_eq!(&got[start + length..], &source[start + length..]);
                        for to in 0..=start {
                            let mut got = source.clone();
                            let ascii = unmask_to(&mut got, start..start + length, to, mask, offset);
                            assert_eq!(
                                &got[to..to + length],
                                &expected,
                                "{length} from {start} to {to}, phase {offset}"
                            );
                            assert_eq!(ascii, expected.is_ascii());
                            assert_eq!(&got[..to], &source[..to]);
                            assert_eq!(&got[start + length..], &source[start + length..]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn unmasking_detects_one_byte_that_is_not_ascii_at_any_place() {
        let mask = [0x55, 0xaa, 0x0f, 0xf0];
        for length in 1..40 {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[at] = 0x80;
                unmask(&mut bytes, mask, 0);
                assert!(!unmask_to(&mut bytes, 0..length, 0, mask, 0), "{at} of {length}");
            }
        }
    }
}
