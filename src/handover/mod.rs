//! A rolling restart on one host: the next process takes the listening sockets over while this one still serves, so that
//! nobody who connects is refused.
//!
//! ```text
//!  new                                          old
//!   │ Hello ──────────────────────────────────►  │ from now on it forwards what it stamps
//!   │ ◄──────────────── Sockets …, Go            │
//!   │ its shards open with them, and forward     │
//!   │ Ready ──────────────────────────────────►  │ closes its copies, drains, ends
//!   │ ◄───── Publication, Call, either way ───►  │
//! ```
//!
//! If the new one ends before it is ready, the old one goes on as if nothing had been. The sockets are the same in both, so
//! that a connection that waits in one of them is taken by either.
//!
//! - `wire` frames and descriptors · `link` publications and calls between the two

pub mod link;
pub(crate) mod wire;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::admin::process_stats::ProcessStats;
use crate::engine::net::listener::Sockets;
use crate::server::shard_client::ShardClient;
use link::{Link, Outbound};
use wire::{Kind, Receiver, Role};

/// How long one side waits for the other's next word while the sockets are passed.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the new process may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the last forwarded publications may take to leave, once every client is gone.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// Only for the user that runs both.
const MODE: u32 = 0o600;

/// Why there is no handover although one was asked for.
#[derive(Debug)]
pub struct HandoverError {
    pub socket: String,
    pub error: io::Error,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot take over from the process at handover.socket, {}: {}\n  That process goes on as before. See its log; \
             both must run as the same user. Without --takeover this one starts beside it, on other ports.",
            self.socket, self.error
        )
    }
}

/// What the old process has passed, and the way to it.
pub struct Taken {
    stream: UnixStream,
    /// Behind the last socket: read already, not handled.
    arrived: BytesMut,
    outbound: Outbound,
    pub link: Arc<Link>,
    pub clients: Sockets,
    pub admin: Option<TcpListener>,
    pub grpc: Option<TcpListener>,
}

impl Taken {
    /// Of the connection to the other process.
    pub fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Asks whoever answers at `socket` for his sockets. `None`: nobody does.
pub fn take(socket: &str, bytes_max: usize, life: &Arc<ProcessStats>) -> Result<Option<Taken>, HandoverError> {
    let fail = |error| HandoverError { socket: socket.into(), error };
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            log::info!("nobody answers at handover.socket, {socket}: this process starts as the first");
            return Ok(None);
        }
        Err(error) => return Err(fail(error)),
    };
    let (link, outbound) = Link::new(bytes_max, Arc::clone(life));
    let (receiver, clients, admin, grpc) = receive(stream).map_err(fail)?;
    let Receiver { stream, arrived, .. } = receiver;
    let sockets = clients.iter().map(|(_, sockets)| sockets.len()).sum::<usize>();
    log::info!("taking over {sockets} listening sockets of clients from the process at {socket}");
    Ok(Some(Taken { stream, arrived, outbound, link, clients, admin, grpc }))
}

type Received = (Receiver, Sockets, Option<TcpListener>, Option<TcpListener>);

fn receive(stream: UnixStream) -> io::Result<Received> {
    trusted(&stream)?;
    stream.set_read_timeout(Some(WORD_TIMEOUT))?;
    let mut hello = vec![wire::VERSION];
    hello.extend_from_slice(&std::process::id().to_le_bytes());
    io::Write::write_all(&mut &stream, &wire::frame(Kind::Hello, &hello))?;
    let (mut clients, mut admin, mut grpc) = (Sockets::new(), None, None);
    let mut receiver = Receiver::new(stream);
    loop {
        let (kind, body, sockets) = receiver.next()?;
        let text = String::from_utf8_lossy(&body);
        match kind {
            Kind::Go => break,
            Kind::Refused => return Err(io::Error::other(text.into_owned())),
            Kind::Sockets => match Role::read(&text).ok_or_else(wire::malformed)? {
                Role::Admin => admin = sockets.into_iter().next().map(TcpListener::from),
                Role::Grpc => grpc = sockets.into_iter().next().map(TcpListener::from),
                Role::Clients(at) => match clients.iter_mut().find(|(one, _)| *one == at) {
                    Some((_, known)) => known.extend(sockets),
                    None => clients.push((at, sockets)),
                },
            },
            _ => return Err(wire::malformed()),
        }
    }
    receiver.stream.set_nonblocking(true)?;
    Ok((receiver, clients, admin, grpc))
}

/// Whoever is at the other end runs as this user, or as root.
fn trusted(stream: impl std::os::fd::AsFd) -> io::Result<i32> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
        let what = format!("the process at the other end runs as another user, {}", peer.uid.as_raw());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(peer.pid.as_raw_nonzero().get())
}

impl Taken {
    /// Tells the old process that clients are served here, and stays with it until it ends.
    pub async fn ready(self, shards: ShardClient) {
        let Self { stream, arrived, outbound, link, .. } = self;
        let stream = match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return log::error!("the other process cannot be reached any more: {error}"),
        };
        link.send(Kind::Ready, &[]);
        match link::run(stream, arrived, &link, outbound, &shards, || {}).await {
            Ok(()) => log::info!("the process that this one took over from has ended"),
            Err(error) => log::error!("the link to the process that this one took over from has ended: {error}"),
        }
    }
}

/// What a process passes on, and where it waits for the one that takes it.
pub struct Keeper {
    path: PathBuf,
    listener: UnixListener,
    sockets: Vec<(Role, Vec<OwnedFd>)>,
    bytes_max: usize,
    life: Arc<ProcessStats>,
}

impl Keeper {
    /// Within a runtime. Takes the path's place at once, whoever had it before.
    pub fn open(
        path: &str,
        clients: Sockets,
        admin: Option<&TcpListener>,
        grpc: Option<&TcpListener>,
        bytes_max: usize,
        life: &Arc<ProcessStats>,
    ) -> io::Result<Self> {
        let mut sockets: Vec<_> = clients.into_iter().map(|(at, sockets)| (Role::Clients(at), sockets)).collect();
        for (role, listener) in [(Role::Admin, admin), (Role::Grpc, grpc)] {
            if let Some(listener) = listener {
                sockets.push((role, vec![listener.try_clone()?.into()]));
            }
        }
        // Made beside the path and moved there: nobody finds it with another mode, or finds nothing.
        let beside = format!("{path}.{}", std::process::id());
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(MODE))?;
        std::fs::rename(&beside, path)?;
        Ok(Self { path: path.into(), listener, sockets, bytes_max, life: Arc::clone(life) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for one that takes over, and serves as its twin until this process ends. `taken` is called with the link when
    /// the other is ready.
    pub async fn keep(mut self, shards: ShardClient, mut taken: impl FnMut(Arc<Link>)) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match self.hand_over(stream, &shards, &mut taken).await {
                    Ok(true) => return,
                    Ok(false) => {
                        log::warn!("the process that was to take over ended before it was ready: this one goes on")
                    }
                    Err(error) => log::warn!("no handover: {error}; this process goes on"),
                },
                Err(error) => {
                    log::warn!("handover.socket cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// True where the other was ready, and has ended since.
    async fn hand_over(
        &mut self,
        mut stream: tokio::net::UnixStream,
        shards: &ShardClient,
        taken: &mut impl FnMut(Arc<Link>),
    ) -> io::Result<bool> {
        let pid = trusted(&stream)?;
        let mut arrived = BytesMut::new();
        greeted(&mut stream, &mut arrived).await?;
        log::info!("process {pid} takes over: it gets the listening sockets");
        let (link, outbound) = Link::new(self.bytes_max, Arc::clone(&self.life));
        // Every home forwards before the other has its first client.
        shards.set_twin(Some(Arc::clone(&link))).await;
        let mut is_ready = false;
        let passed = self.pass(&mut stream).await;
        let ended = match passed {
            Err(error) => {
                shards.set_twin(None).await;
                Err(error)
            }
            Ok(()) => {
                let (told, wait) = tokio::sync::oneshot::channel();
                let mut told = Some(told);
                let sockets = &mut self.sockets;
                let run = link::run(stream, arrived, &link, outbound, shards, || {
                    is_ready = true;
                    log::info!("process {pid} is ready: this one takes no new clients and ends");
                    sockets.clear();
                    _ = told.take().map(|told| told.send(()));
                    taken(Arc::clone(&link));
                });
                within(run, wait).await
            }
        };
        if !is_ready {
            shards.set_twin(None).await;
            return ended.map(|()| false);
        }
        if let Err(error) = ended {
            log::error!("the link to process {pid} has ended: {error}");
        }
        Ok(true)
    }

    async fn pass(&self, stream: &mut tokio::net::UnixStream) -> io::Result<()> {
        for (role, sockets) in &self.sockets {
            for some in sockets.chunks(wire::DESCRIPTORS_MAX) {
                wire::send_sockets(stream, role, some).await?;
            }
        }
        tokio::io::AsyncWriteExt::write_all(stream, &wire::frame(Kind::Go, &[])).await
    }
}

/// The link, which ends where the other process is not ready in time.
async fn within(
    run: impl Future<Output = io::Result<()>>,
    ready: tokio::sync::oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut run = std::pin::pin!(run);
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("it was not ready within {READY_TIMEOUT:?}"));
    tokio::select! {
        ended = &mut run => return ended,
        in_time = timeout(READY_TIMEOUT, ready) => drop(in_time.map_err(|_| late())?),
    }
    run.await
}

/// Reads the other's first word.
async fn greeted(stream: &mut tokio::net::UnixStream, arrived: &mut BytesMut) -> io::Result<()> {
    let hello = async {
        loop {
            if let Some(frame) = wire::next(arrived)? {
                return Ok::<_, io::Error>(frame);
            }
            if stream.read_buf(arrived).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "whoever connected to handover.socket says nothing");
    let (kind, body) = timeout(WORD_TIMEOUT, hello).await.map_err(silent)??;
    if kind == Kind::Hello && body.first() == Some(&wire::VERSION) {
        return Ok(());
    }
    let what = "the two processes are of versions that cannot hand over to each other";
    let refusal = wire::frame(Kind::Refused, what.as_bytes());
    tokio::io::AsyncWriteExt::write_all(stream, &refusal).await?;
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Every client is gone: what they published leaves before the process does.
pub async fn last_words(link: &Link) {
    let left = async {
        while !link.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(LAST_WORDS_TIMEOUT, left).await.is_err() {
        log::warn!("the last publications did not reach the other process in time");
    }
}
