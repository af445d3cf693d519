//! `publish`: publications over the server API, HTTP/1.1 from keep-alive connections, with every response checked.
//!
//! A connection has one request in flight. Closed loop: a connection with a response sends the next request at the end of the turn.
//! Open loop: requests fall due by the schedule and go to a free connection; latency counts from when they were due.
//! Invariant: a publication counts if its own reply is not an error. If replies have offsets, those of a channel must be different
//! and without a gap (`Offsets`).

use crate::engine::Scenario;
use crate::engine::clock::now;
use crate::engine::connection::Io;
use crate::engine::control::Phase;
use crate::measure::rate::{Arrivals, NEVER, Rate, Schedule};
use crate::measure::results::{Results, StepRecorder};
use crate::net::Target;
use crate::net::frame::ProtocolError;
use crate::net::http;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// What all workers of a run share.
#[derive(Debug)]
pub struct Plan {
    /// Without an upgrade.
    pub target: Target,
    /// The head of a request up to its length.
    pub head: String,
    pub channels: Vec<String>,
    /// Publications per request; 1: no batch.
    pub batch: usize,
    pub parallel: bool,
    /// The data of a publication, as JSON.
    pub data: String,
    /// Requests per second over all workers, in open loop.
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    pub workers: usize,
}

impl Plan {
    /// Writes a request with publications to the channels from number `from` on.
    fn write_request(&self, out: &mut Vec<u8>, body: &mut String, from: usize) {
        body.clear();
        if self.batch == 1 {
            self.write_publish(body, from);
        } else {
            body.push_str(if self.parallel { r#"{"parallel":true,"commands":["# } else { r#"{"commands":["# });
            for i in 0..self.batch {
                body.push_str(if i > 0 { r#",{"publish":"# } else { r#"{"publish":"# });
                self.write_publish(body, from + i);
                body.push('}');
            }
            body.push_str("]}");
        }
        out.clear();
        http::write_post(out, &self.head, body.as_bytes());
    }

    fn write_publish(&self, body: &mut String, channel: usize) {
        let channel = &self.channels[channel % self.channels.len()];
        for part in [r#"{"channel":""#, channel, r#"","data":"#, &self.data, "}"] {
            body.push_str(part);
        }
    }
}

/// The offsets of the publications to a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    first: u64,
    last: u64,
    count: u64,
    sum: u128,
}

impl Offsets {
    fn record(&mut self, offset: u64) {
        *self = self.plus(Self { first: offset, last: offset, count: 1, sum: u128::from(offset) });
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

    /// Whether each number from the first to the last occurred once. (Two missing and two duplicate offsets with the same sum would
    /// not be noticed.)
    pub fn are_complete(self) -> bool {
        let (first, last) = (u128::from(self.first), u128::from(self.last));
        self.count == 0
            || (self.last - self.first + 1 == self.count && self.sum * 2 == (first + last) * (last - first + 1))
    }
}

pub struct ApiPublisher {
    plan: Arc<Plan>,
    /// Per connection, the request in flight: when it left or should have left, and the channel of its first publication.
    in_flight: Vec<Option<(u64, usize)>>,
    free: Vec<usize>,
    next_channel: usize,
    schedule: Option<Schedule>,
    due: VecDeque<u64>,
    request: Vec<u8>,
    body: String,
    /// From a request (when it was due) to its response.
    steps: StepRecorder,
    pub offsets: Vec<Offsets>,
    rejected: u64,
    first_error: Option<String>,
}

impl ApiPublisher {
    /// The scenario of worker number `worker`. Each worker begins with a channel of its own.
    pub fn new(plan: Arc<Plan>, worker: usize, connections: usize) -> Self {
        Self {
            in_flight: vec![None; connections],
            free: Vec::new(),
            next_channel: plan.channels.len() * worker / plan.workers,
            schedule: plan.rate.as_ref().map(|rate| Schedule::new(rate, plan.arrivals, worker, plan.workers)),
            due: VecDeque::new(),
            request: Vec::new(),
            body: String::new(),
            steps: StepRecorder::new(plan.rate.as_ref()),
            offsets: vec![Offsets::default(); plan.channels.len()],
            rejected: 0,
            first_error: None,
            plan,
        }
    }

    fn send(&mut self, io: &mut Io, id: usize, since: u64) {
        let from = self.next_channel;
        self.next_channel = (from + self.plan.batch) % self.plan.channels.len();
        self.in_flight[id] = Some((since, from));
        self.plan.write_request(&mut self.request, &mut self.body, from);
        io.counters.sent += self.plan.batch as u64;
        io.send(id, &self.request);
    }

    fn response(&mut self, io: &mut Io, id: usize, response: &http::Response) -> Result<(), ProtocolError> {
        let Some((since, from)) = self.in_flight[id].take() else {
            return Err(ProtocolError::Response("a response without a request".into()));
        };
        let text = || format!("HTTP {}: {}", response.status, String::from_utf8_lossy(response.body));
        let error = || ProtocolError::Response(text());
        let value: Value = serde_json::from_slice(response.body).map_err(|_| error())?;
        let one = std::slice::from_ref(&value);
        let replies =
            if self.plan.batch == 1 { one } else { value["replies"].as_array().map_or(&[][..], Vec::as_slice) };
        if response.status != 200 || replies.len() != self.plan.batch {
            return Err(error());
        }
        for (i, reply) in replies.iter().enumerate() {
            let result = &reply[if self.plan.batch == 1 { "result" } else { "publish" }];
            if !result.is_object() {
                self.rejected += 1;
                io.counters.faults += 1;
                self.first_error.get_or_insert_with(|| reply.to_string());
                continue;
            }
            io.counters.received += 1;
            if let Some(offset) = result["offset"].as_u64() {
                self.offsets[(from + i) % self.plan.channels.len()].record(offset);
            }
        }
        io.counters.in_flight -= self.plan.batch as u64;
        // `io.now` is still the time of the turn before.
        let age = now().saturating_sub(since);
        io.record_latency(age, 1);
        self.steps.received(io.measured_from, since, age, 1);
        self.free.push(id);
        Ok(())
    }

    /// A request falls due at `at`.
    fn add_due(&mut self, io: &mut Io, at: u64) {
        self.due.push_back(at);
        self.steps.sent(io.measured_from, at, 1);
        io.counters.in_flight += self.plan.batch as u64;
    }
}

impl Scenario for ApiPublisher {
    const LATE_CLOCK: bool = true;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        self.free.push(id);
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        let mut at = 0;
        while let Some(response) = http::response(&bytes[at..])? {
            self.response(io, id, &response)?;
            at += response.bytes;
        }
        Ok(at)
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        self.free.retain(|&free| free != id);
        if self.in_flight[id].take().is_some() {
            // The outcome is unknown; the publications stay in flight, so that the run is void.
            io.counters.faults += self.plan.batch as u64;
        }
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        let mut next = None;
        if matches!(phase, Phase::Warmup | Phase::Measure) {
            match self.schedule.take() {
                None => (0..self.free.len()).for_each(|_| self.add_due(io, io.now)),
                Some(mut schedule) => {
                    schedule.measure(io.measured_from);
                    while let Some((at, _)) = schedule.pop(io.now) {
                        io.record_lag(at);
                        self.add_due(io, at);
                    }
                    next = Some(schedule.due(io.now)).filter(|due| *due != NEVER);
                    self.schedule = Some(schedule);
                }
            }
        }
        // What is due is sent even if nothing more falls due.
        while !self.due.is_empty() {
            let Some(id) = self.free.pop() else { break };
            if let Some(since) = self.due.pop_front() {
                self.send(io, id, since);
            }
        }
        next
    }

    fn take_results(&mut self) -> Results {
        let first_error = self.first_error.clone();
        let mut results = Results { steps: self.steps.take(), first_error, ..Results::default() };
        results.add_count("rejected", self.rejected);
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(batch: usize) -> Plan {
        let target = Target::without_upgrade("127.0.0.1:1".parse().unwrap());
        let channels = (0..3).map(|i| format!("c{i}")).collect();
        let head = http::post_head("h", "/api/publish", Some("k"));
        let (rate, arrivals, workers) = (None, Arrivals::Even, 1);
        Plan { target, head, channels, batch, parallel: false, data: "\"x\"".into(), rate, arrivals, workers }
    }

    fn request(batch: usize, from: usize) -> (String, Value) {
        let (mut out, mut body) = (Vec::new(), String::new());
        plan(batch).write_request(&mut out, &mut body, from);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        (head.into(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn requests_are_single_publications_or_batches() {
        let (head, body) = request(1, 2);
        assert!(head.starts_with("POST /api/publish HTTP/1.1\r\nHost: h\r\nX-API-Key: k\r\n"));
        assert_eq!(body, serde_json::json!({"channel": "c2", "data": "x"}));
        let (_, body) = request(2, 2);
        let channels: Vec<_> = body["commands"].as_array().unwrap().iter().map(|c| &c["publish"]["channel"]).collect();
        assert_eq!(channels, ["c2", "c0"]);
    }

    #[test]
    fn offsets_are_complete_if_each_occurred_once() {
        let of = |list: &[u64]| {
            let mut offsets = Offsets::default();
            list.iter().for_each(|&offset| offsets.record(offset));
            offsets
        };
        assert!(of(&[]).are_complete() && of(&[9]).are_complete() && of(&[6, 5, 7]).are_complete());
        assert!(!of(&[1, 3]).are_complete() && !of(&[1, 1]).are_complete() && !of(&[1, 2, 2, 4]).are_complete());
        assert!(of(&[1, 3]).plus(of(&[2])).are_complete());
    }
}
