//! TLS as a byte source: the state machine is rustls', the buffers are the shard's.
//!
//! ```text
//! Fresh ──a whole first record, within the turn's budget of hand-shakes──► Session ──a fault, our close──► Over
//!   └──no TLS at all: told so in the clear──────────────────────────────────────────────────────────────► Over
//! ```
//!
//! An idle connection owns its keys and no buffer. Ciphertext is received into the shard's one buffer and only the part of a
//! record that the rest is missing of is kept; plaintext leaves in records as full as what there is to write makes them,
//! and ciphertext is kept only where the socket did not take all of it: at most a batch, since nothing more is encrypted
//! while some waits.
//!
//! Early data (RFC 8446, section 2.3), where it is allowed at all, may be a replay. Only a request head without a query is
//! handed on before the hand-shake is complete: it opens nothing but the connection. The rest waits for the proof.

pub(crate) mod pump;
pub(crate) mod shared;
pub(crate) mod write;

use std::cell::RefCell;
use std::io::IoSlice;
use std::net::IpAddr;
use std::rc::Rc;

use rustix::io::Errno;
use rustls::HandshakeKind;
use rustls::server::UnbufferedServerConnection;

use shared::CIPHER_BYTES;
pub use shared::Desk;

use super::source::{Plain, Source};
use crate::engine::stats::TlsFailed;
use crate::ws::Refusal;

/// The least that is asked of the socket: a whole record (RFC 8446, section 5.2) with its header.
const READ_BYTES_MIN: usize = 17 * 1024;
/// Ciphertext that may be kept for its missing rest: a record, or a hand-shake message in several.
const INBOUND_BYTES_MAX: usize = 34 * 1024;
/// Reads that brought no plaintext, before other connections have their turn.
const DRY_READS_MAX: usize = 4;
/// Of a record: type, version, length (RFC 8446, section 5.1).
const RECORD_HEADER_BYTES: usize = 5;
const HANDSHAKE_RECORD: u8 = 22;

enum Stage {
    /// Nothing was handled yet: a connection that says nothing costs nothing.
    Fresh,
    Session(Box<UnbufferedServerConnection>),
    /// What we had to say is said; what still comes is dropped by whoever reads it.
    Over,
}

pub struct Tls {
    socket: Plain,
    desk: Rc<RefCell<Desk>>,
    stage: Stage,
    /// Ciphertext whose rest is missing, or that waits for its turn to be handled.
    inbound: Vec<u8>,
    /// Plaintext that the reader had no room for, or must not have yet.
    plain: Vec<u8>,
    /// Ciphertext that the socket did not take.
    outbound: Vec<u8>,
    /// Bytes of the three that the shard has counted.
    counted: usize,
    /// The socket may have more: it filled what was offered.
    more: bool,
    /// The first record is whole, and the turn had no hand-shake left for it.
    put_off: bool,
    /// The hand-shake is complete, and counted.
    complete: bool,
    /// Early data came.
    early: bool,
    /// The request head of early data has been handed on.
    head_given: bool,
    /// The peer said close_notify, or its side ended.
    ended: bool,
}

/// Where plaintext goes: how much of it was taken.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> usize;

impl Tls {
    pub fn new(socket: Plain, desk: Rc<RefCell<Desk>>) -> Self {
        Self {
            socket,
            desk,
            stage: Stage::Fresh,
            inbound: Vec::new(),
            plain: Vec::new(),
            outbound: Vec::new(),
            counted: 0,
            more: false,
            put_off: false,
            complete: false,
            early: false,
            head_given: false,
            ended: false,
        }
    }

    /// Does something with what the shard's connections have in common, and tells what came to be kept by it.
    fn at_desk<T>(&mut self, act: impl FnOnce(&mut Self, &mut Desk) -> T) -> T {
        let desk = Rc::clone(&self.desk);
        let mut desk = desk.borrow_mut();
        let result = act(self, &mut desk);
        self.count(&mut desk);
        result
    }

    /// Plaintext that waits, else what one read of the socket brings.
    fn fill(&mut self, desk: &mut Desk, room: usize, sink: Sink<'_>) -> Result<usize, Errno> {
        if matches!(self.stage, Stage::Over) {
            return self.drop_some(desk, sink);
        }
        for _ in 0..DRY_READS_MAX {
            let ripe = self.ripe();
            if ripe > 0 {
                let n = sink(&self.plain[..ripe]);
                self.plain.drain(..n);
                self.head_given |= !self.complete;
                shed(&mut self.plain);
                return Ok(n);
            }
            if self.ended {
                return Ok(0);
            }
            let got = self.receive(desk, room, sink)?;
            if got > 0 {
                return Ok(got);
            }
            if !self.more && self.ripe() == 0 && !self.ended {
                return Err(Errno::AGAIN);
            }
        }
        Err(Errno::AGAIN)
    }

    /// How much of the waiting plaintext may be handed on.
    fn ripe(&self) -> usize {
        if self.complete {
            return self.plain.len();
        }
        let end = |head: &[u8]| memchr::memmem::find(head, b"\r\n\r\n").map(|at| at + 4);
        match end(&self.plain) {
            Some(end) if !self.head_given && !first_line(&self.plain[..end]).contains(&b'?') => end,
            _ => 0,
        }
    }

    /// One read of the socket, handled. Returns the plaintext that `sink` took.
    fn receive(&mut self, desk: &mut Desk, room: usize, sink: Sink<'_>) -> Result<usize, Errno> {
        let have = self.inbound.len();
        let mut cipher = desk.lend();
        cipher[..have].copy_from_slice(&self.inbound);
        let want = room.clamp(READ_BYTES_MIN, CIPHER_BYTES - have);
        let result = match self.put_off {
            // What it has begins with a whole record; nothing more is read for it until that is handled.
            true => self.handle(desk, &mut cipher[..have], sink),
            false => match self.socket.read(&mut cipher[have..have + want]) {
                Ok(0) => {
                    self.ended = true;
                    Ok(0)
                }
                Ok(n) => {
                    self.more = n == want;
                    self.handle(desk, &mut cipher[..have + n], sink)
                }
                Err(error) => {
                    self.more = false;
                    Err(error)
                }
            },
        };
        desk.give_back(cipher);
        result
    }

    /// Handles ciphertext that begins at a record, and keeps the rest.
    fn handle(&mut self, desk: &mut Desk, cipher: &mut [u8], sink: Sink<'_>) -> Result<usize, Errno> {
        if matches!(self.stage, Stage::Fresh) && !self.begin(desk, cipher)? {
            self.keep(cipher);
            return if self.put_off { Err(Errno::AGAIN) } else { Ok(0) };
        }
        let Stage::Session(session) = &mut self.stage else { return Ok(0) };
        let held = !self.complete;
        let (mut taken, plain, early) = (0, &mut self.plain, &mut self.early);
        let mut take = |bytes: &[u8], is_early: bool| {
            *early |= is_early;
            let n = if held || !plain.is_empty() { 0 } else { sink(bytes) };
            taken += n;
            plain.extend_from_slice(&bytes[n..]);
        };
        desk.out.clear();
        let pumped = pump::pump(session, cipher, &mut take, &mut desk.out);
        self.ended |= pumped.closed;
        self.complete(desk);
        let said = self.send(desk);
        if let Some(error) = pumped.error {
            return Err(self.fail(desk, why(&error)));
        }
        said?;
        self.keep(&cipher[pumped.used..]);
        if self.inbound.len() > INBOUND_BYTES_MAX {
            return Err(self.fail(desk, TlsFailed::Malformed));
        }
        Ok(taken)
    }

    /// The first record: false where it is not whole yet, or must wait for its turn.
    fn begin(&mut self, desk: &mut Desk, cipher: &[u8]) -> Result<bool, Errno> {
        if cipher[0].is_ascii_uppercase() {
            self.answer_in_the_clear(desk);
            return Err(self.fail(desk, TlsFailed::NotTls));
        }
        if !first_record_is_whole(cipher) {
            return Ok(false);
        }
        if !desk.may_begin(self.put_off) {
            self.put_off = true;
            return Ok(false);
        }
        // What came while it waited has had its edge.
        self.more |= self.put_off;
        self.put_off = false;
        let session = desk.config().and_then(|config| UnbufferedServerConnection::new(config).ok());
        let Some(session) = session else { return Err(self.fail(desk, TlsFailed::Other)) };
        self.stage = Stage::Session(Box::new(session));
        Ok(true)
    }

    /// Notes once that the hand-shake is complete.
    fn complete(&mut self, desk: &mut Desk) {
        let Stage::Session(session) = &self.stage else { return };
        if self.complete || session.is_handshaking() {
            return;
        }
        self.complete = true;
        match session.handshake_kind() {
            Some(HandshakeKind::Resumed) => desk.counts.resumed += 1,
            _ => desk.counts.full += 1,
        }
        desk.counts.early += u64::from(self.early);
    }

    fn keep(&mut self, rest: &[u8]) {
        self.inbound.clear();
        match rest.is_empty() {
            true => shed(&mut self.inbound),
            false => {
                self.inbound.reserve_exact(rest.len());
                self.inbound.extend_from_slice(rest);
            }
        }
    }

    /// Whoever speaks HTTP to a TLS port is told, in the words that he understands.
    fn answer_in_the_clear(&mut self, desk: &mut Desk) {
        desk.out.clear();
        Refusal::BadRequest("this port speaks TLS: use wss:// or https://").write(&mut desk.out);
        let _ = self.send(desk);
    }

    fn fail(&mut self, desk: &mut Desk, why: TlsFailed) -> Errno {
        desk.failed(why);
        self.stage = Stage::Over;
        (self.inbound, self.plain) = (Vec::new(), Vec::new());
        (self.put_off, self.more, self.ended) = (false, false, false);
        Errno::PROTO
    }

    /// Bytes behind the end, for whoever drops them within his bound.
    fn drop_some(&mut self, desk: &mut Desk, sink: Sink<'_>) -> Result<usize, Errno> {
        let mut cipher = desk.lend();
        let n = self.socket.read(&mut cipher[..READ_BYTES_MIN]);
        let n = n.map(|n| sink(&cipher[..n]));
        desk.give_back(cipher);
        // No edge will come for what a full read left.
        self.more = n == Ok(READ_BYTES_MIN);
        n
    }

    /// Tells the shard what changed in the bytes kept.
    fn count(&mut self, desk: &mut Desk) {
        let now = self.inbound.capacity() + self.plain.capacity() + self.outbound.capacity();
        desk.held_bytes = desk.held_bytes + now - self.counted;
        self.counted = now;
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let mut desk = self.desk.borrow_mut();
        desk.held_bytes -= self.counted;
        let began = matches!(self.stage, Stage::Session(_)) || !self.inbound.is_empty();
        if began && !self.complete {
            desk.failed(TlsFailed::Unfinished);
        }
    }
}

impl Source for Tls {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let room = into.len();
        let mut at = 0;
        let mut sink = |bytes: &[u8]| {
            let n = bytes.len().min(room - at);
            into[at..at + n].copy_from_slice(&bytes[..n]);
            at += n;
            n
        };
        self.at_desk(|tls, desk| tls.fill(desk, room, &mut sink))
    }

    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        let room = into.capacity() - into.len();
        let mut sink = |bytes: &[u8]| {
            let n = bytes.len().min(into.capacity() - into.len());
            into.extend_from_slice(&bytes[..n]);
            n
        };
        self.at_desk(|tls, desk| tls.fill(desk, room, &mut sink))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.at_desk(|tls, desk| tls.write_some(desk, bytes))
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.at_desk(|tls, desk| tls.write_gathered(desk, slices))
    }

    fn peek(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        self.socket.peek(into)
    }

    fn take_peeked(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        self.socket.take_peeked(into)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.socket.peer()
    }

    fn shutdown_write(&mut self) {
        self.at_desk(|tls, desk| tls.close(desk));
        self.socket.shutdown_write();
    }

    fn more_inside(&self) -> bool {
        self.put_off || self.more || (!self.plain.is_empty() && self.ripe() > 0)
    }

    fn wants_write(&self) -> bool {
        !self.outbound.is_empty()
    }

    fn push(&mut self) -> Result<(), Errno> {
        self.at_desk(|tls, _| tls.flush())
    }
}

/// An empty buffer is given back.
fn shed(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > 0 {
        *buffer = Vec::new();
    }
}

fn first_line(head: &[u8]) -> &[u8] {
    head.split(|&byte| byte == b'\r').next().unwrap_or_default()
}

/// True also for what cannot be a first record at all: it is for rustls to judge.
fn first_record_is_whole(cipher: &[u8]) -> bool {
    match cipher {
        [HANDSHAKE_RECORD, 3, _, high, low, ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            length > READ_BYTES_MIN || cipher.len() >= RECORD_HEADER_BYTES + length
        }
        [HANDSHAKE_RECORD] | [HANDSHAKE_RECORD, 3] | [HANDSHAKE_RECORD, 3, _] | [HANDSHAKE_RECORD, 3, _, _] => false,
        _ => true,
    }
}

/// What an error of the session counts as.
fn why(error: &rustls::Error) -> TlsFailed {
    match error {
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerSentOversizedRecord
        | rustls::Error::PeerMisbehaved(_) => TlsFailed::Malformed,
        rustls::Error::PeerIncompatible(_) => TlsFailed::Incompatible,
        rustls::Error::NoApplicationProtocol => TlsFailed::Protocol,
        rustls::Error::AlertReceived(_) => TlsFailed::Alert,
        rustls::Error::DecryptError => TlsFailed::Decrypt,
        _ => TlsFailed::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_record_waits_for_its_end_and_garbage_for_nothing() {
        let record = [22, 3, 1, 0, 2, 1, 0];
        for cut in 1..record.len() {
            assert!(!first_record_is_whole(&record[..cut]), "{cut}");
        }
        assert!(first_record_is_whole(&record));
        assert!(first_record_is_whole(&[22, 3, 1, 0, 2, 1, 0, 22]));
        for garbage in [&[0][..], &[22, 2], &[22, 3, 1, 0xff, 0xff]] {
            assert!(first_record_is_whole(garbage), "{garbage:?}");
        }
    }
}
