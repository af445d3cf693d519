//! Calls to the operator's backend on behalf of a command, and what happens with the answers. A command that waits for one is
//! a barrier: the connection is not read further before the answer.
//!
//! Each caller names the function that continues with the answer (`OnAnswer`).

use super::mail::Mail;
use super::proxy_calls::{PendingCommand, Waiting};
use super::rejections::{Action, Fault};
use super::state::{CommandContext, KeyFetch, Messaging, OnAnswer, Progress};
use crate::backend::call::{Answer, Call, Caller, Question};
use crate::engine::Context;
use crate::ids::ConnId;
use crate::protocol::{Encoding, ErrorCode, Reply, client_text};

/// Makes a call. If there is no room for it, the command goes on at once as after a failure of the backend.
pub(crate) fn call(cx: &mut CommandContext<'_>, proxy: u16, question: Question, on_answer: OnAnswer) -> Progress {
    let retry = matches!(question, Question::Keys { .. });
    let waiting = match question {
        Question::Refresh => Waiting::ConnectionRefresh,
        Question::SubRefresh { .. } => Waiting::SubscriptionRefresh,
        _ => Waiting::Command,
    };
    let serial = cx.state.proxy_calls.next_serial();
    let call =
        Call { shard: cx.engine.me(), conn: cx.conn, serial, proxy, caller: caller(cx.state, cx.conn), question };
    cx.engine.counters.backend_calls += 1;
    if (cx.state.settings.backend)(call) {
        let CommandContext { conn, id, .. } = *cx;
        let raw = cx.raw.into();
        cx.state.proxy_calls.insert(PendingCommand { conn, id, waiting, raw, retry, on_answer, blocks_reading: false });
        return Progress::Pending;
    }
    cx.engine.counters.backend_failures += 1;
    cx.keys = key_fetch(retry, &Answer::Failed);
    on_answer(cx, Answer::Failed)
}

fn key_fetch(retry: bool, answer: &Answer) -> KeyFetch {
    match answer {
        _ if !retry => KeyFetch::NotRequested,
        Answer::Keys(fetched) => KeyFetch::Done(*fetched),
        _ => KeyFetch::Failed,
    }
}

fn caller(state: &Messaging, conn: ConnId) -> Caller {
    let session = &state.sessions[conn];
    let identity = session.identity.as_deref();
    let mut text = uuid::Uuid::encode_buffer();
    let headers = match identity {
        Some(identity) => identity.headers.as_deref(),
        None => state.pending.headers(conn),
    };
    Caller {
        client: client_text(session.client, &mut text).to_owned(),
        user: session.user().to_owned(),
        transport: session.transport.name(),
        binary: session.encoding == Encoding::Protobuf,
        meta: identity.map(|identity| identity.meta.to_vec()).unwrap_or_default(),
        headers: headers.unwrap_or_default().to_vec(),
    }
}

/// The answer to a call has arrived: its command goes on.
pub(crate) fn answer_received(
    state: &mut Messaging,
    engine: &mut Context<Mail>,
    conn: ConnId,
    serial: u32,
    answer: Answer,
) {
    let Some(command) = state.proxy_calls.remove(serial) else { return };
    if !engine.is_open(conn) {
        return;
    }
    engine.counters.backend_failures += u64::from(answer == Answer::Failed);
    let PendingCommand { id, raw, retry, on_answer, blocks_reading, .. } = command;
    let progress = match answer {
        Answer::Disconnect { code, reason } if !retry => {
            let mut cx = CommandContext::new(state, engine, conn, id, &raw);
            cx.report(Some(Fault::BACKEND), Action::Close(code));
            state.close_with(engine, conn, code, reason.into());
            Progress::Ended
        }
        answer => {
            let keys = key_fetch(retry, &answer);
            on_answer(&mut CommandContext { keys, ..CommandContext::new(state, engine, conn, id, &raw) }, answer)
        }
    };
    if !blocks_reading {
        return;
    }
    match progress {
        Progress::Pending => state.proxy_calls.block_reading(conn),
        // The connection goes on when the reply has left.
        Progress::Replying => {}
        _ => engine.resume_when_written(conn),
    }
}

/// Rejects a command whose backend did not grant it.
pub(crate) fn reject(cx: &mut CommandContext<'_>, answer: Answer) -> Progress {
    match answer {
        Answer::Error { code, message, temporary } => {
            cx.report(Some(Fault::BACKEND), Action::Error(code));
            cx.reply(&Reply::Error { code, message: &message, temporary })
        }
        _ => cx.reject(ErrorCode::Internal),
    }
}

/// A command that waited for an answer cannot be offered again.
pub(crate) fn reject_without_room(cx: &mut CommandContext<'_>, progress: Progress) -> Progress {
    if progress == Progress::NoRoom { cx.reject(ErrorCode::TooManyRequests) } else { progress }
}
