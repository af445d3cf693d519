//! Bytes in: one read per readiness into the shard's one buffer, all frames of it handled in place (`frames`).
//!
//! Bytes that cannot be used yet are spilled into a buffer of the connection, which is freed on completion. A short
//! spill is copied in front of the next read; a long frame is read directly into its spill. While the app cannot take a
//! whole message, the socket is not read: the rest of the message is spilled, and offered again.

use std::mem;

use rustix::io::Errno;

use super::frames::{Handled, Lies};
use super::state::{ConnFlags, Phase, SPILL_COPY_BYTES_MAX, Spill, WriteFlags};
use crate::engine::app::App;
use crate::engine::config::RECEIVE_BYTES;
use crate::engine::net::source::Source;
use crate::engine::shard::Shard;
use crate::engine::stats::Closed;
use crate::engine::turn_time::STEP_WORK;
use crate::ids::ConnId;
use crate::ws::encode::client_frame;
use crate::ws::{Decoder, Opcode};

/// While all spills of the shard are longer than this, a read takes less: a connection that is then put off keeps less.
const SPILLS_LARGE_BYTES: usize = 64 * 1024 * 1024;
const SMALL_READ_BYTES: usize = 16 * 1024;

/// The result of one read.
enum Got {
    Bytes {
        n: usize,
        short: bool,
    },
    End,
    Nothing,
    /// The peer violated the protocol below the bytes (TLS), and was notified.
    Refused,
    Broken,
}

impl<A: App, S: Source> Shard<A, S> {
    /// Reads a connection until it is drained, stalled, ended, or its budget is spent. One that is in a list of those to
    /// read waits for its place there.
    pub(crate) fn read(&mut self, slot: u32) {
        let mut budget = self.cx.config.read_bytes_per_turn;
        loop {
            const STOPS: ConnFlags = ConnFlags::STALLED
                .union(ConnFlags::RATE_LIMITED)
                .union(ConnFlags::READ_ENDED)
                .union(ConnFlags::CLOSE_REQUESTED)
                .union(ConnFlags::IN_READY)
                .union(ConnFlags::AWAITS_ANSWER)
                .union(ConnFlags::LAST_REPLIES);
            let conn = &self.cx.connections[slot];
            if !conn.flags.intersects(ConnFlags::READABLE.union(ConnFlags::READ_CLOSED))
                || conn.flags.intersects(STOPS)
                || conn.phase == Phase::Closed
            {
                return;
            }
            if conn.phase == Phase::ProxyHeader {
                if !self.take_proxy_header(slot) {
                    return;
                }
                continue;
            }
            // Nothing may follow the request of a stream: its further messages come by other connections.
            let drops = conn.phase == Phase::Open && conn.compression.is_stream();
            self.cx.counters.reads += 1;
            let got = match self.take_spill(slot) {
                Some(spill) if spill.frame_bytes > SPILL_COPY_BYTES_MAX && spill.bytes.len() < spill.frame_bytes => {
                    self.read_into_spill(slot, *spill)
                }
                spill => self.read_into_shared(slot, spill, drops),
            };
            self.want_push(slot);
            match got {
                Got::Bytes { n, short } => {
                    let must_rest = self.peers.exceeds_byte_rate(&mut self.cx, slot, n);
                    let inside = self.sockets.has_more_inside(slot);
                    let conn = &mut self.cx.connections[slot];
                    if short && !conn.flags.contains(ConnFlags::READ_CLOSED) && !inside {
                        conn.flags.remove(ConnFlags::READABLE);
                        return;
                    }
                    if must_rest {
                        return;
                    }
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        return self.read_behind_others(slot);
                    }
                }
                Got::Nothing if self.sockets.has_more_inside(slot) => return self.read_behind_others(slot),
                Got::Nothing => return self.conn(slot).flags.remove(ConnFlags::READABLE),
                Got::End => return self.read_ended(slot),
                Got::Refused => return self.refused_below(slot),
                Got::Broken => return self.close_socket(slot, Closed::Reset),
            }
        }
    }

    /// Reads the connection now, or after those that wait already.
    #[inline]
    pub(crate) fn read_in_order(&mut self, slot: u32) {
        if self.cx.time.reads_wait { self.read_later(slot) } else { self.read(slot) }
    }

    /// Puts the connection into the list of those that are read next, in this turn if there is time.
    pub(crate) fn read_later(&mut self, slot: u32) {
        if let Some(id) = self.enlist(slot) {
            self.ready.push_back(id);
        }
    }

    /// The connection has used up its share of the turn: the next turn reads it after all others.
    fn read_behind_others(&mut self, slot: u32) {
        if let Some(id) = self.enlist(slot) {
            self.spent.push_back(id);
        }
    }

    /// None if the connection is in a list already.
    fn enlist(&mut self, slot: u32) -> Option<ConnId> {
        let id = self.cx.connections.id(slot);
        let flags = &mut self.conn(slot).flags;
        let is_new = !flags.contains(ConnFlags::IN_READY);
        flags.insert(ConnFlags::IN_READY);
        is_new.then_some(id)
    }

    /// The rest of the bytes that were read, which the caller spills, is handled in a later turn, after all others.
    pub(crate) fn put_off(&mut self, slot: u32) {
        self.conn(slot).flags.insert(ConnFlags::STALLED | ConnFlags::OUT_OF_TIME);
        self.cx.counters.shares_spent += 1;
        self.read_behind_others(slot);
    }

    /// Reads the connections that no edge will report: those that wait for their first read, then those that used up their
    /// share in an earlier turn, until the time is over. One of each kind is read in any case, so that neither starves.
    pub(crate) fn read_waiting(&mut self) {
        if (!self.ready.is_empty() || self.spent_before > 0) && !self.reads_pause() {
            self.read_lists();
        }
    }

    #[inline(never)]
    fn read_lists(&mut self) {
        while let Some(id) = self.ready.pop_front() {
            self.read_enlisted(id);
            if self.cx.time.work_of_shard(0) {
                break;
            }
        }
        for _ in 0..mem::take(&mut self.spent_before) {
            let Some(id) = self.spent.pop_front() else { break };
            self.read_enlisted(id);
            if self.cx.time.work_of_shard(0) {
                break;
            }
        }
    }

    fn read_enlisted(&mut self, id: ConnId) {
        let Some(conn) = self.cx.connections.get_mut(id) else { return };
        conn.flags.remove(ConnFlags::IN_READY);
        let is_put_off = conn.flags.contains(ConnFlags::OUT_OF_TIME) && !conn.flags.contains(ConnFlags::LAST_REPLIES);
        if is_put_off { self.resume(id) } else { self.read(id.slot) }
    }

    /// A read may have produced answers of the source itself (TLS). Only a push shows whether the kernel accepts them:
    /// the edge for it may have passed already.
    fn want_push(&mut self, slot: u32) {
        if self.sockets.wants_write(slot) && !self.cx.connections.has(slot, WriteFlags::BLOCKED) {
            self.cx.want_write(slot);
        }
    }

    /// One read into the shared buffer, after a short spill, and the handling of the bytes. `drops`: they have no meaning.
    fn read_into_shared(&mut self, slot: u32, spill: Option<Box<Spill>>, drops: bool) -> Got {
        let mut receive = mem::take(&mut self.receive);
        let before = spill.as_ref().map_or(0, |spill| spill.bytes.len());
        debug_assert!(before < receive.len(), "only a stalled connection keeps more, and it is not read");
        if let Some(spill) = &spill {
            receive[..before].copy_from_slice(&spill.bytes);
        }
        let end = receive.len().min(before + self.read_bytes_max);
        let room = end - before;
        let read = self.sockets.get_mut(slot).map_or(Err(Errno::BADF), |source| source.read(&mut receive[before..end]));
        let got = self.got(read, room);
        if let Got::Bytes { n, .. } = got {
            drop(spill);
            if drops {
                self.drop_received(slot, n);
            } else {
                let bytes = &mut receive[..before + n];
                let handled = self.handle_bytes(slot, bytes);
                self.keep_unused(slot, bytes, handled);
            }
        } else if let Some(spill) = spill {
            self.put_spill(slot, *spill);
        }
        self.receive = receive;
        got
    }

    /// A long frame: its bytes go directly into the spill. The buffer grows with the received bytes, not with the
    /// announced length.
    fn read_into_spill(&mut self, slot: u32, mut spill: Spill) -> Got {
        let have = spill.bytes.len();
        if spill.bytes.capacity() == have {
            // A request head has no announced length: it gets as much room as it has used.
            let least = if spill.is_head { 0 } else { 4 * SPILL_COPY_BYTES_MAX };
            let more = have.max(least).min(spill.frame_bytes - have);
            spill.bytes.reserve_exact(more);
        }
        let room = spill.bytes.capacity() - have;
        let read = self.sockets.get_mut(slot).map_or(Err(Errno::BADF), |source| source.read_spare(&mut spill.bytes));
        let got = self.got(read, room);
        if let Got::Bytes { .. } = got {
            let mut bytes = spill.bytes;
            let length = bytes.len();
            let handled = self.handle_bytes(slot, &mut bytes);
            if handled.used == 0 {
                self.keep_rest(slot, bytes, handled.frame_bytes);
            } else if spill.is_head {
                // What follows a head is short, and the room of the head is given back.
                self.keep_unused(slot, &bytes, handled);
            } else if handled.used < length {
                bytes.drain(..handled.used);
                self.keep_rest(slot, bytes, handled.frame_bytes);
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

    /// Spills the unused bytes of a buffer that the connection does not own.
    #[inline]
    fn keep_unused(&mut self, slot: u32, bytes: &[u8], handled: Handled) {
        if handled.used < bytes.len() {
            self.keep_rest(slot, bytes[handled.used..].to_vec(), handled.frame_bytes);
        }
    }

    /// Spills raw bytes, after the rest of a stalled message if one exists.
    fn keep_rest(&mut self, slot: u32, bytes: Vec<u8>, frame_bytes: usize) {
        match self.take_spill(slot) {
            Some(mut stalled) => {
                stalled.bytes.extend_from_slice(&bytes);
                self.put_spill(slot, *stalled);
            }
            None if matches!(self.conn(slot).phase, Phase::Upgrading | Phase::Open | Phase::Closing) => {
                let is_head = self.conn(slot).phase == Phase::Upgrading;
                self.put_spill(slot, Spill { bytes, frame_bytes, rest: 0, text: false, is_head });
            }
            None => {}
        }
    }

    fn take_spill(&mut self, slot: u32) -> Option<Box<Spill>> {
        let spill = self.conn(slot).spill.take()?;
        self.cx.spill_bytes -= spill.bytes.capacity();
        if spill.is_head {
            self.cx.pending_heads.bytes -= spill.bytes.capacity();
            self.cx.pending_heads.count -= 1;
        }
        self.size_reads();
        Some(spill)
    }

    fn put_spill(&mut self, slot: u32, spill: Spill) {
        self.cx.spill_bytes += spill.bytes.capacity();
        if spill.is_head {
            self.cx.pending_heads.bytes += spill.bytes.capacity();
            self.cx.pending_heads.count += 1;
        }
        self.size_reads();
        self.conn(slot).spill = Some(Box::new(spill));
    }

    /// What a read takes may have to be spilled: it takes less while much is.
    fn size_reads(&mut self) {
        let much = self.cx.spill_bytes > SPILLS_LARGE_BYTES;
        self.read_bytes_max = if much { SMALL_READ_BYTES } else { RECEIVE_BYTES };
    }

    /// Keeps the rest of a message that the app could not take now.
    pub(crate) fn stall(&mut self, id: ConnId, text: bool, rest: &[u8]) {
        self.put_spill(id.slot, Spill { bytes: rest.to_vec(), frame_bytes: 0, rest: rest.len(), text, is_head: false });
        self.conn(id.slot).flags.insert(ConnFlags::STALLED);
    }

    /// Keeps a message that came for a stream while its connection is stalled, as a frame behind what waits.
    pub(crate) fn keep_injected(&mut self, slot: u32, payload: &[u8]) {
        let empty = Spill { bytes: Vec::new(), frame_bytes: 0, rest: 0, text: false, is_head: false };
        let mut spill = self.take_spill(slot).map_or(empty, |spill| *spill);
        client_frame(&mut spill.bytes, Opcode::Binary, payload, [0; 4]);
        self.put_spill(slot, spill);
    }

    /// Offers stalled connections the rest of their message again, and continues with the bytes after it: each once, the
    /// one that has waited longest first, until the time is over.
    pub(crate) fn resume_stalled(&mut self) {
        self.stalled_wait = false;
        if !self.stalled.is_empty() || !self.cx.resumed.is_empty() {
            match self.reads_pause() {
                true => self.stalled_wait = true,
                false => self.resume_list(),
            }
        }
    }

    #[inline(never)]
    fn resume_list(&mut self) {
        self.stalled.extend(self.cx.resumed.drain(..));
        for left in (0..self.stalled.len()).rev() {
            let Some(id) = self.stalled.pop_front() else { break };
            let stalled =
                |flags: ConnFlags| flags.contains(ConnFlags::STALLED) && !flags.contains(ConnFlags::LAST_REPLIES);
            if self.cx.connections.get(id).is_some_and(|conn| stalled(conn.flags)) {
                self.resume(id);
            }
            if self.cx.time.work_of_shard(STEP_WORK) {
                self.stalled_wait = left > 0;
                break;
            }
        }
    }

    fn resume(&mut self, id: ConnId) {
        let slot = id.slot;
        self.conn(slot).flags.remove(ConnFlags::STALLED | ConnFlags::OUT_OF_TIME);
        // Without a spill it was put off at the end of what was read.
        let Some(spill) = self.take_spill(slot) else { return self.read(slot) };
        let Spill { mut bytes, rest, text, .. } = *spill;
        self.cx.current = Some(slot);
        let (message, raw) = bytes.split_at_mut(rest);
        if self.conn(slot).is_open() && !message.is_empty() {
            self.deliver_message(id, text, message, Lies::Elsewhere);
        }
        self.cx.current = None;
        self.send_replies(slot);
        if self.conn(slot).flags.intersects(ConnFlags::STALLED | ConnFlags::CLOSE_REQUESTED) {
            let raw = raw.to_vec();
            return self.keep_rest(slot, raw, 0);
        }
        if !raw.is_empty() && self.conn(slot).phase != Phase::Closed {
            let handled = self.handle_bytes(slot, raw);
            self.keep_unused(slot, raw, handled);
        }
        if !self.conn(slot).flags.contains(ConnFlags::STALLED) {
            self.read(slot);
        }
    }

    /// Reads the connections again that exceeded the byte rate and have waited.
    pub(crate) fn resume_rate_limited(&mut self) {
        while let Some(conn) = self.peers.next_rested(self.cx.now) {
            if let Some(known) = self.cx.connections.get_mut(conn) {
                known.flags.remove(ConnFlags::RATE_LIMITED);
                self.read_in_order(conn.slot);
            }
        }
    }

    /// Handles bytes that were spilled before the server's close: the peer's own close may be among them.
    pub(crate) fn handle_spill(&mut self, slot: u32) {
        self.conn(slot).flags.remove(ConnFlags::STALLED | ConnFlags::OUT_OF_TIME);
        if let Some(mut spill) = self.take_spill(slot) {
            let bytes = &mut spill.bytes[spill.rest..];
            let handled = self.handle_bytes(slot, bytes);
            self.keep_unused(slot, bytes, handled);
        }
    }

    /// Frees the spill of a connection that is not parsed any more, and what its decoder holds.
    pub(crate) fn forget_input(&mut self, slot: u32) {
        drop(self.take_spill(slot));
        self.conn(slot).decoder = Decoder::new();
    }
}
