//! The steps by which the order of channels goes from one process to the other, as frames say them.
//!
//! ```text
//!  new process                           old process
//!   │ ◄──────── Copied, of each shard      │
//!   │ sorts what it has, then Switch ───►  │ its shards follow from here on
//!   │ ◄────── Switched, of each shard      │
//!   │ it orders all channels, and accepts  │
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::link::{Link, LocalShards};
use super::wire::{self, FrameKind};
use crate::broker::Broker;
use crate::broker::port::{RequestQueue, request_queue};
use crate::messaging::handover_message::pack_request;
use crate::messaging::{HandoverPeer, PeerOrder};

/// Requests that are taken from the queue at once.
const REQUESTS_MAX: usize = 256;
/// Pause while the link is full.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// How far the transfer is.
#[derive(Default)]
pub(crate) struct Transfer {
    /// In the new process: the old process's shards that are not that far.
    not_copied: u16,
    not_switched: u16,
    /// Told when this process has the order.
    on_order: Option<oneshot::Sender<()>>,
}

impl Transfer {
    /// In the process that takes over from one with so many shards. Also returns what ends when this process has the order.
    pub(crate) fn from_shards(shards: u16) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { not_copied: shards, not_switched: shards, on_order: Some(sender) }, receiver)
    }

    /// The peer process has sent one of the frames of the transfer. Error: it is not its turn.
    pub(crate) async fn step(
        &mut self,
        kind: FrameKind,
        shards: &impl LocalShards,
        link: &Arc<Link>,
    ) -> io::Result<()> {
        match (kind, link.order()) {
            (FrameKind::Copied, PeerOrder::TakesOver) if self.not_copied > 0 => {
                self.not_copied -= 1;
                if self.not_copied == 0 {
                    shards.sort_copies().await;
                    link.send_frame(FrameKind::Switch, &[]);
                }
            }
            (FrameKind::Switched, PeerOrder::TakesOver) if self.not_copied == 0 && self.not_switched > 0 => {
                self.not_switched -= 1;
                if self.not_switched == 0 {
                    link.set_ahead(false);
                    // Nothing waits for it if the start has failed.
                    _ = self.on_order.take().map(|on_order| on_order.send(()));
                }
            }
            (FrameKind::Switch, PeerOrder::GivesAway) => {
                let (port, requests) = request_queue(link.bytes_max());
                link.counts_requests(requests.gauge());
                tokio::spawn(send_requests(requests, Arc::clone(link)));
                shards.follow_peer(Broker::new(vec![port])).await;
                // The link goes on meanwhile.
                tokio::spawn(shards.close_log());
            }
            _ => return Err(wire::unknown_frame()),
        }
        Ok(())
    }
}

/// Sends the requests of the shards that follow, until none of them follows any more. The bound of the queue counts while the
/// link is full.
async fn send_requests(mut queue: RequestQueue, link: Arc<Link>) {
    let mut requests = Vec::new();
    while queue.receive(&mut requests, REQUESTS_MAX).await > 0 {
        for request in requests.drain(..) {
            while link.is_full() && !link.has_ended() && request.ticket().is_some() {
                tokio::time::sleep(ROOM_PAUSE).await;
            }
            if let Some(message) = pack_request(&request) {
                link.send_message(message);
            }
        }
    }
}
