//! A backend for one test: a small web server that records its requests, or a bare socket for one that misbehaves; and
//! the calls that shards make. The kernel chooses the ports.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corecast::backend::call::{Call, Caller, Question};
use corecast::backend::{Backend, ProxySettings, ProxySnapshot, Reason};
use corecast::ids::{ConnId, ShardId};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

/// How long any one event may take before a test fails: far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A received request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

/// The response of a backend.
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: String,
}

impl<T: Into<String>> From<(StatusCode, T)> for Reply {
    fn from((status, body): (StatusCode, T)) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

impl From<&str> for Reply {
    fn from(body: &str) -> Self {
        (StatusCode::OK, body).into()
    }
}

impl From<StatusCode> for Reply {
    fn from(status: StatusCode) -> Self {
        (status, "").into()
    }
}

impl Reply {
    pub fn redirect(status: StatusCode, location: String) -> Self {
        Self { headers: vec![(LOCATION, location)], ..status.into() }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value.try_into().unwrap());
        }
        response
    }
}

pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each request with the result of `answer`, which gets the request and the number of earlier requests.
    pub async fn start<F, A, R>(answer: F) -> Self
    where
        F: Fn(Seen, usize) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = R> + Send + 'static,
        R: Into<Reply> + Send,
    {
        let (seen, connections) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicUsize>::default());
        let kept = Arc::clone(&seen);
        let respond = move |request: Request<Incoming>| {
            let (kept, answer) = (Arc::clone(&kept), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let request = Seen { method: head.method, path: head.uri.to_string(), headers: head.headers, body };
                let before = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(request.clone());
                    kept.len() - 1
                };
                let reply: Reply = answer(request, before).await.into();
                Ok::<_, hyper::Error>(reply.response())
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond.clone()));
                tokio::spawn(connection);
            }
        });
        Self { url, seen, connections }
    }

    /// Answers every request with status 200 and this body.
    pub async fn responding(body: &str) -> Self {
        let body = body.to_string();
        Self::start(move |_, _| std::future::ready((StatusCode::OK, body.clone()))).await
    }

    /// The requests since the last call of this function.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A bare socket: `serve` gets every connection after its request was read. Returns the URL and the number of
/// connections so far.
pub async fn bare<A>(serve: impl Fn(TcpStream) -> A + Send + 'static) -> (String, Arc<AtomicUsize>)
where
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            read_request(&stream).await;
            tokio::spawn(serve(stream));
        }
    });
    (url, connections)
}

/// Reads one whole request: unread bytes would reset the connection.
async fn read_request(stream: &TcpStream) {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return;
            }
        }
        stream.readable().await.unwrap();
        let mut bytes = [0; 4096];
        if let Ok(count) = stream.try_read(&mut bytes) {
            got.extend_from_slice(&bytes[..count]);
        }
    }
}

/// An address without a listener.
pub async fn unused_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A backend with one proxy and a long timeout, unless the settings have another one.
pub fn backend(url: &str, settings: ProxySettings) -> Backend {
    let timeout = if settings.timeout == ProxySettings::default().timeout { PATIENCE } else { settings.timeout };
    Backend::new(vec![ProxySettings { endpoint: url.into(), timeout, ..settings }]).expect("good settings")
}

pub fn call(question: Question) -> Call {
    let caller = Caller { client: "c1".into(), user: "7".into(), transport: "websocket", ..Caller::default() };
    let conn = ConnId::new(3, 1);
    Call { shard: ShardId(0), conn, serial: 0, proxy: 0, caller, question }
}

pub fn connecting() -> Call {
    call(Question::Connect { name: String::new(), version: String::new(), data: vec![], channels: vec![] })
}

pub fn subscribing() -> Call {
    call(Question::Subscribe { channel: "a".into(), token: String::new(), data: vec![] })
}

pub fn publishing() -> Call {
    call(Question::Publish { channel: "a".into(), data: b"1".into() })
}

pub fn rpc() -> Call {
    call(Question::Rpc { method: "m".into(), data: vec![] })
}

/// The counters of the only proxy.
pub fn counts(backend: &Backend) -> ProxySnapshot {
    backend.snapshot().remove(0)
}

/// The failures that are not 0, by reason.
pub fn failures(backend: &Backend) -> Vec<(&'static str, u64)> {
    let failures = counts(backend).failures;
    let named = Reason::ALL.map(|(reason, name)| (name, failures[reason as usize]));
    named.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Lets other tasks run until `holds` returns true.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not reached before the deadline");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
