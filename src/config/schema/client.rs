//! `client`: the conditions for connecting, the detection of dead clients, and the bounds for one client.

use std::time::Duration;

use super::proxy::{ConnectProxy, RefreshProxy};
use super::section::section;
use super::tables::{TableRow, Tables, reason_fits};
use super::token::SubscriptionToken;
use crate::auth::TokenSettings;
use crate::config::parse::net::Origins;
use crate::config::parse::scalar::{Bool, Bytes, Count, Text, Time};

section! {
    /// The section `client`.
    #[derive(Clone, Debug)]
    pub struct Client {
        pub token: TokenSettings = TokenSettings::default(),
        pub subscription_token: SubscriptionToken = SubscriptionToken::default(),
        pub subscribe_to_user_personal_channel: PersonalChannel = PersonalChannel::default(),
        pub connect_code_to_unidirectional_disconnect: ConnectCodes = ConnectCodes::default(),
        /// `client.proxy.connect` and `client.proxy.refresh`.
        pub proxy: ClientProxies = ClientProxies::default(),
    }

    /// Accept connections and subscriptions without a token, and ignore the expiry of tokens. Do not use it on a server that
    /// others can reach.
    insecure: bool as Bool = false;

    /// Origins of web pages that may connect (the Origin header). An empty list rejects every page; clients that send no Origin
    /// are always accepted. "*" accepts every page.
    allowed_origins: Vec<String> as Origins = Vec::new();

    /// Accept clients without a token as the anonymous user. Otherwise such a connection closes with 3501.
    allow_anonymous_connect_without_token: bool as Bool = false;

    /// Reject tokens with an empty user id; the connection closes with 3507.
    disallow_anonymous_connection_tokens: bool as Bool = false;

    /// Time between two pings to a client, in whole seconds. A shorter interval finds dead clients sooner and costs more for
    /// idle ones.
    ping_interval: Duration as Time = Duration::from_secs(25), restart;

    /// Time for the pong after a ping; past it the connection closes with 3012. It must be shorter than ping_interval.
    pong_timeout: Duration as Time = Duration::from_secs(8), restart;

    /// Time from the upgrade to a successful connect command; past it the connection closes with 3502.
    stale_close_delay: Duration as Time = Duration::from_secs(10);

    /// Time for a client to refresh an expired connection; past it the connection closes with 3005.
    expired_close_delay: Duration as Time = Duration::from_secs(25);

    /// Time for a client to refresh an expired subscription; past it the subscription ends with 2501.
    expired_sub_close_delay: Duration as Time = Duration::from_secs(25);

    /// Time in which the entries of this server's clients are renewed in a presence that a broker keeps, spread evenly. It must be
    /// shorter than presence_ttl. Presence in memory ends with the connection and needs no renewal.
    presence_update_interval: Duration as Time = Duration::from_secs(27), restart;

    /// Subscriptions of one connection; past it a subscribe command gets error 106. A connect that names or brings more closes
    /// with 3505.
    channel_limit: usize as Count = 128;

    /// Bytes that may wait for a client that does not read; past it the connection closes with 3008.
    queue_max_size: usize as Bytes = 1024 * 1024;

    /// Connections of one user; past it a connect command closes its connection with 3504. 0: no limit. The anonymous user has
    /// no limit.
    user_connection_limit: u32 as Count = 0;

    /// Connections of the whole process; past it new ones are rejected with status 503. 0: only engine.connections_max limits
    /// them.
    connection_limit: u32 as Count = 0;

    /// New connections per second of the whole process; past it new ones are rejected with status 503. 0: no limit.
    connection_rate_limit: u32 as Count = 0;

    /// Commands per second of one connection, without pongs; past it the connection closes with 3013, and the client reconnects
    /// later. 0: no limit.
    command_rate_limit: u32 as Count = 0;

    /// Commands that one connection may send at once, such as its subscribe commands after a reconnect. 0: as many as in one
    /// second.
    command_rate_burst: u32 as Count = 0;

    /// Bytes per second from one connection; past it the server stops reading from the connection until the rate fits again,
    /// and TCP slows the client down. Commands by emulation get status 429 until then. 0: no limit.
    byte_rate_limit: u64 as Bytes = 0;

    /// Bytes that one connection may send at once. 0: as many as in one second.
    byte_rate_burst: u64 as Bytes = 0;

    /// Only count connections that exceed command_rate_limit or byte_rate_limit (corecast_limit_reached_total), and do not
    /// limit them. Use it to find out which clients a limit would affect.
    rate_limit_dry_run: bool as Bool = false;

    /// Publications in the reply to one history command of a client, at most.
    history_max_publication_limit: u32 as Count = 300;

    /// Publications that one recovery can return; a client that missed more is not recovered.
    recovery_max_publication_limit: u32 as Count = 300;

    /// Bytes of all tag filters of one connection, about as long as its subscribe commands write them; past it a subscribe with a
    /// filter gets error 106. One filter may have 16 KiB, 256 nodes, 1,024 values and a depth of 32; past that it gets error
    /// 107.
    tags_filter_bytes_max: usize as Bytes = 64 * 1024;

    /// Include the server's time in connect replies.
    connect_include_server_time: bool as Bool = false;
}

impl Client {
    /// The settings for subscription tokens, if they differ from those for connection tokens.
    pub fn subscription_token(&self) -> Option<&TokenSettings> {
        self.subscription_token.enabled.then_some(&self.subscription_token.token)
    }
}

/// `client.proxy`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ClientProxies {
    pub connect: ConnectProxy,
    pub refresh: RefreshProxy,
}

section! {
    /// `client.subscribe_to_user_personal_channel`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct PersonalChannel {}

    /// Subscribe each user to a personal channel, such as #42 for the user 42.
    enabled: bool as Bool = false;

    /// The namespace of the personal channel. Empty: no namespace.
    personal_channel_namespace: String as Text = String::new();

    /// Close the other connections of a user with 3504 when a new one connects. The personal channel needs presence.
    single_connection: bool as Bool = false;
}

section! {
    /// `client.connect_code_to_unidirectional_disconnect`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ConnectCodes {}

    /// Close unidirectional connections with the codes of transforms when a connect command fails.
    enabled: bool as Bool = false;

    /// Error codes and the close codes to send instead: { code = 401, to = { code = 4401, reason = "unauthorized" } }.
    transforms: Vec<ConnectCode> as Tables = Vec::new();
}

section! {
    /// One of `transforms`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ConnectCode {}

    /// The error code.
    code: u32 as Count = 0;

    /// The close code.
    to_code: u32 as Count = 0, named("to.code");

    /// The close reason.
    to_reason: String as Text = String::new(), named("to.reason");
}

impl TableRow for ConnectCode {
    const EXAMPLE: &'static str = "[{ code = 401, to = { code = 4401, reason = \"unauthorized\" } }]";

    fn check(&self) -> Result<(), String> {
        if self.code == 0 || self.to_code == 0 {
            return Err("needs code and to.code".into());
        }
        reason_fits("to.reason", &self.to_reason)
    }
}
