//! Busy polling of an epoll instance (EPIOCSPARAMS, Linux 6.9 on; linux/eventpoll.h).

use std::io;
use std::os::fd::AsRawFd;

/// How `epoll_wait` polls the queues of the network devices before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BusyPoll {
    /// Microseconds for which it polls.
    pub us: u32,
    /// Packets taken at a time; more than 64 need CAP_NET_ADMIN.
    pub budget: u16,
    /// The interrupts of the devices stay off while it polls often enough (with napi_defer_hard_irqs set).
    pub prefer: bool,
}

/// `struct epoll_params` of the kernel.
#[repr(C)]
struct Params {
    busy_poll_usecs: u32,
    busy_poll_budget: u16,
    prefer_busy_poll: u8,
    pad: u8,
}

/// `_IOW(0x8A, 0x01, struct epoll_params)`: direction 1 (write), 8 bytes.
const EPIOCSPARAMS: libc::Ioctl = (1 << 30 | 8 << 16 | 0x8A << 8 | 0x01) as libc::Ioctl;

/// Sets busy polling. Errors: EINVAL or ENOTTY on an older kernel, EPERM for a budget above 64 without CAP_NET_ADMIN.
pub(crate) fn set_busy_poll(epoll: &impl AsRawFd, wanted: BusyPoll) -> io::Result<()> {
    let params = Params {
        busy_poll_usecs: wanted.us,
        busy_poll_budget: wanted.budget,
        prefer_busy_poll: u8::from(wanted.prefer),
        pad: 0,
    };
    // SAFETY: the request reads the eight bytes of `params`, which live until it returns, and writes nothing. On a
    // descriptor that is not an epoll instance it fails without reading.
    let done = unsafe { libc::ioctl(epoll.as_raw_fd(), EPIOCSPARAMS, &raw const params) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_that_is_not_an_epoll_instance_is_refused() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null exists");
        let wanted = BusyPoll { us: 50, budget: 8, prefer: false };
        assert!(set_busy_poll(&file, wanted).is_err());
    }
}
