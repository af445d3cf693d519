//! Encrypts plaintext into records and writes them to the socket. Ciphertext that the socket does not accept is kept:
//! at most a batch, since nothing more is encrypted while some waits.

use std::io::IoSlice;
use std::mem;

use rustix::io::Errno;

use super::shared::{TlsShared, shrink};
use super::{Stage, Tls, free_if_empty, pump};
use crate::engine::net::source::Source;

/// Plaintext that is encrypted at a time: four full records. So much may wait for a slow peer beyond its backlog.
const BATCH_BYTES: usize = 64 * 1024;

impl Tls {
    pub(crate) fn write_some(&mut self, shared: &mut TlsShared, bytes: &[u8]) -> Result<usize, Errno> {
        self.flush()?;
        let mut taken = 0;
        while taken < bytes.len() {
            let batch = &bytes[taken..bytes.len().min(taken + BATCH_BYTES)];
            let Stage::Session(session) = &mut self.stage else {
                return Err(if matches!(self.stage, Stage::Over) { Errno::PIPE } else { Errno::AGAIN });
            };
            shared.out.clear();
            let inbound = pump::Partial(&mut self.inbound);
            if !pump::encrypt(session, inbound, batch, &mut shared.out)? {
                return Err(Errno::AGAIN);
            }
            taken += batch.len();
            self.send(shared)?;
            if self.wants_write() {
                return if taken == bytes.len() { Err(Errno::INPROGRESS) } else { Ok(taken) };
            }
        }
        Ok(taken)
    }

    pub(crate) fn write_gathered(&mut self, shared: &mut TlsShared, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let (mut taken, mut last) = (0, Ok(0));
        let mut gathered = mem::take(&mut shared.gathered);
        let mut slices = slices.iter().filter(|slice| !slice.is_empty()).peekable();
        while let Some(slice) = slices.next() {
            gathered.extend_from_slice(slice);
            if gathered.len() < BATCH_BYTES && slices.peek().is_some() {
                continue;
            }
            last = self.write_some(shared, &gathered);
            let whole = last == Ok(gathered.len());
            taken += if whole || last == Err(Errno::INPROGRESS) { gathered.len() } else { last.unwrap_or(0) };
            gathered.clear();
            if !whole {
                break;
            }
        }
        let all = slices.next().is_none();
        gathered.clear();
        shrink(&mut gathered);
        shared.gathered = gathered;
        match last {
            Err(Errno::INPROGRESS) if all => Err(Errno::INPROGRESS),
            Err(error) if taken == 0 => Err(error),
            _ => Ok(taken),
        }
    }

    /// Sends what waits. Errors: `AGAIN` if some still does.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        while !self.outbound.is_empty() {
            let n = self.socket.write(&self.outbound)?;
            self.outbound.drain(..n);
        }
        free_if_empty(&mut self.outbound);
        Ok(())
    }

    /// Sends `shared.out` behind what waits; what the socket does not take waits.
    pub(crate) fn send(&mut self, shared: &mut TlsShared) -> Result<(), Errno> {
        let mut sent = 0;
        if self.flush().is_ok() && !shared.out.is_empty() {
            sent = match self.socket.write(&shared.out) {
                Err(Errno::AGAIN) => 0,
                sent => sent?,
            };
        }
        if sent < shared.out.len() {
            self.outbound.extend_from_slice(&shared.out[sent..]);
        }
        shrink(&mut shared.out);
        Ok(())
    }

    /// Sends close_notify (RFC 8446, section 6.1), if the socket takes it.
    pub(crate) fn close(&mut self, shared: &mut TlsShared) {
        shared.out.clear();
        if let Stage::Session(session) = &mut self.stage {
            pump::close(session, pump::Partial(&mut self.inbound), &mut shared.out);
            if self.flush().is_ok() {
                let _ = self.socket.write(&shared.out);
            }
        }
        self.outbound = Vec::new();
    }
}
