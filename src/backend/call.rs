//! What a shard asks the application's backend, and the answer. The shard makes a `Call`, the control thread carries it out
//! and sends the `Answer` to the same shard.

use crate::auth::grant::{ConnectGrant, Publish, RefreshGrant, SubscribeGrant};
use crate::ids::{ConnId, ShardId};

/// A question to the backend on behalf of one connection, which waits for the answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    pub shard: ShardId,
    pub conn: ConnId,
    /// Distinguishes the calls of one connection, so that a late answer is recognized.
    pub serial: u32,
    /// The proxy to call: an index into the configured proxies.
    pub proxy: u16,
    pub caller: Caller,
    pub question: Question,
}

/// The connection, as every question describes it.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Caller {
    /// The client's id, as text.
    pub client: String,
    pub user: String,
    /// "websocket", "http_stream", "sse", or one of them with "uni_" before it.
    pub transport: &'static str,
    /// The client uses the Protobuf protocol: payloads are bytes, and not JSON.
    pub binary: bool,
    /// What the connect response set for later requests. JSON, or empty.
    pub meta: Vec<u8>,
    /// Headers of the upgrade request that may be sent to the backend; names in lower case.
    pub headers: Vec<(String, String)>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Question {
    Connect {
        name: String,
        version: String,
        data: Vec<u8>,
        channels: Vec<String>,
    },
    Refresh,
    Subscribe {
        channel: String,
        token: String,
        data: Vec<u8>,
    },
    Publish {
        channel: String,
        data: Vec<u8>,
    },
    SubRefresh {
        channel: String,
    },
    Rpc {
        method: String,
        data: Vec<u8>,
    },
    /// Not for a backend: a token names a signing key that is not known (JWKS). `subscription` selects the key set. The
    /// answer is `Keys` once the set has been fetched again, whether or not it contains the key.
    Keys {
        subscription: bool,
    },
}

/// When the fetch began whose key set answers a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fetched {
    /// The set may lack a key that was published since.
    BeforeCall,
    AfterCall,
}

/// The methods of the proxy protocol. Calls of one method do not wait or fail because of another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    Connect,
    Refresh,
    Subscribe,
    Publish,
    SubRefresh,
    Rpc,
}

impl Method {
    pub(crate) const COUNT: usize = 6;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::SubRefresh => "sub_refresh",
            Self::Rpc => "rpc",
        }
    }

    /// How long the backend takes is up to what the client sends: its slowness says nothing about the backend.
    pub(crate) fn is_paced_by_client(self) -> bool {
        matches!(self, Self::Publish | Self::Rpc)
    }
}

/// The answer to a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Connect(ConnectGrant),
    Refresh(RefreshGrant),
    Subscribe(SubscribeGrant),
    /// Published instead of what the client sent; empty data keeps that.
    Publish(Publish),
    SubRefresh(RefreshGrant),
    Rpc {
        data: Vec<u8>,
    },
    Keys(Fetched),
    /// The backend rejects the command with a code of its own.
    Error {
        code: u32,
        message: String,
        temporary: bool,
    },
    /// The backend closes the connection.
    Disconnect {
        code: u16,
        reason: String,
    },
    /// The call failed: unreachable, late, malformed, or the circuit is open. The client gets error 100.
    Failed,
}

impl Question {
    /// The kind of call, for log lines.
    pub fn kind(&self) -> &'static str {
        self.method().map_or("keys", Method::name)
    }

    /// `None` if it is not for a backend.
    pub(crate) fn method(&self) -> Option<Method> {
        Some(match self {
            Self::Connect { .. } => Method::Connect,
            Self::Refresh => Method::Refresh,
            Self::Subscribe { .. } => Method::Subscribe,
            Self::Publish { .. } => Method::Publish,
            Self::SubRefresh { .. } => Method::SubRefresh,
            Self::Rpc { .. } => Method::Rpc,
            Self::Keys { .. } => return None,
        })
    }

    /// The call may be sent again even if the backend may have acted on it.
    pub fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Publish { .. } | Self::Rpc { .. })
    }
}
