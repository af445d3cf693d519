//! What clients ask about the past beyond the commands of the protocol: rpc methods with reserved names, which no backend gets.
//!
//! - `corecast.history`: a history with bounds of time, permitted as the history command is
//! - `corecast.history_query`: what the client's own user published in the channels of the namespaces that allow it
//!
//! Parameters and results are JSON in both encodings. A reply is paid for before the home shard is asked (`reply_payment`), since
//! its size is known only then; it holds at most `PAGE_BYTES_MAX` and one publication.

use std::borrow::Cow;

use serde::Deserialize;

use super::api_call::{HistoryPage, PastKey, PastPage, PastPublication, PastQuery};
use super::api_checks::{history_publication, stream_position};
use super::mail::{Mail, PastAnswer, PastQuestion, PastReply, PastRequest, ReplyTo};
use super::publication_json::{HistoryBody, PastPageBody};
use super::queries;
use super::reply_payment::{self, query_answered};
use super::state::{CommandContext, Messaging, Progress};
use super::subscribe::waits_for_subscribe;
use crate::broker::query::QueryPage;
use crate::engine::Context;
use crate::engine::stats::Bound;
use crate::ids::ShardId;
use crate::protocol::{Body, ErrorCode, HistoryRequest, Reply};
use crate::pubsub::{HistoryFilter, PublicationRecord, Since, TimeRange, count_within};

pub(super) const HISTORY_METHOD: &str = "corecast.history";
pub(super) const QUERY_METHOD: &str = "corecast.history_query";

/// Publications in one reply.
const LIMIT_MAX: u32 = 100;
/// A reply ends with the publication that passes so many bytes of publications.
pub(super) const PAGE_BYTES_MAX: usize = 128 * 1024;
/// What is paid for a reply: the rest is for its last publication, and for JSON.
const RESERVED: usize = 2 * PAGE_BYTES_MAX;

/// Bounds of time, in milliseconds since 1970; 0 is no bound.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TimeParams {
    time_from: u64,
    time_to: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct QueryParams<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    time_from: u64,
    time_to: u64,
    limit: u32,
    reverse: bool,
    #[serde(borrow)]
    cursor: Cow<'a, str>,
}

/// An rpc command with a reserved name; `None` for one of a backend.
pub(super) fn rpc(cx: &mut CommandContext<'_>, method: &str, data: &[u8]) -> Option<Progress> {
    match method {
        HISTORY_METHOD => Some(history(cx, data)),
        QUERY_METHOD => Some(query(cx, data)),
        _ => None,
    }
}

fn history(cx: &mut CommandContext<'_>, data: &[u8]) -> Progress {
    let parsed = (serde_json::from_slice::<HistoryRequest<'_>>(data), serde_json::from_slice::<TimeParams>(data));
    let (Ok(request), Ok(time)) = parsed else { return cx.reject(ErrorCode::BadRequest) };
    if request.channel.is_empty() {
        return cx.reject(ErrorCode::BadRequest);
    }
    if waits_for_subscribe(cx.state, cx.conn, &request.channel, &Body::History(request.clone())) {
        return Progress::Deferred;
    }
    if let Err(error) = queries::may_query_history(cx, &request) {
        return cx.reject(error);
    }
    let max = match cx.state.settings.client.history_max_publication_limit {
        0 => LIMIT_MAX,
        max => max.min(LIMIT_MAX),
    };
    let limit = u32::try_from(request.limit).map_or(max, |limit| limit.min(max)) as i32;
    let since = request.since.as_ref().map(|since| Since::new(&since.epoch, since.offset));
    let filter = HistoryFilter { since, limit, reverse: request.reverse };
    let range = TimeRange::of_request(time.time_from, time.time_to);
    send_home(cx, &request.channel, PastQuestion::History { filter, range })
}

fn query(cx: &mut CommandContext<'_>, data: &[u8]) -> Progress {
    let Ok(params) = serde_json::from_slice::<QueryParams<'_>>(data) else {
        return cx.reject(ErrorCode::BadRequest);
    };
    let QueryParams { channel, namespace, time_from, time_to, limit, reverse, cursor } = params;
    if limit > LIMIT_MAX || (!channel.is_empty() && !namespace.is_empty()) {
        return cx.reject(ErrorCode::BadRequest);
    }
    let user = cx.session().user();
    // All clients without a user id are one user to the index.
    if user.is_empty() {
        return cx.reject(ErrorCode::PermissionDenied);
    }
    let query = PastQuery {
        key: PastKey::User(user.into()),
        channel: (*channel).into(),
        namespace: (!namespace.is_empty()).then(|| (*namespace).into()),
        time_from,
        time_to,
        limit: if limit == 0 { LIMIT_MAX } else { limit },
        reverse,
        cursor: (*cursor).into(),
    };
    send_home(cx, &channel, PastQuestion::Query(Box::new(query)))
}

/// Asks the home shard of the channel, or for a query across channels that of the empty name.
fn send_home(cx: &mut CommandContext<'_>, channel: &str, question: PastQuestion) -> Progress {
    if !cx.state.has_credit(cx.engine, channel) {
        return Progress::NoRoom;
    }
    let Some(reserved) = reply_payment::reserve(cx.state, cx.engine, RESERVED) else {
        cx.engine.counters.replies_refused += 1;
        cx.engine.reached(Bound::Backlogs, cx.conn);
        return cx.reject(ErrorCode::TooManyRequests);
    };
    let CommandContext { state, engine, conn, id, .. } = cx;
    let home = state.home_of(channel);
    state.home_requests.sent(home);
    state.sessions[*conn].replies_owed += 1;
    let reply_to = ReplyTo { conn: *conn, id: *id };
    let request = PastRequest { channel: channel.into(), question, reply_to, reserved };
    engine.mail.post(home, Mail::Past(Box::new(request)));
    Progress::Replying
}

/// The home shard has answered.
pub(super) fn answered(state: &mut Messaging, cx: &mut Context<Mail>, from: ShardId, reply: PastReply) {
    let PastReply { reply_to: ReplyTo { conn, id }, reserved, result } = reply;
    state.home_requests.answered(from);
    reply_payment::release(state, cx, reserved);
    if cx.is_open(conn) {
        match result.and_then(json) {
            Ok(data) => state.reply_of(cx, conn, id, data.len(), &Reply::Rpc { data: &data }),
            Err(error) => state.reply(cx, conn, id, &error.into()),
        }
        query_answered(state, cx, conn);
    }
    reply_payment::ask(state, cx);
}

fn json(answer: PastAnswer) -> Result<Vec<u8>, ErrorCode> {
    let bytes = match answer {
        PastAnswer::History { records, top } => {
            let publications = records.iter().map(|record| history_publication(record, true)).collect();
            let page = HistoryPage { publications, top: stream_position(top) };
            serde_json::to_vec(&HistoryBody::from(&page).with_any_data())
        }
        PastAnswer::Page(page) => serde_json::to_vec(&PastPageBody::from(&past_page(page))),
    };
    bytes.map_err(|_| ErrorCode::Internal)
}

/// A page of the log as peers get it.
pub(super) fn past_page(QueryPage { publications, cursor }: QueryPage) -> PastPage {
    let publication = |(channel, record): (Box<str>, PublicationRecord)| {
        let publication = history_publication(&record, true);
        PastPublication { channel, publication }
    };
    PastPage { publications: publications.into_iter().map(publication).collect(), cursor }
}

/// The first publications whose bytes fit a page: the next page begins behind the last of them.
pub(super) fn cut_to_page(records: &mut Vec<PublicationRecord>, bytes_max: usize) {
    records.truncate(count_within(records.iter(), bytes_max));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_ends_with_the_publication_that_passes_its_bytes() {
        let record =
            |offset, bytes| PublicationRecord::of_broker(offset, vec![b'1'; bytes].into(), None, Vec::new().into(), 0);
        let cut = |sizes: &[usize]| {
            let mut records = sizes.iter().zip(1..).map(|(&bytes, offset)| record(offset, bytes)).collect();
            cut_to_page(&mut records, PAGE_BYTES_MAX);
            records.len()
        };
        assert_eq!(cut(&[]), 0);
        assert_eq!(cut(&[PAGE_BYTES_MAX, 1]), 1);
        assert_eq!(cut(&[PAGE_BYTES_MAX / 2, PAGE_BYTES_MAX / 4, PAGE_BYTES_MAX, 1]), 3);
    }

    #[test]
    fn parameters_are_optional_and_of_their_types() {
        let params: QueryParams<'_> = serde_json::from_str(r#"{"time_from":5,"cursor":"x","other":[1]}"#).unwrap();
        assert_eq!((params.time_from, &*params.cursor, params.limit), (5, "x", 0));
        for wrong in ["", "5", r#"{"limit":-1}"#, r#"{"time_to":"1"}"#, r#"{"cursor":null}"#] {
            assert!(serde_json::from_str::<QueryParams<'_>>(wrong).is_err(), "{wrong}");
        }
    }
}
