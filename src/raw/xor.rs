//! The masking loop with the widest vectors that the processor has. The binary itself is built for any x86-64, whose vectors
//! are 16 bytes; a message of 64 KiB takes half as long with 32.

/// Bytes that are handled at a time: two wide vectors.
pub const BLOCK: usize = 64;

/// Below so many blocks the look at what the processor has costs more than it saves.
#[cfg(target_arch = "x86_64")]
const WIDE_BLOCKS_MIN: usize = 4;

/// Xors `key` over all blocks; returns all resulting bytes or-ed together, eight abreast.
#[inline]
pub fn xor_blocks(blocks: &mut [[u8; BLOCK]], key: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if blocks.len() >= WIDE_BLOCKS_MIN && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the function asks for nothing but AVX2, which this processor was just seen to have.
        return unsafe { xor_blocks_avx2(blocks, key) };
    }
    plain(blocks, key)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn xor_blocks_avx2(blocks: &mut [[u8; BLOCK]], key: u64) -> u64 {
    plain(blocks, key)
}

/// Written byte by byte over arrays of fixed length: what compilers turn into vectors most surely.
#[inline(always)]
fn plain(blocks: &mut [[u8; BLOCK]], key: u64) -> u64 {
    let mut keys = [0; BLOCK];
    keys.as_chunks_mut().0.fill(key.to_le_bytes());
    let mut seen = [0; BLOCK];
    for block in blocks {
        for at in 0..BLOCK {
            block[at] ^= keys[at];
            seen[at] |= block[at];
        }
    }
    seen.as_chunks::<8>().0.iter().fold(0, |all, word| all | u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_plain_do_the_same() {
        for blocks in 0..20 {
            let mut wide: Vec<[u8; BLOCK]> =
                (0..blocks).map(|n| std::array::from_fn(|at| (at * 7 + n) as u8)).collect();
            let mut narrow = wide.clone();
            let key = 0x0102_0384_8586_8788;
            assert_eq!(xor_blocks(&mut wide, key), plain(&mut narrow, key));
            assert_eq!(wide, narrow);
        }
    }
}
