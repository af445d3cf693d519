//! What an app may do on its shard: reply, cast, close, set a deadline, post mail. It never sees a socket.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use slab::Slab;

use super::admission::overload::Admission;
use super::connection::slow_consumer::Slow;
use super::connection::state::{Conn, Edges, Phase, gate};
use super::deflate::Squeeze;
use super::log_ring::{LogRecord, LogRing, Said};
use super::mailbox::{Endpoint, Wake};
use super::outbound::{Broadcast, NO_QUEUE, Pool};
use super::stats::{Bound, Closed, Counters};
use super::timer_wheel::{Millis, Wheel};
use crate::engine::config::EngineConfig;
use crate::ids::{ConnId, ShardId};
use crate::ws::{self, Opcode};

pub type Mailbox<M> = Endpoint<M, Box<dyn Wake>>;

/// A close that waits for a safe moment.
pub(crate) struct Asked {
    pub conn: ConnId,
    pub code: u16,
    pub reason: Cow<'static, str>,
    pub why: Closed,
}

/// The state of a shard below its app and above its sockets.
pub struct Context<M: Send> {
    pub mail: Mailbox<M>,
    pub counters: Counters,
    pub limits: Arc<EngineConfig>,
    pub(crate) now: Millis,
    pub(crate) conns: Slab<Conn>,
    pub(crate) gates: Vec<u8>,
    pub(crate) queues: Pool,
    pub(crate) wheel: Wheel,
    /// Slots whose queue may be written.
    pub(crate) wants: VecDeque<u32>,
    /// What the app cast for the flush that begins.
    pub(crate) casts: Vec<Broadcast>,
    pub(crate) asked: Vec<Asked>,
    /// Connections whose app will take the rest of their messages now.
    pub(crate) resumed: Vec<ConnId>,
    /// The connection whose bytes are being handled, and what they provoked: it leaves at the end of that read.
    pub(crate) current: Option<u32>,
    pub(crate) burst: Vec<u8>,
    pub(crate) open: u64,
    pub(crate) spill_bytes: usize,
    pub(crate) journal: LogRing,
    pub(crate) squeeze: Squeeze,
    pub(crate) door: Arc<Admission>,
    /// By slot: whom connections are from, where a proxy said so.
    pub(crate) addresses: HashMap<u32, IpAddr>,
    pub(crate) said: Said,
    /// Limits that may be spoken of, with how often and by whom they were reached.
    pub(crate) to_say: Vec<(Bound, u64, ConnId)>,
    pub(crate) slow: Slow,
}

impl<M: Send> Context<M> {
    pub(crate) fn new(mail: Mailbox<M>, limits: Arc<EngineConfig>, journal: LogRing, now: Millis) -> Self {
        Self {
            mail,
            counters: Counters::default(),
            now,
            // Reserved, not touched: pages come with the connections, and the slab never moves.
            conns: Slab::with_capacity(limits.connections_max as usize),
            gates: Vec::new(),
            queues: Pool::default(),
            wheel: Wheel::new(now),
            wants: VecDeque::new(),
            casts: Vec::new(),
            asked: Vec::new(),
            resumed: Vec::new(),
            current: None,
            burst: Vec::new(),
            open: 0,
            spill_bytes: 0,
            squeeze: Squeeze::new(limits.compression),
            door: Arc::new(Admission::new(&limits, limits.connections_max as usize)),
            addresses: HashMap::new(),
            said: Said::default(),
            to_say: Vec::new(),
            slow: Slow::default(),
            limits,
            journal,
        }
    }

    pub fn me(&self) -> ShardId {
        self.mail.me()
    }

    /// The time of this turn, in milliseconds since the process began.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Queues one message for one peer. Ignored where the connection is no longer open; where a close was asked for that has
    /// to wait it is not: what is cast until then leaves too, and nothing of it may be missing.
    pub fn reply(&mut self, conn: ConnId, opcode: Opcode, payload: &[u8]) {
        self.reply_with(conn, opcode, |out| out.extend_from_slice(payload));
    }

    /// As `reply`; `write` appends the payload.
    pub fn reply_with(&mut self, conn: ConnId, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        if self.takes_more(conn) {
            self.counters.replies += 1;
            self.queue_message(conn.slot, opcode, write);
        }
    }

    /// Queues whole frames that are encoded already, for one peer.
    pub fn reply_frames(&mut self, conn: ConnId, frames: &[u8]) {
        if self.takes_more(conn) {
            self.queue(conn.slot, |out| out.extend_from_slice(frames));
        }
    }

    /// As `reply_frames` for one frame, which is compressed for the peer where that was agreed on and is worth it.
    pub fn reply_frame(&mut self, conn: ConnId, frame: &[u8]) {
        match ws::encode::plain_payload(frame) {
            Some((opcode, payload)) if self.takes_more(conn) => {
                self.queue_message(conn.slot, opcode, |out| out.extend_from_slice(payload));
            }
            _ => self.reply_frames(conn, frame),
        }
    }

    /// In what class of compression the peer's casts come, 0 for none. Whoever asks gets the peer nothing but such
    /// frames from then on, or plain ones.
    pub fn compression_class(&mut self, conn: ConnId) -> u8 {
        match self.conns.get_mut(conn.index()) {
            Some(known) if known.generation == conn.generation => self.squeeze.class(conn.slot, &mut known.deflate),
            _ => 0,
        }
    }

    /// Appends a whole frame as a class of peers gets it.
    pub fn compress(&mut self, class: u8, frame: &[u8], out: &mut Vec<u8>) {
        self.squeeze.twin(class, frame, out, &mut self.counters);
    }

    /// The same frames to many peers. Only in `App::turn_end`.
    pub fn broadcast(&mut self, cast: Broadcast) {
        if !cast.members.is_empty() && !cast.frames.is_empty() {
            self.casts.push(cast);
        }
    }

    /// Ends a connection with a close frame, behind all that was queued for it before.
    /// A reason of more than `CLOSE_REASON_BYTES_MAX` is cut.
    pub fn close(&mut self, conn: ConnId, code: u16, reason: impl Into<Cow<'static, str>>) {
        self.ask_close(conn, code, reason.into(), Closed::ByApp);
    }

    pub(crate) fn ask_close(&mut self, conn: ConnId, code: u16, reason: Cow<'static, str>, why: Closed) {
        if self.is_open(conn) {
            self.conns[conn.index()].edges.set(Edges::CLOSE_ASKED);
            self.asked.push(Asked { conn, code, reason, why });
        }
    }

    /// The rest of a message that the app had wait (`Flow::Wait`) is offered again in this turn or the next.
    pub fn resume(&mut self, conn: ConnId) {
        self.resumed.push(conn);
    }

    /// From now on nothing is written to the peer: what is queued or cast waits, within the bound for that.
    pub fn hold(&mut self, conn: ConnId) {
        if self.is_open(conn) {
            self.gates[conn.index()] |= gate::HELD;
        }
    }

    /// Ends a hold: one message, then what waited behind it.
    pub fn release_with(&mut self, conn: ConnId, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        if self.takes_more(conn) {
            self.counters.replies += 1;
            if self.gates[conn.index()] & gate::HELD == 0 {
                return self.queue_message(conn.slot, opcode, write);
            }
            self.gates[conn.index()] &= !gate::HELD;
            let index = self.queue_index(conn.slot);
            let deflate = self.conns[conn.index()].deflate;
            let queue = self.queues.get_mut(index);
            match deflate.is_on() {
                false => queue.prepend(|out| ws::frame_with(out, opcode, write)),
                true => {
                    let frame = self.squeeze.frame(conn.slot, deflate, opcode, write, &mut self.counters);
                    queue.prepend(|out| out.extend_from_slice(&frame));
                    self.squeeze.keep_frame(frame);
                }
            }
            self.want(conn.slot);
        }
    }

    /// Ends a hold that came to nothing: what waited is dropped.
    pub fn drop_held(&mut self, conn: ConnId) {
        if self.takes_more(conn) && self.gates[conn.index()] & gate::HELD != 0 {
            self.gates[conn.index()] &= !(gate::HELD | gate::TOUCHED | gate::MULTI);
            self.release_queue(conn.slot);
        }
    }

    /// Sets the connection's one deadline; an earlier one is forgotten. Kept to the tick, never early.
    pub fn set_timer(&mut self, conn: ConnId, at: Millis) {
        if self.is_open(conn) {
            self.wheel.set(conn.slot, at);
        }
    }

    /// Open, and no close asked for.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.conns.get(conn.index()).is_some_and(|c| {
            c.generation == conn.generation && c.phase == Phase::Open && !c.edges.has(Edges::CLOSE_ASKED)
        })
    }

    /// Our close frame is not queued yet.
    pub(crate) fn takes_more(&self, conn: ConnId) -> bool {
        let conn_now = self.conns.get(conn.index());
        conn_now.is_some_and(|c| c.generation == conn.generation && c.phase == Phase::Open)
    }

    /// We are the ones not reading: the peer's silence proves nothing.
    pub fn is_stalled(&self, conn: ConnId) -> bool {
        self.conns.get(conn.index()).is_some_and(|c| c.edges.has(Edges::STALLED | Edges::RESTING))
    }

    /// The id of whoever is in the slot now.
    pub fn conn_at(&self, slot: u32) -> Option<ConnId> {
        self.conns.get(slot as usize).map(|c| ConnId::new(slot, c.generation))
    }

    /// Moves posted mail into the mailboxes, as far as there is room: at the end of a turn, or within it where what the
    /// turn gathered would pass a bound that is meant for slow receivers.
    pub fn hand_out(&mut self) {
        let sent = self.mail.dispatch();
        self.counters.mail_pushes += u64::from(sent.pushes);
        self.counters.mail_overflows += u64::from(sent.overflows);
        self.counters.mail_wakes += u64::from(sent.wakes);
    }

    /// A connection has reached a limit: counted, and said now and then.
    pub fn reached(&mut self, bound: Bound, conn: ConnId) {
        self.counters.reached[bound as usize] += 1;
        if let Some(count) = self.said.reached(bound, self.now) {
            self.to_say.push((bound, count, conn));
        }
    }

    /// The same of whoever is being judged or handled.
    pub fn reached_now(&mut self, bound: Bound) {
        match self.current.and_then(|slot| self.conn_at(slot)) {
            Some(conn) => self.reached(bound, conn),
            None => self.reached_by(bound, None),
        }
    }

    /// The same of one who is no connection, or none any more.
    pub(crate) fn reached_by(&mut self, bound: Bound, address: Option<IpAddr>) {
        self.counters.reached[bound as usize] += 1;
        if let Some(count) = self.said.reached(bound, self.now) {
            self.note(LogRecord::Reached { bound, count, address });
        }
    }

    /// Hands a record to the control thread, which writes the log.
    pub fn note(&mut self, note: LogRecord) {
        if !self.journal.push(note) {
            self.counters.log_lost += 1;
        }
    }

    /// Appends frames to what will be written to a slot: into the burst of the read under way, or into its queue.
    pub(crate) fn queue(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        if self.current == Some(slot) {
            return write(&mut self.burst);
        }
        let index = self.queue_index(slot);
        let queue = self.queues.get_mut(index);
        let before = queue.bytes();
        queue.reply(write);
        self.queued(slot, before);
    }

    /// As `queue`, for one message.
    pub(crate) fn queue_message(&mut self, slot: u32, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        let deflate = self.conns[slot as usize].deflate;
        if !deflate.is_on() {
            return self.queue(slot, |out| ws::frame_with(out, opcode, write));
        }
        let frame = self.squeeze.frame(slot, deflate, opcode, write, &mut self.counters);
        self.queue(slot, |out| out.extend_from_slice(&frame));
        self.squeeze.keep_frame(frame);
    }

    /// The queue of a slot, made where there is none, marked where a cast is under way to it.
    pub(crate) fn queue_index(&mut self, slot: u32) -> u32 {
        let conn = &mut self.conns[slot as usize];
        if conn.queue == NO_QUEUE {
            conn.queue = self.queues.take(slot);
            self.gates[slot as usize] |= gate::QUEUED;
        }
        if self.gates[slot as usize] & gate::TOUCHED != 0 {
            self.queues.get_mut(conn.queue).mark_cast();
        }
        conn.queue
    }

    /// After something was queued: have it written, or, where the peer does not read and too much waited already, have
    /// the connection closed. A bound is checked against what waited before: an empty queue takes any one item.
    pub(crate) fn queued(&mut self, slot: u32, waited: usize) {
        if self.gates[slot as usize] & gate::SHUT == 0 {
            return self.want(slot);
        }
        self.thin(slot);
        let queue = self.conns[slot as usize].queue;
        if queue == NO_QUEUE {
            return;
        }
        self.queues.keep(queue);
        if waited.min(self.queues.get(queue).bytes()) > self.limits.outbound_bytes_max {
            let conn = ConnId::new(slot, self.conns[slot as usize].generation);
            self.ask_close(conn, 0, Cow::Borrowed(""), Closed::Slow);
        }
    }

    pub(crate) fn want(&mut self, slot: u32) {
        let edges = &mut self.conns[slot as usize].edges;
        if !edges.has(Edges::IN_WANTS) {
            edges.set(Edges::IN_WANTS);
            self.wants.push_back(slot);
        }
    }

    /// Gives the queue back where nothing waits any more.
    pub(crate) fn release_queue(&mut self, slot: u32) {
        let conn = &mut self.conns[slot as usize];
        if conn.queue != NO_QUEUE {
            self.queues.give_back(conn.queue);
            conn.queue = NO_QUEUE;
            self.gates[slot as usize] &= !gate::QUEUED;
        }
    }
}
