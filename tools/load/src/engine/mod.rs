//! One worker: a poll, its connections, and a scenario that decides what they send.
//!
//! `EventLoop::run` is the loop. A turn is: wait, handle the sockets (connect, upgrade, read until empty, write what waited), open
//! more connections, the scenario's turn. A scenario acts on sockets through `Io` only.
//! Invariants: sockets are registered once, edge-triggered, READABLE | WRITABLE; there is one receive buffer per worker.

pub mod clock;
pub mod connection;
pub mod control;
pub mod counters;
pub mod workers;

use crate::engine::clock::{Timer, now};
use crate::engine::connection::{Connection, Io, NO_CLOSE_FRAME, Stage};
use crate::engine::control::{Control, Phase};
use crate::measure::rate::{NEVER, Schedule};
use crate::measure::results::Results;
use crate::net::frame::{self, ProtocolError};
use crate::net::stream::Stream;
use crate::net::{self, Target};
use mio::{Events, Interest, Poll, Token};
use rustls::HandshakeKind;
use std::io::{self, ErrorKind};
use std::sync::Arc;

const WAKE: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
/// Bytes of the receive buffer: one read takes what a socket buffer usually holds.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Full reads of one connection in a turn. A server that answers as fast as this worker reads must not starve the other
/// connections, nor delay the end of a phase.
const READS_PER_TURN: usize = 8;
/// Events per turn. The clock is read once per turn, so this bounds the age of a time stamp.
const EVENTS_PER_TURN: usize = 256;
/// The delay in nanoseconds before connections are opened again, if nothing else wakes the worker.
const REOPEN_DELAY: u64 = 200_000;

/// What the connections of a worker send, and what they do with what they receive.
pub trait Scenario: Send {
    /// The clock is read after the sockets were read (true: no delivery looks younger than it is) or before.
    const LATE_CLOCK: bool;

    /// The server of connection `id`, and the number from which its source address follows.
    fn target(&self, id: usize) -> (&Target, usize);
    /// Connection `id` is about to begin; the scenario may end another one for it. Returns false if it has to wait.
    fn may_open(&mut self, _io: &mut Io, _id: usize) -> bool {
        true
    }
    /// The upgrade was accepted; without an upgrade: the connection is established.
    fn opened(&mut self, io: &mut Io, id: usize);
    /// Bytes were received; returns the number consumed. The rest is passed again, together with what follows.
    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, ProtocolError>;
    /// The connection is gone, whether it was ready or not.
    fn closed(&mut self, _io: &mut Io, _id: usize) {}
    /// The end of a turn: sends what is due and returns the next moment at which something is.
    fn turn(&mut self, _io: &mut Io, _phase: Phase) -> Option<u64> {
        None
    }
    /// Returns what was measured and starts again.
    fn take_results(&mut self) -> Results {
        Results::default()
    }
}

/// How the connections of a worker are opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The number of connections.
    pub total: usize,
    /// How many may be opening at once.
    pub concurrency: usize,
    /// When they begin, if they are opened at a rate.
    pub schedule: Option<Schedule>,
}

/// The loop of one worker.
pub struct EventLoop {
    poll: Poll,
    timer: Timer,
    opening: Opening,
    begun: usize,
    /// The results up to the current pause were handed over.
    handed_over: bool,
    control: Arc<Control>,
    worker: usize,
    spin: bool,
    buffer: Vec<u8>,
}

impl EventLoop {
    /// Creates the poll and its waker, which goes to `control`.
    pub fn new(control: Arc<Control>, worker: usize, opening: Opening, spin: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        control.set_waker(worker, mio::Waker::new(poll.registry(), WAKE)?);
        let buffer = vec![0; RECEIVE_BYTES];
        Ok(Self { poll, timer, opening, begun: 0, handed_over: false, control, worker, spin, buffer })
    }

    /// Runs until the coordinator stops the workers, then returns what was counted.
    pub fn run<S: Scenario>(mut self, scenario: &mut S) -> io::Result<Io> {
        let mut io = Io::new(self.opening.total, self.control.origin, now());
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut due = Some(io.now);
        loop {
            self.wait(&mut events, due, &io)?;
            let woke = if self.spin || !S::LATE_CLOCK { now() } else { io.now };
            if !S::LATE_CLOCK {
                io.now = woke;
            }
            for event in events.iter().filter(|event| ![WAKE, TIMER].contains(&event.token())) {
                let id = event.token().0;
                if event.is_writable() {
                    self.writable(&mut io, scenario, id);
                }
                let ended = event.is_read_closed() || event.is_error();
                if event.is_readable() || ended {
                    self.readable(&mut io, scenario, id, ended);
                }
            }
            if S::LATE_CLOCK {
                io.now = now();
            }
            let phase = self.control.phase();
            if phase == Phase::Stop {
                io.seconds.finish(io.now);
                self.control.publish(self.worker, &mut io);
                return Ok(io);
            }
            io.records_lag = !matches!(phase, Phase::Warmup | Phase::Drain | Phase::Pause);
            io.seconds.turn(io.now);
            let opening = self.open_more(&mut io, scenario)?;
            (io.measured_from, io.rate) = (self.control.measured_from(), self.control.rate());
            let scenario_due = scenario.turn(&mut io, phase);
            let reopen = (!io.reopen.is_empty()).then_some(io.now + REOPEN_DELAY);
            due = [opening, scenario_due, reopen].into_iter().flatten().min().filter(|due| *due != NEVER);
            if !io.read_again.is_empty() {
                // The scenario handles what they bring in a turn, and some may have more to read.
                due = Some(io.now);
            }
            for id in std::mem::take(&mut io.read_again) {
                self.readable(&mut io, scenario, id, false);
            }
            if phase == Phase::Pause && !self.handed_over {
                self.control.hand_over(self.worker, scenario.take_results());
            }
            self.handed_over = phase == Phase::Pause;
            io.counters.polls += 1;
            if self.spin && !events.is_empty() {
                io.counters.busy_ns += now() - woke;
            }
            self.control.publish(self.worker, &mut io);
            self.control.saw(self.worker, phase);
        }
    }

    fn wait(&mut self, events: &mut Events, due: Option<u64>, io: &Io) -> io::Result<()> {
        let at_once = self.spin || due.is_some_and(|at| at <= io.now);
        if let (false, Some(at)) = (at_once, due) {
            self.timer.arm(at)?;
        }
        match self.poll.poll(events, at_once.then_some(std::time::Duration::ZERO)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    /// Begins connections as schedule and coordinator permit; returns when the next one is due, if the schedule says so.
    fn open_more<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S) -> io::Result<Option<u64>> {
        let allowed = self.control.allowed(self.worker).min(self.opening.total);
        // Connections that fail at once wait for the next turn.
        for id in std::mem::take(&mut io.reopen) {
            if io.opening >= self.opening.concurrency {
                io.reopen.push(id);
                continue;
            }
            io.begun_at[id] = io.now;
            self.begin(io, scenario, id)?;
        }
        while self.begun < allowed && io.opening < self.opening.concurrency {
            let id = self.begun;
            if !scenario.may_open(io, id) {
                break;
            }
            io.begun_at[id] = io.now;
            if let Some(schedule) = &mut self.opening.schedule {
                // The schedule begins when the first connection may begin.
                io.opened_from = schedule.measure(io.now);
                let Some((at, _)) = schedule.pop(io.now) else { return Ok(Some(schedule.due(io.now))) };
                io.begun_at[id] = at;
                io.record_lag(at);
            }
            self.begun += 1;
            self.begin(io, scenario, id)?;
        }
        Ok(None)
    }

    fn begin<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S, id: usize) -> io::Result<()> {
        io.opening += 1;
        let (target, number) = scenario.target(id);
        match net::connect(target, number) {
            Ok(mut socket) => {
                self.poll.registry().register(&mut socket, Token(id), Interest::READABLE | Interest::WRITABLE)?;
                let stream = match &target.tls {
                    Some(tls) => Stream::Tls(socket, Box::new(tls.session().map_err(io::Error::other)?)),
                    None => Stream::Plain(socket),
                };
                io.deflate = target.deflate;
                io.connections[id] = Some(Connection::new(stream));
            }
            Err(e) => {
                (io.was_ready, io.close_code) = (false, NO_CLOSE_FRAME);
                io.failed(format!("connect: {}", e.kind()));
                scenario.closed(io, id);
            }
        }
        Ok(())
    }

    fn writable<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S, id: usize) {
        let Some(connection) = io.connections[id].as_mut() else { return };
        match connection.stage {
            Stage::Connecting => {}
            Stage::TlsHandshake => return self.handshake(io, scenario, id),
            _ if !connection.unsent.is_empty() || connection.stream.is_pending() => return io.flush(id),
            _ => return,
        }
        match connection.stream.socket().take_error() {
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return self.gone(io, scenario, id, &format!("connect: {}", e.kind())),
        }
        if connection.stream.socket().peer_addr().is_err() {
            return;
        }
        if connection.stream.is_tls() {
            connection.stage = Stage::TlsHandshake;
            self.handshake(io, scenario, id);
        } else {
            self.upgrade(io, scenario, id);
        }
    }

    /// Continues a TLS handshake.
    fn handshake<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S, id: usize) {
        let Some(connection) = io.connections[id].as_mut() else { return };
        match connection.stream.handshake() {
            Ok(Some(kind)) => {
                io.stats.handshakes[usize::from(kind == HandshakeKind::Resumed)] += 1;
                self.upgrade(io, scenario, id);
            }
            Ok(None) => {}
            Err(e) => self.gone(io, scenario, id, &format!("TLS: {e}")),
        }
    }

    /// The connection is established: sends the upgrade request, if the target has one.
    fn upgrade<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S, id: usize) {
        let request = &scenario.target(id).0.request;
        let Some(connection) = io.connections[id].as_mut() else { return };
        if request.is_empty() {
            connection.stage = Stage::Setup;
            return scenario.opened(io, id);
        }
        connection.stage = Stage::Upgrading;
        io.send(id, request);
    }

    /// Reads until the socket is empty, or continues in the next turn. A short read means that the socket is empty, unless the end
    /// of the connection is known to wait behind it.
    fn readable<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S, id: usize, ended: bool) {
        if io.connections[id].as_ref().is_some_and(|connection| connection.stage == Stage::TlsHandshake) {
            self.handshake(io, scenario, id);
        }
        for read in 1.. {
            let Some(connection) = io.connections[id].as_mut() else { return };
            if connection.stage < Stage::Upgrading {
                return;
            }
            if connection.paused {
                return if ended {
                    self.gone(io, scenario, id, "closed by the server")
                };
            }
            let carried = connection.carry.len();
            if carried + RECEIVE_BYTES / 4 > self.buffer.len() {
                self.buffer.resize(carried + RECEIVE_BYTES, 0);
            }
            let end = connection.read_budget.map_or(self.buffer.len(), |n| (carried + n).min(self.buffer.len()));
            if end == carried {
                return;
            }
            let got = connection.stream.read(&mut self.buffer[carried..end]);
            io.counters.reads += 1;
            match got {
                Ok(0) => return self.gone(io, scenario, id, "closed by the server"),
                Ok(n) => {
                    self.buffer[..carried].copy_from_slice(&connection.carry);
                    connection.carry.clear();
                    if let Some(budget) = connection.read_budget.as_mut() {
                        *budget -= n;
                    }
                    let full = n == end - carried || connection.stream.is_tls();
                    if let Err(error) = self.process(io, scenario, id, carried + n) {
                        return self.broke_protocol(io, scenario, id, &error);
                    }
                    if !full && !ended {
                        return;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.gone(io, scenario, id, &format!("read: {}", e.kind())),
            }
            // A peer that has ended sends no more, and causes no further event.
            if read == READS_PER_TURN && !ended {
                return io.read_again.push(id);
            }
        }
    }

    /// Passes the first `len` bytes of the receive buffer on and keeps what is not consumed.
    fn process<S: Scenario>(
        &mut self,
        io: &mut Io,
        scenario: &mut S,
        id: usize,
        len: usize,
    ) -> Result<(), ProtocolError> {
        let mut at = 0;
        let Some(connection) = io.connections[id].as_mut() else { return Ok(()) };
        if connection.stage == Stage::Upgrading
            && let Some(head) = frame::response(&self.buffer[..len], io.deflate.is_on())?
        {
            connection.stage = Stage::Setup;
            at = head;
            io.upgraded(id);
            scenario.opened(io, id);
        }
        if io.connections[id].as_ref().is_some_and(|connection| connection.stage >= Stage::Setup) && at < len {
            at += scenario.receive(io, id, &self.buffer[at..len])?;
        }
        if let Some(connection) = io.connections[id].as_mut().filter(|_| at < len) {
            connection.carry.extend_from_slice(&self.buffer[at..len]);
        }
        Ok(())
    }

    /// The server broke the protocol: ends the connection and records why.
    fn broke_protocol<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S, id: usize, error: &ProtocolError) {
        let Some(connection) = io.connections[id].take() else { return };
        (io.was_ready, io.close_code) = (connection.stage >= Stage::Ready, connection.close_code);
        match connection.stage {
            Stage::Closing => {}
            Stage::Ready => {
                *io.stats.errors.entry(error.to_string()).or_default() += 1;
                io.counters.closed += 1;
            }
            _ => io.failed(error.to_string()),
        }
        scenario.closed(io, id);
    }

    fn gone<S: Scenario>(&mut self, io: &mut Io, scenario: &mut S, id: usize, reason: &str) {
        let Some(connection) = io.connections[id].take() else { return };
        (io.was_ready, io.close_code) = (connection.stage >= Stage::Ready, connection.close_code);
        match connection.stage {
            Stage::Closing => {}
            Stage::Ready if connection.may_end => {}
            Stage::Ready => io.ended(NO_CLOSE_FRAME),
            _ => io.failed(reason.to_string()),
        }
        scenario.closed(io, id);
    }
}
