//! What a home shard checks of a call of the server API, and the forms of its replies.

use super::api_call::{HistoryPublication, HistoryQuery, StreamPosition};
use super::arena::granted;
use super::data_format::fits;
use super::presence_snapshots::member_info;
use super::state::Messaging;
use crate::auth::grant::Publish;
use crate::protocol::{ErrorCode, Tags};
use crate::pubsub::{HistoryFilter, Position, Publication, PublicationRecord, Since, TimeRange};

/// A publication of the server API, if its namespace takes it. `tags` holds them packed.
pub(super) fn publication<'a>(
    state: &Messaging,
    channel: &'a str,
    publish: &'a Publish,
    tags: &'a mut Vec<u8>,
) -> Result<Publication<'a>, ErrorCode> {
    let namespace = state.settings.namespace_of(channel)?;
    let mut publication = granted(channel, publish, tags);
    if !fits(publication.data, namespace.publication_data_format, publication.is_json) {
        return Err(ErrorCode::BadRequest);
    }
    publication.options.use_delta |= namespace.delta_publish;
    Ok(publication)
}

/// Which part of a history a call reads.
#[derive(Clone, Copy, Default)]
pub(super) struct HistoryPart {
    pub filter: HistoryFilter,
    pub range: TimeRange,
    /// Publications come with their times.
    pub with_time: bool,
}

/// Which part of a history a call reads, if the channel has one.
pub(super) fn history_part(state: &Messaging, channel: &str, query: &HistoryQuery) -> Result<HistoryPart, ErrorCode> {
    check_history(state, channel)?;
    let HistoryQuery { limit, since, reverse, time_from, time_to } = query;
    // There is nothing before the first publication.
    if *reverse && since.as_ref().is_some_and(|since| since.offset == 0) {
        return Err(ErrorCode::BadRequest);
    }
    let since = since.as_ref().map(|position| Since::new(&position.epoch, position.offset));
    let range = TimeRange::of_request(*time_from, *time_to);
    let with_time = !range.is_all() || state.settings.sends_time_in(channel);
    Ok(HistoryPart { filter: HistoryFilter { since, limit: *limit, reverse: *reverse }, range, with_time })
}

pub(super) fn history_publication(record: &PublicationRecord, with_time: bool) -> HistoryPublication {
    let tags = Tags::from_bytes(&record.tags).iter();
    HistoryPublication {
        offset: record.offset,
        data: record.data.clone(),
        info: record.client_info.as_deref().map(member_info),
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        time_ms: if with_time { record.time_ms() } else { 0 },
    }
}

pub(super) fn check_history(state: &Messaging, channel: &str) -> Result<(), ErrorCode> {
    if state.settings.namespace_of(channel)?.has_history() { Ok(()) } else { Err(ErrorCode::NotAvailable) }
}

/// Whether a history can be read by these bounds of time.
pub(super) fn check_range(state: &Messaging, range: TimeRange) -> Result<(), ErrorCode> {
    if range.is_all() || state.finds_by_time() { Ok(()) } else { Err(ErrorCode::NotAvailable) }
}

pub(super) fn check_presence(state: &Messaging, channel: &str) -> Result<(), ErrorCode> {
    if state.settings.namespace_of(channel)?.presence { Ok(()) } else { Err(ErrorCode::NotAvailable) }
}

pub(super) fn stream_position(position: Position) -> StreamPosition {
    StreamPosition { offset: position.offset, epoch: position.epoch.text().as_str().into() }
}
