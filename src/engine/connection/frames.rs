//! Received frames: decoded in place, with messages passed to the app. Replies are collected in the reply buffer and
//! leave in one write at the end of the read, unless a broadcast or a backlog must leave first.

use std::mem;

use super::state::{ConnFlags, Phase};
use crate::engine::app::{App, Flow, Message};
use crate::engine::net::source::Source;
use crate::engine::outbound::GATHER_COPY_BYTES_MAX;
use crate::engine::shard::Shard;
use crate::engine::turn_time::STEP_WORK;
use crate::ids::ConnId;
use crate::ws;
use crate::ws::deflate::Broken;
use crate::ws::{Event, Opcode, Step, Violation};

/// Bytes used up, and the length of the frame that the other bytes begin (0: unknown).
pub(crate) struct Handled {
    pub used: usize,
    pub frame_bytes: usize,
}

/// Echoed messages (`Flow::Reflect`): server frames in a row in the buffer that was read into, `start..end`. The
/// client's headers are longer than the server's, so the room between `end` and the next frame to decode grows with
/// each; the decoder moves the next payload to its front, after the run.
#[derive(Clone, Copy, Default)]
struct EchoRun {
    start: usize,
    end: usize,
}

impl EchoRun {
    fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Where the next payload may be moved to: behind the run, or where its frame begins (`used`) if there is no run.
    fn next_frame_at(self, used: usize) -> usize {
        if self.is_empty() { used } else { self.end }
    }

    /// Appends the frame that begins at `start` and whose payload ends at `end`.
    fn push(&mut self, start: usize, end: usize) {
        if self.is_empty() {
            self.start = start;
        } else {
            debug_assert_eq!(self.end, start, "the decoder moves the payload behind the run");
        }
        self.end = end;
    }

    /// The frames of the run. Nothing is left in it.
    fn take(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let run = mem::take(self);
        debug_assert!(run.end <= bytes.len());
        run.start..run.end
    }
}

/// A payload that goes back from where it lies.
struct Echo {
    opcode: Opcode,
    offset: usize,
    length: usize,
}

/// Where a message is stored, which determines the cost of `Flow::Reflect`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lies {
    /// In the receive buffer, with room for a header in front.
    InPlace,
    /// Anywhere else: it is copied.
    Elsewhere,
}

fn data_opcode(text: bool) -> Opcode {
    if text { Opcode::Text } else { Opcode::Binary }
}

impl<A: App, S: Source> Shard<A, S> {
    /// Handles bytes that begin at a boundary: a request head, then frames. What they provoke leaves before it returns, unless
    /// a broadcast or a backlog has to leave first.
    pub(crate) fn handle_bytes(&mut self, slot: u32, bytes: &mut [u8]) -> Handled {
        self.cx.current = Some(slot);
        let mut handled = Handled { used: 0, frame_bytes: 0 };
        if self.conn(slot).phase == Phase::Upgrading {
            handled = self.handle_requests(slot, bytes);
        }
        let phase = self.conn(slot).phase;
        if matches!(phase, Phase::Open | Phase::Closing) && handled.used < bytes.len() {
            let frames = self.handle_frames(slot, &mut bytes[handled.used..]);
            handled.used += frames.used;
            handled.frame_bytes = frames.frame_bytes;
            // After the server's close only the peer's close is handled. Other frames are dropped, within a bound.
            if phase == Phase::Closing {
                self.drop_received(slot, frames.used);
            }
        } else if matches!(phase, Phase::Finishing | Phase::Lingering) {
            self.drop_received(slot, bytes.len() - handled.used);
            handled.used = bytes.len();
        }
        self.cx.time.charge(STEP_WORK + handled.used as u32);
        self.cx.current = None;
        self.send_replies(slot);
        handled
    }

    /// Decodes and handles all whole frames, as far as the connection's share of the turn goes.
    fn handle_frames(&mut self, slot: u32, bytes: &mut [u8]) -> Handled {
        let limit = self.cx.config.message_bytes_max;
        let mut echoes = EchoRun::default();
        let mut handled = Handled { used: 0, frame_bytes: 0 };
        'bytes: loop {
            // The clock is read between two frames, behind so many bytes: for most reads not at all.
            let look_at = bytes.len().min(handled.used + self.cx.time.left());
            while handled.used < look_at {
                let conn = self.conn(slot);
                let compressed = conn.compression.inflates();
                let at = echoes.next_frame_at(handled.used);
                let gap = handled.used - at;
                let (consumed, event) = match conn.decoder.decode_behind(gap, &mut bytes[at..], limit, compressed) {
                    Ok(Step::Partial { frame_bytes }) => {
                        handled.frame_bytes = frame_bytes.unwrap_or(0);
                        break 'bytes;
                    }
                    Ok(Step::Frame { consumed, event }) => (consumed, event),
                    Err(violation) => {
                        self.fail(slot, violation);
                        handled.used = bytes.len();
                        break 'bytes;
                    }
                };
                if let Some(mut echo) = event.and_then(|event| self.handle_event(slot, event)) {
                    echo.offset += at;
                    self.reflect(slot, bytes, &mut echoes, echo);
                }
                handled.used += consumed;
                let conn = self.conn(slot);
                if !matches!(conn.phase, Phase::Open | Phase::Closing) {
                    handled.used = bytes.len();
                    break 'bytes;
                }
                if conn.flags.intersects(ConnFlags::STALLED | ConnFlags::CLOSE_REQUESTED) {
                    break 'bytes;
                }
                if compressed && handled.used < bytes.len() && self.cx.compressors.is_spent() {
                    self.put_off(slot);
                    break 'bytes;
                }
            }
            if handled.used >= bytes.len() {
                break;
            }
            if self.cx.time.look(slot) && self.conn(slot).phase == Phase::Open {
                self.put_off(slot);
                break;
            }
        }
        self.send_echoes(slot, &bytes[echoes.take(bytes)]);
        handled
    }

    /// Handles one event. Returns the payload that has to go back from where it lies, if it has to.
    fn handle_event(&mut self, slot: u32, event: Event<'_>) -> Option<Echo> {
        let id = self.cx.connections.id(slot);
        let open = self.conn(slot).phase == Phase::Open;
        match event {
            Event::Message { text, payload, offset } if open => {
                self.cx.counters.messages_in += 1;
                let length = payload.len();
                let goes_back = self.deliver_message(id, text, payload, Lies::InPlace);
                return goes_back.then(|| Echo { opcode: data_opcode(text), offset, length });
            }
            Event::Assembled { text, mut payload } if open => {
                self.cx.counters.messages_in += 1;
                self.deliver_message(id, text, &mut payload, Lies::Elsewhere);
            }
            Event::Compressed { text, payload } if open => self.handle_compressed(slot, text, &payload),
            Event::Ping(payload) if open => ws::frame(&mut self.cx.reply_buffer, Opcode::Pong, payload),
            Event::Pong(_) if open => self.app.pong(&mut self.cx, id),
            Event::Close(close) => self.peer_closed(slot, close.map(|(code, _)| code)),
            _ => {}
        }
        None
    }

    /// A compressed message: bounded while it is inflated, and checked as any other.
    fn handle_compressed(&mut self, slot: u32, text: bool, payload: &[u8]) {
        let (compression, bytes_max) = (self.conn(slot).compression, self.cx.config.inflated_bytes_max());
        let violation = match self.cx.compressors.inflate(slot, compression, payload, bytes_max) {
            Ok(mut message) => {
                let valid = !text || ws::is_text(&message);
                if valid {
                    self.cx.counters.messages_in += 1;
                    self.cx.counters.inflates += 1;
                    self.cx.counters.inflate_bytes_out += message.len() as u64;
                    let id = self.cx.connections.id(slot);
                    self.deliver_message(id, text, &mut message, Lies::Elsewhere);
                }
                self.cx.compressors.keep_inflated(message);
                (!valid).then_some(Violation::InvalidUtf8)
            }
            Err(Broken::Invalid) => Some(Violation::InvalidDeflate),
            Err(Broken::TooBig) => Some(Violation::MessageTooBig),
        };
        if let Some(violation) = violation {
            self.fail(slot, violation);
        }
    }

    /// Hands a message to the app. True where it has to go back from where it lies.
    pub(crate) fn deliver_message(&mut self, id: ConnId, text: bool, payload: &mut [u8], lies: Lies) -> bool {
        match self.app.message(&mut self.cx, id, Message { text, payload: &mut *payload }) {
            Flow::Done => {}
            Flow::Reflect => {
                self.cx.counters.replies += 1;
                if lies == Lies::InPlace && !self.conn(id.slot).compression.is_on() {
                    return true;
                }
                self.cx.queue_message(id.slot, data_opcode(text), |out| out.extend_from_slice(payload));
            }
            Flow::Stall { consumed } if consumed == payload.len() => {}
            Flow::Stall { consumed } => {
                self.stall(id, text, &payload[consumed..]);
                self.stalled.push_back(id);
            }
            Flow::Wait { consumed } => self.stall(id, text, &payload[consumed..]),
            Flow::Yield { consumed } => {
                if consumed < payload.len() {
                    self.stall(id, text, &payload[consumed..]);
                }
                self.put_off(id.slot);
            }
        }
        false
    }

    /// Echoes a message in place: its header is written in front of it, where the client's longer header was, and it
    /// leaves together with the echoes before it. If another reply of this read must leave first, a small message is
    /// copied after it, and before a large one the reply is sent.
    fn reflect(&mut self, slot: u32, bytes: &mut [u8], echoes: &mut EchoRun, echo: Echo) {
        let Echo { opcode, offset, length } = echo;
        if !self.cx.reply_buffer.is_empty() {
            if length < GATHER_COPY_BYTES_MAX {
                return ws::frame(&mut self.cx.reply_buffer, opcode, &bytes[offset..offset + length]);
            }
            self.send_echoes(slot, &bytes[echoes.take(bytes)]);
            self.send_replies(slot);
        }
        let start = ws::header_before(bytes, offset..offset + length, opcode);
        echoes.push(start, offset + length);
    }

    /// Echoes leave from the buffer that they were read into. A few of them leave with the reply buffer, if it is not
    /// empty.
    fn send_echoes(&mut self, slot: u32, frames: &[u8]) {
        if frames.is_empty() {
            return;
        }
        if self.cx.reply_buffer.is_empty() || frames.len() > GATHER_COPY_BYTES_MAX {
            let after = self.sockets.send(&mut self.cx, slot, frames);
            return self.after_write(slot, after);
        }
        self.cx.reply_buffer.splice(0..0, frames.iter().copied());
    }

    /// Sends the replies of a read: at once, or after the backlog.
    pub(crate) fn send_replies(&mut self, slot: u32) {
        if !self.cx.reply_buffer.is_empty() {
            let mut replies = mem::take(&mut self.cx.reply_buffer);
            let after = self.sockets.send(&mut self.cx, slot, &replies);
            self.after_write(slot, after);
            replies.clear();
            self.cx.reply_buffer = replies;
        }
        self.finish_when_sent(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_of_echoes_begins_with_its_first_frame_and_leaves_the_room_behind_it() {
        let bytes = [0; 64];
        let mut run = EchoRun::default();
        assert_eq!(run.next_frame_at(12), 12, "without a run a payload stays where it is");
        // Two frames of 10 payload bytes: 16 bytes each as the client sent them, 12 as they go back.
        run.push(4, 16);
        assert_eq!(run.next_frame_at(16), 16);
        run.push(16, 28);
        assert_eq!(run.next_frame_at(32), 28, "the next payload moves four bytes to the front");
        assert_eq!(run.take(&bytes), 4..28);
        assert!(run.is_empty());
    }
}
