//! What the TLS connections of a shard have in common: the configuration, the buffers, the budget of hand-shakes, the counts.

use std::mem;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::engine::Millis;
use crate::engine::log_ring::LogRecord;
use crate::engine::stats::{TlsCounts, TlsFailed};

/// Bytes of the buffer that ciphertext is received into.
pub const CIPHER_BYTES: usize = 128 * 1024;
/// How often failed hand-shakes of a shard are told to the log, at most.
const NOTE_INTERVAL: Millis = 1000;

#[derive(Default)]
pub struct Desk {
    config: Option<Arc<ServerConfig>>,
    /// Made with the first connection; empty while lent.
    cipher: Box<[u8]>,
    /// What is about to be sent.
    pub(crate) out: Vec<u8>,
    /// Slices on their way into records.
    pub(crate) gathered: Vec<u8>,
    /// Hand-shakes that may still begin in this turn; how many connections were put off in the last turn and have not been
    /// looked at since, and how many in this one.
    left: u32,
    owed: u32,
    put_off: u32,
    pub(crate) counts: TlsCounts,
    /// Bytes that connections keep for want of a rest, of room, or of a peer that reads.
    pub(crate) held_bytes: usize,
    /// Failures since the last note, the last one's reason, and when the next note may be.
    failures: u32,
    failed_by: Option<TlsFailed>,
    note_at: Millis,
}

impl Desk {
    pub fn new(config: Option<Arc<ServerConfig>>) -> Self {
        Self { config, ..Self::default() }
    }

    /// Who connects from now on gets these certificates, tickets and rules.
    pub fn set_config(&mut self, config: Arc<ServerConfig>) {
        self.config = Some(config);
    }

    pub(crate) fn config(&self) -> Option<Arc<ServerConfig>> {
        self.config.clone()
    }

    pub fn begin_turn(&mut self, handshakes: u32) {
        self.left = handshakes;
        self.owed = mem::take(&mut self.put_off);
    }

    /// Whether a connection may have its hand-shake in this turn. Who was put off before goes before who comes.
    pub(crate) fn may_begin(&mut self, again: bool) -> bool {
        self.owed -= u32::from(again && self.owed > 0);
        let may = self.left > if again { 0 } else { self.owed };
        if may {
            self.left -= 1;
        } else {
            self.put_off += 1;
            self.counts.put_off += u64::from(!again);
        }
        may
    }

    pub(crate) fn lend(&mut self) -> Box<[u8]> {
        match self.cipher.is_empty() {
            true => vec![0; CIPHER_BYTES].into_boxed_slice(),
            false => mem::take(&mut self.cipher),
        }
    }

    pub(crate) fn give_back(&mut self, cipher: Box<[u8]>) {
        self.cipher = cipher;
    }

    pub(crate) fn failed(&mut self, why: TlsFailed) {
        self.counts.failed[why as usize] += 1;
        self.failures += 1;
        self.failed_by = Some(why);
    }

    /// What the log should know of failures: never more often than `NOTE_INTERVAL`.
    pub fn note(&mut self, now: Millis) -> Option<LogRecord> {
        let why = self.failed_by.filter(|_| now >= self.note_at)?;
        self.note_at = now + NOTE_INTERVAL;
        self.failed_by = None;
        Some(LogRecord::TlsFailed { count: mem::take(&mut self.failures), why })
    }

    /// The counts, and the bytes that are kept.
    pub fn figures(&self) -> (TlsCounts, u64) {
        (self.counts.clone(), self.held_bytes as u64)
    }
}

pub mod grow {
    /// What a shard's buffer may keep between two uses.
    const KEPT_BYTES_MAX: usize = 128 * 1024;

    /// What one long chain of certificates needed is not kept for ever.
    pub fn back(buffer: &mut Vec<u8>) {
        if buffer.capacity() > KEPT_BYTES_MAX {
            *buffer = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_put_off_goes_first_and_nobody_waits_for_the_dead() {
        let mut desk = Desk::default();
        desk.begin_turn(2);
        assert_eq!([false; 4].map(|again| desk.may_begin(again)), [true, true, false, false]);
        desk.begin_turn(2);
        assert!(!desk.may_begin(false), "both places are owed");
        assert!(desk.may_begin(true) && desk.may_begin(true) && !desk.may_begin(true));
        desk.begin_turn(3);
        assert!(desk.may_begin(false), "two are owed, one is free");
        // Both that were put off have died: the next turn owes nothing.
        desk.begin_turn(1);
        assert!(desk.may_begin(false));
    }

    #[test]
    fn failures_are_noted_together() {
        let mut desk = Desk::default();
        assert!(desk.note(0).is_none());
        desk.failed(TlsFailed::Malformed);
        assert!(matches!(desk.note(0), Some(LogRecord::TlsFailed { count: 1, why: TlsFailed::Malformed })));
        (0..3).for_each(|_| desk.failed(TlsFailed::NotTls));
        assert!(desk.note(NOTE_INTERVAL - 1).is_none());
        assert!(matches!(desk.note(NOTE_INTERVAL), Some(LogRecord::TlsFailed { count: 3, why: TlsFailed::NotTls })));
    }
}
