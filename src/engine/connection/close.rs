//! Every way a connection ends (RFC 6455, section 7), so that all bytes of the server arrive: its FIN follows the last
//! byte, bytes that the peer still sends are read and dropped within a bound, and only then is the socket closed.
//! Closing a socket with unread bytes would send a reset, which may destroy the close frame on its way.

use std::borrow::Cow;
use std::mem;

use super::state::{ConnFlags, Phase, WriteFlags};
use super::write::AfterWrite;
use crate::engine::app::{App, EngineClose};
use crate::engine::context::CloseRequest;
use crate::engine::log_ring::{LogRecord, RefusalKind};
use crate::engine::net::source::Source;
use crate::engine::rejection::Rejection;
use crate::engine::shard::Shard;
use crate::engine::stats::{Bound, Closed};
use crate::engine::timer_wheel::Millis;
use crate::ids::ConnId;
use crate::ws::{self, Opcode, Refusal, Violation};

/// Bytes of a partly sent frame that a slow consumer may still take, so that a close frame can follow. If more are left, the
/// socket is closed at once: the memory is needed now.
const SLOW_REST_BYTES_MAX: usize = 64 * 1024;

/// Bytes read and dropped from a peer after the server's close, before its socket is reset.
pub(crate) const LINGER_BYTES_MAX: usize = 1024 * 1024;

impl<A: App, S: Source> Shard<A, S> {
    /// The peer violated the protocol: close frame, FIN, no wait for its close (RFC 6455, section 7.1.7).
    pub(crate) fn fail(&mut self, slot: u32, violation: Violation) {
        let (code, reason) = (violation.close_code(), violation.reason());
        if self.conn(slot).compression.is_stream() {
            // Its frames are written by the server itself, so none of them can be wrong.
            return self.close_socket(slot, Closed::Protocol);
        }
        if self.conn(slot).phase == Phase::Open {
            let id = self.cx.connections.id(slot);
            match violation {
                Violation::MessageTooBig => self.cx.reached(Bound::Message, id),
                _ => {
                    self.cx.counters.rejections[Rejection::MalformedFrame as usize] += 1;
                    self.log_refusal(slot, RefusalKind::Command(Rejection::MalformedFrame), || {
                        format!("rejected a malformed frame: {reason}; closing the connection with {code}")
                    });
                }
            }
            ws::close_frame(&mut self.cx.reply_buffer, code, reason);
            self.cx.counters.closes.count(code);
            self.leave_open(slot, Closed::Protocol);
        }
        self.finish_after_replies(slot);
    }

    /// The peer's close frame: echoed if it was first, then the end (RFC 6455, section 5.5.1).
    pub(crate) fn peer_closed(&mut self, slot: u32, code: Option<u16>) {
        if self.conn(slot).phase == Phase::Open {
            match code {
                Some(code) => ws::close_frame(&mut self.cx.reply_buffer, code, ""),
                None => ws::frame(&mut self.cx.reply_buffer, Opcode::Close, &[]),
            }
            self.leave_open(slot, Closed::ByPeer);
        }
        self.finish_after_replies(slot);
    }

    /// Nothing more is parsed. The FIN follows when the queue is empty.
    pub(crate) fn finish_after_replies(&mut self, slot: u32) {
        self.conn(slot).phase = Phase::Finishing;
        self.cx.connections.set(slot, WriteFlags::NOT_OPEN);
        self.forget_input(slot);
        self.set_deadline(slot, self.cx.config.close_timeout.as_millis() as Millis);
    }

    /// Sends the FIN if nothing has to leave before it; else the write that empties the queue leads to it.
    #[inline]
    pub(crate) fn finish_when_sent(&mut self, slot: u32) {
        if self.conn(slot).phase == Phase::Finishing && self.sockets.has_sent_all(&self.cx, slot) {
            self.finish(slot);
        }
    }

    /// The queue is empty: sends the FIN.
    pub(crate) fn finish(&mut self, slot: u32) {
        let Some(source) = self.sockets.get_mut(slot) else { return };
        source.shutdown_write();
        if self.conn(slot).flags.contains(ConnFlags::READ_ENDED) {
            return self.close_socket(slot, Closed::ByPeer);
        }
        self.conn(slot).phase = Phase::Lingering;
        self.set_deadline(slot, self.cx.config.linger_timeout.as_millis() as Millis);
    }

    /// Does what a write asks for.
    #[inline]
    pub(crate) fn after_write(&mut self, slot: u32, after: AfterWrite) {
        match after {
            AfterWrite::Nothing => {}
            AfterWrite::SendFin => self.finish(slot),
            AfterWrite::Close => self.close_socket(slot, Closed::Reset),
        }
    }

    /// Zero was read.
    pub(crate) fn read_ended(&mut self, slot: u32) {
        self.conn(slot).flags.insert(ConnFlags::READ_ENDED);
        // If the connection is finishing, the rest of the queue still leaves, then the FIN.
        if self.conn(slot).phase != Phase::Finishing || self.sockets.has_sent_all(&self.cx, slot) {
            self.close_socket(slot, Closed::Vanished);
        }
    }

    /// Bytes after the server's close are dropped, within a bound.
    pub(crate) fn drop_received(&mut self, slot: u32, n: usize) {
        let conn = self.conn(slot);
        conn.lingered = conn.lingered.saturating_add(n as u32);
        if conn.lingered as usize > LINGER_BYTES_MAX {
            self.close_socket(slot, Closed::Reset);
        }
    }

    /// The layer below the bytes (TLS) failed, and its alert was sent: sends the FIN, and waits for the end so that the
    /// peer can read the alert.
    pub(crate) fn refused_below(&mut self, slot: u32) {
        self.leave_open(slot, Closed::Protocol);
        self.cx.connections.clear(slot, WriteFlags::IN_FLUSH | WriteFlags::IN_FLUSH_MULTIPLE);
        self.cx.release_queue(slot);
        self.finish_after_replies(slot);
        self.finish_when_sent(slot);
    }

    /// Closes the socket now. The slot waits until the app has forgotten it and no flush names it.
    pub(crate) fn close_socket(&mut self, slot: u32, why: Closed) {
        if self.conn(slot).phase == Phase::Closed {
            return;
        }
        self.leave_open(slot, why);
        // Its address is not known any more after this.
        self.log_with_addresses();
        self.conn(slot).phase = Phase::Closed;
        self.peers.release(slot);
        self.sockets.close(slot);
        self.forget_input(slot);
        let compression = mem::take(&mut self.conn(slot).compression);
        self.cx.compressors.forget(slot, compression);
        self.cx.release_queue(slot);
        self.cx.wheel.cancel(slot);
        self.cx.connections.set(slot, WriteFlags::NOT_OPEN | WriteFlags::CLOSED);
        if self.conn(slot).flags.contains(ConnFlags::FORGOTTEN) {
            self.closed_slots.push(slot);
        }
    }

    /// From open to any other phase: notifies the app, once.
    pub(crate) fn leave_open(&mut self, slot: u32, why: Closed) {
        if self.conn(slot).phase != Phase::Open {
            return;
        }
        // Messages that must not follow a gap must not leave before the close frame either.
        self.tell_dropped();
        self.cx.counters.closed[why as usize] += 1;
        self.cx.connections.open -= 1;
        // Set while the app may still reply, which may be too much for the peer's backlog: one close is enough.
        self.conn(slot).flags.insert(ConnFlags::CLOSE_REQUESTED);
        let id = self.cx.connections.id(slot);
        self.app.closed(&mut self.cx, id, why);
        self.conn(slot).flags.remove(ConnFlags::CLOSE_REQUESTED);
        self.cx.connections.set(slot, WriteFlags::NOT_OPEN);
        self.cx.connections.clear(slot, WriteFlags::HELD);
        self.leaving.push_back(id);
    }

    pub(crate) fn set_deadline(&mut self, slot: u32, after: Millis) {
        let at = self.cx.now + after;
        self.cx.wheel.set(slot, at);
    }

    /// Carries out the closes that were requested. A connection in an open flush first gets its broadcasts.
    #[inline]
    pub(crate) fn close_requested(&mut self) {
        if !self.cx.close_requests.is_empty() {
            self.carry_out_closes();
        }
    }

    #[inline(never)]
    fn carry_out_closes(&mut self) {
        for request in mem::take(&mut self.cx.close_requests) {
            let slot = request.conn.slot;
            if !self.cx.connections.awaits_close(request.conn) {
                continue;
            }
            if self.cx.connections.has(slot, WriteFlags::IN_FLUSH) && request.why != Closed::Slow {
                self.cx.close_requests.push(request);
                continue;
            }
            let CloseRequest { code, reason, why, response, .. } = request;
            let (code, reason) = match why {
                Closed::Slow => {
                    let (code, reason) = self.drop_backlog(slot);
                    if self.queued_bytes(slot) > SLOW_REST_BYTES_MAX {
                        self.cx.counters.closes.count(code);
                        self.close_socket(slot, why);
                        continue;
                    }
                    (code, Cow::Borrowed(reason))
                }
                _ => (code, reason),
            };
            self.cx.counters.closes.count(code);
            if let Some(response) = response {
                self.leave_open(slot, why);
                self.respond_instead(slot, &response);
                continue;
            }
            if let Some(framing) = self.conn(slot).compression.framing() {
                self.end_stream(self.cx.connections.id(slot), framing, (code, &reason), why);
                continue;
            }
            self.leave_open(slot, why);
            self.conn(slot).phase = Phase::Closing;
            self.cx.queue(slot, |out| ws::close_frame(out, code, &reason));
            self.set_deadline(slot, self.cx.config.close_timeout.as_millis() as Millis);
            self.handle_spill(slot);
            self.read_later(slot);
        }
    }

    /// Drops the backlog of a peer that does not read, except for a frame that is partly written. Returns the close
    /// code and reason.
    fn drop_backlog(&mut self, slot: u32) -> (u16, &'static str) {
        // The rest of an open flush would follow a gap, so it is not sent either.
        self.cx.connections.clear(slot, WriteFlags::IN_FLUSH | WriteFlags::IN_FLUSH_MULTIPLE);
        let id = self.cx.connections.id(slot);
        self.cx.slow.forget(id);
        if let Some(key) = self.conn(slot).queue.get() {
            let backlog_bytes = self.cx.queues.get(key).bytes();
            let queue = self.cx.queues.get_mut(key);
            if queue.partial_frame_bytes() <= SLOW_REST_BYTES_MAX {
                queue.drop_unsent();
            }
            let address = self.address_of(slot);
            let is_own = backlog_bytes > self.cx.config.outbound_bytes_max;
            let bound = if is_own { Bound::Backlog } else { Bound::Backlogs };
            self.cx.counters.reached[bound as usize] += 1;
            self.cx.log(LogRecord::SlowClosed { slot, backlog_bytes, address });
        }
        self.app.close_reason(id, EngineClose::Slow)
    }

    fn queued_bytes(&mut self, slot: u32) -> usize {
        self.conn(slot).queue.get().map_or(0, |key| self.cx.queues.get(key).bytes())
    }

    /// A deadline has come.
    pub(crate) fn deadline(&mut self, slot: u32) {
        let phase = self.conn(slot).phase;
        match phase {
            Phase::ProxyHeader => self.refuse_proxy(slot),
            // The deadline does not apply while the peer's bytes wait to be read.
            Phase::Upgrading if self.conn(slot).flags.contains(ConnFlags::IN_READY) => self.set_deadline(slot, 1),
            Phase::Upgrading if self.is_between_requests(slot) => self.end_between_requests(slot),
            Phase::Upgrading => {
                let id = self.cx.connections.id(slot);
                self.cx.reached(Bound::UpgradeTimeout, id);
                self.refuse_now(slot, Refusal::Timeout);
            }
            Phase::Open => {
                let id = self.cx.connections.id(slot);
                self.cx.current = Some(slot);
                self.app.timer(&mut self.cx, id);
                self.cx.current = None;
                self.send_replies(slot);
            }
            Phase::Closing | Phase::Finishing | Phase::Lingering => self.close_socket(slot, Closed::Vanished),
            Phase::Closed => {}
        }
    }

    /// Closes an open connection because the shard ends, or stops reading it if the app owes it replies. True where it was
    /// open, no close was requested and it was not chosen before.
    pub(crate) fn close_for_shutdown(&mut self, slot: u32) -> bool {
        let Some(id) = self.cx.connections.id_at(slot).filter(|&id| self.cx.connections.is_open(id)) else {
            return false;
        };
        if self.conn(slot).flags.contains(ConnFlags::LAST_REPLIES) {
            return false;
        }
        if self.app.owes_replies(id) {
            self.conn(slot).flags.insert(ConnFlags::LAST_REPLIES);
            self.answering.push(id);
        } else {
            self.request_shutdown_close(id);
        }
        true
    }

    fn request_shutdown_close(&mut self, id: ConnId) {
        let (code, reason) = self.app.close_reason(id, EngineClose::Shutdown);
        self.cx.request_close(id, code, reason.into(), Closed::Shutdown);
    }

    /// Closes the connections that waited for their last replies and have them.
    pub(crate) fn close_answered(&mut self) {
        for id in mem::take(&mut self.answering) {
            if !self.cx.connections.is_open(id) {
                continue;
            }
            match self.app.owes_replies(id) {
                true => self.answering.push(id),
                false => self.request_shutdown_close(id),
            }
        }
    }

    /// Ends an upgrade under way because the shard ends.
    pub(crate) fn refuse_for_shutdown(&mut self, slot: u32) {
        match self.cx.connections.in_slot(slot).map(|conn| conn.phase) {
            Some(Phase::ProxyHeader) => self.close_socket(slot, Closed::Shutdown),
            Some(Phase::Upgrading) if self.is_between_requests(slot) => self.end_between_requests(slot),
            Some(Phase::Upgrading) => self.refuse_now(slot, Refusal::Unavailable { retry_after_s: 1 }),
            _ => {}
        }
    }

    /// Has the app forget the connections that are no longer open, and frees the slots that nothing names any more.
    pub(crate) fn free_slots(&mut self) {
        let mut budget = self.cx.config.mail_per_turn;
        while let Some(&id) = self.leaving.front() {
            if budget == 0 || !self.app.leave(&mut self.cx, id, &mut budget) {
                break;
            }
            self.leaving.pop_front();
            self.conn(id.slot).flags.insert(ConnFlags::FORGOTTEN);
            if self.conn(id.slot).phase == Phase::Closed {
                self.closed_slots.push(id.slot);
            }
        }
        if !self.flush.is_open() {
            for slot in self.closed_slots.drain(..) {
                self.cx.connections.free_slot(slot);
            }
        }
    }
}
