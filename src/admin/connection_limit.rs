//! Limits the connections to the admin address, so that they cannot use up the descriptors that clients need.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::process_stats::ProcessStats;

/// Shortest time between two log lines about rejected connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
const REJECTION: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Counts the open connections.
pub(crate) struct ConnectionLimit {
    stats: Arc<ProcessStats>,
    last_logged: Option<Instant>,
}

/// One open connection, counted until this is dropped.
pub(crate) struct ConnectionPermit(Arc<ProcessStats>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.admin_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionLimit {
    pub(crate) fn new(stats: Arc<ProcessStats>) -> Self {
        Self { stats, last_logged: None }
    }

    /// `None` if `connections_max` connections are open already.
    pub(crate) fn admit(&mut self, connections_max: u32) -> Option<ConnectionPermit> {
        if self.stats.admin_connections.load(Ordering::Relaxed) >= u64::from(connections_max) {
            self.stats.admin_refused.fetch_add(1, Ordering::Relaxed);
            if self.last_logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                self.last_logged = Some(Instant::now());
                log::warn!(
                    "admin address: {connections_max} connections are open (admin.connections_max); rejecting new ones"
                );
            }
            return None;
        }
        self.stats.admin_connections.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionPermit(Arc::clone(&self.stats)))
    }
}

/// Answers a new connection with 503 and closes it, without a task of its own.
pub(crate) fn reject(stream: tokio::net::TcpStream) {
    // The send buffer of a new connection is empty and takes the response at once.
    if let Ok(mut stream) = stream.into_std() {
        let _ = TcpStream::write(&mut stream, REJECTION);
    }
}
