//! The allocator's free memory.

/// Has the allocator give whole pages that nothing uses back to the host, in all its arenas (malloc_trim(3)). While it goes
/// through an arena, threads that allocate in that arena wait. An allocator without such a call does it on its own.
pub(crate) fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes the locks of the arenas and changes only memory that is free, so it is sound at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_keeps_its_content() {
        let pieces: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n; 50_000]).collect();
        let kept: Vec<_> = pieces.into_iter().step_by(2).collect();
        return_free_memory();
        assert!(kept.iter().enumerate().all(|(at, piece)| piece.iter().all(|&byte| usize::from(byte) == 2 * at)));
    }
}
