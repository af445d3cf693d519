//! Who may subscribe: a client's command, judged by its token, the backend or the namespace. What follows is `live`.

use super::access::{Options, Verdict};
use super::commands::Done;
use super::proxy_calls::{Reason, Waits};
use super::subscription::{Purpose, Request};
use super::{Mail, Messaging};
use crate::auth::TokenError;
use crate::backend::call::Question;
use crate::engine::Context;
use crate::engine::stats::Bound;
use crate::ids::{ConnId, SubscriptionKey};
use crate::protocol::{Body, Disconnect, ErrorCode, FilterError, SubscribeRequest};
use crate::pubsub::{Since, SubscriptionFlags};

/// Refuse a subscribe whose position cannot be recovered.
const FLAG_REJECT_UNRECOVERED: i64 = 2;

impl Messaging {
    /// A client's subscribe. `raw` is the command as it came.
    pub(crate) fn subscribe(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        request: &SubscribeRequest<'_>,
        raw: &[u8],
        again: bool,
    ) -> Done {
        let channel = &*request.channel;
        let session = &self.sessions[conn.index()];
        if self.subscription(conn, channel).is_some() {
            return self.refuse(cx, conn, id, ErrorCode::AlreadySubscribed);
        }
        if usize::from(session.channels) >= self.settings.client.channel_limit {
            cx.reached(Bound::Channels, conn);
            return self.refuse(cx, conn, id, ErrorCode::LimitExceeded);
        }
        if !request.delta.is_empty() && request.delta != "fossil" {
            return self.end(cx, conn, Disconnect::BadRequest);
        }
        if request.kind != 0 {
            return self.refuse(cx, conn, id, ErrorCode::PermissionDenied);
        }
        match self.may_subscribe(session, channel, &request.token) {
            Err(error) => self.refuse(cx, conn, id, error),
            Ok(Verdict::Ask(proxy)) => {
                let (channel, token) = (channel.to_owned(), request.token.to_string());
                let question = Question::Subscribe { channel, token, data: request.data.to_vec() };
                self.call(cx, conn, proxy, question, Waits { id, raw: raw.into(), reason: Reason::Subscribe })
            }
            Ok(Verdict::Allowed) => {
                let Ok(namespace) = self.namespace_of(channel) else { return Done::Ended };
                let options = Options::new(namespace, Default::default());
                self.subscribe_with(cx, conn, id, request, options)
            }
            Ok(Verdict::Token) => self.subscribe_by_token(cx, conn, id, request, raw, again),
        }
    }

    fn subscribe_by_token(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        request: &SubscribeRequest<'_>,
        raw: &[u8],
        again: bool,
    ) -> Done {
        if !again && !self.may_check(&request.token, true) {
            return Done::NoRoom;
        }
        let token = match self.subscription_token(cx, conn, &request.channel, &request.token) {
            Ok(token) => token,
            Err(TokenFault::Expired) => return self.refuse(cx, conn, id, ErrorCode::TokenExpired),
            Err(TokenFault::Key { kid }) if !again => {
                let waits = Waits { id, raw: raw.into(), reason: Reason::SubscribeKey };
                return self.call(cx, conn, 0, Question::Keys { subscription: true, kid }, waits);
            }
            Err(TokenFault::Invalid | TokenFault::Key { .. }) => {
                return self.refuse(cx, conn, id, ErrorCode::PermissionDenied);
            }
            Err(TokenFault::Foreign) => return self.end(cx, conn, Disconnect::InvalidToken),
        };
        let Ok(namespace) = self.namespace_of(&request.channel) else { return Done::Ended };
        self.subscribe_with(cx, conn, id, request, Options::granted(namespace, token))
    }

    /// What a subscription token grants to this connection for this channel.
    pub(crate) fn subscription_token(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        channel: &str,
        token: &str,
    ) -> Result<crate::auth::grant::SubscribeGrant, TokenFault> {
        let own = self.settings.subscription_tokens.as_ref();
        let keys = if own.is_some() { &self.keys.subscription } else { &self.keys.connection };
        let verifier = own.unwrap_or(&self.settings.tokens);
        let token = verifier.subscribe(token, keys.as_deref(), self.unix_s(cx)).map_err(|error| match error {
            TokenError::Expired => TokenFault::Expired,
            TokenError::UnknownKey { kid } => TokenFault::Key { kid },
            TokenError::Invalid(_) => {
                cx.counters.tokens_refused += 1;
                TokenFault::Invalid
            }
        })?;
        let session = &self.sessions[conn.index()];
        let mut text = uuid::Uuid::encode_buffer();
        let client = super::arena::client_text(session.client, &mut text);
        let foreign = token.channel != channel
            || token.user != session.user()
            || token.client.as_deref().is_some_and(|named| !named.is_empty() && named != client);
        if foreign { Err(TokenFault::Foreign) } else { Ok(token.grant) }
    }

    /// It may: what the client asked for beside, then the subscription itself.
    pub(crate) fn subscribe_with(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        request: &SubscribeRequest<'_>,
        mut options: Options,
    ) -> Done {
        let Ok(namespace) = self.namespace_of(&request.channel) else { return Done::Ended };
        let session = &self.sessions[conn.index()];
        let history = self.may_see_history(session, namespace, true);
        if request.positioned && (namespace.allow_positioning || history) {
            options.flags |= SubscriptionFlags::POSITIONED;
        }
        if request.recoverable && (namespace.allow_recovery || history) {
            options.flags |= SubscriptionFlags::RECOVERABLE | SubscriptionFlags::POSITIONED;
            options.auto_cache = options.cache && namespace.auto_cache_recover;
        }
        if request.join_leave && namespace.join_leave && self.may_see_presence(session, namespace, true) {
            options.join_leave = true;
        }
        if namespace.sub_refresh_proxy.is_none() {
            options.flags |= SubscriptionFlags::CLIENT_REFRESH;
        }
        let mut asked = Request::new(Purpose::Command(id));
        match request.tf.filter() {
            Ok(filter) if filter.is_none() || options.allow_filter => asked.filter = filter,
            Err(FilterError::Malformed) => return self.end(cx, conn, Disconnect::BadRequest),
            _ => return self.refuse(cx, conn, id, ErrorCode::BadRequest),
        }
        asked.delta = request.delta == "fossil";
        asked.since = request.recover.then(|| Since::new(&request.epoch, request.offset));
        asked.reject_unrecovered = request.flag & FLAG_REJECT_UNRECOVERED != 0;
        if !self.has_credit(cx, &request.channel) {
            return Done::NoRoom;
        }
        match self.join(cx, conn, &request.channel, options, asked) {
            Ok(Some(outcome)) => self.answer_subscribe(cx, conn, id, &outcome),
            Ok(None) => {}
            Err(error) => return self.refuse(cx, conn, id, error),
        }
        Done::Yes
    }

    /// Requests to a home are bounded, so that it can always answer.
    pub(crate) fn has_credit(&self, cx: &Context<Mail>, channel: &str) -> bool {
        self.requests[self.home_of(channel).index()] < cx.config.subscribe_requests_max
    }

    /// The connection's subscription to a channel.
    pub(crate) fn subscription(&self, conn: ConnId, channel: &str) -> Option<SubscriptionKey> {
        let first = self.sessions[conn.index()].first_sub;
        if first.is_empty() { None } else { self.feeds.find(first, channel) }
    }

    /// True where the command must wait for the answer to a subscribe of the same channel. A publication need not, unless the
    /// subscription is what allows it: it reaches home behind the subscribe.
    pub(crate) fn waits_behind_subscribe(&mut self, conn: ConnId, channel: &str, body: &Body<'_>) -> bool {
        if self.sessions[conn.index()].pending == 0 {
            return false;
        }
        let Some(sub) = self.subscription(conn, channel).filter(|&sub| self.feeds.get(sub).is_pending()) else {
            return false;
        };
        if let Body::Publish { .. } = body
            && !self.namespace_of(channel).is_ok_and(|namespace| namespace.allow_publish_for_subscriber)
        {
            return false;
        }
        if let Some(waiting) = self.waiting.get_mut(&sub) {
            waiting.holds = true;
        }
        true
    }
}

/// Why a subscription token is of no use.
pub(crate) enum TokenFault {
    Expired,
    Invalid,
    /// It is good, and for another channel, user or client.
    Foreign,
    Key {
        kid: String,
    },
}
