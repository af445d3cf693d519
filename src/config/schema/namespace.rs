//! `channel.without_namespace` and `channel.namespaces`: what is allowed and kept in the channels of a namespace.
//!
//! Invariants of a checked configuration: inherited settings (`history_meta_ttl`, `publication_data_format`) have their value.

use std::time::Duration;

use regex::Regex;

use super::proxy::{DEFAULT_PROXY, ProxyUse};
use super::section::section;
use crate::config::parse::enums::{DeltaTypes, Word, Words};
use crate::config::parse::scalar::{Bool, Bytes, Count, Pattern, Text, Time};
use crate::slow_policy::SlowConsumerPolicy;

section! {
    /// A namespace.
    #[derive(Clone, Debug)]
    pub struct Namespace {
        /// Indices into `Config.proxies`, from the settings `*_proxy_*`.
        pub subscribe_proxy: Option<u16> = None,
        pub publish_proxy: Option<u16> = None,
        pub sub_refresh_proxy: Option<u16> = None,
    }

    /// The part of channel names before channel.namespace_boundary: two or more letters, digits, -, _ and dots. Empty for
    /// channels without a namespace.
    name: String as Text = String::new(), in_list;

    /// Keep the list of subscribers, for presence calls. Costs memory per subscriber.
    presence: bool as Bool = false;

    /// Tell subscribers when another client subscribes or unsubscribes. Not for large channels: each event goes to every
    /// subscriber.
    join_leave: bool as Bool = false;

    /// Send these events also to subscribers that did not ask for them.
    force_push_join_leave: bool as Bool = false;

    /// Publications kept per channel. 0: no history. Needs history_ttl.
    history_size: u32 as Count = 0;

    /// Time that publications are kept, in whole seconds. Needs history_size.
    history_ttl: Duration as Time = Duration::ZERO;

    /// Time that the offset and the epoch are kept; at least history_ttl. 0: the value of channel.history_meta_ttl.
    history_meta_ttl: Duration as Time = Duration::ZERO, inherits;

    /// Send the time of publishing (`time`, in milliseconds since 1970) with every publication: to clients, and in the history
    /// over the server API. Centrifugo does not send it; it takes 9 bytes of a push in Protobuf and 21 in JSON.
    publication_time: bool as Bool = false;

    /// What the history survives: "memory" nothing; "process" the end of the process, and a crash of the machine up to
    /// durable.sync_interval before it; "strict" also that, since nothing is delivered before it is synced. The last two need
    /// durable.enabled.
    durability: Durability as Word = Durability::Memory, restart;

    /// Let history_query find the publications of a user, the publisher. About 16 bytes of disk per publication. Needs a
    /// durability other than memory.
    history_index_user: bool as Bool = false;

    /// The tag by which history_query finds publications, such as "order_id". About 16 bytes of disk per publication that has it.
    /// Empty: none. Needs a durability other than memory.
    history_index_tag: String as Text = String::new();

    /// Track the position of every subscriber, so that a missed publication does not go unnoticed.
    force_positioning: bool as Bool = false;

    /// Track the position of subscribers that ask for it.
    allow_positioning: bool as Bool = false;

    /// Send every returning subscriber the publications it missed. Needs a history.
    force_recovery: bool as Bool = false;

    /// Send them to returning subscribers that ask for it.
    allow_recovery: bool as Bool = false;

    /// What recovery returns: "stream" or "" all missed publications, "cache" only the latest publication.
    force_recovery_mode: RecoveryMode as Word = RecoveryMode::Stream;

    /// Send the latest publication with every subscription. Needs force_recovery and the mode "cache".
    auto_cache_recover: bool as Bool = false;

    /// Deltas that subscribers may ask for instead of whole publications: ["fossil"] or [].
    allow_delta: bool as DeltaTypes = false, named("allowed_delta_types");

    /// Make deltas of every publication, even if the publisher does not ask for them.
    delta_publish: bool as Bool = false;

    /// Let subscribers filter publications by tags.
    allow_tags_filter: bool as Bool = false;

    /// Let any user subscribe. Otherwise a subscribe command without a token gets error 103.
    allow_subscribe_for_client: bool as Bool = false;

    /// Let the anonymous user subscribe too; needs the setting before.
    allow_subscribe_for_anonymous: bool as Bool = false;

    /// Let any user publish. Otherwise a publish command gets error 103.
    allow_publish_for_client: bool as Bool = false;

    /// Let subscribers of the channel publish.
    allow_publish_for_subscriber: bool as Bool = false;

    /// Let the anonymous user publish too; needs one of the two settings before.
    allow_publish_for_anonymous: bool as Bool = false;

    /// Let any user ask for presence. Otherwise a presence command gets error 103.
    allow_presence_for_client: bool as Bool = false;

    /// Let subscribers of the channel ask for presence.
    allow_presence_for_subscriber: bool as Bool = false;

    /// Let the anonymous user ask for presence too; needs one of the two settings before.
    allow_presence_for_anonymous: bool as Bool = false;

    /// Let any user read the history. Otherwise a history command gets error 103.
    allow_history_for_client: bool as Bool = false;

    /// Let subscribers of the channel read the history.
    allow_history_for_subscriber: bool as Bool = false;

    /// Let the anonymous user read the history too; needs one of the two settings before.
    allow_history_for_anonymous: bool as Bool = false;

    /// Let a user find its own publications of the past across the channels of the namespace, with the rpc method
    /// corecast.history_query. Needs history_index_user. It asks about no channel, so that publications in channels which the
    /// user may no longer read are found too.
    allow_history_query_for_client: bool as Bool = false;

    /// Let users subscribe to channels whose name lists them, such as dialog#42,43.
    allow_user_limited_channels: bool as Bool = false;

    /// A pattern that channel names must match, without the namespace; others get error 107. Empty: names must be ASCII.
    channel_regex: Option<Regex> as Pattern = None;

    /// The same as channel.publication_data_format, for this namespace. Empty: the value of that setting.
    publication_data_format: DataFormat as Word = DataFormat::Any;

    /// What happens to publications for a subscriber that does not read: "close" keeps them, and past client.queue_max_size the
    /// connection closes with 3008; "drop_oldest" drops the oldest; "keep_latest" keeps only the newest. A subscriber with a
    /// position then unsubscribes with 2500, subscribes again and recovers, except with force_recovery_mode = "cache". A reload
    /// applies it to channels without subscribers.
    slow_consumer: SlowConsumer as Word = SlowConsumer::Close;

    /// With drop_oldest: bytes of one channel that may wait for one subscriber. 0: client.queue_max_size, for all channels of
    /// the connection together.
    slow_consumer_bytes_max: usize as Bytes = 0;

    /// Ask a backend whether a client may subscribe.
    subscribe_proxy_enabled: bool as Bool = false;

    /// The name of one of proxies; "default" means channel.proxy.subscribe.
    subscribe_proxy_name: String as Text = DEFAULT_PROXY.into();

    /// Ask a backend whether a client may publish.
    publish_proxy_enabled: bool as Bool = false;

    /// The name of one of proxies; "default" means channel.proxy.publish.
    publish_proxy_name: String as Text = DEFAULT_PROXY.into();

    /// Ask a backend whether an expiring subscription may continue.
    sub_refresh_proxy_enabled: bool as Bool = false;

    /// The name of one of proxies; "default" means channel.proxy.sub_refresh.
    sub_refresh_proxy_name: String as Text = DEFAULT_PROXY.into();
}

/// What a history survives.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Durability {
    #[default]
    Memory,
    /// The end of the process.
    Process,
    /// A power loss.
    Strict,
}

impl Words for Durability {
    const WORDS: &'static [(&'static str, Self)] =
        &[("memory", Self::Memory), ("process", Self::Process), ("strict", Self::Strict)];
}

/// What publications are for a subscriber that recovers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum RecoveryMode {
    #[default]
    Stream,
    /// Only the latest publication.
    Cache,
}

impl Words for RecoveryMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("", Self::Stream), ("stream", Self::Stream), ("cache", Self::Cache)];
}

/// What happens to publications for a subscriber that does not read.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum SlowConsumer {
    /// They wait, and past `client.queue_max_size` the connection closes with 3008.
    #[default]
    Close,
    DropOldest,
    KeepLatest,
}

impl Words for SlowConsumer {
    const WORDS: &'static [(&'static str, Self)] =
        &[("close", Self::Close), ("drop_oldest", Self::DropOldest), ("keep_latest", Self::KeepLatest)];
}

/// The format that a publication's data must have.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum DataFormat {
    /// Anything but empty data.
    #[default]
    Any,
    Json,
    JsonObject,
    /// Anything, also empty data.
    Binary,
}

impl Words for DataFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("", Self::Any), ("json", Self::Json), ("json_object", Self::JsonObject), ("binary", Self::Binary)];
}

/// The holders of a permission: the three parts of `allow_*_for_*`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Clients with a user id.
    pub client: bool,
    /// Subscribers of the channel.
    pub subscriber: bool,
    /// Clients without a user id, together with one of the others.
    pub anonymous: bool,
}

impl Namespace {
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    pub fn slow_policy(&self) -> SlowConsumerPolicy {
        let bytes_max = match self.slow_consumer_bytes_max {
            0 => u32::MAX,
            bytes => u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        match self.slow_consumer {
            SlowConsumer::Close => SlowConsumerPolicy::Close,
            SlowConsumer::DropOldest => SlowConsumerPolicy::DropOldest { bytes_max },
            SlowConsumer::KeepLatest => SlowConsumerPolicy::KeepLatest,
        }
    }

    pub fn subscribe(&self) -> Allowed {
        let (client, anonymous) = (self.allow_subscribe_for_client, self.allow_subscribe_for_anonymous);
        Allowed { client, subscriber: false, anonymous }
    }

    pub fn publish(&self) -> Allowed {
        Allowed {
            client: self.allow_publish_for_client,
            subscriber: self.allow_publish_for_subscriber,
            anonymous: self.allow_publish_for_anonymous,
        }
    }

    pub fn presence_calls(&self) -> Allowed {
        Allowed {
            client: self.allow_presence_for_client,
            subscriber: self.allow_presence_for_subscriber,
            anonymous: self.allow_presence_for_anonymous,
        }
    }

    pub fn history_calls(&self) -> Allowed {
        Allowed {
            client: self.allow_history_for_client,
            subscriber: self.allow_history_for_subscriber,
            anonymous: self.allow_history_for_anonymous,
        }
    }

    pub fn subscribe_proxy_use(&self) -> ProxyUse<'_> {
        ProxyUse { enabled: self.subscribe_proxy_enabled, name: &self.subscribe_proxy_name }
    }

    pub fn publish_proxy_use(&self) -> ProxyUse<'_> {
        ProxyUse { enabled: self.publish_proxy_enabled, name: &self.publish_proxy_name }
    }

    pub fn sub_refresh_proxy_use(&self) -> ProxyUse<'_> {
        ProxyUse { enabled: self.sub_refresh_proxy_enabled, name: &self.sub_refresh_proxy_name }
    }
}
