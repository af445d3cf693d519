//! The subscribe command: its permission comes from a token, the backend or the namespace. `subscription` does the rest.

use super::access::{SubscribePermission, SubscriptionOptions};
use super::backend_calls::{self, reject_without_room};
use super::home_requests::Requester;
use super::state::{CommandContext, Messaging, Progress};
use super::subscription::{self, SubscriptionRequest};
use super::tokens::{SubscriptionTokenError, TokenFailure, subscription_token};
use crate::backend::call::{Answer, Question};
use crate::broker::ChannelUse;
use crate::engine::stats::Bound;
use crate::ids::ConnId;
use crate::protocol::{Body, Command, Disconnect, ErrorCode, Filter, FilterError, SubscribeRequest};
use crate::pubsub::{Since, SubscriptionFlags};

/// A bit of the command's flags: reject the subscribe if its position cannot be recovered.
const FLAG_REJECT_UNRECOVERED: i64 = 2;

pub(crate) fn subscribe(cx: &mut CommandContext<'_>, request: &SubscribeRequest<'_>) -> Progress {
    let channel = &*request.channel;
    let state = &*cx.state;
    let session = &state.sessions[cx.conn];
    if state.subscription(cx.conn, channel).is_some() {
        return cx.reject(ErrorCode::AlreadySubscribed);
    }
    if usize::from(session.channels) >= state.settings.client.channel_limit {
        cx.engine.reached(Bound::Channels, cx.conn);
        return cx.reject(ErrorCode::LimitExceeded);
    }
    if !request.delta.is_empty() && request.delta != "fossil" {
        return cx.end(Disconnect::BadRequest);
    }
    if request.kind != 0 {
        return cx.reject(ErrorCode::PermissionDenied);
    }
    if state.broker.as_ref().is_some_and(|broker| !broker.links.accepts(channel, ChannelUse::Subscribe)) {
        return cx.reject(ErrorCode::BadRequest);
    }
    match state.settings.may_subscribe(session, channel, &request.token) {
        Err(error) => cx.reject(error),
        Ok(SubscribePermission::Backend(proxy)) => {
            let (channel, token) = (channel.to_owned(), request.token.to_string());
            let question = Question::Subscribe { channel, token, data: request.data.to_vec() };
            backend_calls::call(cx, proxy, question, subscribe_granted)
        }
        Ok(SubscribePermission::Granted) => {
            let Ok(namespace) = state.settings.namespace_of(channel) else { return Progress::Ended };
            let options = SubscriptionOptions::new(namespace, Default::default());
            subscribe_with(cx, request, options)
        }
        Ok(SubscribePermission::Token) => subscribe_with_token(cx, request),
    }
}

fn subscribe_with_token(cx: &mut CommandContext<'_>, request: &SubscribeRequest<'_>) -> Progress {
    let grant = match subscription_token(cx, &request.channel, &request.token, subscribe_with_keys) {
        Ok(grant) => grant,
        Err(SubscriptionTokenError::Token(TokenFailure::Expired)) => return cx.reject(ErrorCode::TokenExpired),
        Err(SubscriptionTokenError::Token(TokenFailure::Invalid)) => return cx.reject(ErrorCode::PermissionDenied),
        Err(SubscriptionTokenError::Token(TokenFailure::NoKeys)) => return cx.reject(ErrorCode::Internal),
        Err(SubscriptionTokenError::Token(TokenFailure::Undecided(progress))) => return progress,
        Err(SubscriptionTokenError::Mismatch) => return cx.end(Disconnect::InvalidToken),
    };
    let Ok(namespace) = cx.state.settings.namespace_of(&request.channel) else { return Progress::Ended };
    let options = SubscriptionOptions::granted(namespace, grant);
    subscribe_with(cx, request, options)
}

fn subscribe_with_keys(cx: &mut CommandContext<'_>, _: Answer) -> Progress {
    let Some(Command { body: Body::Subscribe(request), .. }) = cx.decode() else { return Progress::Ended };
    let progress = subscribe(cx, &request);
    reject_without_room(cx, progress)
}

/// The backend's answer to `Question::Subscribe`.
fn subscribe_granted(cx: &mut CommandContext<'_>, answer: Answer) -> Progress {
    let Answer::Subscribe(grant) = answer else { return backend_calls::reject(cx, answer) };
    let Some(Command { body: Body::Subscribe(request), .. }) = cx.decode() else { return Progress::Ended };
    // During the call the server API may have made the same subscription.
    if cx.state.subscription(cx.conn, &request.channel).is_some() {
        return cx.reject(ErrorCode::AlreadySubscribed);
    }
    let options = match cx.state.settings.namespace_of(&request.channel) {
        Ok(namespace) => SubscriptionOptions::granted(namespace, grant),
        Err(error) => return cx.reject(error),
    };
    let progress = subscribe_with(cx, &request, options);
    reject_without_room(cx, progress)
}

/// The subscribe is permitted: adds what the client requests, as far as it may, and begins the subscription.
fn subscribe_with(
    cx: &mut CommandContext<'_>,
    request: &SubscribeRequest<'_>,
    mut options: SubscriptionOptions,
) -> Progress {
    let settings = &cx.state.settings;
    let Ok(namespace) = settings.namespace_of(&request.channel) else { return Progress::Ended };
    let session = &cx.state.sessions[cx.conn];
    let sees_history = settings.may_see_history(session, namespace, true);
    if request.positioned && (namespace.allow_positioning || sees_history) {
        options.flags |= SubscriptionFlags::POSITIONED;
    }
    if request.recoverable && (namespace.allow_recovery || sees_history) {
        options.flags |= SubscriptionFlags::RECOVERABLE | SubscriptionFlags::POSITIONED;
        options.auto_cache = options.cache && namespace.auto_cache_recover;
    }
    if request.join_leave && namespace.join_leave && settings.may_see_presence(session, namespace, true) {
        options.join_leave = true;
    }
    if namespace.sub_refresh_proxy.is_none() {
        options.flags |= SubscriptionFlags::CLIENT_REFRESH;
    }
    let mut wanted = SubscriptionRequest::new(Requester::Command(cx.id));
    if !request.tf.is_none() && !options.allow_filter {
        return cx.reject(ErrorCode::BadRequest);
    }
    match request.tf.filter() {
        Ok(filter) => wanted.filter = filter,
        Err(FilterError::Malformed) => return cx.end(Disconnect::BadRequest),
        Err(FilterError::Invalid) => return cx.reject(ErrorCode::BadRequest),
    }
    if let Some(filter) = &wanted.filter
        && filter_bytes(cx.state, cx.conn) + filter.bytes() > settings.client.tags_filter_bytes_max
    {
        cx.engine.reached(Bound::TagsFilters, cx.conn);
        return cx.reject(ErrorCode::LimitExceeded);
    }
    wanted.delta = request.delta == "fossil";
    wanted.since = request.recover.then(|| Since::new(&request.epoch, request.offset));
    wanted.reject_unrecovered = request.flag & FLAG_REJECT_UNRECOVERED != 0;
    if !cx.state.has_credit(cx.engine, &request.channel) {
        return Progress::NoRoom;
    }
    // The last check, so that the hook is asked once for a command that is offered again.
    if !settings.hooks_allow_subscribe(&session.raw_info(), &request.channel) {
        return cx.reject(ErrorCode::PermissionDenied);
    }
    match subscription::begin(cx.state, cx.engine, cx.conn, &request.channel, options, wanted) {
        Ok(Some(reply)) => subscription::send_reply(cx.state, cx.engine, cx.conn, cx.id, &reply),
        Ok(None) => return after_request(cx, &request.channel),
        Err(error) => return cx.reject(error),
    }
    Progress::Done
}

/// The home shard is asked. What the subscription recovers may be a large reply: nothing behind it is read until it has left.
fn after_request(cx: &mut CommandContext<'_>, channel: &str) -> Progress {
    let sub = cx.state.subscription(cx.conn, channel);
    match sub.filter(|&sub| cx.state.subscribers.get(sub).is_recovering()) {
        Some(sub) => {
            cx.state.home_requests.block_reading(sub);
            Progress::Replying
        }
        None => Progress::Done,
    }
}

/// The memory of all tag filters of a connection, also of subscriptions that wait. A pass over its subscriptions, as the search
/// for a channel is.
fn filter_bytes(state: &Messaging, conn: ConnId) -> usize {
    let subs = state.subscribers.of_connection(state.sessions[conn].subscriptions);
    let filter = |sub| {
        let kept = state.subscribers.get(sub).detail().and_then(|detail| detail.filter.as_ref());
        kept.or_else(|| state.home_requests.filter(sub)).map_or(0, Filter::bytes)
    };
    subs.map(filter).sum()
}

/// Whether a command must wait for the reply to a subscribe of the same channel. A publish need not, unless the subscription
/// is what permits it: it reaches the home shard behind the subscribe.
#[inline]
pub(crate) fn waits_for_subscribe(state: &mut Messaging, conn: ConnId, channel: &str, body: &Body<'_>) -> bool {
    state.sessions[conn].pending_subscribes > 0 && waits_for_pending(state, conn, channel, body)
}

fn waits_for_pending(state: &mut Messaging, conn: ConnId, channel: &str, body: &Body<'_>) -> bool {
    let Some(sub) = state.subscription(conn, channel).filter(|&sub| state.subscribers.get(sub).is_pending()) else {
        return false;
    };
    if let Body::Publish { .. } = body
        && !state.is_brokered(channel)
        && !state.settings.namespace_of(channel).is_ok_and(|namespace| namespace.allow_publish_for_subscriber)
    {
        return false;
    }
    state.home_requests.block_reading(sub);
    true
}
