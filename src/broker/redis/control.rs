//! Messages of the cluster on their way to Redis.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use super::job::Job;
use super::publisher::Publisher;
use super::shard::Shard;
use crate::broker::control::ControlMessage;

/// How often the connections are looked at while none is up.
const AWAY_PAUSE: Duration = Duration::from_millis(50);

/// Publishes messages until the cluster's end is gone: to the Redis shards in turn, since every server listens on each of them.
/// While none can be reached, messages wait in their queue.
pub(super) async fn send_outgoing(mut outgoing: Receiver<ControlMessage>, shards: Vec<Rc<Shard>>, prefix: String) {
    let mut next = 0;
    while let Some(message) = outgoing.recv().await {
        let channel = match &message.to {
            None => format!("{prefix}.control"),
            Some(uid) => format!("{prefix}.node.{uid}"),
        };
        let publisher = loop {
            let in_turn = (0..shards.len()).map(|step| &shards[(next + step) % shards.len()]);
            if let Some(publisher) = in_turn.filter_map(|shard| shard.publisher()).find(Publisher::is_up) {
                break publisher;
            }
            sleep(AWAY_PAUSE).await;
        };
        next += 1;
        publisher.send(Job::Control { channel, payload: message.payload });
    }
}
