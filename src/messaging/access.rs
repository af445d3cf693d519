//! What a client may do in a channel. The order of the checks is Centrifugo's, and so are the errors: a private prefix
//! requires a token; a token decides alone; then the user in the channel's name, the backend, the namespace. The hooks of a
//! program that embeds the server can deny what these permit.

use super::hooks::HookClient;
use super::session::{Session, millis};
use super::settings::Settings;
use crate::auth::grant::{Overrides, SubscribeGrant};
use crate::broker::message::{Durability, LogFields};
use crate::config::{self, Namespace, RecoveryMode, SlowConsumer};
use crate::protocol::{ErrorCode, RawClientInfo, Tags};
use crate::pubsub::{HistoryOptions, SubscriptionFlags};
use crate::slow_policy::SlowConsumerPolicy;

/// The options of one subscription: those of the namespace, with what was granted and requested.
#[derive(Clone, Default)]
pub(crate) struct SubscriptionOptions {
    pub flags: SubscriptionFlags,
    /// It gets join and leave pushes.
    pub join_leave: bool,
    pub cache: bool,
    /// It gets the latest publication without requesting recovery.
    pub auto_cache: bool,
    pub allow_delta: bool,
    pub slow_policy: SlowConsumerPolicy,
    pub allow_filter: bool,
    pub chan_info: Vec<u8>,
    pub data: Vec<u8>,
    /// Seconds since 1970; `None` for never.
    pub expire_at: Option<u64>,
}

impl SubscriptionOptions {
    pub(super) fn new(namespace: &Namespace, overrides: Overrides) -> Self {
        let or = |own: Option<bool>, default| own.unwrap_or(default);
        let recovery = or(overrides.force_recovery, namespace.force_recovery);
        let positioning = or(overrides.force_positioning, namespace.force_positioning);
        let cache = namespace.force_recovery_mode == RecoveryMode::Cache;
        let mut flags = SubscriptionFlags::empty();
        flags.set(SubscriptionFlags::PRESENCE, or(overrides.presence, namespace.presence));
        flags.set(SubscriptionFlags::JOIN_LEAVE, or(overrides.join_leave, namespace.join_leave));
        flags.set(SubscriptionFlags::POSITIONED, positioning || recovery);
        flags.set(SubscriptionFlags::RECOVERABLE, recovery);
        flags.set(SubscriptionFlags::CACHE, cache);
        Self {
            flags,
            join_leave: or(overrides.force_push_join_leave, namespace.force_push_join_leave),
            cache,
            auto_cache: cache && namespace.auto_cache_recover,
            // This policy drops publications that a delta would be applied to.
            allow_delta: namespace.allow_delta && namespace.slow_consumer != SlowConsumer::KeepLatest,
            slow_policy: namespace.slow_policy(),
            allow_filter: namespace.allow_tags_filter,
            ..Self::default()
        }
    }

    pub(super) fn granted(namespace: &Namespace, grant: SubscribeGrant) -> Self {
        let SubscribeGrant { info, data, expire_at, overrides } = grant;
        Self { chan_info: info, data, expire_at, ..Self::new(namespace, overrides) }
    }
}

/// What a subscribe command still needs.
pub(crate) enum SubscribePermission {
    Granted,
    /// The answer of this proxy's backend.
    Backend(u16),
    /// A valid token.
    Token,
}

impl Settings {
    /// The namespace of a channel. An error if the settings have no such namespace.
    pub(crate) fn namespace_of(&self, channel: &str) -> Result<&Namespace, ErrorCode> {
        self.namespace(channel).map(|(_, namespace)| namespace).ok_or(ErrorCode::UnknownChannel)
    }

    /// The namespace of a channel whose name is valid.
    pub(crate) fn checked_namespace(&self, channel: &str) -> Result<&Namespace, ErrorCode> {
        if channel.len() > self.channel.max_length {
            return Err(ErrorCode::BadRequest);
        }
        let namespace = self.namespace_of(channel)?;
        if self.channel.name_fits(channel, namespace) { Ok(namespace) } else { Err(ErrorCode::BadRequest) }
    }

    pub(crate) fn may_subscribe(
        &self,
        session: &Session,
        channel: &str,
        token: &str,
    ) -> Result<SubscribePermission, ErrorCode> {
        let namespace = self.checked_namespace(channel)?;
        let user = session.user();
        let private = self.channel.is_private(channel);
        if private && token.is_empty() {
            return Err(ErrorCode::PermissionDenied);
        }
        if !token.is_empty() {
            return Ok(SubscribePermission::Token);
        }
        // The name is only searched for users if the namespace says so.
        let limited = namespace.allow_user_limited_channels.then(|| self.channel.user_allowed(channel, user));
        match limited.flatten() {
            Some(true) => return Ok(SubscribePermission::Granted),
            Some(false) => {}
            None => {
                if let Some(proxy) = namespace.subscribe_proxy {
                    return Ok(SubscribePermission::Backend(proxy));
                }
                if namespace.allow_subscribe_for_client && user_counts(user, namespace.allow_subscribe_for_anonymous) {
                    return Ok(SubscribePermission::Granted);
                }
            }
        }
        if self.client.insecure { Ok(SubscribePermission::Granted) } else { Err(ErrorCode::PermissionDenied) }
    }

    /// Whether the connect command may request this channel as a server-side subscription.
    pub(crate) fn may_subscribe_at_connect(&self, user: &str, channel: &str) -> bool {
        let Ok(namespace) = self.checked_namespace(channel) else { return false };
        if self.channel.is_private(channel) || namespace.subscribe_proxy.is_some() {
            return false;
        }
        let limited = namespace.allow_user_limited_channels.then(|| self.channel.user_allowed(channel, user));
        match limited.flatten() {
            Some(true) => true,
            None if namespace.allow_subscribe_for_client => {
                user_counts(user, namespace.allow_subscribe_for_anonymous) || self.client.insecure
            }
            _ => self.client.insecure,
        }
    }

    /// Whether the hooks allow a subscription that a client requests and may have.
    pub(crate) fn hooks_allow_subscribe(&self, client: &RawClientInfo<'_>, channel: &str) -> bool {
        self.hooks.as_ref().is_none_or(|hooks| {
            let mut text = uuid::Uuid::encode_buffer();
            hooks.authorize_subscribe(&HookClient::new(client, &mut text), channel).is_ok()
        })
    }

    pub(crate) fn may_publish(&self, session: &Session, namespace: &Namespace, subscribed: bool) -> bool {
        let counts = user_counts(session.user(), namespace.allow_publish_for_anonymous);
        namespace.allow_publish_for_client && counts
            || namespace.allow_publish_for_subscriber && subscribed && counts
            || self.client.insecure
    }

    pub(crate) fn may_see_presence(&self, session: &Session, namespace: &Namespace, subscribed: bool) -> bool {
        let counts = user_counts(session.user(), namespace.allow_presence_for_anonymous);
        namespace.allow_presence_for_client && counts
            || namespace.allow_presence_for_subscriber && subscribed && counts
            || self.client.insecure
    }

    pub(crate) fn may_see_history(&self, session: &Session, namespace: &Namespace, subscribed: bool) -> bool {
        let counts = user_counts(session.user(), namespace.allow_history_for_anonymous);
        namespace.allow_history_for_client && counts
            || namespace.allow_history_for_subscriber && subscribed && counts
            || self.client.insecure
    }

    /// Whether the clients of a channel get the time of publishing.
    pub(crate) fn sends_time_in(&self, channel: &str) -> bool {
        self.namespace(channel).is_some_and(|(_, namespace)| namespace.publication_time)
    }

    /// Whether the log has the channel.
    pub(crate) fn is_durable(&self, channel: &str) -> bool {
        self.namespace(channel).is_some_and(|(_, namespace)| namespace.durability != config::Durability::Memory)
    }

    /// What the log has to know of a publication. `None`: its channel is not durable.
    pub(crate) fn log_fields(&self, channel: &str, client_info: &[u8], tags: &[u8]) -> Option<LogFields> {
        let (_, namespace) = self.namespace(channel)?;
        let durability = match namespace.durability {
            config::Durability::Memory => return None,
            config::Durability::Process => Durability::Process,
            config::Durability::Strict => Durability::Strict,
        };
        let has_user = namespace.history_index_user && !client_info.is_empty();
        let user = if has_user { RawClientInfo::unpack(client_info).user.into() } else { Box::default() };
        let tag = match &*namespace.history_index_tag {
            "" => "",
            key => Tags::from_bytes(tags).get(key).unwrap_or_default(),
        };
        Some(LogFields { durability, user, tag: tag.into() })
    }

    /// How the stream of a channel is retained.
    pub(crate) fn history_options(&self, channel: &str) -> HistoryOptions {
        self.channel_options(channel).0
    }

    /// The same, with what `sends_time_in` says.
    pub(crate) fn channel_options(&self, channel: &str) -> (HistoryOptions, bool) {
        let Some((number, namespace)) = self.namespace(channel) else { return Default::default() };
        let meta = namespace.history_meta_ttl;
        let options = HistoryOptions {
            namespace: u16::try_from(number).unwrap_or(u16::MAX),
            size: namespace.history_size,
            ttl_ms: millis(namespace.history_ttl),
            meta_ttl_ms: millis(if meta.is_zero() { self.channel.history_meta_ttl } else { meta }),
        };
        (options, namespace.publication_time)
    }
}

/// An anonymous user has the permission only if the namespace says so.
fn user_counts(user: &str, anonymous: bool) -> bool {
    !user.is_empty() || anonymous
}
