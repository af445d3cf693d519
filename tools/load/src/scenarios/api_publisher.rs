//! `publish`: publications over the server API, HTTP/1.1 from keep-alive connections, every answer read.
//!
//! Plan: a connection has one request under way. Closed loop: whoever is answered asks again at the end of the turn. Open
//! loop: requests fall due by the clock and go to whoever is free; latency counts from when they were due.
//! Invariant: a publication counts when its own answer is no error. Where answers carry offsets, a channel's must be all
//! different and without a gap (`Places`).

use crate::engine::clock::now;
use crate::engine::workers::Phase;
use crate::engine::{Io, Scene};
use crate::measure::rate::{Arrivals, NEVER, Rate, Schedule};
use crate::measure::results::{Figures, Harvest};
use crate::net::Target;
use crate::net::frame::Fault;
use memchr::memmem;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of an answer's head that we are willing to hold.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What every worker of a run has in common.
#[derive(Debug)]
pub struct Plan {
    /// Without an upgrade.
    pub target: Target,
    /// A request's head up to its length.
    pub head: String,
    pub channels: Vec<String>,
    /// Publications in a request; 1: it is no batch.
    pub batch: usize,
    pub parallel: bool,
    /// A publication's data, as JSON.
    pub data: String,
    /// Requests per second over all workers, in open loop.
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    pub workers: usize,
}

impl Plan {
    /// The head of every request to `path` below the API at `host`.
    pub fn head(host: &str, path: &str, key: Option<&str>) -> String {
        let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{key}Content-Type: application/json\r\nContent-Length: ")
    }

    /// A request whose publications go to the channels from number `from` on.
    fn request(&self, out: &mut Vec<u8>, body: &mut String, from: usize) {
        let channel = |i: usize| &self.channels[(from + i) % self.channels.len()];
        body.clear();
        if self.batch == 1 {
            self.publish(body, channel(0));
        } else {
            body.push_str(if self.parallel { r#"{"parallel":true,"commands":["# } else { r#"{"commands":["# });
            for i in 0..self.batch {
                body.push_str(if i > 0 { r#",{"publish":"# } else { r#"{"publish":"# });
                self.publish(body, channel(i));
                body.push('}');
            }
            body.push_str("]}");
        }
        out.clear();
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body.as_bytes());
    }

    fn publish(&self, body: &mut String, channel: &str) {
        for part in [r#"{"channel":""#, channel, r#"","data":"#, &self.data, "}"] {
            body.push_str(part);
        }
    }
}

/// The offsets that a channel's publications were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    first: u64,
    last: u64,
    count: u64,
    sum: u128,
}

impl Places {
    fn note(&mut self, offset: u64) {
        let one = Self { first: offset, last: offset, count: 1, sum: u128::from(offset) };
        *self = self.plus(one);
    }

    pub fn plus(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            count: self.count + other.count,
            sum: self.sum + other.sum,
        }
    }

    /// Each number from the first to the last came once. (Two that are missing and two that came twice could hide each
    /// other in the sum; a server that did that would be strange indeed.)
    pub fn sound(self) -> bool {
        let (first, last) = (u128::from(self.first), u128::from(self.last));
        self.count == 0
            || (self.last - self.first + 1 == self.count && self.sum * 2 == (first + last) * (last - first + 1))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Under {
    /// When the request left, or should have left.
    since: u64,
    /// The first publication's channel.
    from: usize,
    way: bool,
}

pub struct Api {
    plan: Arc<Plan>,
    conns: Vec<Under>,
    free: Vec<usize>,
    next: usize,
    schedule: Option<Schedule>,
    due: VecDeque<u64>,
    out: Vec<u8>,
    body: String,
    /// From a request (when it was due) to its answer.
    figures: Figures,
    pub places: Vec<Places>,
    pub refused: u64,
    pub first_error: Option<String>,
}

impl Api {
    /// The scene of worker number `worker` for `connections`, whose first publications go to channels that no other begins with.
    pub fn new(plan: Arc<Plan>, worker: usize, connections: usize) -> Self {
        let schedule = plan.rate.as_ref().map(|rate| Schedule::of(rate, plan.arrivals, worker, plan.workers));
        Self {
            conns: vec![Under::default(); connections],
            free: Vec::new(),
            next: plan.channels.len() * worker / plan.workers,
            schedule,
            due: VecDeque::new(),
            out: Vec::new(),
            body: String::new(),
            figures: Figures::new(plan.rate.as_ref()),
            places: vec![Places::default(); plan.channels.len()],
            refused: 0,
            first_error: None,
            plan,
        }
    }

    fn send(&mut self, io: &mut Io, id: usize, since: u64) {
        let from = self.next;
        self.next = (from + self.plan.batch) % self.plan.channels.len();
        self.conns[id] = Under { since, from, way: true };
        self.plan.request(&mut self.out, &mut self.body, from);
        io.tally.sent += self.plan.batch as u64;
        io.send(id, &self.out);
    }

    fn answered(&mut self, io: &mut Io, id: usize, status: u16, body: &[u8]) -> Result<(), Fault> {
        let Under { since, from, way } = std::mem::take(&mut self.conns[id]);
        if !way {
            return Err(Fault::Answer("an answer that nobody asked for".into()));
        }
        let text = || Fault::Answer(format!("HTTP {status}: {}", String::from_utf8_lossy(body)));
        let value: Value = serde_json::from_slice(body).map_err(|_| text())?;
        if status != 200 {
            return Err(text());
        }
        let alone = std::slice::from_ref(&value);
        let replies = if self.plan.batch == 1 { alone } else { value["replies"].as_array().ok_or_else(text)? };
        if replies.len() != self.plan.batch {
            return Err(text());
        }
        for (i, reply) in replies.iter().enumerate() {
            let result = if self.plan.batch == 1 { &reply["result"] } else { &reply["publish"] };
            if !result.is_object() {
                self.refused += 1;
                io.tally.faults += 1;
                self.first_error.get_or_insert_with(|| reply.to_string());
                continue;
            }
            io.tally.received += 1;
            if let Some(offset) = result["offset"].as_u64() {
                self.places[(from + i) % self.plan.channels.len()].note(offset);
            }
        }
        io.tally.in_flight -= self.plan.batch as u64;
        // The turn's own clock is read behind its sockets: here it still shows the turn before.
        let age = now().saturating_sub(since);
        io.took(age, 1);
        self.figures.came(io.measured_from, since, age, 1);
        self.free.push(id);
        Ok(())
    }
}

impl Scene for Api {
    const LATE_CLOCK: bool = true;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        self.free.push(id);
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(answer) = answer(&bytes[at..])? {
            let Some(body) = bytes[at..].get(answer.head..answer.head + answer.len) else { break };
            self.answered(io, id, answer.status, body)?;
            at += answer.head + answer.len;
        }
        Ok(at)
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        self.free.retain(|&free| free != id);
        if std::mem::take(&mut self.conns[id]).way {
            // Its publications are in doubt; they stay under way, so that the run is void.
            io.tally.faults += self.plan.batch as u64;
        }
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        let running = matches!(phase, Phase::Warm | Phase::Measure);
        let mut next = None;
        match &mut self.schedule {
            None if running => {
                self.due.extend(std::iter::repeat_n(io.now, self.free.len()));
                self.figures.sent(io.measured_from, io.now, self.free.len() as u64);
                io.tally.in_flight += (self.free.len() * self.plan.batch) as u64;
            }
            Some(schedule) if running => {
                schedule.measure(io.measured_from);
                while schedule.due(io.now) <= io.now {
                    io.late(schedule.due(io.now));
                    self.due.push_back(schedule.due(io.now));
                    self.figures.sent(io.measured_from, schedule.due(io.now), 1);
                    io.tally.in_flight += self.plan.batch as u64;
                    schedule.advance();
                }
                next = Some(schedule.due(io.now)).filter(|due| *due != NEVER);
            }
            _ => {}
        }
        // What fell due is sent also when nothing more does.
        while !self.due.is_empty() {
            let Some(id) = self.free.pop() else { break };
            if let Some(since) = self.due.pop_front() {
                self.send(io, id, since);
            }
        }
        next
    }

    fn harvest(&mut self) -> Harvest {
        Harvest { steps: self.figures.take(), ..Harvest::default() }
    }
}

/// An answer's status, where its body begins, and the body's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: usize,
    pub len: usize,
    /// The server ends the connection behind it.
    pub last: bool,
}

/// Reads the head at the beginning of `bytes`; the body may not be there yet.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer>, Fault> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(Fault::TooLong) } else { Ok(None) };
    };
    let mut lines = bytes[..end].split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<usize>().ok();
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix(b"HTTP/1.1 ").and_then(|rest| number(rest.get(..3)?)).ok_or(Fault::NotHttp)? as u16;
    let (mut len, mut last) = (None, false);
    for line in lines {
        let Some((name, value)) = memchr::memchr(b':', line).map(|colon| (&line[..colon], &line[colon + 1..])) else {
            continue;
        };
        if name.eq_ignore_ascii_case(b"content-length") {
            len = number(value);
        }
        last |= name.eq_ignore_ascii_case(b"connection") && value.trim_ascii().eq_ignore_ascii_case(b"close");
    }
    let len = len.ok_or_else(|| Fault::Answer("an HTTP answer without a length".into()))?;
    Ok(Some(Answer { status, head: end + 4, len, last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(batch: usize) -> Plan {
        let target = Target::silent("127.0.0.1:1".parse().unwrap());
        let channels = (0..3).map(|i| format!("c{i}")).collect();
        let head = Plan::head("h", "/api/publish", Some("k"));
        let (rate, arrivals, workers) = (None, Arrivals::Even, 1);
        Plan { target, head, channels, batch, parallel: false, data: "\"x\"".into(), rate, arrivals, workers }
    }

    fn request(batch: usize, from: usize) -> (String, Value) {
        let (mut out, mut body) = (Vec::new(), String::new());
        plan(batch).request(&mut out, &mut body, from);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        (head.into(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn requests_are_what_they_should_be() {
        let (head, body) = request(1, 2);
        assert!(head.starts_with("POST /api/publish HTTP/1.1\r\nHost: h\r\nX-API-Key: k\r\n"));
        assert_eq!(body, serde_json::json!({"channel": "c2", "data": "x"}));
        let (_, body) = request(2, 2);
        let channels: Vec<_> = body["commands"].as_array().unwrap().iter().map(|c| &c["publish"]["channel"]).collect();
        assert_eq!(channels, ["c2", "c0"]);
    }

    #[test]
    fn answers_are_read_at_any_split() {
        let whole = b"HTTP/1.1 200 OK\r\nX: y\r\nCONTENT-length: 2\r\n\r\n{}";
        let head = whole.len() - 2;
        for cut in 0..head {
            assert_eq!(answer(&whole[..cut]), Ok(None));
        }
        assert_eq!(answer(whole), Ok(Some(Answer { status: 200, head, len: 2, last: false })));
        let last = answer(b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap();
        assert!(last.last);
        assert_eq!(answer(b"RTSP/1.0 200\r\n\r\n"), Err(Fault::NotHttp));
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn offsets_are_sound_when_each_came_once() {
        let of = |offsets: &[u64]| {
            let mut places = Places::default();
            offsets.iter().for_each(|&offset| places.note(offset));
            places
        };
        assert!(of(&[]).sound() && of(&[9]).sound() && of(&[6, 5, 7]).sound());
        assert!(!of(&[1, 3]).sound() && !of(&[1, 1]).sound() && !of(&[1, 2, 2, 4]).sound());
        assert!(of(&[1, 3]).plus(of(&[2])).sound());
    }
}
