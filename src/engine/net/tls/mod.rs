//! TLS as a byte source: the state machine is rustls', the buffers are the shard's.
//!
//! ```text
//! New ──a whole first record, within the turn's budget of handshakes──► Session ──a failure, our close──► Over
//!   └──not TLS: answered in the clear─────────────────────────────────────────────────────────────────► Over
//! ```
//!
//! An idle connection owns its keys and no buffer. Ciphertext is received into the shard's one buffer, and only the beginning
//! of an incomplete record is kept. Plaintext leaves in records that are as full as the data allows. Ciphertext is kept only
//! if the socket did not take all of it: at most a batch, since nothing more is encrypted while some waits.
//!
//! Early data (RFC 8446, section 2.3), where it is allowed at all, may be a replay. Only a request head without a query is
//! passed on before the handshake is complete: it can do no more than open the connection. The rest waits for completion.

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

pub use shared::TlsShared;
use shared::{CIPHER_BYTES, Tries};

use super::source::{Plain, Source};
use crate::engine::stats::TlsFailed;
use crate::ws::Refusal;

/// The smallest read of the socket: a whole record (RFC 8446, section 5.2) with its header.
const READ_BYTES_MIN: usize = 17 * 1024;
/// Ciphertext that may be kept until its rest comes: a record, or a handshake message in several.
const INBOUND_BYTES_MAX: usize = 34 * 1024;
/// Reads without plaintext, after which other connections are served first.
const DRY_READS_MAX: usize = 4;
/// The header of a record: type, version, length (RFC 8446, section 5.1).
const RECORD_HEADER_BYTES: usize = 5;
const HANDSHAKE_RECORD: u8 = 22;

enum Stage {
    /// Nothing was handled yet: a silent connection costs nothing.
    New,
    Session(Box<UnbufferedServerConnection>),
    /// Everything is sent. Bytes that still arrive are read and dropped by the shard.
    Over,
}

pub struct Tls {
    socket: Plain,
    shared: Rc<RefCell<TlsShared>>,
    stage: Stage,
    /// Ciphertext whose rest is missing, or that waits for a later turn.
    inbound: Vec<u8>,
    /// Plaintext that the reader had no room for, or must not get yet.
    plain: Vec<u8>,
    /// Ciphertext that the socket did not take.
    outbound: Vec<u8>,
    /// Bytes of these three buffers that the shard has counted.
    counted: usize,
    /// The socket may have more: it filled what was offered.
    more: bool,
    /// The first record is whole, and the turn had no handshake left for it.
    deferred: bool,
    /// The handshake is complete, and counted.
    complete: bool,
    /// Early data came.
    early: bool,
    /// The request head of early data has been passed on.
    head_passed: bool,
    /// The peer sent close_notify, or its side ended.
    ended: bool,
}

/// Where plaintext goes. Returns how much of it was taken.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> usize;

impl Tls {
    pub fn new(socket: Plain, shared: Rc<RefCell<TlsShared>>) -> Self {
        Self {
            socket,
            shared,
            stage: Stage::New,
            inbound: Vec::new(),
            plain: Vec::new(),
            outbound: Vec::new(),
            counted: 0,
            more: false,
            deferred: false,
            complete: false,
            early: false,
            head_passed: false,
            ended: false,
        }
    }

    /// Calls `act` with what the connections of the shard share, and counts the bytes that are kept after it.
    fn with_shared<T>(&mut self, act: impl FnOnce(&mut Self, &mut TlsShared) -> T) -> T {
        let shared = Rc::clone(&self.shared);
        let mut shared = shared.borrow_mut();
        let result = act(self, &mut shared);
        self.count(&mut shared);
        result
    }

    /// Plaintext that waits, else what one read of the socket brings.
    fn fill(&mut self, shared: &mut TlsShared, room: usize, sink: Sink<'_>) -> Result<usize, Errno> {
        if matches!(self.stage, Stage::Over) {
            return self.read_raw(shared, sink);
        }
        for _ in 0..DRY_READS_MAX {
            let readable = self.readable_bytes();
            if readable > 0 {
                let n = sink(&self.plain[..readable]);
                self.plain.drain(..n);
                self.head_passed |= !self.complete;
                free_if_empty(&mut self.plain);
                return Ok(n);
            }
            if self.ended {
                return Ok(0);
            }
            let got = self.receive(shared, room, sink)?;
            if got > 0 {
                return Ok(got);
            }
            if !self.more && self.readable_bytes() == 0 && !self.ended {
                return Err(Errno::AGAIN);
            }
        }
        Err(Errno::AGAIN)
    }

    /// How much of the waiting plaintext may be passed on.
    fn readable_bytes(&self) -> usize {
        if self.complete {
            return self.plain.len();
        }
        let end = |head: &[u8]| memchr::memmem::find(head, b"\r\n\r\n").map(|at| at + 4);
        match end(&self.plain) {
            Some(end) if !self.head_passed && !first_line(&self.plain[..end]).contains(&b'?') => end,
            _ => 0,
        }
    }

    /// One read of the socket, handled. Returns the plaintext that `sink` took.
    fn receive(&mut self, shared: &mut TlsShared, room: usize, sink: Sink<'_>) -> Result<usize, Errno> {
        let have = self.inbound.len();
        let mut cipher = shared.lend();
        cipher[..have].copy_from_slice(&self.inbound);
        let want = room.clamp(READ_BYTES_MIN, CIPHER_BYTES - have);
        let result = match self.deferred {
            // The kept bytes begin with a whole record. Nothing more is read until that is handled.
            true => self.handle(shared, &mut cipher[..have], sink),
            false => match self.socket.read(&mut cipher[have..have + want]) {
                Ok(0) => {
                    self.ended = true;
                    Ok(0)
                }
                Ok(n) => {
                    self.more = n == want;
                    self.handle(shared, &mut cipher[..have + n], sink)
                }
                Err(error) => {
                    self.more = false;
                    Err(error)
                }
            },
        };
        shared.give_back(cipher);
        result
    }

    /// Handles ciphertext that begins at a record, and keeps the rest.
    fn handle(&mut self, shared: &mut TlsShared, cipher: &mut [u8], sink: Sink<'_>) -> Result<usize, Errno> {
        if matches!(self.stage, Stage::New) && !self.begin(shared, cipher)? {
            self.keep(cipher);
            return if self.deferred { Err(Errno::AGAIN) } else { Ok(0) };
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
        shared.out.clear();
        let pumped = pump::pump(session, cipher, &mut take, &mut shared.out);
        self.ended |= pumped.closed;
        self.complete(shared);
        let sent = self.send(shared);
        if let Some(error) = pumped.error {
            return Err(self.fail(shared, failure(&error)));
        }
        sent?;
        self.keep(&cipher[pumped.used..]);
        if self.inbound.len() > INBOUND_BYTES_MAX {
            return Err(self.fail(shared, TlsFailed::Malformed));
        }
        Ok(taken)
    }

    /// The first record. False if it is not whole yet, or must wait for a later turn.
    fn begin(&mut self, shared: &mut TlsShared, cipher: &[u8]) -> Result<bool, Errno> {
        if cipher[0].is_ascii_uppercase() {
            self.answer_in_the_clear(shared);
            return Err(self.fail(shared, TlsFailed::NotTls));
        }
        if !first_record_is_whole(cipher) {
            return Ok(false);
        }
        let tries = if self.deferred { Tries::Again } else { Tries::First };
        if !shared.may_begin(tries) {
            self.deferred = true;
            return Ok(false);
        }
        // The edge for bytes that arrived since then has passed.
        self.more |= self.deferred;
        self.deferred = false;
        let session = shared.config().and_then(|config| UnbufferedServerConnection::new(config).ok());
        let Some(session) = session else { return Err(self.fail(shared, TlsFailed::Other)) };
        self.stage = Stage::Session(Box::new(session));
        Ok(true)
    }

    /// Counts the completed handshake, once.
    fn complete(&mut self, shared: &mut TlsShared) {
        let Stage::Session(session) = &self.stage else { return };
        if self.complete || session.is_handshaking() {
            return;
        }
        self.complete = true;
        match session.handshake_kind() {
            Some(HandshakeKind::Resumed) => shared.counts.resumed += 1,
            _ => shared.counts.full += 1,
        }
        shared.counts.early += u64::from(self.early);
    }

    fn keep(&mut self, rest: &[u8]) {
        self.inbound.clear();
        match rest.is_empty() {
            true => free_if_empty(&mut self.inbound),
            false => {
                self.inbound.reserve_exact(rest.len());
                self.inbound.extend_from_slice(rest);
            }
        }
    }

    /// A client that speaks HTTP to a TLS port gets an HTTP response.
    fn answer_in_the_clear(&mut self, shared: &mut TlsShared) {
        shared.out.clear();
        Refusal::BadRequest("this port speaks TLS: use wss:// or https://").write(&mut shared.out);
        let _ = self.send(shared);
    }

    fn fail(&mut self, shared: &mut TlsShared, why: TlsFailed) -> Errno {
        shared.failed(why);
        self.stage = Stage::Over;
        (self.inbound, self.plain) = (Vec::new(), Vec::new());
        (self.deferred, self.more, self.ended) = (false, false, false);
        Errno::PROTO
    }

    /// Bytes after the end, which the shard drops within its bound.
    fn read_raw(&mut self, shared: &mut TlsShared, sink: Sink<'_>) -> Result<usize, Errno> {
        let mut cipher = shared.lend();
        let n = self.socket.read(&mut cipher[..READ_BYTES_MIN]);
        let n = n.map(|n| sink(&cipher[..n]));
        shared.give_back(cipher);
        // No edge will come for what a full read left.
        self.more = n == Ok(READ_BYTES_MIN);
        n
    }

    /// Counts what changed in the bytes kept.
    fn count(&mut self, shared: &mut TlsShared) {
        let now = self.inbound.capacity() + self.plain.capacity() + self.outbound.capacity();
        shared.held_bytes = shared.held_bytes + now - self.counted;
        self.counted = now;
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.held_bytes -= self.counted;
        let began = matches!(self.stage, Stage::Session(_)) || !self.inbound.is_empty();
        if began && !self.complete {
            shared.failed(TlsFailed::Unfinished);
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
        self.with_shared(|tls, shared| tls.fill(shared, room, &mut sink))
    }

    fn read_spare(&mut self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        let room = into.capacity() - into.len();
        let mut sink = |bytes: &[u8]| {
            let n = bytes.len().min(into.capacity() - into.len());
            into.extend_from_slice(&bytes[..n]);
            n
        };
        self.with_shared(|tls, shared| tls.fill(shared, room, &mut sink))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.with_shared(|tls, shared| tls.write_some(shared, bytes))
    }

    fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.with_shared(|tls, shared| tls.write_gathered(shared, slices))
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
        self.with_shared(|tls, shared| tls.close(shared));
        self.socket.shutdown_write();
    }

    fn more_inside(&self) -> bool {
        self.deferred || self.more || (!self.plain.is_empty() && self.readable_bytes() > 0)
    }

    fn wants_write(&self) -> bool {
        !self.outbound.is_empty()
    }

    fn push(&mut self) -> Result<(), Errno> {
        self.with_shared(|tls, _| tls.flush())
    }
}

/// Frees an empty buffer.
pub(super) fn free_if_empty(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > 0 {
        *buffer = Vec::new();
    }
}

fn first_line(head: &[u8]) -> &[u8] {
    head.split(|&byte| byte == b'\r').next().unwrap_or_default()
}

/// True also for bytes that cannot be a first record: rustls judges them.
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
fn failure(error: &rustls::Error) -> TlsFailed {
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
    fn first_record_waits_for_its_end_and_garbage_does_not() {
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
