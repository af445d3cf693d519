//! The codes of the protocol: errors in replies, ended subscriptions in pushes, closed connections in close frames.
//!
//! Clients act on the codes and show the texts, so both are those of Centrifugo.

/// Why a command is refused. The code is sent in the reply; the connection stays open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum ErrorCode {
    Internal = 100,
    Unauthorized = 101,
    UnknownChannel = 102,
    PermissionDenied = 103,
    MethodNotFound = 104,
    AlreadySubscribed = 105,
    LimitExceeded = 106,
    BadRequest = 107,
    NotAvailable = 108,
    TokenExpired = 109,
    Expired = 110,
    TooManyRequests = 111,
    UnrecoverablePosition = 112,
    ConcurrentPagination = 113,
}

impl ErrorCode {
    pub fn code(self) -> u32 {
        self as u32
    }

    pub fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::Unauthorized => "unauthorized",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
            Self::ConcurrentPagination => "concurrent pagination",
        }
    }

    /// True if the same command may succeed later: SDKs retry.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests | Self::ConcurrentPagination)
    }
}

/// Why the server ended a subscription. From 2500 on, SDKs subscribe again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Unsubscribed {
    Server = 2000,
    InsufficientState = 2500,
    Expired = 2501,
    StateInvalidated = 2502,
}

impl Unsubscribed {
    pub fn code(self) -> u32 {
        self as u32
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::Server => "server unsubscribe",
            Self::InsufficientState => "insufficient state",
            Self::Expired => "subscription expired",
            Self::StateInvalidated => "state invalidated",
        }
    }
}

/// Why the server ended a connection: code and reason of the close frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Disconnect {
    /// The peer is gone: no close frame is sent.
    ConnectionClosed = 3000,
    Shutdown = 3001,
    InternalError = 3004,
    ConnectionExpired = 3005,
    SubscriptionExpired = 3006,
    Slow = 3008,
    WriteError = 3009,
    InsufficientState = 3010,
    ForceReconnect = 3011,
    NoPong = 3012,
    TooManyRequests = 3013,
    StateInvalidated = 3014,
    InvalidToken = 3500,
    BadRequest = 3501,
    Stale = 3502,
    ForceDisconnect = 3503,
    ConnectionLimit = 3504,
    ChannelLimit = 3505,
    InappropriateProtocol = 3506,
    PermissionDenied = 3507,
    NotAvailable = 3508,
    TooManyErrors = 3509,
}

impl Disconnect {
    pub fn code(self) -> u16 {
        self as u16
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::ConnectionClosed => "connection closed",
            Self::Shutdown => "shutdown",
            Self::InternalError => "internal server error",
            Self::ConnectionExpired => "connection expired",
            Self::SubscriptionExpired => "subscription expired",
            Self::Slow => "slow",
            Self::WriteError => "write error",
            Self::InsufficientState => "insufficient state",
            Self::ForceReconnect => "force reconnect",
            Self::NoPong => "no pong",
            Self::TooManyRequests => "too many requests",
            Self::StateInvalidated => "state invalidated",
            Self::InvalidToken => "invalid token",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force disconnect",
            Self::ConnectionLimit => "connection limit",
            Self::ChannelLimit => "channel limit",
            Self::InappropriateProtocol => "inappropriate protocol",
            Self::PermissionDenied => "permission denied",
            Self::NotAvailable => "not available",
            Self::TooManyErrors => "too many errors",
        }
    }

    /// True if SDKs do not reconnect.
    pub fn is_terminal(self) -> bool {
        (3500..4000).contains(&self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_ranges_that_sdks_act_on() {
        assert_eq!((ErrorCode::Internal.code(), ErrorCode::Internal.is_temporary()), (100, true));
        assert_eq!((ErrorCode::ConcurrentPagination.code(), ErrorCode::NotAvailable.code()), (113, 108));
        assert!(!ErrorCode::TokenExpired.is_temporary());
        assert_eq!((Unsubscribed::InsufficientState.code(), Unsubscribed::Server.code()), (2500, 2000));
        assert_eq!((Disconnect::TooManyErrors.code(), Disconnect::StateInvalidated.code()), (3509, 3014));
        assert!(Disconnect::InvalidToken.is_terminal() && !Disconnect::StateInvalidated.is_terminal());
    }
}
