//! The calls of the server API that concern connections: subscribe, unsubscribe, disconnect, refresh. A call holds from the
//! moment at which it is answered, whatever the connection waits for:
//!
//! | the connection waits for | unsubscribe | subscribe | refresh |
//! |---|---|---|---|
//! | a backend or a key, with a subscribe | the command gets error 103 | the command gets error 105 later | applied |
//! | a home shard, with a subscribe, also a recovery | the command gets error 103 | goes live also if unrecovered | applied |
//! | a home shard, with a subscription of the server | it ends | stays | applied |
//! | a home shard, with its connect | the reply does not name it; if it is live, a push follows the reply | the reply names it | in the reply |
//! | a backend, with its own refresh | - | - | applied; the backend's answer is ignored |
//!
//! `disconnect` closes in each of these states. A connection whose user is not known yet (a backend or a key decides about
//! its connect) is not selected by user: what decides later decides about it. By its client id it can be disconnected. A
//! command that the server has not taken is as one that arrives after the call.

use std::collections::HashSet;

use super::access::SubscriptionOptions;
use super::api_call::{ApiCall, ApiReply, ConnectionSelector, StreamPosition};
use super::connect_reply;
use super::home_requests::Requester;
use super::mail::Mail;
use super::pending::ConnectSubscription;
use super::proxy_calls::Waiting;
use super::refresh;
use super::session::Phase;
use super::state::Messaging;
use super::subscription::{self, SubscriptionRequest};
use super::subscription_end;
use crate::auth::grant::SubscribeGrant;
use crate::engine::Context;
use crate::engine::stats::Bound;
use crate::ids::{ConnId, SubscriptionKey};
use crate::protocol::{Body, Command, Disconnect, Encoding, ErrorCode, Unsubscribed, client_text};
use crate::pubsub::{Since, SubscriptionFlags};

pub(crate) fn carry_out(state: &mut Messaging, cx: &mut Context<Mail>, call: ApiCall) -> Result<ApiReply, ErrorCode> {
    let selected = match call {
        ApiCall::Subscribe { connections, channel, grant, since } => {
            state.settings.namespace_of(&channel)?;
            let selected = select_known(state, cx, &connections);
            for &conn in &selected {
                subscribe(state, cx, conn, &channel, &grant, since.as_ref())?;
            }
            selected
        }
        ApiCall::Unsubscribe { connections, channel } => {
            if !channel.is_empty() {
                state.settings.namespace_of(&channel)?;
            }
            let selected = select_known(state, cx, &connections);
            selected.iter().for_each(|&conn| unsubscribe(state, cx, conn, &channel));
            reject_waiting_subscribes(state, cx, &selected, &channel);
            selected
        }
        ApiCall::Disconnect { connections, except_clients, code, reason } => {
            let mut selected = state.users.select(&state.sessions, cx, &connections);
            selected.retain(|&conn| !is_one_of(state, conn, &except_clients));
            for &conn in &selected {
                state.close_with(cx, conn, code, reason.clone().into_string().into());
            }
            selected
        }
        ApiCall::Refresh { connections, renewal } => {
            let selected = select_known(state, cx, &connections);
            ignore_own_refreshes(state, &selected);
            for &conn in &selected {
                refresh::refresh_by_api(state, cx, conn, renewal.clone());
            }
            selected
        }
        _ => return Err(ErrorCode::BadRequest),
    };
    Ok(ApiReply::Connections(selected.len() as u32))
}

/// The selected connections whose user is known.
fn select_known(state: &Messaging, cx: &Context<Mail>, connections: &ConnectionSelector) -> Vec<ConnId> {
    let mut selected = state.users.select(&state.sessions, cx, connections);
    selected.retain(|&conn| state.sessions[conn].phase == Phase::Connected || state.pending.has_connect(conn));
    selected
}

fn is_one_of(state: &Messaging, conn: ConnId, clients: &[Box<str>]) -> bool {
    let mut text = uuid::Uuid::encode_buffer();
    let client = client_text(state.sessions[conn].client, &mut text);
    clients.iter().any(|one| **one == *client)
}

/// Subscribes one connection, unless it is subscribed.
fn subscribe(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    channel: &str,
    grant: &SubscribeGrant,
    since: Option<&StreamPosition>,
) -> Result<(), ErrorCode> {
    if let Some(sub) = state.subscription(conn, channel) {
        state.home_requests.accept_unrecovered(sub);
        return Ok(());
    }
    let requested = state.pending.connect_mut(conn).and_then(|connect| connect.requested.as_mut());
    let begun = usize::from(state.sessions[conn].channels);
    let since = since.map(|position| Since::new(&position.epoch, position.offset));
    if begun + requested.as_ref().map_or(0, |list| list.len()) >= state.settings.client.channel_limit {
        cx.reached(Bound::Channels, conn);
        state.close(cx, conn, Disconnect::ChannelLimit);
        return Ok(());
    }
    if let Some(list) = requested {
        if !list.iter().any(|one| *one.channel == *channel) {
            let (channel, grant, flags) = (channel.to_owned(), grant.clone(), SubscriptionFlags::SERVER_SIDE);
            list.push(ConnectSubscription { channel, grant, flags, since, delta: false });
        }
        return Ok(());
    }
    let mut options = SubscriptionOptions::granted(state.settings.namespace_of(channel)?, grant.clone());
    options.flags |= SubscriptionFlags::SERVER_SIDE;
    let is_connecting = state.pending.has_connect(conn);
    let requester = if is_connecting { Requester::Connect } else { Requester::Server };
    let request = SubscriptionRequest { since, ..SubscriptionRequest::new(requester) };
    let live = subscription::begin(state, cx, conn, channel, options, request)?;
    if let Some(connect) = state.pending.connect_mut(conn) {
        connect.waiting += 1;
    }
    match live {
        Some(reply) if is_connecting => connect_reply::add(state, conn, channel.into(), reply),
        Some(reply) => subscription::send_push(state, cx, conn, channel, &reply),
        None => {}
    }
    Ok(())
}

/// Ends the subscription of one connection to a channel, or all of them if the channel is empty.
fn unsubscribe(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, channel: &str) {
    if let Some(requested) = state.pending.connect_mut(conn).and_then(|connect| connect.requested.as_mut()) {
        return requested.retain(|one| !channel.is_empty() && *one.channel != *channel);
    }
    let subs = match channel {
        "" => state.subscriptions_of(conn),
        _ => state.subscription(conn, channel).into_iter().collect(),
    };
    for sub in subs {
        match state.home_requests.requester(sub) {
            None => subscription_end::unsubscribe_by_server(state, cx, conn, sub, Unsubscribed::Server),
            Some(requester) => end_pending(state, cx, conn, sub, requester),
        }
    }
}

fn end_pending(
    state: &mut Messaging,
    cx: &mut Context<Mail>,
    conn: ConnId,
    sub: SubscriptionKey,
    requester: Requester,
) {
    // The reply comes first: the end may close the connection if it was the last that a close waits for.
    if let Requester::Command(id) = requester {
        state.reply(cx, conn, id, &ErrorCode::PermissionDenied.into());
    }
    subscription_end::end(state, cx, conn, sub);
    if requester == Requester::Connect {
        connect_reply::subscription_ended(state, cx, conn);
    }
}

/// Subscribe commands that wait for a backend or a key are rejected, and their connections are read again.
fn reject_waiting_subscribes(state: &mut Messaging, cx: &mut Context<Mail>, selected: &[ConnId], channel: &str) {
    if state.proxy_calls.is_empty() {
        return;
    }
    let selected: HashSet<_> = selected.iter().copied().collect();
    let Messaging { proxy_calls, sessions, .. } = &mut *state;
    let rejected = proxy_calls.cancel(|command| {
        command.waiting == Waiting::Command
            && selected.contains(&command.conn)
            && subscribes_to(sessions[command.conn].encoding, &command.raw, channel)
    });
    for command in rejected {
        state.reply(cx, command.conn, command.id, &ErrorCode::PermissionDenied.into());
        if command.blocks_reading {
            cx.resume(command.conn);
        }
    }
}

/// Whether a command is a subscribe to the channel, or to any if that is empty.
fn subscribes_to(encoding: Encoding, raw: &[u8], channel: &str) -> bool {
    match encoding.commands(raw, 0).next() {
        Some(Ok((Command { body: Body::Subscribe(request), .. }, _))) => {
            channel.is_empty() || *request.channel == *channel
        }
        _ => false,
    }
}

/// The server's own questions about these connections are moot: their answers must not undo the call.
fn ignore_own_refreshes(state: &mut Messaging, selected: &[ConnId]) {
    if state.proxy_calls.is_empty() {
        return;
    }
    let selected: HashSet<_> = selected.iter().copied().collect();
    drop(
        state
            .proxy_calls
            .cancel(|command| command.waiting == Waiting::ConnectionRefresh && selected.contains(&command.conn)),
    );
}
