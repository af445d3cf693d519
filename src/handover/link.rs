//! The link between the two processes of a handover. It carries, in order, channels, publications, requests and calls of one
//! process to the other. `transfer` has the steps by which the order of channels goes over.
//!
//! Waiting bytes are bounded (`handover.bytes_max`): past the bound publishers wait, and nothing is lost. A peer
//! process that reads nothing for `STUCK_TIMEOUT` is given up; the bytes that still wait for it are then counted as
//! lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::transfer::Transfer;
use super::wire::{self, FrameKind, Welcome};
use crate::admin::process_stats::ProcessStats;
use crate::broker::Broker;
use crate::messaging::handover_message::STAMPED;
use crate::messaging::{ApiCall, Forwarded, HandoverPeer, HomeProgress, PeerOrder};

/// How long the peer process may take no bytes while some wait for it.
const STUCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes that are received at once, and messages that a shard gets at once.
const READ_BYTES: usize = 256 * 1024;
const MESSAGES_MAX: usize = 256;
/// Bytes of copies that may wait: publications wait behind them.
const COPY_BYTES_MAX: usize = 1024 * 1024;
/// How long the last forwarded publications may take to leave after every client is gone.
const LAST_SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// The sending end. Its queue takes everything; a sender that can wait checks `is_full` first.
pub struct Link {
    queue: UnboundedSender<Vec<u8>>,
    waiting_bytes: AtomicUsize,
    bytes_max: usize,
    stats: Arc<ProcessStats>,
    order: PeerOrder,
    /// The peer process may have published what did not arrive here.
    may_be_ahead: AtomicBool,
}

/// Frames that wait to be written to the peer process.
pub(crate) type FrameQueue = UnboundedReceiver<Vec<u8>>;

/// What a link needs of this process's shards. `server::ShardClient` implements it, so that the server sees the handover
/// and not the reverse.
pub trait LocalShards: Clone + Send + Sync + 'static {
    /// When this returns, every home shard forwards its publications to the peer process; with `None`, to no process.
    fn set_peer(&self, peer: Option<Arc<Link>>) -> impl Future<Output = ()> + Send;

    /// What a process that takes the channels over has to know before it starts its shards.
    fn welcome(&self) -> Welcome;

    /// Queues messages of the peer process for their shards, in order; waits while a mailbox is full. False: one is malformed.
    fn pass_messages(&self, messages: Vec<Vec<u8>>) -> impl Future<Output = bool> + Send;

    /// When this returns, every shard has handled the messages before, and put what it got in order.
    fn sort_copies(&self) -> impl Future<Output = ()> + Send;

    /// Tells every shard that the peer process has all channels, and orders them as this broker from here on.
    fn follow_peer(&self, broker: Broker) -> impl Future<Output = ()> + Send;

    /// The shards accept connections from here on.
    fn accept(&self) -> impl Future<Output = ()> + Send;

    /// Every shard answers.
    fn are_serving(&self) -> impl Future<Output = bool> + Send;

    /// Queues a publication of the peer process for the channel's home shard; waits while that mailbox is full.
    fn publish_forwarded(&self, channel: &str, publication: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// Queues a call that the peer process has carried out on its own shards. The reply is dropped.
    fn call_forwarded(&self, call: ApiCall);
}

impl Link {
    pub fn new(bytes_max: usize, stats: Arc<ProcessStats>, order: PeerOrder) -> (Arc<Self>, FrameQueue) {
        let (queue, frames) = unbounded_channel();
        // Until the peer process has passed on its order, it has published more than what has arrived.
        let may_be_ahead = AtomicBool::new(order == PeerOrder::TakesOver);
        let waiting_bytes = AtomicUsize::new(0);
        (Arc::new(Self { queue, waiting_bytes, bytes_max, stats, order, may_be_ahead }), frames)
    }

    /// Nothing that is sent leaves any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The peer process orders and has clients; or it orders nothing any more.
    pub(crate) fn set_ahead(&self, may_be_ahead: bool) {
        self.may_be_ahead.store(may_be_ahead, Ordering::Release);
    }

    pub fn send_frame(&self, kind: FrameKind, body: &[u8]) {
        let frame = wire::encode_frame(kind, body);
        let waiting = self.waiting_bytes.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
        self.stats.handover_bytes_peak.fetch_max(waiting as u64, Ordering::Relaxed);
        // Fails after the link has ended, until the shards have heard of that. The bytes are then counted as lost.
        let _ = self.queue.send(frame);
    }

    pub fn send_call(&self, call: &ApiCall) {
        self.send_frame(FrameKind::Call, &serde_json::to_vec(call).expect("an ApiCall has a JSON form"));
    }

    /// Waits until the kernel has taken everything that was sent. It delivers that even if this process ends.
    pub async fn finish_sending(&self) {
        let sent = async {
            while self.waiting_bytes.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(LAST_SEND_TIMEOUT, sent).await.is_err() {
            let waiting = self.waiting_bytes.load(Ordering::Relaxed);
            log::warn!(
                "handover: the new process did not read the last {waiting} bytes of publications within \
                 {LAST_SEND_TIMEOUT:?}; its subscribers miss them"
            );
        }
    }
}

impl HandoverPeer for Link {
    fn send(&self, publication: Vec<u8>) {
        self.stats.handover_forwarded.fetch_add(1, Ordering::Relaxed);
        self.send_frame(FrameKind::Publication, &publication);
    }

    fn send_message(&self, message: Vec<u8>) {
        if message.first() == Some(&STAMPED) {
            self.stats.handover_forwarded.fetch_add(1, Ordering::Relaxed);
        }
        self.send_frame(FrameKind::Message, &message);
    }

    fn is_full(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    fn has_room_for_copy(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) < (self.bytes_max / 2).min(COPY_BYTES_MAX)
    }

    fn order(&self) -> PeerOrder {
        self.order
    }

    fn may_be_ahead(&self) -> bool {
        self.may_be_ahead.load(Ordering::Acquire)
    }

    fn report(&self, progress: HomeProgress) {
        let kind = match progress {
            HomeProgress::Copied => FrameKind::Copied,
            HomeProgress::Switched => FrameKind::Switched,
        };
        self.send_frame(kind, &[]);
    }
}

/// How far the new process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It serves clients.
    Ready,
    /// It has done so for its trial time.
    Proven,
}

/// A connected link, before it runs.
pub(crate) struct Connection {
    pub stream: UnixStream,
    /// Bytes that were read already and not handled.
    pub received: BytesMut,
    pub link: Arc<Link>,
    pub frames: FrameQueue,
    pub transfer: Transfer,
}

impl Connection {
    /// Runs the link until either process ends it, then makes the shards stop forwarding. `on_progress` is called when the
    /// peer process says how far it is.
    pub(crate) async fn run(self, shards: &impl LocalShards, on_progress: impl FnMut(Progress)) -> io::Result<()> {
        let Self { stream, received, link, frames, transfer } = self;
        let (input, output) = stream.into_split();
        let result = tokio::select! {
            result = read_frames((input, received), shards, &link, transfer, on_progress) => result,
            result = write_frames(output, frames, &link) => result,
        };
        shards.set_peer(None).await;
        let lost = link.waiting_bytes.load(Ordering::Relaxed) as u64;
        link.stats.handover_lost_bytes.fetch_add(lost, Ordering::Relaxed);
        if lost > 0 {
            log::warn!("handover: {lost} bytes of publications did not reach the peer process, which is gone");
        }
        result
    }
}

async fn write_frames(mut output: OwnedWriteHalf, mut frames: FrameQueue, link: &Link) -> io::Result<()> {
    while let Some(mut bytes) = frames.recv().await {
        while bytes.len() < WRITE_BYTES
            && let Ok(more) = frames.try_recv()
        {
            bytes.extend_from_slice(&more);
        }
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let written = timeout(STUCK_TIMEOUT, output.write(rest)).await.map_err(|_| stuck())??;
            rest = &rest[written..];
            link.waiting_bytes.fetch_sub(written, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the peer process read nothing for {STUCK_TIMEOUT:?}"))
}

/// Handles frames until the peer process closes the link, which is not an error.
async fn read_frames(
    (mut input, mut received): (OwnedReadHalf, BytesMut),
    shards: &impl LocalShards,
    link: &Arc<Link>,
    mut transfer: Transfer,
    mut on_progress: impl FnMut(Progress),
) -> io::Result<()> {
    let stats = &link.stats;
    let mut messages = Vec::new();
    loop {
        while let Some((kind, body)) = wire::take_frame(&mut received)? {
            if kind == FrameKind::Message {
                stats.handover_received.fetch_add(u64::from(body.first() == Some(&STAMPED)), Ordering::Relaxed);
                messages.push(body.to_vec());
                if messages.len() >= MESSAGES_MAX {
                    pass(shards, &mut messages).await?;
                }
                continue;
            }
            pass(shards, &mut messages).await?;
            match kind {
                FrameKind::Publication => {
                    let channel = Forwarded::unpack(&body).ok_or_else(wire::unknown_frame)?.channel.to_owned();
                    stats.handover_received.fetch_add(1, Ordering::Relaxed);
                    shards.publish_forwarded(&channel, body.to_vec()).await;
                }
                FrameKind::Call => {
                    shards.call_forwarded(serde_json::from_slice(&body).map_err(|_| wire::unknown_frame())?);
                }
                FrameKind::Ready => {
                    link.set_ahead(link.order == PeerOrder::GivesAway);
                    on_progress(Progress::Ready);
                }
                FrameKind::Proven => on_progress(Progress::Proven),
                FrameKind::Copied | FrameKind::Switch | FrameKind::Switched => {
                    transfer.step(kind, shards, link).await?;
                }
                FrameKind::Refused => {
                    let why = String::from_utf8_lossy(&body).into_owned();
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, why));
                }
                FrameKind::Hello
                | FrameKind::ListenSockets
                | FrameKind::Go
                | FrameKind::Welcome
                | FrameKind::Message => {
                    return Err(wire::unknown_frame());
                }
            }
        }
        pass(shards, &mut messages).await?;
        received.reserve(READ_BYTES);
        if input.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

async fn pass(shards: &impl LocalShards, messages: &mut Vec<Vec<u8>>) -> io::Result<()> {
    if messages.is_empty() || shards.pass_messages(std::mem::take(messages)).await {
        return Ok(());
    }
    Err(wire::unknown_frame())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_link_reports_it_and_still_takes_publications() {
        let (link, mut frames) = Link::new(100, Arc::default(), PeerOrder::Separate);
        link.send(vec![0; 40]);
        assert!(!link.is_full());
        assert!(link.waiting_bytes.load(Ordering::Relaxed) > 0);
        link.send(vec![0; 80]);
        assert!(link.is_full());
        link.send(vec![0; 80]);
        assert_eq!(std::iter::from_fn(|| frames.try_recv().ok()).count(), 3);
    }

    /// The processes of two releases exchange these texts: change them together with `wire::VERSION`.
    #[test]
    fn forwarded_calls_keep_their_json_form() {
        let texts = [
            r#"{"Subscribe":{"who":{"user":"ann","client":"","session":""},"channel":"news","grant":{"info":[],"data":[],"expire_at":null,"overrides":{"presence":true,"join_leave":null,"force_recovery":null,"force_positioning":null,"force_push_join_leave":null}},"since":{"offset":7,"epoch":"e"}}}"#,
            r#"{"Unsubscribe":{"who":{"user":"ann","client":"c","session":""},"channel":"news"}}"#,
            r#"{"Disconnect":{"who":{"user":"ann","client":"","session":"s"},"spared":["x"],"code":3503,"reason":"bye"}}"#,
            r#"{"Refresh":{"who":{"user":"ann","client":"","session":""},"renewal":{"expired":false,"expire_at":9,"info":[1],"meta":[]}}}"#,
            r#"{"HistoryRemove":{"channel":"news"}}"#,
        ];
        for text in texts {
            let call: ApiCall = serde_json::from_str(text).expect(text);
            assert!(call.is_forwarded(PeerOrder::Separate), "{text}");
            assert_eq!(serde_json::to_string(&call).expect("it has a JSON form"), text);
        }
    }
}
