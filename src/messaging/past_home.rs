//! The home shard's side of questions about the past: of clients (`past`) and of the server API. The memory answers for a
//! history; a query across channels is for the log.

use std::sync::Arc;

use super::api_call::{ApiReply, PastKey, PastQuery};
use super::control_request::Answer as ApiAnswer;
use super::home_broker::{Call, PastAsker, PastClient};
use super::home_queries::code_of;
use super::mail::{Mail, PastAnswer, PastQuestion, PastReply, PastRequest};
use super::past::{PAGE_BYTES_MAX, cut_to_page, past_page};
use super::settings::Settings;
use super::state::Messaging;
use crate::broker::message::{Answer, BrokerError, HistoryRead, RequestKind};
use crate::broker::query::{LogQuery, QueryKey, QueryPage, QueryRefusal};
use crate::config::{Durability, Namespace};
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::ErrorCode;
use crate::pubsub::{HistoryFilter, HistorySlice, Position, PublicationRecord, TimeRange};

/// Bytes of publications in one page for the server API.
const API_PAGE_BYTES_MAX: usize = 4 << 20;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    Client,
    Api,
}

/// A client asks.
pub(super) fn answer(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, request: PastRequest) {
    let PastRequest { channel, question, reply_to, reserved } = request;
    let client = PastClient { shard: from, reply_to, reserved };
    match question {
        PastQuestion::History { filter, range } => history(state, cx, &channel, client, (filter, range)),
        PastQuestion::Query(query) => match log_query(&state.settings, &query, Audience::Client) {
            Ok(log_query) => ask_log(state, cx, &channel, PastAsker::Client(client), log_query),
            Err(error) => post(cx, client, Err(error)),
        },
    }
}

/// The server API asks.
pub(super) fn api_query(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    query: &PastQuery,
    answer: ApiAnswer<Result<ApiReply, ErrorCode>>,
) {
    match log_query(&state.settings, query, Audience::Api) {
        Ok(log_query) => ask_log(state, cx, &query.channel, PastAsker::Api(answer), log_query),
        Err(error) => answer(Err(error)),
    }
}

fn history(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    client: PastClient,
    (filter, range): (HistoryFilter, TimeRange),
) {
    let options = state.settings.history_options(channel);
    if state.is_brokered(channel) {
        if !range.is_all() && !state.finds_by_time() {
            return post(cx, client, Err(ErrorCode::NotAvailable));
        }
        let Some(broker) = &mut state.broker else { return };
        let call = Call::PastHistory { client, filter };
        let sent = broker.ask(channel, call, |ticket| RequestKind::History { ticket, filter, range, options });
        if sent.is_err() {
            post(cx, client, Err(ErrorCode::Internal));
        }
        return;
    }
    let result = match state.home_channels.history_within(channel, filter, range, &options, cx.now()) {
        Ok(HistorySlice { publications, top }) => Ok((publications.cloned().collect(), top)),
        Err(_) => Err(ErrorCode::UnrecoverablePosition),
    };
    post(cx, client, result.map(|(records, top)| history_answer(records, top)));
}

fn history_answer(mut records: Vec<PublicationRecord>, top: Position) -> PastAnswer {
    cut_to_page(&mut records);
    PastAnswer::History { records: records.into(), top }
}

/// The log has read a history for a client.
pub(super) fn history_read(
    cx: &mut Context<Mail>,
    client: PastClient,
    filter: HistoryFilter,
    answer: Result<Answer, BrokerError>,
) {
    let result = match answer {
        Ok(Answer::History(read)) if !read.continues(filter) => Err(ErrorCode::UnrecoverablePosition),
        Ok(Answer::History(HistoryRead { records, top, .. })) => Ok(history_answer(records, top)),
        Ok(_) => Err(ErrorCode::Internal),
        Err(error) => Err(code_of(&error)),
    };
    post(cx, client, result);
}

fn ask_log(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, asker: PastAsker, query: LogQuery) {
    let call = Call::Past(asker);
    let sent = match &mut state.broker {
        Some(broker) => broker.ask(channel, call, |ticket| RequestKind::Query { ticket, query: Box::new(query) }),
        None => Err(call),
    };
    if let Err(Call::Past(asker)) = sent {
        reply(cx, asker, Err(ErrorCode::Internal));
    }
}

/// The log has answered a query.
pub(super) fn page_read(cx: &mut Context<Mail>, asker: PastAsker, answer: Result<Answer, BrokerError>) {
    let result = match answer {
        Ok(Answer::Query(Ok(page))) => Ok(page),
        Ok(Answer::Query(Err(QueryRefusal::BadCursor))) => Err(ErrorCode::BadRequest),
        Ok(Answer::Query(Err(QueryRefusal::NoIndex))) => Err(ErrorCode::NotAvailable),
        Ok(_) => Err(ErrorCode::Internal),
        Err(error) => Err(code_of(&error)),
    };
    reply(cx, asker, result);
}

fn reply(cx: &mut Context<Mail>, asker: PastAsker, result: Result<QueryPage, ErrorCode>) {
    match asker {
        PastAsker::Client(client) => post(cx, client, result.map(PastAnswer::Page)),
        PastAsker::Api(answer) => answer(result.map(|page| ApiReply::PastPage(past_page(page)))),
    }
}

fn post(cx: &mut Context<Mail>, client: PastClient, result: Result<PastAnswer, ErrorCode>) {
    let PastClient { shard, reply_to, reserved } = client;
    cx.mail.post(shard, Mail::PastReply(Box::new(PastReply { reply_to, reserved, result })));
}

/// What the log is asked. Errors: the namespace is unknown, does not allow it, or has no index for it.
fn log_query(settings: &Arc<Settings>, query: &PastQuery, audience: Audience) -> Result<LogQuery, ErrorCode> {
    let PastQuery { channel, namespace, key, time_from, time_to, limit, reverse, cursor } = query;
    let range = TimeRange::of_request(*time_from, *time_to);
    if range.is_empty() {
        return Err(ErrorCode::BadRequest);
    }
    let named = match namespace {
        _ if !channel.is_empty() => Some(settings.namespace_of(channel)?),
        None => None,
        Some(name) => {
            let mut all = settings.channel.namespaces.iter();
            Some(all.find(|namespace| namespace.name == **name).ok_or(ErrorCode::UnknownChannel)?)
        }
    };
    match named {
        Some(namespace) => check(namespace, key, audience)?,
        None => {
            let mut all = settings.channel.sections();
            if !all.any(|(_, namespace)| check(namespace, key, audience).is_ok()) {
                return Err(ErrorCode::NotAvailable);
            }
        }
    }
    let (settings, wanted, wanted_key) = (Arc::clone(settings), named.map(|one| one.name.clone()), key.clone());
    let one_channel = channel.clone();
    let accepts = move |name: &str| {
        if !one_channel.is_empty() && *one_channel != *name {
            return false;
        }
        let Some((_, namespace)) = settings.namespace(name) else { return false };
        wanted.as_ref().is_none_or(|wanted| *wanted == namespace.name)
            && check(namespace, &wanted_key, audience).is_ok()
    };
    let by = match key.clone() {
        PastKey::Channel => QueryKey::Channel(channel.clone()),
        PastKey::User(user) => QueryKey::User(user),
        PastKey::Tag { key, value } => QueryKey::Tag { key, value },
    };
    let bytes_max = if audience == Audience::Client { PAGE_BYTES_MAX } else { API_PAGE_BYTES_MAX };
    let (limit, reverse, cursor) = (*limit, *reverse, cursor.clone());
    Ok(LogQuery { by, range, limit, bytes_max, reverse, cursor, accepts: Arc::new(accepts) })
}

/// Whether publications of a namespace may be found so.
fn check(namespace: &Namespace, key: &PastKey, audience: Audience) -> Result<(), ErrorCode> {
    if audience == Audience::Client && !namespace.allow_history_query_for_client {
        return Err(ErrorCode::PermissionDenied);
    }
    if has_index(namespace, key) { Ok(()) } else { Err(ErrorCode::NotAvailable) }
}

/// Whether the log finds publications of a namespace by this.
fn has_index(namespace: &Namespace, key: &PastKey) -> bool {
    let is_durable = namespace.durability != Durability::Memory;
    is_durable
        && match key {
            PastKey::Channel => true,
            PastKey::User(_) => namespace.history_index_user,
            PastKey::Tag { key, .. } => !key.is_empty() && *namespace.history_index_tag == **key,
        }
}
