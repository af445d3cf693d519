//! What clients are told, the same in every encoding. Payloads are whole values of the client's encoding; empty means none.

use super::codes::ErrorCode;
use super::tags::Tags;

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
    /// The command was refused: with a code of ours (`ErrorCode` converts into this), or with a backend's own.
    Error {
        code: u32,
        message: &'a str,
        temporary: bool,
    },
}

impl From<ErrorCode> for Reply<'_> {
    fn from(error: ErrorCode) -> Self {
        Self::Error { code: error.code(), message: error.message(), temporary: error.is_temporary() }
    }
}

/// What clients are told without having asked. Those about the connection itself have no channel.
#[derive(Clone, PartialEq, Debug)]
pub enum Push<'a> {
    Join(ClientInfo<'a>),
    Leave(ClientInfo<'a>),
    /// The server ended a subscription.
    Unsubscribe {
        code: u32,
        reason: &'a str,
    },
    /// For this connection alone.
    Message {
        data: &'a [u8],
    },
    /// The server made a subscription.
    Subscribe(SubscribePush<'a>),
    /// A unidirectional connection is established.
    Connect(ConnectResult<'a>),
    /// The connection ends. `reconnect`: the client shall come back.
    Disconnect {
        code: u32,
        reason: &'a str,
        reconnect: bool,
    },
    Refresh(Expiry),
}

/// When a connection or subscription must be renewed: the seconds left, or never.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Expiry(pub Option<u32>);

impl Expiry {
    /// Both are seconds since 1970; 0 is never.
    pub fn at(expire_at: u64, now: u64) -> Self {
        Self((expire_at > 0).then(|| expire_at.saturating_sub(now) as u32))
    }
}

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
    /// What a unidirectional client names itself by to the server API; empty for others.
    pub session: &'a str,
    /// Which server this is; empty unless clients must know.
    pub node: &'a str,
    /// The server's clock in milliseconds since 1970; 0 leaves it out.
    pub time_ms: u64,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct SubscribeResult<'a> {
    pub expiry: Expiry,
    pub recoverable: bool,
    pub epoch: &'a str,
    pub publications: &'a [WirePublication<'a>],
    pub recovered: bool,
    pub offset: u64,
    pub positioned: bool,
    pub data: &'a [u8],
    pub was_recovering: bool,
    pub delta: bool,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub struct HistoryResult<'a> {
    pub publications: &'a [WirePublication<'a>],
    pub epoch: &'a str,
    pub offset: u64,
}

/// One message of a channel.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct WirePublication<'a> {
    pub data: &'a [u8],
    /// How `data` stands in JSON.
    pub quoted: Quoted,
    /// Set where a client published it.
    pub info: Option<ClientInfo<'a>>,
    /// Its place in the channel's stream; 0 where the channel has none.
    pub offset: u64,
    pub tags: Tags<'a>,
    /// True where `data` is the difference to the publication before.
    pub delta: bool,
    /// When it was published, in milliseconds since 1970; 0 leaves it out.
    pub time_ms: u64,
    /// The epoch of the stream. The original sends it with offset 1 alone, the first of a stream, where it is no delta
    /// subscriber's; empty leaves it out.
    pub epoch: &'a str,
    /// Of the state that it brings, as its publisher counts; 0 leaves it out.
    pub version: u64,
}

/// How JSON has a payload. Protobuf has the bytes as they are, whatever this says.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub enum Quoted {
    /// A JSON value in place.
    #[default]
    No,
    /// A string of the bytes, as subscribers with deltas get all their payloads. Bytes that are no UTF-8 become U+FFFD each, as
    /// the original has it: a delta that cuts a character cannot be applied by its receiver, so that whoever makes deltas
    /// checks them (`delta_fits_json`).
    Text,
    /// A string of the bytes in base64: for those that are no JSON.
    Base64,
}

/// True where JSON can carry the bytes as a string and give the same bytes back.
pub fn delta_fits_json(delta: &[u8]) -> bool {
    simdutf8::basic::from_utf8(delta).is_ok()
}

/// A subscription that the server made on a connection which is already there.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct SubscribePush<'a> {
    pub recoverable: bool,
    pub epoch: &'a str,
    pub offset: u64,
    pub positioned: bool,
    pub data: &'a [u8],
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
