//! The same calls over gRPC, to a backend that is generated from the same `.proto`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::backend::{call, connecting, counts, failures, publishing, rpc, subscribing};
use corecast::auth::grant::{ConnectGrant, Overrides, Publish, RefreshGrant, SubscribeGrant};
use corecast::backend::call::{Answer, Question};
use corecast::backend::proto;
use corecast::backend::proto::centrifugo_proxy_server::{CentrifugoProxy, CentrifugoProxyServer};
use corecast::backend::proto::*;
use corecast::backend::{Backoff, BreakerSettings, ProxySettings, REPLY_BYTES_MAX};
use tonic::{Request, Response, Status};

/// The requests that the backend received, as text.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Vec<String>>>);

impl Fake {
    async fn start() -> (Self, String) {
        let fake = Self::default();
        let address = crate::common::grpc::serve(CentrifugoProxyServer::new(fake.clone())).await;
        let endpoint = format!("grpc://{address}");
        (fake, endpoint)
    }

    fn record<T: std::fmt::Debug>(&self, request: &Request<T>) {
        self.0.lock().unwrap().push(format!("{:?} {:?}", request.get_ref(), request.metadata().get("x-trace")));
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tonic::async_trait]
impl CentrifugoProxy for Fake {
    async fn connect(&self, request: Request<ConnectRequest>) -> Result<Response<ConnectResponse>, Status> {
        self.record(&request);
        let flags = SubscribeOptionOverride { presence: Some(BoolValue { value: true }), ..Default::default() };
        let sub = SubscribeOptions { b64data: "MQ==".into(), r#override: Some(flags), ..Default::default() };
        let result = ConnectResult {
            user: "9".into(),
            expire_at: 5,
            info: b"{}".into(),
            data: b"[\n1]".into(),
            meta: b"1".into(),
            channels: vec!["b".into()],
            subs: [("a".to_string(), sub)].into(),
            ..Default::default()
        };
        Ok(Response::new(ConnectResponse { result: Some(result), ..Default::default() }))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Result<Response<RefreshResponse>, Status> {
        self.record(&request);
        let result = RefreshResult { expire_at: 5, ..Default::default() };
        Ok(Response::new(RefreshResponse { result: Some(result), ..Default::default() }))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<SubscribeResponse>, Status> {
        self.record(&request);
        match request.get_ref().channel.as_str() {
            "unavailable" => return Err(Status::unavailable("secret")),
            "denied" => return Err(Status::permission_denied("secret")),
            "late" => std::future::pending().await,
            _ => {}
        }
        let error = proto::Error { code: 103, message: "no".into(), temporary: true };
        Ok(Response::new(SubscribeResponse { error: Some(error), ..Default::default() }))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        self.record(&request);
        let result = PublishResult {
            data: b"2".into(),
            delta: true,
            tags: [("k".into(), "v".into())].into(),
            ..Default::default()
        };
        Ok(Response::new(PublishResponse { result: Some(result), ..Default::default() }))
    }

    async fn rpc(&self, request: Request<RpcRequest>) -> Result<Response<RpcResponse>, Status> {
        self.record(&request);
        let data = match request.get_ref().method.as_str() {
            "long" => vec![b'1'; REPLY_BYTES_MAX],
            _ => vec![0, 255],
        };
        let result = RpcResult { data, ..Default::default() };
        Ok(Response::new(RpcResponse { result: Some(result), ..Default::default() }))
    }

    async fn sub_refresh(&self, request: Request<SubRefreshRequest>) -> Result<Response<SubRefreshResponse>, Status> {
        self.record(&request);
        let disconnect = Disconnect { code: 4000, reason: "go".into() };
        Ok(Response::new(SubRefreshResponse { disconnect: Some(disconnect), ..Default::default() }))
    }
}

fn settings() -> ProxySettings {
    let quick = Duration::from_millis(1);
    ProxySettings {
        http_headers: vec!["X-Trace".into()],
        include_connection_meta: true,
        retry_backoff: Backoff { min: quick, max: quick, jitter: 0.0 },
        breaker: BreakerSettings { failures_to_open: 0, ..BreakerSettings::default() },
        ..ProxySettings::default()
    }
}

#[tokio::test]
async fn each_call_has_its_message_and_its_reply() {
    let (fake, endpoint) = Fake::start().await;
    let backend = crate::common::backend::backend(&endpoint, settings());
    let overrides = Overrides { presence: Some(true), ..Overrides::default() };
    let connect = ConnectGrant {
        user: "9".into(),
        expire_at: Some(5),
        info: b"{}".into(),
        data: b"[1]".into(),
        meta: b"1".into(),
        subs: vec![
            ("a".into(), SubscribeGrant { data: b"1".into(), overrides, ..Default::default() }),
            ("b".into(), SubscribeGrant::default()),
        ],
    };
    let tags = vec![("k".to_string(), "v".to_string())];
    let publish = Publish { data: b"2".into(), delta: true, tags, ..Default::default() };
    for (question, answer, sent) in [
        (connecting().question, Answer::Connect(connect), "ConnectRequest"),
        (Question::Refresh, Answer::Refresh(RefreshGrant { expire_at: Some(5), ..Default::default() }), "meta: [49]"),
        (subscribing().question, Answer::Error { code: 103, message: "no".into(), temporary: true }, "channel: \"a\""),
        (publishing().question, Answer::Publish(publish), "data: [49]"),
        (
            Question::SubRefresh { channel: "a".into() },
            Answer::SubRefresh(RefreshGrant { expired: true, ..Default::default() }),
            "channel: \"a\"",
        ),
        (rpc().question, Answer::Rpc { data: vec![0, 255] }, "method: \"m\""),
    ] {
        let mut call = call(question);
        (call.caller.binary, call.caller.meta) = (matches!(call.question, Question::Rpc { .. }), b"1".into());
        call.caller.headers = vec![("x-trace".into(), "7".into())];
        assert_eq!(backend.ask(call).await, answer);
        let seen = fake.seen().remove(0);
        assert!(seen.contains(sent) && seen.contains("client: \"c1\"") && seen.ends_with("Some(\"7\")"), "{seen}");
    }
    assert_eq!(failures(&backend), []);
    let unfit = Answer::Disconnect { code: 3506, reason: "inappropriate protocol".into() };
    assert_eq!(backend.ask(rpc()).await, unfit, "these bytes are not valid for a JSON client");
    assert_eq!(failures(&backend), [("unfit", 1)]);
}

#[tokio::test]
async fn failures_are_classified_as_over_http() {
    let (fake, endpoint) = Fake::start().await;
    let late = settings().timeout.min(Duration::from_millis(200));
    let subscribe =
        |channel: &str| call(Question::Subscribe { channel: channel.into(), token: String::new(), data: vec![] });
    for (call, timeout, reason, tries) in [
        (subscribe("unavailable"), crate::common::PATIENCE, "broken", 3),
        (subscribe("denied"), crate::common::PATIENCE, "status", 1),
        (subscribe("late"), late, "timeout", 1),
        (call(Question::Rpc { method: "long".into(), data: vec![] }), crate::common::PATIENCE, "too_long", 1),
    ] {
        let backend = crate::common::backend::backend(&endpoint, ProxySettings { timeout, ..settings() });
        assert_eq!(backend.ask(call).await, Answer::Failed);
        assert_eq!((failures(&backend), fake.seen().len()), (vec![(reason, 1)], tries));
    }
    let address = crate::common::backend::unused_address().await.replace("http://", "");
    let backend = crate::common::backend::backend(&address, settings());
    assert_eq!(backend.ask(publishing()).await, Answer::Failed);
    assert_eq!((failures(&backend), counts(&backend).retries), (vec![("unreachable", 1)], 2));
}
