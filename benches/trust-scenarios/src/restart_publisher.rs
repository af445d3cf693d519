//! A publisher over the server API that continues through a restart: it numbers its publications and records the
//! outcome of each.
//!
//! It has a thread of its own, blocking, with one request in flight. If its address does not answer, it tries again; a number is
//! used only by a request that was sent. So a publication is acknowledged, rejected, or in doubt (the connection ended without a
//! response).

use corecast_load::engine::clock::{SECOND, now};
use corecast_load::measure::rate::{Arrivals, Rate, Schedule};
use corecast_load::net::{Url, http};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// The timeout for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The delay before an address that does not answer is tried again.
const RETRY_DELAY: u64 = 50_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    Rejected(String),
    InDoubt,
}

/// The outcome of one publication, whose number is its index in the log.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: u64,
    pub answered: u64,
    pub outcome: Outcome,
}

/// The publications of one publisher.
pub type Log = Vec<Sent>;

pub struct RestartPublisher {
    pub url: Url,
    /// The API key.
    pub key: Option<String>,
    pub channel: String,
    /// The number of the publisher, which is part of every publication.
    pub number: usize,
    /// Publications per second.
    pub rate: f64,
    pub stop: Arc<AtomicBool>,
}

impl RestartPublisher {
    /// Publishes until `stop` is set.
    pub fn start(self) -> JoinHandle<Log> {
        spawn(move || self.run())
    }

    fn schedule(&self) -> Schedule {
        Schedule::new(&Rate::constant(self.rate), Arrivals::Even, 0, 1)
    }

    fn run(self) -> Log {
        let path = format!("{}/publish", self.url.path.trim_end_matches('/'));
        let head = http::post_head(&self.url.host, &path, self.key.as_deref());
        let (mut log, mut connection, mut schedule) = (Log::new(), None, self.schedule());
        while !self.stop.load(Relaxed) {
            let due = schedule.due(now());
            wait_until(due.min(now() + SECOND));
            let Some(socket) = connection.take().filter(is_open).or_else(|| self.connect()) else {
                wait_until(now() + RETRY_DELAY);
                // Publications that were due in the meantime are dropped.
                schedule = self.schedule();
                continue;
            };
            schedule.advance();
            connection = self.publish(socket, &head, &mut log);
        }
        log
    }

    fn connect(&self) -> Option<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.url.addr, RESPONSE_TIMEOUT).ok()?;
        socket.set_nodelay(true).and_then(|()| socket.set_read_timeout(Some(RESPONSE_TIMEOUT))).ok()?;
        Some(socket)
    }

    /// Publishes the next number; returns the connection if it is still open.
    fn publish(&self, mut socket: TcpStream, head: &str, log: &mut Log) -> Option<TcpStream> {
        let data = json!({"publisher": self.number, "n": log.len()});
        let mut request = Vec::new();
        http::write_post(&mut request, head, json!({"channel": self.channel, "data": data}).to_string().as_bytes());
        let at = now();
        let sent = socket.write_all(&request);
        let response = sent.ok().and_then(|()| read_response(&mut socket));
        let outcome = match &response {
            Some((200, value)) if value["result"].is_object() => Outcome::Acknowledged,
            Some((status, value)) => Outcome::Rejected(format!("HTTP {status}: {value}")),
            None => Outcome::InDoubt,
        };
        log.push(Sent { at, answered: now(), outcome });
        response.map(|_| socket)
    }
}

/// Pauses until a time of the clock.
fn wait_until(time: u64) {
    sleep(Duration::from_nanos(time.saturating_sub(now())));
}

/// Whether the server has not closed an idle connection: a request on a closed one would be in doubt for no reason.
fn is_open(socket: &TcpStream) -> bool {
    let peeked = socket.set_nonblocking(true).and_then(|()| socket.peek(&mut [0]));
    let is_idle = peeked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    is_idle && socket.set_nonblocking(false).is_ok()
}

/// One response; `None` if the connection ends before it is complete, or if it is invalid.
fn read_response(socket: &mut TcpStream) -> Option<(u16, Value)> {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(response) = http::response(&received).ok()? {
            return Some((response.status, serde_json::from_slice(response.body).ok()?));
        }
        let n = socket.read(&mut buffer).ok().filter(|&n| n > 0)?;
        received.extend_from_slice(&buffer[..n]);
    }
}
