//! A worker's connections: where each stands in its life, and what a scene does to them.
//!
//! A link's life: connecting → (TLS: securing →) upgrading → greeting → ready → closing → gone; every stage may go to gone, and
//! the scene says when the greeting was answered. Closing means that the server's close frame came and was answered.
//! Invariants: a link's `carry` holds the beginning of a frame that is not whole yet, `tx` what the socket did not take; both are
//! mostly empty. A link that is gone is `None` in `links`, so a late event finds nothing.

use crate::engine::counters::Tally;
use crate::measure::latency_series::{self, Pulse};
use crate::net;
use crate::net::deflate::{self, Deflate, Inflater};
use crate::net::frame::{self, Fault, Header};
use crate::net::stream::Wire;
use crate::report::histogram;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Stage {
    Connecting,
    /// TLS shakes hands.
    Securing,
    Upgrading,
    Greeting,
    Ready,
    Closing,
}

#[derive(Debug)]
pub struct Link {
    pub wire: Wire,
    /// Where contexts go on: what is needed for it, once something compressed came.
    pub inflater: Option<Box<Inflater>>,
    pub stage: Stage,
    pub carry: Vec<u8>,
    pub tx: Vec<u8>,
    /// Nothing is read from it any more; only its end is noticed.
    pub deaf: bool,
    /// Its end says nothing of the run: it comes again.
    pub fleeting: bool,
    /// Bytes that may be read from it now; none: all that there are.
    pub ration: Option<usize>,
}

/// A ready connection that the server ended, by the code of its close frame (1006: there was none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub at: u64,
    pub code: u16,
}

/// How long connections took to come to life, over a whole run.
#[derive(Clone, Debug)]
pub struct Openings {
    /// From the (intended) beginning to the answered upgrade.
    pub upgraded: Histogram<u64>,
    /// From the upgrade, with which the greeting leaves, to the answers to `connect` and to `subscribe`, where there are such.
    pub connected: Histogram<u64>,
    pub subscribed: Histogram<u64>,
    /// From the (intended) beginning to the greeting's end.
    pub ready: Histogram<u64>,
}

impl Default for Openings {
    fn default() -> Self {
        Self { upgraded: histogram(), connected: histogram(), subscribed: histogram(), ready: histogram() }
    }
}

impl Openings {
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.upgraded, &other.upgraded),
            (&mut self.connected, &other.connected),
            (&mut self.subscribed, &other.subscribed),
            (&mut self.ready, &other.ready),
        ];
        for (sum, one) in pairs {
            // The histograms have the same bounds, so adding cannot fail.
            let _ = sum.add(one);
        }
    }
}

/// The hands of a scene.
#[derive(Debug)]
pub struct Io {
    pub links: Vec<Option<Link>>,
    /// The turn's time.
    pub now: u64,
    /// When the measured time began; 0: it has not.
    pub measured_from: u64,
    /// Messages per second over all workers, in place of what the scene was made with; 0: as it was made.
    pub rate: f64,
    /// When connections were begun to be opened at their rate.
    pub opened_from: u64,
    pub tally: Tally,
    /// Close codes that servers sent; 1006 stands for an end without a close frame.
    pub closes: BTreeMap<u16, u64>,
    /// The same one by one.
    pub endings: Vec<Ending>,
    /// Connections that never became ready, or that we ended for a fault of the server, by reason.
    pub errors: BTreeMap<String, u64>,
    /// When each connection was begun (or, at a rate, should have been), and when its upgrade was answered.
    pub born: Vec<u64>,
    upgraded: Vec<u64>,
    pub openings: Openings,
    /// Latency and own lag, second by second; and the lag over all time that counts.
    pub pulse: Pulse,
    pub lag: Histogram<u64>,
    /// It is no warm-up, and nothing is being waited for.
    pub counts: bool,
    /// Failures and ends that the coordinator knows of.
    pub faults_told: u64,
    /// How many are on their way.
    pub opening: usize,
    /// What connections ask for, and what inflates where contexts begin anew.
    pub deflate: Deflate,
    inflater: Inflater,
    /// TLS hand-shakes that were full, and that took a session up again.
    pub handshakes: [u64; 2],
    /// Whether the connection whose end the scene is being told of had been ready.
    pub was_ready: bool,
    /// Connections that are gone and are to be begun anew.
    pub again: Vec<usize>,
    /// Connections that may read again although their sockets told so earlier.
    pub thirsty: Vec<usize>,
    scratch: Vec<u8>,
}

impl Io {
    /// For connections `0..total`, none of which is begun; seconds are counted from `origin`.
    pub fn new(total: usize, origin: u64, now: u64) -> Self {
        Self {
            links: (0..total).map(|_| None).collect(),
            now,
            measured_from: 0,
            rate: 0.0,
            opened_from: now,
            tally: Tally::default(),
            closes: BTreeMap::new(),
            endings: Vec::new(),
            errors: BTreeMap::new(),
            born: vec![0; total],
            upgraded: vec![0; total],
            openings: Openings::default(),
            pulse: Pulse::new(origin),
            lag: histogram(),
            counts: true,
            faults_told: 0,
            opening: 0,
            deflate: Deflate::Off,
            inflater: Inflater::new(),
            handshakes: [0; 2],
            was_ready: false,
            again: Vec::new(),
            thirsty: Vec::new(),
            scratch: Vec::new(),
        }
    }

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
            frame::put_masked(&mut scratch, opcode | frame::RSV1, key, &[&deflate::deflate(payload)]);
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
            self.openings.ready.saturating_record(self.now.saturating_sub(self.born[id]));
        }
    }

    /// `n` messages that took `age` nanoseconds, for the course of time.
    #[inline]
    pub fn took(&mut self, age: u64, n: u64) {
        self.pulse.took(self.now, age, n);
    }

    /// What should leave at `at` leaves now: how much later that is, is this tool's own doing.
    #[inline]
    pub fn late(&mut self, at: u64) {
        let (now, age) = latency_series::lag(at);
        self.pulse.late(now, age);
        if self.counts {
            self.lag.saturating_record(age);
        }
    }

    /// The upgrade was answered.
    pub fn upgraded(&mut self, id: usize) {
        self.upgraded[id] = self.now;
        self.openings.upgraded.saturating_record(self.now.saturating_sub(self.born[id]));
    }

    /// `connect` was answered.
    pub fn connected(&mut self, id: usize) {
        self.openings.connected.saturating_record(self.now.saturating_sub(self.upgraded[id]));
    }

    /// `subscribe` was answered.
    pub fn subscribed(&mut self, id: usize) {
        self.openings.subscribed.saturating_record(self.now.saturating_sub(self.upgraded[id]));
    }

    /// The same for one that was there before, and comes again as it may: it is counted already.
    pub fn back(&mut self, id: usize) {
        if let Some(link) = self.links[id].as_mut().filter(|link| link.stage == Stage::Greeting) {
            link.stage = Stage::Ready;
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

    /// The server may end connection `id` when it likes.
    pub fn fleeting(&mut self, id: usize) {
        if let Some(link) = self.links[id].as_mut() {
            link.fleeting = true;
        }
    }

    /// Lets connection `id` read so many bytes from now on, or all; what waits in its socket is read at the end of the turn.
    pub fn ration(&mut self, id: usize, bytes: Option<usize>) {
        if let Some(link) = self.links[id].as_mut().filter(|link| link.ration != bytes) {
            link.ration = bytes;
            self.thirsty.push(id);
        }
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

    /// A ready connection was ended by the server.
    pub fn ended(&mut self, code: u16) {
        *self.closes.entry(code).or_default() += 1;
        self.endings.push(Ending { at: self.now, code });
        self.tally.closed += 1;
    }

    /// Ends connection `id` by a reset, as a client that is done.
    pub fn cut(&mut self, id: usize) {
        if let Some(link) = self.links[id].take() {
            net::reset_on_close(link.wire.socket());
            self.opening -= usize::from(link.stage < Stage::Ready);
            self.tally.left += u64::from(link.stage == Stage::Ready);
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&mut self, id: usize) {
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
    pub fn failed(&mut self, reason: String) {
        self.opening -= 1;
        *self.errors.entry(reason).or_default() += 1;
        self.tally.failed += 1;
    }
}
