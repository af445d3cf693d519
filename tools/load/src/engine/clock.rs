//! Time: CLOCK_MONOTONIC in nanoseconds, and a timer with a finer resolution than the milliseconds of a poll timeout.

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use std::{io, os::fd::AsRawFd, os::fd::OwnedFd};

pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of CLOCK_MONOTONIC: the same clock for all processes of one machine.
pub fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * SECOND + t.tv_nsec as u64
}

/// A timerfd, registered edge-triggered. Each expiry is an edge, so it is never read.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
    armed: u64,
}

impl Timer {
    pub fn new(registry: &mio::Registry, token: mio::Token) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let raw = fd.as_raw_fd();
        registry.register(&mut mio::unix::SourceFd(&raw), token, mio::Interest::READABLE)?;
        Ok(Self { fd, armed: 0 })
    }

    /// Wakes the poll at `deadline`. Costs one system call, or none if the timer is armed for that moment already.
    pub fn arm(&mut self, deadline: u64) -> io::Result<()> {
        if self.armed == deadline {
            return Ok(());
        }
        self.armed = deadline;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: (deadline / SECOND) as i64, tv_nsec: (deadline % SECOND) as _ };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }
}
