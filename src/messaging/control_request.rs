//! The requests of the control thread to a shard. A request with an answer carries the closure that takes the answer;
//! the closure must not block.

use std::sync::Arc;

use super::api_call::{ApiCall, ApiReply};

use super::handover_peer::HandoverPeer;
use super::settings::{Settings, TokenKind};
use crate::auth::KeySet;
use crate::backend::call;
use crate::broker::Broker;
use crate::broker::port::EventBatch;
use crate::ids::ConnId;
use crate::protocol::ErrorCode;

pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

pub enum ControlRequest {
    /// A call of the server API, as far as this shard carries it out.
    Api { call: ApiCall, answer: Answer<Result<ApiReply, ErrorCode>> },
    /// To a channel's home shard: a publication of the peer process, which `Forwarded::unpack` accepts.
    Forwarded { publication: Vec<u8> },
    /// The backend has answered a call of this shard.
    BackendAnswer { conn: ConnId, serial: u32, answer: call::Answer },
    /// A key set was fetched, or with `None` became too old. It is ignored if the settings name another endpoint by now.
    Keys { kind: TokenKind, endpoint: Arc<str>, keys: Option<Arc<KeySet>> },
    /// The settings after a reload. Connections keep what they were granted.
    Settings { settings: Arc<Settings> },
    /// The wall clock was set: the zero of the shards' clock in wall-clock time.
    Clock { clock_zero_unix_ms: u64 },
    /// Another process takes over from this one; or, with `None`, it is gone.
    HandoverPeer { peer: Option<Arc<dyn HandoverPeer>>, answer: Answer<()> },
    /// Messages of the peer process for this shard, which `handover_message::route` accepts.
    PeerMessages(Vec<Vec<u8>>),
    /// This process has all channels of the peer process.
    SortCopies { answer: Answer<()> },
    /// The process that takes over has all channels: it orders them from here on.
    FollowPeer { broker: Broker, answer: Answer<()> },
    /// Events of the broker.
    Broker(EventBatch),
    /// What `/health` at the clients' address reports.
    Health { is_ready: bool },
}
