//! What the server API, `/metrics` and the admin page show of the cluster.

use std::collections::BTreeMap;

use super::stats::Counts;

/// One server in numbers, as it announces itself.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct NodeInfo {
    pub uid: String,
    pub name: String,
    pub version: String,
    pub clients: u32,
    pub users: u32,
    pub channels: u32,
    pub subscriptions: u32,
    pub uptime_s: u32,
    pub metrics: Option<NodeMetrics>,
}

/// What happened on a server in the last interval: counters as differences, gauges as they are.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct NodeMetrics {
    pub interval_s: f64,
    pub items: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    Running,
    /// It has missed an announcement. Surveys no longer wait for it.
    Stalled,
    /// It was removed, since it missed more of them and did not say that it leaves.
    Lost,
}

impl NodeState {
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Running, "running"), (Self::Stalled, "stalled"), (Self::Lost, "lost")];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Another server of the cluster.
#[derive(Clone, Debug)]
pub struct NodeView {
    pub info: NodeInfo,
    pub state: NodeState,
    /// How long ago its last message arrived.
    pub heard_ms_ago: u64,
}

/// The cluster as this server sees it.
#[derive(Clone, Default, Debug)]
pub struct ClusterView {
    /// Of this server, as it announced them last.
    pub metrics: Option<NodeMetrics>,
    /// By name.
    pub others: Vec<NodeView>,
    pub counts: Counts,
    /// How long ago the last control message arrived, those of this server included.
    pub silent_ms: u64,
}
