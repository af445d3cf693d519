//! Replies are paid for in bytes before a home shard produces them: histories, presences and recoveries.
//!
//! ```text
//! request ──a small reply──► answered
//!    └──a large one──► TooLarge, with its bytes ──► waits ──memory reserved──► PaidRequest ──► answered
//! ```
//!
//! - A small reply needs no payment: requests that may get one at once are as many as fit the mailbox (`mail_bytes_max`).
//! - A large one is paid for from the memory of all backlogs (`Context::reserve_backlog`). Those that were requested and are not
//!   encoded yet are bounded by a quarter of `mail_bytes_max`.
//! - Records and the entries of a presence travel by reference. The connection's shard encodes the reply, so many bytes a turn.
//! - A connection has at most one reply that may be large: nothing behind its command is read until the reply has left.

use super::mail::{LargeRequest, Mail, Question, ReplyTo, Reserved};
use super::state::Messaging;
use crate::engine::stats::Bound;
use crate::engine::{Context, Millis, Reservation};
use crate::ids::{ConnId, ShardId};
use crate::protocol::ErrorCode;

/// How long to wait before memory is reserved again.
const RETRY: Millis = 10;

/// A home shard did not answer: the reply has to be paid for.
pub(crate) fn too_large(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, request: Box<LargeRequest>) {
    state.home_requests.answered(from);
    release(state, cx, request.reserved);
    state.large_replies.waiting.push_back(request);
    ask(state, cx);
}

/// What was paid for a reply is no longer reserved: it is encoded now and counts as a part of the backlog, or is dropped.
pub(crate) fn release(state: &mut Messaging, cx: &mut Context<Mail>, reserved: Reserved) {
    cx.release_backlog(reserved.0 as usize);
    state.large_replies.asked -= reserved.0 as usize;
}

/// Pays for a reply before its home shard is asked. `None`: there is no memory for it now.
pub(crate) fn reserve(state: &mut Messaging, cx: &mut Context<Mail>, bytes: usize) -> Option<Reserved> {
    let may_ask = state.large_replies.may_ask(bytes, cx.config.mail_bytes_max);
    if !may_ask || cx.reserve_backlog(bytes) != Reservation::Taken {
        return None;
    }
    state.large_replies.asked += bytes;
    Some(Reserved(bytes as u32))
}

/// Pays for the replies that wait, oldest first, as far as there is memory, and requests them.
pub(crate) fn ask(state: &mut Messaging, cx: &mut Context<Mail>) {
    state.large_replies.retry_at = None;
    while let Some(request) = state.large_replies.waiting.pop_front() {
        if !is_wanted(state, cx, &request) {
            continue;
        }
        if request.bytes == LargeRequest::BYTES_MAX {
            refuse(state, cx, request);
            continue;
        }
        // The history may grow until the home shard answers. If it grows more, the request comes back.
        let bytes = request.bytes.saturating_add(request.bytes / 8) as usize;
        if !state.large_replies.may_ask(bytes, cx.config.mail_bytes_max) {
            return state.large_replies.waiting.push_front(request);
        }
        match cx.reserve_backlog(bytes) {
            Reservation::Taken => {
                state.large_replies.asked += bytes;
                ask_home(state, cx, request, Reserved(bytes as u32));
            }
            Reservation::Later => {
                state.large_replies.retry_at = Some(cx.now() + RETRY);
                return state.large_replies.waiting.push_front(request);
            }
            Reservation::Never => refuse(state, cx, request),
        }
    }
}

fn ask_home(state: &mut Messaging, cx: &mut Context<Mail>, mut request: Box<LargeRequest>, reserved: Reserved) {
    request.reserved = reserved;
    let home = state.home_of(&request.channel);
    state.home_requests.sent(home);
    cx.mail.post(home, Mail::PaidRequest(request));
}

/// The connection is still open and, if it recovers a subscription, still waits for it.
fn is_wanted(state: &Messaging, cx: &Context<Mail>, request: &LargeRequest) -> bool {
    match &request.question {
        Question::Query { reply_to, .. } => cx.is_open(reply_to.conn),
        Question::Recovery { request, .. } => state.subscribers.is_recovering(request.sub),
    }
}

/// More than all backlogs of the shard may keep: the client gets an error, or is told that it was not recovered.
fn refuse(state: &mut Messaging, cx: &mut Context<Mail>, mut request: Box<LargeRequest>) {
    cx.counters.replies_refused += 1;
    match &mut request.question {
        Question::Query { reply_to: ReplyTo { conn, id }, .. } => {
            let (conn, id) = (*conn, *id);
            cx.reached(Bound::Backlogs, conn);
            state.reply(cx, conn, id, &ErrorCode::LimitExceeded.into());
            query_answered(state, cx, conn);
        }
        Question::Recovery { request: recovery, is_refused } => {
            let conn = state.subscribers.get(recovery.sub.key()).conn();
            cx.reached(Bound::Backlogs, conn);
            // The position at which the subscription begins is known at home.
            *is_refused = true;
            ask_home(state, cx, request, Reserved(0));
        }
    }
}

/// A command that nothing behind it may overtake has its reply: the connection goes on when the reply has left.
pub(crate) fn query_answered(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) {
    state.reply_received(cx, conn);
    cx.resume_when_written(conn);
}
