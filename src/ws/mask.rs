//! The masking key taken off a payload (RFC 6455, section 5.3), in place.
//!
//! Blocks of 64 bytes from the start, whatever the alignment (unaligned loads cost nothing where this runs), in the widest
//! vectors that the processor has (`raw::xor_blocks`); then words of eight; then the last word once more, with the key cut so that bytes done
//! before stay as they are. The same pass tells whether all bytes were ASCII, so that text needs no second look in the
//! common case.

use crate::raw::{BLOCK, xor_blocks};

const NOT_ASCII: u64 = 0x8080_8080_8080_8080;

/// Takes `mask` off `payload`, whose first byte is byte `offset` of the frame's payload. A mask of zero costs nothing.
#[inline]
pub fn unmask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    if mask != [0; 4] {
        xor(payload, rotated(mask, offset));
    }
}

/// As `unmask`, and whether every byte of the result is ASCII.
#[inline]
pub(super) fn unmask_is_ascii(payload: &mut [u8], mask: [u8; 4], offset: usize) -> bool {
    xor(payload, rotated(mask, offset)) & NOT_ASCII == 0
}

/// The key as it stands at byte `offset` of the payload; its first byte is the lowest.
#[inline]
fn rotated(mask: [u8; 4], offset: usize) -> u32 {
    u32::from_le_bytes(mask).rotate_right(8 * (offset as u32 & 3))
}

/// Xors `key` over `bytes`; returns all resulting bytes or-ed together, eight abreast.
#[inline]
fn xor(bytes: &mut [u8], key: u32) -> u64 {
    let key = u64::from(key) | u64::from(key) << 32;
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
    let mut seen = if blocks.is_empty() { 0 } else { xor_blocks(blocks, key) };
    let (words, rest) = rest.as_chunks_mut::<8>();
    for word in words {
        seen |= xor_word(word, key);
    }
    match rest.len() {
        0 => seen,
        odd => seen | xor_end(bytes, odd, key),
    }
}

#[inline]
fn xor_word(word: &mut [u8; 8], key: u64) -> u64 {
    let plain = u64::from_le_bytes(*word) ^ key;
    *word = plain.to_le_bytes();
    plain
}

/// The last `odd` bytes, one to seven, where `key` begins anew.
#[inline]
fn xor_end(bytes: &mut [u8], odd: usize, key: u64) -> u64 {
    if let Some(last) = bytes.last_chunk_mut::<8>() {
        return xor_word(last, key << (8 * (8 - odd)));
    }
    let mut seen = 0;
    for (byte, key) in bytes.iter_mut().zip(key.to_le_bytes()) {
        *byte ^= key;
        seen |= *byte;
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
    fn every_length_phase_and_alignment_agrees_with_the_definition() {
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
                        let mut got = source.clone();
                        let ascii = unmask_is_ascii(&mut got[start..start + length], mask, offset);
                        assert_eq!(&got[start..start + length], &expected);
                        assert_eq!(ascii, expected.is_ascii());
                    }
                }
            }
        }
    }

    #[test]
    fn one_byte_that_is_not_ascii_is_seen_wherever_it_stands() {
        let mask = [0x55, 0xaa, 0x0f, 0xf0];
        for length in 1..40 {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[at] = 0x80;
                unmask(&mut bytes, mask, 0);
                assert!(!unmask_is_ascii(&mut bytes, mask, 0), "{at} of {length}");
            }
        }
    }
}
