//! The settings of `client`: connections, tokens, limits.

use super::{Item, item};
use crate::auth::TokenSettings;
use crate::config::Config;
use crate::config::client::{ConnectCodes, PersonalChannel, SubscriptionToken};
use crate::config::value::Unit;

pub static CLIENT: &[Item<Config>] = &[
    item(
        "insecure",
        Unit::Switch,
        |c| &mut c.client.insecure,
        "Ask nobody for a token, for connecting as for channels; what a token says of its end does not hold. Not for a \
         server that others reach.",
    ),
    item(
        "allowed_origins",
        Unit::Origins,
        |c| &mut c.client.allowed_origins,
        "Web pages that may connect, by their Origin header. Empty: no page may, programs that send no Origin may. \
         \"*\" allows every page.",
    ),
    item(
        "allow_anonymous_connect_without_token",
        Unit::Switch,
        |c| &mut c.client.allow_anonymous_connect_without_token,
        "Let clients connect without a token, as the anonymous user; otherwise 3501.",
    ),
    item(
        "disallow_anonymous_connection_tokens",
        Unit::Switch,
        |c| &mut c.client.disallow_anonymous_connection_tokens,
        "Refuse tokens that name no user, with 3507.",
    ),
    item(
        "ping_interval",
        Unit::Time,
        |c| &mut c.client.ping_interval,
        "Time between two pings to a client, told to it in whole seconds. Shorter notices dead peers sooner and \
         costs more for idle ones.",
    ),
    item(
        "pong_timeout",
        Unit::Time,
        |c| &mut c.client.pong_timeout,
        "Time for the answer to a ping; past it the connection closes with 3012. Shorter than the interval.",
    ),
    item(
        "stale_close_delay",
        Unit::Time,
        |c| &mut c.client.stale_close_delay,
        "Time from the upgrade to a valid connect; past it the connection closes with 3502.",
    ),
    item(
        "expired_close_delay",
        Unit::Time,
        |c| &mut c.client.expired_close_delay,
        "Time for the refresh of an expired connection; past it the connection closes with 3005.",
    ),
    item(
        "expired_sub_close_delay",
        Unit::Time,
        |c| &mut c.client.expired_sub_close_delay,
        "Time for the refresh of an expired subscription; past it the subscription ends with 2501.",
    ),
    item(
        "channel_limit",
        Unit::Count,
        |c| &mut c.client.channel_limit,
        "Channels that one connection may be subscribed to; past it a subscribe is answered with error 106.",
    ),
    item(
        "queue_max_size",
        Unit::Bytes,
        |c| &mut c.engine.outbound_bytes_max,
        "Bytes that may wait for a client that does not read; past it the connection closes with 3008.",
    ),
    item(
        "user_connection_limit",
        Unit::Count,
        |c| &mut c.client.user_connection_limit,
        "Connections of one user; past it a connect closes with 3504. 0: no limit. The anonymous user has none.",
    ),
    item(
        "connection_limit",
        Unit::Count,
        |c| &mut c.client.connection_limit,
        "Connections of the whole process; past it new ones are refused with 503. 0: no limit but the engine's.",
    ),
    item(
        "connection_rate_limit",
        Unit::Count,
        |c| &mut c.client.connection_rate_limit,
        "New connections in a second; past it they are refused with 503. 0: no limit.",
    ),
    item(
        "command_rate_limit",
        Unit::Count,
        |c| &mut c.client.command_rate_limit,
        "Commands of one connection in a second, pongs not counted; past it the connection closes with 3013, after which \
         clients come back later. 0: no limit.",
    ),
    item(
        "command_rate_burst",
        Unit::Count,
        |c| &mut c.client.command_rate_burst,
        "Commands that one connection may send at once, such as its subscribes after a reconnect. 0: as many as in a \
         second.",
    ),
    item(
        "byte_rate_limit",
        Unit::Bytes,
        |c| &mut c.engine.bytes_per_second,
        "Bytes of one connection in a second; past it the connection is not read until it is due, and TCP holds the \
         client back. 0: no limit.",
    ),
    item(
        "byte_rate_burst",
        Unit::Bytes,
        |c| &mut c.engine.bytes_burst,
        "Bytes that one connection may send at once. 0: as many as in a second.",
    ),
    item(
        "rate_limit_dry_run",
        Unit::Switch,
        |c| &mut c.client.rate_limit_dry_run,
        "Only count whoever passes command_rate_limit or byte_rate_limit (corecast_limit_reached_total), to find out whom \
         they would meet.",
    ),
    item(
        "history_max_publication_limit",
        Unit::Count,
        |c| &mut c.client.history_max_publication_limit,
        "Publications that one history call of a client is answered with, at most.",
    ),
    item(
        "recovery_max_publication_limit",
        Unit::Count,
        |c| &mut c.client.recovery_max_publication_limit,
        "Publications that one recovery brings, at most; whoever missed more is not recovered.",
    ),
    item(
        "connect_include_server_time",
        Unit::Switch,
        |c| &mut c.client.connect_include_server_time,
        "Tell the time in the reply to a connect.",
    ),
];

/// Of `client.token` and `client.subscription_token`.
pub static TOKEN: &[Item<TokenSettings>] = &[
    item(
        "hmac_secret_key",
        Unit::Secret,
        |t: &mut TokenSettings| &mut t.hmac_secret_key,
        "The secret that tokens are signed with by HS256, HS384 or HS512. `corecast token` makes such tokens.",
    )
    .example("\"a-long-random-text\""),
    item(
        "hmac_previous_secret_key",
        Unit::Secret,
        |t: &mut TokenSettings| &mut t.hmac_previous_secret_key,
        "The secret before, which holds beside the other while secrets are changed.",
    )
    .example("\"the-text-before\""),
    item(
        "hmac_previous_secret_key_valid_until",
        Unit::Count,
        |t| &mut t.hmac_previous_secret_key_valid_until,
        "When the previous secret ends to hold, in seconds since 1970. 0: never.",
    ),
    item(
        "rsa_public_key",
        Unit::Secret,
        |t: &mut TokenSettings| &mut t.rsa_public_key,
        "The key for RS256, RS384 and RS512, as PEM.",
    )
    .example("\"-----BEGIN PUBLIC KEY-----\\n...\\n-----END PUBLIC KEY-----\""),
    item(
        "ecdsa_public_key",
        Unit::Secret,
        |t: &mut TokenSettings| &mut t.ecdsa_public_key,
        "The key for ES256, ES384 and ES512, as PEM.",
    )
    .example("\"-----BEGIN PUBLIC KEY-----\\n...\\n-----END PUBLIC KEY-----\""),
    item(
        "jwks_public_endpoint",
        Unit::Url,
        |t: &mut TokenSettings| &mut t.jwks_public_endpoint,
        "Where a set of keys is fetched from (JWKS). With it no other key of this section is looked at.",
    )
    .example("\"https://id.example.com/.well-known/jwks.json\""),
    item("audience", Unit::Text, |t| &mut t.audience, "What the claim aud must hold. Empty: it is not looked at."),
    item(
        "audience_regex",
        Unit::Pattern,
        |t| &mut t.audience_regex,
        "A pattern that the claim aud must match; not together with audience.",
    ),
    item("issuer", Unit::Text, |t| &mut t.issuer, "What the claim iss must be. Empty: it is not looked at."),
    item(
        "issuer_regex",
        Unit::Pattern,
        |t| &mut t.issuer_regex,
        "A pattern that the claim iss must match; not together with issuer.",
    ),
    item(
        "user_id_claim",
        Unit::Text,
        |t| &mut t.user_id_claim,
        "The claim with the user's id, where it is not sub: letters and _.",
    ),
];

pub static SUBSCRIPTION_TOKEN: &[Item<SubscriptionToken>] = &[item(
    "enabled",
    Unit::Switch,
    |s| &mut s.enabled,
    "Hold tokens of subscriptions against the keys of this section, which has the settings of client.token, and not \
     against those.",
)];

pub static PERSONAL: &[Item<PersonalChannel>] = &[
    item("enabled", Unit::Switch, |p| &mut p.enabled, "Subscribe every user to a channel of their own, such as #42."),
    item(
        "personal_channel_namespace",
        Unit::Text,
        |p| &mut p.personal_channel_namespace,
        "The namespace of that channel. Empty: none.",
    ),
    item(
        "single_connection",
        Unit::Switch,
        |p| &mut p.single_connection,
        "Close a user's other connections with 3504 when a new one comes. The channel needs presence.",
    ),
];

pub static CONNECT_CODES: &[Item<ConnectCodes>] = &[
    item(
        "enabled",
        Unit::Switch,
        |c| &mut c.enabled,
        "Close unidirectional connections whose connect was refused with codes of your choice.",
    ),
    item(
        "transforms",
        Unit::ConnectCodes,
        |c| &mut c.transforms,
        "The error's code and what becomes of it: { code = 401, to = { code = 4401, reason = \"unauthorized\" } }.",
    ),
];
