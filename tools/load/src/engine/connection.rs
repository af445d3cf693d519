//! The connections of a worker: their stages, and what a scenario can do with them.
//!
//! Stages: connecting → (with TLS: handshake →) upgrading → setup → ready → closing → gone. Every stage may go to gone. The
//! scenario says when the setup (connect and subscribe commands) is complete. Closing means that the close frame of the server
//! was received and answered.
//! Invariants: `carry` holds the beginning of an incomplete frame, `unsent` what the socket did not take; both are mostly empty. A
//! connection that is gone is `None`, so a late event finds nothing.

use crate::engine::clock::now;
use crate::engine::counters::Counters;
use crate::measure::histogram::LatencyHistogram;
use crate::measure::latency_series::SecondRecorder;
use crate::net;
use crate::net::deflate::{self, Deflate, Inflater};
use crate::net::frame::{self, Header, ProtocolError};
use crate::net::stream::Stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The close code of a connection that ended without a close frame (RFC 6455, section 7.1.5).
pub const NO_CLOSE_FRAME: u16 = 1006;

/// How connections with that close code ended.
pub fn ending_text(code: u16) -> String {
    if code == NO_CLOSE_FRAME { "ended without a close frame".into() } else { format!("closed with {code}") }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Stage {
    Connecting,
    TlsHandshake,
    Upgrading,
    Setup,
    Ready,
    Closing,
}

#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    /// The deflate context of this connection, if contexts go on and a compressed message was received.
    pub inflater: Option<Box<Inflater>>,
    pub stage: Stage,
    pub carry: Vec<u8>,
    pub unsent: Vec<u8>,
    /// Nothing is read anymore; only the end of the connection is noticed.
    pub paused: bool,
    /// The server may end the connection; the scenario opens it again.
    pub may_end: bool,
    /// Bytes that may be read now; `None`: no limit.
    pub read_budget: Option<usize>,
    /// The code of the close frame that was received.
    pub close_code: u16,
}

impl Connection {
    pub fn new(stream: Stream) -> Self {
        let (carry, unsent) = (Vec::new(), Vec::new());
        let (inflater, stage, read_budget) = (None, Stage::Connecting, None);
        let (paused, may_end, close_code) = (false, false, NO_CLOSE_FRAME);
        Self { stream, inflater, stage, carry, unsent, paused, may_end, read_budget, close_code }
    }
}

/// A ready connection that the server ended, and the code of its close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub at: u64,
    pub code: u16,
}

/// How long the connections of a run took to open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OpeningTimes {
    /// From the (intended) beginning to the response to the upgrade.
    pub upgraded: LatencyHistogram,
    /// From the upgrade, behind which the setup leaves, to the replies to `connect` and `subscribe`.
    pub connected: LatencyHistogram,
    pub subscribed: LatencyHistogram,
    /// From the (intended) beginning to the end of the setup.
    pub ready: LatencyHistogram,
}

/// What happened to connections, added up over workers and processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionStats {
    pub opening: OpeningTimes,
    /// How late messages and connections left, against the schedule.
    pub lag: LatencyHistogram,
    /// Close codes of the server.
    pub closes: BTreeMap<u16, u64>,
    /// Connections that never became ready, or that this tool ended for an error of the server, by reason.
    pub errors: BTreeMap<String, u64>,
    /// TLS handshakes: full, and resumed.
    pub handshakes: [u64; 2],
    /// Ready connections that the server ended, in no order.
    #[serde(skip)]
    pub endings: Vec<Ending>,
}

impl ConnectionStats {
    pub fn merge(&mut self, other: Self) {
        let (mine, theirs) = (&mut self.opening, &other.opening);
        mine.upgraded.merge(&theirs.upgraded);
        mine.connected.merge(&theirs.connected);
        mine.subscribed.merge(&theirs.subscribed);
        mine.ready.merge(&theirs.ready);
        self.lag.merge(&other.lag);
        other.closes.into_iter().for_each(|(code, n)| *self.closes.entry(code).or_default() += n);
        other.errors.into_iter().for_each(|(reason, n)| *self.errors.entry(reason).or_default() += n);
        (0..2).for_each(|kind| self.handshakes[kind] += other.handshakes[kind]);
        self.endings.extend(other.endings);
    }
}

/// What a scenario uses to act on the connections of its worker.
#[derive(Debug)]
pub struct Io {
    pub connections: Vec<Option<Connection>>,
    /// The time of the current turn.
    pub now: u64,
    /// When the measured time began; 0: not yet.
    pub measured_from: u64,
    /// Messages per second over all workers, instead of the rate of the scenario; 0: the rate of the scenario.
    pub rate: f64,
    /// When connections began to be opened at their rate.
    pub opened_from: u64,
    pub counters: Counters,
    pub stats: ConnectionStats,
    /// When each connection began (at a rate: when it should have begun), and when its upgrade was accepted.
    pub begun_at: Vec<u64>,
    upgraded_at: Vec<u64>,
    /// Latency and own lag of each second.
    pub seconds: SecondRecorder,
    /// Whether own lag is recorded now: not in the warm-up and not while draining.
    pub records_lag: bool,
    /// Connections that are being opened.
    pub opening: usize,
    pub deflate: Deflate,
    /// For contexts that start anew with each message.
    inflater: Inflater,
    /// Whether the connection whose end the scenario is handling had been ready, and the code with which it was closed.
    pub was_ready: bool,
    pub close_code: u16,
    /// Connections that are gone and will be opened again.
    pub reopen: Vec<usize>,
    /// Connections that may have more to read without a new event.
    pub read_again: Vec<usize>,
    scratch: Vec<u8>,
}

impl Io {
    /// For connections `0..total`; seconds are counted from `origin`.
    pub fn new(total: usize, origin: u64, now: u64) -> Self {
        Self {
            connections: (0..total).map(|_| None).collect(),
            now,
            measured_from: 0,
            rate: 0.0,
            opened_from: now,
            counters: Counters::default(),
            stats: ConnectionStats::default(),
            begun_at: vec![0; total],
            upgraded_at: vec![0; total],
            seconds: SecondRecorder::new(origin),
            records_lag: true,
            opening: 0,
            deflate: Deflate::Off,
            inflater: Inflater::default(),
            was_ready: false,
            close_code: NO_CLOSE_FRAME,
            reopen: Vec::new(),
            read_again: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Writes whole frames: as far as the socket takes them now, the rest when it is writable again.
    pub fn send(&mut self, id: usize, bytes: &[u8]) {
        let Some(connection) = self.connections[id].as_mut() else { return };
        if !connection.unsent.is_empty() {
            return connection.unsent.extend_from_slice(bytes);
        }
        self.counters.writes += 1;
        // The next read returns an error too, and handles it.
        let done = connection.stream.write(bytes).unwrap_or(0);
        connection.unsent.extend_from_slice(&bytes[done..]);
    }

    /// Sends one masked frame.
    pub fn send_frame(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let key = fastrand::u32(..).to_ne_bytes();
        if opcode & 8 == 0 && self.deflate.compresses(payload.len()) {
            frame::write_masked(&mut scratch, opcode | frame::RSV1, key, &[&deflate::compress(payload)]);
        } else {
            frame::write_masked(&mut scratch, opcode, key, &[payload]);
        }
        self.send(id, &scratch);
        self.scratch = scratch;
    }

    /// The setup of connection `id` is complete: it counts as open, and the next one may begin.
    pub fn ready(&mut self, id: usize) {
        if self.ready_again(id) {
            self.counters.ready += 1;
            let age = self.age(id);
            self.stats.opening.ready.saturating_record(age);
        }
    }

    /// The same for a connection that was ready before and is not counted again. Returns false if it is not in its setup.
    pub fn ready_again(&mut self, id: usize) -> bool {
        let Some(connection) = self.connections[id].as_mut().filter(|c| c.stage == Stage::Setup) else { return false };
        connection.stage = Stage::Ready;
        self.opening -= 1;
        true
    }

    /// Nanoseconds since the (intended) beginning of connection `id`.
    pub fn age(&self, id: usize) -> u64 {
        self.now.saturating_sub(self.begun_at[id])
    }

    /// Records in the series of seconds that `n` messages took `age` nanoseconds.
    #[inline]
    pub fn record_latency(&mut self, age: u64, n: u64) {
        self.seconds.latency(self.now, age, n);
    }

    /// A message that was due at `at` leaves now: records how late. The clock is read again, because the time of a turn may be a
    /// batch old.
    #[inline]
    pub fn record_lag(&mut self, at: u64) {
        let now = now();
        let lag = now.saturating_sub(at);
        self.seconds.lag(now, lag);
        if self.records_lag {
            self.stats.lag.saturating_record(lag);
        }
    }

    /// The upgrade was accepted.
    pub fn upgraded(&mut self, id: usize) {
        self.upgraded_at[id] = self.now;
        let age = self.age(id);
        self.stats.opening.upgraded.saturating_record(age);
    }

    /// The reply to `connect` was received.
    pub fn connected(&mut self, id: usize) {
        self.stats.opening.connected.saturating_record(self.now.saturating_sub(self.upgraded_at[id]));
    }

    /// The reply to the last `subscribe` was received.
    pub fn subscribed(&mut self, id: usize) {
        self.stats.opening.subscribed.saturating_record(self.now.saturating_sub(self.upgraded_at[id]));
    }

    /// Lets the kernel acknowledge every second segment, as for a client that also sends. A socket that only reads would
    /// acknowledge at each read, which is half the cost of receiving.
    pub fn delay_acks(&self, id: usize) {
        if let Some(connection) = &self.connections[id] {
            net::delay_acks(connection.stream.socket());
        }
    }

    pub fn is_ready(&self, id: usize) -> bool {
        self.connections[id].as_ref().is_some_and(|connection| connection.stage == Stage::Ready)
    }

    /// Whether connection `id` has begun and has not ended.
    pub fn is_open(&self, id: usize) -> bool {
        self.connections[id].is_some()
    }

    /// The payload of a compressed message.
    pub fn inflate(&mut self, id: usize, body: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        match (self.deflate, self.connections[id].as_mut()) {
            (Deflate::Takeover, Some(connection)) => connection.inflater.get_or_insert_default().message(body, false),
            _ => self.inflater.message(body, true),
        }
    }

    /// Passes each complete message in `bytes` to `each` and answers control frames; returns the number of bytes consumed.
    pub fn messages(
        &mut self,
        id: usize,
        bytes: &[u8],
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), ProtocolError>,
    ) -> Result<usize, ProtocolError> {
        let mut at = 0;
        while let Some(header) = frame::header(&bytes[at..], self.deflate.is_on())? {
            let Some(frame) = bytes.get(at..at + header.total()) else { break };
            at += header.total();
            if header.is_control() {
                self.control(id, header, &frame[header.head..]);
            } else if header.compressed {
                let message = self.inflate(id, &frame[header.head..])?;
                each(self, &message)?;
            } else {
                each(self, &frame[header.head..])?;
            }
        }
        Ok(at)
    }

    /// Answers a control frame. A close is recorded and answered; the server then ends the connection.
    pub fn control(&mut self, id: usize, header: Header, payload: &[u8]) {
        match header.opcode {
            frame::PING => self.send_frame(id, frame::PONG, payload),
            frame::CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.send_frame(id, frame::CLOSE, payload.get(..2).unwrap_or_default());
                let Some(connection) = self.connections[id].as_mut() else { return };
                connection.close_code = code;
                match std::mem::replace(&mut connection.stage, Stage::Closing) {
                    Stage::Ready => self.ended(code),
                    Stage::Closing => {}
                    _ => {
                        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                        self.failed(format!("closed with code {code} {reason}"));
                    }
                }
            }
            _ => {}
        }
    }

    /// Opens connection `id`, which is gone, again at the end of the turn.
    pub fn reopen(&mut self, id: usize) {
        debug_assert!(self.connections[id].is_none());
        self.reopen.push(id);
    }

    /// Lets connection `id` read that many bytes from now on, or without limit; waiting bytes are read at the end of the turn.
    pub fn limit_reads(&mut self, id: usize, bytes: Option<usize>) {
        if let Some(connection) = self.connections[id].as_mut().filter(|connection| connection.read_budget != bytes) {
            connection.read_budget = bytes;
            self.read_again.push(id);
        }
    }

    /// A ready connection was ended by the server.
    pub fn ended(&mut self, code: u16) {
        *self.stats.closes.entry(code).or_default() += 1;
        self.stats.endings.push(Ending { at: self.now, code });
        self.counters.closed += 1;
    }

    /// Ends connection `id` with a reset.
    pub fn reset(&mut self, id: usize) {
        if let Some(connection) = self.connections[id].take() {
            net::reset_on_close(connection.stream.socket());
            self.opening -= usize::from(connection.stage < Stage::Ready);
            self.counters.left += u64::from(connection.stage == Stage::Ready);
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&mut self, id: usize) {
        let Some(connection) = self.connections[id].as_mut() else { return };
        if connection.stream.flush().is_err() {
            return;
        }
        while !connection.unsent.is_empty() {
            self.counters.writes += 1;
            match connection.stream.write(&connection.unsent) {
                Ok(n) => drop(connection.unsent.drain(..n)),
                Err(_) => return,
            }
        }
        // A backlog is rare and may have been large.
        connection.unsent = Vec::new();
    }

    /// A connection failed before it was ready.
    pub fn failed(&mut self, reason: String) {
        self.opening -= 1;
        *self.stats.errors.entry(reason).or_default() += 1;
        self.counters.failed += 1;
    }
}
