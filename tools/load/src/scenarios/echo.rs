//! `echo`: every connection keeps messages in flight and counts what comes back.
//!
//! Plan: all messages have one size, so all echoes are one pattern: the expected header, the sequence number at the payload's
//! beginning, the rest. A read is a row of such frames; the fast path steps through it by the frame's length. A frame cut by
//! a read is only counted (`left`). Closed loop: whatever a read brought back is sent again at once, in one write. Open loop:
//! messages leave by the schedule, and latency counts from the moment they should have left.
//! Invariant: `received ≤ sent ≤ received + window` per connection; the time stamp of message n is at n modulo the window.

use crate::engine::clock::now;
use crate::engine::workers::Phase;
use crate::engine::{Io, Scene};
use crate::measure::rate::{Arrivals, Rate, Schedule};
use crate::measure::results::{Figures, Harvest};
use crate::net::Target;
use crate::net::frame::{self, Fault};
use crate::scenarios::payload::{hex8, put_hex8};
use std::collections::VecDeque;

/// Open loop: messages under way per connection; what is due beyond that waits and keeps its intended time.
const OPEN_WINDOW: usize = 256;

/// What every worker of a run has in common.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub depth: usize,
    pub size: usize,
    pub opcode: u8,
    /// Echoes are not compared by content: the server answers with a prepared frame.
    pub raw: bool,
    /// Messages per second over all workers, in open loop.
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    /// Workers in all, those of other processes among them.
    pub workers: usize,
}

#[derive(Clone, Debug, Default)]
struct Conn {
    sent: u32,
    received: u32,
    /// Bytes still to come of a frame whose beginning was seen.
    left: usize,
    owed: VecDeque<u64>,
}

pub struct Echo {
    plan: Plan,
    first: usize,
    conns: Vec<Conn>,
    /// Connections that are ready, in the order they became so: the schedule goes round them.
    order: Vec<usize>,
    window: usize,
    stamps: Vec<u64>,
    /// `window` whole masked frames in a row; only the digits change.
    scratch: Vec<u8>,
    sent_frame: usize,
    digits_at: usize,
    /// The header of an echo.
    expect: Vec<u8>,
    schedule: Option<Schedule>,
    worker: usize,
    running: bool,
    figures: Figures,
    /// Echoes that were none: other content, another length, or one too many.
    wrong: u64,
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl Echo {
    /// The scene of worker number `worker` for `conns` connections, the first of which has the number `first` in the whole run.
    pub fn new(plan: Plan, worker: usize, first: usize, conns: usize) -> Self {
        let window = if plan.rate.is_some() { OPEN_WINDOW } else { plan.depth };
        let body: Vec<u8> = (0..plan.size).map(|i| b'a' + (i % 26) as u8).collect();
        let mut one = Vec::new();
        frame::put_masked(&mut one, plan.opcode, KEY, &[&body]);
        let mut expect = Vec::new();
        frame::put_header(&mut expect, plan.opcode, plan.size, false);
        Self {
            first,
            conns: vec![Conn::default(); conns],
            order: Vec::new(),
            window,
            stamps: vec![0; window * conns],
            scratch: one.repeat(if plan.rate.is_some() { 1 } else { window }),
            sent_frame: one.len(),
            digits_at: one.len() - plan.size,
            expect,
            schedule: None,
            worker,
            running: false,
            figures: Figures::new(plan.rate.as_ref()),
            wrong: 0,
            plan,
        }
    }

    /// Sends `n` messages in one write.
    fn send(&mut self, io: &mut Io, id: usize, n: usize, stamp: u64) {
        let conn = &mut self.conns[id];
        for frame in self.scratch.chunks_exact_mut(self.sent_frame).take(n) {
            put_digits(&mut frame[self.digits_at..], conn.sent, KEY);
            self.stamps[id * self.window + conn.sent as usize % self.window] = stamp;
            conn.sent = conn.sent.wrapping_add(1);
        }
        io.tally.sent += n as u64;
        if self.plan.rate.is_none() {
            io.tally.in_flight += n as u64;
            self.figures.sent(io.measured_from, stamp, n as u64);
        }
        io.send(id, &self.scratch[..n * self.sent_frame]);
    }

    /// Counts `n` echoes that came whole and, in closed loop, sends as many again.
    fn came(&mut self, io: &mut Io, id: usize, n: usize) {
        let conn = &mut self.conns[id];
        if conn.sent.wrapping_sub(conn.received) < n as u32 {
            self.wrong += 1;
            io.tally.faults += 1;
            return;
        }
        let stamps = &self.stamps[id * self.window..(id + 1) * self.window];
        let (mut run, mut run_stamp) = (0, 0);
        for i in 0..n as u32 {
            let stamp = stamps[conn.received.wrapping_add(i) as usize % self.window];
            if stamp != run_stamp && run > 0 {
                record(&mut self.figures, io, run_stamp, run);
                run = 0;
            }
            run_stamp = stamp;
            run += 1;
        }
        if run > 0 {
            record(&mut self.figures, io, run_stamp, run);
        }
        conn.received = conn.received.wrapping_add(n as u32);
        io.tally.received += n as u64;
        io.tally.in_flight -= n as u64;
        if self.plan.rate.is_some() {
            // What fell due is sent also when nothing more does.
            self.pay(io, id);
        } else if self.running {
            self.send(io, id, n, io.now);
        }
    }

    /// Open loop: sends what is due to a connection as far as its window allows.
    fn pay(&mut self, io: &mut Io, id: usize) {
        while (self.conns[id].sent.wrapping_sub(self.conns[id].received) as usize) < self.window {
            let Some(stamp) = self.conns[id].owed.pop_front() else { return };
            self.send(io, id, 1, stamp);
        }
    }

    /// Open loop: hands out what is due by now and gives the next moment. What is due counts as under way from then on.
    fn hand_out(&mut self, io: &mut Io) -> Option<u64> {
        if self.order.is_empty() {
            return None;
        }
        let mut schedule = match self.schedule.take() {
            Some(schedule) => schedule,
            None => {
                let searched = (io.rate > 0.0).then(|| Rate::constant(io.rate));
                let rate = searched.as_ref().or(self.plan.rate.as_ref())?;
                Schedule::of(rate, self.plan.arrivals, self.worker, self.plan.workers)
            }
        };
        schedule.measure(io.measured_from);
        while schedule.due(io.now) <= io.now {
            let (at, count) = (schedule.due(io.now), schedule.advance());
            let id = self.order[(count % self.order.len() as u64) as usize];
            io.late(at);
            io.tally.in_flight += 1;
            self.figures.sent(io.measured_from, at, 1);
            self.conns[id].owed.push_back(at);
            self.pay(io, id);
        }
        let next = schedule.due(io.now);
        self.schedule = Some(schedule);
        Some(next)
    }

    /// Whether the echo at `rest` carries the sequence number that is due; `rest` begins at its payload.
    fn is_due(&self, rest: &[u8], seq: u32) -> bool {
        self.plan.raw || digits_match(&rest[..self.plan.size.min(8)], seq)
    }

    /// Looks at a frame that the fast path did not take: one cut by the read, a control frame, one with an unusual header.
    /// Gives how many bytes are done (0 if more are needed) and how many echoes they complete.
    fn slow(&mut self, io: &mut Io, id: usize, rest: &[u8], seq: u32) -> Result<(usize, usize), Fault> {
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
        let expected = header.len == self.plan.size && header.opcode == self.plan.opcode && header.fin;
        if !expected || !self.is_due(&rest[header.head..], seq) {
            self.wrong += 1;
            io.tally.faults += 1;
            return Err(Fault::Answer("echo of other content, length or opcode".into()));
        }
        let here = header.total().min(rest.len());
        self.conns[id].left = header.total() - here;
        Ok((here, usize::from(here == header.total())))
    }
}

/// `n` echoes of messages that left, or should have left, at `stamp`.
fn record(figures: &mut Figures, io: &mut Io, stamp: u64, n: u64) {
    let age = io.now.saturating_sub(stamp);
    io.took(age, n);
    figures.came(io.measured_from, stamp, age, n);
}

/// Writes the low digits of `seq` (as many as fit) over the masked payload's beginning.
fn put_digits(payload: &mut [u8], seq: u32, key: [u8; 4]) {
    let mut digits = put_hex8(seq);
    frame::mask(&mut digits, key);
    let n = payload.len().min(8);
    if n == 8 {
        payload[..8].copy_from_slice(&digits);
    } else {
        let plain = put_hex8(seq);
        for i in 0..n {
            payload[i] = plain[8 - n + i] ^ key[i % 4];
        }
    }
}

fn digits_match(payload: &[u8], seq: u32) -> bool {
    match <[u8; 8]>::try_from(payload) {
        Ok(digits) => hex8(digits) == seq,
        Err(_) => payload == &put_hex8(seq)[8 - payload.len()..],
    }
}

impl Scene for Echo {
    const LATE_CLOCK: bool = false;

    fn target(&self, id: usize) -> (&Target, usize) {
        (&self.plan.target, self.first + id)
    }

    fn opened(&mut self, io: &mut Io, id: usize) {
        io.ready(id);
        self.order.push(id);
    }

    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault> {
        let (mut at, mut came) = (0, 0);
        let total = self.expect.len() + self.plan.size;
        while at < bytes.len() {
            let conn = &mut self.conns[id];
            if conn.left > 0 {
                let here = conn.left.min(bytes.len() - at);
                conn.left -= here;
                at += here;
                came += usize::from(conn.left == 0);
                continue;
            }
            let rest = &bytes[at..];
            let seq = conn.received.wrapping_add(came as u32);
            if rest.len() >= total && rest.starts_with(&self.expect) && self.is_due(&rest[self.expect.len()..], seq) {
                at += total;
                came += 1;
                continue;
            }
            let (done, whole) = self.slow(io, id, rest, seq)?;
            if done == 0 {
                break;
            }
            at += done;
            came += whole;
        }
        if came > 0 {
            self.came(io, id, came);
        }
        Ok(at)
    }

    fn closed(&mut self, io: &mut Io, id: usize) {
        self.order.retain(|&other| other != id);
        let conn = &mut self.conns[id];
        let owed = std::mem::take(&mut conn.owed).len() as u64;
        let lost = u64::from(conn.sent.wrapping_sub(conn.received)) + owed;
        io.tally.in_flight -= lost;
        io.tally.faults += lost;
        conn.received = conn.sent;
    }

    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64> {
        let begins = !self.running && matches!(phase, Phase::Warm | Phase::Measure);
        self.running = matches!(phase, Phase::Warm | Phase::Measure);
        match self.plan.rate {
            Some(_) if self.running => return self.hand_out(io),
            // The next measurement has a schedule of its own.
            Some(_) => self.schedule = None,
            None if begins => {
                io.now = now();
                for id in self.order.clone() {
                    self.send(io, id, self.plan.depth, io.now);
                }
            }
            None => {}
        }
        None
    }

    fn harvest(&mut self) -> Harvest {
        let mut harvest = Harvest { steps: self.figures.take(), ..Harvest::default() };
        harvest.add_count("wrong", std::mem::take(&mut self.wrong));
        harvest
    }
}
