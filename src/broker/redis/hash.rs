//! The hashes that all servers of a cluster must agree on: which Redis shard and partition a channel belongs to, and which slot
//! of a Redis Cluster a key belongs to.

use std::sync::LazyLock;

#[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
pub(super) const SLOTS: u16 = 16_384;

/// Which of `buckets` a channel belongs to: jump consistent hash (Lamping and Veach, 2014) over FNV-1a with 64 bits.
/// `buckets` is above 0.
pub(super) fn bucket_of(channel: &str, buckets: usize) -> usize {
    if buckets <= 1 {
        return 0;
    }
    let mut key = fnv1a(channel.as_bytes());
    let (mut bucket, mut next) = (0, 0);
    while next < buckets as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    bucket as usize
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The slot of a key: CRC-16 (XMODEM) of its hash tag, or of the whole key if it has none.
#[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = memchr::memchr(b'{', key)?;
        let rest = &key[open + 1..];
        let close = memchr::memchr(b'}', rest)?;
        (close > 0).then(|| &rest[..close])
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

#[allow(dead_code, reason = "Sentinel and Redis Cluster come with a later change")]
fn crc16(bytes: &[u8]) -> u16 {
    static TABLE: LazyLock<[u16; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| {
            (0..8).fold((byte as u16) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
        })
    });
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the original computes them.
    #[test]
    fn buckets_are_those_of_the_original() {
        const BUCKETS: [usize; 7] = [1, 2, 3, 7, 16, 128, 4096];
        let long = "x".repeat(200);
        for (channel, expected) in [
            ("", [0, 1, 1, 1, 13, 90, 3422]),
            ("a", [0, 1, 2, 2, 12, 31, 1695]),
            ("news", [0, 1, 2, 3, 3, 81, 81]),
            ("chat:42", [0, 1, 1, 1, 1, 118, 3346]),
            ("$private#7", [0, 0, 0, 6, 8, 121, 3175]),
            ("ключ", [0, 0, 0, 4, 12, 55, 523]),
            (&long, [0, 0, 0, 6, 6, 114, 1256]),
        ] {
            assert_eq!(BUCKETS.map(|buckets| bucket_of(channel, buckets)), expected, "{channel}");
        }
    }

    #[test]
    fn slots_are_those_of_the_original() {
        for (key, slot) in [
            ("", 0),
            ("123456789", 12_739),
            ("chat:42", 8175),
            ("{user1000}.following", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("p.client.{news}", 5161),
            ("{}", 15_257),
            ("a{b", 13_340),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }
}
