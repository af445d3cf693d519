//! The HTTP client for the application's backend and for token key sets: a pool of connections, one exchange, and what its
//! failure means.
//!
//! hyper-util keeps the connections; TLS is rustls with the machine's root certificates. There are no redirects, proxies
//! or compression. Time limits are the caller's: dropping the future ends the exchange.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use super::endpoint::Endpoint;
use super::fault::{Fault, Retry, root_cause};
use super::settings::SetupError;
use super::stats::Reason;

/// An idle connection is closed after this time. It is less than the five seconds after which many backends close idle
/// connections: a call sent at that moment fails, and some calls must not be repeated.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A pool of connections. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Which endpoints a client can reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Schemes {
    /// The root certificates of the machine are not read.
    Http,
    HttpAndHttps,
}

impl HttpClient {
    /// Errors: there are no root certificates.
    pub(crate) fn new(schemes: Schemes, idle_connections_max: usize) -> Result<Self, SetupError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let roots = match schemes {
            Schemes::Http => RootCertStore::empty(),
            Schemes::HttpAndHttps => machine_roots()?,
        };
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(idle_connections_max)
            .build(connector.wrap_connector(tcp));
        Ok(Self(client))
    }

    pub(crate) async fn get(&self, endpoint: &Endpoint, headers: HeaderMap) -> Result<Response<Incoming>, Fault> {
        self.send(Method::GET, endpoint, headers, Vec::new()).await
    }

    pub(crate) async fn post(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Fault> {
        self.send(Method::POST, endpoint, headers, body).await
    }

    /// Ends with the head of the response.
    async fn send(
        &self,
        method: Method,
        endpoint: &Endpoint,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = endpoint.uri().clone();
        *request.headers_mut() = headers;
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        if let Some(value) = endpoint.authorization() {
            request.headers_mut().entry(AUTHORIZATION).or_insert(value.clone());
        }
        Ok(self.0.request(request).await?)
    }
}

/// The root certificates that the machine trusts.
fn machine_roots() -> Result<RootCertStore, SetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let cause = found.errors.first().map_or_else(|| "none was found".to_owned(), root_cause_of);
    Err(SetupError::Client(format!("the machine has no root certificates to trust: {cause}")))
}

fn root_cause_of(error: &rustls_native_certs::Error) -> String {
    root_cause(error)
}

/// The body of a response with status 200. Errors: another status, or more than `bytes_max` bytes.
pub(crate) async fn read_body(response: Response<Incoming>, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let status = response.status();
    if status != StatusCode::OK {
        let outage = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        let retry = if outage.contains(&status) { Retry::IfIdempotent } else { Retry::Never };
        let fault = Fault::new(Reason::Status, format!("status {}", status.as_u16()), retry);
        return Err(Fault { status: Some(status), ..fault });
    }
    let too_long = || Fault::new(Reason::TooLong, format!("the response exceeds {bytes_max} bytes"), Retry::Never);
    let mut incoming = response.into_body();
    let announced = incoming.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_long());
    }
    let mut body = Vec::with_capacity(announced as usize);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let Ok(piece) = frame.map_err(broken)?.into_data() else { continue };
        if body.len() + piece.len() > bytes_max {
            return Err(too_long());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn broken(error: hyper::Error) -> Fault {
    Fault::new(Reason::Broken, root_cause(&error), Retry::IfIdempotent)
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let detail = root_cause(&error);
        match error.is_connect() {
            true => Self::new(Reason::Unreachable, detail, Retry::Safe),
            false => Self::new(Reason::Broken, detail, Retry::IfIdempotent),
        }
    }
}
