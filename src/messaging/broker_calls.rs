//! What a home shard has asked a broker, and what it does with the answers: replies to clients and to the server API.

use std::sync::Arc;

use bytes::Bytes;

use super::api_call::{ApiReply, HistoryPage, PresenceStats};
use super::api_checks::{HistoryPart, history_publication, stream_position};
use super::broker_channels;
use super::control_request::Answer as ApiAnswer;
use super::home_broker::{Call, LocalCopy, Publisher, SentCall};
use super::home_queries;
use super::home_shard;
use super::large_replies::{PaidRecovery, presence_bytes, records_bytes};
use super::mail::{Inquiry, Mail};
use super::past_home;
use super::presence_snapshots::Asker;
use super::shared_reads::{Read, UnderWay};
use super::state::Messaging;
use crate::broker::ChannelUse;
use crate::broker::message::{self, Answer, BrokerError, HistoryRead, PublishRequest, Published, RequestKind, Ticket};
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::{ErrorCode, Reply};
use crate::pubsub::{BrokerHistory, HistoryFilter, HistoryOptions, Position, Publication, PublicationRecord};

/// How often a recovery is read again because publications arrived meanwhile that are not kept.
const RECOVERY_TRIES_MAX: u8 = 3;

type ApiResult = Result<ApiReply, ErrorCode>;

/// What a broker is asked to publish.
pub(super) fn publish_request(state: &Messaging, publication: &Publication<'_>) -> PublishRequest {
    let options = state.settings.history_options(publication.channel);
    let history = if publication.options.skip_history { HistoryOptions { size: 0, ..options } } else { options };
    let Publication { channel, data, client_info, tags, version, .. } = *publication;
    PublishRequest {
        data: Bytes::copy_from_slice(data),
        client_info: Bytes::copy_from_slice(client_info.unwrap_or_default()),
        tags: Bytes::copy_from_slice(tags),
        version,
        version_epoch: publication.options.version_epoch.into(),
        idempotency_key: publication.options.idempotency_key.into(),
        use_delta: publication.options.use_delta,
        history,
        log: state.settings.log_fields(channel, client_info.unwrap_or_default(), tags).map(Box::new),
    }
}

/// Sends a publication to the broker.
pub(crate) fn publish(state: &mut Messaging, cx: &mut Context<Mail>, publication: &Publication<'_>, by: Publisher) {
    cx.counters.publications += 1;
    let publish = publish_request(state, publication);
    let channel = publication.channel;
    let Some(broker) = &mut state.broker else { return };
    if !broker.links.accepts(publication.channel, ChannelUse::Publish) {
        return answer_publisher(cx, by, Err(ErrorCode::BadRequest));
    }
    let local = (broker.links.publish_locally && !publish.history.has_history()).then(|| {
        let PublishRequest { data, tags, client_info, version, .. } = publish.clone();
        let client_info = Some(client_info).filter(|info| !info.is_empty());
        let mut record = PublicationRecord::of_broker(0, data, client_info, tags, version);
        message::check(&mut record);
        Box::new(LocalCopy { channel: channel.into(), record })
    });
    let call = Call::Publish { by, local };
    let sent = broker.ask_alone(channel, call, |ticket| RequestKind::Publish { ticket, publish: Box::new(publish) });
    if let Err(Call::Publish { by, local }) = sent {
        published(state, cx, by, local, Err(BrokerError::Unavailable));
    }
}

fn published(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    by: Publisher,
    local: Option<Box<LocalCopy>>,
    result: Result<Published, BrokerError>,
) {
    let result = match (result, local) {
        (Err(BrokerError::Unavailable), Some(local)) => {
            home_shard::deliver_stamped(state, cx, local.record.publication(&local.channel), false);
            cx.counters.publications_local += 1;
            Ok(None)
        }
        (result, _) => result.map(|published| published.position).map_err(|_| {
            cx.counters.publications_refused += 1;
            ErrorCode::Internal
        }),
    };
    answer_publisher(cx, by, result);
}

fn answer_publisher(cx: &mut Context<Mail>, by: Publisher, result: Result<Option<Position>, ErrorCode>) {
    match by {
        Publisher::Client { shard, reply_to } => match result {
            Ok(_) => _ = cx.mail.post(shard, Mail::Published { reply_to }),
            Err(error) => _ = cx.mail.post(shard, Mail::PublishFailed { reply_to, error }),
        },
        Publisher::Api(answer) => answer(result.map(|position| ApiReply::Publish(position.map(stream_position)))),
    }
}

/// The broker has answered.
pub(crate) fn answered(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    ticket: Ticket,
    answer: Result<Answer, BrokerError>,
) {
    let Some(broker) = &mut state.broker else { return };
    match broker.calls.try_remove(ticket.0 as usize) {
        Some(SentCall { call, .. }) => finish(state, cx, call, answer),
        None => debug_assert!(false, "a broker answers each request once"),
    }
}

/// The broker has answered a read. If it has answered, those that asked meanwhile are next; if it is away, they learn it too.
fn read_answered(state: &mut Messaging, cx: &mut Context<Mail>, read: &Read, answer: Result<Answer, BrokerError>) {
    let Some(broker) = &mut state.broker else { return };
    let Some(UnderWay { mut askers, waiting }) = broker.reads.end(read) else { return };
    let mut refused = Vec::new();
    match &answer {
        Err(_) => askers.extend(waiting),
        Ok(_) if waiting.is_empty() => (),
        Ok(_) => {
            broker.reads.begin_again(read.clone(), waiting);
            let call = Call::Shared(Box::new(read.clone()));
            if broker.ask_alone(&read.channel, call, |ticket| read.request(ticket)).is_err() {
                refused = broker.reads.end(read).map_or_else(Vec::new, |ended| ended.askers);
            }
        }
    }
    let last = askers.pop();
    for asker in askers {
        finish(state, cx, asker, answer.clone());
    }
    if let Some(last) = last {
        finish(state, cx, last, answer);
    }
    for asker in refused {
        finish(state, cx, asker, Err(BrokerError::Unavailable));
    }
}

/// A call has its answer.
fn finish(state: &mut Messaging, cx: &mut Context<Mail>, call: Call, answer: Result<Answer, BrokerError>) {
    match call {
        Call::Shared(read) => read_answered(state, cx, &read, answer),
        Call::Publish { by, local } => {
            let result = answer.and_then(|answer| match answer {
                Answer::Published(published) => Ok(published),
                _ => Err(BrokerError::OutcomeUnknown),
            });
            published(state, cx, by, local, result);
        }
        Call::Position { channel, serial } => {
            broker_channels::position_read(state, cx, &channel, serial, history(answer).map(|read| read.top));
        }
        Call::Repair { channel, serial } => {
            let read = match answer {
                // Nothing continues the channel: it restarts.
                Err(BrokerError::Missing(top)) => Some((Vec::new(), top)),
                answer => history(answer).map(|read| (read.records, read.top)),
            };
            broker_channels::repair_read(state, cx, (&channel, serial), read);
        }
        Call::Compare { channel, serial, from } => {
            let top = history(answer).map(|read| read.top);
            broker_channels::position_compared(state, cx, (&channel, serial), from, top);
        }
        Call::Recover { channel, to, recovery, .. } if matches!(answer, Err(BrokerError::Missing(_))) => {
            lost_for_recovery(state, cx, (&channel, to), recovery);
        }
        Call::Recover { channel, to, recovery, tries } => match history(answer) {
            Some(read) => recovery_read(state, cx, (&channel, to), recovery, tries, read),
            None => home_shard::fail_recovery(cx, to, &recovery),
        },
        Call::History { channel, inquiry, filter } => match answer {
            Ok(Answer::History(read)) => {
                let sends_time = state.settings.sends_time_in(&channel);
                answer_history(cx, &channel, (inquiry, sends_time), filter, read);
            }
            Err(error) => home_queries::fail(cx, inquiry, &error),
            Ok(_) => home_queries::fail(cx, inquiry, &BrokerError::OutcomeUnknown),
        },
        Call::Presence { channel, inquiry } => match answer {
            Ok(Answer::Presence(members)) => answer_presence(state, cx, &channel, inquiry, members),
            Ok(Answer::PresenceStats { clients, users }) => {
                home_queries::send(cx, inquiry, &Reply::PresenceStats { num_clients: clients, num_users: users });
            }
            Err(error) => home_queries::fail(cx, inquiry, &error),
            Ok(_) => home_queries::fail(cx, inquiry, &BrokerError::OutcomeUnknown),
        },
        Call::Api { answer: to, filter, with_time, channel } => {
            answer_api(state, to, (filter, with_time), &channel, answer);
        }
        Call::Past { asker, tag, log } => past_home::page_read(cx, asker, (tag, log), answer),
        Call::PastHistory { asker, filter } => past_home::history_read(cx, asker, filter, answer),
    }
}

/// What a subscription missed is lost: it continues at the last delivery of the channel, not recovered.
fn lost_for_recovery(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    (channel, to): (&str, ShardId),
    recovery: PaidRecovery,
) {
    match state.home_channels.top(channel) {
        Some(top) => answer_recovery(state, cx, (channel, to), recovery, Vec::new(), top),
        None => home_shard::fail_recovery(cx, to, &recovery),
    }
}

fn history(answer: Result<Answer, BrokerError>) -> Option<HistoryRead> {
    match answer {
        Ok(Answer::History(read)) => Some(read),
        _ => None,
    }
}

fn answer_api(
    state: &mut Messaging,
    to: ApiAnswer<ApiResult>,
    (filter, with_time): (HistoryFilter, bool),
    channel: &str,
    answer: Result<Answer, BrokerError>,
) {
    let reply = match answer {
        Err(error) => Err(home_queries::code_of(&error)),
        Ok(Answer::History(read)) if !read.continues(filter) => Err(ErrorCode::UnrecoverablePosition),
        Ok(Answer::History(HistoryRead { records, top, .. })) => {
            let publications = records.iter().map(|record| history_publication(record, with_time)).collect();
            Ok(ApiReply::History(HistoryPage { publications, top: stream_position(top) }))
        }
        Ok(Answer::HistoryRemoved) => {
            if state.is_logged(channel) {
                state.home_channels.history_remove(channel);
            }
            Ok(ApiReply::Done)
        }
        Ok(Answer::PresenceStats { clients, users }) => Ok(ApiReply::PresenceStats(PresenceStats { clients, users })),
        Ok(Answer::Presence(members)) => {
            let to = Box::new(move |members: Result<_, _>| to(members.map(ApiReply::Presence)));
            return state.presence_snapshots.begin_for_api(channel, Some(members), to);
        }
        Ok(Answer::Published(_) | Answer::Query(_)) => Err(ErrorCode::Internal),
    };
    to(reply);
}

/// Asks the broker for a call of the server API.
pub(crate) fn api_call(
    state: &mut Messaging,
    channel: &str,
    part: HistoryPart,
    answer: ApiAnswer<ApiResult>,
    kind: impl Fn(Ticket) -> RequestKind,
) {
    let Some(broker) = &mut state.broker else { return };
    let HistoryPart { filter, with_time, .. } = part;
    let call = Call::Api { answer, filter, with_time, channel: channel.into() };
    if let Err(Call::Api { answer, .. }) = broker.ask(channel, call, kind) {
        answer(Err(ErrorCode::Internal));
    }
}

fn answer_history(
    cx: &mut Context<Mail>,
    channel: &str,
    (inquiry, sends_time): (Inquiry, bool),
    filter: HistoryFilter,
    read: HistoryRead,
) {
    let continues = read.continues(filter);
    let HistoryRead { records, top, .. } = read;
    let records = Some(records).filter(|_| continues);
    let bytes = records.as_ref().map_or(0, |records| records_bytes(records.iter(), inquiry.encoding));
    let into_reply = |record: PublicationRecord| record.into_reply(sends_time);
    let records = || records.map(|records| records.into_iter().map(into_reply).collect());
    home_queries::post_history(cx, channel, inquiry, (top, bytes), records);
}

fn answer_presence(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    inquiry: Inquiry,
    members: Arc<[Bytes]>,
) {
    let Inquiry { shard, reply_to, encoding, bytes_max, reserved, .. } = inquiry;
    let bytes = presence_bytes(members.len() as u32, members.iter().map(Bytes::len).sum());
    if bytes > bytes_max {
        return home_queries::ask_to_pay(cx, channel, inquiry, bytes);
    }
    let asker = Asker { shard, reply_to, reserved };
    state.presence_snapshots.begin_for_client(channel, encoding, asker, Some(members));
}

/// What a subscription missed was read. It continues at the last delivery of this channel: what was read beyond it is delivered
/// to everyone first, and what arrived meanwhile is added.
fn recovery_read(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    (channel, to): (&str, ShardId),
    mut recovery: PaidRecovery,
    tries: u8,
    read: HistoryRead,
) {
    let HistoryRead { mut records, top, since_is_kept } = read;
    if since_is_kept {
        // Its epoch is an earlier generation's.
        recovery.request.since.epoch = Some(top.epoch);
    }
    if recovery.request.cache {
        records.reverse();
    }
    if !state.home_channels.is_interested(channel, to, recovery.request.group) {
        return home_shard::fail_recovery(cx, to, &recovery);
    }
    // The channel may have ended and begun again since.
    let Some(recovery) = state.broker.as_mut().and_then(|broker| broker.may_recover(to, channel, recovery)) else {
        return;
    };
    let Some(before) = state.home_channels.top(channel) else { return home_shard::fail_recovery(cx, to, &recovery) };
    let is_ahead = top.epoch != before.epoch || top.offset > before.offset;
    if is_ahead && broker_channels::absorb(state, cx, channel, &records, top).is_err() {
        return match tries < RECOVERY_TRIES_MAX {
            true => broker_channels::recover_after_repair(state, cx, to, channel, recovery),
            false => home_shard::fail_recovery(cx, to, &recovery),
        };
    }
    if !is_ahead {
        match state.home_channels.kept_after(channel, top.offset) {
            Some(newer) => records.extend(newer),
            None if tries < RECOVERY_TRIES_MAX => {
                return home_shard::ask_recovery(state, cx, channel, to, recovery, tries + 1);
            }
            None => return home_shard::fail_recovery(cx, to, &recovery),
        }
    }
    // What was just delivered may have been skipped for the shard: it is sent again first.
    if state.home_channels.is_lagging(channel, to, recovery.request.group) {
        return state.delayed_recoveries.push_back((to, channel.into(), recovery));
    }
    let Some(top) = state.home_channels.top(channel) else { return home_shard::fail_recovery(cx, to, &recovery) };
    answer_recovery(state, cx, (channel, to), recovery, records, top);
}

fn answer_recovery(
    state: &Messaging,
    cx: &mut Context<Mail>,
    (channel, to): (&str, ShardId),
    recovery: PaidRecovery,
    records: Vec<PublicationRecord>,
    top: Position,
) {
    let limit = state.settings.client.recovery_max_publication_limit as usize;
    let accepts = |record: &PublicationRecord| recovery.request.accepts(record);
    let history = BrokerHistory::new(records);
    let found = history.recover(top, recovery.request.asked(limit, &accepts));
    let sends_time = state.settings.sends_time_in(channel);
    home_shard::post_recovered(cx, (channel, to), recovery, found, sends_time);
}
