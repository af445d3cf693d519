//! Users with a single connection (`client.subscribe_to_user_personal_channel.single_connection`) in a cluster: a user who
//! connects here is disconnected from the other servers.
//!
//! The home shard of the user closes the connections on this server. The others are asked only if the presence of the personal
//! channel names another connection: most users have none, and a message to every server for each connect would be too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::own_shards::OwnShards;
use super::shared::Shared;
use super::stats::{Dropped, add};
use crate::messaging::api_call::ConnectionSelector;
use crate::messaging::{ApiCall, ApiReply};
use crate::protocol::Disconnect;

/// Users that may wait; the connections of one more on other servers stay.
const USERS_MAX: usize = 4096;
/// Presences that are read at a time.
const READS_MAX: usize = 64;

/// A user who has connected to this server.
pub(crate) struct ConnectedUser {
    user: Box<str>,
    client: Box<str>,
    /// The personal channel of the user.
    channel: Box<str>,
}

/// How shards report such users.
pub(crate) struct ConnectedUsers {
    queue: Sender<ConnectedUser>,
    lost: Arc<AtomicU64>,
}

/// The cluster's end.
pub(crate) struct UserReports {
    queue: Receiver<ConnectedUser>,
    /// Users for whom there was no room.
    lost: Arc<AtomicU64>,
}

pub(crate) fn connected_users() -> (ConnectedUsers, UserReports) {
    let (sender, receiver) = channel(USERS_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    (ConnectedUsers { queue: sender, lost: Arc::clone(&lost) }, UserReports { queue: receiver, lost })
}

impl ConnectedUsers {
    /// Without room the report is dropped and counted.
    pub(crate) fn report(&self, user: &str, client: &str, channel: &str) {
        let connected = ConnectedUser { user: user.into(), client: client.into(), channel: channel.into() };
        if self.queue.try_send(connected).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Handles the reports until every shard has ended.
pub(crate) async fn run(mut reports: UserReports, shared: Arc<Shared>, shards: impl OwnShards) {
    let room = Arc::new(Semaphore::new(READS_MAX));
    while let Some(user) = reports.queue.recv().await {
        for _ in 0..reports.lost.swap(0, Ordering::Relaxed) {
            shared.drop_message(Dropped::UsersFull, "a user's new connection");
        }
        if shared.nodes().len() == 0 {
            continue;
        }
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (shared, shards) = (Arc::clone(&shared), shards.clone());
        tokio::spawn(async move {
            disconnect_elsewhere(user, &shared, &shards).await;
            drop(permit);
        });
    }
}

async fn disconnect_elsewhere(connected: ConnectedUser, shared: &Shared, shards: &impl OwnShards) {
    let ConnectedUser { user, client, channel } = connected;
    let is_alone = match shards.ask(ApiCall::Presence { channel }).await {
        Some(ApiReply::Presence(members)) => members.iter().all(|member| *member.client == *client),
        // The presence is not known: a message too many does no harm.
        _ => false,
    };
    if is_alone {
        return;
    }
    let limit = Disconnect::ConnectionLimit;
    let call = ApiCall::Disconnect {
        connections: ConnectionSelector { user, ..ConnectionSelector::default() },
        except_clients: vec![client],
        code: limit.code(),
        reason: limit.reason().into(),
    };
    if shared.share(&call).is_ok() {
        add(&shared.counters.single_connections);
    }
}
