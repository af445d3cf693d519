//! What the control thread asks of a node: each question carries the closure that takes its answer, which must not block.

use std::sync::Arc;

use super::api_call::{ApiCall, ApiReply};
pub use super::api_call::{
    ConnectionSelector as Who, HistoryPage as History, HistoryPublication as Kept, HistoryQuery, MemberInfo as Member,
    StreamPosition as Place,
};
use super::{HandoverPeer, Settings};
use crate::auth::KeySet;
use crate::auth::grant::{Publish, RefreshGrant, SubscribeGrant};
use crate::backend::call;
use crate::ids::ConnId;
use crate::protocol::ErrorCode;

pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

pub enum Ask {
    /// A call of the server API, in one form for all methods.
    Api {
        call: ApiCall,
        answer: Answer<Result<ApiReply, ErrorCode>>,
    },
    /// The wall clock was set: where the zero of the shards' clock is by it now.
    Clock {
        began_unix_ms: u64,
    },
    /// What the operator decided anew. Whoever is here keeps what he was granted.
    Settings {
        settings: Arc<Settings>,
    },
    // Of a channel's home.
    /// `None`: stamped, and the channel keeps no history, so that there is no position.
    Publish {
        channel: Box<str>,
        publish: Publish,
        answer: Answer<Result<Option<Place>, ErrorCode>>,
    },
    History {
        channel: Box<str>,
        query: HistoryQuery,
        answer: Answer<Result<History, ErrorCode>>,
    },
    HistoryRemove {
        channel: Box<str>,
        answer: Answer<Result<(), ErrorCode>>,
    },
    Presence {
        channel: Box<str>,
        answer: Answer<Result<Vec<Member>, ErrorCode>>,
    },
    /// Clients and distinct users.
    PresenceStats {
        channel: Box<str>,
        answer: Answer<Result<(u32, u32), ErrorCode>>,
    },
    // Of every shard.
    /// Channels that this shard has subscribers of and whose names match (a glob, empty for all), with
    /// their number.
    Channels {
        pattern: Box<str>,
        answer: Answer<Vec<(Box<str>, u32)>>,
    },
    /// The users connected here, each once.
    Users {
        answer: Answer<Vec<Box<str>>>,
    },
    /// Subscribes connections to a channel. The answers say how many connections were meant.
    Subscribe {
        who: Who,
        channel: Box<str>,
        grant: SubscribeGrant,
        since: Option<Place>,
        answer: Answer<Result<u32, ErrorCode>>,
    },
    Unsubscribe {
        who: Who,
        channel: Box<str>,
        answer: Answer<Result<u32, ErrorCode>>,
    },
    /// `spared`: client ids that stay.
    Disconnect {
        who: Who,
        spared: Vec<Box<str>>,
        code: u16,
        reason: Box<str>,
        answer: Answer<u32>,
    },
    Refresh {
        who: Who,
        renewal: RefreshGrant,
        answer: Answer<u32>,
    },
    // Of the shard whose connection asked.
    Backend {
        conn: ConnId,
        serial: u32,
        answer: call::Answer,
    },
    /// Another server takes over from this one; or, with none, there is no other any more.
    HandoverPeer {
        twin: Option<Arc<dyn HandoverPeer>>,
        answer: Answer<()>,
    },
    /// To a channel's home: a publication of the other server, which `Forwarded::unpack` read.
    Forwarded {
        publication: Vec<u8>,
    },
    /// Whether `/health` at the clients' address is green.
    Health {
        ready: bool,
    },
    /// A key set was fetched: that of connections, or of subscriptions. Where the settings name another endpoint by now it
    /// is passed over.
    Keys {
        subscription: bool,
        endpoint: Arc<str>,
        keys: Arc<KeySet>,
    },
}
