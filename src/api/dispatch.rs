//! Executes the requests of both front-ends: checks a request, asks the shards, and returns their joined reply.
//!
//! The publications of one batch or broadcast are in flight together. Those to one channel keep their order, because
//! `ShardApi::call` queues a call before it returns; between channels there is no order to keep.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use super::check::RequestLimits;
use super::in_flight::{Permit, Permits, Window};
use super::request::ApiRequest;
use super::settings::{Settings, VERSION};
use super::shard_api::{ApiError, ApiResult, ShardApi};
use super::unknown_fields::UnknownFieldLog;
use crate::auth::grant::Publish;
use crate::cluster::view::{NodeInfo, NodeState};
use crate::engine::stats::Snapshot;
use crate::messaging::api_call::{ApiCall, ApiReply, StreamPosition};

/// The position of a publication; `None` if the channel keeps no history.
pub type PublishResult = ApiResult<Option<StreamPosition>>;

/// The result of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum ApiResponse {
    /// The joined reply of the shards.
    Shards(ApiReply),
    /// One result for each channel, in the order of the request.
    Broadcast(Vec<PublishResult>),
    /// This server in numbers, and behind it the others of its cluster as they announced themselves.
    Info(Vec<NodeInfo>),
}

/// Whether the commands of a batch wait for one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchOrder {
    Sequential,
    Parallel,
}

impl BatchOrder {
    pub fn from_parallel(parallel: bool) -> Self {
        if parallel { Self::Parallel } else { Self::Sequential }
    }
}

/// Executes requests.
pub struct Dispatcher<S> {
    pub shards: S,
    pub(crate) unknown_fields: UnknownFieldLog,
    permits: Permits,
    limits: RequestLimits,
    uid: String,
    name: String,
    started: Instant,
}

/// A call whose parts are queued. Boxed: such calls are rare, and the futures of publications stay small.
type Started<'a> = Pin<Box<dyn Future<Output = ApiResult<ApiResponse>> + Send + 'a>>;

impl<S: ShardApi> Dispatcher<S> {
    pub fn new(shards: S, settings: &Settings) -> Self {
        let Settings { channel_bytes_max, data_bytes_max, uid, name, .. } = settings.clone();
        let limits = RequestLimits { channel_bytes_max, data_bytes_max };
        Self {
            shards,
            unknown_fields: UnknownFieldLog::default(),
            permits: Permits::default(),
            limits,
            uid,
            name,
            started: Instant::now(),
        }
    }

    pub async fn call(&self, request: &ApiRequest<'_>) -> ApiResult<ApiResponse> {
        let _open = self.shards.begin_call().ok_or(ApiError::TooManyRequests)?;
        match self.limits.check(request)? {
            ApiCall::Publish { channel, publish } => {
                let permit = self.permits.acquire().await?;
                self.start_publish(channel, publish, permit).await.map(published)
            }
            call => self.start(call).await,
        }
    }

    /// One result for each request, in their order. In parallel order everything but broadcasts is in flight together;
    /// in sequential order only publications that follow one another are.
    pub async fn batch(
        &self,
        requests: &[ApiResult<ApiRequest<'_>>],
        order: BatchOrder,
    ) -> Vec<ApiResult<ApiResponse>> {
        let Some(_open) = self.shards.begin_call() else {
            return requests.iter().map(|_| Err(ApiError::TooManyRequests)).collect();
        };
        let mut window = Window::new(requests.len());
        for request in requests {
            let checked = match request {
                Ok(request) => self.limits.check(request),
                Err(error) => Err(error.clone()),
            };
            let part = match checked {
                Err(error) => Part::Finished(Err(error)),
                Ok(ApiCall::Publish { channel, publish }) => match window.acquire(&self.permits).await {
                    Ok(permit) => Part::Publish(self.start_publish(channel, publish, permit)),
                    Err(error) => Part::Finished(Err(error)),
                },
                // A broadcast waits for permits, which must not happen while this batch holds some.
                Ok(call) if order == BatchOrder::Parallel && !matches!(call, ApiCall::Broadcast { .. }) => {
                    Part::Started(self.start(call))
                }
                Ok(call) => {
                    window.drain().await;
                    Part::Finished(self.start(call).await)
                }
            };
            window.push(part.finish()).await;
        }
        window.finish().await
    }

    /// Queues the publication before it returns. The future waits for the reply, and holds the permit until then.
    fn start_publish<'a>(
        &'a self,
        channel: Box<str>,
        publish: Publish,
        permit: Permit<'a>,
    ) -> impl Future<Output = PublishResult> + Send + use<'a, S> {
        let reply = self.shards.call(ApiCall::Publish { channel, publish });
        async move {
            let reply = reply.await;
            drop(permit);
            match reply? {
                ApiReply::Publish(position) => Ok(position),
                other => {
                    debug_assert!(false, "the reply to a publication is {other:?}");
                    Ok(None)
                }
            }
        }
    }

    /// Queues a call before it returns; the future only waits. A broadcast is the exception, since it waits for permits.
    fn start(&self, call: ApiCall) -> Started<'_> {
        match call {
            ApiCall::Broadcast { channels, publish } => {
                Box::pin(async { Ok(ApiResponse::Broadcast(self.broadcast(channels, publish).await)) })
            }
            ApiCall::Info => {
                let (reply, snapshots) = (self.shards.call(ApiCall::Info), self.shards.snapshots());
                Box::pin(async move { Ok(ApiResponse::Info(self.info(&snapshots.await, reply.await?))) })
            }
            call => {
                let reply = self.shards.call(call);
                Box::pin(async move { reply.await.map(ApiResponse::Shards) })
            }
        }
    }

    async fn broadcast(&self, channels: Vec<Box<str>>, publish: Publish) -> Vec<PublishResult> {
        let mut window = Window::new(channels.len());
        for channel in channels {
            let permit = match self.limits.check_channel(&channel) {
                Ok(()) => window.acquire(&self.permits).await,
                Err(error) => Err(error),
            };
            let started = permit.map(|permit| self.start_publish(channel, publish.clone(), permit));
            window.push(async { started?.await }).await;
        }
        window.finish().await
    }

    fn info(&self, snapshots: &[Snapshot], reply: ApiReply) -> Vec<NodeInfo> {
        let cluster = self.shards.cluster().unwrap_or_default();
        let own = NodeInfo { metrics: cluster.metrics, ..self.own_info(snapshots, reply) };
        let others = cluster.others.into_iter().filter(|node| node.state != NodeState::Lost);
        std::iter::once(own).chain(others.map(|node| node.info)).collect()
    }

    fn own_info(&self, snapshots: &[Snapshot], reply: ApiReply) -> NodeInfo {
        let users = if let ApiReply::Info { users } = reply { users.len() } else { 0 };
        let sum = |of: fn(&Snapshot) -> u64| saturate(snapshots.iter().map(of).sum());
        NodeInfo {
            uid: self.uid.clone(),
            name: self.name.clone(),
            version: VERSION.into(),
            clients: sum(|snapshot| snapshot.connections),
            users: saturate(users as u64),
            channels: sum(|snapshot| snapshot.channels),
            subscriptions: sum(|snapshot| snapshot.subscriptions),
            uptime_s: saturate(self.started.elapsed().as_secs()),
            metrics: None,
        }
    }
}

/// One command of a batch.
enum Part<'a, W> {
    Publish(W),
    Started(Started<'a>),
    Finished(ApiResult<ApiResponse>),
}

impl<W: Future<Output = PublishResult>> Part<'_, W> {
    async fn finish(self) -> ApiResult<ApiResponse> {
        match self {
            Self::Publish(reply) => reply.await.map(published),
            Self::Started(reply) => reply.await,
            Self::Finished(result) => result,
        }
    }
}

fn published(position: Option<StreamPosition>) -> ApiResponse {
    ApiResponse::Shards(ApiReply::Publish(position))
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
