//! Broadcasts to the sockets: one pass over all connections that got a broadcast, split into slices.
//!
//! A flush writes the broadcasts that were made before it began. While it is open no membership changes and no slot is
//! freed, and later publications form the next flush. Between two slices the shard reads, takes mail and answers as
//! usual.
//!
//! First a pass over dense bytes counts how many broadcasts reach each slot. One broadcast with an empty queue is the
//! fast path: one send of the shared bytes, without taking a reference and without a look-up except the write flags and
//! the socket. All other slots take the second path: their backlog, then their broadcasts in order, in one gathered
//! write.

use std::mem;
use std::ops::Range;

use rustix::io::Errno;

use super::connection::state::{ConnFlags, Phase, WriteFlags};
use super::connection::write::{AfterWrite, Sockets};
use super::context::Context;
use super::net::source::Source;
use super::outbound::Broadcast;
use super::stats::dropped_index;

/// Microseconds that a turn with a slice of a flush should take: reads and mail wait no longer.
const FLUSH_SLICE_US: u32 = 500;
/// Deliveries in a slice, however slow they are.
const FLUSH_SLICE_DELIVERIES_MIN: u32 = 16;

const IN_FLUSH_ANY: WriteFlags = WriteFlags::IN_FLUSH.union(WriteFlags::IN_FLUSH_MULTIPLE);

/// A slot after whose write the shard has something to do.
pub(crate) type Stop = (u32, AfterWrite);

pub(crate) struct Flush {
    open: bool,
    broadcasts: Vec<Broadcast>,
    /// Where the pass is: the broadcast, and the member of it.
    broadcast: usize,
    member: usize,
    /// Slots that several broadcasts reach, with each broadcast, sorted; and how many of the pairs are done.
    multiple: Vec<(u32, u32)>,
    multiple_done: usize,
    /// It was cut at least once.
    cut: bool,
    /// Deliveries in the next slice.
    slice: u32,
}

impl Flush {
    pub(crate) fn new(deliveries_per_slice: u32) -> Self {
        Self {
            open: false,
            broadcasts: Vec::new(),
            broadcast: 0,
            member: 0,
            multiple: Vec::new(),
            multiple_done: 0,
            cut: false,
            slice: deliveries_per_slice,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn slice_deliveries(&self) -> usize {
        self.slice as usize
    }

    pub(crate) fn set_slice(&mut self, deliveries_per_slice: u32) {
        self.slice = deliveries_per_slice;
    }

    /// A turn took so long: the next slice is sized by it. No clock is read for this.
    pub(crate) fn resize_slice(&mut self, turn_us: u32, deliveries_per_slice: u32) {
        if self.open {
            let fitting = u64::from(self.slice) * u64::from(FLUSH_SLICE_US) / u64::from(turn_us.max(1));
            let smoothed = (3 * u64::from(self.slice) + fitting) / 4;
            let max = deliveries_per_slice.max(FLUSH_SLICE_DELIVERIES_MIN);
            self.slice = smoothed.clamp(u64::from(FLUSH_SLICE_DELIVERIES_MIN), u64::from(max)) as u32;
        }
    }

    /// Opens a flush of what was broadcast, and marks the slots that it reaches.
    pub(crate) fn begin<M: Send>(&mut self, cx: &mut Context<M>) {
        mem::swap(&mut self.broadcasts, &mut cx.broadcasts);
        (self.broadcast, self.member, self.multiple_done) = (0, 0, 0);
        (self.open, self.cut) = (true, false);
        let write_flags = &mut cx.connections.write_flags;
        let mut several = false;
        for broadcast in &self.broadcasts {
            for &slot in broadcast.members.iter() {
                let flags = &mut write_flags[slot as usize];
                if !flags.intersects(WriteFlags::NOT_OPEN.union(WriteFlags::IN_FLUSH)) {
                    flags.insert(WriteFlags::IN_FLUSH);
                } else if !flags.contains(WriteFlags::NOT_OPEN) {
                    flags.insert(WriteFlags::IN_FLUSH_MULTIPLE);
                    several = true;
                }
            }
        }
        if several {
            let is_multiple = |slot: u32| write_flags[slot as usize].contains(WriteFlags::IN_FLUSH_MULTIPLE);
            for (i, broadcast) in self.broadcasts.iter().enumerate() {
                let reached = broadcast.members.iter().filter(|&&slot| is_multiple(slot));
                self.multiple.extend(reached.map(|&slot| (slot, i as u32)));
            }
            self.multiple.sort_unstable();
        }
    }

    /// Goes on with the open flush until `budget` deliveries are made or all is written (`None`), or until the shard has
    /// something to do for a slot.
    pub(crate) fn write<M: Send, S: Source>(
        &mut self,
        cx: &mut Context<M>,
        sockets: &mut Sockets<S>,
        budget: &mut usize,
    ) -> Option<Stop> {
        while *budget > 0 && self.multiple_done < self.multiple.len() {
            *budget -= 1;
            let from = self.multiple_done;
            let slot = self.multiple[from].0;
            let to = from + self.multiple[from..].iter().take_while(|&&(s, _)| s == slot).count();
            self.multiple_done = to;
            let stop = self.write_gathered(cx, sockets, slot, from..to);
            if stop.is_some() {
                return stop;
            }
        }
        while *budget > 0 && self.broadcast < self.broadcasts.len() {
            let stop = self.write_broadcast(cx, sockets, budget);
            if stop.is_some() {
                return stop;
            }
        }
        None
    }

    /// All deliveries of the open flush are made.
    pub(crate) fn is_written(&self) -> bool {
        self.broadcast == self.broadcasts.len() && self.multiple_done == self.multiple.len()
    }

    pub(crate) fn end(&mut self) {
        self.open = false;
        self.broadcasts.clear();
        self.multiple.clear();
    }

    /// The flush continues in a later turn. True for the first time.
    pub(crate) fn is_first_cut(&mut self) -> bool {
        !mem::replace(&mut self.cut, true)
    }

    /// The delivery loop.
    fn write_broadcast<M: Send, S: Source>(
        &mut self,
        cx: &mut Context<M>,
        sockets: &mut Sockets<S>,
        budget: &mut usize,
    ) -> Option<Stop> {
        let broadcast = &self.broadcasts[self.broadcast];
        let frames = broadcast.frames.as_slice();
        let left = &broadcast.members[self.member..];
        let (mut passed, mut writes, mut second_path) = (0, 0, None);
        let (write_flags, sources) = (&mut cx.connections.write_flags, &mut sockets.sources);
        for &slot in &left[..left.len().min(*budget)] {
            passed += 1;
            let flags = &mut write_flags[slot as usize];
            if *flags == WriteFlags::IN_FLUSH
                && let Some(source) = &mut sources[slot as usize]
            {
                *flags = WriteFlags::empty();
                writes += 1;
                let taken = source.write(frames);
                if taken != Ok(frames.len()) {
                    second_path = Some((slot, Some(taken)));
                    break;
                }
            } else if *flags & IN_FLUSH_ANY == WriteFlags::IN_FLUSH {
                second_path = Some((slot, None));
                break;
            }
        }
        *budget -= passed;
        self.member += passed;
        cx.counters.writes += writes;
        cx.counters.deliveries += writes * u64::from(broadcast.messages);
        cx.counters.bytes_out += writes * frames.len() as u64;
        let index = self.broadcast;
        if self.member == broadcast.members.len() {
            self.broadcast += 1;
            self.member = 0;
        }
        match second_path? {
            (slot, Some(taken)) => self.queue_rest(cx, slot, index, taken),
            (slot, None) => {
                let at = self.multiple.len();
                self.multiple.push((slot, index as u32));
                let stop = self.write_gathered(cx, sockets, slot, at..at + 1);
                self.multiple.truncate(at);
                stop
            }
        }
    }

    /// A send of the fast path that the socket did not take whole: only now a reference is taken.
    fn queue_rest<M: Send>(
        &mut self,
        cx: &mut Context<M>,
        slot: u32,
        broadcast: usize,
        taken: Result<usize, Errno>,
    ) -> Option<Stop> {
        if taken == Err(Errno::INPROGRESS) {
            cx.block(slot);
            return None;
        }
        let n = taken.unwrap_or(0);
        let broadcast = &self.broadcasts[broadcast];
        cx.counters.bytes_out -= (broadcast.frames.len() - n) as u64;
        if taken.is_err_and(|error| error != Errno::AGAIN) {
            return Some((slot, AfterWrite::Close));
        }
        let key = cx.queue_for(slot);
        cx.queues.get_mut(key).insert_broadcast(broadcast, n);
        cx.block(slot);
        None
    }

    /// The second path: the backlog of the slot and the broadcasts `multiple[range]` in their order, in one write.
    fn write_gathered<M: Send, S: Source>(
        &mut self,
        cx: &mut Context<M>,
        sockets: &mut Sockets<S>,
        slot: u32,
        range: Range<usize>,
    ) -> Option<Stop> {
        let in_flush = cx.connections.has(slot, WriteFlags::IN_FLUSH);
        cx.connections.clear(slot, IN_FLUSH_ANY);
        if !in_flush || cx.connections[slot].phase == Phase::Closed {
            return None;
        }
        let key = cx.queue_for(slot);
        let queue = cx.queues.get_mut(key);
        let waited = queue.bytes();
        for &(_, broadcast) in &self.multiple[range.clone()] {
            let broadcast = &self.broadcasts[broadcast as usize];
            let refused = queue.insert_broadcast(broadcast, 0);
            cx.counters.dropped[dropped_index(broadcast.owner.policy)] += refused;
            cx.counters.deliveries += u64::from(broadcast.messages);
        }
        queue.unmark_broadcast();
        if !cx.connections.has(slot, WriteFlags::BLOCKED_OR_HELD) {
            return stop_for(slot, sockets.write_queue(cx, slot));
        }
        for &(_, broadcast) in &self.multiple[range] {
            cx.queues.hold(&self.broadcasts[broadcast as usize].frames);
        }
        cx.after_queueing(slot, waited);
        None
    }
}

fn stop_for(slot: u32, after: AfterWrite) -> Option<Stop> {
    (after != AfterWrite::Nothing).then_some((slot, after))
}

/// Writes the next of the queues that may be written. `None` if the list is empty. A slot that a broadcast has yet to reach
/// waits for it.
pub(crate) fn write_next_queue<M: Send, S: Source>(cx: &mut Context<M>, sockets: &mut Sockets<S>) -> Option<Stop> {
    let slot = cx.to_write.pop_front()?;
    let Some(conn) = cx.connections.in_slot(slot) else { return Some((slot, AfterWrite::Nothing)) };
    conn.flags.remove(ConnFlags::IN_TO_WRITE);
    let has_queue = conn.queue.is_some();
    let after = if cx.connections.has(slot, WriteFlags::IN_FLUSH.union(WriteFlags::BLOCKED_OR_HELD)) {
        AfterWrite::Nothing
    } else if has_queue {
        sockets.write_queue(cx, slot)
    } else {
        sockets.push_inside(cx, slot)
    };
    Some((slot, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_the_time_that_turns_take_within_their_bounds() {
        let mut flush = Flush::new(512);
        flush.resize_slice(50_000, 512);
        assert_eq!(flush.slice_deliveries(), 512, "nothing is flushed");
        flush.open = true;
        (0..50).for_each(|_| flush.resize_slice(50_000, 512));
        assert_eq!(flush.slice_deliveries(), FLUSH_SLICE_DELIVERIES_MIN as usize);
        (0..50).for_each(|_| flush.resize_slice(1, 512));
        assert_eq!(flush.slice_deliveries(), 512);
    }
}
