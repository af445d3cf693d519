//! Every way a connection ends (RFC 6455, section 7), so that what we sent arrives: after our last byte comes our FIN, what
//! the peer still sends is read and dropped within a bound, and only then is the socket closed. A bare close with bytes
//! unread would send a reset, which eats the close frame.

use std::borrow::Cow;
use std::mem;

use super::state::{Edges, Phase, gate};
use crate::engine::app::EngineClose;
use crate::engine::log_ring::LogRecord;
use crate::engine::net::source::Source;
use crate::engine::outbound::NO_QUEUE;
use crate::engine::stats::{Bound, Closed};
use crate::engine::{App, Millis, Shard};
use crate::ws::{self, Opcode};

/// Bytes read and dropped from a peer after our close, before its socket is reset.
pub(crate) const LINGER_BYTES_MAX: usize = 1024 * 1024;

impl<A: App, S: Source> Shard<A, S> {
    /// The peer broke the protocol: close frame, FIN, no wait for its close (RFC 6455, section 7.1.7).
    pub(crate) fn fail(&mut self, slot: u32, code: u16, reason: &'static str) {
        if self.conn(slot).phase == Phase::Open {
            ws::close_frame(&mut self.cx.burst, code, reason);
            self.leave_open(slot, Closed::Protocol);
        }
        self.finish_after_burst(slot);
    }

    /// The peer's close frame: echoed where it was first, then the end (RFC 6455, section 5.5.1).
    pub(crate) fn peer_closed(&mut self, slot: u32, code: Option<u16>) {
        if self.conn(slot).phase == Phase::Open {
            match code {
                Some(code) => ws::close_frame(&mut self.cx.burst, code, ""),
                None => ws::frame(&mut self.cx.burst, Opcode::Close, &[]),
            }
            self.leave_open(slot, Closed::ByPeer);
        }
        self.finish_after_burst(slot);
    }

    /// Nothing more is parsed. The FIN follows when what is queued has left.
    pub(crate) fn finish_after_burst(&mut self, slot: u32) {
        self.conn(slot).phase = Phase::Finishing;
        self.cx.gates[slot as usize] |= gate::DEAF;
        self.forget_input(slot);
        self.arm(slot, self.cx.limits.close_timeout.as_millis() as Millis);
    }

    /// All that was queued has left: our FIN.
    pub(crate) fn finish(&mut self, slot: u32) {
        let Some(source) = &mut self.sources[slot as usize] else { return };
        source.shutdown_write();
        if self.conn(slot).edges.has(Edges::ENDED) {
            return self.die(slot, Closed::ByPeer);
        }
        self.conn(slot).phase = Phase::Lingering;
        self.arm(slot, self.cx.limits.linger_timeout.as_millis() as Millis);
    }

    /// Zero was read.
    pub(crate) fn ended(&mut self, slot: u32) {
        self.conn(slot).edges.set(Edges::ENDED);
        // The rest of what is queued still leaves, then our FIN.
        if self.conn(slot).phase != Phase::Finishing || self.has_sent_all(slot) {
            self.die(slot, Closed::Vanished);
        }
    }

    /// What lies below the bytes is broken, as the peer has been told: our FIN, and an end of which it can read why.
    pub(crate) fn refused_below(&mut self, slot: u32) {
        self.leave_open(slot, Closed::Protocol);
        self.cx.gates[slot as usize] &= !(gate::TOUCHED | gate::MULTI);
        self.cx.release_queue(slot);
        self.finish_after_burst(slot);
        if self.has_sent_all(slot) {
            self.finish(slot);
        }
    }

    /// The socket is closed now. The slot waits until the app has forgotten it and no flush names it.
    pub(crate) fn die(&mut self, slot: u32, why: Closed) {
        if self.conn(slot).phase == Phase::Dead {
            return;
        }
        self.leave_open(slot, why);
        self.conn(slot).phase = Phase::Dead;
        self.unseat(slot);
        self.sources[slot as usize] = None;
        self.forget_input(slot);
        let deflate = std::mem::take(&mut self.conn(slot).deflate);
        self.cx.squeeze.forget(slot, deflate);
        self.cx.release_queue(slot);
        self.cx.wheel.cancel(slot);
        self.cx.gates[slot as usize] |= gate::DEAF | gate::DEAD;
        if self.conn(slot).edges.has(Edges::LEFT) {
            self.graves.push(slot);
        }
    }

    /// From open to anything else: the app is told, once.
    fn leave_open(&mut self, slot: u32, why: Closed) {
        if self.conn(slot).phase != Phase::Open {
            return;
        }
        // What must not be read behind a gap must not leave before the close frame either.
        self.tell_dropped();
        self.cx.counters.closed[why as usize] += 1;
        self.cx.open -= 1;
        // It stands while the app says its last, which may be too much for the peer's backlog: the close is asked for once.
        self.conn(slot).edges.set(Edges::CLOSE_ASKED);
        let id = self.id(slot);
        self.app.closed(&mut self.cx, id, why);
        self.conn(slot).edges.clear(Edges::CLOSE_ASKED);
        let gate = &mut self.cx.gates[slot as usize];
        *gate = (*gate | gate::DEAF) & !gate::HELD;
        self.leaving.push_back(id);
    }

    fn arm(&mut self, slot: u32, after: Millis) {
        let at = self.cx.now + after;
        self.cx.wheel.set(slot, at);
    }

    /// Carries out the closes that were asked for. Who stands in an open flush first takes his share.
    pub(crate) fn close_asked(&mut self) {
        for asked in mem::take(&mut self.cx.asked) {
            let slot = asked.conn.slot;
            if self.cx.conn_at(slot) != Some(asked.conn) || self.conn(slot).phase != Phase::Open {
                continue;
            }
            if self.cx.gates[slot as usize] & gate::TOUCHED != 0 && asked.why != Closed::Slow {
                self.cx.asked.push(asked);
                continue;
            }
            let (code, reason) = match asked.why {
                Closed::Slow => {
                    let (code, reason) = self.cut_slow(slot);
                    (code, Cow::Borrowed(reason))
                }
                _ => (asked.code, asked.reason),
            };
            self.leave_open(slot, asked.why);
            self.conn(slot).phase = Phase::Closing;
            self.cx.queue(slot, |out| ws::close_frame(out, code, &reason));
            self.arm(slot, self.cx.limits.close_timeout.as_millis() as Millis);
            self.revisit_spill(slot);
            self.stand_ready(slot);
        }
    }

    /// What waits for a peer that does not read is dropped, up to the frame it has half of.
    fn cut_slow(&mut self, slot: u32) -> (u16, &'static str) {
        // Nor does it get what an open flush still has for it: that would come behind a gap.
        self.cx.gates[slot as usize] &= !(gate::TOUCHED | gate::MULTI);
        let id = self.id(slot);
        self.cx.forget_gaps(id);
        let (index, bytes_max) = (self.conn(slot).queue, self.cx.limits.outbound_bytes_max);
        if index != NO_QUEUE {
            let backlog_bytes = self.cx.queues.get(index).bytes();
            self.cx.queues.get_mut(index).drop_unsent();
            let address = self.address_of(slot);
            let bound = if backlog_bytes > bytes_max { Bound::Backlog } else { Bound::Backlogs };
            self.cx.counters.reached[bound as usize] += 1;
            self.cx.note(LogRecord::SlowClosed { slot, backlog_bytes, address });
        }
        self.app.close_reason(id, EngineClose::Slow)
    }

    /// A deadline has come.
    pub(crate) fn deadline(&mut self, slot: u32) {
        match self.conn(slot).phase {
            Phase::Proxied => self.refuse_proxy(slot),
            Phase::Upgrading => {
                // No deadline on a peer's bytes is judged while we are the ones not reading.
                if self.conn(slot).edges.has(Edges::IN_READY) {
                    return self.arm(slot, 1);
                }
                let id = self.id(slot);
                self.cx.reached(Bound::UpgradeTimeout, id);
                self.turn_away(slot, ws::Refusal::Timeout);
            }
            Phase::Open => {
                let id = self.id(slot);
                self.cx.current = Some(slot);
                self.app.timer(&mut self.cx, id);
                self.cx.current = None;
                self.send_burst(slot);
            }
            Phase::Closing | Phase::Finishing | Phase::Lingering => self.die(slot, Closed::Vanished),
            Phase::Dead => {}
        }
    }

    /// Has the app forget those who are no longer open, and frees the slots that nobody names any more.
    pub(crate) fn bury(&mut self) {
        let mut budget = self.cx.limits.mail_per_turn;
        while let Some(&id) = self.leaving.front() {
            if budget == 0 || !self.app.leave(&mut self.cx, id, &mut budget) {
                break;
            }
            self.leaving.pop_front();
            self.conn(id.slot).edges.set(Edges::LEFT);
            if self.conn(id.slot).phase == Phase::Dead {
                self.graves.push(id.slot);
            }
        }
        if !self.flush.open {
            for slot in self.graves.drain(..) {
                self.cx.conns.remove(slot as usize);
            }
        }
    }
}
