//! The old process's side of a handover: it listens on `handover.socket` for the process that takes over, and passes it the
//! listening sockets.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::connection::{Connection, Progress};
use super::link::{Link, LocalShards};
use super::transfer::Transfer;
use super::wire::{self, FrameKind, SocketRole, Welcome};
use crate::admin::process_stats::ProcessStats;
use crate::engine::net::listener::ListenSockets;
use crate::messaging::PeerOrder;

/// How long a process that connects may take to send its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new process waits until the process before this one has ended.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(45);
/// How long a process that is too late may take to read that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the new process may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Only the user that runs both processes may connect.
const SOCKET_MODE: u32 = 0o600;

/// The listening sockets that the next process gets.
pub struct PassedSockets(Vec<(SocketRole, Vec<OwnedFd>)>);

impl PassedSockets {
    pub fn new(clients: ListenSockets, admin: Option<&TcpListener>, grpc: Option<&TcpListener>) -> io::Result<Self> {
        let mut sockets: Vec<_> = clients.into_iter().map(|(at, sockets)| (SocketRole::Clients(at), sockets)).collect();
        for (role, listener) in [(SocketRole::Admin, admin), (SocketRole::Grpc, grpc)] {
            if let Some(listener) = listener {
                sockets.push((role, vec![listener.try_clone()?.into()]));
            }
        }
        Ok(Self(sockets))
    }
}

/// Listens for the process that takes over.
pub struct HandoverListener {
    path: PathBuf,
    listener: UnixListener,
    sockets: Vec<(SocketRole, Vec<OwnedFd>)>,
    bytes_max: usize,
    /// No other broker orders the channels.
    gives_channels: bool,
    /// Whether the process that this one took over from has ended.
    predecessor_ended: Option<watch::Receiver<bool>>,
    stats: Arc<ProcessStats>,
}

impl HandoverListener {
    /// Must run within a tokio runtime. Replaces the socket file of any process that had the path before.
    pub fn open(path: &str, passed: PassedSockets, bytes_max: usize, stats: &Arc<ProcessStats>) -> io::Result<Self> {
        // Renamed into place, so that the path is never missing and never has another mode.
        let temporary = format!("{path}.{}", std::process::id());
        let _ = std::fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        std::fs::rename(&temporary, path)?;
        let (sockets, stats) = (passed.0, Arc::clone(stats));
        let (gives_channels, predecessor_ended) = (false, None);
        Ok(Self { path: path.into(), listener, sockets, bytes_max, gives_channels, predecessor_ended, stats })
    }

    /// The channels are passed on too.
    pub fn with_channels(self, gives_channels: bool) -> Self {
        Self { gives_channels, ..self }
    }

    /// Nothing is passed on before the process that this one took over from has ended.
    pub fn after(self, predecessor_ended: Option<watch::Receiver<bool>>) -> Self {
        Self { predecessor_ended, ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves handovers until one succeeds and its process has ended.
    pub async fn run(mut self, shards: impl LocalShards, mut on_event: impl FnMut(SuccessorEvent)) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match self.hand_over(stream, &shards, &mut on_event).await {
                    Ok(HandoverEnd::Completed) => return,
                    Ok(HandoverEnd::NotProven { was_ready }) => {
                        let before = if was_ready { "it had proven itself" } else { "it was ready" };
                        log::warn!("handover: the new process ended before {before}; this process goes on serving");
                    }
                    Err(error) => log::warn!("handover: failed: {error}; this process goes on serving"),
                },
                Err(error) => {
                    log::warn!(
                        "handover: accept on {} failed: {error}; retrying in {ACCEPT_PAUSE:?}",
                        self.path.display()
                    );
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn hand_over(
        &mut self,
        mut stream: UnixStream,
        shards: &impl LocalShards,
        on_event: &mut impl FnMut(SuccessorEvent),
    ) -> io::Result<HandoverEnd> {
        let pid = wire::check_peer_user(&stream)?;
        let mut received = BytesMut::new();
        let hello = expect_hello(&mut stream, &mut received).await?;
        self.wait_for_predecessor(&mut stream, pid).await?;
        log::info!("handover: process {pid} takes over; passing it the listening sockets");
        let takes_channels = self.gives_channels && wire::capabilities(&hello) & wire::TAKES_CHANNELS != 0;
        let order = if takes_channels { PeerOrder::GivesAway } else { PeerOrder::Separate };
        let (link, frames) = Link::new(self.bytes_max, Arc::clone(&self.stats), order);
        // Every home shard forwards before the new process has its first client.
        shards.set_peer(Some(Arc::clone(&link))).await;
        let welcome = takes_channels.then(|| shards.welcome());
        if let Err(error) = self.pass_sockets(&mut stream, welcome).await {
            shards.set_peer(None).await;
            return Err(error);
        }
        let (mut is_ready, mut is_proven) = (false, false);
        let (notify, ready) = oneshot::channel();
        let mut notify = Some(notify);
        let sockets = &mut self.sockets;
        let connection =
            Connection { stream, received, link: Arc::clone(&link), frames, transfer: Transfer::default() };
        let run = connection.run(shards, |progress| match progress {
            Progress::Ready => {
                is_ready = true;
                log::info!(
                    "handover: process {pid} is ready; this process accepts clients too until it has proven itself"
                );
                _ = notify.take().map(|notify| notify.send(()));
                on_event(SuccessorEvent::Ready(Arc::clone(&link)));
            }
            Progress::Proven if is_ready => {
                is_proven = true;
                log::info!(
                    "handover: process {pid} has taken over; this process accepts no new clients and shuts down"
                );
                sockets.clear();
                on_event(SuccessorEvent::Proven(Arc::clone(&link)));
            }
            Progress::Proven => {}
        });
        let result = run_if_ready_in_time(run, ready, &link).await;
        if !is_proven {
            on_event(SuccessorEvent::Failed);
            shards.set_peer(None).await;
            // A link that breaks is how a process ends that is killed.
            return match result {
                Err(error) if !is_ready => Err(error),
                _ => Ok(HandoverEnd::NotProven { was_ready: is_ready }),
            };
        }
        if let Err(error) = result {
            log::error!(
                "handover: the link to process {pid} failed: {error}; publications no longer pass between the two"
            );
        }
        Ok(HandoverEnd::Completed)
    }

    /// While the process before this one serves its last clients, this one has no channels to pass on: what it publishes goes to
    /// that one.
    async fn wait_for_predecessor(&mut self, stream: &mut UnixStream, pid: i32) -> io::Result<()> {
        let Some(ended) = &mut self.predecessor_ended else { return Ok(()) };
        if !*ended.borrow() {
            log::info!("handover: process {pid} waits until the process before this one has ended");
        }
        // Fails if its task has ended, and then so has the process.
        if timeout(PREDECESSOR_TIMEOUT, ended.wait_for(|ended| *ended)).await.is_ok() {
            return Ok(());
        }
        let what =
            "the process before the old one still serves clients (shutdown.timeout); try again when it has ended";
        stream.write_all(&wire::encode_frame(FrameKind::Refused, what.as_bytes())).await?;
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    }

    async fn pass_sockets(&self, stream: &mut UnixStream, welcome: Option<Welcome>) -> io::Result<()> {
        if let Some(welcome) = welcome {
            stream.write_all(&wire::encode_frame(FrameKind::Welcome, &welcome.to_body())).await?;
        }
        for (role, sockets) in &self.sockets {
            for chunk in sockets.chunks(wire::DESCRIPTORS_MAX) {
                wire::send_sockets(stream, role, chunk).await?;
            }
        }
        stream.write_all(&wire::encode_frame(FrameKind::Go, &[])).await
    }
}

/// How a handover without an error came out.
enum HandoverEnd {
    /// The new process has taken over, and the link to it has ended since.
    Completed,
    /// The new process ended before that.
    NotProven { was_ready: bool },
}

/// What the old process learns of the new one.
pub enum SuccessorEvent {
    /// It serves clients. Both processes accept, so that it may still fail.
    Ready(Arc<Link>),
    /// It has taken over.
    Proven(Arc<Link>),
    /// It ended before it had proven itself.
    Failed,
}

/// Runs the link; ends it with an error if the new process is not ready in time.
async fn run_if_ready_in_time(
    run: impl Future<Output = io::Result<()>>,
    ready: oneshot::Receiver<()>,
    link: &Link,
) -> io::Result<()> {
    let mut run = std::pin::pin!(run);
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("the new process was not ready within {READY_TIMEOUT:?}"));
    tokio::select! {
        result = &mut run => return result,
        in_time = timeout(READY_TIMEOUT, ready) => {
            if in_time.is_err() {
                // It must not serve when it is ready: both would order.
                let what = late();
                link.send_frame(FrameKind::Refused, what.to_string().as_bytes());
                _ = timeout(REFUSAL_TIMEOUT, run).await;
                return Err(what);
            }
        }
    }
    run.await
}

/// Reads the hello of the new process. An unknown version is answered with `Refused`.
async fn expect_hello(stream: &mut UnixStream, received: &mut BytesMut) -> io::Result<BytesMut> {
    let hello = async {
        loop {
            if let Some(frame) = wire::take_frame(received)? {
                return Ok::<_, io::Error>(frame);
            }
            if stream.read_buf(received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    let late = |_| {
        let what = format!("the process that connected to handover.socket sent no hello within {HELLO_TIMEOUT:?}");
        io::Error::new(io::ErrorKind::TimedOut, what)
    };
    let (kind, body) = timeout(HELLO_TIMEOUT, hello).await.map_err(late)??;
    if kind == FrameKind::Hello && body.first() == Some(&wire::VERSION) {
        return Ok(body);
    }
    let what = format!(
        "the two processes use different handover versions (the old process has {}); stop the old process and start \
         the new one without --takeover",
        wire::VERSION
    );
    stream.write_all(&wire::encode_frame(FrameKind::Refused, what.as_bytes())).await?;
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}
