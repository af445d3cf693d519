//! The link between the two processes of a handover: publications and calls that reach one go to the other, in order.
//!
//! What waits is bounded in bytes (`handover.bytes_max`): past it publishers wait, and nothing is lost. A process that reads
//! nothing for `STUCK_TIMEOUT` is given up, and what waited for it is counted as lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::wire::{self, Kind};
use crate::admin::process_stats::ProcessStats;
use crate::auth::grant::{RefreshGrant, SubscribeGrant};
use crate::messaging::control_request::{Place, Who};
use crate::messaging::{Forwarded, HandoverPeer};
use crate::server::shard_client::ShardClient;

/// How long the other process may take nothing while something waits for it.
const STUCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes put together for one write.
const WRITE_BYTES: usize = 256 * 1024;

/// A call of the server API that concerns users or channels of both processes. Each may be carried out twice.
#[derive(Serialize, Deserialize, Debug)]
pub enum Call {
    Subscribe { who: Who, channel: Box<str>, grant: SubscribeGrant, since: Option<Place> },
    Unsubscribe { who: Who, channel: Box<str> },
    Disconnect { who: Who, spared: Vec<Box<str>>, code: u16, reason: Box<str> },
    Refresh { who: Who, renewal: RefreshGrant },
    HistoryRemove { channel: Box<str> },
}

/// The sending end. Its queue takes everything: who can wait asks whether it is full.
pub struct Link {
    queue: UnboundedSender<Vec<u8>>,
    waiting: AtomicUsize,
    bytes_max: usize,
    life: Arc<ProcessStats>,
}

/// Frames on their way out.
pub type Outbound = UnboundedReceiver<Vec<u8>>;

impl Link {
    pub fn new(bytes_max: usize, life: Arc<ProcessStats>) -> (Arc<Self>, Outbound) {
        let (queue, outbound) = unbounded_channel();
        (Arc::new(Self { queue, waiting: AtomicUsize::new(0), bytes_max, life }), outbound)
    }

    pub fn send(&self, kind: Kind, body: &[u8]) {
        let frame = wire::frame(kind, body);
        let waiting = self.waiting.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
        self.life.handover_bytes_peak.fetch_max(waiting as u64, Ordering::Relaxed);
        // A link that has ended is told to the shards; until then what they send is for nobody.
        let _ = self.queue.send(frame);
    }

    pub fn call(&self, call: &Call) {
        self.send(Kind::Call, &serde_json::to_vec(call).expect("our own types are JSON"));
    }

    /// Everything that was sent has gone to the kernel, which keeps it for the other process.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }
}

impl HandoverPeer for Link {
    fn send(&self, publication: Vec<u8>) {
        self.life.handover_forwarded.fetch_add(1, Ordering::Relaxed);
        Self::send(self, Kind::Publication, &publication);
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.bytes_max
    }
}

/// Drives the link until it ends, one way or the other. `arrived` is what was read already, `ready` is called when the other
/// process says so. Says how it ended, and leaves the shards alone again.
pub async fn run(
    stream: UnixStream,
    arrived: BytesMut,
    link: &Arc<Link>,
    outbound: Outbound,
    shards: &ShardClient,
    ready: impl FnMut(),
) -> io::Result<()> {
    let (input, output) = stream.into_split();
    let ended = tokio::select! {
        ended = read(input, arrived, shards, link, ready) => ended,
        ended = write(output, outbound, link) => ended,
    };
    shards.set_twin(None).await;
    let left = link.waiting.load(Ordering::Relaxed) as u64;
    link.life.handover_lost_bytes.fetch_add(left, Ordering::Relaxed);
    if left > 0 {
        log::warn!("{left} bytes of publications did not reach the other process, which is gone");
    }
    ended
}

async fn write(mut output: OwnedWriteHalf, mut outbound: Outbound, link: &Link) -> io::Result<()> {
    while let Some(mut bytes) = outbound.recv().await {
        while bytes.len() < WRITE_BYTES
            && let Ok(more) = outbound.try_recv()
        {
            bytes.extend_from_slice(&more);
        }
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let written = timeout(STUCK_TIMEOUT, output.write(rest)).await.map_err(|_| stuck())??;
            rest = &rest[written..];
            link.waiting.fetch_sub(written, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the other process took nothing for {STUCK_TIMEOUT:?}"))
}

/// Until the other process ends, which is no error.
async fn read(
    mut input: OwnedReadHalf,
    mut arrived: BytesMut,
    shards: &ShardClient,
    link: &Link,
    mut ready: impl FnMut(),
) -> io::Result<()> {
    loop {
        while let Some((kind, body)) = wire::next(&mut arrived)? {
            match kind {
                Kind::Publication => {
                    let channel = Forwarded::unpack(&body).ok_or_else(wire::malformed)?.channel.to_owned();
                    link.life.handover_received.fetch_add(1, Ordering::Relaxed);
                    shards.publish_forwarded(&channel, body.to_vec()).await;
                }
                Kind::Call => shards.carry_out(serde_json::from_slice(&body).map_err(|_| wire::malformed())?),
                Kind::Ready => ready(),
                Kind::Hello | Kind::Sockets | Kind::Go | Kind::Refused => return Err(wire::malformed()),
            }
        }
        if input.read_buf(&mut arrived).await? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_link_says_so_and_still_takes_what_was_stamped() {
        let (link, mut outbound) = Link::new(100, Arc::default());
        HandoverPeer::send(&*link, vec![0; 40]);
        assert!(!link.is_full() && !link.is_empty());
        HandoverPeer::send(&*link, vec![0; 80]);
        assert!(link.is_full());
        HandoverPeer::send(&*link, vec![0; 80]);
        assert_eq!(std::iter::from_fn(|| outbound.try_recv().ok()).count(), 3);
    }

    #[test]
    fn calls_read_as_they_were_written() {
        let who = Who { user: "ann".into(), ..Who::default() };
        let call = Call::Disconnect { who, spared: vec!["x".into()], code: 3503, reason: "bye".into() };
        let text = serde_json::to_string(&call).unwrap();
        let again: Call = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{call:?}"), format!("{again:?}"));
    }
}
