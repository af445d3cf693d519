//! Socket options that no safe crate names.

use std::io;
use std::os::fd::AsRawFd;

/// Has a listener report a connection only when its first bytes have come, or after about so many seconds (tcp(7),
/// TCP_DEFER_ACCEPT).
pub(crate) fn set_defer_accept(listener: &impl AsRawFd, seconds: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
    let bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads four bytes at `value`, which lives until the call returns, and writes nothing.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const value).cast(),
            bytes,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
