//! The source of an accepted connection: a plain socket, or TLS over one.

use std::io::IoSlice;
use std::net::IpAddr;

use rustix::io::Errno;

use super::source::{Plain, Source};
use super::tls::Tls;

/// The source of a connection that a listener accepted. All code above the trait is one path for both kinds.
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
