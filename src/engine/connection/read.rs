//! Bytes in: one read per readiness into the shard's one buffer, all frames of it handled in place (`handle`).
//!
//! What cannot be used yet is spilled into a buffer of the connection's own, which is freed on completion. A short spill is
//! copied in front of the next read; a long frame is read straight into its spill. Whoever's app could not take a message
//! whole is not read: the rest is spilled, and offered again.

use std::mem;

use rustix::io::Errno;

use super::state::{Edges, Phase, Spill};
use crate::engine::net::source::Source;
use crate::engine::stats::Closed;
use crate::engine::{App, Shard};
use crate::ids::ConnId;
use crate::ws::Decoder;

/// Spills up to this are copied in front of the next read; longer ones are read into.
const SPILL_COPY_BYTES_MAX: usize = 4 * 1024;

/// What one read said.
enum Got {
    Bytes {
        n: usize,
        short: bool,
    },
    End,
    Nothing,
    /// The peer broke what lies below the bytes, and was told.
    Refused,
    Broken,
}

impl<A: App, S: Source> Shard<A, S> {
    /// Reads a connection until it is drained, stalled, ended, or its budget is spent.
    pub(crate) fn read(&mut self, slot: u32) {
        if self.conn(slot).phase == Phase::Proxied && !self.take_proxy_header(slot) {
            return;
        }
        let mut budget = self.cx.limits.read_bytes_per_turn;
        loop {
            let conn = &self.cx.conns[slot as usize];
            if !conn.edges.has(Edges::READABLE | Edges::READ_CLOSED)
                || conn.edges.has(Edges::STALLED | Edges::RESTING | Edges::ENDED | Edges::CLOSE_ASKED)
                || conn.phase == Phase::Dead
            {
                return;
            }
            let got = self.read_once(slot);
            self.mind_inside(slot);
            let conn = &mut self.cx.conns[slot as usize];
            match got {
                Got::Bytes { n, short } => {
                    let rests = self.rest_after(slot, n);
                    let conn = &mut self.cx.conns[slot as usize];
                    let inside = self.sources[slot as usize].as_ref().is_some_and(Source::more_inside);
                    if short && !conn.edges.has(Edges::READ_CLOSED) && !inside {
                        conn.edges.clear(Edges::READABLE);
                        return;
                    }
                    if rests {
                        return;
                    }
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        return self.stand_ready(slot);
                    }
                }
                Got::Nothing if self.sources[slot as usize].as_ref().is_some_and(Source::more_inside) => {
                    return self.stand_ready(slot);
                }
                Got::Nothing => return conn.edges.clear(Edges::READABLE),
                Got::End => return self.ended(slot),
                Got::Refused => return self.refused_below(slot),
                Got::Broken => return self.die(slot, Closed::Reset),
            }
        }
    }

    /// Puts the connection where the next turn looks at it.
    pub(crate) fn stand_ready(&mut self, slot: u32) {
        let id = self.id(slot);
        let edges = &mut self.conn(slot).edges;
        if !edges.has(Edges::IN_READY) {
            edges.set(Edges::IN_READY);
            self.ready.push_back(id);
        }
    }

    fn read_once(&mut self, slot: u32) -> Got {
        self.cx.counters.reads += 1;
        let spill = self.take_spill(slot);
        match spill {
            Some(spill) if spill.frame_bytes > SPILL_COPY_BYTES_MAX && spill.bytes.len() < spill.frame_bytes => {
                self.read_into_spill(slot, *spill)
            }
            spill => self.read_into_shared(slot, spill),
        }
    }

    fn read_into_shared(&mut self, slot: u32, spill: Option<Box<Spill>>) -> Got {
        let mut receive = mem::take(&mut self.receive);
        let before = spill.as_ref().map_or(0, |spill| spill.bytes.len());
        debug_assert!(before < receive.len(), "only a stalled connection keeps more, and it is not read");
        if let Some(spill) = &spill {
            receive[..before].copy_from_slice(&spill.bytes);
        }
        let room = receive.len() - before;
        let got = self.sources[slot as usize].as_mut().map_or(Err(Errno::BADF), |s| s.read(&mut receive[before..]));
        let got = self.got(got, room);
        if let Got::Bytes { n, .. } = got {
            drop(spill);
            self.take_bytes(slot, &mut receive[..before + n]);
        } else if let Some(spill) = spill {
            self.put_spill(slot, *spill);
        }
        self.receive = receive;
        got
    }

    /// A long frame: its bytes go where they stay. The buffer grows with what arrives, not with what was announced.
    fn read_into_spill(&mut self, slot: u32, mut spill: Spill) -> Got {
        let have = spill.bytes.len();
        if spill.bytes.capacity() == have {
            let more = have.max(4 * SPILL_COPY_BYTES_MAX).min(spill.frame_bytes - have);
            spill.bytes.reserve_exact(more);
        }
        let room = spill.bytes.capacity() - have;
        let got = self.sources[slot as usize].as_mut().map_or(Err(Errno::BADF), |s| s.read_spare(&mut spill.bytes));
        let got = self.got(got, room);
        if let Got::Bytes { .. } = got {
            let mut bytes = spill.bytes;
            let length = bytes.len();
            let (consumed, need) = self.handle(slot, &mut bytes);
            if consumed == 0 {
                self.keep_rest(slot, bytes, need);
            } else if consumed < length {
                bytes.drain(..consumed);
                self.keep_rest(slot, bytes, need);
            }
        } else {
            self.put_spill(slot, spill);
        }
        got
    }

    fn got(&mut self, result: Result<usize, Errno>, room: usize) -> Got {
        match result {
            Ok(0) => Got::End,
            Ok(n) => {
                self.cx.counters.bytes_in += n as u64;
                Got::Bytes { n, short: n < room }
            }
            Err(Errno::AGAIN) => Got::Nothing,
            Err(Errno::PROTO) => Got::Refused,
            Err(_) => Got::Broken,
        }
    }

    /// Handles what is in the shared buffer, and keeps the rest.
    fn take_bytes(&mut self, slot: u32, bytes: &mut [u8]) {
        let (consumed, need) = self.handle(slot, bytes);
        if consumed < bytes.len() {
            self.keep_rest(slot, bytes[consumed..].to_vec(), need);
        }
    }

    /// Spills raw bytes, behind the rest of a stalled message if there is one.
    fn keep_rest(&mut self, slot: u32, bytes: Vec<u8>, frame_bytes: usize) {
        match self.take_spill(slot) {
            Some(mut stalled) => {
                stalled.bytes.extend_from_slice(&bytes);
                self.put_spill(slot, *stalled);
            }
            None if matches!(self.conn(slot).phase, Phase::Upgrading | Phase::Open | Phase::Closing) => {
                self.put_spill(slot, Spill { bytes, frame_bytes, rest: 0, text: false });
            }
            None => {}
        }
    }

    pub(crate) fn take_spill(&mut self, slot: u32) -> Option<Box<Spill>> {
        let spill = self.conn(slot).spill.take()?;
        self.cx.spill_bytes -= spill.bytes.capacity();
        Some(spill)
    }

    pub(crate) fn put_spill(&mut self, slot: u32, spill: Spill) {
        self.cx.spill_bytes += spill.bytes.capacity();
        self.conn(slot).spill = Some(Box::new(spill));
    }

    /// The rest of a message that its app could not take now.
    pub(crate) fn stall(&mut self, id: ConnId, text: bool, rest: &[u8]) {
        self.put_spill(id.slot, Spill { bytes: rest.to_vec(), frame_bytes: 0, rest: rest.len(), text });
        self.conn(id.slot).edges.set(Edges::STALLED);
    }

    /// Offers stalled connections the rest of their message again, and goes on with what was behind it.
    pub(crate) fn resume_stalled(&mut self) {
        self.stalled.append(&mut self.cx.resumed);
        for id in mem::take(&mut self.stalled) {
            if self.cx.conn_at(id.slot) == Some(id) && self.conn(id.slot).edges.has(Edges::STALLED) {
                self.resume(id.slot);
            }
        }
    }

    fn resume(&mut self, slot: u32) {
        self.conn(slot).edges.clear(Edges::STALLED);
        let Some(spill) = self.take_spill(slot) else { return };
        let Spill { mut bytes, rest, text, .. } = *spill;
        self.cx.current = Some(slot);
        let (message, raw) = bytes.split_at_mut(rest);
        if self.conn(slot).phase == Phase::Open && !message.is_empty() {
            let id = self.id(slot);
            self.message(id, text, message, false);
        }
        self.cx.current = None;
        self.send_burst(slot);
        if self.conn(slot).edges.has(Edges::STALLED | Edges::CLOSE_ASKED) {
            let raw = raw.to_vec();
            return self.keep_rest(slot, raw, 0);
        }
        if !raw.is_empty() && self.conn(slot).phase != Phase::Dead {
            self.take_bytes(slot, raw);
        }
        if !self.conn(slot).edges.has(Edges::STALLED) {
            self.read(slot);
        }
    }

    /// Handles what was spilled before a close of ours: the peer's own close may be in it.
    pub(crate) fn revisit_spill(&mut self, slot: u32) {
        self.conn(slot).edges.clear(Edges::STALLED);
        if let Some(mut spill) = self.take_spill(slot) {
            let rest = spill.rest;
            self.take_bytes(slot, &mut spill.bytes[rest..]);
        }
    }

    /// The decoder of a connection that is gone is dropped with what it held.
    pub(crate) fn forget_input(&mut self, slot: u32) {
        drop(self.take_spill(slot));
        self.conn(slot).decoder = Decoder::new();
    }
}
