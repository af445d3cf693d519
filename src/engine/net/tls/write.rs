//! Plaintext into records and to the socket. What the socket does not take waits here, encrypted: at most a batch, since
//! nothing more is encrypted while some waits.

use std::io::IoSlice;
use std::mem;

use rustix::io::Errno;

use super::shared::{Desk, grow};
use super::{Stage, Tls, pump, shed};
use crate::engine::net::source::Source;

/// Plaintext that is encrypted at a time: four full records, which is what may wait for a slow peer beyond its backlog.
const BATCH_BYTES: usize = 64 * 1024;

impl Tls {
    pub(crate) fn write_some(&mut self, desk: &mut Desk, bytes: &[u8]) -> Result<usize, Errno> {
        self.flush()?;
        let mut taken = 0;
        while taken < bytes.len() {
            let batch = &bytes[taken..bytes.len().min(taken + BATCH_BYTES)];
            let Stage::Session(session) = &mut self.stage else {
                return Err(if matches!(self.stage, Stage::Over) { Errno::PIPE } else { Errno::AGAIN });
            };
            desk.out.clear();
            let inbound = pump::Partial(&mut self.inbound);
            if !pump::encrypt(session, inbound, batch, &mut desk.out)? {
                return Err(Errno::AGAIN);
            }
            taken += batch.len();
            self.send(desk)?;
            if self.wants_write() {
                return if taken == bytes.len() { Err(Errno::INPROGRESS) } else { Ok(taken) };
            }
        }
        Ok(taken)
    }

    pub(crate) fn write_gathered(&mut self, desk: &mut Desk, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let (mut taken, mut last) = (0, Ok(0));
        let mut gathered = mem::take(&mut desk.gathered);
        let mut slices = slices.iter().filter(|slice| !slice.is_empty()).peekable();
        while let Some(slice) = slices.next() {
            gathered.extend_from_slice(slice);
            if gathered.len() < BATCH_BYTES && slices.peek().is_some() {
                continue;
            }
            last = self.write_some(desk, &gathered);
            let whole = last == Ok(gathered.len());
            taken += if whole || last == Err(Errno::INPROGRESS) { gathered.len() } else { last.unwrap_or(0) };
            gathered.clear();
            if !whole {
                break;
            }
        }
        let all = slices.next().is_none();
        gathered.clear();
        grow::back(&mut gathered);
        desk.gathered = gathered;
        match last {
            Err(Errno::INPROGRESS) if all => Err(Errno::INPROGRESS),
            Err(error) if taken == 0 => Err(error),
            _ => Ok(taken),
        }
    }

    /// Sends what waits. Errors: `AGAIN` where some still does.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        while !self.outbound.is_empty() {
            let n = self.socket.write(&self.outbound)?;
            self.outbound.drain(..n);
        }
        shed(&mut self.outbound);
        Ok(())
    }

    /// Sends `desk.out` behind what waits; what the socket does not take waits.
    pub(crate) fn send(&mut self, desk: &mut Desk) -> Result<(), Errno> {
        let mut sent = 0;
        if self.flush().is_ok() && !desk.out.is_empty() {
            sent = match self.socket.write(&desk.out) {
                Err(Errno::AGAIN) => 0,
                sent => sent?,
            };
        }
        if sent < desk.out.len() {
            self.outbound.extend_from_slice(&desk.out[sent..]);
        }
        grow::back(&mut desk.out);
        Ok(())
    }

    /// close_notify (RFC 8446, section 6.1), where the socket takes it.
    pub(crate) fn close(&mut self, desk: &mut Desk) {
        desk.out.clear();
        if let Stage::Session(session) = &mut self.stage {
            pump::close(session, pump::Partial(&mut self.inbound), &mut desk.out);
            if self.flush().is_ok() {
                let _ = self.socket.write(&desk.out);
            }
        }
        self.outbound = Vec::new();
    }
}
