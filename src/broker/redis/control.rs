//! Messages of the cluster on their way to Redis.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use super::command_link::Commander;
use super::job::Job;
use crate::broker::control::ControlMessage;

/// How often the connections are looked at while none is up.
const AWAY_PAUSE: Duration = Duration::from_millis(50);

/// Publishes messages until the cluster's end is gone: to the Redis shards in turn, since every server listens on each of them.
/// While none can be reached, messages wait in their queue.
pub(super) async fn send_outgoing(mut outgoing: Receiver<ControlMessage>, commanders: Vec<Commander>, prefix: String) {
    let mut next = 0;
    while let Some(message) = outgoing.recv().await {
        let channel = match &message.to {
            None => format!("{prefix}.control"),
            Some(uid) => format!("{prefix}.node.{uid}"),
        };
        let commander = loop {
            let in_turn = (0..commanders.len()).map(|step| &commanders[(next + step) % commanders.len()]);
            if let Some(commander) = in_turn.into_iter().find(|commander| commander.is_up()) {
                break commander;
            }
            sleep(AWAY_PAUSE).await;
        };
        next += 1;
        commander.send(Job::Control { channel, payload: message.payload });
    }
}
