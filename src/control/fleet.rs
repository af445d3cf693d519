//! What the control thread asks of the shards: the one seam between the two. The node implements it over the shards'
//! control mailboxes, tests with a fake.

use std::borrow::Cow;
use std::future::Future;

use serde_json::value::RawValue;

use crate::counters::Snapshot;

/// The shards, as the control thread sees them. Every question has a bound and a deadline.
pub trait Fleet: Clone + Send + Sync + 'static {
    /// Publishes to a channel through its home shard. The name was checked: ASCII, not empty, within the limit.
    /// The data is valid JSON without line ends.
    fn publish(&self, channel: &str, data: Box<RawValue>) -> impl Future<Output = Result<Published, AskError>> + Send;

    /// The numbers of every shard that answered in time, in shard order.
    fn snapshots(&self) -> impl Future<Output = Vec<Snapshot>> + Send;

    /// The server is ending: it serves those who are here and wants nobody new.
    fn draining(&self) -> bool;
}

/// Where a publication stands in its channel; empty for a channel without history.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct Published {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// Why a question had no good answer, grouped by what the asker does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskError {
    /// Asked and not answered in time: it may have happened.
    OutcomeUnknown,
    /// The channel's namespace is not configured.
    UnknownChannel,
    /// No such method.
    MethodNotFound,
    /// The question is wrong as it stands; what is wrong with it.
    BadRequest(Cow<'static, str>),
    /// The question makes sense and is not served; what is not.
    NotAvailable(Cow<'static, str>),
    /// Refused before it was queued: it did not happen, ask again later.
    TooManyRequests,
}

impl AskError {
    pub fn code(&self) -> u32 {
        match self {
            Self::OutcomeUnknown => 100,
            Self::UnknownChannel => 102,
            Self::MethodNotFound => 104,
            Self::BadRequest(_) => 107,
            Self::NotAvailable(_) => 108,
            Self::TooManyRequests => 111,
        }
    }

    /// The dialect's message for the code, and what is wrong where that is known.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::OutcomeUnknown => "internal server error: no answer in time, the outcome is unknown".into(),
            Self::UnknownChannel => "unknown channel".into(),
            Self::MethodNotFound => "method not found".into(),
            Self::BadRequest(what) => format!("bad request: {what}").into(),
            Self::NotAvailable(what) => format!("not available: {what}").into(),
            Self::TooManyRequests => "too many requests".into(),
        }
    }
}
