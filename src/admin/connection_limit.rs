//! How many connections the admin address has at once: bounded, so that whoever opens thousands and says nothing takes no
//! descriptors from clients.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::process_stats::ProcessStats;

/// How often it is said that somebody was refused.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The accepting end's count.
pub struct Visitors {
    life: Arc<ProcessStats>,
    said: Option<Instant>,
}

/// One connection, counted until it is dropped.
pub struct Visitor(Arc<ProcessStats>);

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.admin_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Visitors {
    pub fn new(life: Arc<ProcessStats>) -> Self {
        Self { life, said: None }
    }

    /// None where `most` are here already.
    pub fn enter(&mut self, most: u32) -> Option<Visitor> {
        if self.life.admin_connections.load(Ordering::Relaxed) >= u64::from(most) {
            self.life.admin_refused.fetch_add(1, Ordering::Relaxed);
            if self.said.is_none_or(|at| at.elapsed() >= NOTE_INTERVAL) {
                self.said = Some(Instant::now());
                log::warn!("the admin address has {most} connections: no more are taken (admin.connections_max)");
            }
            return None;
        }
        self.life.admin_connections.fetch_add(1, Ordering::Relaxed);
        Some(Visitor(Arc::clone(&self.life)))
    }
}

/// Tells somebody who is not let in so, at the least cost.
pub fn send_away(stream: tokio::net::TcpStream) {
    // It is fresh, so that its buffer takes the answer at once.
    if let Ok(mut stream) = stream.into_std() {
        let _ = TcpStream::write(&mut stream, REFUSAL);
    }
}
