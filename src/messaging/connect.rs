//! The first command: who it is, what comes with it, and the reply once every subscription that it brings is live.
//!
//! A connect that waits (for a home, the backend, a key, the user's home) is a barrier: what follows it in its frame waits
//! unread, and the socket is not read. Subscriptions that go live before the others have their deliveries held back, so
//! that the reply is the first thing the client sees.

use std::rc::Rc;

use uuid::Uuid;

use super::access::Options;
use super::commands::Done;
use super::proxy_calls::{Reason, Waits};
use super::session::{Identity, Kept, Phase};
use super::subscribe_reply::Outcome;
use super::subscription::{Purpose, Request};
use super::{Mail, Messaging};
use crate::auth::TokenError;
use crate::auth::grant::{ConnectGrant, SubscribeGrant};
use crate::backend::call::Question;
use crate::engine::Context;
use crate::engine::stats::Bound;
use crate::ids::ConnId;
use crate::protocol::{ConnectRequest, ConnectResult, Disconnect, Encoding, ErrorCode, Expiry, Reply};
use crate::pubsub::{Since, SubscriptionFlags};

/// Told in the connect reply.
const VERSION: &str = concat!("corecast ", env!("CARGO_PKG_VERSION"));
/// How long a client that was refused may take to go by itself.
const REFUSED_LINGER_MS: u64 = 5_000;
/// A lifetime beyond this is taken as this.
pub(crate) const LIFETIME_S_MAX: u64 = 365 * 24 * 3600;

/// A connect that is granted and waits for its subscriptions, or for the user's home.
pub(crate) struct Connecting {
    id: u32,
    data: Vec<u8>,
    /// Live ones, in the order they went live.
    subs: Vec<(Rc<str>, Outcome)>,
    /// Those that are not.
    waits_for: usize,
    /// What is to be subscribed once the user's home has let it in.
    wanted: Vec<Wanted>,
}

/// A subscription that the connect brings.
struct Wanted {
    channel: String,
    grant: SubscribeGrant,
    flags: SubscriptionFlags,
    since: Option<Since>,
    delta: bool,
}

impl Messaging {
    /// Decides who it is. `raw` is the command as it came: where it must wait, it is decided again from it.
    pub(crate) fn connect(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        request: &ConnectRequest<'_>,
        raw: &[u8],
    ) -> Done {
        if self.session(conn).phase != Phase::New {
            return self.end(cx, conn, Disconnect::BadRequest);
        }
        let kept = self.kept.entry(conn.slot).or_default();
        if !self.settings.keep_emulated(&mut kept.headers, request.headers) {
            return self.end(cx, conn, Disconnect::BadRequest);
        }
        if kept.headers.is_none() {
            self.kept.remove(&conn.slot);
        }
        let session = self.session(conn);
        session.phase = Phase::Connecting;
        session.client = Uuid::new_v4().into_bytes();
        self.identify(cx, conn, id, request, raw, false)
    }

    /// `again`: the key sets were asked for meanwhile.
    pub(crate) fn identify(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        request: &ConnectRequest<'_>,
        raw: &[u8],
        again: bool,
    ) -> Done {
        let client = &self.settings.client;
        let open = client.insecure || client.allow_anonymous_connect_without_token;
        if request.token.is_empty() {
            return match self.settings.connect_proxy {
                Some(proxy) => {
                    let channels = request.subs.filter_map(|sub| Some(sub.ok()?.0.into_owned())).collect();
                    let (name, version) = (request.name.to_string(), request.version.to_string());
                    let question = Question::Connect { name, version, data: request.data.to_vec(), channels };
                    self.call(cx, conn, proxy, question, Waits { id, raw: raw.into(), reason: Reason::Connect })
                }
                None if open => self.granted(cx, conn, id, request, ConnectGrant::default(), true),
                None => self.end(cx, conn, Disconnect::BadRequest),
            };
        }
        if !again && !self.may_check(&request.token, false) {
            self.session(conn).phase = Phase::New;
            return Done::NoRoom;
        }
        let client = &self.settings.client;
        match self.settings.connect_token(&request.token, &self.keys, self.unix_s(cx)) {
            Ok(grant) if grant.user.is_empty() && client.disallow_anonymous_connection_tokens => {
                self.end(cx, conn, Disconnect::PermissionDenied)
            }
            Ok(mut grant) => {
                if client.insecure {
                    grant.expire_at = None;
                }
                self.granted(cx, conn, id, request, grant, true)
            }
            Err(TokenError::Expired) => self.refuse_connect(cx, conn, id, ErrorCode::TokenExpired),
            Err(TokenError::UnknownKey { kid }) if !again => {
                let waits = Waits { id, raw: raw.into(), reason: Reason::ConnectKey };
                self.call(cx, conn, 0, Question::Keys { subscription: false, kid }, waits)
            }
            Err(_) => {
                cx.counters.tokens_refused += 1;
                self.end(cx, conn, Disconnect::InvalidToken)
            }
        }
    }

    /// A connect that is answered with an error: the connection is of no use any more.
    pub(crate) fn refuse_connect(&mut self, cx: &mut Context<Mail>, conn: ConnId, id: u32, error: ErrorCode) -> Done {
        self.refuse_connect_with(cx, conn, id, error.code(), error.message(), error.is_temporary())
    }

    pub(crate) fn refuse_connect_with(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        code: u32,
        message: &str,
        temporary: bool,
    ) -> Done {
        cx.drop_held(conn);
        self.connecting.remove(&conn.slot);
        if self.session(conn).is_uni() {
            let codes = &self.settings.client.connect_code_to_unidirectional_disconnect;
            if let Some(own) = codes.transforms.iter().find(|own| codes.enabled && own.code == code) {
                let (code, reason) = (own.to_code as u16, own.to_reason.clone());
                self.close_with(cx, conn, code, reason.into());
                return Done::Ended;
            }
            let disconnect = match code {
                109 | 110 => Disconnect::ConnectionExpired,
                103 => Disconnect::PermissionDenied,
                111 => Disconnect::TooManyRequests,
                _ => Disconnect::InternalError,
            };
            return self.end(cx, conn, disconnect);
        }
        self.session(conn).phase = Phase::Refused;
        cx.set_timer(conn, cx.now() + REFUSED_LINGER_MS);
        self.reply(cx, conn, id, &Reply::Error { code, message, temporary });
        Done::Ended
    }

    /// It is known who it is. `asks`: the channels that the client names may be joined, as far as it could join them.
    pub(crate) fn granted(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        request: &ConnectRequest<'_>,
        grant: ConnectGrant,
        asks: bool,
    ) -> Done {
        let now = self.unix_s(cx);
        let expire_at = grant.expire_at.map_or(0, |at| at.min(now + LIFETIME_S_MAX));
        if expire_at > 0 && expire_at < now {
            return self.refuse_connect(cx, conn, id, ErrorCode::Expired);
        }
        let wanted = match self.wanted(request, &grant, asks) {
            Ok(wanted) => wanted,
            Err(Refusal::Error(error)) => return self.refuse_connect(cx, conn, id, error),
            Err(Refusal::Close(disconnect)) => return self.end(cx, conn, disconnect),
        };
        if wanted.len() > self.settings.client.channel_limit {
            cx.reached(Bound::Channels, conn);
            return self.end(cx, conn, Disconnect::ChannelLimit);
        }
        let kept = self.kept.remove(&conn.slot).unwrap_or_default();
        let data = self.connect_data(cx, grant.data);
        self.take_identity(conn, &grant.user, grant.info, grant.meta, kept, expire_at);
        self.connecting.insert(conn.slot, Connecting { id, data, subs: Vec::new(), waits_for: 0, wanted });
        if self.ask_user_home(cx, conn) { Done::Wait } else { self.admitted(cx, conn) }
    }

    fn connect_data(&self, cx: &Context<Mail>, data: Vec<u8>) -> Vec<u8> {
        if data.is_empty() && self.settings.tell_shard {
            return format!("{{\"shard\":{}}}", cx.me()).into_bytes();
        }
        data
    }

    fn take_identity(&mut self, conn: ConnId, user: &str, info: Vec<u8>, meta: Vec<u8>, kept: Kept, expire_at: u64) {
        let uni = self.session(conn).is_uni();
        let known = !user.is_empty() || !info.is_empty() || !meta.is_empty() || kept.headers.is_some() || expire_at > 0;
        if known || uni {
            self.session(conn).identity = Some(Box::new(Identity {
                user: user.into(),
                info: info.into(),
                meta: meta.into(),
                headers: kept.headers,
                expire_at,
                session: if uni { Uuid::new_v4().to_string().into() } else { Box::default() },
                ..Identity::default()
            }));
        }
        self.enter_user(conn);
    }

    /// The subscriptions that a connect brings: granted, the user's own channel, and those that the client asks for.
    fn wanted(&self, request: &ConnectRequest<'_>, grant: &ConnectGrant, asks: bool) -> Result<Vec<Wanted>, Refusal> {
        let bad = |_| Refusal::Close(Disconnect::BadRequest);
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut add = |channel: &str, grant: SubscribeGrant, flags: SubscriptionFlags| {
            if !wanted.iter().any(|one| one.channel == channel) {
                let flags = flags | SubscriptionFlags::SERVER_SIDE;
                wanted.push(Wanted { channel: channel.to_owned(), grant, flags, since: None, delta: false });
            }
        };
        let personal = &self.settings.client.subscribe_to_user_personal_channel;
        if personal.enabled && !grant.user.is_empty() {
            add(
                &self.settings.channel.personal(&personal.personal_channel_namespace, &grant.user),
                SubscribeGrant::default(),
                SubscriptionFlags::empty(),
            );
        }
        let from_token = if asks { SubscriptionFlags::FROM_TOKEN } else { SubscriptionFlags::empty() };
        for (channel, sub) in &grant.subs {
            add(channel, sub.clone(), from_token);
        }
        if asks {
            for sub in request.subs {
                let (channel, _) = sub.map_err(bad)?;
                if self.settings.namespace(&channel).is_none() {
                    return Err(Refusal::Close(Disconnect::BadRequest));
                }
                if self.may_join_at_connect(&grant.user, &channel) {
                    add(&channel, SubscribeGrant::default(), SubscriptionFlags::empty());
                }
            }
        }
        for sub in request.subs {
            let (channel, sub) = sub.map_err(bad)?;
            if let Some(one) = wanted.iter_mut().find(|one| one.channel == *channel) {
                one.since = sub.recover.then(|| Since::new(&sub.epoch, sub.offset));
                one.delta = sub.delta == "fossil";
            }
        }
        match wanted.iter().any(|one| self.settings.namespace(&one.channel).is_none()) {
            true => Err(Refusal::Error(ErrorCode::UnknownChannel)),
            false => Ok(wanted),
        }
    }

    /// The user may have this connection: its subscriptions begin.
    pub(crate) fn admitted(&mut self, cx: &mut Context<Mail>, conn: ConnId) -> Done {
        let Some(connecting) = self.connecting.get_mut(&conn.slot) else { return Done::Ended };
        let (wanted, id) = (std::mem::take(&mut connecting.wanted), connecting.id);
        connecting.waits_for = wanted.len();
        // Whatever goes live first waits for the reply.
        if !wanted.is_empty() {
            cx.hold(conn);
        }
        for Wanted { channel, grant, flags, since, delta } in wanted {
            let Ok(namespace) = self.namespace_of(&channel) else { continue };
            let mut options = Options::granted(namespace, grant);
            options.flags |= flags;
            let request = Request { since, delta, ..Request::new(Purpose::Connect) };
            match self.join(cx, conn, &channel, options, request) {
                Ok(Some(outcome)) => self.gather(conn, channel.as_str().into(), outcome),
                Ok(None) => {}
                Err(error) => return self.refuse_connect(cx, conn, id, error),
            }
        }
        if self.connecting.get(&conn.slot).is_some_and(|connecting| connecting.waits_for == 0) {
            self.connected(cx, conn);
            return Done::Yes;
        }
        Done::Wait
    }

    fn gather(&mut self, conn: ConnId, channel: Rc<str>, outcome: Outcome) {
        if let Some(connecting) = self.connecting.get_mut(&conn.slot) {
            connecting.subs.push((channel, outcome));
            connecting.waits_for -= 1;
        }
    }

    /// A subscription of a connect is live; with the last one the reply leaves, and the rest of the frame is looked at.
    pub(crate) fn joined_at_connect(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        channel: Rc<str>,
        outcome: Outcome,
    ) {
        self.gather(conn, channel, outcome);
        if self
            .connecting
            .get(&conn.slot)
            .is_some_and(|connecting| connecting.waits_for == 0 && connecting.wanted.is_empty())
        {
            self.connected(cx, conn);
            cx.resume(conn);
        }
    }

    fn connected(&mut self, cx: &mut Context<Mail>, conn: ConnId) {
        let Some(Connecting { id, data, subs, .. }) = self.connecting.remove(&conn.slot) else { return };
        let now = self.unix_s(cx);
        let renews = self.settings.refresh_proxy.is_none();
        let session = &mut self.sessions[conn.index()];
        session.phase = Phase::Connected;
        let (uni, encoding, opcode) = (session.is_uni(), session.encoding, session.opcode());
        let interval_s = self.settings.client.ping_interval.as_secs() as u32;
        let ping_s = if session.frame_pings { 0 } else { interval_s };
        let ends_at = session.identity.as_ref().map_or(0, |identity| identity.expire_at);
        let mut text = Uuid::encode_buffer();
        let subs: Vec<_> = subs.iter().map(|(channel, outcome)| (channel, outcome.texts(encoding))).collect();
        let publications: Vec<_> = subs.iter().map(|(_, texts)| texts.publications()).collect();
        let results =
            subs.iter().zip(&publications).map(|((channel, texts), kept)| (&***channel, texts.result(now, kept)));
        let results: Vec<_> = results.collect();
        let result = ConnectResult {
            client: super::arena::client_text(session.client, &mut text),
            version: VERSION,
            expiry: Expiry::at(if renews { ends_at } else { 0 }, now),
            data: &data,
            subs: &results,
            ping_s,
            pong: ping_s > 0 && !uni && !self.settings.client.pong_timeout.is_zero(),
            session: session.identity.as_ref().map_or("", |identity| &identity.session),
            node: "",
            time_ms: if self.settings.client.connect_include_server_time { self.began_unix_ms + cx.now() } else { 0 },
        };
        cx.release_with(conn, opcode, |out| encoding.reply(out, id, &Reply::Connect(result)));
        self.begin_pings(cx, conn);
    }

    /// A unidirectional client's whole request: its first message, or part of its URL.
    pub(crate) fn uni_connect(&mut self, cx: &mut Context<Mail>, conn: ConnId, bytes: &[u8]) -> Done {
        match Encoding::connect_request(bytes) {
            Ok(request) => self.connect(cx, conn, 0, &request, bytes),
            Err(_) => self.end(cx, conn, Disconnect::BadRequest),
        }
    }
}

/// Why a connect comes to nothing.
enum Refusal {
    Error(ErrorCode),
    Close(Disconnect),
}
