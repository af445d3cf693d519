//! The link between the two processes of a handover. It carries, in order, the publications and calls that one process got
//! to the other.
//!
//! Waiting bytes are bounded (`handover.bytes_max`): past the bound publishers wait, and nothing is lost. A peer
//! process that reads nothing for `STUCK_TIMEOUT` is given up; the bytes that still wait for it are then counted as
//! lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::wire::{self, FrameKind};
use crate::admin::process_stats::ProcessStats;
use crate::messaging::{ApiCall, Forwarded, HandoverPeer};

/// How long the peer process may take no bytes while some wait for it.
const STUCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;
/// How long the last forwarded publications may take to leave after every client is gone.
const LAST_SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// The sending end. Its queue takes everything; a sender that can wait checks `is_full` first.
pub struct Link {
    queue: UnboundedSender<Vec<u8>>,
    waiting_bytes: AtomicUsize,
    bytes_max: usize,
    stats: Arc<ProcessStats>,
}

/// Frames that wait to be written to the peer process.
pub(crate) type FrameQueue = UnboundedReceiver<Vec<u8>>;

/// What a link needs of this process's shards. `server::ShardClient` implements it, so that the server sees the handover
/// and not the reverse.
pub trait LocalShards: Clone + Send + Sync + 'static {
    /// When this returns, every home shard forwards its publications to the peer process; with `None`, to no process.
    fn set_peer(&self, peer: Option<Arc<Link>>) -> impl Future<Output = ()> + Send;

    /// Every shard answers.
    fn are_serving(&self) -> impl Future<Output = bool> + Send;

    /// Queues a publication of the peer process for the channel's home shard; waits while that mailbox is full.
    fn publish_forwarded(&self, channel: &str, publication: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// Queues a call that the peer process has carried out on its own shards. The reply is dropped.
    fn call_forwarded(&self, call: ApiCall);
}

impl Link {
    pub fn new(bytes_max: usize, stats: Arc<ProcessStats>) -> (Arc<Self>, FrameQueue) {
        let (queue, frames) = unbounded_channel();
        (Arc::new(Self { queue, waiting_bytes: AtomicUsize::new(0), bytes_max, stats }), frames)
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

    fn is_full(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) >= self.bytes_max
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
}

impl Connection {
    /// Runs the link until either process ends it, then makes the shards stop forwarding. `on_progress` is called when the
    /// peer process says how far it is.
    pub(crate) async fn run(self, shards: &impl LocalShards, on_progress: impl FnMut(Progress)) -> io::Result<()> {
        let Self { stream, received, link, frames } = self;
        let (input, output) = stream.into_split();
        let result = tokio::select! {
            result = read_frames(input, received, shards, &link.stats, on_progress) => result,
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
    mut input: OwnedReadHalf,
    mut received: BytesMut,
    shards: &impl LocalShards,
    stats: &ProcessStats,
    mut on_progress: impl FnMut(Progress),
) -> io::Result<()> {
    loop {
        while let Some((kind, body)) = wire::take_frame(&mut received)? {
            match kind {
                FrameKind::Publication => {
                    let channel = Forwarded::unpack(&body).ok_or_else(wire::unknown_frame)?.channel.to_owned();
                    stats.handover_received.fetch_add(1, Ordering::Relaxed);
                    shards.publish_forwarded(&channel, body.to_vec()).await;
                }
                FrameKind::Call => {
                    shards.call_forwarded(serde_json::from_slice(&body).map_err(|_| wire::unknown_frame())?);
                }
                FrameKind::Ready => on_progress(Progress::Ready),
                FrameKind::Proven => on_progress(Progress::Proven),
                FrameKind::Hello | FrameKind::ListenSockets | FrameKind::Go | FrameKind::Refused => {
                    return Err(wire::unknown_frame());
                }
            }
        }
        if input.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_link_reports_it_and_still_takes_publications() {
        let (link, mut frames) = Link::new(100, Arc::default());
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
            assert!(call.is_forwarded(), "{text}");
            assert_eq!(serde_json::to_string(&call).expect("it has a JSON form"), text);
        }
    }
}
