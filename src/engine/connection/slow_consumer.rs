//! Peers that do not read: a peer is one from the moment at which its socket takes less than it was given until it takes
//! more again. Meanwhile the policies of what waits for it are carried out, and the app is told of every gap before
//! anything behind it can leave.

use std::borrow::Cow;

use super::state::{Phase, gate};
use crate::engine::log_ring::LogRecord;
use crate::engine::net::source::Source;
use crate::engine::outbound::{Fate, NO_QUEUE, Owner};
use crate::engine::stats::{Bound, Closed, dropped_index};
use crate::engine::timer_wheel::Millis;
use crate::engine::{App, Context, Shard};
use crate::ids::ConnId;
use crate::slow_policy::SlowConsumerPolicy;

/// Milliseconds between two records of what policies dropped.
const DROPS_NOTED_EVERY: Millis = 10_000;

/// What was dropped and not told yet.
#[derive(Default)]
pub(crate) struct Slow {
    untold: Vec<Gap>,
    /// Something was dropped since the last record.
    has_news: bool,
    /// What the last record of it counted, and when the next may come.
    noted: [u64; 3],
    note_at: Millis,
}

struct Gap {
    conn: ConnId,
    owner: Owner,
    messages: u64,
}

impl<M: Send> Context<M> {
    /// As `reply_frames`, for frames of an owner whose policy holds for them while the peer does not read. `latest`: where
    /// the newest publication begins in them.
    pub fn deliver(&mut self, conn: ConnId, owner: Owner, frames: &[u8], latest: Option<usize>) {
        if !self.takes_more(conn) || frames.is_empty() {
            return;
        }
        if self.current == Some(conn.slot) {
            return self.queue(conn.slot, |out| out.extend_from_slice(frames));
        }
        let index = self.queue_index(conn.slot);
        let queue = self.queues.get_mut(index);
        let waited = queue.bytes();
        queue.put(owner, frames, latest);
        self.queued(conn.slot, waited);
    }

    /// Drops all that waits of an owner for one peer, and what is on its way there: it follows a gap, or cannot be read
    /// without what was dropped. Returns the messages.
    pub fn purge(&mut self, conn: ConnId, owner: Owner) -> u64 {
        let touched = self.takes_more(conn) && self.gates[conn.index()] & gate::TOUCHED != 0;
        let index = if touched { self.queue_index(conn.slot) } else { self.queue_of(conn) };
        if index == NO_QUEUE {
            return 0;
        }
        let queue = self.queues.get_mut(index);
        let messages = queue.purge(owner.id);
        if touched {
            queue.mark_cast();
            queue.decide(owner.id, Fate::Refused);
        } else if queue.is_empty() {
            self.release_queue(conn.slot);
        }
        self.counters.dropped[dropped_index(owner.policy)] += messages;
        messages
    }

    /// Something of an owner was dropped for this peer, and the app is not told yet.
    pub fn has_gap(&self, conn: ConnId, owner: Owner) -> bool {
        self.slow.untold.iter().any(|gap| gap.conn == conn && gap.owner.id == owner.id)
    }

    /// A subscription has ended: what waits of it or is on its way is the peer's, but neither drops of it nor what becomes
    /// of it are told any more. Another of the same owner may follow.
    pub fn disown(&mut self, conn: ConnId, owner: Owner) {
        if owner.policy == SlowConsumerPolicy::Close {
            return;
        }
        self.slow.untold.retain(|gap| gap.conn != conn || gap.owner.id != owner.id);
        let Some(gate) = self.gates.get(conn.index()).filter(|_| self.takes_more(conn)) else { return };
        if gate & gate::TOUCHED != 0 {
            let index = self.queue_index(conn.slot);
            self.queues.get_mut(index).decide(owner.id, Fate::Left);
        }
        let index = self.queue_of(conn);
        if index != NO_QUEUE {
            self.queues.get_mut(index).disown(owner.id);
        }
    }

    /// All that waited for a peer is gone, and it ends: it comes again from where it has read.
    pub(crate) fn forget_gaps(&mut self, conn: ConnId) {
        self.slow.untold.retain(|gap| gap.conn != conn);
    }

    fn queue_of(&self, conn: ConnId) -> u32 {
        let known = self.conns.get(conn.index()).filter(|known| known.generation == conn.generation);
        known.map_or(NO_QUEUE, |known| known.queue)
    }

    /// Carries out the policies on what waits for a peer that does not read. Whom the app holds is not slow, and of whom is
    /// no longer open nothing is dropped: no gap could be told.
    pub(crate) fn thin(&mut self, slot: u32) {
        let conn = &self.conns[slot as usize];
        let (queue, generation) = (conn.queue, conn.generation);
        let slow = self.gates[slot as usize] & gate::SHUT == gate::BLOCKED && conn.phase == Phase::Open;
        if !slow || queue == NO_QUEUE || !self.queues.get(queue).has_wards() {
            return;
        }
        let conn = ConnId::new(slot, generation);
        let Self { queues, counters, slow, limits, .. } = self;
        let queue = queues.get_mut(queue);
        queue.thin(limits.outbound_bytes_max, |lost| {
            slow.has_news = true;
            counters.dropped[dropped_index(lost.owner.policy)] += lost.messages;
            match slow.untold.last_mut() {
                Some(gap) if gap.conn == conn && gap.owner == lost.owner => gap.messages += lost.messages,
                _ => slow.untold.push(Gap { conn, owner: lost.owner, messages: lost.messages }),
            }
        });
        if queue.is_empty() && self.gates[slot as usize] & gate::TOUCHED == 0 {
            self.release_queue(slot);
        }
    }

    /// The socket took less than it was given: what is left waits for its peer.
    pub(crate) fn falls_behind(&mut self, slot: u32) {
        let queue = self.conns[slot as usize].queue;
        if queue != NO_QUEUE {
            self.thin(slot);
        }
        let queue = self.conns[slot as usize].queue;
        if queue != NO_QUEUE {
            self.queues.hold_all_of(queue);
            self.queues.keep(queue);
        }
    }

    /// Once a turn: where all backlogs together keep too much alive, those with most waiting are closed. And the record of
    /// what was dropped, now and then.
    #[inline]
    pub(crate) fn judge_backlogs(&mut self) {
        if !self.queues.keeps_nothing() {
            let excess = self.queues.excess(self.limits.backlog_bytes_max / self.mail.shards().max(1));
            if excess > 0 {
                self.make_room(excess);
            }
        }
        if self.slow.has_news && self.now >= self.slow.note_at {
            self.note_drops();
        }
    }

    fn note_drops(&mut self) {
        let [oldest, all_but_latest] = self.counters.dropped;
        let count = [oldest, all_but_latest, self.counters.subscriptions_cut];
        let [oldest, all_but_latest, subscriptions_cut] = std::array::from_fn(|i| count[i] - self.slow.noted[i]);
        self.note(LogRecord::Dropped { oldest, all_but_latest, subscriptions_cut });
        (self.slow.noted, self.slow.has_news) = (count, false);
        self.slow.note_at = self.now + DROPS_NOTED_EVERY;
    }

    fn make_room(&mut self, excess: usize) {
        let may_go = |slot: u32| {
            let shut = self.gates[slot as usize] & gate::SHUT != 0;
            shut && self.conn_at(slot).is_some_and(|conn| self.is_open(conn))
        };
        let longest = self.queues.longest(excess, may_go);
        let kept_bytes = self.queues.kept_bytes();
        for slot in longest {
            if self.said.reached(Bound::Backlogs, self.now).is_some() {
                let connections = self.queues.len();
                self.note(LogRecord::Crowded { kept_bytes, connections });
            }
            if let Some(conn) = self.conn_at(slot) {
                self.ask_close(conn, 0, Cow::Borrowed(""), Closed::Slow);
            }
        }
    }
}

impl<A: App, S: Source> Shard<A, S> {
    /// Tells the app what was dropped, before anything more is written.
    #[inline]
    pub(crate) fn tell_dropped(&mut self) {
        if !self.cx.slow.untold.is_empty() {
            self.tell_gaps();
        }
    }

    fn tell_gaps(&mut self) {
        while let Some(Gap { conn, owner, messages }) = self.cx.slow.untold.pop() {
            self.app.dropped(&mut self.cx, conn, owner, messages);
        }
    }
}
