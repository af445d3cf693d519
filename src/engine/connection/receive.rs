//! What received bytes mean: the request head, then frames, messages and the peer's close. What they provoke is gathered and
//! leaves in one write at the end of the read, unless a cast or a backlog waits.

use std::mem;
use std::ops::Range;

use rustix::io::Errno;

use super::state::{Edges, Phase, gate};
use crate::engine::app::{Flow, Message, Route};
use crate::engine::connection::close::LINGER_BYTES_MAX;
use crate::engine::net::source::Source;
use crate::engine::outbound::GATHER_COPY_BYTES_MAX;
use crate::engine::stats::{Bound, Closed, Refused};
use crate::engine::{App, Shard};
use crate::ids::ConnId;
use crate::ws;
use crate::ws::deflate::Broken;
use crate::ws::{Event, Opcode, Refusal, Step, Violation};

/// Of a data message (RFC 6455, section 5.6).
fn opcode_of(text: bool) -> Opcode {
    if text { Opcode::Text } else { Opcode::Binary }
}

/// What a refusal counts as.
pub(crate) fn refused(refusal: Refusal, draining: bool) -> Refused {
    match refusal {
        Refusal::BadRequest(_) => Refused::BadRequest,
        Refusal::NotFound => Refused::NotFound,
        Refusal::MethodNotAllowed => Refused::MethodNotAllowed,
        Refusal::Timeout => Refused::Timeout,
        Refusal::TargetTooLong => Refused::TargetTooLong,
        Refusal::UpgradeRequired => Refused::UpgradeRequired,
        Refusal::HeadTooLarge => Refused::HeadTooLarge,
        Refusal::Unavailable { .. } if draining => Refused::Draining,
        Refusal::Unavailable { .. } => Refused::Full,
        Refusal::TooManyNow { .. } => Refused::ConnectionRate,
        Refusal::Overloaded { .. } => Refused::Overloaded,
        Refusal::AddressFull { .. } => Refused::Address,
        Refusal::AddressTooFast { .. } => Refused::AddressRate,
    }
}

impl<A: App, S: Source> Shard<A, S> {
    /// Handles bytes that begin at a boundary. Returns the bytes used up, and the length of the frame that the others
    /// begin, where it is known. What it provokes leaves before it returns, unless a cast or a backlog waits.
    pub(crate) fn handle(&mut self, slot: u32, bytes: &mut [u8]) -> (usize, usize) {
        self.cx.current = Some(slot);
        let mut used = 0;
        if self.conn(slot).phase == Phase::Upgrading {
            used = self.upgrade(slot, bytes);
            self.send_head(slot);
        }
        let mut need = 0;
        let phase = self.conn(slot).phase;
        if matches!(phase, Phase::Open | Phase::Closing) && used < bytes.len() {
            let (frames, frame_bytes) = self.frames(slot, &mut bytes[used..]);
            used += frames;
            need = frame_bytes;
            // Behind our close only the peer's is looked for: what else it sends is dropped, within the bound for that.
            if phase == Phase::Closing {
                self.discard(slot, frames);
            }
        } else if matches!(phase, Phase::Finishing | Phase::Lingering) {
            self.discard(slot, bytes.len() - used);
            used = bytes.len();
        }
        self.cx.current = None;
        self.send_burst(slot);
        (used, need)
    }

    fn discard(&mut self, slot: u32, n: usize) {
        let conn = self.conn(slot);
        conn.lingered = conn.lingered.saturating_add(n as u32);
        if conn.lingered as usize > LINGER_BYTES_MAX {
            self.die(slot, Closed::Reset);
        }
    }

    /// Answers the request head once it is complete. Returns the bytes it took.
    fn upgrade(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let (route, head_bytes, key, deflate) = match ws::parse_request(bytes) {
            Ok(None) => return 0,
            Ok(Some(request)) => {
                let route = match self.judge_forwarded(slot, &request) {
                    _ if self.refuses_upgrades() => Route::Refuse(Refusal::Unavailable { retry_after_s: 1 }),
                    Err(refusal) => Route::Refuse(refusal),
                    Ok(()) => self.app.route(&mut self.cx, &request),
                };
                let deflate = self.cx.squeeze.agree(request.values("sec-websocket-extensions"));
                (route, request.head_bytes, request.upgrade.as_ref().map(|upgrade| *upgrade.key), deflate)
            }
            Err(refusal) => (Route::Refuse(refusal), bytes.len(), None, None),
        };
        match (route, key) {
            (Route::Upgrade { protocol, route }, Some(key)) => {
                ws::accept(&mut self.cx.burst, &key, protocol, deflate.as_ref());
                if let Some(agreed) = deflate {
                    self.cx.counters.deflate_agreed += 1;
                    self.conn(slot).deflate = self.cx.squeeze.begin(slot, &agreed);
                }
                self.conn(slot).phase = Phase::Open;
                self.conn(slot).edges.clear(Edges::LEFT);
                self.cx.gates[slot as usize] &= !gate::DEAF;
                self.cx.wheel.cancel(slot);
                self.cx.open += 1;
                let id = self.id(slot);
                self.app.open(&mut self.cx, id, route);
            }
            (Route::Upgrade { .. }, None) => self.refuse(slot, Refusal::UpgradeRequired),
            (Route::Refuse(refusal), _) => self.refuse(slot, refusal),
            (Route::Respond { status, content_type, body }, _) => {
                ws::http_response(&mut self.cx.burst, status, content_type, body);
                self.finish_after_burst(slot);
            }
        }
        head_bytes
    }

    /// Refuses a connection of our own accord, not in answer to its bytes.
    pub(crate) fn turn_away(&mut self, slot: u32, refusal: Refusal) {
        self.refuse(slot, refusal);
        self.send_head(slot);
        self.send_burst(slot);
    }

    fn refuse(&mut self, slot: u32, refusal: Refusal) {
        let why = refused(refusal, self.drain.is_some());
        self.cx.counters.refused[why as usize] += 1;
        refusal.write(&mut self.cx.burst);
        self.finish_after_burst(slot);
    }

    /// Decodes and handles all whole frames. Returns bytes used, and the length of the frame that follows if known.
    fn frames(&mut self, slot: u32, bytes: &mut [u8]) -> (usize, usize) {
        let mut echoes = 0..0;
        let result = self.frames_with(slot, bytes, &mut echoes);
        self.send_echoes(slot, &bytes[echoes]);
        result
    }

    /// `echoes`: where the frames lie that shall go back, one behind the other. Behind them bytes are spent up to the next frame.
    fn frames_with(&mut self, slot: u32, bytes: &mut [u8], echoes: &mut Range<usize>) -> (usize, usize) {
        let limit = self.cx.limits.message_bytes_max;
        let mut used = 0;
        while used < bytes.len() {
            let conn = self.conn(slot);
            let deflate = conn.deflate.is_on();
            let free = if Range::is_empty(echoes) { used } else { echoes.end };
            let (consumed, event) = match conn.decoder.decode_behind(used - free, &mut bytes[free..], limit, deflate) {
                Ok(Step::Partial { frame_bytes }) => return (used, frame_bytes.unwrap_or(0)),
                Ok(Step::Frame { consumed, event }) => (consumed, event),
                Err(violation) => {
                    if violation == ws::Violation::MessageTooBig {
                        let id = self.id(slot);
                        self.cx.reached(Bound::Message, id);
                    }
                    self.fail(slot, violation.close_code(), violation.reason());
                    return (bytes.len(), 0);
                }
            };
            let reflect = event.and_then(|event| self.frame_event(slot, event));
            if let Some((text, offset, length)) = reflect {
                self.reflect(slot, bytes, echoes, text, free + offset, length);
            }
            used += consumed;
            let conn = self.conn(slot);
            if !matches!(conn.phase, Phase::Open | Phase::Closing) {
                return (bytes.len(), 0);
            }
            if conn.edges.has(Edges::STALLED | Edges::CLOSE_ASKED) {
                break;
            }
            if deflate && used < bytes.len() && self.cx.squeeze.is_spent() {
                // The rest is offered again in the next turn.
                self.conn(slot).edges.set(Edges::STALLED);
                let id = self.id(slot);
                self.cx.resume(id);
                break;
            }
        }
        (used, 0)
    }

    /// Handles one event; where the payload shall go back as it stands, says where it is in the buffer.
    fn frame_event(&mut self, slot: u32, event: Event<'_>) -> Option<(bool, usize, usize)> {
        let id = self.id(slot);
        let open = self.conn(slot).phase == Phase::Open;
        match event {
            Event::Message { text, payload, offset } if open => {
                self.cx.counters.messages_in += 1;
                let length = payload.len();
                return self.message(id, text, payload, true).then_some((text, offset, length));
            }
            Event::Assembled { text, mut payload } if open => {
                self.cx.counters.messages_in += 1;
                self.message(id, text, &mut payload, false);
            }
            Event::Compressed { text, payload } if open => self.inflated(slot, text, &payload),
            Event::Ping(payload) if open => ws::frame(&mut self.cx.burst, Opcode::Pong, payload),
            Event::Pong(_) if open => self.app.pong(&mut self.cx, id),
            Event::Close(close) => self.peer_closed(slot, close.map(|(code, _)| code)),
            _ => {}
        }
        None
    }

    /// A compressed message: bounded while it is inflated, and checked as any other.
    fn inflated(&mut self, slot: u32, text: bool, payload: &[u8]) {
        let (deflate, bytes_max) = (self.conn(slot).deflate, self.cx.limits.inflated_bytes_max());
        let violation = match self.cx.squeeze.inflate(slot, deflate, payload, bytes_max) {
            Ok(mut message) => {
                let valid = !text || ws::is_text(&message);
                if valid {
                    self.cx.counters.messages_in += 1;
                    self.cx.counters.inflates += 1;
                    self.cx.counters.inflate_bytes_out += message.len() as u64;
                    let id = self.id(slot);
                    self.message(id, text, &mut message, false);
                }
                self.cx.squeeze.keep(message);
                (!valid).then_some(Violation::InvalidUtf8)
            }
            Err(Broken::Invalid) => Some(Violation::InvalidDeflate),
            Err(Broken::TooBig) => Some(Violation::MessageTooBig),
        };
        if let Some(violation) = violation {
            self.fail(slot, violation.close_code(), violation.reason());
        }
    }

    /// Hands a message to the app. True where it shall go back as it stands and lies where it may: `in_place`.
    pub(crate) fn message(&mut self, id: ConnId, text: bool, payload: &mut [u8], in_place: bool) -> bool {
        match self.app.message(&mut self.cx, id, Message { text, payload: &mut *payload }) {
            Flow::Done => {}
            Flow::Reflect => {
                self.cx.counters.replies += 1;
                if in_place && !self.conn(id.slot).deflate.is_on() {
                    return true;
                }
                self.cx.queue_message(id.slot, opcode_of(text), |out| out.extend_from_slice(payload));
            }
            Flow::Stall { consumed } if consumed == payload.len() => {}
            Flow::Stall { consumed } => {
                self.stall(id, text, &payload[consumed..]);
                self.stalled.push(id);
            }
            Flow::Wait { consumed } => self.stall(id, text, &payload[consumed..]),
        }
        false
    }

    /// Has a message go back from where it lies: its header is written in front of it, where the client's longer one was, and it
    /// leaves together with those before it. Behind something else that the read provoked a small one is copied, a large one
    /// has that leave first.
    fn reflect(
        &mut self,
        slot: u32,
        bytes: &mut [u8],
        echoes: &mut Range<usize>,
        text: bool,
        offset: usize,
        length: usize,
    ) {
        let opcode = opcode_of(text);
        if !self.cx.burst.is_empty() {
            if length < GATHER_COPY_BYTES_MAX {
                return ws::frame(&mut self.cx.burst, opcode, &bytes[offset..offset + length]);
            }
            self.send_echoes(slot, &bytes[mem::take(echoes)]);
            self.send_burst(slot);
        }
        let start = ws::header_before(bytes, offset..offset + length, opcode);
        if Range::is_empty(echoes) {
            *echoes = start..start;
        }
        debug_assert_eq!(echoes.end, start, "the decoder moves it there");
        echoes.end = offset + length;
    }

    /// Messages that go back leave from the buffer they were read into; a few, behind which something else waits, with that.
    fn send_echoes(&mut self, slot: u32, frames: &[u8]) {
        if frames.is_empty() {
            return;
        }
        if self.cx.burst.is_empty() || frames.len() > GATHER_COPY_BYTES_MAX {
            return self.send_now(slot, frames);
        }
        self.cx.burst.splice(0..0, frames.iter().copied());
    }

    /// What a read provoked leaves: at once, or behind what waits.
    pub(crate) fn send_burst(&mut self, slot: u32) {
        if !self.cx.burst.is_empty() {
            let mut burst = mem::take(&mut self.cx.burst);
            self.send_now(slot, &burst);
            burst.clear();
            self.cx.burst = burst;
        }
        if self.conn(slot).phase == Phase::Finishing && self.has_sent_all(slot) {
            self.finish(slot);
        }
    }

    /// The HTTP answer leaves by itself and whole, so that queues hold nothing but frames. A fresh socket that does not take
    /// a few hundred bytes is not worth a queue.
    fn send_head(&mut self, slot: u32) {
        let head = mem::take(&mut self.cx.burst);
        if let (Some(source), false) = (&mut self.sources[slot as usize], head.is_empty()) {
            self.cx.counters.writes += 1;
            match source.write(&head) {
                Ok(n) if n == head.len() => self.cx.counters.bytes_out += n as u64,
                Err(Errno::INPROGRESS) => {
                    self.cx.counters.bytes_out += head.len() as u64;
                    self.block(slot);
                }
                _ => self.die(slot, Closed::Reset),
            }
        }
        self.cx.burst = head;
        self.cx.burst.clear();
    }

    fn send_now(&mut self, slot: u32, bytes: &[u8]) {
        if !self.may_write(slot) {
            return self.keep_for_later(slot, bytes, 0);
        }
        let Some(source) = &mut self.sources[slot as usize] else { return };
        let taken = source.write(bytes);
        if let Some(written) = self.took(slot, taken, bytes.len())
            && written < bytes.len()
        {
            self.keep_for_later(slot, bytes, written);
        }
    }

    /// Nothing waits that would have to leave first, and the socket takes more as far as is known.
    #[inline]
    fn may_write(&self, slot: u32) -> bool {
        self.cx.gates[slot as usize] & (gate::TOUCHED | gate::QUEUED | gate::SHUT | gate::DEAD) == 0
    }

    /// How many of the `given` bytes a write has taken; the connection is blocked where that is not all. None: it is over.
    #[inline]
    fn took(&mut self, slot: u32, taken: Result<usize, Errno>, given: usize) -> Option<usize> {
        self.cx.counters.writes += 1;
        let written = match taken {
            Ok(n) => n,
            Err(Errno::AGAIN) => 0,
            Err(Errno::INPROGRESS) => {
                self.block(slot);
                given
            }
            Err(_) => {
                self.die(slot, Closed::Reset);
                return None;
            }
        };
        self.cx.counters.bytes_out += written as u64;
        if written < given {
            self.block(slot);
        }
        Some(written)
    }

    /// A read may have left answers of the source's own behind. Whether the kernel takes them is seen when they are
    /// pushed: an edge that said so may have come already.
    pub(crate) fn mind_inside(&mut self, slot: u32) {
        let waits = self.sources[slot as usize].as_ref().is_some_and(Source::wants_write);
        if waits && self.cx.gates[slot as usize] & gate::BLOCKED == 0 {
            self.cx.want(slot);
        }
    }

    /// Nothing of ours waits, neither here nor in the source.
    pub(crate) fn has_sent_all(&self, slot: u32) -> bool {
        let inside = self.sources[slot as usize].as_ref().is_some_and(Source::wants_write);
        self.cx.conns[slot as usize].queue == crate::engine::outbound::NO_QUEUE && !inside
    }

    pub(crate) fn block(&mut self, slot: u32) {
        self.cx.counters.writes_short += 1;
        self.cx.gates[slot as usize] |= gate::BLOCKED;
        self.cx.falls_behind(slot);
    }

    /// Queues frames of which `written` bytes have left already, which is possible only where nothing waits.
    fn keep_for_later(&mut self, slot: u32, frames: &[u8], written: usize) {
        if self.conn(slot).phase == Phase::Dead {
            return;
        }
        let current = self.cx.current.take();
        self.cx.queue(slot, |out| out.extend_from_slice(frames));
        self.cx.current = current;
        if written > 0 {
            let index = self.conn(slot).queue;
            self.cx.queues.get_mut(index).advance(written);
        }
    }
}
