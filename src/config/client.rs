//! The `client` section: who may connect, how often they are asked whether they live, and what is the most for one.

use std::time::Duration;

use crate::auth::TokenSettings;

/// Less `queue_max_size`, which is the engine's, and the proxies.
#[derive(Clone, Debug)]
pub struct Client {
    /// No token is needed, for connecting as for channels; whoever has none is anonymous, and what a token says of its
    /// end does not hold.
    pub insecure: bool,
    /// Patterns of whole origins in which `*` stands for any text. Empty: only requests without an Origin pass.
    pub allowed_origins: Vec<String>,
    pub token: TokenSettings,
    pub subscription_token: SubscriptionToken,
    pub allow_anonymous_connect_without_token: bool,
    /// A token with an empty user closes with 3507.
    pub disallow_anonymous_connection_tokens: bool,
    /// Whole seconds, at least one, longer than `pong_timeout`.
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub stale_close_delay: Duration,
    pub expired_close_delay: Duration,
    pub expired_sub_close_delay: Duration,
    pub channel_limit: usize,
    /// Connections of one user; 0 for no limit. Past it 3504.
    pub user_connection_limit: u32,
    /// Connections of the process; 0 for no limit. Past it 503.
    pub connection_limit: u32,
    /// New connections in a second; 0 for no limit. Past it 503.
    pub connection_rate_limit: u32,
    /// Commands of one connection in a second, and at once; 0 for no limit. Past it 3013.
    pub command_rate_limit: u32,
    pub command_rate_burst: u32,
    /// Whoever passes this or `byte_rate_limit` is only counted.
    pub rate_limit_dry_run: bool,
    /// Publications of one history call, and of one recovery.
    pub history_max_publication_limit: u32,
    pub recovery_max_publication_limit: u32,
    pub connect_include_server_time: bool,
    pub subscribe_to_user_personal_channel: PersonalChannel,
    pub connect_code_to_unidirectional_disconnect: ConnectCodes,
}

/// `client.subscription_token`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct SubscriptionToken {
    pub enabled: bool,
    pub token: TokenSettings,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PersonalChannel {
    pub enabled: bool,
    /// Empty: channels without a namespace.
    pub personal_channel_namespace: String,
    /// A user's other connections close with 3504.
    pub single_connection: bool,
}

/// What a refused connect closes a unidirectional connection with, where it is not the usual.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ConnectCodes {
    pub enabled: bool,
    pub transforms: Vec<ConnectCode>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ConnectCode {
    /// The error's.
    pub code: u32,
    pub to_code: u32,
    pub to_reason: String,
}

impl Client {
    /// What subscription tokens are held against where that is not what connection tokens are.
    pub fn subscription_token(&self) -> Option<&TokenSettings> {
        self.subscription_token.enabled.then_some(&self.subscription_token.token)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            insecure: false,
            allowed_origins: Vec::new(),
            token: TokenSettings::default(),
            subscription_token: SubscriptionToken::default(),
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            stale_close_delay: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            channel_limit: 128,
            user_connection_limit: 0,
            connection_limit: 0,
            connection_rate_limit: 0,
            command_rate_limit: 0,
            command_rate_burst: 0,
            rate_limit_dry_run: false,
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
            connect_include_server_time: false,
            subscribe_to_user_personal_channel: PersonalChannel::default(),
            connect_code_to_unidirectional_disconnect: ConnectCodes::default(),
        }
    }
}
