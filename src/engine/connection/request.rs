//! The requests of a connection: each is answered when it is whole. One may open a WebSocket or a stream; behind a whole
//! response the connection may serve another.

use super::frames::{Handled, Lies};
use super::state::{ConnFlags, Phase, SPILL_COPY_BYTES_MAX, WriteFlags};
use crate::engine::app::{App, Route, Stream};
use crate::engine::context::Injected;
use crate::engine::deflate::ConnCompression;
use crate::engine::net::source::Source;
use crate::engine::shard::Shard;
use crate::engine::stats::{Bound, Closed};
use crate::engine::timer_wheel::Millis;
use crate::engine::turn_time::STEP_WORK;
use crate::http::{self, Body, BodyFault, BodyLength, KeepAlive, Response, StreamFraming};
use crate::ids::ConnId;
use crate::ws::{self, Agreed, Method, Refusal, Request};

/// Time from a response to the next request of the connection. Proxies in front of servers keep idle connections for about as
/// long.
const BETWEEN_REQUESTS: Millis = 60_000;

/// A request that is judged.
struct Judged {
    route: Route,
    /// Of the request, with its body.
    bytes: usize,
    upgrade: Option<([u8; 24], Option<Agreed>)>,
}

/// What a whole head leads to.
enum Next {
    Judged(Judged),
    /// The body is not whole; it has at most so many bytes with the head.
    Wait {
        bytes_max: usize,
    },
}

impl<A: App, S: Source> Shard<A, S> {
    /// Answers all whole requests at the start of `bytes`, until one opens the connection or waits for its answer.
    pub(crate) fn handle_requests(&mut self, slot: u32, bytes: &mut [u8]) -> Handled {
        let mut handled = Handled { used: 0, frame_bytes: 0 };
        loop {
            self.cx.current = Some(slot);
            let one = self.handle_request(slot, &bytes[handled.used..]);
            handled = Handled { used: handled.used + one.used, ..one };
            self.send_response(slot);
            self.cx.current = None;
            self.handle_injected();
            self.cx.current = Some(slot);
            let conn = self.conn(slot);
            if conn.phase == Phase::Open && conn.compression.is_stream() {
                // Behind the request of a stream nothing is read.
                self.drop_received(slot, bytes.len() - handled.used);
                handled.used = bytes.len();
            }
            let conn = self.conn(slot);
            let goes_on = conn.phase == Phase::Upgrading && !conn.flags.contains(ConnFlags::AWAITS_ANSWER);
            if one.used == 0 || !goes_on || handled.used == bytes.len() {
                return handled;
            }
            if self.cx.time.work(slot, STEP_WORK + one.used as u32) {
                self.put_off(slot);
                return handled;
            }
        }
    }

    /// Answers one request when it is whole. What is used is 0 until then.
    fn handle_request(&mut self, slot: u32, bytes: &[u8]) -> Handled {
        let next = match ws::parse_request(bytes, &self.cx.config.request_bounds()) {
            Ok(None) => {
                // The next read of a long head goes directly into the spill, which grows with it.
                let is_long = bytes.len() > SPILL_COPY_BYTES_MAX;
                Next::Wait { bytes_max: if is_long { self.cx.config.request_head_bytes_max } else { 0 } }
            }
            Ok(Some(request)) => self.judge(slot, &request, bytes),
            Err(refusal) => Next::Judged(Judged { route: Route::Refuse(refusal), bytes: bytes.len(), upgrade: None }),
        };
        let judged = match next {
            Next::Judged(judged) => judged,
            Next::Wait { bytes_max } if self.may_keep_head(bytes.len()) => {
                // They are read again from the beginning with the bytes that follow.
                self.cx.time.charge(bytes.len() as u32);
                if self.is_between_requests(slot) {
                    self.conn(slot).flags.remove(ConnFlags::KEEPS_ALIVE);
                    self.set_deadline(slot, self.cx.config.upgrade_timeout.as_millis() as Millis);
                }
                return Handled { used: 0, frame_bytes: bytes_max };
            }
            Next::Wait { .. } => {
                let address = self.address_of(slot);
                self.cx.reached_by(Bound::PendingHeads, address);
                let refusal = Refusal::Unavailable { retry_after_s: self.peers.retry_after(&self.cx, 1) };
                Judged { route: Route::Refuse(refusal), bytes: bytes.len(), upgrade: None }
            }
        };
        let used = judged.bytes;
        self.carry_out(slot, judged, bytes);
        if Method::of(bytes) == Method::Head {
            ws::drop_body(&mut self.cx.reply_buffer);
        }
        Handled { used, frame_bytes: 0 }
    }

    fn judge(&mut self, slot: u32, request: &Request<'_>, bytes: &[u8]) -> Next {
        let mut used = request.head_bytes;
        let proxy = self.address_of_trusted_proxy(slot);
        let forwarded = proxy.map_or(Ok(()), |proxy| self.peers.judge_forwarded(&mut self.cx, slot, proxy, request));
        let mut route = match forwarded {
            // Commands for open streams are taken to the end.
            _ if self.refuses_upgrades() && request.method.only_asks() => Route::Refuse(REFUSED),
            Err(refusal) => Route::Refuse(refusal),
            Ok(()) if request.method.only_asks() => self.app.route(&mut self.cx, request),
            Ok(()) => self.app.other_method(&mut self.cx, request),
        };
        if let Route::ReadBody { bytes_max } = route {
            route = match http::read_body(request.body, &bytes[used..], bytes_max) {
                Ok(Body::Whole { data, used: body_bytes }) => {
                    used += body_bytes;
                    let id = self.cx.connections.id(slot);
                    self.app.with_body(&mut self.cx, id, request, &data)
                }
                Ok(Body::Partial { bytes_max }) => {
                    self.ask_for_body(slot, request, bytes.len() - used);
                    return Next::Wait { bytes_max: used + bytes_max };
                }
                Err(BodyFault::TooLarge) => Route::Refuse(Refusal::BodyTooLarge),
                Err(BodyFault::Malformed) => Route::Refuse(Refusal::BadRequest("malformed chunks of the body")),
            };
        } else if request.body != BodyLength::None && !matches!(route, Route::Refuse(_)) {
            route = Route::Refuse(Refusal::BadRequest("a body is not taken here"));
        }
        if matches!(route, Route::Stream(_)) && self.refuses_upgrades() {
            route = Route::Refuse(REFUSED);
        }
        let keeps_alive = !request.closes && !self.is_draining();
        self.conn(slot).flags.set(ConnFlags::KEEPS_ALIVE, keeps_alive);
        self.conn(slot).flags.remove(ConnFlags::CONTINUED);
        let upgrade = request
            .upgrade
            .as_ref()
            .map(|upgrade| (*upgrade.key, self.cx.compressors.agree(request.values("sec-websocket-extensions"))));
        Next::Judged(Judged { route, bytes: used, upgrade })
    }

    /// RFC 9110, section 10.1.1: a client may wait for this before it sends the body.
    fn ask_for_body(&mut self, slot: u32, request: &Request<'_>, body_bytes: usize) {
        if request.expects_continue && body_bytes == 0 && !self.conn(slot).flags.contains(ConnFlags::CONTINUED) {
            self.conn(slot).flags.insert(ConnFlags::CONTINUED);
            self.cx.reply_buffer.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    fn carry_out(&mut self, slot: u32, judged: Judged, bytes: &[u8]) {
        match (judged.route, judged.upgrade) {
            (Route::Upgrade { protocol, route }, Some((key, compression))) => {
                ws::accept(&mut self.cx.reply_buffer, &key, protocol, compression.as_ref());
                if let Some(agreed) = compression {
                    self.cx.counters.deflate_agreed += 1;
                    self.conn(slot).compression = self.cx.compressors.begin(slot, &agreed);
                }
                self.open(slot, route);
            }
            (Route::Upgrade { .. }, None) => self.refuse(slot, Refusal::UpgradeRequired, bytes),
            (Route::Refuse(refusal), _) => self.refuse(slot, refusal, bytes),
            (Route::Stream(stream), _) => self.open_stream(slot, *stream),
            (Route::Answer(response), _) => self.write_answer(slot, &response),
            (Route::Later, _) => {
                self.conn(slot).flags.insert(ConnFlags::AWAITS_ANSWER);
                self.cx.wheel.cancel(slot);
            }
            (Route::ReadBody { .. }, _) => self.refuse(slot, Refusal::BadRequest("a body is not taken here"), bytes),
            (Route::Respond { status, content_type, body }, _) => {
                ws::http_response(&mut self.cx.reply_buffer, status, content_type, body);
                self.finish_after_replies(slot);
            }
        }
    }

    fn open_stream(&mut self, slot: u32, stream: Stream) {
        let Stream { framing, route, head, message } = stream;
        self.cx.reply_buffer.extend_from_slice(&head);
        self.conn(slot).compression = ConnCompression::of_stream(framing);
        self.conn(slot).flags.set(ConnFlags::HEAD_HELD, head.is_empty());
        self.open(slot, route);
        let conn = self.cx.connections.id(slot);
        self.cx.injected.push(Injected { conn, payload: message });
    }

    fn write_answer(&mut self, slot: u32, response: &Response) {
        let keep_alive = match self.conn(slot).flags.contains(ConnFlags::KEEPS_ALIVE) {
            true => KeepAlive::Yes,
            false => KeepAlive::No,
        };
        response.write(&mut self.cx.reply_buffer, keep_alive);
        match keep_alive {
            KeepAlive::Yes => {
                // The client of this request is not known any more after this.
                self.log_with_addresses();
                self.peers.forget_forwarded(slot);
                self.set_deadline(slot, BETWEEN_REQUESTS);
            }
            KeepAlive::No => self.finish_after_replies(slot),
        }
    }

    /// A response was sent, and no byte of the next request has come.
    pub(crate) fn is_between_requests(&self, slot: u32) -> bool {
        let conn = &self.cx.connections[slot];
        conn.spill.is_none()
            && conn.flags.contains(ConnFlags::KEEPS_ALIVE)
            && !conn.flags.contains(ConnFlags::AWAITS_ANSWER)
    }

    pub(crate) fn end_between_requests(&mut self, slot: u32) {
        self.finish_after_replies(slot);
        self.finish_when_sent(slot);
    }

    /// Sends the responses that requests waited for, and goes on with what their clients sent behind them.
    pub(crate) fn send_answers(&mut self) {
        for (id, response) in std::mem::take(&mut self.cx.answers) {
            let slot = id.slot;
            let waits = |flags: ConnFlags| flags.contains(ConnFlags::AWAITS_ANSWER);
            if !self.cx.connections.get(id).is_some_and(|conn| conn.phase == Phase::Upgrading && waits(conn.flags)) {
                continue;
            }
            self.conn(slot).flags.remove(ConnFlags::AWAITS_ANSWER);
            self.write_answer(slot, &response);
            self.send_response(slot);
            self.send_replies(slot);
            if self.conn(slot).phase == Phase::Upgrading {
                // As a stalled connection, so that a client that sends many requests at once gets its share of a turn.
                self.conn(slot).flags.insert(ConnFlags::STALLED);
                self.cx.resume(id);
            }
        }
    }

    /// Hands the app the messages that came for streams by other connections.
    pub(crate) fn handle_injected(&mut self) {
        for Injected { conn, mut payload } in std::mem::take(&mut self.cx.injected) {
            let slot = conn.slot;
            if !self.cx.connections.is_open(conn) {
                continue;
            }
            self.cx.counters.messages_in += 1;
            self.cx.time.charge(STEP_WORK + payload.len() as u32);
            // While it rests, `Context::inject` takes nothing more for it.
            self.peers.exceeds_byte_rate(&mut self.cx, slot, payload.len());
            if self.conn(slot).flags.contains(ConnFlags::STALLED) {
                self.keep_injected(slot, &payload);
                continue;
            }
            self.cx.current = Some(slot);
            self.deliver_message(conn, false, &mut payload, Lies::Elsewhere);
            self.cx.current = None;
            self.send_replies(slot);
        }
    }

    /// Ends an open stream: its last message, the last chunk, the FIN.
    pub(crate) fn end_stream(&mut self, id: ConnId, framing: StreamFraming, end: (u16, &str), why: Closed) {
        let slot = id.slot;
        let mut message = Vec::new();
        self.app.write_end(id, end.0, end.1, &mut message);
        self.leave_open(slot, why);
        if self.conn(slot).flags.contains(ConnFlags::HEAD_HELD) {
            let response = Response::text(503, "Retry-After: 1\r\n".into(), [end.1, "\n"].concat());
            return self.respond_instead(slot, &response);
        }
        let mut frames = Vec::new();
        if !message.is_empty() {
            framing.write(&mut frames, &message);
        }
        framing.write_end(&mut frames);
        self.cx.queue(slot, |out| out.extend_from_slice(&frames));
        self.finish_after_replies(slot);
        self.finish_when_sent(slot);
    }

    /// Sends a whole response instead of a stream whose head was not sent. What waited for it is dropped.
    pub(crate) fn respond_instead(&mut self, slot: u32, response: &Response) {
        self.cx.connections.clear(slot, WriteFlags::IN_FLUSH | WriteFlags::IN_FLUSH_MULTIPLE);
        self.cx.release_queue(slot);
        self.cx.queue(slot, |out| response.write(out, KeepAlive::No));
        self.finish_after_replies(slot);
        self.finish_when_sent(slot);
    }
}

const REFUSED: Refusal = Refusal::Unavailable { retry_after_s: 1 };
