//! A file table for each shard (unshare(2), CLONE_FILES).
//!
//! The threads of a process share one table of descriptors, and with it one lock, one limit, and a reference count at
//! every call. A thread that leaves the table gets a copy: descriptors that were open stay open in both under the same
//! number; later changes in one table do not affect the other.

use std::io;
use std::os::fd::RawFd;

/// Gives the calling thread a file table of its own, a copy of the common one.
///
/// # Safety
///
/// From now on a descriptor's number means the same file in two tables only if it was open before the call. So no value that
/// owns or borrows a descriptor opened later (`OwnedFd`, `File`, a socket, `BorrowedFd`) may cross between this thread and
/// threads with other tables, in either direction, for the rest of the process. What was open before may be used on both sides.
pub(crate) unsafe fn own_file_table() -> io::Result<()> {
    // SAFETY: the call touches no memory. Descriptors keep their numbers in the copy, and by the contract no other one crosses
    // between the tables.
    let done = unsafe { libc::unshare(libc::CLONE_FILES) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes this table's copy of a descriptor, so that the file ends when the thread that owns it closes its own copy. A number
/// that is not open is ignored.
///
/// # Safety
///
/// The calling thread's file table is not that of the thread that owns the descriptor (`own_file_table` has separated them),
/// and no value in a thread with the caller's table owns, borrows or will use the number.
pub(crate) unsafe fn close_copy(number: RawFd) {
    // SAFETY: the call touches no memory, and by the contract no owner or borrower of the number sees this table.
    unsafe { libc::close(number) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::sync::mpsc::channel;

    #[test]
    fn descriptor_closed_in_one_table_stays_open_in_the_other() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null exists");
        let number = file.as_raw_fd();
        let (done, seen) = channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: the thread opens nothing and hands nothing over.
            unsafe { own_file_table() }?;
            // SAFETY: `file` belongs to the other thread, whose table is another one now.
            unsafe { close_copy(number) };
            done.send(()).expect("the receiver waits");
            io::Result::Ok(())
        });
        seen.recv().expect("it has a table of its own");
        file.metadata().expect("still open here");
        thread.join().expect("no panic").expect("the kernel allows it");
    }
}
