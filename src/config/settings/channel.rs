//! The settings of `channel` and of namespaces.

use super::{Item, item};
use crate::config::channel::{Channel, Namespace};
use crate::config::value::Unit;

pub static CHANNEL: &[Item<Channel>] = &[
    item(
        "max_length",
        Unit::Bytes,
        |c| &mut c.max_length,
        "Bytes of a channel's name; a longer one is answered with error 107.",
    ),
    item(
        "namespace_boundary",
        Unit::Text,
        |c| &mut c.namespace_boundary,
        "Ends the namespace's name in a channel's: news:sport is in news. Empty: there are no namespaces.",
    ),
    item(
        "user_boundary",
        Unit::Text,
        |c| &mut c.user_boundary,
        "Begins the users that a channel is for: dialog#42,43. Empty: none is.",
    ),
    item("user_separator", Unit::Text, |c| &mut c.user_separator, "Stands between such users."),
    item(
        "private_prefix",
        Unit::Text,
        |c| &mut c.private_prefix,
        "Begins the names of channels that nobody subscribes to without a token. Empty: none do.",
    ),
    item(
        "history_meta_ttl",
        Unit::Time,
        |c| &mut c.history_meta_ttl,
        "How long a channel's offset and epoch are remembered after its last publication, where its namespace says \
         nothing else. Whole seconds, longer than any history.",
    ),
    item(
        "publication_data_format",
        Unit::Choice,
        |c| &mut c.publication_data_format,
        "What publications must be, where the namespace says nothing else: \"\" anything but empty, \"json\", \
         \"json_object\", \"binary\" anything.",
    ),
];

pub static NAMED: &[Item<Namespace>] = &[item(
    "name",
    Unit::Text,
    |n| &mut n.name,
    "Which channels belong to it: two or more of letters, digits, -, _ and the dot.",
)];

/// Of every namespace, and of the channels without one.
pub static NAMESPACE: &[Item<Namespace>] = &[
    item(
        "presence",
        Unit::Switch,
        |n| &mut n.presence,
        "Keep who is subscribed, to be asked for. Costs memory for every subscriber.",
    ),
    item(
        "join_leave",
        Unit::Switch,
        |n| &mut n.join_leave,
        "Tell subscribers who comes and goes. Not for large channels: each arrival is told to all.",
    ),
    item(
        "force_push_join_leave",
        Unit::Switch,
        |n| &mut n.force_push_join_leave,
        "Tell it also to those who did not ask.",
    ),
    item(
        "history_size",
        Unit::Count,
        |n| &mut n.history_size,
        "Publications kept for each channel. 0: none. Needs history_ttl.",
    ),
    item(
        "history_ttl",
        Unit::Time,
        |n| &mut n.history_ttl,
        "How long they are kept, in whole seconds. Needs history_size.",
    ),
    item(
        "history_meta_ttl",
        Unit::Time,
        |n: &mut Namespace| &mut n.history_meta_ttl,
        "How long offset and epoch are remembered; at least history_ttl. 0: as channel.history_meta_ttl says.",
    )
    .inherits(),
    item(
        "force_positioning",
        Unit::Switch,
        |n| &mut n.force_positioning,
        "Watch the position of every subscriber, so that none misses a publication unknowingly.",
    ),
    item("allow_positioning", Unit::Switch, |n| &mut n.allow_positioning, "The same for subscribers that ask."),
    item(
        "force_recovery",
        Unit::Switch,
        |n| &mut n.force_recovery,
        "Bring every subscriber that returns what it missed. Needs history.",
    ),
    item("allow_recovery", Unit::Switch, |n| &mut n.allow_recovery, "The same for subscribers that ask."),
    item(
        "force_recovery_mode",
        Unit::Choice,
        |n| &mut n.force_recovery_mode,
        "What recovery brings: \"stream\" or \"\" all that was missed, \"cache\" the latest publication.",
    ),
    item(
        "auto_cache_recover",
        Unit::Switch,
        |n| &mut n.auto_cache_recover,
        "Bring the latest publication with every subscription. Needs force_recovery and the mode \"cache\".",
    ),
    item(
        "allowed_delta_types",
        Unit::Deltas,
        |n| &mut n.allow_delta,
        "Differences that subscribers may ask for in place of whole publications: [\"fossil\"] or [].",
    ),
    item(
        "delta_publish",
        Unit::Switch,
        |n| &mut n.delta_publish,
        "Make differences of every publication, also where the publisher did not ask.",
    ),
    item("allow_tags_filter", Unit::Switch, |n| &mut n.allow_tags_filter, "Subscribers may name which tags they want."),
    item(
        "allow_subscribe_for_client",
        Unit::Switch,
        |n| &mut n.allow_subscribe_for_client,
        "Any user may subscribe; otherwise error 103.",
    ),
    item(
        "allow_subscribe_for_anonymous",
        Unit::Switch,
        |n| &mut n.allow_subscribe_for_anonymous,
        "The anonymous user counts as one in the setting before.",
    ),
    item(
        "allow_publish_for_client",
        Unit::Switch,
        |n| &mut n.allow_publish_for_client,
        "Any user may publish; otherwise error 103.",
    ),
    item(
        "allow_publish_for_subscriber",
        Unit::Switch,
        |n| &mut n.allow_publish_for_subscriber,
        "Subscribers may publish.",
    ),
    item(
        "allow_publish_for_anonymous",
        Unit::Switch,
        |n| &mut n.allow_publish_for_anonymous,
        "The anonymous user counts as one in the two settings before.",
    ),
    item(
        "allow_presence_for_client",
        Unit::Switch,
        |n| &mut n.allow_presence_for_client,
        "Any user may ask who is there; otherwise error 103.",
    ),
    item(
        "allow_presence_for_subscriber",
        Unit::Switch,
        |n| &mut n.allow_presence_for_subscriber,
        "Subscribers may ask who is there.",
    ),
    item(
        "allow_presence_for_anonymous",
        Unit::Switch,
        |n| &mut n.allow_presence_for_anonymous,
        "The anonymous user counts as one in the two settings before.",
    ),
    item(
        "allow_history_for_client",
        Unit::Switch,
        |n| &mut n.allow_history_for_client,
        "Any user may ask for the history; otherwise error 103.",
    ),
    item(
        "allow_history_for_subscriber",
        Unit::Switch,
        |n| &mut n.allow_history_for_subscriber,
        "Subscribers may ask for the history.",
    ),
    item(
        "allow_history_for_anonymous",
        Unit::Switch,
        |n| &mut n.allow_history_for_anonymous,
        "The anonymous user counts as one in the two settings before.",
    ),
    item(
        "allow_user_limited_channels",
        Unit::Switch,
        |n| &mut n.allow_user_limited_channels,
        "Users may subscribe to channels that name them, such as dialog#42,43.",
    ),
    item(
        "channel_regex",
        Unit::Pattern,
        |n| &mut n.channel_regex,
        "What names must match, less the namespace; otherwise error 107. Empty: they must be ASCII.",
    ),
    item(
        "publication_data_format",
        Unit::Choice,
        |n| &mut n.publication_data_format,
        "As channel.publication_data_format, for this namespace. Empty: as that one says.",
    ),
    item(
        "slow_consumer",
        Unit::Choice,
        |n| &mut n.slow_consumer,
        "What becomes of publications for a subscriber that does not read: \"close\" they wait, and past \
         client.queue_max_size the connection closes with 3008; \"drop_oldest\" the oldest go; \"keep_latest\" only the \
         newest waits. A subscriber with a position is told to come again (2500) and recovers, except with \
         force_recovery_mode = \"cache\". After a reload: for channels that nobody was subscribed to.",
    ),
    item(
        "slow_consumer_bytes_max",
        Unit::Bytes,
        |n| &mut n.slow_consumer_bytes_max,
        "With drop_oldest: bytes of one channel that may wait for one subscriber. 0: as many as client.queue_max_size \
         lets, for all its channels together.",
    ),
    item(
        "subscribe_proxy_enabled",
        Unit::Switch,
        |n| &mut n.typed.subscribe.enabled,
        "Ask a backend whether a client may subscribe.",
    ),
    item(
        "subscribe_proxy_name",
        Unit::Text,
        |n| &mut n.typed.subscribe.name,
        "Which of proxies; \"default\" is channel.proxy.subscribe.",
    ),
    item(
        "publish_proxy_enabled",
        Unit::Switch,
        |n| &mut n.typed.publish.enabled,
        "Ask a backend whether a client may publish.",
    ),
    item(
        "publish_proxy_name",
        Unit::Text,
        |n| &mut n.typed.publish.name,
        "Which of proxies; \"default\" is channel.proxy.publish.",
    ),
    item(
        "sub_refresh_proxy_enabled",
        Unit::Switch,
        |n| &mut n.typed.sub_refresh.enabled,
        "Ask a backend whether an expiring subscription goes on.",
    ),
    item(
        "sub_refresh_proxy_name",
        Unit::Text,
        |n| &mut n.typed.sub_refresh.name,
        "Which of proxies; \"default\" is channel.proxy.sub_refresh.",
    ),
];
