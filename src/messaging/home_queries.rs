//! The home shard's answers to the queries of clients: a history by reference, a presence as encoded entries, and short
//! replies as whole frames in the client's encoding.

use super::home_broker::Call;
use super::large_replies::{presence_bytes, records_bytes};
use super::mail::{HistoryAnswer, Inquiry, LargeRequest, Mail, Query, Question, ReplyTo};
use super::presence_snapshots::Asker;
use super::session::opcode;
use super::state::Messaging;
use crate::broker::message::{BrokerError, RequestKind};
use crate::engine::Context;
use crate::ids::ShardId;
use crate::protocol::{ErrorCode, Reply};
use crate::pubsub::{HistoryFilter, HistorySlice, Position, PublicationRecord, TimeRange};
use crate::ws;

pub(crate) fn answer(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, inquiry: Inquiry) {
    if state.broker.is_some() && ask_broker(state, cx, channel, inquiry).is_some() {
        return;
    }
    let Inquiry { shard, query, reply_to, encoding, bytes_max, reserved } = inquiry;
    match query {
        Query::Presence => {
            let (info_bytes, clients) = state.home_channels.presence_size(channel);
            let bytes = presence_bytes(clients, info_bytes);
            if bytes > bytes_max {
                return ask_to_pay(cx, channel, inquiry, bytes);
            }
            state.presence_snapshots.begin_for_client(channel, encoding, Asker { shard, reply_to, reserved }, None);
        }
        Query::PresenceStats => {
            let (num_clients, num_users) = state.home_channels.presence_stats(channel);
            send(cx, inquiry, &Reply::PresenceStats { num_clients, num_users });
        }
        Query::History { .. } => {
            let filter = query.filter().unwrap_or_default();
            answer_history(state, cx, channel, filter, inquiry);
        }
    }
}

/// Asks the broker. `None`: no broker has what the query is about.
fn ask_broker(state: &mut Messaging, cx: &mut Context<Mail>, channel: &str, inquiry: Inquiry) -> Option<()> {
    let options = state.settings.history_options(channel);
    let is_brokered = state.is_brokered(channel);
    let broker = state.broker.as_mut()?;
    let name: Box<str> = channel.into();
    let sent = match inquiry.query {
        Query::History { .. } if !is_brokered => return None,
        Query::History { .. } => {
            let filter = inquiry.query.filter().unwrap_or_default();
            let call = Call::History { channel: name, inquiry, filter };
            broker.ask(channel, call, |ticket| RequestKind::History { ticket, filter, range: TimeRange::ALL, options })
        }
        Query::Presence => {
            broker.links.presence.as_ref()?;
            broker.ask(channel, Call::Presence { channel: name, inquiry }, |ticket| RequestKind::Presence { ticket })
        }
        Query::PresenceStats => {
            broker.links.presence.as_ref()?;
            let call = Call::Presence { channel: name, inquiry };
            broker.ask(channel, call, |ticket| RequestKind::PresenceStats { ticket })
        }
    };
    if sent.is_err() {
        fail(cx, inquiry, &BrokerError::Unavailable);
    }
    Some(())
}

/// The query fails for a reason of the broker.
pub(super) fn fail(cx: &mut Context<Mail>, inquiry: Inquiry, error: &BrokerError) {
    let Inquiry { shard, reply_to, reserved, .. } = inquiry;
    cx.mail.post(shard, Mail::QueryFailed { reply_to, error: code_of(error), reserved });
}

/// What peers learn of a broker's error.
pub(super) fn code_of(error: &BrokerError) -> ErrorCode {
    match error {
        BrokerError::NotSupported => ErrorCode::NotAvailable,
        BrokerError::Missing(_) => ErrorCode::UnrecoverablePosition,
        BrokerError::Unavailable | BrokerError::OutcomeUnknown | BrokerError::Refused(_) => ErrorCode::Internal,
    }
}

fn answer_history(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    filter: HistoryFilter,
    inquiry: Inquiry,
) {
    let (options, sends_time) = state.settings.channel_options(channel);
    let found = state.home_channels.history(channel, filter, &options, cx.now());
    let (records, top) = match found {
        Ok(HistorySlice { publications, top }) => (Some(publications), top),
        Err(unrecoverable) => (None, unrecoverable.top),
    };
    let bytes = records.clone().map_or(0, |records| records_bytes(records, inquiry.encoding));
    let records = || records.map(|records| records.map(|record| record.for_reply(sends_time)).collect());
    post_history(cx, channel, inquiry, (top, bytes), records);
}

/// Posts a history that takes so many bytes, if it is paid for. Without records the position that was asked for is lost.
pub(super) fn post_history(
    cx: &mut Context<Mail>,
    channel: &str,
    inquiry: Inquiry,
    (top, bytes): (Position, usize),
    records: impl FnOnce() -> Option<Box<[PublicationRecord]>>,
) {
    let Inquiry { shard, reply_to, bytes_max, reserved, .. } = inquiry;
    if bytes > bytes_max {
        return ask_to_pay(cx, channel, inquiry, bytes);
    }
    let records = records();
    cx.mail.post(shard, Mail::History(Box::new(HistoryAnswer { reply_to, records, top, reserved })));
}

/// The reply is not produced: the shard that asked gets the request back with its bytes.
pub(super) fn ask_to_pay(cx: &mut Context<Mail>, channel: &str, inquiry: Inquiry, bytes: usize) {
    let Inquiry { shard, query, reply_to, encoding, reserved, .. } = inquiry;
    let question = Question::Query { query, reply_to, encoding };
    post_too_large(cx, shard, LargeRequest::new(channel, question, bytes, reserved));
}

pub(crate) fn post_too_large(cx: &mut Context<Mail>, shard: ShardId, request: LargeRequest) {
    cx.mail.post(shard, Mail::TooLarge(Box::new(request)));
}

/// Continues the presence replies, one slice in a turn.
pub(crate) fn copy_presence_slices(state: &mut Messaging, cx: &mut Context<Mail>) {
    state.presence_snapshots.copy_slices(&state.home_channels, |Asker { shard, reply_to, reserved }, entries| {
        cx.mail.post(shard, Mail::Presence { reply_to, entries, reserved });
    });
}

/// Posts a short reply as a whole frame.
pub(super) fn send(cx: &mut Context<Mail>, inquiry: Inquiry, reply: &Reply<'_>) {
    let Inquiry { shard, reply_to: ReplyTo { conn, id }, encoding, .. } = inquiry;
    let frame = cx.mail.put_with(shard, |out| {
        ws::frame_with(out, opcode(encoding), |out| encoding.reply(out, id, reply));
    });
    cx.mail.post(shard, Mail::Reply { conn, frame });
}
