//! Bytes out: one pass over all that got something, cut into slices.
//!
//! A flush writes what was cast before it began. It is frozen then: no membership changes, no slot is freed, and what is
//! published later forms the next flush. Between two slices the shard reads, takes mail and answers as ever.
//!
//! First a pass over dense bytes counts how many casts touch each slot. Touched once, with nothing queued, is the fast path:
//! one send of the shared bytes, no reference taken, nothing looked up but the gate and the socket. All others take the
//! second path: what waits, then their casts in order, in one gathered write.

use std::io::IoSlice;
use std::mem;

use rustix::io::Errno;

use super::connection::state::{Edges, Phase, gate};
use super::net::source::Source;
use super::outbound::{Broadcast, NO_QUEUE};
use super::stats::{Closed, dropped_index};
use super::{App, Shard};
use crate::engine::outbound::GATHER_COPY_BYTES_MAX;

/// Microseconds that a turn with a slice of a flush should take: reads and mail wait no longer.
const FLUSH_SLICE_US: u32 = 500;
/// Deliveries in a slice, however slow they are.
const FLUSH_SLICE_DELIVERIES_MIN: u32 = 16;
/// Slices of one writev; what is beyond them leaves with the next.
const SLICES_MAX: usize = 64;

#[derive(Default)]
pub(crate) struct Flush {
    pub open: bool,
    casts: Vec<Broadcast>,
    /// Where the pass stands: the cast, and the member of it.
    cast: usize,
    member: usize,
    /// Slots that several casts touch, with each cast, sorted; and how many of them are done.
    multi: Vec<(u32, u32)>,
    multi_done: usize,
    /// It was cut at least once.
    cut: bool,
    scratch: Vec<u8>,
}

impl<A: App, S: Source> Shard<A, S> {
    /// One slice: begins a flush where none is open and something was cast, and goes on with it.
    pub(crate) fn flush(&mut self) {
        self.tell_dropped();
        if !self.flush.open {
            self.app.turn_end(&mut self.cx);
            if !self.cx.casts.is_empty() {
                self.freeze();
            }
        }
        self.tell_dropped();
        self.write_wanted();
        if self.flush.open {
            self.slice();
        }
        self.tell_dropped();
        self.cx.judge_backlogs();
        self.close_asked();
    }

    fn freeze(&mut self) {
        let flush = &mut self.flush;
        mem::swap(&mut flush.casts, &mut self.cx.casts);
        (flush.cast, flush.member, flush.multi_done) = (0, 0, 0);
        (flush.open, flush.cut) = (true, false);
        let gates = &mut self.cx.gates;
        let mut several = false;
        for cast in &flush.casts {
            for &slot in cast.members.iter() {
                let gate = &mut gates[slot as usize];
                if *gate & (gate::DEAF | gate::TOUCHED) == 0 {
                    *gate |= gate::TOUCHED;
                } else if *gate & gate::DEAF == 0 {
                    *gate |= gate::MULTI;
                    several = true;
                }
            }
        }
        if several {
            for (i, cast) in flush.casts.iter().enumerate() {
                let touched = cast.members.iter().filter(|&&slot| gates[slot as usize] & gate::MULTI != 0);
                flush.multi.extend(touched.map(|&slot| (slot, i as u32)));
            }
            flush.multi.sort_unstable();
        }
    }

    /// A turn took so long: the next slice is sized by it. No clock is read for this.
    pub fn turn_took(&mut self, us: u32) {
        self.lag.turn(us);
        self.look_at_lag();
        if self.flush.open {
            let fitting = u64::from(self.slice) * u64::from(FLUSH_SLICE_US) / u64::from(us.max(1));
            let smoothed = (3 * u64::from(self.slice) + fitting) / 4;
            let max = self.cx.limits.deliveries_per_slice.max(FLUSH_SLICE_DELIVERIES_MIN);
            self.slice = smoothed.clamp(u64::from(FLUSH_SLICE_DELIVERIES_MIN), u64::from(max)) as u32;
        }
    }

    fn slice(&mut self) {
        let mut budget = self.slice as usize;
        while budget > 0 && self.flush.multi_done < self.flush.multi.len() {
            budget -= 1;
            let from = self.flush.multi_done;
            let slot = self.flush.multi[from].0;
            let to = from + self.flush.multi[from..].iter().take_while(|&&(s, _)| s == slot).count();
            self.flush.multi_done = to;
            self.gathered(slot, from..to);
        }
        while budget > 0 && self.flush.cast < self.flush.casts.len() {
            self.slice_of_cast(&mut budget);
        }
        if self.flush.cast == self.flush.casts.len() && self.flush.multi_done == self.flush.multi.len() {
            self.end_flush();
        } else if !self.flush.cut {
            self.flush.cut = true;
            self.cx.counters.flushes_cut += 1;
        }
    }

    fn end_flush(&mut self) {
        self.flush.open = false;
        self.flush.casts.clear();
        self.flush.multi.clear();
        self.app.end_flush(&mut self.cx);
    }

    /// The delivery loop.
    fn slice_of_cast(&mut self, budget: &mut usize) {
        let Self { flush, cx, sources, .. } = self;
        let cast = &flush.casts[flush.cast];
        let frames = cast.frames.as_slice();
        let left = &cast.members[flush.member..];
        let (mut passed, mut writes, mut second_path) = (0, 0, None);
        for &slot in &left[..left.len().min(*budget)] {
            passed += 1;
            let gate = &mut cx.gates[slot as usize];
            if *gate == gate::TOUCHED
                && let Some(source) = &mut sources[slot as usize]
            {
                *gate = 0;
                writes += 1;
                let taken = source.write(frames);
                if taken != Ok(frames.len()) {
                    second_path = Some((slot, Some(taken)));
                    break;
                }
            } else if *gate & (gate::TOUCHED | gate::MULTI) == gate::TOUCHED {
                second_path = Some((slot, None));
                break;
            }
        }
        *budget -= passed;
        flush.member += passed;
        cx.counters.writes += writes;
        cx.counters.deliveries += writes * u64::from(cast.messages);
        cx.counters.bytes_out += writes * frames.len() as u64;
        let index = flush.cast;
        if flush.member == cast.members.len() {
            flush.cast += 1;
            flush.member = 0;
        }
        match second_path {
            Some((slot, Some(taken))) => self.cut_write(slot, index, taken),
            Some((slot, None)) => {
                let at = self.flush.multi.len();
                self.flush.multi.push((slot, index as u32));
                self.gathered(slot, at..at + 1);
                self.flush.multi.truncate(at);
            }
            None => {}
        }
    }

    /// A send of the fast path that the socket did not take whole: only now a reference is taken.
    fn cut_write(&mut self, slot: u32, cast: usize, taken: Result<usize, Errno>) {
        if taken == Err(Errno::INPROGRESS) {
            return self.block(slot);
        }
        let n = taken.unwrap_or(0);
        let cast = &self.flush.casts[cast];
        self.cx.counters.bytes_out -= (cast.frames.len() - n) as u64;
        if taken.is_err_and(|error| error != Errno::AGAIN) {
            return self.die(slot, Closed::Reset);
        }
        let index = self.cx.queue_index(slot);
        self.cx.queues.get_mut(index).insert_broadcast(cast, n);
        self.block(slot);
    }

    /// The second path: what waits for the slot, with the casts `multi[range]` where they belong, in one write.
    fn gathered(&mut self, slot: u32, range: std::ops::Range<usize>) {
        let touched = self.cx.gates[slot as usize] & gate::TOUCHED != 0;
        self.cx.gates[slot as usize] &= !(gate::TOUCHED | gate::MULTI);
        if !touched || self.conn(slot).phase == Phase::Dead {
            return;
        }
        let index = self.cx.queue_index(slot);
        let queue = self.cx.queues.get_mut(index);
        let waited = queue.bytes();
        for &(_, cast) in &self.flush.multi[range.clone()] {
            let cast = &self.flush.casts[cast as usize];
            let refused = queue.insert_broadcast(cast, 0);
            self.cx.counters.dropped[dropped_index(cast.owner.policy)] += refused;
            self.cx.counters.deliveries += u64::from(cast.messages);
        }
        queue.unmark_cast();
        if self.cx.gates[slot as usize] & gate::SHUT == 0 {
            self.write_queue(slot);
        } else {
            for &(_, cast) in &self.flush.multi[range] {
                self.cx.queues.hold(&self.flush.casts[cast as usize].frames);
            }
            self.cx.queued(slot, waited);
        }
    }

    /// Writes the queues that may be written, within the budget of a slice. A slot that a cast is on its way to waits for it.
    fn write_wanted(&mut self) {
        for _ in 0..self.cx.wants.len().min(self.cx.limits.deliveries_per_slice as usize) {
            let Some(slot) = self.cx.wants.pop_front() else { break };
            let Some(conn) = self.cx.conns.get_mut(slot as usize) else { continue };
            conn.edges.clear(Edges::IN_WANTS);
            if self.cx.gates[slot as usize] & (gate::TOUCHED | gate::SHUT) != 0 {
                continue;
            }
            if conn.queue != NO_QUEUE {
                self.write_queue(slot);
            } else {
                self.push_inside(slot);
            }
        }
    }

    /// Has what waits inside the source leave, where nothing is queued that would take it along.
    fn push_inside(&mut self, slot: u32) {
        let Some(source) = self.sources[slot as usize].as_mut().filter(|source| source.wants_write()) else { return };
        self.cx.counters.writes += 1;
        match source.push() {
            Ok(()) if self.conn(slot).phase == Phase::Finishing => self.finish(slot),
            Ok(()) => {}
            Err(Errno::AGAIN) => self.block(slot),
            Err(_) => self.die(slot, Closed::Reset),
        }
    }

    /// Writes what waits for a slot, in one write, and gives the queue back where nothing is left.
    fn write_queue(&mut self, slot: u32) {
        let index = self.conn(slot).queue;
        let queue = self.cx.queues.get(index);
        let Some(source) = &mut self.sources[slot as usize] else { return };
        let total = queue.bytes();
        if total == 0 {
            self.cx.release_queue(slot);
            return self.push_inside(slot);
        }
        let (given, taken) = if total <= GATHER_COPY_BYTES_MAX {
            self.flush.scratch.clear();
            queue.slices().for_each(|slice| self.flush.scratch.extend_from_slice(slice));
            (total, source.write(&self.flush.scratch))
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let (mut count, mut given) = (0, 0);
            for (at, slice) in slices.iter_mut().zip(queue.slices()) {
                *at = IoSlice::new(slice);
                count += 1;
                given += slice.len();
            }
            (given, source.write_slices(&slices[..count]))
        };
        self.cx.counters.writes += 1;
        let n = match taken {
            Ok(n) => n,
            Err(Errno::AGAIN) => 0,
            Err(Errno::INPROGRESS) => given,
            Err(_) => return self.die(slot, Closed::Reset),
        };
        self.cx.counters.bytes_out += n as u64;
        self.cx.queues.get_mut(index).advance(n);
        if n == total {
            self.cx.release_queue(slot);
        }
        if n < given || taken == Err(Errno::INPROGRESS) {
            self.block(slot);
        } else if n < total {
            self.cx.want(slot);
        } else if self.conn(slot).phase == Phase::Finishing && self.has_sent_all(slot) {
            self.finish(slot);
        }
    }
}
