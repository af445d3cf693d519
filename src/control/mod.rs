//! The control thread's web server at the admin address: server API, health, metrics, statistics, page.
//!
//! Plan: axum on one thread of tokio. It shares nothing with the shards; what it wants to know or have done it asks
//! through `Fleet`. Only the API asks for a key, so that the address is not for the public network.

mod api;
mod fleet;
mod metrics;
mod page;
mod process;
mod request;
mod stats;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::config::Config;

pub use api::API_BODY_BYTES_MAX;
pub use fleet::{AskError, Fleet, Published};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the control thread knows of the configuration.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    /// None: the API takes no call.
    pub api_key: Option<String>,
    /// Where the page's clients connect: the first TCP listener, as it was bound. None: the page says so.
    pub client: Option<SocketAddr>,
    /// Clients may connect without a token.
    pub anonymous: bool,
    /// Bytes of a channel's name.
    pub channel_bytes_max: usize,
    /// Bytes of a publication's data.
    pub data_bytes_max: usize,
}

impl Settings {
    /// `client` is the address of the first TCP listener as it was bound (the configuration may have said port 0).
    pub fn new(config: &Config, client: Option<SocketAddr>) -> Self {
        let engine = &config.engine;
        Self {
            api_key: config.api_key.clone(),
            client,
            anonymous: config.client.insecure,
            channel_bytes_max: config.channel.max_length,
            // What could not wait for a shard as a whole could never be delivered.
            data_bytes_max: engine.mail_bytes_max.min(engine.turn_bytes_max).min(API_BODY_BYTES_MAX / 2),
        }
    }
}

struct Inner<F> {
    fleet: F,
    settings: Settings,
    began: Instant,
    /// Seconds since 1970.
    started_at: f64,
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

impl<F> Inner<F> {
    fn bounds(&self) -> request::Bounds {
        let Settings { channel_bytes_max, data_bytes_max, .. } = self.settings;
        request::Bounds { channel_bytes_max, data_bytes_max }
    }
}

/// Serves the admin address until the future is dropped. Errors: the listener could not be taken over.
pub async fn serve<F: Fleet>(listener: std::net::TcpListener, fleet: F, settings: Settings) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, router(fleet, settings)).await
}

fn router<F: Fleet>(fleet: F, settings: Settings) -> Router {
    let shared =
        Shared(Arc::new(Inner { fleet, settings, began: Instant::now(), started_at: process::unix_seconds() }));
    let file = |file| get(move |State(shared): State<Shared<F>>| async move { page::respond(file, &shared.settings) });
    Router::new()
        .route("/", file(page::INDEX))
        .route("/app.js", file(page::SCRIPT))
        .route("/client.js", file(page::CLIENT))
        .route("/style.css", file(page::STYLE))
        .route("/health", get(health))
        .route("/metrics", get(scrape))
        .route("/stats", get(statistics))
        .merge(api::routes(shared.clone()))
        .with_state(shared)
}

fn json(body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).expect("our own types are JSON");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn health<F: Fleet>(State(shared): State<Shared<F>>) -> Response {
    let status = if shared.fleet.draining() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, [(header::CONTENT_TYPE, "application/json")], "{}").into_response()
}

async fn scrape<F: Fleet>(State(shared): State<Shared<F>>, headers: HeaderMap) -> Response {
    let text = metrics::encode(shared.fleet.snapshots().await, shared.started_at);
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    match accepted.contains("application/openmetrics-text") {
        true => ([(header::CONTENT_TYPE, metrics::OPENMETRICS)], text).into_response(),
        false => ([(header::CONTENT_TYPE, metrics::PLAIN)], metrics::older(&text)).into_response(),
    }
}

async fn statistics<F: Fleet>(State(shared): State<Shared<F>>) -> Response {
    let shards = shared.fleet.snapshots().await.into_iter().map(stats::Shard::from).collect();
    let stats = stats::Stats {
        version: VERSION,
        at_ms: shared.began.elapsed().as_millis() as u64,
        draining: shared.fleet.draining(),
        client: stats::client(&shared.settings),
        turn_bounds_us: &crate::counters::TURN_BUCKETS_US,
        shards,
    };
    ([(header::CACHE_CONTROL, "no-store")], json(&stats)).into_response()
}
