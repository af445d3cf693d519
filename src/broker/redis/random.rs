//! Random numbers, by the generator that makes client ids: cryptographic, seeded by the system.

use uuid::Uuid;

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

pub(super) fn number() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

/// What names a new life of a channel's history if it has none: eight letters.
pub(super) fn epoch() -> String {
    // The other bytes of a UUID have fixed bits.
    let bytes = Uuid::new_v4().into_bytes();
    [0, 1, 2, 3, 4, 5, 9, 10].map(|at| char::from(LETTERS[usize::from(bytes[at]) % LETTERS.len()])).iter().collect()
}
