//! The byte source below the codec: the interface to a socket, plain or TLS. All code above depends only on this trait.
//!
//! Every system call on a connection is in this file. Calls never block: "would block" is `Errno::AGAIN`.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

/// A non-blocking stream of bytes in both directions.
///
/// Two errors have a special meaning. `Errno::INPROGRESS` of a write: all bytes were accepted, and a part of them waits
/// inside until `push` sends it. `Errno::PROTO` of a read: the peer violated the protocol below the bytes (TLS) and was
/// notified; the caller then ends the server's direction.
pub trait Source {
    /// Bytes read, 0 at the end of the stream.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno>;

    /// Reads into the spare capacity of `into`, which is not empty.
    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno>;

    /// Bytes taken, at least one if `bytes` is not empty.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno>;

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno>;

    /// As `read`, and leaves the bytes in place. From the stream below any encryption.
    fn peek(&mut self, _into: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    /// Takes bytes that were peeked at, as many as `into` has room for. From the same stream.
    fn take_peeked(&mut self, _into: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    /// The address of the other end, if it has one.
    fn peer(&self) -> Option<IpAddr> {
        None
    }

    /// Ends the server's direction: the peer reads an end of stream after the written bytes.
    fn shutdown_write(&mut self);

    /// Bytes may wait inside the source to be read, for which the kernel will report no edge.
    fn more_inside(&self) -> bool {
        false
    }

    /// Bytes wait inside the source until the kernel reports writable.
    fn wants_write(&self) -> bool {
        false
    }

    /// Sends them. Errors: `AGAIN` if some still wait.
    fn push(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

/// A stream socket of the kernel, TCP or unix.
pub struct Plain(pub OwnedFd);

impl Source for Plain {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        retry(|| rustix::net::recv(self.0.as_fd(), &mut *into, RecvFlags::empty()).map(|(n, _)| n))
    }

    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        retry(|| {
            rustix::net::recv(self.0.as_fd(), rustix::buffer::spare_capacity(into), RecvFlags::empty()).map(|(n, _)| n)
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        retry(|| rustix::net::send(self.0.as_fd(), bytes, SendFlags::NOSIGNAL))
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut none = SendAncillaryBuffer::default();
        retry(|| rustix::net::sendmsg(self.0.as_fd(), slices, &mut none, SendFlags::NOSIGNAL))
    }

    fn peek(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        retry(|| rustix::net::recv(self.0.as_fd(), &mut *into, RecvFlags::PEEK).map(|(n, _)| n))
    }

    fn take_peeked(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        self.read(into)
    }

    fn peer(&self) -> Option<IpAddr> {
        let address = rustix::net::getpeername(self.0.as_fd()).ok().flatten()?;
        SocketAddr::try_from(address).ok().map(|address| address.ip().to_canonical())
    }

    fn shutdown_write(&mut self) {
        // A socket that the peer has reset cannot be shut down, and need not be.
        let _ = rustix::net::shutdown(self.0.as_fd(), Shutdown::Write);
    }
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
