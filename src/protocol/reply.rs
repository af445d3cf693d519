//! What clients are told, the same in every encoding. Payloads are whole values of the client's encoding; empty means none.

use super::codes::ErrorCode;

/// The answer to one command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply<'a> {
    Connect(ConnectResult<'a>),
    Subscribe(SubscribeResult<'a>),
    Unsubscribe,
    Publish,
    /// Clients of the channel by their id.
    Presence(&'a [ClientInfo<'a>]),
    PresenceStats {
        num_clients: u32,
        num_users: u32,
    },
    History(HistoryResult<'a>),
    Rpc {
        data: &'a [u8],
    },
    Refresh {
        client: &'a str,
        version: &'a str,
        expiry: Expiry,
    },
    SubRefresh(Expiry),
    Error(ErrorCode),
}

/// When a connection or subscription must be renewed: the seconds left, or never.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Expiry(pub Option<u32>);

#[derive(Clone, Default, PartialEq, Debug)]
pub struct ConnectResult<'a> {
    /// The connection's public id.
    pub client: &'a str,
    pub version: &'a str,
    pub expiry: Expiry,
    pub data: &'a [u8],
    /// Subscriptions that the server made, by channel.
    pub subs: &'a [(&'a str, SubscribeResult<'a>)],
    /// Seconds between two pings of the server; 0 where it sends none.
    pub ping_s: u32,
    /// True where pings must be answered.
    pub pong: bool,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct SubscribeResult<'a> {
    pub expiry: Expiry,
    pub recoverable: bool,
    pub epoch: &'a str,
    pub publications: &'a [Publication<'a>],
    pub recovered: bool,
    pub offset: u64,
    pub positioned: bool,
    pub data: &'a [u8],
    pub was_recovering: bool,
    pub delta: bool,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct HistoryResult<'a> {
    pub publications: &'a [Publication<'a>],
    pub epoch: &'a str,
    pub offset: u64,
}

/// One message of a channel.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Publication<'a> {
    pub data: &'a [u8],
    /// Set where a client published it.
    pub info: Option<ClientInfo<'a>>,
    /// Its place in the channel's stream; 0 where the channel has none.
    pub offset: u64,
}

/// Who a client is, for other clients.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct ClientInfo<'a> {
    /// Empty for an anonymous one.
    pub user: &'a str,
    pub client: &'a str,
    pub conn_info: &'a [u8],
    pub chan_info: &'a [u8],
}
