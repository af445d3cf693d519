//! The `channel` section: how a channel's name is read, which namespace it belongs to, and what is allowed there.
//!
//! Invariants of a checked configuration: namespaces are sorted by name and each name is there once; whatever a
//! namespace inherits (`history_meta_ttl`, `publication_data_format`) was filled in.

use std::time::Duration;

use regex::Regex;

use crate::slow_policy::SlowConsumerPolicy;

#[derive(Clone, Debug)]
pub struct Channel {
    /// Bytes of a name.
    pub max_length: usize,
    /// Ends the namespace's name within a channel's. Empty: there are no namespaces.
    pub namespace_boundary: String,
    /// Begins the users within a name. Empty: no channel is limited to users.
    pub user_boundary: String,
    /// Between two users. Empty: there is one.
    pub user_separator: String,
    /// Begins a name that wants a token. Empty: none does.
    pub private_prefix: String,
    /// What a namespace inherits that says nothing of its own.
    pub history_meta_ttl: Duration,
    pub publication_data_format: DataFormat,
    /// Names of namespaces that are not there mean channels without one: `--dev`.
    pub any_namespace: bool,
    pub without_namespace: Namespace,
    /// Sorted by name.
    pub namespaces: Vec<Namespace>,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            max_length: 255,
            namespace_boundary: ":".into(),
            user_boundary: "#".into(),
            user_separator: ",".into(),
            private_prefix: "$".into(),
            history_meta_ttl: HISTORY_META_TTL,
            publication_data_format: DataFormat::Any,
            any_namespace: false,
            without_namespace: Namespace { history_meta_ttl: HISTORY_META_TTL, ..Namespace::default() },
            namespaces: Vec::new(),
        }
    }
}

const HISTORY_META_TTL: Duration = Duration::from_secs(720 * 3600);

/// What a client may bring to be allowed: the three parts of `allow_*_for_*`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Whoever has a user id.
    pub client: bool,
    /// Whoever is subscribed to the channel.
    pub subscriber: bool,
    /// Whoever has none, together with one of the others.
    pub anonymous: bool,
}

/// What holds in the channels of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Empty for channels without a namespace.
    pub name: String,
    pub presence: bool,
    pub join_leave: bool,
    pub force_push_join_leave: bool,
    /// Publications kept; history is on where this and `history_ttl` are more than 0.
    pub history_size: u32,
    pub history_ttl: Duration,
    /// How long offset and epoch outlive the last publication.
    pub history_meta_ttl: Duration,
    pub force_positioning: bool,
    pub allow_positioning: bool,
    pub force_recovery: bool,
    pub allow_recovery: bool,
    pub force_recovery_mode: RecoveryMode,
    pub auto_cache_recover: bool,
    /// `allowed_delta_types` names fossil.
    pub allow_delta: bool,
    pub delta_publish: bool,
    pub allow_tags_filter: bool,
    pub allow_subscribe_for_client: bool,
    pub allow_subscribe_for_anonymous: bool,
    pub allow_publish_for_client: bool,
    pub allow_publish_for_subscriber: bool,
    pub allow_publish_for_anonymous: bool,
    pub allow_presence_for_client: bool,
    pub allow_presence_for_subscriber: bool,
    pub allow_presence_for_anonymous: bool,
    pub allow_history_for_client: bool,
    pub allow_history_for_subscriber: bool,
    pub allow_history_for_anonymous: bool,
    pub allow_user_limited_channels: bool,
    /// What the name must match behind the namespace's boundary. None: the whole name must be ASCII.
    pub channel_regex: Option<Regex>,
    pub publication_data_format: DataFormat,
    pub slow_consumer: SlowConsumer,
    /// With `DropOldest`; 0: as many as `client.queue_max_size` lets.
    pub slow_consumer_bytes_max: usize,
    /// Indices into `Config.proxies`.
    pub subscribe_proxy: Option<u16>,
    pub publish_proxy: Option<u16>,
    pub sub_refresh_proxy: Option<u16>,
    /// As typed; the three above are what became of it.
    pub typed: NamespaceProxies,
}

/// `*_proxy_enabled` and `*_proxy_name` of a namespace, as typed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct NamespaceProxies {
    pub subscribe: ProxyUse,
    pub publish: ProxyUse,
    pub sub_refresh: ProxyUse,
}

/// Whether a proxy is asked, and which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyUse {
    pub enabled: bool,
    /// "default" is the one of the section that goes with the event, such as `channel.proxy.subscribe`.
    pub name: String,
}

pub const DEFAULT_PROXY: &str = "default";

impl Default for ProxyUse {
    fn default() -> Self {
        Self { enabled: false, name: DEFAULT_PROXY.into() }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum RecoveryMode {
    #[default]
    Stream,
    /// Only the latest publication.
    Cache,
}

/// What becomes of publications for a subscriber that does not read.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum SlowConsumer {
    /// They wait, and past `client.queue_max_size` the connection closes with 3008.
    #[default]
    Close,
    DropOldest,
    KeepLatest,
}

/// What a publication's data must be.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum DataFormat {
    /// Whatever is not empty.
    #[default]
    Any,
    Json,
    JsonObject,
    /// Whatever, also nothing.
    Binary,
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
}

impl Channel {
    /// The namespace that the channel belongs to, and its number: 0 without a namespace, `i + 1` for `namespaces[i]`.
    /// None: its name says a namespace that is not there (error 102). Allocates nothing; one search for the boundary and a
    /// binary search.
    pub fn find(&self, channel: &str) -> Option<(usize, &Namespace)> {
        let name = self.split(channel).0;
        if name.is_empty() {
            return Some((0, &self.without_namespace));
        }
        match self.namespaces.binary_search_by(|namespace| namespace.name.as_str().cmp(name)) {
            Ok(index) => Some((index + 1, &self.namespaces[index])),
            Err(_) if self.any_namespace => Some((0, &self.without_namespace)),
            Err(_) => None,
        }
    }

    /// The namespace of a number that `find` gave.
    pub fn namespace(&self, number: usize) -> &Namespace {
        number.checked_sub(1).map_or(&self.without_namespace, |index| &self.namespaces[index])
    }

    /// The namespace's name, empty for none, and what `channel_regex` is held against: what follows the boundary, or
    /// the whole where there is none.
    fn split<'a>(&self, channel: &'a str) -> (&'a str, &'a str) {
        let bare = channel.strip_prefix(self.private_prefix.as_str()).unwrap_or(channel);
        if self.namespace_boundary.is_empty() {
            return ("", channel);
        }
        bare.split_once(self.namespace_boundary.as_str()).unwrap_or(("", channel))
    }

    /// The name may be subscribed to in its namespace; otherwise error 107. Its length is another matter.
    pub fn name_fits(&self, channel: &str, namespace: &Namespace) -> bool {
        match &namespace.channel_regex {
            Some(regex) => regex.is_match(self.split(channel).1),
            None => channel.is_ascii(),
        }
    }

    /// The channel of a namespace that is one user's.
    pub fn personal(&self, namespace: &str, user: &str) -> String {
        let Self { namespace_boundary, user_boundary, .. } = self;
        match namespace {
            "" => format!("{user_boundary}{user}"),
            namespace => format!("{namespace}{namespace_boundary}{user_boundary}{user}"),
        }
    }

    /// A subscription to it needs a token.
    pub fn is_private(&self, channel: &str) -> bool {
        !self.private_prefix.is_empty() && channel.starts_with(self.private_prefix.as_str())
    }

    /// Whether the users that the name lists include this one. None: it lists none. Whether lists count at all is
    /// the namespace's `allow_user_limited_channels`.
    pub fn user_allowed(&self, channel: &str, user: &str) -> Option<bool> {
        if self.user_boundary.is_empty() {
            return None;
        }
        let (_, users) = channel.rsplit_once(self.user_boundary.as_str())?;
        if self.user_separator.is_empty() {
            return Some(users == user);
        }
        Some(users.split(self.user_separator.as_str()).any(|one| one == user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels() -> Channel {
        let namespace = |name: &str| Namespace { name: name.into(), ..Namespace::default() };
        Channel { namespaces: vec![namespace("chat"), namespace("news")], ..Channel::default() }
    }

    #[test]
    fn the_namespace_stands_before_the_first_boundary_behind_the_private_prefix() {
        let channels = channels();
        let number = |channel| channels.find(channel).map(|(number, _)| number);
        for (channel, found) in [
            ("lobby", Some(0)),
            ("chat:one", Some(1)),
            ("$chat:one", Some(1)),
            ("news:a:b", Some(2)),
            (":odd", Some(0)),
            ("", Some(0)),
            ("$lobby", Some(0)),
            ("none:x", None),
            ("cha", Some(0)),
        ] {
            assert_eq!(number(channel), found, "{channel}");
        }
        assert_eq!(channels.namespace(2).name, "news");
        let dev = Channel { any_namespace: true, ..channels };
        assert_eq!(dev.find("none:x").map(|(number, _)| number), Some(0));
    }

    #[test]
    fn without_a_boundary_there_are_no_namespaces() {
        let channels = Channel { namespace_boundary: String::new(), ..channels() };
        assert_eq!(channels.find("chat:one").map(|(number, _)| number), Some(0));
    }

    #[test]
    fn users_stand_behind_the_last_boundary() {
        let mut channels = channels();
        assert_eq!(channels.user_allowed("dialog#42,43", "43"), Some(true));
        assert_eq!(channels.user_allowed("dialog#42,43", "4"), Some(false));
        assert_eq!(channels.user_allowed("a#42#7", "42"), Some(false));
        assert_eq!(channels.user_allowed("dialog#", ""), Some(true));
        assert_eq!(channels.user_allowed("dialog", "42"), None);
        channels.user_separator = String::new();
        assert_eq!(channels.user_allowed("dialog#42,43", "42,43"), Some(true));
        channels.user_boundary = String::new();
        assert_eq!(channels.user_allowed("dialog#42", "1"), None);
    }

    #[test]
    fn a_pattern_sees_what_follows_the_boundary_and_replaces_the_ascii_rule() {
        let mut channels = channels();
        channels.namespaces[0].channel_regex = Some(Regex::new("^[a-z]+$").unwrap());
        let fits = |channel: &str| channels.name_fits(channel, channels.find(channel).unwrap().1);
        assert!(fits("chat:room") && fits("$chat:room") && !fits("chat:room1") && !fits("chat:"));
        assert!(fits("news:Room 1") && !fits("news:Räume") && !fits("Räume"));
    }

    #[test]
    fn the_private_prefix_can_be_empty() {
        assert!(channels().is_private("$x") && !channels().is_private("x"));
        let none = Channel { private_prefix: String::new(), ..channels() };
        assert!(!none.is_private("$x") && none.find("$chat:x").is_none());
    }
}
