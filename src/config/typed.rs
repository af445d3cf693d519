//! What was typed in words of the original, or before it is known what it refers to. `resolve` makes the rest of the
//! configuration from it; nobody else reads it.

use super::proxy::Proxy;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Typed {
    pub(super) http: HttpServer,
    pub(super) grpc: Grpc,
    /// `client.proxy`.
    pub(super) connect: ProxySection,
    pub(super) refresh: ProxySection,
    /// `channel.proxy`: what "default" means to a namespace.
    pub(super) subscribe: Proxy,
    pub(super) publish: Proxy,
    pub(super) sub_refresh: Proxy,
    /// `rpc.proxy`.
    pub(super) rpc: Proxy,
    /// Keys of the original that do nothing here: a sentence each.
    pub(super) idle: Vec<String>,
}

/// `http_server`: 0 and the empty text are not typed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct HttpServer {
    pub address: String,
    pub port: u16,
    pub internal_address: String,
    pub internal_port: u16,
    pub tls: HttpTls,
}

/// `http_server.tls`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct HttpTls {
    pub enabled: bool,
    pub cert_pem_file: String,
    pub key_pem_file: String,
}

/// `grpc_api`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grpc {
    pub enabled: bool,
    pub address: String,
    pub port: u16,
}

impl Default for Grpc {
    fn default() -> Self {
        Self { enabled: false, address: String::new(), port: 10000 }
    }
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ProxySection {
    pub enabled: bool,
    pub proxy: Proxy,
}
