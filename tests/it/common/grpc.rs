//! Both sides of gRPC for one test, on hyper as in the server: a client for a given address, and a server for a service.

use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::Service;

/// The transport of the generated clients.
pub type Channel = Client<HttpConnector, Body>;

pub fn channel() -> Channel {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

pub fn origin(at: SocketAddr) -> Uri {
    format!("http://{at}").parse().expect("an address is an authority")
}

/// Serves every connection until the runtime ends. Returns the address.
pub async fn serve<S>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}
