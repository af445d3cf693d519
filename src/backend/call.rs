//! Calls to the operator's backend: what a shard asks and what comes back. The shard makes a `Call`, the control thread
//! carries it out and hands the `Answer` to the same shard. No sockets here, and no clock.

use crate::auth::grant::{ConnectGrant, Publish, RefreshGrant, SubscribeGrant};
use crate::ids::{ConnId, ShardId};

/// A question to the backend, on behalf of one connection that waits for the answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    pub shard: ShardId,
    pub conn: ConnId,
    /// Distinguishes the calls of one connection: an answer that comes too late finds another number.
    pub serial: u32,
    /// Which configured proxy is asked: an index into the configuration's list of proxies.
    pub proxy: u16,
    pub caller: Caller,
    pub question: Question,
}

/// Who asks, in words that every question carries.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Caller {
    /// The client's id, as text.
    pub client: String,
    pub user: String,
    /// "websocket" or "uni_websocket".
    pub transport: &'static str,
    /// Payloads are bytes (Protobuf clients), to be sent as base64, and not JSON.
    pub binary: bool,
    /// What the connect grant kept for the backend. JSON, or empty.
    pub meta: Vec<u8>,
    /// Of the upgrade request: the allowed ones (`Kept` headers), names in lower case.
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
    /// Not a backend's: the signing key of this id, wanted for a token (JWKS). `subscription` says which of the two key
    /// sets. The answer is `Keys` once the set was asked for again, whether or not it holds the key now.
    Keys {
        subscription: bool,
        kid: String,
    },
}

/// What came back.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Connect(ConnectGrant),
    Refresh(RefreshGrant),
    Subscribe(SubscribeGrant),
    /// Published in place of what the client sent; empty data leaves that.
    Publish(Publish),
    SubRefresh(RefreshGrant),
    Rpc {
        data: Vec<u8>,
    },
    Keys,
    /// The backend refuses the command with a code of its own.
    Error {
        code: u32,
        message: String,
        temporary: bool,
    },
    /// The backend wants the connection closed.
    Disconnect {
        code: u16,
        reason: String,
    },
    /// No good answer: unreachable, late, malformed, or the circuit is open. The client gets error 100.
    Failed,
}
