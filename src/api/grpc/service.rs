//! The gRPC service: checks the key, translates each method's message to a request, and its result back.

use std::io;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use super::api::centrifugo_api_server::{CentrifugoApi, CentrifugoApiServer};
use super::{api, status, translate};
use crate::api::dispatch::{BatchOrder, Dispatcher};
use crate::api::request::{ApiRequest, BATCH_COMMANDS_MAX};
use crate::api::settings::{API_BODY_BYTES_MAX, Current, GrpcSettings};
use crate::api::shard_api::{ApiResult, ShardApi};
use crate::api::unauthorized::Api;
use crate::protocol::ErrorCode;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API at an address of its own until the future is dropped. Errors: tokio does not take the listener.
pub async fn serve<S: ShardApi>(listener: std::net::TcpListener, shards: S, settings: Current) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let dispatcher = Dispatcher::new(shards, &settings.get());
    let service = GrpcService { dispatcher, settings: settings.clone() };
    let service = CentrifugoApiServer::new(service).max_decoding_message_size(API_BODY_BYTES_MAX);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, Some(peer)),
            Err(error) => {
                log::warn!("gRPC API: accept failed: {error}; retrying in {ACCEPT_PAUSE:?}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let settings = settings.clone();
        let guard = move |request: Request<()>| {
            let settings = settings.get();
            if is_authorized(&settings.grpc, request.metadata()) {
                return Ok(request);
            }
            settings.unauthorized.record(Api::Grpc, peer);
            Err(Status::unauthenticated("unauthenticated"))
        };
        let service = TowerToHyperService::new(InterceptedService::new(service.clone(), guard));
        // How a connection ends is not logged: clients may close at any time.
        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
    }
}

fn is_authorized(settings: &GrpcSettings, metadata: &MetadataMap) -> bool {
    let Some(key) = &settings.key else { return false };
    let value = metadata.get("authorization").and_then(|value| value.to_str().ok());
    value.and_then(|value| value.split_once(' ')).is_some_and(|(scheme, sent)| {
        // In constant time, so that the delay of the reply does not tell how much of a guess was right.
        scheme.eq_ignore_ascii_case("apikey") && key.as_bytes().ct_eq(sent.trim().as_bytes()).into()
    })
}

struct GrpcService<S> {
    dispatcher: Dispatcher<S>,
    settings: Current,
}

impl<S: ShardApi> GrpcService<S> {
    async fn call<Q>(&self, request: Request<Q>) -> Result<api::Reply, Status>
    where
        for<'q> ApiRequest<'q>: From<&'q Q>,
    {
        let asked = request.metadata().get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport");
        let uses_status = self.settings.get().grpc.transport_errors || asked;
        let message = request.into_inner();
        let request = ApiRequest::from(&message);
        match self.dispatcher.call(&request).await {
            Err(error) if uses_status => Err(status::from_error(&error)),
            result => Ok(translate::reply(Some(request.method()), result)),
        }
    }
}

/// The methods, in the order in which a batch command's fields are looked at. The field of a reply is named for its method.
macro_rules! service {
    ($($method:ident: $request:ident -> $response:ident,)*) => {
        /// The request of a batch command: its first field that is set.
        fn command_request(command: &api::Command) -> ApiResult<ApiRequest<'_>> {
            $(
                if let Some(request) = &command.$method {
                    return Ok(request.into());
                }
            )*
            Err(ErrorCode::MethodNotFound.into())
        }

        #[tonic::async_trait]
        impl<S: ShardApi> CentrifugoApi for GrpcService<S> {
            $(
                async fn $method(
                    &self,
                    request: Request<api::$request>,
                ) -> Result<Response<api::$response>, Status> {
                    let reply = self.call(request).await?;
                    Ok(Response::new(api::$response { error: reply.error, result: reply.$method }))
                }
            )*

            async fn batch(
                &self,
                request: Request<api::BatchRequest>,
            ) -> Result<Response<api::BatchResponse>, Status> {
                self.call_batch(request.into_inner()).await.map(Response::new)
            }
        }
    };
}

service! {
    publish: PublishRequest -> PublishResponse,
    broadcast: BroadcastRequest -> BroadcastResponse,
    subscribe: SubscribeRequest -> SubscribeResponse,
    unsubscribe: UnsubscribeRequest -> UnsubscribeResponse,
    disconnect: DisconnectRequest -> DisconnectResponse,
    history: HistoryRequest -> HistoryResponse,
    history_remove: HistoryRemoveRequest -> HistoryRemoveResponse,
    presence: PresenceRequest -> PresenceResponse,
    presence_stats: PresenceStatsRequest -> PresenceStatsResponse,
    info: InfoRequest -> InfoResponse,
    rpc: RpcRequest -> RpcResponse,
    refresh: RefreshRequest -> RefreshResponse,
    channels: ChannelsRequest -> ChannelsResponse,
    history_query: HistoryQueryRequest -> HistoryQueryResponse,
}

impl<S: ShardApi> GrpcService<S> {
    async fn call_batch(&self, batch: api::BatchRequest) -> Result<api::BatchResponse, Status> {
        let api::BatchRequest { commands, parallel } = batch;
        if commands.len() > BATCH_COMMANDS_MAX {
            return Err(Status::invalid_argument(format!("more than {BATCH_COMMANDS_MAX} commands in one batch")));
        }
        let requests: Vec<ApiResult<ApiRequest<'_>>> = commands.iter().map(command_request).collect();
        let results = self.dispatcher.batch(&requests, BatchOrder::from_parallel(parallel)).await;
        let methods = requests.iter().map(|request| request.as_ref().ok().map(ApiRequest::method));
        let replies = methods.zip(results).map(|(method, result)| translate::reply(method, result)).collect();
        Ok(api::BatchResponse { replies })
    }
}
