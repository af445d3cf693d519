//! One worker: a poll, its connections, and a scene that decides what they say.
//!
//! Plan: `run` is the loop; one turn is wait → sockets (connect, upgrade, read to empty, write what waited) → open more →
//! the scene's turn. Everything a scene does to sockets goes through `Io`.
//! A link's life: connecting → (TLS: securing →) upgrading → greeting → ready → closing → gone; every stage may go to gone, and the scene says
//! when the greeting was answered. Closing means that the server's close frame came and was answered.
//! Invariants: registered once, edge-triggered, READABLE | WRITABLE; one receive buffer per worker; a link's `carry` holds the
//! beginning of a frame that is not whole yet, `tx` what the socket did not take; both are mostly empty. A link that is gone
//! is `None` in `links`, so a late event finds nothing.

use crate::clock::{Timer, now};
use crate::crew::{Control, Phase};
use crate::frame::{self, Fault, Header};
use crate::net::{self, Target};
use crate::squeeze::{self, Deflate, Inflater};
use crate::tally::Tally;
use crate::wire::Wire;
use mio::{Events, Interest, Poll, Token};
use rustls::HandshakeKind;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

const WAKE: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
/// Bytes of the receive buffer: one read takes what a socket's own buffer usually holds.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Events per turn. The clock is read once per turn, so this bounds how stale a time stamp can be.
const EVENTS: usize = 256;

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
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Stage {
    Connecting,
    /// TLS shakes hands.
    Securing,
    Upgrading,
    Greeting,
    Ready,
    Closing,
}

#[derive(Debug)]
struct Link {
    wire: Wire,
    /// Where contexts go on: what is needed for it, once something compressed came.
    inflater: Option<Box<Inflater>>,
    stage: Stage,
    carry: Vec<u8>,
    tx: Vec<u8>,
    /// Nothing is read from it any more; only its end is noticed.
    deaf: bool,
}

/// A ready connection that the server ended, by the code of its close frame (1006: there was none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub at: u64,
    pub code: u16,
}

/// The hands of a scene.
#[derive(Debug)]
pub struct Io {
    links: Vec<Option<Link>>,
    /// The turn's time.
    pub now: u64,
    pub tally: Tally,
    /// Close codes that servers sent; 1006 stands for an end without a close frame.
    pub closes: BTreeMap<u16, u64>,
    /// The same one by one.
    pub endings: Vec<Ending>,
    /// Connections that never became ready, or that we ended for a fault of the server, by reason.
    pub errors: BTreeMap<String, u64>,
    /// When each connection was begun (or, at a rate, should have been).
    pub born: Vec<u64>,
    opening: usize,
    /// What connections ask for, and what inflates where contexts begin anew.
    pub deflate: Deflate,
    inflater: Inflater,
    /// TLS hand-shakes that were full, and that took a session up again.
    pub handshakes: [u64; 2],
    /// Whether the connection whose end the scene is being told of had been ready.
    pub was_ready: bool,
    /// Connections that are gone and are to be begun anew.
    again: Vec<usize>,
    scratch: Vec<u8>,
}

impl Io {
    /// Writes whole frames: at once as far as the socket takes them, the rest when it is writable again.
    pub fn send(&mut self, id: usize, bytes: &[u8]) {
        let Some(link) = self.links[id].as_mut() else { return };
        if !link.tx.is_empty() {
            return link.tx.extend_from_slice(bytes);
        }
        self.tally.writes += 1;
        // An error shows itself to the next read as well, and is counted there.
        let done = link.wire.write(bytes).unwrap_or(0);
        if done < bytes.len() {
            link.tx.extend_from_slice(&bytes[done..]);
        }
    }

    /// Sends one masked frame.
    pub fn send_frame(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let key = fastrand::u32(..).to_ne_bytes();
        if opcode & 8 == 0 && self.deflate.compresses(payload.len()) {
            frame::put_masked(&mut scratch, opcode | frame::RSV1, key, &[&squeeze::deflate(payload)]);
        } else {
            frame::put_masked(&mut scratch, opcode, key, &[payload]);
        }
        self.send(id, &scratch);
        self.scratch = scratch;
    }

    /// The greeting of connection `id` is done: it counts as open, and the next one may begin.
    pub fn ready(&mut self, id: usize) {
        if let Some(link) = self.links[id].as_mut().filter(|link| link.stage == Stage::Greeting) {
            link.stage = Stage::Ready;
            self.tally.ready += 1;
            self.opening -= 1;
        }
    }

    /// Lets the kernel acknowledge every second segment, as for a client that also talks. A socket that only ever reads would
    /// acknowledge at each read, which is half of what receiving costs.
    pub fn delay_acks(&self, id: usize) {
        if let Some(link) = &self.links[id] {
            net::delay_acks(link.wire.socket());
        }
    }

    pub fn is_ready(&self, id: usize) -> bool {
        self.links[id].as_ref().is_some_and(|link| link.stage == Stage::Ready)
    }

    /// Whether connection `id` was begun and has not ended.
    pub fn is_open(&self, id: usize) -> bool {
        self.links[id].is_some()
    }

    /// The payload of a compressed message.
    pub fn inflate(&mut self, id: usize, body: &[u8]) -> Result<Vec<u8>, Fault> {
        match (self.deflate, self.links[id].as_mut()) {
            (Deflate::Takeover, Some(link)) => {
                link.inflater.get_or_insert_with(|| Box::new(Inflater::new())).message(body, false)
            }
            _ => self.inflater.message(body, true),
        }
    }

    /// Gives each whole message in `bytes` to `each` and answers control frames; gives the number of bytes dealt with.
    pub fn messages(
        &mut self,
        id: usize,
        bytes: &[u8],
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(header) = frame::header(&bytes[at..], self.deflate.is_on())? {
            let Some(whole) = bytes.get(at..at + header.total()) else { break };
            at += header.total();
            if header.is_control() {
                self.control(id, header, &whole[header.head..]);
            } else if header.compressed {
                let message = self.inflate(id, &whole[header.head..])?;
                each(self, &message)?;
            } else {
                each(self, &whole[header.head..])?;
            }
        }
        Ok(at)
    }

    /// Answers a control frame. A close is noted by its code and answered; the server then ends the connection.
    pub fn control(&mut self, id: usize, header: Header, payload: &[u8]) {
        match header.opcode {
            frame::PING => self.send_frame(id, frame::PONG, payload),
            frame::CLOSE => {
                let code = if payload.len() < 2 { 1005 } else { u16::from_be_bytes([payload[0], payload[1]]) };
                self.send_frame(id, frame::CLOSE, payload.get(..2).unwrap_or_default());
                let Some(link) = self.links[id].as_mut() else { return };
                match std::mem::replace(&mut link.stage, Stage::Closing) {
                    Stage::Ready => self.ended(code),
                    Stage::Closing => {}
                    _ => {
                        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                        self.failed(format!("closed by code {code} {reason}"));
                    }
                }
            }
            _ => {}
        }
    }

    /// Begins connection `id`, which is gone, anew at the end of the turn.
    pub fn again(&mut self, id: usize) {
        debug_assert!(self.links[id].is_none());
        self.again.push(id);
    }

    /// Reads nothing of connection `id` from now on, as a client that hangs.
    pub fn deafen(&mut self, id: usize) {
        if let Some(link) = self.links[id].as_mut() {
            link.deaf = true;
        }
    }

    pub fn is_deaf(&self, id: usize) -> bool {
        self.links[id].as_ref().is_some_and(|link| link.deaf)
    }

    fn ended(&mut self, code: u16) {
        *self.closes.entry(code).or_default() += 1;
        self.endings.push(Ending { at: self.now, code });
        self.tally.closed += 1;
    }

    /// Ends connection `id` by a reset, as a client that is done.
    pub fn cut(&mut self, id: usize) {
        if let Some(link) = self.links[id].take() {
            net::reset_on_close(link.wire.socket());
            self.opening -= usize::from(link.stage < Stage::Ready);
        }
    }

    fn flush(&mut self, id: usize) {
        let Some(link) = self.links[id].as_mut() else { return };
        if link.wire.push().is_err() {
            return;
        }
        while !link.tx.is_empty() {
            self.tally.writes += 1;
            match link.wire.write(&link.tx) {
                Ok(n) => drop(link.tx.drain(..n)),
                Err(_) => return,
            }
        }
        // A backlog is rare and may have been large.
        link.tx = Vec::new();
    }

    /// A connection that was begun will never be ready.
    fn failed(&mut self, reason: String) {
        self.opening -= 1;
        *self.errors.entry(reason).or_default() += 1;
        self.tally.failed += 1;
    }
}

/// How connections are begun.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Connections of this worker.
    pub total: usize,
    /// How many may be on their way at once.
    pub concurrency: usize,
    /// Nanoseconds between two, when they come at a rate.
    pub interval: Option<f64>,
}

/// One worker's loop and what it needs.
pub struct Engine {
    poll: Poll,
    timer: Timer,
    pace: Pace,
    begun: usize,
    started: u64,
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
        Ok(Self { poll, timer, pace, begun: 0, started: 0, control, worker, spin, rx: vec![0; RECEIVE_BYTES] })
    }

    /// Runs until the coordinator says stop, then gives what was counted.
    pub fn run<S: Scene>(mut self, scene: &mut S) -> io::Result<Io> {
        let mut io = Io {
            links: (0..self.pace.total).map(|_| None).collect(),
            now: now(),
            tally: Tally::default(),
            closes: BTreeMap::new(),
            endings: Vec::new(),
            errors: BTreeMap::new(),
            born: vec![0; self.pace.total],
            opening: 0,
            deflate: Deflate::Off,
            inflater: Inflater::new(),
            handshakes: [0; 2],
            was_ready: false,
            again: Vec::new(),
            scratch: Vec::new(),
        };
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
                self.control.show(self.worker, &io.tally);
                return Ok(io);
            }
            let opening = self.open_more(&mut io, scene)?;
            let scene_due = scene.turn(&mut io, phase);
            due = [opening, scene_due].into_iter().flatten().min();
            io.tally.polls += 1;
            if self.spin && !events.is_empty() {
                io.tally.busy_ns += now() - woke;
            }
            self.control.show(self.worker, &io.tally);
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
        if self.begun == 0 {
            self.started = io.now;
        }
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
            if let Some(interval) = self.pace.interval {
                let at = self.started + (interval * id as f64) as u64;
                if at > io.now {
                    return Ok(Some(at));
                }
                io.born[id] = at;
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
                io.links[id] = Some(Link { wire, inflater: None, stage, carry, tx, deaf: false });
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

    /// Reads until the socket is empty: a short read says so, unless the peer's end is known to wait behind it.
    fn readable<S: Scene>(&mut self, io: &mut Io, scene: &mut S, id: usize, ended: bool) {
        if io.links[id].as_ref().is_some_and(|link| link.stage == Stage::Securing) {
            self.secure(io, scene, id);
        }
        loop {
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
            let got = link.wire.read(&mut self.rx[carried..]);
            let short_is_drained = link.wire.short_is_drained();
            io.tally.reads += 1;
            match got {
                Ok(0) => return self.gone(io, scene, id, "closed by the server"),
                Ok(n) => {
                    self.rx[..carried].copy_from_slice(&link.carry);
                    link.carry.clear();
                    io.tally.bytes_in += n as u64;
                    let full = n == self.rx.len() - carried || !short_is_drained;
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
            Stage::Ready => io.ended(1006),
            _ => io.failed(why.to_string()),
        }
        scene.closed(io, id);
    }
}
