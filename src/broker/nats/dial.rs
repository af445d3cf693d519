//! From an address to a connection that accepts operations: TCP, TLS, login.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::url::ServerAddress;
use super::wire::{self, ServerInfo, ServerOp};
use crate::broker::client_tls;
use crate::config::ClientTls;

/// Bytes that are read at once.
pub(super) const READ_BYTES: usize = 64 << 10;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Logged in.
pub(super) struct Dialed {
    pub(super) stream: Box<dyn Stream>,
    /// What the server sent already.
    pub(super) received: BytesMut,
    pub(super) info: ServerInfo,
}

/// How to reach servers.
#[derive(Clone)]
pub(super) struct Dialer {
    /// The settings and what is made of them.
    pub(super) tls: Option<(ClientTls, Arc<ClientConfig>)>,
    pub(super) timeout: Duration,
}

impl Dialer {
    pub(super) async fn dial(&self, server: &ServerAddress) -> Result<Dialed, String> {
        match tokio::time::timeout(self.timeout, self.dial_patiently(server)).await {
            Ok(dialed) => dialed,
            Err(_) => Err(format!("no login within dial_timeout ({} ms)", self.timeout.as_millis())),
        }
    }

    async fn dial_patiently(&self, server: &ServerAddress) -> Result<Dialed, String> {
        let text = |error: io::Error| error.to_string();
        let stream = TcpStream::connect((&*server.host, server.port)).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        let mut stream: Box<dyn Stream> = Box::new(stream);
        let mut received = BytesMut::new();
        let info = read_info(&mut stream, &mut received).await?;
        let has_tls = self.tls.is_some() || server.needs_tls || info.tls_required;
        if has_tls {
            // What came before the handshake is not protected, and a server sends nothing there but INFO.
            if !received.is_empty() {
                return Err("the server sent more than INFO before the TLS handshake".into());
            }
            stream = self.encrypt(stream, server).await?;
        }
        let mut hello = Vec::new();
        wire::connect(&mut hello, &server.login, has_tls);
        wire::ping(&mut hello);
        stream.write_all(&hello).await.map_err(text)?;
        stream.flush().await.map_err(text)?;
        loop {
            match step(&mut stream, &mut received).await? {
                Step::Pong => return Ok(Dialed { stream, received, info }),
                Step::Refused(reason) => return Err(format!("the server refused the login: {reason}")),
                Step::Info(_) | Step::Other => {}
            }
        }
    }

    async fn encrypt(&self, stream: Box<dyn Stream>, server: &ServerAddress) -> Result<Box<dyn Stream>, String> {
        let (tls, config) = match &self.tls {
            Some((tls, config)) => (tls.clone(), Arc::clone(config)),
            // The address or the server asks for TLS, and the settings say nothing of it.
            None => (ClientTls::default(), client_tls::client_config(&ClientTls::default())?),
        };
        let name = client_tls::server_name(&tls, &server.host)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("TLS: {error}"))?))
    }
}

async fn read_info(stream: &mut Box<dyn Stream>, received: &mut BytesMut) -> Result<ServerInfo, String> {
    match step(stream, received).await? {
        Step::Info(info) => Ok(*info),
        Step::Refused(reason) => Err(format!("the server refused the connection: {reason}")),
        Step::Pong | Step::Other => Err("the server did not begin with INFO: it is not NATS".into()),
    }
}

enum Step {
    Info(Box<ServerInfo>),
    Pong,
    Refused(String),
    Other,
}

/// The next operation.
async fn step(stream: &mut Box<dyn Stream>, received: &mut BytesMut) -> Result<Step, String> {
    loop {
        let parsed = wire::parse(received).map_err(|_| "the server does not speak the protocol of NATS".to_owned())?;
        if let Some((op, length)) = parsed {
            let step = match op {
                ServerOp::Info(info) => Step::Info(info),
                ServerOp::Pong => Step::Pong,
                ServerOp::Error(reason) => Step::Refused(reason.to_owned()),
                ServerOp::Message { .. } | ServerOp::Ping | ServerOp::Ok => Step::Other,
            };
            received.advance(length);
            return Ok(step);
        }
        received.reserve(READ_BYTES);
        match stream.read_buf(received).await {
            Ok(0) => return Err("the server closed the connection".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}
