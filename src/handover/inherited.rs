//! The new process's side of a handover: it asks the old process for its listening sockets, and tells it when it serves.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::connection::Connection;
use super::link::{FrameQueue, Link, LocalShards};
use super::transfer::Transfer;
use super::wire::{self, FrameKind, FrameReceiver, SocketRole, Welcome};
use crate::admin::process_stats::ProcessStats;
use crate::engine::net::listener::ListenSockets;
use crate::messaging::PeerOrder;

/// How long to wait for each frame of the old process while it passes the sockets. It waits itself until the process before it
/// has ended.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause before the shards are asked again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Why a handover that was asked for failed.
#[derive(Debug)]
pub struct HandoverError {
    pub socket: String,
    pub error: io::Error,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "handover.socket: {}: cannot take over from the process there: {}\n  That process keeps serving. See its \
             log; both processes must run as the same user. Without --takeover this process starts beside it, on other \
             ports.",
            self.socket, self.error
        )
    }
}

/// The listening sockets that the old process has passed, and the link to it.
pub struct Inherited {
    stream: UnixStream,
    /// Bytes behind the last socket: read already, not handled.
    received: BytesMut,
    frames: FrameQueue,
    transfer: Transfer,
    /// Ends when this process has the order of all channels; `None` if the old process has an earlier version.
    order: Option<oneshot::Receiver<()>>,
    /// The key of the old process's placement, with the order.
    pub placement_key: Option<[u8; 16]>,
    /// Of the old process, if it gives its channels away.
    shards: u16,
    pub link: Arc<Link>,
    pub clients: ListenSockets,
    pub admin: Option<TcpListener>,
    pub grpc: Option<TcpListener>,
}

/// How a takeover has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takeover {
    /// This process is the one that serves, and the link has ended.
    Complete,
    /// The old process has taken back what it had passed, and goes on serving.
    Refused,
}

impl Inherited {
    /// Asks the process at `socket` for its listening sockets, and for its channels unless another broker has them. `None`: no
    /// process listens there.
    pub fn request(
        socket: &str,
        bytes_max: usize,
        takes_channels: bool,
        stats: &Arc<ProcessStats>,
    ) -> Result<Option<Self>, HandoverError> {
        let fail = |error| HandoverError { socket: socket.into(), error };
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                log::info!("handover: no process listens on handover.socket {socket}; starting as the first process");
                return Ok(None);
            }
            Err(error) => return Err(fail(error)),
        };
        let inherited = Self::receive(stream, bytes_max, takes_channels, stats).map_err(fail)?;
        let count = inherited.clients.iter().map(|(_, sockets)| sockets.len()).sum::<usize>();
        log::info!("handover: received {count} client listening sockets from the process at {socket}");
        Ok(Some(inherited))
    }

    fn receive(
        stream: UnixStream,
        bytes_max: usize,
        takes_channels: bool,
        stats: &Arc<ProcessStats>,
    ) -> io::Result<Self> {
        wire::check_peer_user(&stream)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        let hello = wire::hello(if takes_channels { wire::TAKES_CHANNELS } else { 0 });
        let mut welcome = None;
        io::Write::write_all(&mut &stream, &wire::encode_frame(FrameKind::Hello, &hello))?;
        let (mut clients, mut admin, mut grpc) = (ListenSockets::new(), None, None);
        let mut receiver = FrameReceiver::new(stream);
        loop {
            let (kind, body, sockets) = receiver.receive()?;
            let text = String::from_utf8_lossy(&body);
            match kind {
                FrameKind::Go => break,
                FrameKind::Refused => return Err(io::Error::other(text.into_owned())),
                FrameKind::ListenSockets => match SocketRole::from_text(&text).ok_or_else(wire::unknown_frame)? {
                    SocketRole::Admin => admin = sockets.into_iter().next().map(TcpListener::from),
                    SocketRole::Grpc => grpc = sockets.into_iter().next().map(TcpListener::from),
                    SocketRole::Clients(at) => match clients.iter_mut().find(|(known, _)| *known == at) {
                        Some((_, known)) => known.extend(sockets),
                        None => clients.push((at, sockets)),
                    },
                },
                FrameKind::Welcome => welcome = Some(Welcome::from_body(&body).ok_or_else(wire::unknown_frame)?),
                _ => return Err(wire::unknown_frame()),
            }
        }
        let FrameReceiver { stream, received, .. } = receiver;
        stream.set_nonblocking(true)?;
        let order = if welcome.is_some() { PeerOrder::TakesOver } else { PeerOrder::Separate };
        let (link, frames) = Link::new(bytes_max, Arc::clone(stats), order);
        let (transfer, order) = match welcome {
            Some(welcome) => {
                let (transfer, order) = Transfer::from_shards(welcome.shards);
                (transfer, Some(order))
            }
            None => (Transfer::default(), None),
        };
        let placement_key = welcome.map(|welcome| welcome.placement_key);
        let shards = welcome.map_or(0, |welcome| welcome.shards);
        Ok(Self { stream, received, frames, transfer, order, placement_key, shards, link, clients, admin, grpc })
    }

    /// The descriptor of the connection to the old process.
    pub fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// The link to the old process and the number of its shards, which are clients of this one's log until it ends.
    pub fn peer_shards(&self) -> (&Arc<Link>, u16) {
        (&self.link, self.shards)
    }

    /// Whether the shards accept nothing before this process has the order of the channels.
    pub fn takes_channels(&self) -> bool {
        self.order.is_some()
    }

    /// Takes the order over, lets the shards accept, and tells the old process that this one serves clients, and after `trial`
    /// that it has taken over; runs the link until the old process ends. `on_serving` is called when this process has the
    /// order, `on_proven` when it is the one that serves.
    pub async fn take_over(
        self,
        shards: impl LocalShards,
        trial: Duration,
        on_serving: impl FnOnce(),
        on_proven: impl FnOnce(),
    ) -> Takeover {
        let Self { stream, received, link, frames, transfer, order, .. } = self;
        let stream = match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                log::error!("handover: cannot use the connection to the old process: {error}; it keeps serving");
                return Takeover::Refused;
            }
        };
        let connection = Connection { stream, received, link: Arc::clone(&link), frames, transfer };
        let mut run = std::pin::pin!(connection.run(&shards, |_| {}));
        let has_order = AtomicBool::new(order.is_none());
        let start = async {
            if let Some(order) = order {
                // Fails if the link has ended, which ends the other branch.
                if order.await.is_err() {
                    return std::future::pending().await;
                }
                has_order.store(true, Ordering::Relaxed);
                shards.open_log().await;
                log::info!("handover: this process has all channels of the old process and orders them");
            }
            link.send_frame(FrameKind::Ready, &[]);
            // The old process has to know it before this one has its first client.
            link.finish_sending().await;
        };
        let ended = tokio::select! {
            biased;
            result = &mut run => Some(result),
            () = start => None,
        };
        if let Some(Err(error)) = &ended
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            log::error!("handover: the old process goes on serving: {error}");
            return Takeover::Refused;
        }
        shards.accept().await;
        on_serving();
        if let Some(result) = ended.as_ref().filter(|_| !has_order.load(Ordering::Relaxed)) {
            let why = result.as_ref().err().map_or_else(String::new, |error| format!(" ({error})"));
            log::error!(
                "handover: the old process has ended before it had passed all of its channels{why}; this one serves with what \
                 it has: every channel begins another epoch"
            );
            on_proven();
            return Takeover::Complete;
        }
        let result = match ended {
            Some(result) => Some(result),
            None => tokio::select! {
                result = &mut run => Some(result),
                () = served(&shards, trial) => None,
            },
        };
        on_proven();
        let result = match result {
            Some(result) => result,
            None => {
                link.send_frame(FrameKind::Proven, &[]);
                run.await
            }
        };
        match &result {
            Ok(()) => log::info!("handover: complete, the old process has ended"),
            Err(error) => log::error!(
                "handover: the link to the old process failed: {error}; publications no longer pass between the two"
            ),
        }
        Takeover::Complete
    }
}

/// Returns when this process has served for `trial`, and every shard answers.
async fn served(shards: &impl LocalShards, trial: Duration) {
    tokio::time::sleep(trial).await;
    while !shards.are_serving().await {
        log::warn!("handover: not every shard answers; the old process goes on accepting clients");
        tokio::time::sleep(trial.max(RETRY_PAUSE)).await;
    }
}
