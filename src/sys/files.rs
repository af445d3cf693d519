//! A file table for each shard (unshare(2), CLONE_FILES).
//!
//! Threads of a process share one table of descriptors, and with it one lock, one limit, and a reference count at every call.
//! A thread that leaves it gets a copy: what was open stays open in both under the same number, and what either opens or
//! closes from then on the other does not see. So whoever uses this must not pass descriptors between threads afterwards.

use std::io;
use std::os::fd::RawFd;

/// For the thread of a shard, before it opens anything of its own: the calling thread has its own file table from now on.
///
/// Contract: descriptors that the thread owns and those that it uses of others (wakers) are open now; no owned descriptor
/// crosses between it and another thread later. The engine keeps it: all polls, wakers and listeners are made before the
/// threads are, and a shard's sockets never leave its thread.
pub fn own_file_table() -> io::Result<()> {
    // SAFETY: no memory is touched. That a number means the same file in all threads holds for those that were open before,
    // as the copy keeps the numbers; the contract above excludes others.
    let done = unsafe { libc::unshare(libc::CLONE_FILES) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// For whoever has a file table of its own: closes its copy of a descriptor that another thread owns, so that the file ends
/// when that one closes it. A number that is not open is none's.
///
/// Contract: nobody in this thread's table owns the number.
pub fn close_copy(number: RawFd) {
    // SAFETY: no memory is touched. By the contract the number is owned by a thread with another table, which this call does
    // not reach.
    unsafe { libc::close(number) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::sync::mpsc::channel;

    #[test]
    fn what_one_table_closes_stays_open_in_the_other() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let number = file.as_raw_fd();
        let (done, seen) = channel();
        let thread = std::thread::spawn(move || {
            own_file_table()?;
            close_copy(number);
            done.send(()).expect("somebody listens");
            io::Result::Ok(())
        });
        seen.recv().expect("it has a table of its own");
        file.metadata().expect("still open here");
        thread.join().expect("no panic").expect("the kernel allows it");
    }
}
