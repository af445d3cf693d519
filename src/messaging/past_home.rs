//! The home shard's side of questions about the past: of clients (`past`) and of the server API. The memory answers for a
//! history; a query across channels is for the log.

use std::sync::Arc;

use super::api_call::{ApiReply, PastKey, PastQuery};
use super::api_checks::check_range;
use super::control_request::Answer as ApiAnswer;
use super::home_broker::{Call, HistoryAsker, PastAsker, PastClient, QueriedTag};
use super::home_queries::code_of;
use super::mail::{Mail, PastAnswer, PastQuestion, PastReply, PastRequest};
use super::past::{PAGE_BYTES_MAX, cut_to_page, past_page};
use super::settings::Settings;
use super::state::Messaging;
use crate::broker::Broker;
use crate::broker::message::{Answer, BrokerError, HistoryRead, RequestKind};
use crate::broker::query::{LogQuery, QueryKey, QueryPage, QueryRefusal};
use crate::config::{Durability, Namespace};
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::{ErrorCode, Tags};
use crate::pubsub::{HistoryFilter, HistorySlice, Position, PublicationRecord, Since, TimeRange};

/// Bytes of publications in one page for the server API.
const API_PAGE_BYTES_MAX: usize = 4 << 20;

/// The origin of a question.
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
        PastQuestion::History { filter, range } => {
            history(state, cx, &channel, HistoryAsker::Client(client), (filter, range));
        }
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
    if query.key == PastKey::Channel {
        return channel_query(state, cx, query, answer);
    }
    match log_query(&state.settings, query, Audience::Api) {
        Ok(log_query) => ask_log(state, cx, &query.channel, PastAsker::Api(answer), log_query),
        Err(error) => answer(Err(error)),
    }
}

/// One channel: a part of its history, whose cursor is a position in it.
fn channel_query(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    query: &PastQuery,
    answer: ApiAnswer<Result<ApiReply, ErrorCode>>,
) {
    let channel = &query.channel;
    let part = match channel_part(&state.settings, query) {
        Ok(part) => part,
        Err(error) => return answer(Err(error)),
    };
    let asker = HistoryAsker::Api { channel: channel.clone(), limit: query.limit, answer };
    history(state, cx, channel, asker, part);
}

fn channel_part(settings: &Settings, query: &PastQuery) -> Result<(HistoryFilter, TimeRange), ErrorCode> {
    let PastQuery { channel, time_from, time_to, limit, reverse, cursor, .. } = query;
    let range = TimeRange::of_request(*time_from, *time_to);
    let since = match &**cursor {
        "" => None,
        cursor => Some(position_of(cursor).ok_or(ErrorCode::BadRequest)?),
    };
    if range.is_empty() {
        return Err(ErrorCode::BadRequest);
    }
    if !settings.namespace_of(channel)?.has_history() {
        return Err(ErrorCode::NotAvailable);
    }
    Ok((HistoryFilter { since, limit: *limit as i32, reverse: *reverse }, range))
}

/// The cursor of a page that ends with this offset.
fn cursor_of(offset: u64, top: Position) -> Box<str> {
    format!("{offset}.{}", top.epoch.text()).into()
}

fn position_of(cursor: &str) -> Option<Since> {
    let (offset, epoch) = cursor.split_once('.')?;
    Some(Since::new(epoch, offset.parse().ok()?))
}

fn history(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    asker: HistoryAsker,
    (filter, range): (HistoryFilter, TimeRange),
) {
    let options = state.settings.history_options(channel);
    if state.is_brokered(channel) {
        if let Err(error) = check_range(state, range) {
            return reply_history(cx, asker, Err(error));
        }
        let Some(broker) = &mut state.broker else { return };
        let call = Call::PastHistory { asker, filter };
        let sent = broker.ask(channel, call, |ticket| RequestKind::History { ticket, filter, range, options });
        if let Err(Call::PastHistory { asker, .. }) = sent {
            reply_history(cx, asker, Err(ErrorCode::Internal));
        }
        return;
    }
    let result = match state.home_channels.history_within(channel, filter, range, &options, cx.now()) {
        Ok(HistorySlice { publications, top }) => Ok((publications.cloned().collect(), top)),
        Err(_) => Err(ErrorCode::UnrecoverablePosition),
    };
    reply_history(cx, asker, result);
}

fn reply_history(
    cx: &mut Context<Mail>,
    asker: HistoryAsker,
    result: Result<(Vec<PublicationRecord>, Position), ErrorCode>,
) {
    match asker {
        HistoryAsker::Client(client) => {
            let answer = |(mut records, top): (Vec<_>, _)| {
                cut_to_page(&mut records, PAGE_BYTES_MAX);
                PastAnswer::History { records: records.into(), top }
            };
            post(cx, client, result.map(answer));
        }
        HistoryAsker::Api { channel, limit, answer } => {
            let page = |(records, top)| ApiReply::PastPage(past_page(channel_page(&channel, limit, records, top)));
            answer(result.map(page));
        }
    }
}

fn channel_page(channel: &str, limit: u32, mut records: Vec<PublicationRecord>, top: Position) -> QueryPage {
    let count = records.len();
    cut_to_page(&mut records, API_PAGE_BYTES_MAX);
    let may_have_more = records.len() < count || count >= limit as usize;
    let last = records.last().filter(|_| may_have_more);
    let cursor = last.map(|last| cursor_of(last.offset, top)).unwrap_or_default();
    QueryPage { publications: records.into_iter().map(|record| (channel.into(), record)).collect(), cursor }
}

/// The log has read a history.
pub(super) fn history_read(
    cx: &mut Context<Mail>,
    asker: HistoryAsker,
    filter: HistoryFilter,
    answer: Result<Answer, BrokerError>,
) {
    let result = match answer {
        Ok(Answer::History(read)) if !read.continues(filter) => Err(ErrorCode::UnrecoverablePosition),
        Ok(Answer::History(HistoryRead { records, top, .. })) => Ok((records, top)),
        Ok(_) => Err(ErrorCode::Internal),
        Err(error) => Err(code_of(&error)),
    };
    reply_history(cx, asker, result);
}

fn ask_log(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, asker: PastAsker, query: LogQuery) {
    // The other process of a handover has the log by now, and takes no queries.
    if state.follows_peer() {
        return reply(cx, asker, Err(ErrorCode::Internal));
    }
    let tag = match &query.by {
        QueryKey::Tag { key, value } => Some(Box::new((key.clone(), value.clone()))),
        QueryKey::User(_) => None,
    };
    let logs = state.broker.as_ref().and_then(|broker| broker.links.log.as_ref()).map_or(1, Broker::threads);
    let mut query = query;
    let mut next_log = None;
    // Across channels one log is asked after the other, and the cursor begins with the number of the log.
    if channel.is_empty() && logs > 1 {
        let begun = if query.cursor.is_empty() { Some((0, "")) } else { log_of(&query.cursor) };
        let Some((log, rest)) = begun.filter(|(log, _)| *log < logs) else {
            return reply(cx, asker, Err(ErrorCode::BadRequest));
        };
        let rest = rest.into();
        (query.log, query.cursor, next_log) = (Some(log), rest, Some((log, logs)));
    }
    let call = Call::Past { asker, tag, log: next_log };
    let sent = match &mut state.broker {
        Some(broker) => broker.ask_alone(channel, call, |ticket| RequestKind::Query { ticket, query: Box::new(query) }),
        None => Err(call),
    };
    if let Err(Call::Past { asker, .. }) = sent {
        reply(cx, asker, Err(ErrorCode::Internal));
    }
}

fn log_of(cursor: &str) -> Option<(usize, &str)> {
    let (log, rest) = cursor.split_once('.')?;
    Some((log.parse().ok()?, rest))
}

/// The cursor behind a page of one of several logs.
fn cursor_over(log: usize, logs: usize, cursor: &str) -> Box<str> {
    match cursor {
        "" if log + 1 == logs => "".into(),
        "" => format!("{}.", log + 1).into(),
        cursor => format!("{log}.{cursor}").into(),
    }
}

/// The log has answered a query.
pub(super) fn page_read(
    cx: &mut Context<Mail>,
    asker: PastAsker,
    (tag, log): (Option<QueriedTag>, Option<(usize, usize)>),
    answer: Result<Answer, BrokerError>,
) {
    let result = match answer {
        Ok(Answer::Query(Ok(mut page))) => {
            // The log keeps the value alone: `history_index_tag` may have named another key then.
            if let Some((key, value)) = tag.as_deref() {
                page.publications.retain(|(_, record)| Tags::from_bytes(&record.tags).get(key) == Some(value));
            }
            if let Some((log, logs)) = log {
                page.cursor = cursor_over(log, logs, &page.cursor);
            }
            Ok(page)
        }
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
        PastKey::Channel => return Err(ErrorCode::BadRequest),
        PastKey::User(user) => QueryKey::User(user),
        PastKey::Tag { key, value } => QueryKey::Tag { key, value },
    };
    let bytes_max = if audience == Audience::Client { PAGE_BYTES_MAX } else { API_PAGE_BYTES_MAX };
    let (limit, reverse, cursor) = (*limit, *reverse, cursor.clone());
    Ok(LogQuery { by, log: None, range, limit, bytes_max, reverse, cursor, accepts: Arc::new(accepts) })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Namespaces: `memory`; `user` and `open` with the index of users, the latter for clients; `tag` with that of orders.
    fn settings() -> Arc<Settings> {
        let namespace = |name: &str| Namespace { name: name.into(), ..Namespace::default() };
        let durable = |name: &str| Namespace { durability: Durability::Process, ..namespace(name) };
        let mut config = Config::default();
        config.channel.namespaces = vec![
            namespace("memory"),
            Namespace { history_index_user: true, allow_history_query_for_client: true, ..durable("open") },
            Namespace { history_index_tag: "order".into(), ..durable("tag") },
            Namespace { history_index_user: true, ..durable("user") },
        ];
        Arc::new(Settings::new(&config, |_| false))
    }

    fn by(key: PastKey) -> PastQuery {
        PastQuery {
            channel: "".into(),
            namespace: None,
            key,
            time_from: 0,
            time_to: 0,
            limit: 10,
            reverse: false,
            cursor: "".into(),
        }
    }

    /// Which of some channels the query is about.
    fn found(query: &PastQuery, audience: Audience) -> Result<Vec<&'static str>, ErrorCode> {
        let query = log_query(&settings(), query, audience)?;
        let all = ["plain", "memory:a", "open:a", "open:b", "tag:a", "user:a", "none:a"];
        Ok(all.into_iter().filter(|channel| (query.accepts)(channel)).collect())
    }

    #[test]
    fn query_is_about_the_namespaces_with_its_index_that_the_asker_may_query() {
        use Audience::{Api, Client};
        let user = || by(PastKey::User("ann".into()));
        let tag = |key: &str| by(PastKey::Tag { key: key.into(), value: "7".into() });
        let in_namespace = |name: &str, query| PastQuery { namespace: Some(name.into()), ..query };
        let in_channel = |name: &str, query| PastQuery { channel: name.into(), ..query };
        assert_eq!(found(&user(), Api), Ok(vec!["open:a", "open:b", "user:a"]));
        assert_eq!(found(&user(), Client), Ok(vec!["open:a", "open:b"]));
        assert_eq!(found(&tag("order"), Api), Ok(vec!["tag:a"]));
        assert_eq!(found(&tag("other"), Api), Err(ErrorCode::NotAvailable));
        assert_eq!(found(&tag("order"), Client), Err(ErrorCode::NotAvailable));
        assert_eq!(found(&in_namespace("user", user()), Api), Ok(vec!["user:a"]));
        assert_eq!(found(&in_namespace("user", user()), Client), Err(ErrorCode::PermissionDenied));
        assert_eq!(found(&in_namespace("memory", user()), Api), Err(ErrorCode::NotAvailable));
        assert_eq!(found(&in_namespace("none", user()), Api), Err(ErrorCode::UnknownChannel));
        assert_eq!(found(&in_channel("open:b", user()), Client), Ok(vec!["open:b"]));
        assert_eq!(found(&in_channel("tag:a", user()), Api), Err(ErrorCode::NotAvailable));
        assert_eq!(found(&in_channel("none:a", user()), Api), Err(ErrorCode::UnknownChannel));
        let empty = PastQuery { time_from: 5, time_to: 5, ..user() };
        assert_eq!(found(&empty, Api), Err(ErrorCode::BadRequest));
    }

    #[test]
    fn page_of_a_channel_names_its_end_if_there_may_be_more() {
        let top = Position { epoch: crate::pubsub::Epoch::of_number(9), offset: 8 };
        let record = |offset| PublicationRecord::of_broker(offset, Vec::new().into(), None, Vec::new().into(), 0);
        let cursor = |offsets: &[u64], limit| {
            let page = channel_page("a", limit, offsets.iter().map(|&offset| record(offset)).collect(), top);
            assert_eq!(page.publications.len(), offsets.len());
            page.cursor
        };
        assert_eq!(&*cursor(&[], 2), "");
        assert_eq!(&*cursor(&[8], 2), "");
        let next = cursor(&[3, 4], 2);
        assert_eq!(position_of(&next), Some(Since { epoch: Some(top.epoch), offset: 4 }));
        assert_eq!([position_of(""), position_of("4"), position_of("x.a")], [None; 3]);
    }
}
