//! A client's queries about a channel: its history, its presence, and the number of its clients. The home shard replies
//! in the client's encoding (`home_queries`), so that the reply returns as a frame.

use super::mail::{Mail, Query, ReplyTo};
use super::state::{CommandContext, Progress};
use crate::protocol::{ErrorCode, HistoryRequest};
use crate::pubsub::Since;

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
    send_home(cx, &request.channel, Query::History { limit, reverse: request.reverse, since })
}

fn may_query_history(cx: &CommandContext<'_>, request: &HistoryRequest<'_>) -> Result<(), ErrorCode> {
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
    let channel = engine.mail.put(home, channel.as_bytes());
    engine.mail.post(home, Mail::Query { channel, query, reply_to: ReplyTo { conn: *conn, id: *id }, wire });
    Progress::Done
}
