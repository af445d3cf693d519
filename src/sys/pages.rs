//! Huge pages by request (madvise(2), MADV_HUGEPAGE).

use std::io;

/// Bytes of a huge page on the platforms that are supported.
const HUGE: usize = 2 << 20;

/// Asks for huge pages under `count` items that begin with `first`, as far as whole pages fit. Returns their bytes, 0 if
/// none fits. Errors: EINVAL if the kernel has no huge pages, ENOMEM if a part of the range is not mapped.
pub(crate) fn advise_huge<T>(first: *const T, count: usize) -> io::Result<usize> {
    let end = (first as usize).saturating_add(count.saturating_mul(size_of::<T>()));
    let (from, to) = ((first as usize).next_multiple_of(HUGE), end / HUGE * HUGE);
    if from >= to {
        return Ok(0);
    }
    // SAFETY: the advice changes how pages are backed, never what they hold or whether they are mapped; so it is sound for any
    // range.
    let done = unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_HUGEPAGE) };
    if done == 0 { Ok(to - from) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_within_the_items_are_advised() {
        assert_eq!(advise_huge([0u8; 100].as_ptr(), 100).expect("nothing is asked"), 0);
        let slab = vec![7u64; 1 << 20];
        if let Ok(bytes) = advise_huge(slab.as_ptr(), slab.len()) {
            assert!((6 << 20..=8 << 20).contains(&bytes), "{bytes}");
        }
        assert!(slab.iter().all(|&word| word == 7));
    }
}
