//! The sockets of a shard, and every write to them.
//!
//! A write never ends a connection: it returns what the shard has to do next (`AfterWrite`), because the app takes part
//! in the end of a connection. Bytes that a socket does not accept wait in the queue of its connection.

use std::io;
use std::io::IoSlice;

use rustix::io::Errno;

use super::state::{Phase, WriteFlags};
use crate::engine::context::Context;
use crate::engine::net::source::Source;
use crate::engine::outbound::GATHER_COPY_BYTES_MAX;
use crate::sys::advise_huge;

/// Slices of one writev. What is beyond them leaves with the next.
const SLICES_MAX: usize = 64;

/// What the shard has to do after a write.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AfterWrite {
    Nothing,
    /// All has left of a connection that is finishing: its FIN is next.
    SendFin,
    /// The socket reported an error: the connection is over.
    Close,
}

pub(crate) struct Sockets<S> {
    /// By slot. `None` where the socket is closed.
    pub sources: Vec<Option<S>>,
    /// What is gathered for one send.
    scratch: Vec<u8>,
}

impl<S: Source> Sockets<S> {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self { sources: Vec::with_capacity(connections_max), scratch: Vec::new() }
    }

    pub(crate) fn insert(&mut self, slot: u32, source: S) {
        if slot as usize == self.sources.len() {
            self.sources.push(Some(source));
        } else {
            self.sources[slot as usize] = Some(source);
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&S> {
        self.sources[slot as usize].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut S> {
        self.sources[slot as usize].as_mut()
    }

    /// Closes the socket.
    pub(crate) fn close(&mut self, slot: u32) {
        self.sources[slot as usize] = None;
    }

    /// Slots that were ever used.
    pub(crate) fn slots(&self) -> u32 {
        self.sources.len() as u32
    }

    /// The source holds bytes that the kernel will report no edge for.
    pub(crate) fn has_more_inside(&self, slot: u32) -> bool {
        self.get(slot).is_some_and(Source::more_inside)
    }

    /// The source holds bytes of its own to send.
    pub(crate) fn wants_write(&self, slot: u32) -> bool {
        self.get(slot).is_some_and(Source::wants_write)
    }

    /// Nothing of the server waits, neither in the queue nor in the source.
    pub(crate) fn has_sent_all<M: Send>(&self, cx: &Context<M>, slot: u32) -> bool {
        let waits = self.wants_write(slot);
        cx.connections[slot].queue.is_none() && !waits
    }

    /// Sends whole frames: at once, or after the backlog.
    pub(crate) fn send<M: Send>(&mut self, cx: &mut Context<M>, slot: u32, bytes: &[u8]) -> AfterWrite {
        if !Self::may_write(cx, slot) {
            cx.queue_rest(slot, bytes, 0);
            return AfterWrite::Nothing;
        }
        let Some(source) = &mut self.sources[slot as usize] else { return AfterWrite::Nothing };
        let taken = source.write(bytes);
        let Some(written) = took(cx, slot, taken, bytes.len()) else { return AfterWrite::Close };
        if written < bytes.len() {
            cx.queue_rest(slot, bytes, written);
        }
        AfterWrite::Nothing
    }

    /// Nothing waits that would have to leave first, and the socket takes more as far as is known.
    #[inline]
    fn may_write<M: Send>(cx: &Context<M>, slot: u32) -> bool {
        const NEITHER: WriteFlags =
            WriteFlags::IN_FLUSH.union(WriteFlags::QUEUED).union(WriteFlags::BLOCKED_OR_HELD).union(WriteFlags::CLOSED);
        !cx.connections.has(slot, NEITHER)
    }

    /// Sends an HTTP response, or the head of a stream: by itself and whole. Nothing is queued before it. A socket that does
    /// not take it is closed: it is new, or its client does not read its responses.
    pub(crate) fn send_response<M: Send>(&mut self, cx: &mut Context<M>, slot: u32, response: &[u8]) -> AfterWrite {
        let Some(source) = &mut self.sources[slot as usize] else { return AfterWrite::Nothing };
        cx.counters.writes += 1;
        match source.write(response) {
            Ok(n) if n == response.len() => cx.counters.bytes_out += n as u64,
            Err(Errno::INPROGRESS) => {
                cx.counters.bytes_out += response.len() as u64;
                cx.block(slot);
            }
            _ => return AfterWrite::Close,
        }
        AfterWrite::Nothing
    }

    /// Has the bytes that the source holds leave, where nothing is queued that would take them along.
    pub(crate) fn push_inside<M: Send>(&mut self, cx: &mut Context<M>, slot: u32) -> AfterWrite {
        let Some(source) = self.sources[slot as usize].as_mut().filter(|source| source.wants_write()) else {
            return AfterWrite::Nothing;
        };
        cx.counters.writes += 1;
        match source.push() {
            Ok(()) if cx.connections[slot].phase == Phase::Finishing => AfterWrite::SendFin,
            Ok(()) => AfterWrite::Nothing,
            Err(Errno::AGAIN) => {
                cx.block(slot);
                AfterWrite::Nothing
            }
            Err(_) => AfterWrite::Close,
        }
    }

    /// Writes the queue of a slot, in one write. The queue returns to the pool when it is empty.
    pub(crate) fn write_queue<M: Send>(&mut self, cx: &mut Context<M>, slot: u32) -> AfterWrite {
        let Some(key) = cx.connections[slot].queue.get() else { return AfterWrite::Nothing };
        let queue = cx.queues.get(key);
        let Some(source) = &mut self.sources[slot as usize] else { return AfterWrite::Nothing };
        let total = queue.bytes();
        if total == 0 {
            cx.release_queue(slot);
            return self.push_inside(cx, slot);
        }
        let (given, taken) = if total <= GATHER_COPY_BYTES_MAX {
            self.scratch.clear();
            queue.slices().for_each(|slice| self.scratch.extend_from_slice(slice));
            (total, source.write(&self.scratch))
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let (mut count, mut given) = (0, 0);
            for (place, slice) in slices.iter_mut().zip(queue.slices()) {
                *place = IoSlice::new(slice);
                count += 1;
                given += slice.len();
            }
            (given, source.write_slices(&slices[..count]))
        };
        cx.counters.writes += 1;
        let written = match taken {
            Ok(n) => n,
            Err(Errno::AGAIN) => 0,
            Err(Errno::INPROGRESS) => given,
            Err(_) => return AfterWrite::Close,
        };
        cx.counters.bytes_out += written as u64;
        cx.queues.get_mut(key).advance(written);
        if written == total {
            cx.release_queue(slot);
        } else {
            cx.after_queue_write(slot);
        }
        if written < given || taken == Err(Errno::INPROGRESS) {
            cx.block(slot);
        } else if written < total {
            cx.want_write(slot);
        } else if cx.connections[slot].phase == Phase::Finishing && self.has_sent_all(cx, slot) {
            return AfterWrite::SendFin;
        }
        AfterWrite::Nothing
    }

    /// Asks for huge pages under the sockets of all connections that the shard may have.
    pub(crate) fn advise_huge_pages(&self, connections_max: usize) -> io::Result<()> {
        advise_huge(self.sources.as_ptr(), connections_max).map(|_| ())
    }
}

/// How many of the `given` bytes a write has taken. The connection is blocked where that is not all. None: it is over.
#[inline]
fn took<M: Send>(cx: &mut Context<M>, slot: u32, taken: Result<usize, Errno>, given: usize) -> Option<usize> {
    cx.counters.writes += 1;
    let written = match taken {
        Ok(n) => n,
        Err(Errno::AGAIN) => 0,
        Err(Errno::INPROGRESS) => {
            cx.block(slot);
            given
        }
        Err(_) => return None,
    };
    cx.counters.bytes_out += written as u64;
    if written < given {
        cx.block(slot);
    }
    Some(written)
}
