//! The dialect's proxy protocol over gRPC (`proxy.proto`): the same calls and answers, payloads as bytes, headers as
//! metadata. One HTTP/2 connection per proxy, made when it is first needed; without TLS.

use std::error::Error;
use std::sync::OnceLock;

use reqwest::header::HeaderMap;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::call::{Answer, Call, Question};
use super::decode_reply;
use super::http::{Again, Fault, REPLY_BYTES_MAX, bottom};
use super::messages::{connect, publish, refresh, rpc, sub_refresh, subscribe};
use super::proto::centrifugo_proxy_client::CentrifugoProxyClient;
use super::settings::{ProxySettings, SetupError};
use super::stats::Reason;

#[derive(Debug)]
pub struct Grpc {
    endpoint: Endpoint,
    /// Made with the first call, since it needs the runtime.
    client: OnceLock<CentrifugoProxyClient<Channel>>,
}

impl Grpc {
    /// `authority` is host and port.
    pub fn new(name: &str, authority: &str) -> Result<Self, SetupError> {
        let fault = || SetupError::Endpoint { name: name.into() };
        let uri: tonic::transport::Uri = format!("http://{authority}").parse().map_err(|_| fault())?;
        if uri.port().is_none() {
            return Err(fault());
        }
        Ok(Self { endpoint: Endpoint::from(uri).tcp_nodelay(true), client: OnceLock::new() })
    }

    /// One try.
    pub async fn exchange(&self, call: &Call, settings: &ProxySettings, headers: HeaderMap) -> Result<Answer, Fault> {
        let client = self.client.get_or_init(|| CentrifugoProxyClient::new(self.endpoint.connect_lazy()));
        let mut client = client.clone().max_decoding_message_size(REPLY_BYTES_MAX);
        let Call { caller, question, .. } = call;
        let answer = match question {
            Question::Connect { name, version, data, channels } => {
                let message = connect(caller, settings, (name, version), data, channels);
                let reply = client.connect(request(message, headers)).await?.into_inner();
                decode_reply::connected(call, reply.into(), settings.anonymous_without_result)
            }
            Question::Refresh => {
                let reply = client.refresh(request(refresh(caller, settings), headers)).await?.into_inner();
                decode_reply::refreshed(call, reply.into())
            }
            Question::Subscribe { channel, token, data } => {
                let message = subscribe(caller, settings, channel, token, data);
                let reply = client.subscribe(request(message, headers)).await?.into_inner();
                decode_reply::subscribed(call, reply.into())
            }
            Question::Publish { channel, data } => {
                let message = publish(caller, settings, channel, data);
                let reply = client.publish(request(message, headers)).await?.into_inner();
                decode_reply::published(call, reply.into())
            }
            Question::SubRefresh { channel } => {
                let message = sub_refresh(caller, settings, channel);
                let reply = client.sub_refresh(request(message, headers)).await?.into_inner();
                decode_reply::refreshed(call, reply.into())
            }
            Question::Rpc { method, data } => {
                let message = rpc(caller, settings, method, data);
                let reply = client.rpc(request(message, headers)).await?.into_inner();
                decode_reply::called(call, reply.into())
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
        let mut below: Option<&dyn Error> = status.source();
        while let Some(error) = below {
            if error.is::<tonic::ConnectError>() {
                return Self::new(Reason::Unreachable, bottom(error), Again::Yes);
            }
            below = error.source();
        }
        let code = status.code();
        let detail = format!("gRPC code {}", code as i32);
        match code {
            // Both of a backend that says so and of a connection that ended.
            Code::Unavailable => Self::new(Reason::Broken, detail, Again::IfIdempotent),
            Code::Unknown | Code::Internal | Code::Cancelled if status.source().is_some() => {
                Self::new(Reason::Broken, detail, Again::IfIdempotent)
            }
            Code::DeadlineExceeded => Self::new(Reason::Late, detail, Again::No),
            Code::OutOfRange => Self::new(Reason::TooLong, detail, Again::No),
            _ => Self::new(Reason::Status, detail, Again::No),
        }
    }
}
