//! Calls over gRPC (`proxy.proto`): the same calls and answers as in JSON, payloads as bytes, headers as metadata.
//!
//! Each proxy has one HTTP/2 connection without TLS, which hyper-util opens with the first call and replaces when it breaks.

use std::error::Error;

use hyper::Uri;
use hyper::header::HeaderMap;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use super::answers;
use super::call::{Answer, Call, Question};
use super::fault::{Fault, Retry, root_cause};
use super::proto::centrifugo_proxy_client::CentrifugoProxyClient;
use super::protobuf::{connect, publish, refresh, rpc, sub_refresh, subscribe};
use super::settings::{ProxySettings, REPLY_BYTES_MAX, SetupError};
use super::stats::Reason;

#[derive(Debug)]
pub(crate) struct Grpc(CentrifugoProxyClient<Client<HttpConnector, Body>>);

impl Grpc {
    /// `authority` is host and port; `setting` names the proxy in the error.
    pub(crate) fn new(setting: &str, authority: &str) -> Result<Self, SetupError> {
        let origin: Uri = format!("http://{authority}").parse().map_err(|_| SetupError::endpoint(setting))?;
        if origin.port().is_none() {
            return Err(SetupError::endpoint(setting));
        }
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_only(true)
            .pool_idle_timeout(None)
            .build(tcp);
        let client = CentrifugoProxyClient::with_origin(client, origin).max_decoding_message_size(REPLY_BYTES_MAX);
        Ok(Self(client))
    }

    /// One attempt.
    pub(crate) async fn attempt(
        &self,
        call: &Call,
        settings: &ProxySettings,
        headers: HeaderMap,
    ) -> Result<Answer, Fault> {
        let mut client = self.0.clone();
        let Call { caller, question, .. } = call;
        let answer = match question {
            Question::Connect { name, version, data, channels } => {
                let message = connect(caller, settings, (name, version), data, channels);
                let reply = client.connect(request(message, headers)).await?.into_inner();
                answers::connect(call, reply.into(), settings.empty_connect)
            }
            Question::Refresh => {
                let reply = client.refresh(request(refresh(caller, settings), headers)).await?.into_inner();
                answers::refresh(call, reply.into())
            }
            Question::Subscribe { channel, token, data } => {
                let message = subscribe(caller, settings, channel, token, data);
                let reply = client.subscribe(request(message, headers)).await?.into_inner();
                answers::subscribe(call, reply.into())
            }
            Question::Publish { channel, data } => {
                let message = publish(caller, settings, channel, data);
                let reply = client.publish(request(message, headers)).await?.into_inner();
                answers::publish(call, reply.into())
            }
            Question::SubRefresh { channel } => {
                let message = sub_refresh(caller, settings, channel);
                let reply = client.sub_refresh(request(message, headers)).await?.into_inner();
                answers::refresh(call, reply.into())
            }
            Question::Rpc { method, data } => {
                let message = rpc(caller, settings, method, data);
                let reply = client.rpc(request(message, headers)).await?.into_inner();
                answers::rpc(call, reply.into())
            }
            Question::Keys { .. } => Ok(Answer::Failed),
        };
        Ok(answer?)
    }
}

fn request<T>(message: T, headers: HeaderMap) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    request
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let mut cause: Option<&dyn Error> = status.source();
        while let Some(error) = cause {
            if error.downcast_ref::<ClientError>().is_some_and(ClientError::is_connect) {
                return Self::new(Reason::Unreachable, root_cause(error), Retry::Safe);
            }
            cause = error.source();
        }
        let code = status.code();
        let detail = format!("gRPC status {}", code as i32);
        match code {
            // The backend may report it, or the connection may have ended.
            Code::Unavailable => Self::new(Reason::Broken, detail, Retry::IfIdempotent),
            Code::Unknown | Code::Internal | Code::Cancelled if status.source().is_some() => {
                Self::new(Reason::Broken, detail, Retry::IfIdempotent)
            }
            Code::DeadlineExceeded => Self::new(Reason::Late, detail, Retry::Never),
            Code::OutOfRange => Self::new(Reason::TooLong, detail, Retry::Never),
            _ => Self::new(Reason::Status, detail, Retry::Never),
        }
    }
}
