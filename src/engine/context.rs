//! The actions of an app on its shard: reply, broadcast, close, set a deadline, post mail. It never sees a socket.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::admission::address_keys::AddressKeys;
use super::config::EngineConfig;
use super::connection::slow_consumer::SlowConsumers;
use super::connection::state::{ConnFlags, PendingHeads, WriteFlags};
use super::connection::table::Connections;
use super::deflate::{Compressors, framing_of_class};
use super::log_ring::{LimitLog, LogRecord, LogRing, RefusalKind};
use super::mailbox::{Endpoint, Wake};
use super::outbound::{Broadcast, InFlight, Owner, Pool, frames_in};
use super::rejection::Rejection;
use super::stats::{Bound, Closed, Counters, dropped_index};
use super::timer_wheel::{Millis, Wheel};
use super::turn_time::TurnTime;
use crate::http::{PREFIX_BYTES_MAX, Response, SUFFIX_BYTES_MAX};
use crate::ids::{ConnId, ShardId};
use crate::slow_policy::SlowConsumerPolicy;
use crate::ws::{self, Opcode};

/// Bytes of a reply that take as long to encode as one unit of work.
const REPLY_BYTES_PER_WORK: usize = 8;

/// A shard's end of the mailboxes.
pub type Mailbox<M> = Endpoint<M, Box<dyn Wake>>;

/// A close that waits for a safe moment.
pub(crate) struct CloseRequest {
    pub conn: ConnId,
    pub code: u16,
    pub reason: Cow<'static, str>,
    pub why: Closed,
    /// Sent instead of a stream whose head was not sent.
    pub response: Option<Box<Response>>,
}

/// A message for a stream.
pub(crate) struct Injected {
    pub conn: ConnId,
    pub payload: Vec<u8>,
}

/// What becomes of a message that came for a stream by another connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Injection {
    /// `App::message` gets it behind the messages that came before.
    Taken,
    /// Too many bytes wait for the app to take them, or the peer sends more than its rate.
    Full,
    /// The stream has ended.
    Gone,
}

/// The state of a shard below its app and above its sockets.
pub struct Context<M: Send> {
    /// This shard's end of the mailboxes.
    pub mail: Mailbox<M>,
    /// What the shard counts. An app counts its own share here too.
    pub counters: Counters,
    /// The settings that hold now.
    pub config: Arc<EngineConfig>,
    pub(crate) now: Millis,
    pub(crate) connections: Connections,
    pub(crate) queues: Pool,
    /// Slots whose queue may be written.
    pub(crate) to_write: VecDeque<u32>,
    pub(crate) slow: SlowConsumers,
    /// The last turn in which backlogs were closed for the sake of a reservation.
    pub(crate) crowded_in: Option<u64>,
    pub(crate) wheel: Wheel,
    /// What the app broadcast, for the flush that begins next.
    pub(crate) broadcasts: Vec<Broadcast>,
    pub(crate) close_requests: Vec<CloseRequest>,
    /// Connections whose app will take the rest of their messages now.
    pub(crate) resumed: Vec<ConnId>,
    /// The connection whose bytes are being handled.
    pub(crate) current: Option<u32>,
    /// What those bytes provoked: it leaves at the end of the read.
    pub(crate) reply_buffer: Vec<u8>,
    /// Messages that came for streams by other connections, until the engine handles them.
    pub(crate) injected: Vec<Injected>,
    /// Responses to requests that waited for them.
    pub(crate) answers: Vec<(ConnId, Response)>,
    pub(crate) spill_bytes: usize,
    /// Of them, those of request heads.
    pub(crate) pending_heads: PendingHeads,
    pub(crate) compressors: Compressors,
    pub(crate) log: LimitLog,
    pub(crate) time: TurnTime,
    pub(crate) address_keys: AddressKeys,
}

impl<M: Send> Context<M> {
    pub(crate) fn new(mail: Mailbox<M>, config: Arc<EngineConfig>, log_ring: LogRing, now: Millis) -> Self {
        Self {
            mail,
            counters: Counters::default(),
            now,
            connections: Connections::new(config.connections_max as usize),
            queues: Pool::default(),
            to_write: VecDeque::new(),
            slow: SlowConsumers::default(),
            crowded_in: None,
            wheel: Wheel::new(now),
            broadcasts: Vec::new(),
            close_requests: Vec::new(),
            resumed: Vec::new(),
            current: None,
            reply_buffer: Vec::new(),
            injected: Vec::new(),
            answers: Vec::new(),
            spill_bytes: 0,
            pending_heads: PendingHeads::default(),
            compressors: Compressors::new(config.compression),
            time: TurnTime::new(&config),
            address_keys: AddressKeys::default(),
            config,
            log: LimitLog::new(log_ring),
        }
    }

    /// The shard that this is.
    pub fn me(&self) -> ShardId {
        self.mail.me()
    }

    /// The time of this turn, in milliseconds since the process began.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// A number that the connections of one client address have in common (of one /64 of IPv6), and hardly any other. 0 if
    /// the address is not known, or the app does not want it (`App::wants_address_keys`).
    pub fn address_key(&self, conn: ConnId) -> u32 {
        self.address_keys.of(conn.slot)
    }

    /// Queues one message for one peer. Ignored if the connection is no longer open. If a close was requested and has
    /// to wait, the message is queued: broadcasts made until then leave too, and none of them may be missing.
    pub fn reply(&mut self, conn: ConnId, opcode: Opcode, payload: &[u8]) {
        self.reply_with(conn, opcode, |out| out.extend_from_slice(payload));
    }

    /// As `reply`; `write` appends the payload.
    pub fn reply_with(&mut self, conn: ConnId, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        if self.connections.takes_more(conn) {
            self.counters.replies += 1;
            self.queue_message(conn.slot, opcode, write);
        }
    }

    /// Queues whole frames that are encoded already, for one peer.
    pub fn reply_frames(&mut self, conn: ConnId, frames: &[u8]) {
        if self.connections.takes_more(conn) {
            self.queue(conn.slot, |out| out.extend_from_slice(frames));
        }
    }

    /// As `reply_frames` for one frame, which is compressed if the peer agreed to it and the frame is long enough.
    pub fn reply_frame(&mut self, conn: ConnId, frame: &[u8]) {
        match ws::encode::plain_payload(frame) {
            Some((opcode, payload)) if self.connections.takes_more(conn) => {
                self.queue_message(conn.slot, opcode, |out| out.extend_from_slice(payload));
            }
            _ => self.reply_frames(conn, frame),
        }
    }

    /// As `reply_with`, for a message of about so many bytes: it gets a buffer of its own, so that none of it is copied or moved.
    /// It is not compressed, which would take longer than a turn may.
    pub fn reply_large(&mut self, conn: ConnId, opcode: Opcode, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.connections.takes_more(conn) {
            return;
        }
        self.counters.replies += 1;
        self.time.charge((bytes / REPLY_BYTES_PER_WORK) as u32);
        let framing = self.connections[conn.slot].compression.framing();
        let room = if framing.is_some() { PREFIX_BYTES_MAX } else { ws::SERVER_HEADER_BYTES_MAX };
        let mut buffer = Vec::with_capacity(room + bytes + SUFFIX_BYTES_MAX);
        buffer.resize(room, 0);
        write(&mut buffer);
        let payload = room..buffer.len();
        let from = match framing {
            Some(framing) => framing.write_around(&mut buffer),
            None => ws::header_before(&mut buffer, payload, opcode),
        };
        if buffer.capacity() - buffer.len() > buffer.len() / 8 {
            buffer.shrink_to_fit();
        }
        self.queue_buffer(conn.slot, buffer, from);
    }

    /// As `reply_frames`, for frames of an owner whose policy applies while the peer does not read. `latest`: where the
    /// newest publication begins in them.
    pub fn deliver(&mut self, conn: ConnId, owner: Owner, frames: &[u8], latest: Option<usize>) {
        if !self.connections.takes_more(conn) || frames.is_empty() {
            return;
        }
        if self.current == Some(conn.slot) {
            return self.queue(conn.slot, |out| out.extend_from_slice(frames));
        }
        let key = self.queue_for(conn.slot);
        let queue = self.queues.get_mut(key);
        let waited = queue.bytes();
        queue.put(owner, frames, latest);
        self.after_queueing(conn.slot, waited);
    }

    /// The same frames to many peers. Only in `App::turn_end`.
    pub fn broadcast(&mut self, broadcast: Broadcast) {
        if !broadcast.members.is_empty() && !broadcast.frames.is_empty() {
            self.broadcasts.push(broadcast);
        }
    }

    /// The compression class in which the peer gets broadcasts, 0 for none. From this call on, everything sent to the
    /// peer is compressed without context, or plain.
    pub fn compression_class(&mut self, conn: ConnId) -> u8 {
        match self.connections.get_mut(conn) {
            Some(known) => self.compressors.class(conn.slot, &mut known.compression),
            None => 0,
        }
    }

    /// Appends a whole frame as the peers of a compression class get it.
    pub fn compress(&mut self, class: u8, frame: &[u8], out: &mut Vec<u8>) {
        self.compressors.compressed_copy(class, frame, out, &mut self.counters);
    }

    /// Drops the whole backlog of an owner for one peer, and its broadcasts under way: they follow a gap, or cannot be
    /// decoded without the dropped messages. Returns the number of messages.
    pub fn purge(&mut self, conn: ConnId, owner: Owner) -> u64 {
        let in_flush = self.connections.takes_more(conn) && self.connections.has(conn.slot, WriteFlags::IN_FLUSH);
        let known = self.connections.get(conn).and_then(|known| known.queue.get());
        let Some(key) = (if in_flush { Some(self.queue_for(conn.slot)) } else { known }) else { return 0 };
        let queue = self.queues.get_mut(key);
        let messages = queue.purge(owner.id);
        if in_flush {
            queue.mark_broadcast();
            queue.decide(owner.id, InFlight::Refused);
        } else if queue.is_empty() {
            self.release_queue(conn.slot);
        }
        self.counters.dropped[dropped_index(owner.policy)] += messages;
        messages
    }

    /// Whether something of an owner was dropped for this peer and the app was not notified yet.
    pub fn has_gap(&self, conn: ConnId, owner: Owner) -> bool {
        self.slow.has_gap(conn, owner)
    }

    /// A subscription has ended. Its messages in the backlog or under way still reach the peer, but the app is no
    /// longer notified of their drops. Another subscription of the same owner may follow.
    pub fn disown(&mut self, conn: ConnId, owner: Owner) {
        if owner.policy == SlowConsumerPolicy::Close {
            return;
        }
        self.slow.forget_owner(conn, owner);
        if !self.connections.takes_more(conn) {
            return;
        }
        if self.connections.has(conn.slot, WriteFlags::IN_FLUSH) {
            let key = self.queue_for(conn.slot);
            self.queues.get_mut(key).decide(owner.id, InFlight::Disowned);
        }
        if let Some(key) = self.connections[conn.slot].queue.get() {
            self.queues.get_mut(key).disown(owner.id);
        }
    }

    /// Ends a connection with a close frame, after everything that was queued for it before.
    /// A reason longer than `CLOSE_REASON_BYTES_MAX` is cut.
    pub fn close(&mut self, conn: ConnId, code: u16, reason: impl Into<Cow<'static, str>>) {
        self.request_close(conn, code, reason.into(), Closed::ByApp);
    }

    pub(crate) fn request_close(&mut self, conn: ConnId, code: u16, reason: Cow<'static, str>, why: Closed) {
        self.push_close(CloseRequest { conn, code, reason, why, response: None });
    }

    fn push_close(&mut self, request: CloseRequest) {
        if self.connections.is_open(request.conn) {
            let flags = &mut self.connections[request.conn.slot].flags;
            flags.insert(ConnFlags::CLOSE_REQUESTED);
            flags.set(ConnFlags::CLOSES_AS_SLOW, request.why == Closed::Slow);
            self.close_requests.push(request);
        }
    }

    /// A message of the peer of a stream, which came by another connection. It counts as if it had been read from the stream.
    /// `App::message` gets it as binary: nothing has checked it as UTF-8.
    pub fn inject(&mut self, conn: ConnId, payload: &[u8]) -> Injection {
        let Some(known) = self.connections.get(conn).filter(|known| known.is_open() && known.compression.is_stream())
        else {
            return Injection::Gone;
        };
        let waits = known.spill.as_ref().map_or(0, |spill| spill.bytes.len());
        let in_turn: usize = self.injected.iter().filter(|one| one.conn == conn).map(|one| one.payload.len()).sum();
        let is_first = waits + in_turn == 0 && !known.flags.contains(ConnFlags::STALLED);
        if known.flags.contains(ConnFlags::RATE_LIMITED)
            || payload.len() > self.config.message_bytes_max
            || !is_first && waits + in_turn + payload.len() > self.config.message_bytes_max
        {
            return Injection::Full;
        }
        self.injected.push(Injected { conn, payload: payload.to_vec() });
        Injection::Taken
    }

    /// Answers a request after `Route::Later`. Ignored if the client has left.
    pub fn answer(&mut self, conn: ConnId, response: Response) {
        self.answers.push((conn, response));
    }

    /// The messages in bytes that are whole frames for this peer.
    pub(crate) fn count_frames(&self, conn: ConnId, frames: &[u8]) -> u64 {
        let framing = self.connections.get(conn).and_then(|known| known.compression.framing());
        frames_in(framing, frames)
    }

    /// Whether the peers of a class are streams, whose frames differ from those of WebSockets.
    pub(crate) fn is_stream_class(class: u8) -> bool {
        framing_of_class(class).is_some()
    }

    /// The rest of a message that the app left (`Flow::Wait`) is offered again in this turn or the next.
    pub fn resume(&mut self, conn: ConnId) {
        self.resumed.push(conn);
    }

    /// As `resume`, once the peer has taken what is queued for it, all but half of what may wait for it.
    pub fn resume_when_written(&mut self, conn: ConnId) {
        let Some(known) = self.connections.get_mut(conn) else { return };
        match known.queue.is_some() {
            true => known.flags.insert(ConnFlags::RESUMES_WHEN_WRITTEN),
            false => self.resumed.push(conn),
        }
    }

    /// From now on nothing is written to the peer: replies and broadcasts wait, within the bound for them.
    pub fn hold(&mut self, conn: ConnId) {
        if self.connections.is_open(conn) {
            self.connections.set(conn.slot, WriteFlags::HELD);
        }
    }

    /// Ends a hold: one message, then the messages that waited.
    pub fn release_with(&mut self, conn: ConnId, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.connections.takes_more(conn) {
            return;
        }
        self.counters.replies += 1;
        if !self.connections.has(conn.slot, WriteFlags::HELD) {
            return self.queue_message(conn.slot, opcode, write);
        }
        self.connections.clear(conn.slot, WriteFlags::HELD);
        let key = self.queue_for(conn.slot);
        let compression = self.connections[conn.slot].compression;
        let queue = self.queues.get_mut(key);
        match compression.is_on() {
            false => queue.prepend(|out| ws::frame_with(out, opcode, write)),
            true => {
                let frame = self.compressors.frame(conn.slot, compression, opcode, write, &mut self.counters);
                queue.prepend(|out| out.extend_from_slice(&frame));
                self.compressors.keep_frame(frame);
            }
        }
        self.want_write(conn.slot);
    }

    /// As `release_with`, for a stream that began without a head: the head leaves first.
    pub fn release_with_head(&mut self, conn: ConnId, head: &[u8], opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.connections.takes_more(conn) {
            return;
        }
        self.connections[conn.slot].flags.remove(ConnFlags::HEAD_HELD);
        if !self.connections.has(conn.slot, WriteFlags::HELD) {
            self.queue(conn.slot, |out| out.extend_from_slice(head));
            return self.release_with(conn, opcode, write);
        }
        self.release_with(conn, opcode, write);
        let key = self.queue_for(conn.slot);
        self.queues.get_mut(key).prepend(|out| out.extend_from_slice(head));
    }

    /// Ends a stream that began without a head, by a whole response. `code` is that of the close.
    pub fn close_with_response(&mut self, conn: ConnId, code: u16, response: Response) {
        let response = Some(Box::new(response));
        self.push_close(CloseRequest { conn, code, reason: "".into(), why: Closed::ByApp, response });
    }

    /// Ends a hold without a message: what waited is dropped.
    pub fn drop_held(&mut self, conn: ConnId) {
        if self.connections.takes_more(conn) && self.connections.has(conn.slot, WriteFlags::HELD) {
            let flags = WriteFlags::HELD | WriteFlags::IN_FLUSH | WriteFlags::IN_FLUSH_MULTIPLE;
            self.connections.clear(conn.slot, flags);
            self.release_queue(conn.slot);
        }
    }

    /// Sets the only deadline of the connection and replaces an earlier one. It fires within a tick, never early.
    pub fn set_timer(&mut self, conn: ConnId, at: Millis) {
        if self.connections.is_open(conn) {
            self.wheel.set(conn.slot, at);
        }
    }

    /// Open, and no close is requested.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.connections.is_open(conn)
    }

    /// Replies and pushes still go out: the close frame is not queued, and the backlog will not be dropped.
    pub fn takes_replies(&self, conn: ConnId) -> bool {
        self.connections.takes_more(conn)
    }

    /// Counts work that costs more than the bytes of its message, in bytes that would cost the same.
    pub fn charge(&mut self, units: u32) {
        self.time.charge(units);
    }

    /// Counts work of a connection whose message is being handled, in bytes. True if the connection has used up its share
    /// of the turn: the app may return `Flow::Yield`.
    #[inline]
    pub fn work(&mut self, conn: ConnId, units: usize) -> bool {
        self.time.work(conn.slot, units.min(u32::MAX as usize) as u32)
    }

    /// The shard does not read this connection now, or has not read all of it, so the peer's silence proves nothing. It does
    /// prove something if the shard waits for the peer to read.
    pub fn is_stalled(&self, conn: ConnId) -> bool {
        let stops = ConnFlags::STALLED | ConnFlags::RATE_LIMITED | ConnFlags::IN_READY | ConnFlags::LAST_REPLIES;
        let is_stopped = |flags: ConnFlags| flags.intersects(stops) && !flags.contains(ConnFlags::RESUMES_WHEN_WRITTEN);
        self.connections.get(conn).is_some_and(|known| is_stopped(known.flags))
    }

    /// The id of the connection that has the slot now.
    pub fn conn_at(&self, slot: u32) -> Option<ConnId> {
        self.connections.id_at(slot)
    }

    /// Moves posted mail into the mailboxes, as far as there is room: at the end of a turn, or within it if what the
    /// turn gathered would pass a bound that is meant for slow receivers.
    pub fn dispatch_mail(&mut self) {
        let sent = self.mail.dispatch();
        self.counters.mail_pushes += u64::from(sent.pushes);
        self.counters.mail_overflows += u64::from(sent.overflows);
        self.counters.mail_wakes += u64::from(sent.wakes);
    }

    /// A connection has reached a limit: counted, and logged now and then.
    pub fn reached(&mut self, bound: Bound, conn: ConnId) {
        self.counters.reached[bound as usize] += 1;
        self.log.reached_by_connection(bound, conn, self.now);
    }

    /// As `reached`, for the connection whose bytes are being handled.
    pub fn reached_now(&mut self, bound: Bound) {
        match self.current.and_then(|slot| self.connections.id_at(slot)) {
            Some(conn) => self.reached(bound, conn),
            None => self.reached_by(bound, None),
        }
    }

    /// As `reached`, for a peer that has no connection, or none any more.
    pub(crate) fn reached_by(&mut self, bound: Bound, address: Option<std::net::IpAddr>) {
        self.counters.reached[bound as usize] += 1;
        if let Some(count) = self.log.throttle(bound, self.now) {
            self.log(LogRecord::Reached { bound, count, address });
        }
    }

    /// A command or a frame of a connection is refused: counted, and logged now and then. `describe` says what was refused,
    /// why, and what the server does; it runs only for what is logged.
    pub fn rejected(&mut self, why: Rejection, conn: ConnId, describe: impl FnOnce() -> String) {
        self.counters.rejections[why as usize] += 1;
        self.log.refused_by_connection(RefusalKind::Command(why), conn, self.now, describe);
    }

    /// Hands a record to the control thread, which writes the log.
    pub fn log(&mut self, record: LogRecord) {
        if !self.log.push(record) {
            self.counters.log_lost += 1;
        }
    }
}
