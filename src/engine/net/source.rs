//! The byte source below the codec: what a shard asks of a socket, plain or TLS. All above know only this.
//!
//! Everything shaped like a system call on a connection stands here. Calls never block: "would block" is `Errno::AGAIN`.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use super::tls::Tls;

/// A non-blocking stream of bytes in both directions.
///
/// Two errors mean more than in the kernel. `Errno::INPROGRESS` of a write: all was taken, and part of it waits inside until
/// `push` has had it leave. `Errno::PROTO` of a read: the peer broke what lies below the bytes and has been told so; nothing
/// is left to do but to end our direction.
pub trait Source {
    /// Bytes read, 0 at the end of the stream.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno>;

    /// Reads into the spare capacity of `into`, which is not empty.
    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno>;

    /// Bytes taken, at least one where `bytes` is not empty.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno>;

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno>;

    /// As `read`, and leaves the bytes there. Of the stream below any encryption.
    fn peek(&mut self, _into: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    /// Takes bytes that were peeked at, as many as `into` has room for. Of the same stream.
    fn take_peeked(&mut self, _into: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    /// Who is at the other end. None where that has no address.
    fn peer(&self) -> Option<IpAddr> {
        None
    }

    /// Ends our direction: the peer reads an end of stream behind what was written.
    fn shutdown_write(&mut self);

    /// Bytes wait inside the source to be read, or may, for which the kernel will report no edge.
    fn more_inside(&self) -> bool {
        false
    }

    /// Bytes wait inside the source for the kernel to say writable.
    fn wants_write(&self) -> bool {
        false
    }

    /// Has them leave. Errors: `AGAIN` where some still wait.
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

/// Whatever a listener of ours lets in. All above the trait is one path for every sort.
pub enum Stream {
    Plain(Plain),
    Tls(Box<Tls>),
}

impl Source for Stream {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Plain(plain) => plain.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }

    #[inline]
    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        match self {
            Self::Plain(plain) => plain.read_spare(into),
            Self::Tls(tls) => tls.read_spare(into),
        }
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Plain(plain) => plain.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    #[inline]
    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match self {
            Self::Plain(plain) => plain.write_slices(slices),
            Self::Tls(tls) => tls.write_slices(slices),
        }
    }

    fn peek(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Plain(plain) => plain.peek(into),
            Self::Tls(tls) => tls.peek(into),
        }
    }

    fn take_peeked(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Plain(plain) => plain.take_peeked(into),
            Self::Tls(tls) => tls.take_peeked(into),
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Plain(plain) => plain.peer(),
            Self::Tls(tls) => tls.peer(),
        }
    }

    fn shutdown_write(&mut self) {
        match self {
            Self::Plain(plain) => plain.shutdown_write(),
            Self::Tls(tls) => tls.shutdown_write(),
        }
    }

    #[inline]
    fn more_inside(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.more_inside())
    }

    #[inline]
    fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.wants_write())
    }

    fn push(&mut self) -> Result<(), Errno> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.push(),
        }
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
