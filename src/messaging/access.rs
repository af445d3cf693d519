//! Who may do what in a channel: the order of the questions is the original's, and so is each answer (PROTOCOL: a private
//! prefix needs a token; a token decides alone; then the user in the name, the backend, the namespace).

use super::Messaging;
use super::session::Session;
use crate::auth::grant::{Overrides, SubscribeGrant};
use crate::config::{Namespace, RecoveryMode, SlowConsumer};
use crate::protocol::ErrorCode;
use crate::pubsub::{StreamOptions, flag};
use crate::slow_policy::SlowConsumerPolicy;

use super::session::millis;

/// What a subscription will be: the namespace's word, with what was granted and asked for.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub flags: u16,
    /// Joins and leaves of others are told to it.
    pub join_leave: bool,
    pub cache: bool,
    /// The latest publication comes without being asked for.
    pub auto_cache: bool,
    pub allow_delta: bool,
    pub slow: SlowConsumerPolicy,
    pub allow_filter: bool,
    pub chan_info: Vec<u8>,
    pub data: Vec<u8>,
    /// Seconds since 1970; 0 is never.
    pub expire_at: u64,
}

impl Options {
    pub fn new(namespace: &Namespace, overrides: Overrides) -> Self {
        let or = |own: Option<bool>, default| own.unwrap_or(default);
        let recovery = or(overrides.force_recovery, namespace.force_recovery);
        let positioning = or(overrides.force_positioning, namespace.force_positioning);
        let cache = namespace.force_recovery_mode == RecoveryMode::Cache;
        let mut flags = 0;
        for (set, bit) in [
            (or(overrides.presence, namespace.presence), flag::PRESENCE),
            (or(overrides.join_leave, namespace.join_leave), flag::JOIN_LEAVE),
            (positioning || recovery, flag::POSITIONED),
            (recovery, flag::RECOVERABLE),
            (cache, flag::CACHE),
        ] {
            flags |= if set { bit } else { 0 };
        }
        Self {
            flags,
            join_leave: or(overrides.force_push_join_leave, namespace.force_push_join_leave),
            cache,
            auto_cache: cache && namespace.auto_cache_recover,
            // What stays must be readable without what went.
            allow_delta: namespace.allow_delta && namespace.slow_consumer != SlowConsumer::KeepLatest,
            slow: namespace.slow_policy(),
            allow_filter: namespace.allow_tags_filter,
            ..Self::default()
        }
    }

    pub fn granted(namespace: &Namespace, grant: SubscribeGrant) -> Self {
        let SubscribeGrant { info, data, expire_at, overrides } = grant;
        Self { chan_info: info, data, expire_at: expire_at.unwrap_or(0), ..Self::new(namespace, overrides) }
    }
}

/// Who decides about a subscribe.
pub(crate) enum Verdict {
    Allowed,
    /// The backend of this proxy.
    Ask(u16),
    Token,
}

impl Messaging {
    /// The options of a channel's namespace, or why there are none.
    pub(crate) fn namespace_of(&self, channel: &str) -> Result<&Namespace, ErrorCode> {
        self.settings.namespace(channel).map(|(_, namespace)| namespace).ok_or(ErrorCode::UnknownChannel)
    }

    /// A name that may be one of ours, and its namespace.
    pub(crate) fn checked(&self, channel: &str) -> Result<&Namespace, ErrorCode> {
        if channel.len() > self.settings.channel.max_length {
            return Err(ErrorCode::BadRequest);
        }
        let namespace = self.namespace_of(channel)?;
        if self.settings.channel.name_fits(channel, namespace) { Ok(namespace) } else { Err(ErrorCode::BadRequest) }
    }

    pub(crate) fn may_subscribe(&self, session: &Session, channel: &str, token: &str) -> Result<Verdict, ErrorCode> {
        let namespace = self.checked(channel)?;
        let user = session.user();
        let private = self.settings.channel.is_private(channel);
        if private && token.is_empty() {
            return Err(ErrorCode::PermissionDenied);
        }
        if !token.is_empty() {
            return Ok(Verdict::Token);
        }
        // Only where the namespace knows users in names are they looked at.
        let limited = namespace.allow_user_limited_channels.then(|| self.settings.channel.user_allowed(channel, user));
        match limited.flatten() {
            Some(true) => return Ok(Verdict::Allowed),
            Some(false) => {}
            None => {
                if let Some(proxy) = namespace.subscribe_proxy {
                    return Ok(Verdict::Ask(proxy));
                }
                if namespace.allow_subscribe_for_client && known(user, namespace.allow_subscribe_for_anonymous) {
                    return Ok(Verdict::Allowed);
                }
            }
        }
        if self.settings.client.insecure { Ok(Verdict::Allowed) } else { Err(ErrorCode::PermissionDenied) }
    }

    /// What a client may ask for at its connect, as a server-side subscription.
    pub(crate) fn may_join_at_connect(&self, user: &str, channel: &str) -> bool {
        let Ok(namespace) = self.checked(channel) else { return false };
        if self.settings.channel.is_private(channel) || namespace.subscribe_proxy.is_some() {
            return false;
        }
        let limited = namespace.allow_user_limited_channels.then(|| self.settings.channel.user_allowed(channel, user));
        match limited.flatten() {
            Some(true) if !user.is_empty() => true,
            None if namespace.allow_subscribe_for_client => {
                known(user, namespace.allow_subscribe_for_anonymous) || self.settings.client.insecure
            }
            _ => self.settings.client.insecure,
        }
    }

    pub(crate) fn may_publish(&self, session: &Session, namespace: &Namespace, subscribed: bool) -> bool {
        let known = known(session.user(), namespace.allow_publish_for_anonymous);
        namespace.allow_publish_for_client && known
            || namespace.allow_publish_for_subscriber && subscribed && known
            || self.settings.client.insecure
    }

    pub(crate) fn may_see_presence(&self, session: &Session, namespace: &Namespace, subscribed: bool) -> bool {
        let known = known(session.user(), namespace.allow_presence_for_anonymous);
        namespace.allow_presence_for_client && known
            || namespace.allow_presence_for_subscriber && subscribed && known
            || self.settings.client.insecure
    }

    pub(crate) fn may_see_history(&self, session: &Session, namespace: &Namespace, subscribed: bool) -> bool {
        let known = known(session.user(), namespace.allow_history_for_anonymous);
        namespace.allow_history_for_client && known
            || namespace.allow_history_for_subscriber && subscribed && known
            || self.settings.client.insecure
    }

    /// How the stream of a channel is kept.
    pub(crate) fn stream_options(&self, channel: &str) -> StreamOptions {
        let Some((_, namespace)) = self.settings.namespace(channel) else { return StreamOptions::default() };
        let meta = namespace.history_meta_ttl;
        StreamOptions {
            size: namespace.history_size,
            ttl: millis(namespace.history_ttl),
            meta_ttl: millis(if meta.is_zero() { self.settings.channel.history_meta_ttl } else { meta }),
        }
    }
}

/// An anonymous user counts only where the namespace says so.
fn known(user: &str, anonymous: bool) -> bool {
    !user.is_empty() || anonymous
}
