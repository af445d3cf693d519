//! A publisher over the server API that minds no restart: it numbers what it publishes and knows what became of each number.
//!
//! A thread of its own, blocking, one request under way. While nobody answers at its address it asks again; a number is only
//! used up by a request that left. So a number is acknowledged, refused, or in doubt (the connection ended without an answer).

use crate::engine::clock::{SECOND, now};
use crate::measure::rate::Schedule;
use crate::net::Place;
use crate::scenarios::api_publisher::{self, Plan};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// Time for any one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time until an address that does not answer is tried again.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    Refused(String),
    Doubt,
}

/// What became of one number, which is its place in the log.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: u64,
    pub answered: u64,
    pub outcome: Outcome,
}

/// Everything that one courier sent.
pub type Log = Vec<Sent>;

pub struct Courier {
    place: Place,
    head: String,
    channel: String,
    /// Which publisher it is, said in every publication.
    number: usize,
    stop: Arc<AtomicBool>,
}

impl Courier {
    /// Publishes to `channel` at `url` until `stop` is set.
    pub fn start(
        (number, url): (usize, &str),
        (channel, key): (&str, Option<&str>),
        rate: f64,
        stop: &Arc<AtomicBool>,
    ) -> Result<JoinHandle<Log>, String> {
        let place = Place::parse(url, "http://")?;
        let head = Plan::head(&place.host, &format!("{}/publish", place.path.trim_end_matches('/')), key);
        let courier = Self { place, head, channel: channel.into(), number, stop: stop.clone() };
        Ok(spawn(move || courier.run(rate)))
    }

    fn run(self, rate: f64) -> Log {
        let (mut log, mut connection) = (Log::new(), None);
        let mut schedule = Schedule::new(rate);
        while !self.stop.load(Relaxed) {
            let due = schedule.due(now());
            sleep(Duration::from_nanos(due.saturating_sub(now()).min(SECOND)));
            let Some(socket) = connection.take().filter(stands).or_else(|| self.connect()) else {
                sleep(PAUSE);
                // What fell due meanwhile is nobody's.
                schedule = Schedule::new(rate);
                continue;
            };
            schedule.advance();
            connection = self.publish(socket, &mut log);
        }
        log
    }

    fn connect(&self) -> Option<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.place.addr, PATIENCE).ok()?;
        socket.set_nodelay(true).and_then(|()| socket.set_read_timeout(Some(PATIENCE))).ok()?;
        Some(socket)
    }

    /// Publishes the next number; gives the connection back if it still stands.
    fn publish(&self, mut socket: TcpStream, log: &mut Log) -> Option<TcpStream> {
        let data = json!({"publisher": self.number, "n": log.len()});
        let body = json!({"channel": self.channel, "data": data}).to_string();
        let at = now();
        let sent = socket.write_all(format!("{}{}\r\n\r\n{body}", self.head, body.len()).as_bytes());
        let answer = sent.ok().and_then(|()| read(&mut socket));
        let outcome = match &answer {
            Some((200, value)) if value["result"].is_object() => Outcome::Acknowledged,
            Some((status, value)) => Outcome::Refused(format!("HTTP {status}: {value}")),
            None => Outcome::Doubt,
        };
        log.push(Sent { at, answered: now(), outcome });
        answer.map(|_| socket)
    }
}

/// Whether the server has not ended a connection that lay idle: a request on it would be in doubt for nothing.
fn stands(socket: &TcpStream) -> bool {
    let looked = socket.set_nonblocking(true).and_then(|()| socket.peek(&mut [0]));
    let idle = looked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    idle && socket.set_nonblocking(false).is_ok()
}

/// One answer; None if the connection ends before it is whole, or brings what is no answer.
fn read(socket: &mut TcpStream) -> Option<(u16, Value)> {
    let (mut held, mut room) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(answer) = api_publisher::answer(&held).ok()?
            && let Some(body) = held.get(answer.head..answer.head + answer.len)
        {
            return Some((answer.status, serde_json::from_slice(body).ok()?));
        }
        let n = socket.read(&mut room).ok().filter(|&n| n > 0)?;
        held.extend_from_slice(&room[..n]);
    }
}
