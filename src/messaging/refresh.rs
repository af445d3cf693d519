//! What ends by time, and how it is renewed: connections and subscriptions, by the client's token or by the backend.
//!
//! Who is renewed by his own token has a grace behind the end; whom the backend renews is asked about at the end.

use super::commands::Done;
use super::connect::LIFETIME_S_MAX;
use super::proxy_calls::{Reason, Waits};
use super::session::Identity;
use super::subscribe::TokenFault;
use super::{Mail, Messaging};
use crate::auth::TokenError;
use crate::auth::grant::{ConnectGrant, RefreshGrant};
use crate::backend::call::Question;
use crate::engine::Context;
use crate::ids::{ConnId, SubscriptionKey};
use crate::protocol::{Disconnect, ErrorCode, Expiry, Push, Reply, Unsubscribed};
use crate::pubsub::SubscriptionFlags;

impl Messaging {
    /// When the connection's end must be looked at, in seconds since 1970.
    pub(crate) fn connection_ends(&self, identity: &Identity) -> Option<u64> {
        (identity.expire_at > 0).then(|| identity.expire_at + self.grace_s())
    }

    fn grace_s(&self) -> u64 {
        match self.settings.refresh_proxy {
            None => self.settings.client.expired_close_delay.as_secs(),
            Some(_) => 0,
        }
    }

    pub(crate) fn subscription_ends(&self, identity: &Identity) -> Option<u64> {
        (identity.subs_expire_at > 0).then_some(identity.subs_expire_at)
    }

    /// A subscription's end is to be watched.
    pub(crate) fn watch_subscription(&mut self, cx: &mut Context<Mail>, conn: ConnId, expire_at: u64) {
        let end = expire_at + self.settings.client.expired_sub_close_delay.as_secs();
        let identity = self.session(conn).identity.get_or_insert_default();
        if identity.subs_expire_at == 0 || end < identity.subs_expire_at {
            identity.subs_expire_at = end;
            if self.session(conn).phase == super::Phase::Connected {
                self.arm(cx, conn);
            }
        }
    }

    /// Ends what is over. False where that is the connection.
    pub(crate) fn check_expiry(&mut self, cx: &mut Context<Mail>, conn: ConnId) -> bool {
        let now = self.unix_s(cx);
        let Some(identity) = &self.session(conn).identity else { return true };
        let (expire_at, subs_expire_at) = (identity.expire_at, identity.subs_expire_at);
        if expire_at > 0 && expire_at + self.grace_s() <= now && !self.connection_over(cx, conn) {
            return false;
        }
        if subs_expire_at > 0 && subs_expire_at <= now {
            self.end_expired_subscriptions(cx, conn, now);
        }
        cx.is_open(conn)
    }

    /// False where the connection closes; true where the backend is asked.
    fn connection_over(&mut self, cx: &mut Context<Mail>, conn: ConnId) -> bool {
        let Some(proxy) = self.settings.refresh_proxy else {
            self.close(cx, conn, Disconnect::ConnectionExpired);
            return false;
        };
        // Not asked again before this question is answered: the answer sets the next end.
        if let Some(identity) = &mut self.session(conn).identity {
            identity.expire_at = 0;
        }
        let waits = Waits { id: 0, raw: Box::default(), reason: Reason::ServerRefresh };
        self.call(cx, conn, proxy, Question::Refresh, waits) != Done::Ended
    }

    fn end_expired_subscriptions(&mut self, cx: &mut Context<Mail>, conn: ConnId, now: u64) {
        let grace = self.settings.client.expired_sub_close_delay.as_secs();
        let subs: Vec<SubscriptionKey> = self.feeds.of_connection(self.sessions[conn.index()].first_sub).collect();
        let mut next = 0;
        for sub in subs {
            let Some(end) = self.feeds.get(sub).detail().map(|d| d.expire_at).filter(|&at| at > 0).map(|at| at + grace)
            else {
                continue;
            };
            if end > now {
                next = if next == 0 { end } else { end.min(next) };
            } else if let Some(proxy) = self.sub_refresh_proxy(sub) {
                let channel = self.feeds.get(sub).channel().clone();
                if let Some(detail) = self.feeds.detail_mut(sub) {
                    detail.expire_at = 0;
                }
                let reason = Reason::ServerSubRefresh { channel: channel.as_ref().into() };
                let waits = Waits { id: 0, raw: Box::default(), reason };
                self.call(cx, conn, proxy, Question::SubRefresh { channel: channel.to_string() }, waits);
            } else if self.feeds.get(sub).flags().contains(SubscriptionFlags::SERVER_SIDE) {
                return self.close(cx, conn, Disconnect::SubscriptionExpired);
            } else {
                self.unsubscribe_by_server(cx, conn, sub, Unsubscribed::Expired);
            }
        }
        if let Some(identity) = &mut self.session(conn).identity {
            identity.subs_expire_at = next;
        }
    }

    /// The backend that renews a subscription, where the client does not.
    fn sub_refresh_proxy(&self, sub: SubscriptionKey) -> Option<u16> {
        if self.feeds.get(sub).flags().contains(SubscriptionFlags::CLIENT_REFRESH) {
            return None;
        }
        self.namespace_of(self.feeds.get(sub).channel()).ok()?.sub_refresh_proxy
    }

    /// A client brings a new token for its connection.
    pub(crate) fn refresh(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        token: &str,
        raw: &[u8],
        again: bool,
    ) -> Done {
        if token.is_empty() || self.settings.refresh_proxy.is_some() {
            return self.end(cx, conn, Disconnect::BadRequest);
        }
        if !again && !self.may_check(token, false) {
            return Done::NoRoom;
        }
        match self.settings.connect_token(token, &self.keys, self.unix_s(cx)) {
            Ok(grant) if grant.user != self.session(conn).user() => self.end(cx, conn, Disconnect::InvalidToken),
            Ok(grant) if self.channels_changed(conn, &grant) => self.end(cx, conn, Disconnect::InsufficientState),
            Ok(ConnectGrant { expire_at, info, meta, .. }) => {
                let renewal = RefreshGrant { expired: false, expire_at, info, meta };
                self.renewed(cx, conn, Some(id), renewal)
            }
            Err(TokenError::Expired) => self.end(cx, conn, Disconnect::ConnectionExpired),
            Err(TokenError::UnknownKey { kid }) if !again => {
                let waits = Waits { id, raw: raw.into(), reason: Reason::RefreshKey };
                self.call(cx, conn, 0, Question::Keys { subscription: false, kid }, waits)
            }
            Err(_) => {
                cx.counters.tokens_refused += 1;
                self.end(cx, conn, Disconnect::InvalidToken)
            }
        }
    }

    /// Whether the token names other channels than those that the connection has from its token: then it begins anew.
    fn channels_changed(&self, conn: ConnId, grant: &ConnectGrant) -> bool {
        let first = self.sessions[conn.index()].first_sub;
        let missing = grant.subs.iter().any(|(channel, _)| self.feeds.find(first, channel).is_none());
        missing
            || self.feeds.of_connection(first).any(|sub| {
                let subscription = self.feeds.get(sub);
                subscription.flags().contains(SubscriptionFlags::FROM_TOKEN)
                    && grant.subs.iter().all(|(channel, _)| **channel != **subscription.channel())
            })
    }

    /// A connection is renewed, or ends. `id`: the command that asked, if one did.
    pub(crate) fn renewed(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: Option<u32>,
        renewal: RefreshGrant,
    ) -> Done {
        if renewal.expired {
            return self.end(cx, conn, Disconnect::ConnectionExpired);
        }
        let now = self.unix_s(cx);
        let expire_at = renewal.expire_at.map_or(0, |at| at.min(now + LIFETIME_S_MAX));
        if expire_at > 0 && expire_at <= now {
            return match id {
                Some(id) => self.refuse(cx, conn, id, ErrorCode::Expired),
                None => self.end(cx, conn, Disconnect::ConnectionExpired),
            };
        }
        let identity = self.session(conn).identity.get_or_insert_default();
        identity.expire_at = expire_at;
        if !renewal.info.is_empty() {
            identity.info = renewal.info.into();
        }
        if !renewal.meta.is_empty() {
            identity.meta = renewal.meta.into();
        }
        self.arm(cx, conn);
        if let Some(id) = id {
            let expiry = Expiry::at(expire_at, now);
            self.reply(cx, conn, id, &Reply::Refresh { client: "", version: "", expiry });
        }
        Done::Yes
    }

    /// A client brings a new token for one subscription.
    #[allow(clippy::too_many_arguments)] // one command, spread out
    pub(crate) fn sub_refresh(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        id: u32,
        channel: &str,
        token: &str,
        raw: &[u8],
        again: bool,
    ) -> Done {
        let Some(sub) = self.subscription(conn, channel) else {
            return self.refuse(cx, conn, id, ErrorCode::PermissionDenied);
        };
        if !self.feeds.get(sub).flags().contains(SubscriptionFlags::CLIENT_REFRESH) {
            return self.end(cx, conn, Disconnect::BadRequest);
        }
        if token.is_empty() {
            return self.refuse(cx, conn, id, ErrorCode::BadRequest);
        }
        if !again && !self.may_check(token, true) {
            return Done::NoRoom;
        }
        match self.subscription_token(cx, conn, channel, token) {
            Ok(grant) => {
                let renewal = RefreshGrant { expire_at: grant.expire_at, info: grant.info, ..RefreshGrant::default() };
                self.sub_renewed(cx, conn, sub, Some(id), renewal)
            }
            // The original takes it, and the subscription never expires again: that is not followed.
            Err(TokenFault::Expired) => self.refuse(cx, conn, id, ErrorCode::TokenExpired),
            Err(TokenFault::Key { kid }) if !again => {
                let waits = Waits { id, raw: raw.into(), reason: Reason::SubRefreshKey };
                self.call(cx, conn, 0, Question::Keys { subscription: true, kid }, waits)
            }
            Err(_) => self.end(cx, conn, Disconnect::InvalidToken),
        }
    }

    pub(crate) fn sub_renewed(
        &mut self,
        cx: &mut Context<Mail>,
        conn: ConnId,
        sub: SubscriptionKey,
        id: Option<u32>,
        renewal: RefreshGrant,
    ) -> Done {
        let now = self.unix_s(cx);
        let expire_at = renewal.expire_at.unwrap_or(0);
        if renewal.expired || expire_at > 0 && expire_at <= now {
            return match id {
                Some(id) => self.refuse(cx, conn, id, ErrorCode::Expired),
                None => self.subscription_over(cx, conn, sub),
            };
        }
        let detail = self.feeds.detail_mut(sub).get_or_insert_default();
        detail.expire_at = expire_at;
        if !renewal.info.is_empty() {
            detail.info = renewal.info.into();
        }
        if expire_at > 0 {
            self.watch_subscription(cx, conn, expire_at);
        }
        if let Some(id) = id {
            self.reply(cx, conn, id, &Reply::SubRefresh(Expiry::at(expire_at, now)));
        }
        Done::Yes
    }

    /// A subscription that was not renewed ends, and with one of the server's own the connection.
    pub(crate) fn subscription_over(&mut self, cx: &mut Context<Mail>, conn: ConnId, sub: SubscriptionKey) -> Done {
        if self.feeds.get(sub).flags().contains(SubscriptionFlags::SERVER_SIDE) {
            return self.end(cx, conn, Disconnect::SubscriptionExpired);
        }
        self.unsubscribe_by_server(cx, conn, sub, Unsubscribed::Expired);
        Done::Yes
    }

    /// The server API renews a connection: the client is told in a push.
    pub(crate) fn renewed_by_server(&mut self, cx: &mut Context<Mail>, conn: ConnId, renewal: RefreshGrant) {
        if self.renewed(cx, conn, None, renewal) != Done::Yes {
            return;
        }
        let now = self.unix_s(cx);
        let expire_at = self.session(conn).identity.as_ref().map_or(0, |identity| identity.expire_at);
        let expiry = Expiry::at(expire_at, now);
        self.push(cx, conn, |encoding, out| encoding.push(out, "", &Push::Refresh(expiry)));
    }
}
