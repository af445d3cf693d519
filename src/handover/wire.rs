//! The frames on the unix socket of a handover: a body length (u32, little endian), a kind (one byte) and the body. Frames
//! of listening sockets carry descriptors (SCM_RIGHTS, unix(7)).

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

/// Version of the frames and of the publications and calls in them. The old process rejects any other version.
pub(crate) const VERSION: u8 = 2;
/// Bytes of a body, more than any publication has. A longer body ends the link.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Descriptors in one frame; the kernel allows 253.
pub(crate) const DESCRIPTORS_MAX: usize = 64;

const HEADER_BYTES: usize = 5;
const READ_BYTES: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// To the old process: the version, the sender's process id, and what it can do (`TAKES_CHANNELS`), which processes of
    /// earlier builds neither send nor read.
    Hello = 1,
    /// To the new process: a role and an address, with descriptors.
    ListenSockets,
    /// To the new process: all sockets are sent.
    Go,
    /// To the old process: the new process serves clients.
    Ready,
    /// To the old process, behind `Ready`: the new process has served for its trial time, and every shard of it answers.
    Proven,
    /// Both ways: `messaging::Forwarded`.
    Publication,
    /// Both ways: a `messaging::ApiCall` as JSON.
    Call,
    /// To the new process: there is no handover, and why.
    Refused,
    /// To the new process, before the sockets: it gets the channels. The number of shards that send some (u16), and the key of
    /// the placement.
    Welcome,
    /// Both ways, in order: `messaging::handover_message`.
    Message,
    /// To the new process: a shard of the old one has sent all of its channels.
    Copied,
    /// To the old process: the new one has all channels.
    Switch,
    /// To the new process, behind the last publication that a shard of the old one orders.
    Switched,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        use FrameKind::*;
        let all = [
            Hello,
            ListenSockets,
            Go,
            Ready,
            Proven,
            Publication,
            Call,
            Refused,
            Welcome,
            Message,
            Copied,
            Switch,
            Switched,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// In a `Hello`: the new process takes the channels over, and orders them.
pub(crate) const TAKES_CHANNELS: u8 = 1;

/// The body of a hello.
pub(crate) fn hello(capabilities: u8) -> Vec<u8> {
    let mut hello = vec![VERSION];
    hello.extend_from_slice(&std::process::id().to_le_bytes());
    hello.push(capabilities);
    hello
}

/// What the process that sent a hello can do.
pub(crate) fn capabilities(hello: &[u8]) -> u8 {
    hello.get(5).copied().unwrap_or(0)
}

/// What a new process that takes the channels over learns first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    pub shards: u16,
    pub placement_key: [u8; 16],
}

impl Welcome {
    pub(crate) fn to_body(self) -> Vec<u8> {
        [&self.shards.to_le_bytes()[..], &self.placement_key].concat()
    }

    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let (shards, key) = body.split_first_chunk()?;
        Some(Self { shards: u16::from_le_bytes(*shards), placement_key: key.try_into().ok()? })
    }
}

pub(crate) fn encode_frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.push(kind as u8);
    frame.extend_from_slice(body);
    frame
}

/// Removes the next frame from the received bytes; `None` until it is whole. Errors: an unknown kind or a body that is too long.
pub(crate) fn take_frame(received: &mut BytesMut) -> io::Result<Option<(FrameKind, BytesMut)>> {
    let Some((length, rest)) = received.split_first_chunk() else { return Ok(None) };
    let Some(&kind) = rest.first() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    let kind = FrameKind::from_byte(kind).filter(|_| length <= BODY_BYTES_MAX).ok_or_else(unknown_frame)?;
    if received.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    received.advance(HEADER_BYTES);
    Ok(Some((kind, received.split_to(length))))
}

pub(crate) fn unknown_frame() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the peer process sent a frame that this process does not understand")
}

/// What a passed socket listens for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SocketRole {
    Clients(Address),
    Admin,
    Grpc,
}

impl SocketRole {
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Clients(Address::Tcp(at)) => format!("tcp {at}"),
            Self::Clients(Address::Unix(path)) => format!("unix {}", path.display()),
            Self::Clients(Address::Inherited(number)) => format!("fd {number}"),
            Self::Admin => "admin ".into(),
            Self::Grpc => "grpc ".into(),
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
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
pub(crate) async fn send_sockets(
    to: &tokio::net::UnixStream,
    role: &SocketRole,
    sockets: &[OwnedFd],
) -> io::Result<()> {
    let frame = encode_frame(FrameKind::ListenSockets, role.to_text().as_bytes());
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let sent = to
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            Ok(rustix::net::sendmsg(to, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    // The kernel takes a frame of this size whole or not at all.
    if sent == frame.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Returns the id of the process at the other end. Errors: it runs neither as this process's user nor as root.
pub(crate) fn check_peer_user(stream: impl AsFd) -> io::Result<i32> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
        let what = format!("the peer process runs as another user (uid {})", peer.uid.as_raw());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(peer.pid.as_raw_nonzero().get())
}

/// Receives frames that may carry descriptors. A read blocks, at most for the stream's read timeout.
pub(crate) struct FrameReceiver {
    pub stream: UnixStream,
    /// Bytes behind the last frame that was returned.
    pub received: BytesMut,
    descriptors: VecDeque<OwnedFd>,
}

impl FrameReceiver {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, received: BytesMut::new(), descriptors: VecDeque::new() }
    }

    /// The next frame, with the descriptors that arrived since the frame before it.
    pub(crate) fn receive(&mut self) -> io::Result<(FrameKind, BytesMut, Vec<OwnedFd>)> {
        loop {
            if let Some((kind, body)) = take_frame(&mut self.received)? {
                // A read may have taken a frame without descriptors and the next one with some.
                let count = if kind == FrameKind::ListenSockets { self.descriptors.len() } else { 0 };
                return Ok((kind, body, self.descriptors.drain(..count).collect()));
            }
            self.read_once()?;
        }
    }

    /// One read. It never goes past a frame with descriptors, since the kernel does not merge those.
    fn read_once(&mut self) -> io::Result<()> {
        let mut bytes = [0; READ_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let read = rustix::net::recvmsg(&self.stream, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if read.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&bytes[..read.bytes]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_decode_when_they_are_split_at_any_byte() {
        let first = encode_frame(FrameKind::Publication, b"one");
        let bytes = [first.clone(), encode_frame(FrameKind::Go, b"")].concat();
        for split in 0..=bytes.len() {
            let mut received = BytesMut::new();
            let mut seen = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                received.extend_from_slice(part);
                while let Some((kind, body)) = take_frame(&mut received).expect("valid frames") {
                    seen.push((kind, body.to_vec()));
                }
            }
            assert_eq!(seen, [(FrameKind::Publication, b"one".to_vec()), (FrameKind::Go, Vec::new())], "{split}");
        }
    }

    #[test]
    fn invalid_header_is_rejected_before_the_body_arrives() {
        for bytes in [[0, 0, 0, 0, 99], [0xff, 0xff, 0xff, 0xff, FrameKind::Call as u8]] {
            assert!(take_frame(&mut BytesMut::from(&bytes[..])).is_err());
        }
    }

    #[test]
    fn welcome_and_hello_survive_a_round_trip_and_short_ones_are_known() {
        let welcome = Welcome { shards: 3, placement_key: [7; 16] };
        let body = welcome.to_body();
        assert_eq!(Welcome::from_body(&body), Some(welcome));
        (0..body.len()).for_each(|length| assert_eq!(Welcome::from_body(&body[..length]), None));
        assert_eq!(capabilities(&hello(TAKES_CHANNELS)), TAKES_CHANNELS);
        assert_eq!(capabilities(&hello(TAKES_CHANNELS)[..5]), 0, "of an earlier build");
    }

    #[test]
    fn socket_roles_survive_a_round_trip() {
        let clients = [Address::Tcp(([0, 0, 0, 0], 8000).into()), Address::Unix("/a b".into()), Address::Inherited(3)];
        for role in clients.into_iter().map(SocketRole::Clients).chain([SocketRole::Admin, SocketRole::Grpc]) {
            assert_eq!(SocketRole::from_text(&role.to_text()), Some(role));
        }
        assert_eq!(SocketRole::from_text("tcp nowhere"), None);
    }
}
