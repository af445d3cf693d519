//! What two processes say to each other over the unix socket of a handover: frames of a length (u32, little endian), a kind
//! and a body; with some of them travel descriptors (SCM_RIGHTS, unix(7)).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bytes::{Buf, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;

use crate::engine::net::listener::Address;

/// Of these frames and of what publications and calls look like; another one is refused.
pub const VERSION: u8 = 1;
/// Bytes of a body: more than any publication has. A longer one ends the link.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Descriptors with one frame; the kernel takes 253.
pub const DESCRIPTORS_MAX: usize = 64;

const HEADER_BYTES: usize = 5;
const READ_BYTES: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// To the old process: the version, then the sender's process id.
    Hello = 1,
    /// To the new one: a role and an address, with descriptors.
    Sockets,
    /// To the new one: that were all sockets.
    Go,
    /// To the old one: clients are served here.
    Ready,
    /// Either way: `node::Forwarded`.
    Publication,
    /// Either way: a call of the server API, as JSON.
    Call,
    /// To the new one: there is no handover, and why.
    Refused,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{Call, Go, Hello, Publication, Ready, Refused, Sockets};
        [Hello, Sockets, Go, Ready, Publication, Call, Refused].into_iter().find(|kind| *kind as u8 == byte)
    }
}

pub fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.push(kind as u8);
    frame.extend_from_slice(body);
    frame
}

/// Takes the next whole frame out of what has arrived. Errors: this is no frame of ours.
pub fn next(arrived: &mut BytesMut) -> io::Result<Option<(Kind, BytesMut)>> {
    let Some((length, rest)) = arrived.split_first_chunk() else { return Ok(None) };
    let Some(&kind) = rest.first() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    let kind = Kind::of(kind).filter(|_| length <= BODY_BYTES_MAX).ok_or_else(malformed)?;
    if arrived.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    arrived.advance(HEADER_BYTES);
    Ok(Some((kind, arrived.split_to(length))))
}

pub fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other process says what this one does not understand")
}

/// What a passed socket is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    Clients(Address),
    Admin,
    Grpc,
}

impl Role {
    pub fn write(&self) -> String {
        match self {
            Self::Clients(Address::Tcp(at)) => format!("tcp {at}"),
            Self::Clients(Address::Unix(path)) => format!("unix {}", path.display()),
            Self::Clients(Address::Inherited(number)) => format!("fd {number}"),
            Self::Admin => "admin ".into(),
            Self::Grpc => "grpc ".into(),
        }
    }

    pub fn read(text: &str) -> Option<Self> {
        let (role, at) = text.split_once(' ')?;
        Some(match role {
            "tcp" => Self::Clients(Address::Tcp(at.parse().ok()?)),
            "unix" => Self::Clients(Address::Unix(at.into())),
            "fd" => Self::Clients(Address::Inherited(at.parse().ok()?)),
            "admin" => Self::Admin,
            "grpc" => Self::Grpc,
            _ => return None,
        })
    }
}

/// Sends at most `DESCRIPTORS_MAX` sockets of one role.
pub async fn send_sockets(to: &tokio::net::UnixStream, role: &Role, sockets: &[OwnedFd]) -> io::Result<()> {
    let frame = frame(Kind::Sockets, role.write().as_bytes());
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let sent = to
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            Ok(rustix::net::sendmsg(to, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    // So small a frame goes whole or not at all.
    if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The receiving end while descriptors may come. It blocks, within the stream's timeout.
pub struct Receiver {
    pub stream: UnixStream,
    pub arrived: BytesMut,
    descriptors: VecDeque<OwnedFd>,
}

impl Receiver {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, arrived: BytesMut::new(), descriptors: VecDeque::new() }
    }

    /// The next frame, with the descriptors that came up to now and were not taken.
    pub fn next(&mut self) -> io::Result<(Kind, BytesMut, Vec<OwnedFd>)> {
        loop {
            if let Some((kind, body)) = next(&mut self.arrived)? {
                return Ok((kind, body, self.descriptors.drain(..).collect()));
            }
            self.receive()?;
        }
    }

    /// One read, which never goes past a frame that has descriptors: the kernel does not join those.
    fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; READ_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let got = rustix::net::recvmsg(&self.stream, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.arrived.extend_from_slice(&bytes[..got.bytes]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_split_at_every_byte_and_followed_by_the_next() {
        let first = frame(Kind::Publication, b"one");
        let bytes = [first.clone(), frame(Kind::Go, b"")].concat();
        for split in 0..=bytes.len() {
            let mut arrived = BytesMut::new();
            let mut seen = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                arrived.extend_from_slice(part);
                while let Some((kind, body)) = next(&mut arrived).expect("frames of ours") {
                    seen.push((kind, body.to_vec()));
                }
            }
            assert_eq!(seen, [(Kind::Publication, b"one".to_vec()), (Kind::Go, Vec::new())], "{split}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_waited_for() {
        for bytes in [[0, 0, 0, 0, 99], [0xff, 0xff, 0xff, 0xff, Kind::Call as u8]] {
            assert!(next(&mut BytesMut::from(&bytes[..])).is_err());
        }
    }

    #[test]
    fn roles_read_as_they_were_written() {
        let clients = [Address::Tcp(([0, 0, 0, 0], 8000).into()), Address::Unix("/a b".into()), Address::Inherited(3)];
        for role in clients.into_iter().map(Role::Clients).chain([Role::Admin, Role::Grpc]) {
            assert_eq!(Role::read(&role.write()), Some(role));
        }
        assert_eq!(Role::read("tcp nowhere"), None);
    }
}
