//! Finds the answer to a request at the admin address: the API, health, metrics, statistics, or a file of the page.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::exposition::Format;
use super::metrics::{self, Backends, Report};
use super::settings::{Current, Settings, api_settings};
use super::{page, procfs, stats};
use crate::api::dispatch::Dispatcher;
use crate::api::http;
use crate::api::settings::{Current as CurrentApi, VERSION};
use crate::api::shard_api::ShardApi;
use crate::engine::stats::TURN_BUCKETS_US;

/// Every body is complete when the response is made.
pub(crate) type Body = Full<Bytes>;

/// The shared data of all requests.
pub(crate) struct Context<F> {
    dispatcher: Dispatcher<F>,
    settings: Current,
    api_settings: CurrentApi,
    /// When this server began.
    began: Instant,
    /// The same in seconds since 1970.
    started_at: f64,
}

impl<F: ShardApi> Context<F> {
    pub(crate) fn new(shards: F, settings: Current) -> Self {
        let api_settings = api_settings(&settings);
        let dispatcher = Dispatcher::new(shards, &api_settings.get());
        Self { dispatcher, settings, api_settings, began: Instant::now(), started_at: procfs::unix_seconds() }
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// The server shuts down.
    pub(crate) fn is_draining(&self) -> bool {
        self.dispatcher.shards.is_draining()
    }
}

/// `peer` is the address of the connection.
pub(crate) async fn respond<F: ShardApi>(
    context: &Context<F>,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Response<Body> {
    let path = request.uri().path();
    if http::api_path(path).is_some() {
        return http::respond(&context.dispatcher, &context.api_settings.get(), request, peer).await;
    }
    let known = matches!(path, "/health" | "/health/ready" | "/metrics" | "/stats") || page::file(path).is_some();
    if !known {
        return empty(StatusCode::NOT_FOUND);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
        return response;
    }
    match path {
        "/health" => health(context),
        "/health/ready" => ready(context),
        "/metrics" => scrape(context, request.headers()).await,
        "/stats" => statistics(context).await,
        _ => match page::file(path) {
            Some(file) => page::respond(file, &context.settings()),
            None => empty(StatusCode::NOT_FOUND),
        },
    }
}

fn health<F: ShardApi>(context: &Context<F>) -> Response<Body> {
    let status = if context.is_draining() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut response = text([(CONTENT_TYPE, "application/json")], "{}");
    *response.status_mut() = status;
    response
}

/// Whether this server does what its settings ask for: not while it shuts down, and not while a broker or the durable log
/// does not serve.
fn ready<F: ShardApi>(context: &Context<F>) -> Response<Body> {
    let settings = context.settings();
    match settings.brokers.health().and_then(|()| settings.durable_log.health()) {
        Ok(()) => health(context),
        Err(cause) => {
            let body = serde_json::json!({ "error": cause }).to_string();
            let mut response = text([(CONTENT_TYPE, "application/json")], body);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
    }
}

async fn scrape<F: ShardApi>(context: &Context<F>, headers: &HeaderMap) -> Response<Body> {
    let settings = context.settings();
    let backends = settings.backend.as_ref().map_or_else(Backends::default, |backend| Backends {
        proxies: backend.snapshot(),
        key_sets: backend.key_sets(),
    });
    let shards = context.dispatcher.shards.snapshots().await;
    let process = &*settings.process_stats;
    let unauthorized = &*settings.api.unauthorized;
    let cluster = context.dispatcher.shards.cluster();
    let (cluster, started_at) = (cluster.as_ref(), context.started_at);
    let brokers = &*settings.brokers;
    let durable_log = &*settings.durable_log;
    let (shards, backends) = (&shards, &backends);
    let report = Report { shards, backends, process, unauthorized, cluster, brokers, durable_log, started_at };
    let format = Format::accepted(headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or(""));
    text([(CONTENT_TYPE, format.content_type())], metrics::encode(format, &report))
}

async fn statistics<F: ShardApi>(context: &Context<F>) -> Response<Body> {
    let settings = context.settings();
    let stats = stats::Stats {
        version: VERSION,
        at_ms: context.began.elapsed().as_millis() as u64,
        draining: context.is_draining(),
        client: stats::client(&settings),
        turn_bounds_us: &TURN_BUCKETS_US,
        shards: context.dispatcher.shards.snapshots().await.into_iter().map(stats::Shard::from).collect(),
        nodes: context.dispatcher.shards.cluster().map_or(Vec::new(), |cluster| stats::nodes(cluster.others)),
    };
    let json = serde_json::to_string(&stats).expect("a struct of numbers and strings is JSON");
    text([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], json)
}

fn text<const N: usize>(headers: [(HeaderName, &'static str); N], text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()));
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}
