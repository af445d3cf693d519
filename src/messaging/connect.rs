//! The connect command: the client's identity, the initial state of its connection, and its first subscriptions.
//!
//! A connect that waits (for a home shard, the backend, a key, the user's home shard) is a barrier: the rest of its
//! frame is not read, and neither is the socket. Deliveries to subscriptions that are live before the others are held,
//! so that the connect reply is the first message to the client.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use uuid::Uuid;

use super::access::SubscriptionOptions;
use super::backend_calls::call;
use super::connect_reply;
use super::home_requests::Requester;
use super::keepalive::bounded_end;
use super::mail::Mail;
use super::pending::{ConnectSubscription, PendingConnect};
use super::rejections::{self, Action, Fault};
use super::session::{Identity, Phase};
use super::settings::{Settings, TokenKind};
use super::state::{CommandContext, Messaging, Progress};
use super::subscription::{self, SubscriptionRequest};
use super::tokens::{TokenFailure, verify_token};
use crate::auth::Verifier;
use crate::auth::grant::{ConnectGrant, SubscribeGrant};
use crate::backend::call::{Answer, Question};
use crate::engine::Context;
use crate::engine::rejection::Rejection;
use crate::engine::stats::Bound;
use crate::ids::ConnId;
use crate::protocol::{
    Body, Command, ConnectRequest, Disconnect, Encoding, ErrorCode, RawClientInfo, Reply, client_text, kept_info,
};
use crate::pubsub::{Since, SubscriptionFlags};

/// How long a client whose connect was rejected may take to close the connection itself.
const REJECTED_LINGER_MS: u64 = 5_000;

/// What decided about the connect. Only then may the client name channels of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Granted {
    /// The token, or the configuration.
    Here,
    ByBackend,
}

pub(crate) fn connect(cx: &mut CommandContext<'_>, request: &ConnectRequest<'_>) -> Progress {
    if cx.session().phase != Phase::New {
        return cx.end(Disconnect::BadRequest);
    }
    // Before anything is done for them.
    let limit = cx.state.settings.client.channel_limit;
    if request.subs.take(limit.saturating_add(1)).count() > limit {
        return too_many_channels(cx);
    }
    let mut headers = cx.state.pending.take_headers(cx.conn);
    if !cx.state.settings.keep_emulated(&mut headers, request.headers) {
        return cx.end(Disconnect::BadRequest);
    }
    cx.state.pending.set_headers(cx.conn, headers);
    let session = cx.session();
    session.phase = Phase::Connecting;
    session.client = Uuid::new_v4().into_bytes();
    authenticate(cx, request)
}

fn too_many_channels(cx: &mut CommandContext<'_>) -> Progress {
    cx.engine.reached(Bound::Channels, cx.conn);
    cx.end(Disconnect::ChannelLimit)
}

/// A unidirectional client's connect request in its URL. It is kept if it has to wait.
pub(crate) fn connect_by_url(state: &mut Messaging, engine: &mut Context<Mail>, conn: ConnId, request: Box<[u8]>) {
    if uni_connect(state, engine, conn, &request) == Progress::Deferred {
        state.pending.keep_request(conn, request);
    }
}

/// A unidirectional client's connect request: its first message, or part of its URL.
pub(crate) fn uni_connect(state: &mut Messaging, engine: &mut Context<Mail>, conn: ConnId, raw: &[u8]) -> Progress {
    let mut cx = CommandContext::new(state, engine, conn, 0, raw);
    match Encoding::connect_request(raw) {
        Ok(request) => connect(&mut cx, &request),
        Err(_) => {
            cx.fault = Some(Fault::malformed("it is not a connect request in JSON"));
            cx.end(Disconnect::BadRequest)
        }
    }
}

fn authenticate(cx: &mut CommandContext<'_>, request: &ConnectRequest<'_>) -> Progress {
    let settings = &cx.state.settings;
    let client = &settings.client;
    let is_open = client.insecure || client.allow_anonymous_connect_without_token;
    if request.token.is_empty() {
        return match settings.connect_proxy {
            Some(proxy) => {
                let channels = request.subs.filter_map(|sub| Some(sub.ok()?.0.into_owned())).collect();
                let (name, version) = (request.name.to_string(), request.version.to_string());
                let question = Question::Connect { name, version, data: request.data.to_vec(), channels };
                call(cx, proxy, question, backend_answered)
            }
            None if is_open => grant_connect(cx, request, ConnectGrant::default(), Granted::Here),
            None => {
                let detail = "it has no token, and client.allow_anonymous_connect_without_token is off";
                cx.fault = Some(Fault { why: Rejection::BadRequest, detail });
                cx.end(Disconnect::BadRequest)
            }
        };
    }
    let verified = verify_token(cx, TokenKind::Connection, &request.token, Verifier::connect, authenticate_with_keys);
    let client = &cx.state.settings.client;
    match verified {
        Ok(grant) if grant.user.is_empty() && client.disallow_anonymous_connection_tokens => {
            cx.end(Disconnect::PermissionDenied)
        }
        Ok(mut grant) => {
            if client.insecure {
                grant.expire_at = None;
            }
            grant_connect(cx, request, grant, Granted::Here)
        }
        Err(TokenFailure::Expired) => reject_connect(cx, ErrorCode::TokenExpired),
        Err(TokenFailure::Invalid) => cx.end(Disconnect::InvalidToken),
        Err(TokenFailure::NoKeys) => reject_connect(cx, ErrorCode::Internal),
        Err(TokenFailure::Undecided(Progress::Deferred)) => {
            cx.session().phase = Phase::New;
            Progress::Deferred
        }
        Err(TokenFailure::Undecided(progress)) => progress,
    }
}

fn authenticate_with_keys(cx: &mut CommandContext<'_>, _: Answer) -> Progress {
    match cx.decode() {
        Some(Command { body: Body::Connect(request), .. }) => authenticate(cx, &request),
        _ => Progress::Ended,
    }
}

/// The backend's answer to `Question::Connect`.
fn backend_answered(cx: &mut CommandContext<'_>, answer: Answer) -> Progress {
    match answer {
        Answer::Connect(_) if cx.session().phase != Phase::Connecting => Progress::Ended,
        Answer::Connect(grant) => match cx.decode() {
            Some(Command { body: Body::Connect(request), .. }) => {
                grant_connect(cx, &request, grant, Granted::ByBackend)
            }
            _ => Progress::Ended,
        },
        Answer::Error { code, message, temporary } => {
            cx.report(Some(Fault::BACKEND), Action::Error(code));
            reject_connect_with(cx, code, &message, temporary)
        }
        _ => reject_connect(cx, ErrorCode::Internal),
    }
}

/// Answers a connect with an error: the connection is of no use any more.
fn reject_connect(cx: &mut CommandContext<'_>, error: ErrorCode) -> Progress {
    cx.report(rejections::of_error(error), Action::Error(error.code()));
    reject_connect_with(cx, error.code(), error.message(), error.is_temporary())
}

fn reject_connect_with(cx: &mut CommandContext<'_>, code: u32, message: &str, temporary: bool) -> Progress {
    cx.engine.drop_held(cx.conn);
    connect_reply::abandon(cx.state, cx.engine, cx.conn);
    if cx.session().is_uni() {
        return close_uni(cx, code, message);
    }
    cx.session().phase = Phase::Rejected;
    cx.engine.set_timer(cx.conn, cx.engine.now() + REJECTED_LINGER_MS);
    cx.reply(&Reply::Error { code, message, temporary });
    Progress::Ended
}

/// A unidirectional client gets no replies: the error becomes a close code.
fn close_uni(cx: &mut CommandContext<'_>, code: u32, message: &str) -> Progress {
    if cx.state.respond_to_connect(cx.engine, cx.conn, code, message) {
        return Progress::Ended;
    }
    let codes = &cx.state.settings.client.connect_code_to_unidirectional_disconnect;
    if let Some(own) = codes.transforms.iter().find(|own| codes.enabled && own.code == code) {
        let (code, reason) = (own.to_code as u16, own.to_reason.clone());
        cx.state.close_with(cx.engine, cx.conn, code, reason.into());
        return Progress::Ended;
    }
    let disconnect = match code {
        109 | 110 => Disconnect::ConnectionExpired,
        103 => Disconnect::PermissionDenied,
        111 => Disconnect::TooManyRequests,
        _ => Disconnect::InternalError,
    };
    cx.state.end(cx.engine, cx.conn, disconnect);
    Progress::Ended
}

/// The connect is granted: what remains are its subscriptions.
fn grant_connect(
    cx: &mut CommandContext<'_>,
    request: &ConnectRequest<'_>,
    mut grant: ConnectGrant,
    granted: Granted,
) -> Progress {
    let now = cx.unix_s();
    let expire_at = bounded_end(grant.expire_at, now);
    if expire_at > 0 && expire_at < now {
        return reject_connect(cx, ErrorCode::Expired);
    }
    if grant.subs.len() > cx.state.settings.client.channel_limit {
        return too_many_channels(cx);
    }
    let info = kept_info(std::mem::take(&mut grant.info));
    let client = RawClientInfo { client: cx.session().client, user: &grant.user, conn_info: &info, chan_info: b"" };
    let requested = match subscriptions(&cx.state.settings, request, &grant, granted, &client) {
        Ok(requested) => requested,
        Err(ConnectFault::Error(error)) => return reject_connect(cx, error),
        Err(ConnectFault::Close(disconnect)) => return cx.end(disconnect),
    };
    if requested.len() > cx.state.settings.client.channel_limit {
        return too_many_channels(cx);
    }
    let headers = cx.state.pending.take_headers(cx.conn);
    let data = match grant.data.is_empty() && cx.state.settings.shows_shard {
        true => format!("{{\"shard\":{}}}", cx.engine.me()).into_bytes(),
        false => grant.data,
    };
    let (user, meta) = (grant.user.as_str().into(), grant.meta.into());
    set_identity(cx, Identity { user, info, meta, headers, expire_at, ..Identity::default() });
    let connect =
        PendingConnect { id: cx.id, data, live: Vec::new(), waiting: 0, reserved: 0, requested: Some(requested) };
    cx.state.pending.begin_connect(cx.conn, connect);
    if ask_user_home(cx) { Progress::Pending } else { begin_subscriptions(cx) }
}

/// Keeps the client's identity, unless nothing is known of it.
fn set_identity(cx: &mut CommandContext<'_>, identity: Identity) {
    let Identity { user, info, meta, headers, expire_at, .. } = &identity;
    let uni = cx.session().is_uni();
    let known = !user.is_empty() || !info.is_empty() || !meta.is_empty() || headers.is_some() || *expire_at > 0;
    if known || uni {
        let session = if uni { Uuid::new_v4().to_string().into() } else { Box::default() };
        cx.session().identity = Some(Box::new(Identity { session, ..identity }));
    }
    cx.state.users.insert(&mut cx.state.sessions, cx.conn);
}

/// Asks the user's home shard to admit the connection. False if it need not.
fn ask_user_home(cx: &mut CommandContext<'_>) -> bool {
    let CommandContext { state, engine, conn, .. } = cx;
    let client = &state.settings.client;
    let personal = &client.subscribe_to_user_personal_channel;
    let is_limited = client.user_connection_limit > 0 || personal.enabled && personal.single_connection;
    let user = state.sessions[*conn].user();
    if !is_limited || user.is_empty() {
        return false;
    }
    if let (Some(report), true) = (&state.settings.user_connected, personal.enabled && personal.single_connection) {
        let mut text = Uuid::encode_buffer();
        let channel = state.settings.channel.personal(&personal.personal_channel_namespace, user);
        report(user, client_text(state.sessions[*conn].client, &mut text), &channel);
    }
    let home = state.home_of(user);
    let user = engine.mail.put(home, user.as_bytes());
    if let Some(identity) = state.sessions.identity_at(conn.slot) {
        identity.is_counted = true;
    }
    engine.mail.post(home, Mail::UserConnect { user, conn: *conn });
    true
}

/// The user's home shard has answered.
pub(crate) fn user_home_answered(state: &mut Messaging, engine: &mut Context<Mail>, conn: ConnId, admitted: bool) {
    if !engine.is_open(conn) || state.sessions[conn].phase != Phase::Connecting {
        return;
    }
    if !admitted {
        engine.reached(Bound::UserConnections, conn);
        return state.close(engine, conn, Disconnect::ConnectionLimit);
    }
    let id = state.pending.connect_mut(conn).map_or(0, |connect| connect.id);
    let mut cx = CommandContext::new(state, engine, conn, id, b"");
    if begin_subscriptions(&mut cx) != Progress::Pending {
        cx.engine.resume(conn);
    }
}

/// A subscription of the connect failed for a temporary reason: so does the connect, and the client tries again.
pub(crate) fn subscription_failed(state: &mut Messaging, engine: &mut Context<Mail>, conn: ConnId) {
    if !engine.is_open(conn) || state.sessions[conn].phase != Phase::Connecting {
        return;
    }
    let id = state.pending.connect_mut(conn).map_or(0, |connect| connect.id);
    let mut cx = CommandContext::new(state, engine, conn, id, b"");
    reject_connect(&mut cx, ErrorCode::Internal);
}

/// Why a connect fails.
enum ConnectFault {
    Error(ErrorCode),
    Close(Disconnect),
}

/// The subscriptions that a connect brings, one for each channel.
#[derive(Default)]
struct Requested<'a> {
    list: Vec<ConnectSubscription>,
    /// Where each channel is in the list.
    by_channel: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Requested<'a> {
    /// Ignored if the channel is in the list already.
    fn add(&mut self, channel: Cow<'a, str>, grant: SubscribeGrant, flags: SubscriptionFlags) {
        if let Entry::Vacant(entry) = self.by_channel.entry(channel) {
            let (channel, flags) = (entry.key().to_string(), flags | SubscriptionFlags::SERVER_SIDE);
            entry.insert(self.list.len());
            self.list.push(ConnectSubscription { channel, grant, flags, since: None, delta: false });
        }
    }
}

/// The subscriptions that a connect brings: those of the grant, the user's personal channel, and those that the client
/// requests. The caller has bounded the first and the last.
fn subscriptions(
    settings: &Settings,
    request: &ConnectRequest<'_>,
    grant: &ConnectGrant,
    granted: Granted,
    client: &RawClientInfo<'_>,
) -> Result<Vec<ConnectSubscription>, ConnectFault> {
    let malformed = |_| ConnectFault::Close(Disconnect::BadRequest);
    let mut requested = Requested::default();
    let personal = &settings.client.subscribe_to_user_personal_channel;
    let none = SubscriptionFlags::empty();
    if personal.enabled && !grant.user.is_empty() {
        let channel = settings.channel.personal(&personal.personal_channel_namespace, &grant.user);
        requested.add(channel.into(), SubscribeGrant::default(), none);
    }
    let from_token = if granted == Granted::Here { SubscriptionFlags::FROM_TOKEN } else { none };
    for (channel, sub) in &grant.subs {
        requested.add(channel.into(), sub.clone(), from_token);
    }
    if granted == Granted::Here {
        for sub in request.subs {
            let (channel, _) = sub.map_err(malformed)?;
            if settings.namespace(&channel).is_none() {
                return Err(ConnectFault::Close(Disconnect::BadRequest));
            }
            if settings.may_subscribe_at_connect(&grant.user, &channel)
                && settings.hooks_allow_subscribe(client, &channel)
            {
                requested.add(channel, SubscribeGrant::default(), none);
            }
        }
    }
    for sub in request.subs {
        let (channel, sub) = sub.map_err(malformed)?;
        if let Some(&at) = requested.by_channel.get(&channel) {
            let one = &mut requested.list[at];
            one.since = sub.recover.then(|| Since::new(&sub.epoch, sub.offset));
            one.delta = sub.delta == "fossil";
        }
    }
    match requested.list.iter().any(|one| settings.namespace(&one.channel).is_none()) {
        true => Err(ConnectFault::Error(ErrorCode::UnknownChannel)),
        false => Ok(requested.list),
    }
}

/// The user may have this connection: begins its subscriptions.
fn begin_subscriptions(cx: &mut CommandContext<'_>) -> Progress {
    let Some(connect) = cx.state.pending.connect_mut(cx.conn) else { return Progress::Ended };
    let requested = connect.requested.take().unwrap_or_default();
    connect.waiting = requested.len();
    // What is delivered to the first live subscriptions waits for the reply.
    if !requested.is_empty() {
        cx.engine.hold(cx.conn);
    }
    for ConnectSubscription { channel, grant, flags, since, delta } in requested {
        let namespace = match cx.state.settings.namespace_of(&channel) {
            Ok(namespace) => namespace,
            Err(error) => return reject_connect(cx, error),
        };
        let mut options = SubscriptionOptions::granted(namespace, grant);
        options.flags |= flags;
        let request = SubscriptionRequest { since, delta, ..SubscriptionRequest::new(Requester::Connect) };
        match subscription::begin(cx.state, cx.engine, cx.conn, &channel, options, request) {
            Ok(Some(reply)) => connect_reply::add(cx.state, cx.conn, channel.as_str().into(), reply),
            Ok(None) => {}
            Err(error) => return reject_connect(cx, error),
        }
    }
    if connect_reply::is_complete(cx.state, cx.conn) {
        connect_reply::send(cx.state, cx.engine, cx.conn);
        return Progress::Done;
    }
    Progress::Pending
}
