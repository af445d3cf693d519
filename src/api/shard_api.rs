//! What the control thread asks of the shards: the one seam between the two. The node implements it over the shards'
//! control mailboxes, tests with a fake.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;

use crate::auth::grant::{Publish, RefreshGrant, SubscribeGrant};
use crate::engine::stats::Snapshot;
use crate::messaging::control_request::{History, HistoryQuery, Member, Place, Who};
use crate::protocol::ErrorCode;

/// What comes of a question.
pub type Asked<T> = Result<T, AskError>;

/// The shards, as the control thread sees them. Every question has a bound and a deadline.
///
/// The call asks and the future only waits: questions about one channel are answered in the order of the calls, in
/// whatever order their futures are polled. Names of channels were checked: ASCII, not empty, within the limit.
pub trait ShardApi: Clone + Send + Sync + 'static {
    /// Publishes to a channel through its home shard. `None` where the channel keeps no history.
    fn publish(&self, channel: &str, publish: Publish) -> impl Future<Output = Asked<Option<Place>>> + Send;

    fn history(&self, channel: &str, query: HistoryQuery) -> impl Future<Output = Asked<History>> + Send;

    fn history_remove(&self, channel: &str) -> impl Future<Output = Asked<()>> + Send;

    fn presence(&self, channel: &str) -> impl Future<Output = Asked<Vec<Member>>> + Send;

    fn presence_stats(&self, channel: &str) -> impl Future<Output = Asked<Stats>> + Send;

    /// Subscribes connections to a channel. This and the next three say how many connections were meant.
    fn subscribe(
        &self,
        who: Who,
        channel: &str,
        grant: SubscribeGrant,
        since: Option<Place>,
    ) -> impl Future<Output = Asked<u32>> + Send;

    /// An empty channel means every one.
    fn unsubscribe(&self, who: Who, channel: &str) -> impl Future<Output = Asked<u32>> + Send;

    /// `spared`: client ids that stay.
    fn disconnect(
        &self,
        who: Who,
        spared: Vec<Box<str>>,
        code: u16,
        reason: &str,
    ) -> impl Future<Output = Asked<u32>> + Send;

    fn refresh(&self, who: Who, renewal: RefreshGrant) -> impl Future<Output = Asked<u32>> + Send;

    /// Channels with subscribers whose names match (`*` stands for any text, empty for all), and how many those are.
    /// Costs all channels' names.
    fn channels(&self, pattern: &str) -> impl Future<Output = Asked<BTreeMap<Box<str>, u32>>> + Send;

    /// How many users are connected, each counted once. Costs all users' ids.
    fn users(&self) -> impl Future<Output = Asked<usize>> + Send;

    /// The numbers of every shard that answered in time, in shard order.
    fn snapshots(&self) -> impl Future<Output = Vec<Snapshot>> + Send;

    /// The server is ending: it serves those who are here and wants nobody new.
    fn draining(&self) -> bool;
}

/// Who is in a channel, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    pub clients: u32,
    pub users: u32,
}

/// Why a question had no good answer, grouped by what the asker does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskError {
    /// Asked and not answered in time: it may have happened.
    OutcomeUnknown,
    /// Refused before it was queued: it did not happen, ask again later.
    TooManyRequests,
    /// The question is wrong as it stands; what is wrong with it.
    BadRequest(Cow<'static, str>),
    /// The question makes sense and is not served; what is not.
    NotAvailable(Cow<'static, str>),
    /// The dialect's own reason says it all.
    Refused(ErrorCode),
}

impl From<ErrorCode> for AskError {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code)
    }
}

impl AskError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutcomeUnknown => ErrorCode::Internal,
            Self::TooManyRequests => ErrorCode::TooManyRequests,
            Self::BadRequest(_) => ErrorCode::BadRequest,
            Self::NotAvailable(_) => ErrorCode::NotAvailable,
            Self::Refused(code) => *code,
        }
    }

    /// The dialect's message for the code, and what is wrong where that is known.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::OutcomeUnknown => "internal server error: no answer in time, the outcome is unknown".into(),
            Self::BadRequest(what) => format!("bad request: {what}").into(),
            Self::NotAvailable(what) => format!("not available: {what}").into(),
            // The two that this API words otherwise than the clients' protocol does.
            Self::Refused(ErrorCode::MethodNotFound) => "not found".into(),
            Self::Refused(ErrorCode::ConcurrentPagination) => "conflict".into(),
            Self::TooManyRequests | Self::Refused(_) => self.code().message().into(),
        }
    }
}
