//! The requests of the control thread to a shard, among them the calls of the server API.

use super::api_call::{ApiCall, ApiReply, HistoryPage, HistoryQuery, PresenceStats, StreamPosition};
use super::api_checks::{
    HistoryPart, check_history, check_presence, history_part, history_publication, publication, stream_position,
};
use super::backend_calls;
use super::connection_calls;
use super::control_broker;
use super::control_request::{Answer, ControlRequest};
use super::handover_follow;
use super::home_shard;
use super::mail::Mail;
use super::past_home;
use super::state::Messaging;
use crate::auth::grant::Publish;
use crate::engine::Context;
use crate::protocol::ErrorCode;
use crate::pubsub::HistorySlice;

pub(crate) fn handle(state: &mut Messaging, cx: &mut Context<Mail>, request: ControlRequest) {
    match request {
        ControlRequest::Api { call, answer } => api_call(state, cx, call, answer),
        ControlRequest::Forwarded { publication } => home_shard::publish_forwarded(state, cx, &publication),
        ControlRequest::BackendAnswer { conn, serial, answer } => {
            backend_calls::answer_received(state, cx, conn, serial, answer);
        }
        ControlRequest::Keys { kind, endpoint, keys } => {
            if *state.settings.key_endpoint(kind) == *endpoint {
                state.token_checks.set_keys(kind, keys);
            }
        }
        ControlRequest::Settings { settings } => {
            state.token_checks.drop_outdated_keys(&state.settings, &settings);
            state.settings = settings;
        }
        ControlRequest::Clock { clock_zero_unix_ms } => state.clock_zero_unix_ms = clock_zero_unix_ms,
        ControlRequest::HandoverPeer { peer, answer } => {
            handover_follow::set_peer(state, cx, peer);
            answer(());
        }
        ControlRequest::PeerMessages(messages) => {
            messages.iter().for_each(|message| handover_follow::received(state, cx, message));
        }
        ControlRequest::SortCopies { answer } => {
            state.home_channels.sort_copies();
            answer(());
        }
        ControlRequest::FollowPeer { broker, answer } => {
            handover_follow::follow(state, cx, broker);
            answer(());
        }
        ControlRequest::Health { is_ready } => state.is_ready = is_ready,
        ControlRequest::Broker(batch) => {
            if let Some(broker) = &mut state.broker {
                broker.push(batch);
            }
        }
    }
}

fn api_call(state: &mut Messaging, cx: &mut Context<Mail>, call: ApiCall, answer: Answer<Result<ApiReply, ErrorCode>>) {
    if state.broker.is_some() && control_broker::is_of_broker(state, &call) {
        return control_broker::api_call(state, cx, call, answer);
    }
    if let ApiCall::HistoryQuery { query } = call {
        return past_home::api_query(state, cx, &query, answer);
    }
    // Not answered at once: a large presence is copied over many turns.
    if let ApiCall::Presence { channel } = call {
        return match check_presence(state, &channel) {
            Ok(()) => {
                let answer = Box::new(move |members: Result<_, _>| answer(members.map(ApiReply::Presence)));
                state.presence_snapshots.begin_for_api(&channel, None, answer);
            }
            Err(error) => answer(Err(error)),
        };
    }
    answer(api_reply(state, cx, call));
}

fn api_reply(state: &mut Messaging, cx: &mut Context<Mail>, call: ApiCall) -> Result<ApiReply, ErrorCode> {
    Ok(match call {
        ApiCall::Publish { channel, publish } => ApiReply::Publish(self::publish(state, cx, &channel, &publish)?),
        ApiCall::History { channel, query } => ApiReply::History(history(state, cx, &channel, &query)?),
        ApiCall::HistoryRemove { channel } => {
            check_history(state, &channel)?;
            home_shard::remove_history(state, &channel);
            ApiReply::Done
        }
        ApiCall::PresenceStats { channel } => {
            check_presence(state, &channel)?;
            let (clients, users) = state.home_channels.presence_stats(&channel);
            ApiReply::PresenceStats(PresenceStats { clients, users })
        }
        ApiCall::Channels { pattern } => channels(state, &pattern),
        ApiCall::Info => ApiReply::Info { users: state.users.names().map(Box::from).collect() },
        call @ (ApiCall::Subscribe { .. }
        | ApiCall::Unsubscribe { .. }
        | ApiCall::Disconnect { .. }
        | ApiCall::Refresh { .. }) => connection_calls::carry_out(state, cx, call)?,
        // `Broadcast` is split before the shards get it, and `api_call` answers the others.
        ApiCall::Broadcast { .. } | ApiCall::Presence { .. } | ApiCall::HistoryQuery { .. } => {
            return Err(ErrorCode::BadRequest);
        }
    })
}

fn publish(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    publish: &Publish,
) -> Result<Option<StreamPosition>, ErrorCode> {
    let mut tags = Vec::new();
    let publication = publication(state, channel, publish, &mut tags)?;
    if state.is_handover_peer_full() {
        return Err(ErrorCode::TooManyRequests);
    }
    Ok(home_shard::publish(state, cx, &publication).position().map(stream_position))
}

fn history(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    channel: &str,
    query: &HistoryQuery,
) -> Result<HistoryPage, ErrorCode> {
    let HistoryPart { filter, range, with_time } = history_part(state, channel, query)?;
    let options = state.settings.history_options(channel);
    let found = state.home_channels.history_within(channel, filter, range, &options, cx.now());
    let HistorySlice { publications, top } = found.map_err(|_| ErrorCode::UnrecoverablePosition)?;
    let publications = publications.map(|record| history_publication(record, with_time)).collect();
    Ok(HistoryPage { publications, top: stream_position(top) })
}

fn channels(state: &Messaging, pattern: &str) -> ApiReply {
    let glob = crate::auth::glob(pattern);
    let matches = |name: &str| pattern.is_empty() || glob.as_ref().is_some_and(|glob| glob.is_match(name));
    let channels = state.subscribers.channels().filter(|(name, _)| matches(name));
    ApiReply::Channels(channels.map(|(name, count)| (name.into(), count)).collect())
}
