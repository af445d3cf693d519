//! The masking loop with the widest vectors that the processor has. The binary itself is built for any x86-64, whose vectors
//! are 16 bytes; a message of 64 KiB takes half as long with 32.

/// Bytes that are handled at a time: two wide vectors.
pub(crate) const BLOCK: usize = 64;

/// Below so many blocks the check for the processor's features costs more than wide vectors save.
#[cfg(target_arch = "x86_64")]
const WIDE_BLOCKS_MIN: usize = 4;

/// Xors `key` over whole blocks, all of `bytes` but the first `by`, and moves them towards the front by that much, over what
/// was there. Returns all resulting bytes or-ed together, eight at a time.
#[inline]
pub(crate) fn xor_blocks(bytes: &mut [u8], by: usize, key: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() - by >= WIDE_BLOCKS_MIN * BLOCK && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the function needs nothing but AVX2, which was detected on this processor just now.
        return unsafe { xor_blocks_avx2(bytes, by, key) };
    }
    plain(bytes, by, key)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn xor_blocks_avx2(bytes: &mut [u8], by: usize, key: u64) -> u64 {
    plain(bytes, by, key)
}

/// Written byte by byte over arrays of fixed length, which compilers turn into vectors most reliably. A block is read whole
/// before it is written, and only over bytes that were read.
#[inline(always)]
fn plain(bytes: &mut [u8], by: usize, key: u64) -> u64 {
    let mut keys = [0; BLOCK];
    keys.as_chunks_mut().0.fill(key.to_le_bytes());
    let mut seen = [0; BLOCK];
    let mut rest = bytes;
    while let Some(mut block) = rest.get(by..).and_then(|rest| rest.first_chunk::<BLOCK>()).copied() {
        for at in 0..BLOCK {
            block[at] ^= keys[at];
            seen[at] |= block[at];
        }
        let (done, more) = rest.split_first_chunk_mut::<BLOCK>().expect("the block lies behind it");
        *done = block;
        rest = more;
    }
    seen.as_chunks::<8>().0.iter().fold(0, |all, word| all | u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_plain_give_the_same_bytes() {
        for blocks in 0..20 {
            for by in [0, 1, 4, 63, 64, 200] {
                let mut wide: Vec<u8> = (0..by + blocks * BLOCK).map(|at| (at * 7 + at / 64) as u8).collect();
                let mut narrow = wide.clone();
                let key = 0x0102_0384_8586_8788;
                assert_eq!(xor_blocks(&mut wide, by, key), plain(&mut narrow, by, key));
                assert_eq!(wide, narrow);
            }
        }
    }
}
