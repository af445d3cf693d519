//! The control thread's web server at the admin address: server API, health, metrics, statistics, page.
//!
//! Plan: hyper on one thread of tokio, with the API at its door and axum behind it for the rest; the same calls over gRPC
//! at an address of their own. It shares nothing with the shards; what it wants to know or have done it asks through
//! `ShardApi`. Only the API asks for a key, so that the address is not for the public network.
//!
//! - `request`, `methods`  calls, and JSON that becomes them
//! - `calls`, `window`     what each does, for both front-ends; how much of it is under way
//! - `answer`              what came of it, as JSON
//! - `api`, `grpc`         the front-ends

pub(crate) mod connection_limit;
pub(crate) mod metrics;
pub(crate) mod page;
pub mod process_stats;
pub mod procfs;
pub(crate) mod stats;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api::dispatch::Calls;
use crate::config::Config;
use connection_limit::{Visitors, send_away};

pub use crate::api::http::API_BODY_BYTES_MAX;
pub use crate::api::methods::BATCH_COMMANDS_MAX;
pub use crate::api::shard_api::{AskError, Asked, ShardApi, Stats};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the control thread knows of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// None: the API takes no call.
    pub api_key: Option<String>,
    /// There is no API at all: its paths are not found.
    pub api_disabled: bool,
    /// Errors of calls have HTTP statuses of their own, whether or not that is asked for.
    pub transport_errors: bool,
    /// Connections at once.
    pub connections_max: u32,
    /// For a request's head, and as long again for its body.
    pub request_timeout: Duration,
    pub grpc: crate::api::grpc::Settings,
    /// This process's id and name, as `info` tells them.
    pub uid: String,
    pub name: String,
    /// Where the page's clients connect: the first TCP listener, as it was bound. None: the page says so.
    pub client: Option<SocketAddr>,
    /// They speak TLS there.
    pub client_tls: bool,
    /// What the admin address speaks TLS with at the moment. None: it speaks in the clear.
    pub tls: Option<watch::Receiver<Arc<rustls::ServerConfig>>>,
    /// Clients may connect without a token.
    pub anonymous: bool,
    /// Bytes of a channel's name.
    pub channel_bytes_max: usize,
    /// Bytes of a publication's data.
    pub data_bytes_max: usize,
    /// Whose numbers `/metrics` shows beside the shards'.
    pub backend: Option<Arc<crate::backend::Backend>>,
    pub life: Arc<crate::admin::process_stats::ProcessStats>,
}

impl Default for Settings {
    /// Without a key, a name or an id.
    fn default() -> Self {
        Self { uid: String::new(), name: String::new(), ..Self::new(&Config::default(), None) }
    }
}

impl Settings {
    /// `client` is the address of the first TCP listener as it was bound (the configuration may have said port 0).
    pub fn new(config: &Config, client: Option<SocketAddr>) -> Self {
        let Config { engine, http_api, grpc_api, .. } = config;
        Self {
            api_key: config.http_api.key.clone(),
            api_disabled: http_api.disabled,
            transport_errors: http_api.transport_errors,
            connections_max: config.admin.connections_max,
            request_timeout: config.admin.request_timeout,
            grpc: crate::api::grpc::Settings { key: grpc_api.key.clone(), transport_errors: grpc_api.transport_errors },
            uid: uuid::Uuid::new_v4().to_string(),
            name: if config.node.name.is_empty() { name(client) } else { config.node.name.clone() },
            client,
            client_tls: false,
            tls: None,
            anonymous: config.client.insecure,
            channel_bytes_max: config.channel.max_length,
            // What could not wait for a shard as a whole could never be delivered.
            data_bytes_max: engine.mail_bytes_max.min(engine.turn_bytes_max).min(API_BODY_BYTES_MAX / 2),
            backend: None,
            life: Arc::default(),
        }
    }

    /// Of another configuration and its backends, for the same process at the same addresses.
    pub fn renewed(&self, config: &Config, backend: Arc<crate::backend::Backend>) -> Self {
        Self {
            uid: self.uid.clone(),
            name: self.name.clone(),
            client_tls: self.client_tls,
            tls: self.tls.clone(),
            backend: Some(backend),
            life: Arc::clone(&self.life),
            ..Self::new(config, self.client)
        }
    }

    fn client_scheme(&self) -> &'static str {
        if self.client_tls { "wss" } else { "ws" }
    }
}

pub(crate) struct Inner<F> {
    pub(crate) calls: Calls<F>,
    /// Those that hold now.
    settings: Current,
    began: Instant,
    /// Seconds since 1970.
    started_at: f64,
}

/// Settings that a reload replaces.
pub type Current = watch::Receiver<Arc<Settings>>;

impl<F> Inner<F> {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }
}

/// What every handler has at hand.
struct Shared<F>(Arc<Inner<F>>);

impl<F> Clone for Shared<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> std::ops::Deref for Shared<F> {
    type Target = Inner<F>;

    fn deref(&self) -> &Inner<F> {
        &self.0
    }
}

/// The machine's name and the clients' port.
fn name(client: Option<SocketAddr>) -> String {
    let machine = crate::admin::procfs::machine_name().unwrap_or_else(|| "corecast".into());
    client.map_or(machine.clone(), |client| format!("{machine}_{}", client.port()))
}

/// After a connection could not be accepted: what was lacking may be there again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client of the admin address may take for its hand-shake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the admin address until the future is dropped. Errors: the listener could not be taken over.
pub async fn serve<F: ShardApi>(listener: std::net::TcpListener, fleet: F, settings: Current) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let calls = Calls::new(fleet, &settings.borrow());
    let (began, started_at) = (Instant::now(), crate::admin::procfs::unix_seconds());
    let shared = Shared(Arc::new(Inner { calls, settings, began, started_at }));
    let pages = TowerToHyperService::new(router(shared.clone()));
    let mut visitors = Visitors::new(Arc::clone(&shared.settings().life));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("the admin address cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let now = shared.settings();
        let (request_timeout, tls) = (now.request_timeout, now.tls.as_ref().map(|tls| Arc::clone(&tls.borrow())));
        let Some(visitor) = visitors.enter(now.connections_max) else {
            // Who speaks TLS could not read it.
            if tls.is_none() {
                send_away(stream);
            }
            continue;
        };
        // A small answer must not wait for the acknowledgement of the one before it.
        let _ = stream.set_nodelay(true);
        let (shared, pages) = (shared.clone(), pages.clone());
        let service = service_fn(move |request| answer_one(shared.clone(), pages.clone(), request));
        // How a connection ends is its peer's affair.
        tokio::spawn(async move {
            let _here = visitor;
            let Some(tls) = tls.map(TlsAcceptor::from) else { return speak(stream, service, request_timeout).await };
            match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => speak(stream, service, request_timeout).await,
                Ok(Err(error)) => log::info!("the admin address: a TLS hand-shake failed: {error}"),
                Err(_) => log::info!("the admin address: a TLS hand-shake took more than {HANDSHAKE_TIMEOUT:?}"),
            }
        });
    }
}

async fn speak<S>(stream: impl AsyncRead + AsyncWrite + Unpin, service: S, request_timeout: Duration)
where
    S: Service<hyper::Request<Incoming>, Response = Response, Error = Infallible>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(request_timeout);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer_one<F: ShardApi>(
    shared: Shared<F>,
    pages: TowerToHyperService<Router>,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut answer = match crate::api::http::below(request.uri().path()) {
        Some(_) => crate::api::http::respond(&shared, request).await,
        None => Box::pin(pages.call(request.map(Body::new))).await?,
    };
    // Whoever keeps his connection open finds another process next time.
    if shared.calls.fleet.draining() {
        answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    Ok(answer)
}

fn router<F: ShardApi>(shared: Shared<F>) -> Router {
    let file =
        |file| get(move |State(shared): State<Shared<F>>| async move { page::respond(file, &shared.settings()) });
    Router::new()
        .route("/", file(page::INDEX))
        .route("/app.js", file(page::SCRIPT))
        .route("/client.js", file(page::CLIENT))
        .route("/style.css", file(page::STYLE))
        .route("/health", get(health))
        .route("/metrics", get(scrape))
        .route("/stats", get(statistics))
        .with_state(shared)
}

fn json(body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).expect("our own types are JSON");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn health<F: ShardApi>(State(shared): State<Shared<F>>) -> Response {
    let status = if shared.calls.fleet.draining() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, [(header::CONTENT_TYPE, "application/json")], "{}").into_response()
}

async fn scrape<F: ShardApi>(State(shared): State<Shared<F>>, headers: HeaderMap) -> Response {
    let settings = shared.settings();
    let backends = settings.backend.as_ref().map_or_else(metrics::Backends::default, |backend| metrics::Backends {
        proxies: backend.snapshot(),
        key_sets: backend.key_sets(),
    });
    let life = Arc::clone(&settings.life);
    let text = metrics::encode(shared.calls.fleet.snapshots().await, backends, life, shared.started_at);
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    match accepted.contains("application/openmetrics-text") {
        true => ([(header::CONTENT_TYPE, metrics::OPENMETRICS)], text).into_response(),
        false => ([(header::CONTENT_TYPE, metrics::PLAIN)], metrics::older(&text)).into_response(),
    }
}

async fn statistics<F: ShardApi>(State(shared): State<Shared<F>>) -> Response {
    let settings = shared.settings();
    let shards = shared.calls.fleet.snapshots().await.into_iter().map(stats::Shard::from).collect();
    let stats = stats::Stats {
        version: VERSION,
        at_ms: shared.began.elapsed().as_millis() as u64,
        draining: shared.calls.fleet.draining(),
        client: stats::client(&settings),
        turn_bounds_us: &crate::engine::stats::TURN_BUCKETS_US,
        shards,
    };
    ([(header::CACHE_CONTROL, "no-store")], json(&stats)).into_response()
}
