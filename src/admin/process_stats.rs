//! Counters of the process: handovers, reloads, connections of the admin address. Written by the control thread and, during
//! a handover, by home shards.

use std::sync::atomic::{AtomicBool, AtomicU64};

#[derive(Default, Debug)]
pub struct ProcessStats {
    /// Publications forwarded to the peer process of a handover.
    pub handover_forwarded: AtomicU64,
    /// Publications received from the peer process of a handover.
    pub handover_received: AtomicU64,
    /// Largest number of bytes queued for the peer process.
    pub handover_bytes_peak: AtomicU64,
    /// Bytes that could not be sent to the peer process.
    pub handover_lost_bytes: AtomicU64,
    /// Open connections to the admin address.
    pub admin_connections: AtomicU64,
    /// Connections to the admin address rejected because of `admin.connections_max`.
    pub admin_refused: AtomicU64,
    /// Reloads (SIGHUP) that took effect.
    pub reloads_applied: AtomicU64,
    /// Reloads rejected because the new configuration has faults.
    pub reloads_refused: AtomicU64,
    /// The last reload was rejected.
    pub reload_failed: AtomicBool,
    /// When the configuration in effect was read.
    pub read_at_unix_s: AtomicU64,
}
