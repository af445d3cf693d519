//! The commands of clients, in the order in which they are received. The first one is connect, and each command with an id
//! gets exactly one reply.
//!
//! Subscribes of one frame go to their home shards together. A command for a channel whose subscribe is not answered
//! yet waits, with everything after it; the same applies after a command that the backend must answer, and after one whose
//! reply may be large: a history, a presence, or a subscribe that recovers. This barrier replaces a queue per channel: it
//! needs no memory except the unread rest of the frame, and clients see the same order. Publications follow the subscribe to the home shard, and are answered in that order.

use super::backend_calls::{call, reject};
use super::connect;
use super::keepalive;
use super::large_replies::SMALL_REPLY_BYTES_MAX;
use super::mail::{Mail, Query};
use super::past;
use super::publish;
use super::queries;
use super::refresh;
use super::rejections::Fault;
use super::session::Phase;
use super::state::{CommandContext, Messaging, Progress};
use super::subscribe;
use super::subscription_end;
use crate::backend::call::{Answer, Question};
use crate::config::NoRpc;
use crate::engine::stats::Bound;
use crate::engine::token_bucket::Rate;
use crate::engine::{Context, Flow, Message, Reservation};
use crate::ids::ConnId;
use crate::protocol::{Body, Command, Disconnect, Encoding, ErrorCode, Reply};

/// Handles a message: all its commands.
pub(crate) fn receive(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, message: &Message<'_>) -> Flow {
    let session = &state.sessions[conn];
    let (encoding, bytes) = (session.encoding, message.payload.len());
    match session.phase {
        Phase::Echo => return Flow::Reflect,
        // Commands behind a rejected connect are ignored: 3501 would keep the client from connecting again.
        Phase::Rejected => return Flow::Done,
        _ => {}
    }
    // As with Centrifugo, a client may use either opcode. Of JSON, only text frames were checked as UTF-8.
    if !message.text && encoding.is_text() && simdutf8::basic::from_utf8(message.payload).is_err() {
        let mut cx = CommandContext::new(state, cx, conn, 0, b"");
        cx.fault = Some(Fault::malformed("it is not UTF-8"));
        cx.end(Disconnect::BadRequest);
        return flow_of_ended(state, conn, bytes);
    }
    if encoding == Encoding::UniJson {
        return receive_uni(state, cx, conn, message);
    }
    let mut start = 0;
    let rate = state.settings.command_rate;
    for command in encoding.commands(message.payload, 0) {
        let Ok((Command { id, body }, end)) = command else {
            let mut cx = CommandContext::new(state, cx, conn, 0, b"");
            cx.fault = Some(Fault::malformed("it is not a command in the connection's encoding"));
            cx.end(Disconnect::BadRequest);
            return flow_of_ended(state, conn, bytes);
        };
        let is_pong = matches!(body, Body::Pong);
        let raw = &message.payload[start..end];
        let progress = execute(&mut CommandContext::new(state, cx, conn, id, raw), body);
        let is_taken = matches!(progress, Progress::Done | Progress::Pending | Progress::Replying);
        if let (Some(rate), true) = (rate, is_taken && !is_pong)
            && !is_within_rate(state, cx, conn, rate)
        {
            state.end(cx, conn, Disconnect::TooManyRequests);
            return flow_of_ended(state, conn, bytes);
        }
        match progress {
            Progress::Done => {
                // Each command looks through the connection's subscriptions for its channel.
                let work = end - start + usize::from(state.sessions[conn].channels);
                start = end;
                if cx.work(conn, work) {
                    return Flow::Yield { consumed: start };
                }
            }
            Progress::NoRoom | Progress::Deferred => {
                // It was read in vain, and will be again.
                cx.charge((end - start) as u32);
                return match progress {
                    Progress::NoRoom => Flow::Stall { consumed: start },
                    _ => Flow::Wait { consumed: start },
                };
            }
            Progress::Pending => {
                state.proxy_calls.block_reading(conn);
                return Flow::Wait { consumed: end };
            }
            Progress::Replying => return Flow::Wait { consumed: end },
            Progress::Ended => return flow_of_ended(state, conn, bytes),
        }
    }
    Flow::Done
}

/// Counts a command that was taken. False if it exceeds the rate, and the rate is enforced.
fn is_within_rate(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, rate: Rate) -> bool {
    if state.sessions.take_command(conn, rate, cx.now()) {
        return true;
    }
    cx.reached(Bound::CommandRate, conn);
    state.settings.client.rate_limit_dry_run
}

/// No further command is handled, also if the close waits for replies.
fn flow_of_ended(state: &Messaging, conn: ConnId, consumed: usize) -> Flow {
    if state.pending.is_closing(conn) { Flow::Wait { consumed } } else { Flow::Done }
}

/// A unidirectional client's first message is its connect request; others are ignored.
fn receive_uni(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, message: &Message<'_>) -> Flow {
    if state.sessions[conn].phase != Phase::New || state.pending.has_request(conn) {
        return Flow::Done;
    }
    match connect::uni_connect(state, cx, conn, message.payload) {
        Progress::Pending => {
            state.proxy_calls.block_reading(conn);
            Flow::Wait { consumed: message.payload.len() }
        }
        Progress::Deferred => Flow::Wait { consumed: 0 },
        _ => Flow::Done,
    }
}

fn execute(cx: &mut CommandContext<'_>, body: Body<'_>) -> Progress {
    if let Body::Connect(request) = &body {
        return connect::connect(cx, request);
    }
    if cx.session().phase != Phase::Connected {
        return cx.end(Disconnect::BadRequest);
    }
    if let Some(channel) = body.channel() {
        if channel.is_empty() {
            return cx.end(Disconnect::BadRequest);
        }
        if subscribe::waits_for_subscribe(cx.state, cx.conn, channel, &body) {
            return Progress::Deferred;
        }
    }
    match body {
        Body::Subscribe(request) => subscribe::subscribe(cx, &request),
        Body::Unsubscribe { channel } => subscription_end::unsubscribe(cx, &channel),
        Body::Publish { channel, data, .. } => publish::publish(cx, &channel, data),
        Body::Pong if keepalive::pong_received(cx.state, cx.engine, cx.conn) => Progress::Done,
        Body::Pong | Body::Unknown | Body::Connect(_) => cx.end(Disconnect::BadRequest),
        Body::Send { .. } => cx.end(Disconnect::NotAvailable),
        Body::Presence { channel } => queries::presence(cx, &channel, Query::Presence),
        Body::PresenceStats { channel } => queries::presence(cx, &channel, Query::PresenceStats),
        Body::History(request) => queries::history(cx, &request),
        Body::Rpc { method, data } => rpc(cx, &method, data),
        Body::Refresh { token } => refresh::refresh(cx, &token),
        Body::SubRefresh { channel, token, .. } => refresh::sub_refresh(cx, &channel, &token),
    }
}

/// The rpc command: the backend answers it, unless the method is a reserved one.
fn rpc(cx: &mut CommandContext<'_>, method: &str, data: &[u8]) -> Progress {
    if let Some(progress) = past::rpc(cx, method, data) {
        return progress;
    }
    match cx.state.settings.rpc.proxy_for(method) {
        Ok(proxy) => {
            let question = Question::Rpc { method: method.to_owned(), data: data.to_vec() };
            // The answer is the reply: the command is not needed again.
            cx.raw = b"";
            call(cx, proxy, question, rpc_answered)
        }
        Err(NoRpc::MethodNotFound) => cx.reject(ErrorCode::MethodNotFound),
        Err(NoRpc::NotAvailable) => cx.reject(ErrorCode::NotAvailable),
    }
}

fn rpc_answered(cx: &mut CommandContext<'_>, answer: Answer) -> Progress {
    match answer {
        Answer::Rpc { data } => {
            let (reserved, bytes) = (cx.engine.reserve_backlog(data.len()), data.len());
            if reserved == Reservation::Taken {
                cx.engine.release_backlog(bytes);
            } else if bytes > SMALL_REPLY_BYTES_MAX {
                cx.engine.counters.replies_refused += 1;
                cx.engine.reached(Bound::Backlogs, cx.conn);
                return cx.reject(ErrorCode::TooManyRequests);
            }
            cx.state.reply_of(cx.engine, cx.conn, cx.id, bytes, &Reply::Rpc { data: &data });
            Progress::Done
        }
        other => reject(cx, other),
    }
}
