//! The link between the two processes of a handover. It carries, in order, channels, publications, requests and calls of one
//! process to the other. Here is the end that sends; `connection` runs it.
//!
//! Waiting bytes are bounded (`handover.bytes_max`): past the bound publishers wait, and nothing is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::wire::{self, FrameKind, Welcome};
use crate::admin::process_stats::ProcessStats;
use crate::broker::Broker;
use crate::broker::port::QueueGauge;
use crate::messaging::handover_message::is_stamped;
use crate::messaging::{ApiCall, HandoverPeer, HomeProgress, PeerOrder};

/// Bytes of copies that may wait: publications wait behind them.
const COPY_BYTES_MAX: usize = 1024 * 1024;
/// How long the last forwarded publications may take to leave after every client is gone.
const LAST_SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// The sending end. Its queue takes everything; a sender that can wait checks `is_full` first.
pub struct Link {
    queue: UnboundedSender<Vec<u8>>,
    pub(super) waiting_bytes: AtomicUsize,
    bytes_max: usize,
    pub(super) stats: Arc<ProcessStats>,
    order: PeerOrder,
    /// The peer process may have published what did not arrive here.
    may_be_ahead: AtomicBool,
    /// Bytes of requests that wait to be sent.
    request_bytes: OnceLock<QueueGauge>,
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

    /// Hands over the durable log, so that the peer process opens it.
    fn close_log(&self) -> impl Future<Output = ()> + Send + 'static;

    /// Opens the durable log, which the peer process has handed over, or left behind. When this returns, it is served.
    fn open_log(&self) -> impl Future<Output = ()> + Send;

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
        let request_bytes = OnceLock::new();
        (Arc::new(Self { queue, waiting_bytes, bytes_max, stats, order, may_be_ahead, request_bytes }), frames)
    }

    /// Nothing that is sent leaves any more.
    pub fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// The requests of the shards wait in another queue, with so many bytes.
    pub(crate) fn counts_requests(&self, gauge: QueueGauge) {
        _ = self.request_bytes.set(gauge);
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
            let has_requests = || self.request_bytes.get().is_some_and(|gauge| gauge.bytes() > 0);
            while has_requests() || self.waiting_bytes.load(Ordering::Relaxed) > 0 {
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
        if is_stamped(&message) {
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
