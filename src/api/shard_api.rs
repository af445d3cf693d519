//! What the control thread asks of the shards: the one seam between the two. `server::ShardClient` implements it over the
//! shards' control mailboxes; tests implement it with a fake.

use std::borrow::Cow;
use std::future::Future;

use super::open_calls::OpenCall;
use crate::cluster::view::ClusterView;
use crate::engine::stats::Snapshot;
use crate::messaging::api_call::{ApiCall, ApiReply};
use crate::protocol::ErrorCode;

pub type ApiResult<T> = Result<T, ApiError>;

/// The shards, as the control thread sees them. Every question has a bound and a deadline.
pub trait ShardApi: Clone + Send + Sync + 'static {
    /// Carries out a checked call on the shards that its scope names. Not for `ApiCall::Broadcast`, which the caller splits.
    ///
    /// The call is queued before this returns, and the future only waits for the replies. Calls about one channel are
    /// therefore carried out in the order in which they are made, in whatever order their futures are polled.
    fn call(&self, call: ApiCall) -> impl Future<Output = ApiResult<ApiReply>> + Send;

    /// The numbers of every shard that answered in time, in shard order.
    fn snapshots(&self) -> impl Future<Output = Vec<Snapshot>> + Send;

    /// The other servers, if this one is in a cluster.
    fn cluster(&self) -> Option<ClusterView> {
        None
    }

    /// A front-end begins a call, and drops what it gets with the reply. `None`: the server ends and takes no more calls.
    fn begin_call(&self) -> Option<OpenCall> {
        Some(OpenCall::default())
    }

    /// The server shuts down: it serves its connections and wants no new ones.
    fn is_draining(&self) -> bool;
}

/// Why a call failed, grouped by what the caller does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApiError {
    /// It was queued and not answered in time: it may have happened.
    OutcomeUnknown,
    /// It was rejected before it was queued: it did not happen, retry later.
    TooManyRequests,
    /// The request is invalid; the reason.
    BadRequest(Cow<'static, str>),
    /// The request is valid and this server does not serve it; the missing feature.
    NotAvailable(Cow<'static, str>),
    /// A shard rejected it with a code of the protocol.
    Rejected(ErrorCode),
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self::Rejected(code)
    }
}

impl ApiError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutcomeUnknown => ErrorCode::Internal,
            Self::TooManyRequests => ErrorCode::TooManyRequests,
            Self::BadRequest(_) => ErrorCode::BadRequest,
            Self::NotAvailable(_) => ErrorCode::NotAvailable,
            Self::Rejected(code) => *code,
        }
    }

    /// The protocol's message for the code, and what is wrong where that is known.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::OutcomeUnknown => "internal server error: no answer in time, the outcome is unknown".into(),
            Self::BadRequest(what) => format!("bad request: {what}").into(),
            Self::NotAvailable(what) => format!("not available: {what}").into(),
            // The two messages in which this API differs from the client protocol.
            Self::Rejected(ErrorCode::MethodNotFound) => "not found".into(),
            Self::Rejected(ErrorCode::ConcurrentPagination) => "conflict".into(),
            Self::TooManyRequests | Self::Rejected(_) => self.code().message().into(),
        }
    }
}
