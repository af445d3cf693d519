//! The backlog of a connection: how frames are queued, and what happens when the queue exceeds its bound.

use std::borrow::Cow;

use super::state::{ConnFlags, Phase, WriteFlags};
use crate::engine::context::Context;
use crate::engine::log_ring::LogRecord;
use crate::engine::outbound::QueueKey;
use crate::engine::stats::{Bound, Closed};
use crate::ids::OptionU32;
use crate::ws::{self, Opcode};

/// A queue above this counts from the moment at which it is filled; others from the moment at which the peer takes no more.
const COUNTED_BYTES_MIN: usize = 64 * 1024;

/// The answer to a request for a part of the memory of all backlogs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reservation {
    /// The bytes count until `release_backlog`.
    Taken,
    /// There is no room now. The connections with the longest backlogs are being closed if it takes that to make it.
    Later,
    /// More than all backlogs of the shard may keep.
    Never,
}

impl<M: Send> Context<M> {
    /// Bytes that all backlogs of this shard may keep.
    fn backlogs_max(&self) -> usize {
        self.config.backlog_bytes_max / self.mail.shards().max(1)
    }

    /// Reserves bytes of the memory of all backlogs, for a message that is not produced yet.
    pub fn reserve_backlog(&mut self, bytes: usize) -> Reservation {
        let max = self.backlogs_max();
        if bytes > max {
            return Reservation::Never;
        }
        let excess = self.queues.excess(max - bytes);
        if excess == 0 {
            self.queues.reserved += bytes;
            return Reservation::Taken;
        }
        // What is reserved becomes free without a close. And closes take effect at the end of the turn: one call is enough.
        let excess = excess.saturating_sub(self.queues.reserved);
        if excess > 0 && self.crowded_in != Some(self.counters.turns) {
            self.crowded_in = Some(self.counters.turns);
            self.close_longest_backlogs(excess);
        }
        Reservation::Later
    }

    /// The message is queued, or will not be produced.
    pub fn release_backlog(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.queues.reserved, "only what was reserved is released");
        self.queues.reserved = self.queues.reserved.saturating_sub(bytes);
    }

    /// A part of a queue was written: the connection goes on if it waits for that.
    #[inline]
    pub(crate) fn after_queue_write(&mut self, slot: u32) {
        if self.connections[slot].flags.contains(ConnFlags::RESUMES_WHEN_WRITTEN) {
            let waits = self.connections[slot].queue.get().map_or(0, |key| self.queues.get(key).bytes());
            if waits <= self.config.outbound_bytes_max / 2 {
                self.connections[slot].flags.remove(ConnFlags::RESUMES_WHEN_WRITTEN);
                let conn = self.connections.id(slot);
                self.resumed.push(conn);
            }
        }
    }

    /// Appends frames to what is written to a slot: to the reply buffer of the read under way, or to its queue.
    pub(crate) fn queue(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if self.current == Some(slot) {
            return write(&mut self.reply_buffer);
        }
        let key = self.queue_for(slot);
        let queue = self.queues.get_mut(key);
        let waited = queue.bytes();
        queue.reply(write);
        if queue.bytes() > COUNTED_BYTES_MIN {
            self.queues.keep(key);
        }
        self.after_queueing(slot, waited);
    }

    /// As `queue`, for a frame that has a buffer of its own.
    pub(crate) fn queue_buffer(&mut self, slot: u32, buffer: Vec<u8>, from: usize) {
        if self.current == Some(slot) {
            return self.reply_buffer.extend_from_slice(&buffer[from..]);
        }
        let key = self.queue_for(slot);
        let queue = self.queues.get_mut(key);
        let waited = queue.bytes();
        queue.push_buffer(buffer, from);
        self.queues.keep(key);
        self.after_queueing(slot, waited);
    }

    /// As `queue`, for one message.
    pub(crate) fn queue_message(&mut self, slot: u32, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        let compression = self.connections[slot].compression;
        if !compression.is_on() {
            return self.queue(slot, |out| ws::frame_with(out, opcode, write));
        }
        let frame = self.compressors.frame(slot, compression, opcode, write, &mut self.counters);
        if !frame.is_empty() {
            self.queue(slot, |out| out.extend_from_slice(&frame));
        }
        self.compressors.keep_frame(frame);
    }

    /// Queues frames of which `written` bytes have left already, which is possible only where nothing waits. The reply
    /// buffer is passed by: they come before what is in it.
    pub(crate) fn queue_rest(&mut self, slot: u32, frames: &[u8], written: usize) {
        if self.connections[slot].phase == Phase::Closed {
            return;
        }
        let current = self.current.take();
        self.queue(slot, |out| out.extend_from_slice(frames));
        self.current = current;
        if let (1.., Some(key)) = (written, self.connections[slot].queue.get()) {
            self.queues.get_mut(key).advance(written);
        }
    }

    /// The queue of a slot, created if it does not exist, and marked if a broadcast is under way to the slot.
    pub(crate) fn queue_for(&mut self, slot: u32) -> QueueKey {
        let key = match self.connections[slot].queue.get() {
            Some(key) => key,
            None => {
                let framing = self.connections[slot].compression.framing();
                let key = self.queues.take(slot, framing);
                self.connections[slot].queue = OptionU32::some(key);
                self.connections.set(slot, WriteFlags::QUEUED);
                key
            }
        };
        if self.connections.has(slot, WriteFlags::IN_FLUSH) {
            self.queues.get_mut(key).mark_broadcast();
        }
        key
    }

    /// After something was queued: has it written, or, if the peer does not read and too much waited already, has the
    /// connection closed. The bound is checked against what waited before (`waited`): an empty queue takes any one item. A large
    /// reply, of which a connection has one at a time, does not count: what follows it has a queue as long as ever.
    pub(crate) fn after_queueing(&mut self, slot: u32, waited: usize) {
        if !self.connections.has(slot, WriteFlags::BLOCKED_OR_HELD) {
            return self.want_write(slot);
        }
        self.apply_policies(slot);
        let Some(key) = self.connections[slot].queue.get() else { return };
        self.queues.keep(key);
        let (queue, max) = (self.queues.get(key), self.config.outbound_bytes_max);
        let waits = waited.min(queue.bytes());
        if waits > max && !queue.has_large_reply_of(waits - max) {
            let conn = self.connections.id(slot);
            self.request_close(conn, 0, Cow::Borrowed(""), Closed::Slow);
        }
    }

    /// Has the queue of a slot written at the end of the turn.
    pub(crate) fn want_write(&mut self, slot: u32) {
        let flags = &mut self.connections[slot].flags;
        if !flags.contains(ConnFlags::IN_TO_WRITE) {
            flags.insert(ConnFlags::IN_TO_WRITE);
            self.to_write.push_back(slot);
        }
    }

    /// Returns the queue of a slot to the pool, with its items.
    pub(crate) fn release_queue(&mut self, slot: u32) {
        if let Some(key) = self.connections[slot].queue.take() {
            self.queues.give_back(key);
            self.connections.clear(slot, WriteFlags::QUEUED);
            self.after_queue_write(slot);
        }
    }

    /// The socket accepted only a part: the rest waits for the peer.
    pub(crate) fn block(&mut self, slot: u32) {
        self.counters.writes_short += 1;
        self.connections.set(slot, WriteFlags::BLOCKED);
        if self.connections[slot].queue.is_some() {
            self.apply_policies(slot);
        }
        if let Some(key) = self.connections[slot].queue.get() {
            self.queues.hold_all_of(key);
            self.queues.keep(key);
        }
    }

    /// Applies the policies to the backlog of a peer that does not read. A connection that the app holds is not slow,
    /// and nothing is dropped for a connection that is no longer open: the app could not be notified of the gap.
    pub(crate) fn apply_policies(&mut self, slot: u32) {
        let conn = self.connections.id(slot);
        let Self { connections, queues, counters, slow, config, .. } = self;
        let blocked = connections.write_flags[slot as usize] & WriteFlags::BLOCKED_OR_HELD == WriteFlags::BLOCKED;
        let Some(key) = connections[slot].queue.get() else { return };
        if !blocked || connections[slot].phase != Phase::Open || !queues.get(key).has_owners() {
            return;
        }
        let queue = queues.get_mut(key);
        queue.apply_policies(config.outbound_bytes_max, |dropped| slow.add(conn, dropped, counters));
        if queue.is_empty() && !connections.has(slot, WriteFlags::IN_FLUSH) {
            self.release_queue(slot);
        }
    }

    /// Once a turn: if all backlogs together keep too much memory alive, the connections with the longest are closed. And
    /// the log record of what was dropped, now and then.
    #[inline]
    pub(crate) fn judge_backlogs(&mut self) {
        if !self.queues.keeps_nothing() {
            let excess = self.queues.excess(self.backlogs_max());
            if excess > 0 {
                self.close_longest_backlogs(excess);
            }
        }
        if let Some(record) = self.slow.log_record(self.now, &self.counters) {
            self.log(record);
        }
    }

    fn close_longest_backlogs(&mut self, excess: usize) {
        let connections = &self.connections;
        let may_close = |slot: u32| {
            connections.has(slot, WriteFlags::BLOCKED_OR_HELD)
                && connections.id_at(slot).is_some_and(|conn| connections.is_open(conn))
        };
        let longest = self.queues.longest(excess, may_close);
        let kept_bytes = self.queues.kept_bytes();
        for slot in longest {
            if self.log.throttle(Bound::Backlogs, self.now).is_some() {
                let connections = self.queues.len();
                self.log(LogRecord::Crowded { kept_bytes, connections });
            }
            if let Some(conn) = self.connections.id_at(slot) {
                self.request_close(conn, 0, Cow::Borrowed(""), Closed::Slow);
            }
        }
    }
}
