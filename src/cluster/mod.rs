//! The servers of one cluster: each announces itself, carries out what the server API of another one asks, and answers its
//! surveys. It speaks the control protocol of Centrifugo 6, so that servers of both kinds form one cluster.
//!
//! Messages are bytes that the broker carries (`broker::control`). All of this runs on the control thread.
//!
//! - `control.proto`, `proto`   the messages · `wire` their bytes, checked · `commands` calls as messages
//! - `nodes`                    the table of servers: running, stalled, lost
//! - `announce`                 this server's announcements
//! - `incoming`                 what arrives
//! - `channels`, `surveys`      the survey of all channels
//! - `single_connection`        users with one connection in the whole cluster
//! - `shared`, `stats`, `view`  what they share, count and show
//!
//! Invariants: nothing of a received message is trusted; every queue has a bound; nothing waits for a server that does not
//! announce itself.

pub(crate) mod announce;
pub(crate) mod channels;
pub(crate) mod commands;
pub(crate) mod incoming;
pub(crate) mod nodes;
pub(crate) mod own_shards;
#[allow(clippy::all, unreachable_pub)]
#[rustfmt::skip]
pub(crate) mod proto;
pub(crate) mod shared;
pub(crate) mod single_connection;
pub mod stats;
pub(crate) mod surveys;
pub mod view;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use channels::{Survey, SurveyError};
use incoming::Incoming;
pub(crate) use own_shards::OwnShards;
use shared::Shared;
use single_connection::UserReports;
pub(crate) use single_connection::{ConnectedUsers, connected_users};
use view::ClusterView;

use crate::api::settings::Current;
use crate::broker::control::ControlBus;
use crate::messaging::ApiCall;

/// A cluster that is not joined yet.
pub(crate) struct ClusterSetup {
    bus: ControlBus,
    reports: UserReports,
}

/// The cluster, as this server's API sees it.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

impl ClusterSetup {
    /// `reports`: users with a single connection, from the shards (`connected_users`).
    pub(crate) fn new(bus: ControlBus, reports: UserReports) -> Self {
        Self { bus, reports }
    }

    /// Announces this server, with the uid and the name of the settings. The uid is the one that the bus was made for. Must run
    /// within the control runtime.
    pub(crate) fn start(self, settings: Current, shards: impl OwnShards) -> Cluster {
        let Self { bus: ControlBus { outgoing, incoming }, reports } = self;
        let shared = Shared::new(outgoing, settings);
        tokio::spawn(Incoming::new(Arc::clone(&shared), shards.clone()).run(incoming));
        tokio::spawn(single_connection::run(reports, Arc::clone(&shared), shards.clone()));
        tokio::spawn(announce::run(Arc::clone(&shared), shards));
        Cluster(shared)
    }
}

impl Cluster {
    /// Makes the other servers carry out a call that concerns connections, before this one does. False: the queue to the broker
    /// is full, and nothing has happened.
    pub(crate) fn share(&self, call: &ApiCall) -> bool {
        self.0.share(call).is_ok()
    }

    /// Asks the other servers for their channels. `None` if there are none.
    pub(crate) fn ask_channels(&self, pattern: &str) -> Result<Option<Survey>, SurveyError> {
        channels::begin(&self.0, pattern)
    }

    pub(crate) fn view(&self) -> ClusterView {
        self.0.view()
    }

    /// This server leaves: the others remove it at once, and it still carries out what they send.
    pub(crate) fn leave(&self) {
        self.0.leave();
    }
}
