//! The state that all TLS connections of a shard share: the configuration, the buffers, the budget of handshakes, the
//! counts.

use std::mem;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::engine::log_ring::LogRecord;
use crate::engine::stats::{TlsCounts, TlsFailed};
use crate::engine::timer_wheel::Millis;

/// Bytes of the buffer that ciphertext is received into.
pub(crate) const CIPHER_BYTES: usize = 128 * 1024;
/// How often a shard logs failed handshakes, at most.
const LOG_INTERVAL: Millis = 1000;

/// Whether a connection asks for its handshake for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    First,
    Again,
}

/// What the TLS connections of a shard share.
#[derive(Default)]
pub struct TlsShared {
    config: Option<Arc<ServerConfig>>,
    /// Made with the first connection; empty while lent.
    cipher: Box<[u8]>,
    /// Ciphertext that is about to be sent.
    pub(crate) out: Vec<u8>,
    /// Plaintext slices on their way into records.
    pub(crate) gathered: Vec<u8>,
    /// Handshakes that may still begin in this turn.
    left: u32,
    /// Connections that were deferred in the last turn and have not tried again since.
    owed: u32,
    /// Connections that were deferred in this turn.
    deferred: u32,
    pub(crate) counts: TlsCounts,
    /// Bytes that connections keep: incomplete records, and what readers or peers did not take.
    pub(crate) held_bytes: usize,
    /// Failures since the last log record, and the reason of the last one.
    failures: u32,
    last_failure: Option<TlsFailed>,
    /// When the next record may be written.
    log_at: Millis,
}

impl TlsShared {
    pub fn new(config: Option<Arc<ServerConfig>>) -> Self {
        Self { config, ..Self::default() }
    }

    /// New connections get these certificates, tickets and rules.
    pub fn set_config(&mut self, config: Arc<ServerConfig>) {
        self.config = Some(config);
    }

    pub(crate) fn config(&self) -> Option<Arc<ServerConfig>> {
        self.config.clone()
    }

    /// So many handshakes may begin in this turn.
    pub fn begin_turn(&mut self, handshakes: u32) {
        self.left = handshakes;
        self.owed = mem::take(&mut self.deferred);
    }

    /// Whether a connection may have its handshake in this turn. Deferred ones go before new ones.
    pub(crate) fn may_begin(&mut self, tries: Tries) -> bool {
        let again = tries == Tries::Again;
        self.owed -= u32::from(again && self.owed > 0);
        let may = self.left > if again { 0 } else { self.owed };
        if may {
            self.left -= 1;
        } else {
            self.deferred += 1;
            self.counts.put_off += u64::from(!again);
        }
        may
    }

    /// The buffer for ciphertext, until `give_back`.
    pub(crate) fn lend(&mut self) -> Box<[u8]> {
        match self.cipher.is_empty() {
            true => vec![0; CIPHER_BYTES].into_boxed_slice(),
            false => mem::take(&mut self.cipher),
        }
    }

    pub(crate) fn give_back(&mut self, cipher: Box<[u8]>) {
        self.cipher = cipher;
    }

    /// A handshake or a session failed.
    pub(crate) fn failed(&mut self, why: TlsFailed) {
        self.counts.failed[why as usize] += 1;
        self.failures += 1;
        self.last_failure = Some(why);
    }

    /// The log record of failures, not more often than `LOG_INTERVAL`.
    pub fn log_record(&mut self, now: Millis) -> Option<LogRecord> {
        let why = self.last_failure.filter(|_| now >= self.log_at)?;
        self.log_at = now + LOG_INTERVAL;
        self.last_failure = None;
        Some(LogRecord::TlsFailed { count: mem::take(&mut self.failures), why })
    }

    /// The counts, and the bytes that are kept.
    pub fn figures(&self) -> (TlsCounts, u64) {
        (self.counts.clone(), self.held_bytes as u64)
    }
}

/// The capacity that a shared buffer may keep between two uses.
const KEPT_BYTES_MAX: usize = 128 * 1024;

/// Frees what one long certificate chain needed.
pub(crate) fn shrink(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT_BYTES_MAX {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferred_handshakes_go_first_and_closed_ones_are_not_waited_for() {
        let mut shared = TlsShared::default();
        shared.begin_turn(2);
        assert_eq!([Tries::First; 4].map(|tries| shared.may_begin(tries)), [true, true, false, false]);
        shared.begin_turn(2);
        assert!(!shared.may_begin(Tries::First), "both places are owed");
        assert!(shared.may_begin(Tries::Again) && shared.may_begin(Tries::Again) && !shared.may_begin(Tries::Again));
        shared.begin_turn(3);
        assert!(shared.may_begin(Tries::First), "two are owed, one is free");
        // Both deferred connections have closed: the next turn owes nothing.
        shared.begin_turn(1);
        assert!(shared.may_begin(Tries::First));
    }

    #[test]
    fn failures_are_logged_together() {
        let mut shared = TlsShared::default();
        assert!(shared.log_record(0).is_none());
        shared.failed(TlsFailed::Malformed);
        assert!(matches!(shared.log_record(0), Some(LogRecord::TlsFailed { count: 1, why: TlsFailed::Malformed })));
        (0..3).for_each(|_| shared.failed(TlsFailed::NotTls));
        assert!(shared.log_record(LOG_INTERVAL - 1).is_none());
        assert!(matches!(
            shared.log_record(LOG_INTERVAL),
            Some(LogRecord::TlsFailed { count: 3, why: TlsFailed::NotTls })
        ));
    }
}
