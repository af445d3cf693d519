//! One turn of the loop, in order: begin (clock, mail) → events → end (ready list, stalled, timers, own mail, outgoing
//! mail, one slice of the flush). A turn never waits: its caller does, `event_loop` over mio, and the simulation by a
//! seed.

use std::mem;

use super::app::App;
use super::connection::state::{ConnFlags, Phase, WriteFlags};
use super::flush::write_next_queue;
use super::mailbox::Batch;
use super::net::source::Source;
use super::shard::Shard;
use super::stats::Closed;
use super::timer_wheel::{Millis, TICK};
use super::turn_time::STEP_WORK;
use crate::ids::ConnId;

/// Rounds of own mail in one turn: a publication at home needs two, its answer and its delivery.
const OWN_MAIL_ROUNDS: usize = 4;
/// Messages of other shards that are handled between two looks at the time.
const MAIL_PER_LOOK: u32 = 64;

/// While mail is behind, one turn of so many reads a connection of each kind.
const TURNS_BEHIND_PER_READ: u32 = 16;

/// Bytes of queues to write in one turn: copying large replies to many sockets would take longer than other connections may wait.
const QUEUED_BYTES_PER_TURN: u64 = 4 * 1024 * 1024;

/// What the kernel reported about a socket.
#[derive(Clone, Copy, Default, Debug)]
pub struct Readiness {
    /// Bytes may be there.
    pub readable: bool,
    /// The socket takes more.
    pub writable: bool,
    /// The peer sends no more.
    pub read_closed: bool,
    /// An error, a reset among them.
    pub error: bool,
}

/// How long the shard may wait for events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// There is work: poll the kernel and go on.
    No,
    /// For this many milliseconds.
    For(u64),
    /// Until an event or a wake.
    Forever,
}

/// Which mail a round takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MailFrom {
    AllShards,
    OwnShard,
}

impl<A: App, S: Source> Shard<A, S> {
    /// The turn begins: what other shards sent is handled first.
    pub fn begin(&mut self, now: Millis) {
        self.cx.now = now;
        self.cx.compressors.begin_turn();
        let mut budget = self.cx.config.mail_per_turn;
        self.cx.time.begin();
        self.take_mail(&mut budget, MailFrom::AllShards);
        self.begin_reads();
    }

    /// The reads of the turn begin, with its whole time. What the kernel reports now is read after the connections that wait
    /// from the turn before.
    pub(super) fn begin_reads(&mut self) {
        let is_behind = self.is_mail_behind();
        self.cx.time.begin();
        self.cx.time.reads_wait = !self.ready.is_empty();
        self.spent_before = self.spent.len();
        // Reading is cheaper than handling what it sends, and would lengthen the queues without a bound.
        match is_behind {
            true => {
                self.turns_behind += 1;
                self.cx.time.end();
            }
            false => self.turns_behind = 0,
        }
    }

    /// What this shard has read and sent is not handled yet: here, as far as the time or the number of a turn went, or at
    /// another shard. A reply that was put off is no reason.
    fn is_mail_behind(&mut self) -> bool {
        let (me, messages_max) = (self.cx.me(), self.cx.config.mail_per_turn as usize);
        let partial = self.partial_batch.as_ref().filter(|batch| batch.from() == me).map_or(0, Batch::remaining);
        let own = partial + self.cx.mail.own_messages();
        own > 0 && (self.cx.time.is_over || own > messages_max) || self.cx.mail.is_receiver_behind(messages_max)
    }

    /// Nothing is read while mail of earlier reads waits; now and then a little, in case other mail is what waits.
    pub(super) fn reads_pause(&self) -> bool {
        !self.turns_behind.is_multiple_of(TURNS_BEHIND_PER_READ)
    }

    /// Mail, oldest first, until the budget or the time is over. While a flush is open and the next one has gathered its
    /// fill, mail waits in the mailbox, whose bound slows the senders down.
    fn take_mail(&mut self, budget: &mut u32, from: MailFrom) {
        while *budget > 0 {
            if self.flush.is_open() && self.app.turn_bytes() > self.cx.config.turn_bytes_max {
                return;
            }
            let next = match (self.partial_batch.take(), from) {
                (None, MailFrom::OwnShard) => self.cx.mail.receive_own(),
                (None, MailFrom::AllShards) => self.cx.mail.receive(),
                (partial, _) => partial,
            };
            let Some(mut batch) = next else { return };
            let portion = (*budget).min(MAIL_PER_LOOK);
            let (mut left, waiting) = (portion, batch.remaining());
            self.app.mail(&mut self.cx, &mut batch, &mut left);
            self.handle_app_output();
            if batch.remaining() == waiting {
                // The app takes no more in this turn.
                self.partial_batch = Some(batch);
                return;
            }
            *budget -= portion - left;
            if batch.is_empty() {
                self.cx.mail.recycle(batch);
            } else {
                self.partial_batch = Some(batch);
            }
            if self.cx.time.work_of_shard((portion - left) * STEP_WORK) {
                return;
            }
        }
    }

    /// What the app has for connections other than the one whose bytes it handles.
    #[inline]
    fn handle_app_output(&mut self) {
        if !self.cx.injected.is_empty() || !self.cx.answers.is_empty() {
            self.handle_messages_of_requests();
        }
    }

    #[cold]
    #[inline(never)]
    fn handle_messages_of_requests(&mut self) {
        self.handle_injected();
        self.send_answers();
    }

    /// The kernel reported a socket.
    pub fn event(&mut self, conn: ConnId, readiness: Readiness) {
        let slot = conn.slot;
        let Some(known) = self.cx.connections.get_mut(conn).filter(|known| known.phase != Phase::Closed) else {
            return;
        };
        if readiness.error {
            return self.close_socket(slot, Closed::Reset);
        }
        if readiness.readable {
            known.flags.insert(ConnFlags::READABLE);
        }
        if readiness.read_closed {
            known.flags.insert(ConnFlags::READ_CLOSED);
        }
        // EPOLLOUT comes with nearly every edge: the blocked bit is looked at first.
        if self.cx.connections.has(slot, WriteFlags::BLOCKED) && readiness.writable {
            self.cx.connections.clear(slot, WriteFlags::BLOCKED);
            self.cx.want_write(slot);
        }
        if readiness.readable || readiness.read_closed {
            self.read_in_order(slot);
        }
    }

    /// The client may have sent its request before the socket was registered: it is read without waiting for an edge.
    pub fn read_new(&mut self, conn: ConnId) {
        self.event(conn, Readiness { readable: true, ..Readiness::default() });
    }

    /// The turn ends. Says how long the shard may wait.
    ///
    /// The order is part of the design. Everything that can produce messages comes before the mail that carries them away,
    /// mail leaves before the flush because other shards wait for it, and slots are freed only after every step that closes.
    pub fn end(&mut self) -> Wait {
        // Bytes that are there already, before anything new: no edge will come for them.
        self.read_waiting();
        // Then the connections whose reading was stopped, in the same turn in which the reason ended.
        self.resume_rate_limited();
        self.resume_stalled();
        let pushes_before = self.cx.counters.mail_pushes;
        // Deadlines after reads: an answer that arrived in time counts, even if it is read late.
        self.handle_deadlines();
        // The app's own upkeep sees the result of reads and deadlines.
        self.app.sweep(&mut self.cx);
        // Before closes are carried out: the address of a connection that both sides have closed is not known any more.
        self.log_with_addresses();
        // Shutdown requests closes, as reads, deadlines and the sweep do; all are carried out together.
        self.close_wave();
        self.close_requested();
        // After the closes: a connection that was closed above may be forgotten in the same turn.
        self.free_slots();
        // Mail of all of the above leaves. Our own may come back, and bring more: a few rounds of it, within one budget.
        let moved = self.exchange_own_mail();
        // Last, since it takes longest: broadcasts and queues. Other shards have their mail by now.
        self.write_out();
        self.cx.counters.turns += 1;
        self.wait(moved | (self.cx.counters.mail_pushes > pushes_before))
    }

    /// The records of connections that may be logged now, each with the address of its connection.
    #[inline]
    pub(crate) fn log_with_addresses(&mut self) {
        if self.cx.log.has_pending() {
            self.log_pending();
        }
    }

    #[cold]
    fn log_pending(&mut self) {
        for (record, conn) in self.cx.log.take_pending() {
            let known = self.cx.connections.get(conn).is_some();
            let address = if known { self.address_of(conn.slot) } else { None };
            self.cx.log(record.with_address(address));
        }
    }

    /// True if mail of this shard to itself was handled.
    fn exchange_own_mail(&mut self) -> bool {
        let mut budget = self.cx.config.mail_per_turn;
        self.cx.time.begin();
        let mut moved = false;
        self.dispatch_mail();
        for _ in 0..OWN_MAIL_ROUNDS {
            let before = budget;
            if self.partial_batch.is_none() {
                self.take_mail(&mut budget, MailFrom::OwnShard);
            }
            if budget == before {
                break;
            }
            // A stalled connection may wait for an answer of the home shard on this shard.
            moved = true;
            self.dispatch_mail();
        }
        self.app.after_mail(&mut self.cx);
        moved
    }

    /// Mail leaves.
    fn dispatch_mail(&mut self) {
        self.app.before_dispatch(&mut self.cx);
        self.cx.dispatch_mail();
    }

    /// Deadlines are not judged at the end of this turn, or are again.
    pub fn hold_deadlines(&mut self, held: bool) {
        self.deadlines_held = held;
    }

    fn handle_deadlines(&mut self) {
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

    /// A wave of the shutdown, if the shard drains and it is time.
    fn close_wave(&mut self) {
        let (now, open) = (self.cx.now, self.cx.connections.open);
        let Some(wave) = self.drain.as_mut().and_then(|drain| drain.wave(now, open)) else { return };
        self.cx.counters.drain_waves += 1;
        self.close_answered();
        let slots = self.sockets.slots();
        if wave.ends_upgrades {
            (0..slots).for_each(|slot| self.refuse_for_shutdown(slot));
        }
        let (mut slot, mut closes) = (wave.from, wave.closes);
        while slot < slots && closes > 0 {
            if self.close_for_shutdown(slot) {
                closes -= 1;
            }
            slot += 1;
        }
        if let Some(drain) = &mut self.drain {
            drain.looked_up_to(slot, slots);
        }
    }

    /// One slice of the flush, which begins here if something was broadcast and none is open, and the queues.
    fn write_out(&mut self) {
        // The app is notified of each gap before anything after it can leave, and so before each of the next two steps.
        self.tell_dropped();
        if !self.flush.is_open() {
            self.app.turn_end(&mut self.cx);
            if !self.cx.broadcasts.is_empty() {
                self.flush.begin(&mut self.cx);
            }
        }
        self.tell_dropped();
        // Queues before broadcasts: a reply that was queued first is sent first.
        self.write_queues();
        if self.flush.is_open() {
            self.write_flush_slice();
        }
        self.tell_dropped();
        // What could not be written may be too much for the shard, and closes the longest backlogs.
        self.cx.judge_backlogs();
        self.close_requested();
    }

    /// Writes the queues that may be written, within the budget of a slice.
    fn write_queues(&mut self) {
        let sent_before = self.cx.counters.bytes_out;
        for _ in 0..self.cx.to_write.len().min(self.cx.config.deliveries_per_slice as usize) {
            let Some((slot, after)) = write_next_queue(&mut self.cx, &mut self.sockets) else { break };
            self.after_write(slot, after);
            if self.cx.counters.bytes_out - sent_before > QUEUED_BYTES_PER_TURN {
                break;
            }
        }
    }

    fn write_flush_slice(&mut self) {
        let mut budget = self.flush.slice_deliveries();
        while let Some((slot, after)) = self.flush.write(&mut self.cx, &mut self.sockets, &mut budget) {
            self.after_write(slot, after);
        }
        if self.flush.is_written() {
            self.flush.end();
            self.app.end_flush(&mut self.cx);
        } else if self.flush.is_first_cut() {
            self.cx.counters.flushes_cut += 1;
        }
    }

    /// Tells the app what was dropped, before anything more is written.
    #[inline]
    pub(super) fn tell_dropped(&mut self) {
        while let Some(gap) = self.cx.slow.take_gap() {
            self.app.dropped(&mut self.cx, gap.conn, gap.owner, gap.messages);
        }
    }

    /// The turn took so long: the lag is measured by it, and the next slice sized.
    pub fn turn_took(&mut self, us: u32) {
        self.peers.turn_took(&mut self.cx, us);
        self.flush.resize_slice(us, self.cx.config.deliveries_per_slice);
    }

    /// How long the shard may wait. `moved`: mail left or came in this turn.
    fn wait(&self, moved: bool) -> Wait {
        let cx = &self.cx;
        let work = self.flush.is_open()
            || self.app.turn_bytes() > 0
            || self.partial_batch.is_some()
            || !self.ready.is_empty()
            || !self.spent.is_empty()
            || self.stalled_wait
            || !cx.to_write.is_empty()
            || !self.leaving.is_empty()
            || !cx.close_requests.is_empty()
            || !cx.resumed.is_empty();
        // Mail that waits for room in a mailbox is sent when other mail has moved. If none moves, the receiver wakes
        // this shard.
        let room = moved && (!self.stalled.is_empty() || self.app.waits_for_room());
        if work || room {
            return Wait::No;
        }
        let tick = TICK.as_millis() as u64;
        let each_tick = !self.stalled.is_empty() || cx.mail.has_overflow() || self.drain.is_some();
        let sweep = self.app.next_sweep().map(|at| at.saturating_sub(cx.now));
        let deadlines = cx.wheel.next_in(cx.now).into_iter().chain(sweep).chain(self.peers.next_rested_in(cx.now));
        match deadlines.min() {
            Some(0) => Wait::No,
            Some(ms) if each_tick => Wait::For(ms.min(tick)),
            Some(ms) => Wait::For(ms),
            None if each_tick => Wait::For(tick),
            None => Wait::Forever,
        }
    }
}
