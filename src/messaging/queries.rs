//! A client's queries about a channel: its history, its presence, and the number of its clients. The home shard answers
//! (`home_queries`). A history or presence may be large (`large_replies`): nothing behind it is read until it has left.

use super::large_replies::records_bytes;
use super::mail::{HistoryAnswer, Mail, Query, ReplyTo, Reserved};
use super::reply_payment::{self, query_answered};
use super::state::{CommandContext, Messaging, Progress};
use super::subscribe_reply::PublicationParts;
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::{ErrorCode, HistoryRequest, HistoryResult, Reply};
use crate::pubsub::{HistoryFilter, Since};

/// The presence and presence_stats commands.
pub(crate) fn presence(cx: &mut CommandContext<'_>, channel: &str, query: Query) -> Progress {
    match may_query_presence(cx, channel) {
        Ok(()) => send_home(cx, channel, query),
        Err(error) => cx.reject(error),
    }
}

fn may_query_presence(cx: &CommandContext<'_>, channel: &str) -> Result<(), ErrorCode> {
    let CommandContext { state, conn, .. } = cx;
    let namespace = state.settings.checked_namespace(channel)?;
    if !namespace.presence {
        return Err(ErrorCode::NotAvailable);
    }
    let is_subscribed = state.subscription(*conn, channel).is_some();
    match state.settings.may_see_presence(&state.sessions[*conn], namespace, is_subscribed) {
        true => Ok(()),
        false => Err(ErrorCode::PermissionDenied),
    }
}

/// The history command.
pub(crate) fn history(cx: &mut CommandContext<'_>, request: &HistoryRequest<'_>) -> Progress {
    if let Err(error) = may_query_history(cx, request) {
        return cx.reject(error);
    }
    let max = cx.state.settings.client.history_max_publication_limit as i32;
    let limit = match request.limit {
        limit if max > 0 && (limit < 0 || limit > max) => max,
        limit => limit,
    };
    let since = request.since.as_ref().map(|since| Since::new(&since.epoch, since.offset));
    send_home(cx, &request.channel, Query::history(HistoryFilter { since, limit, reverse: request.reverse }))
}

pub(super) fn may_query_history(cx: &CommandContext<'_>, request: &HistoryRequest<'_>) -> Result<(), ErrorCode> {
    let CommandContext { state, conn, .. } = cx;
    let namespace = state.settings.checked_namespace(&request.channel)?;
    if !namespace.has_history() {
        return Err(ErrorCode::NotAvailable);
    }
    let is_subscribed = state.subscription(*conn, &request.channel).is_some();
    if !state.settings.may_see_history(&state.sessions[*conn], namespace, is_subscribed) {
        return Err(ErrorCode::PermissionDenied);
    }
    // There is nothing before the first publication.
    let before_first = request.reverse && request.since.as_ref().is_some_and(|since| since.offset == 0);
    if before_first { Err(ErrorCode::BadRequest) } else { Ok(()) }
}

fn send_home(cx: &mut CommandContext<'_>, channel: &str, query: Query) -> Progress {
    let CommandContext { state, engine, conn, id, .. } = cx;
    if !state.has_credit(engine, channel) {
        return Progress::NoRoom;
    }
    let home = state.home_of(channel);
    state.home_requests.sent(home);
    let session = &mut state.sessions[*conn];
    session.replies_owed += 1;
    let wire = session.encoding.index();
    let allows_small = state.home_requests.has_room_for_reply(home, engine.config.mail_bytes_max);
    let channel = engine.mail.put(home, channel.as_bytes());
    let reply_to = ReplyTo { conn: *conn, id: *id };
    engine.mail.post(home, Mail::Query { channel, query, reply_to, wire, allows_small });
    if query == Query::PresenceStats { Progress::Done } else { Progress::Replying }
}

/// The answer to a history command has arrived.
pub(crate) fn history_answered(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, answer: HistoryAnswer) {
    state.home_requests.answered(from);
    match answer.reserved {
        Reserved(0) => send_history(state, cx, answer),
        // Later in the turn, so that other mail does not wait for it.
        _ => state.large_replies.histories.push_back(answer),
    }
}

/// Encodes the histories that have arrived, as many as one turn may.
pub(crate) fn send_histories(state: &mut Messaging, cx: &mut Context<Mail>) {
    while !state.large_replies.is_turn_spent(cx.counters.turns)
        && let Some(answer) = state.large_replies.histories.pop_front()
    {
        send_history(state, cx, answer);
    }
}

fn send_history(state: &mut Messaging, cx: &mut Context<Mail>, answer: HistoryAnswer) {
    let HistoryAnswer { reply_to: ReplyTo { conn, id }, records, top, reserved } = answer;
    reply_payment::release(state, cx, reserved);
    if cx.is_open(conn) {
        let encoding = state.sessions[conn].encoding;
        let records = records.as_deref();
        let parts =
            records.unwrap_or_default().iter().map(|record| PublicationParts::plain(record, top.epoch, encoding));
        let parts: Vec<_> = parts.collect();
        let publications: Vec<_> = parts.iter().map(PublicationParts::publication).collect();
        let epoch = top.epoch.text();
        let result = HistoryResult { publications: &publications, epoch: epoch.as_str(), offset: top.offset };
        let bytes = records_bytes(records.unwrap_or_default().iter(), encoding);
        let reply = match records {
            Some(_) => Reply::History(result),
            None => ErrorCode::UnrecoverablePosition.into(),
        };
        state.reply_of(cx, conn, id, bytes, &reply);
        query_answered(state, cx, conn);
    }
    reply_payment::ask(state, cx);
}

/// The answer to a presence command has arrived.
pub(crate) fn presence_answered(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    ReplyTo { conn, id }: ReplyTo,
    entries: &[u8],
) {
    if cx.is_open(conn) {
        let encoding = state.sessions[conn].encoding;
        state.send_of(cx, conn, entries.len(), |out| {
            encoding.presence_head(out, id, entries.len());
            out.extend_from_slice(entries);
            out.extend_from_slice(encoding.presence_tail());
        });
        query_answered(state, cx, conn);
    }
    reply_payment::ask(state, cx);
}
