//! One turn of the loop, in its order: begin (clock, mail) → events → the rest (ready list, stalled, timers, own mail,
//! mail out, one slice of the flush). Nothing here waits: `run` does, over mio, and the simulation does, over a seed.

use std::mem;

use super::app::EngineClose;
use super::connection::state::{Edges, Phase, gate};
use super::log_ring::LogRecord;
use super::net::source::Source;
use super::stats::{Closed, Snapshot};
use super::{App, Millis, Shard};
use crate::engine::timer_wheel::TICK;
use crate::ids::ConnId;

/// Rounds of own mail in one turn: a publication at home needs two, its answer and its delivery.
const OWN_MAIL_ROUNDS: usize = 4;

/// What the kernel said of a socket.
#[derive(Clone, Copy, Default, Debug)]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    /// The peer sends no more.
    pub read_closed: bool,
    /// An error, a reset among them.
    pub error: bool,
}

/// How long the shard may wait for events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Work is there: look at the kernel and go on.
    No,
    /// For so many milliseconds.
    For(u64),
    /// Until something happens.
    Forever,
}

/// The shard is ending: closes are spread over a window.
pub(crate) struct Drain {
    next_slot: u32,
    /// The window's last tick; after it all that are left are closed at once.
    until: Millis,
    /// Of one more connection that is to be closed.
    owed_millionths: u64,
    /// When the next wave goes.
    wave_at: Millis,
    /// Upgrades under way are completed: another process takes the newcomers, and nobody is to be refused.
    admits: bool,
    waves: u64,
}

impl<A: App, S: Source> Shard<A, S> {
    /// The turn begins: what other shards sent is handled first.
    pub fn begin(&mut self, now: Millis) {
        self.cx.now = now;
        self.cx.squeeze.begin_turn();
        let mut budget = self.cx.limits.mail_per_turn;
        self.take_mail(&mut budget, false);
    }

    /// Mail, oldest first. While a flush is open and the next one has gathered its fill, mail waits in the mailbox, and
    /// through its bound tells the senders.
    fn take_mail(&mut self, budget: &mut u32, own: bool) {
        while *budget > 0 {
            if self.flush.open && self.app.turn_bytes() > self.cx.limits.turn_bytes_max {
                return;
            }
            let next = match self.held.take() {
                None if own => self.cx.mail.receive_own(),
                None => self.cx.mail.receive(),
                held => held,
            };
            let Some(mut batch) = next else { return };
            self.app.mail(&mut self.cx, &mut batch, budget);
            if batch.is_empty() {
                self.cx.mail.recycle(batch);
            } else {
                self.held = Some(batch);
            }
        }
    }

    /// A socket has something to say.
    pub fn event(&mut self, conn: ConnId, readiness: Readiness) {
        if self.cx.conn_at(conn.slot) != Some(conn) || self.conn(conn.slot).phase == Phase::Dead {
            return;
        }
        let slot = conn.slot;
        if readiness.error {
            return self.die(slot, Closed::Reset);
        }
        // EPOLLOUT comes with nearly every edge: the blocked bit is looked at first.
        if self.cx.gates[conn.index()] & gate::BLOCKED != 0 && readiness.writable {
            self.cx.gates[conn.index()] &= !gate::BLOCKED;
            self.cx.want(slot);
        }
        if readiness.readable {
            self.conn(slot).edges.set(Edges::READABLE);
        }
        if readiness.read_closed {
            self.conn(slot).edges.set(Edges::READ_CLOSED);
        }
        if readiness.readable || readiness.read_closed {
            self.read(slot);
        }
    }

    /// A fresh connection may have been answered before it was asked: read it without waiting for an edge.
    pub fn read_fresh(&mut self, conn: ConnId) {
        self.event(conn, Readiness { readable: true, ..Readiness::default() });
    }

    /// The turn ends. Says how long the shard may wait.
    pub fn end(&mut self) -> Wait {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            if self.cx.conn_at(id.slot) == Some(id) {
                self.conn(id.slot).edges.clear(Edges::IN_READY);
                self.read(id.slot);
            }
        }
        self.wake_rested();
        self.resume_stalled();
        self.say_reached();
        let pushes_before = self.cx.counters.mail_pushes;
        self.sweep();
        self.app.sweep(&mut self.cx);
        self.drain_wave();
        self.close_asked();
        self.bury();
        let mut budget = self.cx.limits.mail_per_turn;
        let mut moved = false;
        self.hand_out();
        for _ in 0..OWN_MAIL_ROUNDS {
            let before = budget;
            if self.held.is_none() {
                self.take_mail(&mut budget, true);
            }
            if budget == before {
                break;
            }
            // An answer of our own home may be what a stalled connection waits for.
            moved = true;
            self.hand_out();
        }
        self.flush();
        self.cx.counters.turns += 1;
        moved |= self.cx.counters.mail_pushes > pushes_before;
        self.wait(moved)
    }

    /// Mail leaves. What others wait for goes before we begin to write.
    fn hand_out(&mut self) {
        self.app.before_dispatch(&mut self.cx);
        self.cx.hand_out();
    }

    /// Deadlines are not judged at the end of this turn, or are again.
    pub fn hold_deadlines(&mut self, held: bool) {
        self.deadlines_held = held;
    }

    fn sweep(&mut self) {
        if self.deadlines_held {
            return;
        }
        let mut due = mem::take(&mut self.due);
        self.cx.wheel.sweep(self.cx.now, &mut due);
        for slot in due.drain(..) {
            self.deadline(slot);
        }
        self.due = due;
    }

    fn wait(&self, moved: bool) -> Wait {
        let cx = &self.cx;
        let work = self.flush.open
            || self.app.turn_bytes() > 0
            || self.held.is_some()
            || !self.ready.is_empty()
            || !cx.wants.is_empty()
            || !self.leaving.is_empty()
            || !cx.asked.is_empty()
            || !cx.resumed.is_empty();
        // Whoever waits for room in a mailbox looks again when something left; while nothing does, the receiver wakes us.
        let room = moved && (!self.stalled.is_empty() || self.app.waits_for_room());
        if work || room {
            return Wait::No;
        }
        let tick = TICK.as_millis() as u64;
        let kept = !self.stalled.is_empty() || cx.mail.has_overflow() || self.drain.is_some();
        let sweep = self.app.next_sweep().map(|at| at.saturating_sub(cx.now));
        match cx.wheel.next_in(cx.now).into_iter().chain(sweep).chain(self.next_rested()).min() {
            Some(0) => Wait::No,
            Some(ms) if kept => Wait::For(ms.min(tick)),
            Some(ms) => Wait::For(ms),
            None if kept => Wait::For(tick),
            None => Wait::Forever,
        }
    }

    /// From here on nobody new is let in, and who is here is closed in waves until `window` is over, served until then.
    /// With `admits` whoever is in his upgrade still comes in, and is closed when his turn comes.
    pub fn begin_drain(&mut self, window: Millis, admits: bool) {
        if self.drain.is_none() {
            let (now, until) = (self.cx.now, self.cx.now + window);
            self.drain = Some(Drain { next_slot: 0, until, owed_millionths: 0, wave_at: now, admits, waves: 0 });
        }
    }

    /// Whoever is in his upgrade now is told to come again.
    pub(crate) fn refuses_upgrades(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| !drain.admits)
    }

    fn drain_wave(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        if self.cx.now < drain.wave_at {
            return;
        }
        let tick = TICK.as_millis() as u64;
        drain.wave_at = self.cx.now + tick;
        drain.waves += 1;
        self.cx.counters.drain_waves += 1;
        let waves_left = drain.until.saturating_sub(self.cx.now) / tick + 1;
        let upgrades_end = waves_left == 1 || drain.waves == 1 && !drain.admits;
        // Those who are open, not those who answer their close: an even share of what is left.
        // What is less than one is kept for the next wave, so that a few are spread as many are.
        drain.owed_millionths += self.cx.open * 1_000_000 / waves_left;
        let mut wave = drain.owed_millionths / 1_000_000;
        drain.owed_millionths %= 1_000_000;
        let (from, end) = (drain.next_slot, self.sources.len() as u32);
        if upgrades_end {
            (0..end).for_each(|slot| self.turn_upgrade_away(slot));
        }
        let mut slot = from;
        while slot < end && wave > 0 {
            if self.say_farewell(slot) {
                wave -= 1;
            }
            slot += 1;
        }
        if let Some(drain) = &mut self.drain {
            // The next round finds those who were not open yet, or took a freed slot.
            drain.next_slot = if slot == end { 0 } else { slot };
        }
    }

    /// True where an open connection is closed by this.
    fn say_farewell(&mut self, slot: u32) -> bool {
        let Some(id) = self.cx.conn_at(slot) else { return false };
        let conn = self.conn(slot);
        if conn.phase != Phase::Open || conn.edges.has(Edges::CLOSE_ASKED) {
            return false;
        }
        let (code, reason) = self.app.close_reason(id, EngineClose::Shutdown);
        self.cx.ask_close(id, code, reason.into(), Closed::Shutdown);
        true
    }

    fn turn_upgrade_away(&mut self, slot: u32) {
        if self.cx.conn_at(slot).is_some() && self.conn(slot).phase == Phase::Proxied {
            return self.die(slot, Closed::Shutdown);
        }
        if self.cx.conn_at(slot).is_some() && self.conn(slot).phase == Phase::Upgrading {
            self.turn_away(slot, crate::ws::Refusal::Unavailable { retry_after_s: 1 });
        }
    }

    /// Connections, in whatever phase.
    pub fn slots(&self) -> usize {
        self.cx.conns.len()
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// A flush was cut and goes on in the next turn.
    pub fn is_flushing(&self) -> bool {
        self.flush.open
    }

    /// Nobody is connected and nothing is on its way out.
    pub fn is_idle(&self) -> bool {
        self.cx.conns.is_empty() && !self.flush.open && self.held.is_none() && !self.cx.mail.has_overflow()
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            shard: self.cx.me().0,
            counters: self.cx.counters.clone(),
            connections: self.cx.open,
            occupied: self.cx.conns.len() as u64,
            backlog_bytes: self.cx.queues.bytes(),
            backlog_kept_bytes: self.cx.queues.kept_bytes() as u64,
            backlog_connections: self.cx.queues.len() as u64,
            spill_bytes: self.cx.spill_bytes as u64,
            deflate_contexts: self.cx.squeeze.contexts(),
            idle: self.is_idle(),
            lag_us: self.lag.lag_us,
            shut: self.is_shut(),
            draining: self.is_draining(),
            ..Snapshot::default()
        };
        self.app.gauges(&mut snapshot);
        snapshot
    }

    /// Takes the lag where it is time to, and says when the door is shut or opened by it.
    pub(crate) fn look_at_lag(&mut self) {
        let max_us = self.cx.limits.lag_max.as_micros() as u64;
        if self.lag.look(self.cx.now, max_us) {
            let (lag_us, shut) = (self.lag.lag_us, self.lag.shut);
            self.cx.note(LogRecord::Lagging { lag_us, shut });
        }
    }

    pub fn note(&mut self, note: LogRecord) {
        self.cx.note(note);
    }
}
