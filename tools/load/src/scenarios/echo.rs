//! `echo`: every connection keeps messages in flight and counts what the server sends back.
//!
//! All messages have one size, so all echoes follow one pattern: the expected header, the sequence number at the beginning of the
//! payload, the rest. A read is a row of such frames, and the fast path steps through it by the frame length. The rest of a frame
//! that a read has cut is only counted (`left`). Closed loop: as many messages as a read returned are sent at once, in one write.
//! Open loop: messages leave by the schedule, and latency counts from the intended send time.
//! Invariant: `received ≤ sent ≤ received + window` per connection; the time stamp of message n is at n modulo the window.

use crate::engine::Scenario;
use crate::engine::clock::now;
use crate::engine::connection::Io;
use crate::engine::control::Phase;
use crate::measure::rate::{Arrivals, Rate, Schedule};
use crate::measure::results::{Results, StepRecorder};
use crate::net::Target;
use crate::net::frame::{self, ProtocolError};
use crate::scenarios::payload::{hex8, put_hex8};
use std::collections::VecDeque;
use std::mem::take;

/// Open loop: messages in flight per connection. What is due beyond that waits and keeps its intended time.
const OPEN_WINDOW: usize = 256;
/// One masking key for all frames, so that the masked payload is prepared once.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What all workers of a run share.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub depth: usize,
    pub size: usize,
    pub opcode: u8,
    /// Contents are not compared: the server answers with a prepared frame.
    pub raw: bool,
    /// Messages per second over all workers, in open loop.
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    /// All workers, including those of other processes.
    pub workers: usize,
}

#[derive(Clone, Debug, Default)]
struct Connection {
    sent: u32,
    received: u32,
    /// Missing bytes of a frame whose beginning was received.
    left: usize,
    /// Intended times of messages that are due and not sent.
    due: VecDeque<u64>,
}

pub struct Echo {
    plan: Plan,
    first: usize,
    connections: Vec<Connection>,
    /// Ready connections; the schedule uses them in turn.
    order: Vec<usize>,
    window: usize,
    stamps: Vec<u64>,
    /// `window` masked frames in a row; only the digits change.
    frames: Vec<u8>,
    frame_bytes: usize,
    digits_at: usize,
    /// The header of an echo.
    header: Vec<u8>,
    schedule: Option<Schedule>,
    worker: usize,
    running: bool,
    steps: StepRecorder,
    /// Echoes with other content, of another length, or too many.
    wrong: u64,
}

impl Echo {
    /// The scenario of worker number `worker` for so many connections, the first of which has the number `first` in the run.
    pub fn new(plan: Plan, worker: usize, first: usize, connections: usize) -> Self {
        let window = if plan.rate.is_some() { OPEN_WINDOW } else { plan.depth };
        let body: Vec<u8> = (0..plan.size).map(|i| b'a' + (i % 26) as u8).collect();
        let mut frame = Vec::new();
        frame::write_masked(&mut frame, plan.opcode, KEY, &[&body]);
        let mut header = Vec::new();
        frame::write_header(&mut header, plan.opcode, plan.size, false);
        Self {
            first,
            connections: vec![Connection::default(); connections],
            order: Vec::new(),
            window,
            stamps: vec![0; window * connections],
            frames: frame.repeat(if plan.rate.is_some() { 1 } else { window }),
            frame_bytes: frame.len(),
            digits_at: frame.len() - plan.size,
            header,
            schedule: None,
            worker,
            running: false,
            steps: StepRecorder::new(plan.rate.as_ref()),
            wrong: 0,
            plan,
        }
    }

    /// Sends `n` messages in one write.
    fn send(&mut self, io: &mut Io, id: usize, n: usize, stamp: u64) {
        let connection = &mut self.connections[id];
        for frame in self.frames.chunks_exact_mut(self.frame_bytes).take(n) {
            put_digits(&mut frame[self.digits_at..], connection.sent);
            self.stamps[id * self.window + connection.sent as usize % self.window] = stamp;
            connection.sent = connection.sent.wrapping_add(1);
        }
        io.counters.sent += n as u64;
        if self.plan.rate.is_none() {
            io.counters.in_flight += n as u64;
            self.steps.sent(io.measured_from, stamp, n as u64);
        }
        io.send(id, &self.frames[..n * self.frame_bytes]);
    }

    /// Counts `n` complete echoes and, in closed loop, sends as many messages.
    fn echoed(&mut self, io: &mut Io, id: usize, n: usize) {
        let connection = &mut self.connections[id];
        if connection.sent.wrapping_sub(connection.received) < n as u32 {
            self.wrong += 1;
            io.counters.faults += 1;
            return;
        }
        let stamps = &self.stamps[id * self.window..(id + 1) * self.window];
        let stamp = |i: usize| stamps[connection.received.wrapping_add(i as u32) as usize % self.window];
        let mut begin = 0;
        // Messages of one write have the same stamp and are recorded together.
        for end in 1..=n {
            if end == n || stamp(end) != stamp(begin) {
                let (at, count) = (stamp(begin), (end - begin) as u64);
                let age = io.now.saturating_sub(at);
                io.record_latency(age, count);
                self.steps.received(io.measured_from, at, age, count);
                begin = end;
            }
        }
        connection.received = connection.received.wrapping_add(n as u32);
        io.counters.received += n as u64;
        io.counters.in_flight -= n as u64;
        if self.plan.rate.is_some() {
            // What is due is sent even if nothing more falls due.
            self.send_due(io, id);
        } else if self.running {
            self.send(io, id, n, io.now);
        }
    }

    /// Open loop: sends what is due to a connection as far as its window permits.
    fn send_due(&mut self, io: &mut Io, id: usize) {
        while (self.connections[id].sent.wrapping_sub(self.connections[id].received) as usize) < self.window {
            let Some(stamp) = self.connections[id].due.pop_front() else { return };
            self.send(io, id, 1, stamp);
        }
    }

    /// Open loop: assigns what is due by now and returns the next moment. A message that is due counts as in flight.
    fn assign_due(&mut self, io: &mut Io) -> Option<u64> {
        if self.order.is_empty() {
            return None;
        }
        let mut schedule = match self.schedule.take() {
            Some(schedule) => schedule,
            None => {
                let searched = (io.rate > 0.0).then(|| Rate::constant(io.rate));
                let rate = searched.as_ref().or(self.plan.rate.as_ref())?;
                Schedule::new(rate, self.plan.arrivals, self.worker, self.plan.workers)
            }
        };
        schedule.measure(io.measured_from);
        while let Some((at, n)) = schedule.pop(io.now) {
            let id = self.order[(n % self.order.len() as u64) as usize];
            io.record_lag(at);
            io.counters.in_flight += 1;
            self.steps.sent(io.measured_from, at, 1);
            self.connections[id].due.push_back(at);
            self.send_due(io, id);
        }
        let next = schedule.due(io.now);
        self.schedule = Some(schedule);
        Some(next)
    }

    /// Whether the payload at `rest` has the expected sequence number.
    fn is_expected(&self, rest: &[u8], seq: u32) -> bool {
        self.plan.raw || has_digits(&rest[..self.plan.size.min(8)], seq)
    }

    /// Handles a frame that the fast path did not take: cut by the read, a control frame, or with an unusual header. Returns the
    /// number of bytes consumed (0: more are needed) and the number of echoes that they complete.
    fn other_frame(&mut self, io: &mut Io, id: usize, rest: &[u8], seq: u32) -> Result<(usize, usize), ProtocolError> {
        let Some(header) = frame::header(rest, io.deflate.is_on())? else { return Ok((0, 0)) };
        if header.is_control() {
            if rest.len() < header.total() {
                return Ok((0, 0));
            }
            io.control(id, header, &rest[header.head..header.total()]);
            return Ok((header.total(), 0));
        }
        if rest.len() < header.head + header.len.min(8) {
            return Ok((0, 0));
        }
        let valid = header.len == self.plan.size && header.opcode == self.plan.opcode && header.fin;
        if !valid || !self.is_expected(&rest[header.head..], seq) {
            self.wrong += 1;
            io.counters.faults += 1;
            return Err(ProtocolError::Response("echo with other content, length or opcode".into()));
        }
        let here = header.total().min(rest.len());
        self.connections[id].left = header.total() - here;
        Ok((here, usize::from(here == header.total())))
    }
}

/// Writes the low digits of `seq` (as many as fit) over the beginning of the masked payload.
fn put_digits(payload: &mut [u8], seq: u32) {
    let mut digits = put_hex8(seq);
    let n = payload.len().min(8);
    let low = &mut digits[8 - n..];
    frame::mask(low, KEY);
    payload[..n].copy_from_slice(low);
}

fn has_digits(payload: &[u8], seq: u32) -> bool {
    match <[u8; 8]>::try_from(payload) {
        Ok(digits) => hex8(digits) == seq,
        Err(_) => payload == &put_hex8(seq)[8 - payload.len()..],
    }
}

impl Scenario for Echo {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, self.first + id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        self.order.push(id);
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError> {
        let (mut at, mut echoes) = (0, 0);
        let total = self.header.len() + self.plan.size;
        while at < bytes.len() {
            let connection = &mut self.connections[id];
            if connection.left > 0 {
                let here = connection.left.min(bytes.len() - at);
                connection.left -= here;
                at += here;
                echoes += usize::from(connection.left == 0);
                continue;
            }
            let rest = &bytes[at..];
            let seq = connection.received.wrapping_add(echoes as u32);
            if rest.len() >= total
                && rest.starts_with(&self.header)
                && self.is_expected(&rest[self.header.len()..], seq)
            {
                at += total;
                echoes += 1;
                continue;
            }
            let (done, complete) = self.other_frame(io, id, rest, seq)?;
            if done == 0 {
                break;
            }
            at += done;
            echoes += complete;
        }
        if echoes > 0 {
            self.echoed(io, id, echoes);
        }
        Ok(at)
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        self.order.retain(|&other| other != id);
        let connection = &mut self.connections[id];
        let lost = u64::from(connection.sent.wrapping_sub(connection.received)) + connection.due.len() as u64;
        io.counters.in_flight -= lost;
        io.counters.faults += lost;
        connection.due = VecDeque::new();
        connection.received = connection.sent;
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        let was_running = self.running;
        self.running = matches!(phase, Phase::Warmup | Phase::Measure);
        match self.plan.rate {
            Some(_) if self.running => return self.assign_due(io),
            // The next measurement has a schedule of its own.
            Some(_) => self.schedule = None,
            None if self.running && !was_running => {
                io.now = now();
                for id in self.order.clone() {
                    self.send(io, id, self.plan.depth, io.now);
                }
            }
            None => {}
        }
        None
    }

    fn take_results(&mut self) -> Results {
        let mut results = Results { steps: self.steps.take(), ..Results::default() };
        results.add_count("wrong", take(&mut self.wrong));
        results
    }
}
