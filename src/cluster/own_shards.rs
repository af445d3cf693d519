//! What the cluster asks of this server's own shards.

use std::future::Future;

use crate::engine::stats::Snapshot;
use crate::messaging::{ApiCall, ApiReply};

/// `server::ShardClient` implements it, so that the server sees the cluster and not the reverse.
pub(crate) trait OwnShards: Clone + Send + Sync + 'static {
    /// Carries out a call on this server alone. `None`: it failed, or there is no answer in time.
    fn ask(&self, call: ApiCall) -> impl Future<Output = Option<ApiReply>> + Send;

    /// Queues a call for every shard, and waits while a mailbox is full. False if one stays full. The replies are dropped.
    fn carry_out(&self, call: ApiCall) -> impl Future<Output = bool> + Send;

    /// The numbers of every shard that answers in time.
    fn numbers(&self) -> impl Future<Output = Vec<Snapshot>> + Send;
}
