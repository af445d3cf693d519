//! The server API over gRPC, for stubs made for other servers of the dialect: the same calls as over HTTP, translated.
//!
//! The key comes as `authorization: apikey <key>`. Errors of a call are part of the answer, or statuses of gRPC where the
//! setting or `x-centrifugo-error-mode: transport` says so.

pub(crate) mod translate;

/// The messages, the server and the client of `api.proto`.
#[allow(clippy::all)]
#[rustfmt::skip]
pub mod api;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::centrifugo_api_server::{CentrifugoApi, CentrifugoApiServer};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use prost::Message;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Response, Status};

use super::call::Call;
use super::dispatch::Calls;
use super::methods::BATCH_COMMANDS_MAX;
use super::settings::{API_BODY_BYTES_MAX, Current};
use super::shard_api::{AskError, Asked, ShardApi};
use crate::protocol::ErrorCode;

/// How long accepting pauses after an error: the missing resource may be free again by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the calls at an address of their own until the future is dropped. Errors: the listener could not be registered.
pub async fn serve<F: ShardApi>(listener: std::net::TcpListener, fleet: F, settings: Current) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let calls = Arc::new(Calls::new(fleet, &settings.get()));
    let translator = Translator { calls, settings: settings.clone() };
    let service = CentrifugoApiServer::new(translator).max_decoding_message_size(API_BODY_BYTES_MAX);
    let guarded = InterceptedService::new(service, move |request: Request<()>| match &settings.get().grpc.key {
        Some(key) if !brings_key(key, request.metadata()) => Err(Status::unauthenticated("unauthenticated")),
        _ => Ok(request),
    });
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("gRPC API: accept failed: {error}; retrying in {ACCEPT_PAUSE:?}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(guarded.clone());
        // How a connection ends is not reported: clients may close at any time.
        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
    }
}

/// In constant time, so that the answer's delay does not tell how much of a guess was right.
fn brings_key(key: &str, metadata: &MetadataMap) -> bool {
    let typed = metadata.get("authorization").and_then(|value| value.to_str().ok());
    typed.and_then(|value| value.split_once(' ')).is_some_and(|(scheme, typed)| {
        scheme.eq_ignore_ascii_case("apikey") && key.as_bytes().ct_eq(typed.trim().as_bytes()).into()
    })
}

struct Translator<F> {
    calls: Arc<Calls<F>>,
    settings: Current,
}

impl<F: ShardApi> Translator<F> {
    async fn perform<Q>(&self, request: Request<Q>) -> Result<api::Reply, Status>
    where
        for<'q> Call<'q>: From<&'q Q>,
    {
        let bare = self.settings.get().grpc.transport_errors
            || request.metadata().get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport");
        let request = request.into_inner();
        match self.calls.call(&Call::from(&request)).await {
            Err(error) if bare => Err(status(&error)),
            outcome => Ok(api::Reply::from(outcome)),
        }
    }
}

/// The calls that have a method each, whose reply's field is named as the method is.
macro_rules! service {
    ($($method:ident: $request:ident -> $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl<F: ShardApi> CentrifugoApi for Translator<F> {
            $(
                async fn $method(&self, request: Request<api::$request>) -> Result<Response<api::$response>, Status> {
                    let reply = self.perform(request).await?;
                    Ok(Response::new(api::$response { error: reply.error, result: reply.$method }))
                }
            )*

            async fn batch(&self, request: Request<api::BatchRequest>) -> Result<Response<api::BatchResponse>, Status> {
                let api::BatchRequest { commands, parallel } = request.into_inner();
                if commands.len() > BATCH_COMMANDS_MAX {
                    return Err(Status::invalid_argument(format!("more than {BATCH_COMMANDS_MAX} commands in one batch")));
                }
                let calls: Vec<Asked<Call<'_>>> = commands.iter().map(translate::command).collect();
                let outcomes = self.calls.batch(&calls, parallel).await;
                Ok(Response::new(api::BatchResponse { replies: outcomes.into_iter().map(api::Reply::from).collect() }))
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
    presence: PresenceRequest -> PresenceResponse,
    presence_stats: PresenceStatsRequest -> PresenceStatsResponse,
    history: HistoryRequest -> HistoryResponse,
    history_remove: HistoryRemoveRequest -> HistoryRemoveResponse,
    info: InfoRequest -> InfoResponse,
    rpc: RpcRequest -> RpcResponse,
    refresh: RefreshRequest -> RefreshResponse,
    channels: ChannelsRequest -> ChannelsResponse,
}

/// A call's error as a status, which has the error itself among its details.
fn status(error: &AskError) -> Status {
    let code = match error.code() {
        ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => Code::NotFound,
        ErrorCode::BadRequest | ErrorCode::NotAvailable => Code::InvalidArgument,
        ErrorCode::TooManyRequests => Code::ResourceExhausted,
        ErrorCode::UnrecoverablePosition => Code::OutOfRange,
        ErrorCode::ConcurrentPagination => Code::AlreadyExists,
        _ => Code::Internal,
    };
    let message = error.message().into_owned();
    let detail = Detail {
        type_url: "type.googleapis.com/centrifugal.centrifugo.api.Error".into(),
        value: api::Error::from(error).encode_to_vec(),
    };
    let details = Details { code: code as i32, message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// `google.rpc.Status`, which is what gRPC's details are.
#[derive(Clone, PartialEq, Message)]
pub struct Details {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Detail>,
}

/// `google.protobuf.Any`: some message, and which.
#[derive(Clone, PartialEq, Message)]
pub struct Detail {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}
