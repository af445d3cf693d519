//! `proxies`, the sections that are one backend, and `rpc`: the backends of the operator, and which methods go to which.

use std::fmt;
use std::time::Duration;

use super::section::section;
use super::tables::{TableRow, Tables, reason_fits};
use crate::config::parse::http::{Endpoint, HeaderNames, HeaderValues};
use crate::config::parse::scalar::{Bool, Count, Text, Time};

section! {
    /// One backend. Its users hold its index in `Config.proxies`.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Proxy {}

    /// The name that namespaces use: letters, digits, -, _ and dots.
    // The backend of a section gets the section's name, such as `client.proxy.connect`, for logs and metrics.
    name: String as Text = String::new(), in_list;

    /// The URL to call: by POST, or over gRPC if it begins with grpc://.
    endpoint: String as Endpoint = String::new(), example("\"http://127.0.0.1:3000/centrifugo/subscribe\"");

    /// Time for one call with all its attempts; past it the call fails, and the client gets error 100.
    timeout: Duration as Time = Duration::from_secs(1);

    /// Headers of the client's request to pass on. Others are not passed on.
    http_headers: Vec<String> as HeaderNames = Vec::new();

    /// Headers of the client's connect command to pass on. Their values are whatever the client sent.
    emulated_headers: Vec<String> as HeaderNames = Vec::new();

    /// Payloads are bytes, sent as base64. Otherwise they are JSON.
    binary_encoding: bool as Bool = false;

    /// Send the meta of the connection, from its token or from the connect call, with every call.
    include_connection_meta: bool as Bool = false;

    /// Concurrent calls of one method (connect, rpc and so on). Further calls wait.
    concurrency_max: u32 as Count = 256;

    /// Concurrent calls of one method for one user, so that one user cannot take all of concurrency_max. Further calls of the
    /// user wait, at most three times as many; past that a call fails at once. Each connection of an anonymous user counts as
    /// a user of its own.
    user_concurrency_max: u32 as Count = 64;

    /// Calls of one method that may wait; past it a call fails at once.
    queue_max: u32 as Count = 1024;

    /// Attempts after the first, only for calls that are safe to repeat.
    retries_max: u32 as Count = 2;

    /// Time before the first repetition; it doubles for each further one.
    retry_backoff: Duration as Time = Duration::from_millis(20);

    /// The longest time before a repetition.
    retry_backoff_max: Duration as Time = Duration::from_millis(200);

    /// Failures without a success between them after which the circuit breaker of a method opens: its calls then fail at once
    /// without being made. Every call counts if the backend cannot be reached. Timeouts, statuses such as 503 and broken
    /// connections count once for each user (or anonymous connection), and timeouts of rpc and publish not at all. 0: never.
    breaker_failures: u32 as Count = 10;

    /// Time that the circuit breaker stays open before it lets one call through to test the backend.
    breaker_open: Duration as Time = Duration::from_secs(2);

    /// Headers to send with every call, over gRPC as metadata: [{ key = "Authorization", value = "..." }].
    static_headers: Vec<(String, String)> as HeaderValues = Vec::new(), named("http.static_headers");

    /// What an HTTP status means to the client: { status_code = 404, to_error = { code = 404, message = "none" } } or
    /// { status_code = 403, to_disconnect = { code = 4403, reason = "no" } }.
    status_to_code: Vec<StatusToCode> as Tables = Vec::new(), named("http.status_to_code_transforms");
}

/// Only the name: the endpoint and the headers may contain secrets.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("name", &self.name).finish_non_exhaustive()
    }
}

section! {
    /// One of `http.status_to_code_transforms`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct StatusToCode {}

    /// The HTTP status.
    status: u16 as Count = 0, named("status_code");

    /// The code of the error reply; 0 for none.
    error_code: u32 as Count = 0, named("to_error.code");

    /// The message of the error reply.
    error_message: String as Text = String::new(), named("to_error.message");

    /// The client may try again.
    error_temporary: bool as Bool = false, named("to_error.temporary");

    /// The close code; 0 for none.
    disconnect_code: u32 as Count = 0, named("to_disconnect.code");

    /// The close reason.
    disconnect_reason: String as Text = String::new(), named("to_disconnect.reason");
}

impl TableRow for StatusToCode {
    const EXAMPLE: &'static str = "[{ status_code = 404, to_error = { code = 404, message = \"none\" } }]";

    fn check(&self) -> Result<(), String> {
        if self.status == 0 {
            return Err("has no status_code".into());
        }
        match (self.error_code, self.disconnect_code) {
            (0, 0) => return Err("has neither to_error.code nor to_disconnect.code".into()),
            (0, _) | (_, 0) => {}
            _ => return Err("has both to_error.code and to_disconnect.code".into()),
        }
        reason_fits("to_error.message", &self.error_message)?;
        reason_fits("to_disconnect.reason", &self.disconnect_reason)
    }
}

section! {
    /// `client.proxy.connect`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ConnectProxy {
        pub proxy: Proxy = Proxy::default(),
    }

    /// Ask a backend who a client without a token is. The section also has the settings of proxies.
    enabled: bool as Bool = false;
}

section! {
    /// `client.proxy.refresh`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct RefreshProxy {
        pub proxy: Proxy = Proxy::default(),
    }

    /// Ask a backend whether an expiring connection may continue. The section also has the settings of proxies.
    enabled: bool as Bool = false;
}

pub(crate) const DEFAULT_PROXY: &str = "default";

/// Whether a backend is asked, and which.
#[derive(Clone, Copy)]
pub struct ProxyUse<'a> {
    pub enabled: bool,
    /// `DEFAULT_PROXY` means the section for the event, such as `channel.proxy.subscribe`.
    pub name: &'a str,
}

impl ProxyUse<'_> {
    /// The backend of the section is asked.
    pub fn is_default(self) -> bool {
        self.enabled && self.name == DEFAULT_PROXY
    }
}

section! {
    /// The section `rpc`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct Rpc {
        /// `rpc.proxy`: the backend that "default" means.
        pub proxy: Proxy = Proxy::default(),
        pub without_namespace: RpcNamespace = RpcNamespace::default(),
        /// Each name occurs once.
        pub namespaces: Vec<RpcNamespace> = Vec::new(),
    }

    /// The text that ends the namespace in the name of a method. Empty: there are no namespaces.
    namespace_boundary: String as Text = ":".into();
}

section! {
    /// `rpc.without_namespace`, or one of `rpc.namespaces`.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct RpcNamespace {
        /// An index into `Config.proxies`. None: its methods are not available.
        pub proxy: Option<u16> = None,
    }

    /// The part of method names before rpc.namespace_boundary: users:get is in the namespace users.
    name: String as Text = String::new(), in_list;

    /// Pass the calls to a backend. Otherwise they get error 108.
    proxy_enabled: bool as Bool = false;

    /// The name of one of proxies; "default" means rpc.proxy.
    proxy_name: String as Text = DEFAULT_PROXY.into();
}

impl RpcNamespace {
    pub fn proxy_use(&self) -> ProxyUse<'_> {
        ProxyUse { enabled: self.proxy_enabled, name: &self.proxy_name }
    }
}

/// Why no backend is asked for a method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRpc {
    /// Error 104.
    MethodNotFound,
    /// Error 108.
    NotAvailable,
}

impl Rpc {
    /// The backend to ask for the method, by its index in `Config.proxies`.
    pub fn proxy_for(&self, method: &str) -> Result<u16, NoRpc> {
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
    fn rpc_method_uses_the_proxy_of_its_namespace() {
        let mut rpc = Rpc::default();
        assert_eq!(rpc.proxy_for("none:x"), Err(NoRpc::NotAvailable));
        rpc.namespaces = vec![
            RpcNamespace { name: "users".into(), proxy: Some(3), ..RpcNamespace::default() },
            RpcNamespace { name: "off".into(), ..RpcNamespace::default() },
        ];
        assert_eq!(rpc.proxy_for("users:get"), Ok(3));
        assert_eq!(rpc.proxy_for("off:get"), Err(NoRpc::NotAvailable));
        assert_eq!(rpc.proxy_for("none:x"), Err(NoRpc::MethodNotFound));
        assert_eq!(rpc.proxy_for("get"), Err(NoRpc::NotAvailable));
        rpc.without_namespace.proxy = Some(0);
        assert_eq!((rpc.proxy_for("get"), rpc.proxy_for(":get")), (Ok(0), Ok(0)));
        rpc.namespace_boundary = String::new();
        assert_eq!(rpc.proxy_for("users:get"), Ok(0));
    }
}
