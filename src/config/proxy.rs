//! The operator's backends: where they are, what they are told, how long they may take; and which RPC goes where.

use std::fmt;
use std::time::Duration;

use super::channel::ProxyUse;

/// One backend. Where it is used stands at the user: an index into `Config.proxies`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The typed one, or the section where it stands (`client.proxy.connect`). For logs and metrics.
    pub name: String,
    /// `http://…` or `https://…`; or `grpc://host:port`, also without the scheme.
    pub endpoint: String,
    /// For one call in all: waiting for a place, every attempt, the whole answer.
    pub timeout: Duration,
    /// Headers of the client's request that are passed on, in lower case.
    pub http_headers: Vec<String>,
    /// The same for headers that a connect command carries.
    pub emulated_headers: Vec<String>,
    /// `http.static_headers`: sent with every call, over gRPC as metadata. Values may be secrets.
    pub static_headers: Vec<(String, String)>,
    pub include_connection_meta: bool,
    /// Payloads travel as base64.
    pub binary_encoding: bool,
    /// `http.status_to_code_transforms`.
    pub status_to_code: Vec<StatusToCode>,
    /// Calls at a time.
    pub concurrency_max: u32,
    /// Calls that wait for a place; past it a call has failed.
    pub queue_max: u32,
    /// Attempts after the first, where one is known to be safe.
    pub retries_max: u32,
    /// Before the first repetition; twice as long before each further one, up to the other.
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// Failures in a row that open the circuit; 0: it never opens.
    pub breaker_failures: u32,
    /// How long an open circuit answers without asking.
    pub breaker_open: Duration,
}

/// Only the name: the endpoint and the headers may hold secrets.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an HTTP status of the backend means to the client.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct StatusToCode {
    pub status: u16,
    pub error_code: u32,
    pub error_message: String,
    pub error_temporary: bool,
    pub disconnect_code: u32,
    pub disconnect_reason: String,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoint: String::new(),
            timeout: Duration::from_secs(1),
            http_headers: Vec::new(),
            emulated_headers: Vec::new(),
            static_headers: Vec::new(),
            include_connection_meta: false,
            binary_encoding: false,
            status_to_code: Vec::new(),
            concurrency_max: 256,
            queue_max: 1024,
            retries_max: 2,
            retry_backoff: Duration::from_millis(20),
            retry_backoff_max: Duration::from_millis(200),
            breaker_failures: 10,
            breaker_open: Duration::from_secs(2),
        }
    }
}

/// The `rpc` section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rpc {
    /// Empty: methods have no namespaces.
    pub namespace_boundary: String,
    pub without_namespace: RpcNamespace,
    /// Each name once.
    pub namespaces: Vec<RpcNamespace>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RpcNamespace {
    pub name: String,
    /// An index into `Config.proxies`. None: its methods are not available.
    pub proxy: Option<u16>,
    /// As typed.
    pub typed: ProxyUse,
}

/// Why no backend is asked for a method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRpc {
    /// Error 104.
    MethodNotFound,
    /// Error 108.
    NotAvailable,
}

impl Default for Rpc {
    fn default() -> Self {
        Self { namespace_boundary: ":".into(), without_namespace: RpcNamespace::default(), namespaces: Vec::new() }
    }
}

impl Rpc {
    /// Which proxy is asked for the method.
    pub fn proxy(&self, method: &str) -> Result<u16, NoRpc> {
        let mut all = self.namespaces.iter().chain([&self.without_namespace]);
        if all.all(|namespace| namespace.proxy.is_none()) {
            return Err(NoRpc::NotAvailable);
        }
        let name = match self.namespace_boundary.as_str() {
            "" => "",
            boundary => method.split_once(boundary).map_or("", |(name, _)| name),
        };
        let namespace = match name {
            "" => Some(&self.without_namespace),
            _ => self.namespaces.iter().find(|namespace| namespace.name == name),
        };
        namespace.ok_or(NoRpc::MethodNotFound)?.proxy.ok_or(NoRpc::NotAvailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_goes_where_its_namespace_says() {
        let mut rpc = Rpc::default();
        assert_eq!(rpc.proxy("none:x"), Err(NoRpc::NotAvailable));
        rpc.namespaces = vec![
            RpcNamespace { name: "users".into(), proxy: Some(3), ..RpcNamespace::default() },
            RpcNamespace { name: "off".into(), ..RpcNamespace::default() },
        ];
        assert_eq!(rpc.proxy("users:get"), Ok(3));
        assert_eq!(rpc.proxy("off:get"), Err(NoRpc::NotAvailable));
        assert_eq!(rpc.proxy("none:x"), Err(NoRpc::MethodNotFound));
        assert_eq!(rpc.proxy("get"), Err(NoRpc::NotAvailable));
        rpc.without_namespace.proxy = Some(0);
        assert_eq!((rpc.proxy("get"), rpc.proxy(":get")), (Ok(0), Ok(0)));
        rpc.namespace_boundary = String::new();
        assert_eq!(rpc.proxy("users:get"), Ok(0));
    }
}
