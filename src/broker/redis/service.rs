//! The PUB/SUB channels that servers use among themselves.

/// Channels that a connection subscribes to for its server.
#[derive(Clone, Default)]
pub(super) struct ServiceChannels {
    /// By partition.
    pub(super) probes: Vec<String>,
    pub(super) control: Vec<String>,
}
