//! Accepts connections at the admin address and serves HTTP/1.1 on them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection_limit::{ConnectionLimit, ConnectionPermit, reject};
use super::router::{Body, Context, respond};
use super::settings::Current;
use crate::api::shard_api::ShardApi;

/// How long accepting pauses after an error: the missing resource may be free again by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the admin address until the future is dropped. Errors: the listener could not be registered.
pub async fn serve<F: ShardApi>(listener: std::net::TcpListener, shards: F, settings: Current) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let context = Arc::new(Context::new(shards, settings));
    let mut limit = ConnectionLimit::new(Arc::clone(&context.settings().process_stats));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, Some(peer)),
            Err(error) => {
                log::warn!("admin address: accept failed: {error}; retrying in {ACCEPT_PAUSE:?}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let settings = context.settings();
        let tls = settings.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
        let Some(permit) = limit.admit(settings.connections_max) else {
            // A TLS client could not read a plain response.
            if tls.is_none() {
                reject(stream);
            }
            continue;
        };
        // A small response must not wait for the acknowledgement of the one before it.
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve_connection((stream, peer), tls, Arc::clone(&context), permit));
    }
}

async fn serve_connection<F: ShardApi>(
    (stream, peer): (TcpStream, Option<SocketAddr>),
    tls: Option<TlsAcceptor>,
    context: Arc<Context<F>>,
    _permit: ConnectionPermit,
) {
    let Some(tls) = tls else { return serve_http(stream, peer, &context).await };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, peer, &context).await,
        Ok(Err(error)) => log::info!("admin address: TLS handshake failed: {error}; the connection is closed"),
        Err(_) => log::info!("admin address: no TLS handshake within {HANDSHAKE_TIMEOUT:?}; the connection is closed"),
    }
}

/// Until the client closes the connection. How it ends is not reported: clients may close at any time.
async fn serve_http<F: ShardApi>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Option<SocketAddr>,
    context: &Context<F>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(context.settings().request_timeout);
    let service = service_fn(|request| respond_once(context, request, peer));
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond_once<F: ShardApi>(
    context: &Context<F>,
    request: hyper::Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<Response<Body>, Infallible> {
    let mut response = respond(context, request, peer).await;
    // A client that keeps its connection open reaches the next process only if it connects again.
    if context.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
