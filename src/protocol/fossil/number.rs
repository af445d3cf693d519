//! Numbers in base 64 and the checksum of the delta format.

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

pub(super) fn put_number(out: &mut Vec<u8>, value: u32) {
    for digit in (0..number_len(value as usize) as u32).rev() {
        out.push(DIGITS[(value >> (6 * digit)) as usize & 63]);
    }
}

/// The number of digits of a number.
pub(super) fn number_len(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).div_ceil(6).max(1) as usize
}

/// The sum of the big-endian words; the last one is padded with zeros.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).fold(0, |sum, word| sum.wrapping_add(u32::from_be_bytes(*word)))
}
