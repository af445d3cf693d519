//! One worker: a poll, its connections, and a scene that decides what they say.
//!
//! Plan: `run` is the loop; one turn is wait → sockets (connect, upgrade, read to empty, write what waited) → open more →
//! the scene's turn. Everything a scene does to sockets goes through `Io`.
//! Invariants: registered once, edge-triggered, READABLE | WRITABLE; one receive buffer per worker.

pub mod clock;
pub mod connection;
pub mod counters;
pub mod workers;

use crate::engine::clock::{Timer, now};
pub use crate::engine::connection::{Ending, Io};
use crate::engine::connection::{Link, Stage};
use crate::engine::workers::{Control, Phase};
use crate::measure::rate::{NEVER, Schedule};
use crate::measure::results::Harvest;
use crate::net::frame::{self, Fault};
use crate::net::stream::Wire;
use crate::net::{self, Target};
use mio::{Events, Interest, Poll, Token};
use rustls::HandshakeKind;
use std::io::{self, ErrorKind};
use std::sync::Arc;

const WAKE: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
/// Bytes of the receive buffer: one read takes what a socket's own buffer usually holds.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Full reads of one connection in a turn: a server that answers as fast as this worker reads must not keep it from the others,
/// nor from seeing that a phase has ended.
const READS: usize = 8;
/// Events per turn. The clock is read once per turn, so this bounds how stale a time stamp can be.
const EVENTS: usize = 256;
/// Nanoseconds after which those that are to begin anew are looked after, where nothing else wakes the worker.
const AGAIN: u64 = 200_000;

/// What a worker's connections say and hear.
pub trait Scene: Send {
    /// The clock is read after the sockets were read (true: no delivery looks younger than it is) or before.
    const LATE_CLOCK: bool;

    /// Where connection `id` goes, and which number its source address is chosen by.
    fn target(&self, id: usize) -> (&Target, usize);
    /// Connection `id` is about to begin: makes room for it if there must not be more; false if it has to wait.
    fn make_room(&mut self, _io: &mut Io, _id: usize) -> bool {
        true
    }
    /// The upgrade was answered; or the connection stands, if its target wants no upgrade.
    fn opened(&mut self, io: &mut Io, id: usize);
    /// Bytes came; gives how many of them are dealt with. The rest comes again with what follows.
    fn receive(&mut self, io: &mut Io, id: usize, bytes: &[u8]) -> Result<usize, Fault>;
    /// The connection is gone; it may have been ready or not.
    fn closed(&mut self, io: &mut Io, id: usize);
    /// End of a turn: what is due goes out. Gives the next moment at which something is.
    fn turn(&mut self, io: &mut Io, phase: Phase) -> Option<u64>;
    /// Gives what was measured, and begins anew.
    fn harvest(&mut self) -> Harvest {
        Harvest::default()
    }
}

/// How connections are begun.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Connections of this worker.
    pub total: usize,
    /// How many may be on their way at once.
    pub concurrency: usize,
    /// Their moments, when they come at a rate.
    pub schedule: Option<Schedule>,
}

/// One worker's loop and what it needs.
pub struct Engine {
    poll: Poll,
    timer: Timer,
    pace: Pace,
    begun: usize,
    /// What was measured until this pause was handed over.
    handed_over: bool,
    control: Arc<Control>,
    worker: usize,
    spin: bool,
    rx: Vec<u8>,
}

impl Engine {
    /// Makes the poll and its waker; the waker goes to `control`.
    pub fn new(control: Arc<Control>, worker: usize, pace: Pace, spin: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        control.set_waker(worker, mio::Waker::new(poll.registry(), WAKE)?);
        Ok(Self { poll, timer, pace, begun: 0, handed_over: false, control, worker, spin, rx: vec![0; RECEIVE_BYTES] })
    }

    /// Runs until the coordinator says stop, then gives what was counted.
    pub fn run<S: Scene>(mut self, scene: &mut S) -> io::Result<Io> {
        let mut io = Io::new(self.pace.total, self.control.origin(), now());
        let mut events = Events::with_capacity(EVENTS);
        let mut due = Some(io.now);
        loop {
            self.wait(&mut events, due, &io)?;
            let woke = if self.spin || !S::LATE_CLOCK { now() } else { io.now };
            if !S::LATE_CLOCK {
                io.now = woke;
            }
            for event in &events {
                if event.token() == WAKE || event.token() == TIMER {
                    continue;
                }
                let id = event.token().0;
                if event.is_writable() {
                    self.writable(&mut io, scene, id);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.readable(&mut io, scene, id, event.is_read_closed() || event.is_error());
                }
            }
            if S::LATE_CLOCK {
                io.now = now();
            }
            let phase = self.control.phase();
            if phase == Phase::Stop {
                io.pulse.end(io.now);
                self.control.tell(self.worker, &mut io);
                self.control.show(self.worker, &io.tally);
                return Ok(io);
            }
            io.counts = !matches!(phase, Phase::Warm | Phase::Drain | Phase::Pause);
            io.pulse.turn(io.now);
            self.control.tell(self.worker, &mut io);
            let opening = self.open_more(&mut io, scene)?;
            (io.measured_from, io.rate) = (self.control.measured_from(), self.control.rate());
            let scene_due = scene.turn(&mut io, phase);
            let again = (!io.again.is_empty()).then_some(io.now + AGAIN);
            due = [opening, scene_due, again].into_iter().flatten().min().filter(|due| *due != NEVER);
            if !io.thirsty.is_empty() {
                // Whatever they bring is the scene's to deal with in a turn, and some may be thirsty again.
                due = Some(io.now);
            }
            for id in std::mem::take(&mut io.thirsty) {
                self.readable(&mut io, scene, id, false);
            }
            if phase == Phase::Pause && !self.handed_over {
                self.control.hand_over(self.worker, scene.harvest());
            }
            self.handed_over = phase == Phase::Pause;
            io.tally.polls += 1;
            if self.spin && !events.is_empty() {
                io.tally.busy_ns += now() - woke;
            }
            self.control.show(self.worker, &io.tally);
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

    /// Begins connections as pace and coordinator allow; gives when the next is due, if that is known by time.
    fn open_more<S: Scene>(&mut self, io: &mut Io, scene: &mut S) -> io::Result<Option<u64>> {
        let allowed = self.control.allowed(self.worker).min(self.pace.total);
        // Those that fail at once wait for the next turn.
        for id in std::mem::take(&mut io.again) {
            if io.opening >= self.pace.concurrency {
                io.again.push(id);
                continue;
            }
            io.born[id] = io.now;
            self.begin(io, scene, id)?;
        }
        while self.begun < allowed && io.opening < self.pace.concurrency {
            let id = self.begun;
            if !scene.make_room(io, id) {
                break;
            }
            io.born[id] = io.now;
            if let Some(schedule) = &mut self.pace.schedule {
                // The first look that may begin one is where time begins.
                io.opened_from = schedule.measure(io.now);
                let at = schedule.due(io.now);
                if at > io.now {
                    return Ok(Some(at));
                }
                schedule.advance();
                io.born[id] = at;
                io.late(at);
            }
            self.begun += 1;
            self.begin(io, scene, id)?;
        }
        Ok(None)
    }

    fn begin<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize) -> io::Result<()> {
        io.opening += 1;
        let (target, number) = scene.target(id);
        match net::connect(target, number) {
            Ok(mut socket) => {
                self.poll.registry().register(&mut socket, Token(id), Interest::READABLE | Interest::WRITABLE)?;
                let (carry, tx, stage) = (Vec::new(), Vec::new(), Stage::Connecting);
                let wire = match &target.tls {
                    Some(tls) => Wire::Tls(socket, Box::new(tls.session().map_err(io::Error::other)?)),
                    None => Wire::Plain(socket),
                };
                io.deflate = target.deflate;
                io.links[id] =
                    Some(Link { wire, inflater: None, stage, carry, tx, deaf: false, fleeting: false, ration: None });
            }
            Err(e) => {
                io.was_ready = false;
                io.failed(format!("connect: {}", e.kind()));
                scene.closed(io, id);
            }
        }
        Ok(())
    }

    fn writable<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize) {
        let Some(link) = io.links[id].as_mut() else { return };
        if link.stage != Stage::Connecting {
            if link.stage == Stage::Securing {
                self.secure(io, scene, id);
            } else if !link.tx.is_empty() || link.wire.pending() {
                io.flush(id);
            }
            return;
        }
        match link.wire.socket().take_error() {
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return self.gone(io, scene, id, &format!("connect: {}", e.kind())),
        }
        if link.wire.socket().peer_addr().is_ok() {
            match link.wire {
                Wire::Plain(_) => self.upgrade(io, scene, id),
                Wire::Tls(..) => {
                    link.stage = Stage::Securing;
                    self.secure(io, scene, id);
                }
            }
        }
    }

    /// Goes on with a TLS hand-shake.
    fn secure<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize) {
        let Some(link) = io.links[id].as_mut() else { return };
        match link.wire.secure() {
            Ok(Some(kind)) => {
                io.handshakes[usize::from(kind == HandshakeKind::Resumed)] += 1;
                self.upgrade(io, scene, id);
            }
            Ok(None) => {}
            Err(e) => self.gone(io, scene, id, &format!("TLS: {e}")),
        }
    }

    /// The connection stands: it asks for the upgrade, if its target wants one.
    fn upgrade<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize) {
        let request = &scene.target(id).0.request;
        let Some(link) = io.links[id].as_mut() else { return };
        if request.is_empty() {
            link.stage = Stage::Greeting;
            return scene.opened(io, id);
        }
        link.stage = Stage::Upgrading;
        io.send(id, request);
    }

    /// Reads until the socket is empty, or goes on in the next turn: a short read says so, unless the peer's end is known to wait
    /// behind it.
    fn readable<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize, ended: bool) {
        if io.links[id].as_ref().is_some_and(|link| link.stage == Stage::Securing) {
            self.secure(io, scene, id);
        }
        for read in 1.. {
            let Some(link) = io.links[id].as_mut() else { return };
            if link.stage < Stage::Upgrading {
                return;
            }
            if link.deaf {
                return if ended {
                    self.gone(io, scene, id, "closed by the server")
                };
            }
            let carried = link.carry.len();
            if carried + RECEIVE_BYTES / 4 > self.rx.len() {
                self.rx.resize(carried + RECEIVE_BYTES, 0);
            }
            let upto = link.ration.map_or(self.rx.len(), |bytes| (carried + bytes).min(self.rx.len()));
            if upto == carried {
                return;
            }
            let got = link.wire.read(&mut self.rx[carried..upto]);
            let short_is_drained = link.wire.short_is_drained();
            io.tally.reads += 1;
            match got {
                Ok(0) => return self.gone(io, scene, id, "closed by the server"),
                Ok(n) => {
                    self.rx[..carried].copy_from_slice(&link.carry);
                    link.carry.clear();
                    io.tally.bytes_in += n as u64;
                    if let Some(left) = link.ration.as_mut() {
                        *left -= n;
                    }
                    let full = n == upto - carried || !short_is_drained;
                    if let Err(fault) = self.take(io, scene, id, carried + n) {
                        return self.broken(io, scene, id, &fault);
                    }
                    if !full && !ended {
                        return;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.gone(io, scene, id, &format!("read: {}", e.kind())),
            }
            // Who has ended sends no more, and will not be told of again.
            if read == READS && !ended {
                return io.thirsty.push(id);
            }
        }
    }

    /// Gives the first `len` bytes of the receive buffer to whom they belong and keeps what is left over.
    fn take<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize, len: usize) -> Result<(), Fault> {
        let mut at = 0;
        let Some(link) = io.links[id].as_mut() else { return Ok(()) };
        if link.stage == Stage::Upgrading
            && let Some(head) = frame::response(&self.rx[..len], io.deflate.is_on())?
        {
            link.stage = Stage::Greeting;
            at = head;
            io.upgraded(id);
            scene.opened(io, id);
        }
        if io.links[id].as_ref().is_some_and(|link| link.stage >= Stage::Greeting) && at < len {
            at += scene.receive(io, id, &self.rx[at..len])?;
        }
        if let Some(link) = io.links[id].as_mut().filter(|_| at < len) {
            link.carry.extend_from_slice(&self.rx[at..len]);
        }
        Ok(())
    }

    /// The server broke the protocol, or said what it must not: we end the connection and note why.
    fn broken<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize, fault: &Fault) {
        let Some(link) = io.links[id].take() else { return };
        io.was_ready = link.stage >= Stage::Ready;
        match link.stage {
            Stage::Closing => {}
            Stage::Ready => {
                *io.errors.entry(fault.to_string()).or_default() += 1;
                io.tally.closed += 1;
            }
            _ => io.failed(fault.to_string()),
        }
        scene.closed(io, id);
    }

    fn gone<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize, why: &str) {
        let Some(link) = io.links[id].take() else { return };
        io.was_ready = link.stage >= Stage::Ready;
        match link.stage {
            Stage::Closing => {}
            Stage::Ready if link.fleeting => {}
            Stage::Ready => io.ended(1006),
            _ => io.failed(why.to_string()),
        }
        scene.closed(io, id);
    }
}
