//! Replies and pushes, the same in every encoding. Payloads are whole values of the client's encoding, except where a field
//! says otherwise; empty means none.

use super::codes::ErrorCode;
use super::tags::Tags;

/// The reply to one command.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reply<'a> {
    Connect(ConnectResult<'a>),
    Subscribe(SubscribeResult<'a>),
    Unsubscribe,
    Publish,
    /// The clients of the channel by their ids.
    #[cfg_attr(not(test), expect(dead_code, reason = "sent in slices; tests compare the slices with this reply"))]
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
    /// The command is refused, with a code of the server (`ErrorCode` converts into this) or of the backend.
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

/// What the server sends without a command. Pushes about the connection have no channel.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Push<'a> {
    Join(ClientInfo<'a>),
    Leave(ClientInfo<'a>),
    /// The server ended a subscription.
    Unsubscribe {
        code: u32,
        reason: &'a str,
    },
    /// For this connection only.
    #[cfg_attr(not(test), expect(dead_code, reason = "part of the protocol that no API call of this server uses"))]
    Message {
        data: &'a [u8],
    },
    /// The server made a subscription.
    Subscribe(SubscribePush<'a>),
    /// A unidirectional connection is established.
    Connect(ConnectResult<'a>),
    /// The connection ends. `reconnect`: the client reconnects.
    Disconnect {
        code: u32,
        reason: &'a str,
        reconnect: bool,
    },
    Refresh(Expiry),
}

/// When a connection or subscription expires unless it is refreshed: in so many seconds, or never.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Expiry(pub Option<u32>);

impl Expiry {
    /// Both are in seconds since 1970; an `expire_at` of 0 is never.
    pub(crate) fn at(expire_at: u64, now: u64) -> Self {
        Self((expire_at > 0).then(|| u32::try_from(expire_at.saturating_sub(now)).unwrap_or(u32::MAX)))
    }
}

#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct ConnectResult<'a> {
    /// The public id of the client.
    pub(crate) client: &'a str,
    pub(crate) version: &'a str,
    pub(crate) expiry: Expiry,
    pub(crate) data: &'a [u8],
    /// Server-side subscriptions, by channel.
    pub(crate) subs: &'a [(&'a str, SubscribeResult<'a>)],
    /// Seconds between two pings of the server; 0 if it sends none.
    pub(crate) ping_s: u32,
    /// True if the client must answer pings.
    pub(crate) pong: bool,
    /// Names a unidirectional client in server API calls; empty for others.
    pub(crate) session: &'a str,
    /// The server's name; empty leaves it out.
    pub(crate) node: &'a str,
    /// The server's clock, in milliseconds since 1970; 0 leaves it out.
    pub(crate) time_ms: u64,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct SubscribeResult<'a> {
    pub(crate) expiry: Expiry,
    pub(crate) recoverable: bool,
    pub(crate) epoch: &'a str,
    pub(crate) publications: &'a [WirePublication<'a>],
    pub(crate) recovered: bool,
    pub(crate) offset: u64,
    pub(crate) positioned: bool,
    /// Any bytes.
    pub(crate) data: &'a [u8],
    pub(crate) was_recovering: bool,
    pub(crate) delta: bool,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct HistoryResult<'a> {
    pub(crate) publications: &'a [WirePublication<'a>],
    pub(crate) epoch: &'a str,
    pub(crate) offset: u64,
}

/// A publication as clients get it.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct WirePublication<'a> {
    pub(crate) data: &'a [u8],
    /// How JSON represents `data`.
    pub(crate) json_form: JsonForm,
    /// Set if a client published it.
    pub(crate) info: Option<ClientInfo<'a>>,
    /// Its offset in the channel's history; 0 if the history does not store it.
    pub(crate) offset: u64,
    pub(crate) tags: Tags<'a>,
    /// True if `data` is a delta to the publication before.
    pub(crate) delta: bool,
    /// The time of publishing, in milliseconds since 1970; 0 leaves it out.
    pub(crate) time_ms: u64,
    /// The epoch of the history; empty leaves it out. Centrifugo sends it only with offset 1, the first publication of an
    /// epoch, and not to subscribers with deltas.
    pub(crate) epoch: &'a str,
    /// The publisher's version of the state that `data` describes; 0 leaves it out.
    pub(crate) version: u64,
    /// The channel to which it was published, for subscribers of a pattern; empty leaves it out.
    pub(crate) channel: &'a str,
}

/// How JSON represents a payload. Protobuf always has the bytes themselves.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) enum JsonForm {
    /// The payload is embedded as a JSON value.
    #[default]
    Value,
    /// A string of the bytes: subscribers with deltas get all payloads so. Each byte that is not UTF-8 becomes U+FFFD, as in
    /// Centrifugo. A delta that is not UTF-8 would be damaged by this; `delta_fits_json` tells.
    Text,
    /// A string of the bytes in base64: for payloads that are not JSON.
    Base64,
}

/// True if a JSON string can carry the bytes unchanged.
pub(crate) fn delta_fits_json(delta: &[u8]) -> bool {
    simdutf8::basic::from_utf8(delta).is_ok()
}

/// A subscription that the server added to an existing connection.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct SubscribePush<'a> {
    pub(crate) recoverable: bool,
    pub(crate) epoch: &'a str,
    pub(crate) offset: u64,
    pub(crate) positioned: bool,
    /// Any bytes.
    pub(crate) data: &'a [u8],
}

/// A client, as other clients see it. Infos have the form of `payload::kept_info`.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct ClientInfo<'a> {
    /// Empty for an anonymous user.
    pub(crate) user: &'a str,
    pub(crate) client: &'a str,
    pub(crate) conn_info: &'a [u8],
    pub(crate) chan_info: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::Expiry;

    #[test]
    fn lifetime_that_does_not_fit_32_bits_is_the_longest_that_does() {
        assert_eq!(Expiry::at(0, 9), Expiry(None));
        assert_eq!([Expiry::at(5, 9), Expiry::at(9, 9), Expiry::at(12, 9)], [Some(0), Some(0), Some(3)].map(Expiry));
        assert_eq!(Expiry::at(u64::MAX, 9), Expiry(Some(u32::MAX)));
        assert_eq!(Expiry::at(9 + (1 << 32), 9), Expiry(Some(u32::MAX)));
    }
}
