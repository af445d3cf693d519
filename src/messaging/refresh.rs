//! Expiry and refresh of connections and subscriptions: by a token of the client, by the backend or by the server API.
//!
//! A client that refreshes with its own token has a grace period after the expiry; the backend is asked at the expiry.

use std::collections::HashSet;
use std::rc::Rc;

use super::backend_calls::call;
use super::keepalive;
use super::mail::Mail;
use super::rejections::{self, Action, Fault};
use super::session::Phase;
use super::settings::TokenKind;
use super::state::{CommandContext, Messaging, Progress};
use super::subscription_end;
use super::tokens::{SubscriptionTokenError, TokenFailure, subscription_token, verify_token};
use crate::auth::Verifier;
use crate::auth::grant::{ConnectGrant, RefreshGrant};
use crate::backend::call::{Answer, Question};
use crate::engine::Context;
use crate::ids::{ConnId, SubscriptionId, SubscriptionKey};
use crate::protocol::{Body, Command, Disconnect, ErrorCode, Expiry, Push, Reply, Unsubscribed, kept_info};
use crate::pubsub::SubscriptionFlags;

/// If the backend gives no answer to a refresh, the connection or subscription stays and the backend is asked again after
/// this.
const RETRY_S: u64 = 60;

/// What refreshes, which says how the client learns of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefreshedBy {
    /// A command: the client gets a reply.
    Client,
    Backend,
    Api,
}

/// Ends what has expired. False if the connection closes.
pub(crate) fn check_expiry(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) -> bool {
    let now = state.unix_s(cx);
    let Some(identity) = &state.sessions[conn].identity else { return true };
    let is_due = |end: Option<u64>| end.is_some_and(|end| end <= now);
    let connection_due = is_due(keepalive::connection_end(&state.settings, identity));
    let subscription_due = is_due(keepalive::subscription_end(identity));
    if connection_due && !connection_expired(state, cx, conn) {
        return false;
    }
    if subscription_due {
        end_expired_subscriptions(state, cx, conn, now);
    }
    cx.is_open(conn)
}

/// A question that the server asks on its own, about `subject`.
fn own_question<'a>(
    state: &'a mut Messaging,
    engine: &'a mut Context<Mail>,
    conn: ConnId,
    subject: &'a [u8],
) -> CommandContext<'a> {
    CommandContext::new(state, engine, conn, 0, subject)
}

/// False if the connection closes; true if the backend is asked.
fn connection_expired(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId) -> bool {
    let Some(proxy) = state.settings.refresh_proxy else {
        state.close(cx, conn, Disconnect::ConnectionExpired);
        return false;
    };
    // The answer sets the next end: until then the backend is not asked again.
    if let Some(identity) = &mut state.sessions[conn].identity {
        identity.expire_at = 0;
    }
    let mut cx = own_question(state, cx, conn, b"");
    call(&mut cx, proxy, Question::Refresh, connection_refreshed) != Progress::Ended
}

/// The backend's answer to `Question::Refresh`.
fn connection_refreshed(cx: &mut CommandContext<'_>, answer: Answer) -> Progress {
    if let Answer::Refresh(renewal) = answer {
        return refresh_connection(cx, RefreshedBy::Backend, renewal);
    }
    let at = cx.unix_s() + RETRY_S;
    if let Some(identity) = &mut cx.session().identity {
        identity.expire_at = at;
    }
    keepalive::arm(cx.state, cx.engine, cx.conn);
    Progress::Done
}

fn end_expired_subscriptions(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, now: u64) {
    let grace = state.settings.client.expired_sub_close_delay.as_secs();
    // Set by the subscriptions that stay.
    if let Some(identity) = &mut state.sessions[conn].identity {
        identity.subs_expire_at = 0;
    }
    for sub in state.subscriptions_of(conn) {
        let expire_at = state.subscribers.get(sub).detail().map_or(0, |detail| detail.expire_at);
        if expire_at == 0 {
            continue;
        }
        if expire_at.saturating_add(grace) > now {
            keepalive::watch_subscription(state, cx, conn, expire_at);
        } else if let Some(proxy) = sub_refresh_proxy(state, sub) {
            let channel = Rc::clone(state.subscribers.get(sub).channel());
            if let Some(detail) = state.subscribers.detail_mut(sub) {
                detail.expire_at = 0;
            }
            let question = Question::SubRefresh { channel: channel.to_string() };
            let subject = state.subscribers.id(sub).pack().to_le_bytes();
            let mut cx = own_question(state, cx, conn, &subject);
            call(&mut cx, proxy, question, subscription_refreshed);
        } else if is_server_side(state, sub) {
            return state.close(cx, conn, Disconnect::SubscriptionExpired);
        } else {
            subscription_end::unsubscribe_by_server(state, cx, conn, sub, Unsubscribed::Expired);
        }
    }
}

/// The backend that refreshes a subscription, if the client does not.
fn sub_refresh_proxy(state: &Messaging, sub: SubscriptionKey) -> Option<u16> {
    let subscription = state.subscribers.get(sub);
    if subscription.flags().contains(SubscriptionFlags::CLIENT_REFRESH) {
        return None;
    }
    state.settings.namespace_of(subscription.channel()).ok()?.sub_refresh_proxy
}

/// If such a subscription ends by the server, its connection closes.
fn is_server_side(state: &Messaging, sub: SubscriptionKey) -> bool {
    state.subscribers.get(sub).flags().contains(SubscriptionFlags::SERVER_SIDE)
}

/// The backend's answer to `Question::SubRefresh`; `cx.raw` is the subscription's identity. A later subscription to the same
/// channel is not concerned.
fn subscription_refreshed(cx: &mut CommandContext<'_>, answer: Answer) -> Progress {
    let id = u64::from_le_bytes(cx.raw.try_into().expect("`raw` was made from a packed identity"));
    let Some(sub) = cx.state.subscribers.find_id(SubscriptionId::unpack(id)) else { return Progress::Done };
    match answer {
        Answer::SubRefresh(renewal) => refresh_subscription(cx, sub, RefreshedBy::Backend, renewal),
        _ => {
            let expire_at = Some(cx.unix_s() + RETRY_S);
            refresh_subscription(cx, sub, RefreshedBy::Backend, RefreshGrant { expire_at, ..RefreshGrant::default() })
        }
    }
}

/// The refresh command: a new token for the connection.
pub(crate) fn refresh(cx: &mut CommandContext<'_>, token: &str) -> Progress {
    if token.is_empty() || cx.state.settings.refresh_proxy.is_some() {
        return cx.end(Disconnect::BadRequest);
    }
    match verify_token(cx, TokenKind::Connection, token, Verifier::connect, refresh_with_keys) {
        Ok(grant) if grant.user != cx.session().user() => {
            cx.fault = Some(Fault::OTHER_USER);
            cx.end(Disconnect::InvalidToken)
        }
        Ok(grant) if channels_changed(cx, &grant) => cx.end(Disconnect::InsufficientState),
        Ok(ConnectGrant { expire_at, info, meta, .. }) => {
            refresh_connection(cx, RefreshedBy::Client, RefreshGrant { expired: false, expire_at, info, meta })
        }
        Err(TokenFailure::Expired) => cx.end(Disconnect::ConnectionExpired),
        Err(TokenFailure::Invalid) => cx.end(Disconnect::InvalidToken),
        Err(TokenFailure::NoKeys) => cx.reject(ErrorCode::Internal),
        Err(TokenFailure::Undecided(progress)) => progress,
    }
}

fn refresh_with_keys(cx: &mut CommandContext<'_>, _: Answer) -> Progress {
    match cx.decode() {
        Some(Command { body: Body::Refresh { token }, .. }) => refresh(cx, &token),
        _ => Progress::Ended,
    }
}

/// Whether the token names other channels than those that the connection has from its token. Then it must connect again.
fn channels_changed(cx: &CommandContext<'_>, grant: &ConnectGrant) -> bool {
    let CommandContext { state, conn, .. } = cx;
    let (subscribers, list) = (&state.subscribers, state.sessions[*conn].subscriptions);
    let mut missing: HashSet<&str> = grant.subs.iter().map(|(channel, _)| channel.as_str()).collect();
    for sub in subscribers.of_connection(list) {
        let subscription = subscribers.get(sub);
        let is_named = missing.remove(&**subscription.channel());
        if !is_named && subscription.flags().contains(SubscriptionFlags::FROM_TOKEN) {
            return true;
        }
    }
    !missing.is_empty()
}

/// Extends a connection, or ends it. A backend that gives no time refuses; the server API then sets no end.
pub(crate) fn refresh_connection(cx: &mut CommandContext<'_>, by: RefreshedBy, renewal: RefreshGrant) -> Progress {
    if renewal.expired {
        return cx.end(Disconnect::ConnectionExpired);
    }
    let now = cx.unix_s();
    let expire_at = keepalive::bounded_end(renewal.expire_at, now);
    if expire_at > 0 && expire_at <= now || expire_at == 0 && by == RefreshedBy::Backend {
        return match by {
            RefreshedBy::Client => cx.reject(ErrorCode::Expired),
            RefreshedBy::Backend | RefreshedBy::Api => cx.end(Disconnect::ConnectionExpired),
        };
    }
    let identity = cx.session().identity.get_or_insert_default();
    identity.expire_at = expire_at;
    if !renewal.info.is_empty() {
        identity.info = kept_info(renewal.info);
    }
    if !renewal.meta.is_empty() {
        identity.meta = renewal.meta.into();
    }
    // Before the connect reply, the timer is that of stale connections.
    if cx.session().phase == Phase::Connected {
        keepalive::arm(cx.state, cx.engine, cx.conn);
    }
    match by {
        RefreshedBy::Client => {
            let expiry = Expiry::at(expire_at, now);
            cx.reply(&Reply::Refresh { client: "", version: "", expiry })
        }
        RefreshedBy::Backend | RefreshedBy::Api => Progress::Done,
    }
}

/// The sub_refresh command: a new token for one subscription.
pub(crate) fn sub_refresh(cx: &mut CommandContext<'_>, channel: &str, token: &str) -> Progress {
    let Some(sub) = cx.state.subscription(cx.conn, channel) else {
        return cx.reject(ErrorCode::PermissionDenied);
    };
    if !cx.state.subscribers.get(sub).flags().contains(SubscriptionFlags::CLIENT_REFRESH) {
        return cx.end(Disconnect::BadRequest);
    }
    if token.is_empty() {
        return cx.reject(ErrorCode::BadRequest);
    }
    match subscription_token(cx, channel, token, sub_refresh_with_keys) {
        Ok(grant) => {
            let renewal = RefreshGrant { expire_at: grant.expire_at, info: grant.info, ..RefreshGrant::default() };
            refresh_subscription(cx, sub, RefreshedBy::Client, renewal)
        }
        // Centrifugo accepts an expired token here, and the subscription never expires again: that is not followed.
        Err(SubscriptionTokenError::Token(TokenFailure::Expired)) => reject_for_now(cx, ErrorCode::TokenExpired),
        Err(SubscriptionTokenError::Token(TokenFailure::NoKeys)) => cx.reject(ErrorCode::Internal),
        Err(SubscriptionTokenError::Token(TokenFailure::Undecided(progress))) => progress,
        Err(_) => cx.end(Disconnect::InvalidToken),
    }
}

fn sub_refresh_with_keys(cx: &mut CommandContext<'_>, _: Answer) -> Progress {
    match cx.decode() {
        Some(Command { body: Body::SubRefresh { channel, token, .. }, .. }) => sub_refresh(cx, &channel, &token),
        _ => Progress::Ended,
    }
}

/// Rejects a sub_refresh with an error that is temporary: SDKs fetch another token and try again, while any other error would
/// end the subscription for good. Without another token it ends after its grace period.
fn reject_for_now(cx: &mut CommandContext<'_>, error: ErrorCode) -> Progress {
    cx.report(rejections::of_error(error), Action::Error(error.code()));
    cx.reply(&Reply::Error { code: error.code(), message: error.message(), temporary: true })
}

/// Extends a subscription, or ends it.
fn refresh_subscription(
    cx: &mut CommandContext<'_>,
    sub: SubscriptionKey,
    by: RefreshedBy,
    renewal: RefreshGrant,
) -> Progress {
    let now = cx.unix_s();
    let expire_at = keepalive::bounded_end(renewal.expire_at, now);
    if renewal.expired || expire_at > 0 && expire_at <= now {
        return match by {
            RefreshedBy::Client => reject_for_now(cx, ErrorCode::Expired),
            RefreshedBy::Backend | RefreshedBy::Api => subscription_expired(cx, sub),
        };
    }
    let detail = cx.state.subscribers.detail_mut(sub).get_or_insert_default();
    detail.expire_at = expire_at;
    if !renewal.info.is_empty() {
        detail.info = kept_info(renewal.info);
    }
    if expire_at > 0 {
        keepalive::watch_subscription(cx.state, cx.engine, cx.conn, expire_at);
    }
    match by {
        RefreshedBy::Client => cx.reply(&Reply::SubRefresh(Expiry::at(expire_at, now))),
        RefreshedBy::Backend | RefreshedBy::Api => Progress::Done,
    }
}

/// A subscription that was not refreshed ends; if the server made it, its connection ends.
fn subscription_expired(cx: &mut CommandContext<'_>, sub: SubscriptionKey) -> Progress {
    if is_server_side(cx.state, sub) {
        return cx.end(Disconnect::SubscriptionExpired);
    }
    subscription_end::unsubscribe_by_server(cx.state, cx.engine, cx.conn, sub, Unsubscribed::Expired);
    Progress::Done
}

/// The server API refreshes a connection: the client gets a push, or learns it from the connect reply if that was not sent
/// yet.
pub(crate) fn refresh_by_api(state: &mut Messaging, cx: &mut Context<Mail>, conn: ConnId, renewal: RefreshGrant) {
    let mut command = own_question(state, cx, conn, b"");
    if refresh_connection(&mut command, RefreshedBy::Api, renewal) != Progress::Done {
        return;
    }
    let session = &state.sessions[conn];
    if session.phase != Phase::Connected {
        return;
    }
    let expire_at = session.identity.as_ref().map_or(0, |identity| identity.expire_at);
    let expiry = Expiry::at(expire_at, state.unix_s(cx));
    state.push(cx, conn, |encoding, out| encoding.push(out, "", &Push::Refresh(expiry)));
}
