//! The APIs, and the names of the original for addresses: `admin`, `http_api`, `grpc_api`, `node`, `echo`, `http_server`.

use std::net::SocketAddr;
use std::time::Duration;

use super::section::section;
use crate::config::parse::enums::{ErrorMode, UnknownFields};
use crate::config::parse::net::Address;
use crate::config::parse::scalar::{Bool, Count, Secret, Text, Time};

section! {
    /// The section `admin`.
    #[derive(Clone, Debug)]
    pub struct Admin {}

    /// The address of the server API, the metrics, /health, /stats and the admin page. Only the API requires a key: keep the
    /// address off public networks. Unset: they are not served.
    address: Option<SocketAddr> as Address = None, restart, flag("admin"), example("\"127.0.0.1:9000\"");

    /// Concurrent connections to the admin address; past it new ones get status 503 and are closed.
    connections_max: u32 as Count = 1024;

    /// Time for the head of a request to arrive, from the connect or the previous response, and the same again for its body;
    /// past it the connection closes.
    request_timeout: Duration as Time = Duration::from_secs(75);
}

section! {
    /// The section `http_api`.
    #[derive(Clone, Debug)]
    pub struct HttpApi {
        /// The key was made by this process, so it may be printed.
        pub key_generated: bool = false,
    }

    /// The key that calls of the server API must send (X-API-Key). Unset: the API rejects every call; with --dev the server makes
    /// a random key and prints it at start.
    key: Option<String> as Secret = None, example("\"a-long-random-text\"");

    /// Reject every call of the server API, with or without the key.
    disabled: bool as Bool = false;

    /// How errors are reported: "" in the body with status 200, "transport" with an HTTP status.
    transport_errors: bool as ErrorMode = false, named("error_mode");

    /// What happens to fields that a method does not have, such as a misspelled one: "log" ignores them and names one in the log,
    /// at most every ten seconds; "reject" rejects the call with error 107.
    rejects_unknown_fields: bool as UnknownFields = false, named("unknown_fields");
}

section! {
    /// The section `grpc_api`.
    #[derive(Clone, Debug)]
    pub struct GrpcApi {
        /// `address` and `port` together, if the API is enabled.
        pub listen: Option<SocketAddr> = None,
    }

    /// Serve the server API over gRPC too.
    enabled: bool as Bool = false, restart;

    /// The address of the gRPC API, without the port. Empty: every address of this machine.
    address: String as Text = String::new(), restart;

    /// The port of the gRPC API.
    port: u16 as Count = 10000, restart;

    /// The key that calls of the gRPC API must send (metadata authorization: apikey KEY). Unset: the API
    /// rejects every call.
    key: Option<String> as Secret = None, example("\"a-long-random-text\"");

    /// How errors are reported: "" in the response, "transport" as a gRPC status.
    transport_errors: bool as ErrorMode = false, named("error_mode");
}

section! {
    /// The section `node`.
    #[derive(Clone, Debug)]
    pub struct NodeName {}

    /// The name of this process in the server API. Empty: the host's name.
    name: String as Text = String::new(), restart;
}

section! {
    /// The section `echo`.
    #[derive(Clone, Debug)]
    pub struct Echo {}

    /// Serve /echo, which sends each message back: for measurements and to test a path through proxies.
    enabled: bool as Bool = false, restart;
}

section! {
    /// The section `http_server`: the original's names for `listen` and `admin.address`. 0 and the empty text mean unset.
    #[derive(Clone, Debug)]
    pub struct HttpServer {
        pub tls: HttpTls = HttpTls::default(),
    }

    /// The address of `listen`, without the port.
    address: String as Text = String::new(), restart;

    /// The port of `listen`.
    port: u16 as Count = 0, restart;

    /// The address of `admin.address`, without the port.
    internal_address: String as Text = String::new(), restart;

    /// The port of `admin.address`.
    internal_port: u16 as Count = 0, restart;
}

section! {
    /// The section `http_server.tls`: the original's names for TLS at the clients' address.
    #[derive(Clone, Debug)]
    pub struct HttpTls {}

    /// Serve http_server.port over TLS.
    enabled: bool as Bool = false, restart;

    /// The same as tls.cert_pem_file.
    cert_pem_file: String as Text = String::new(), restart;

    /// The same as tls.key_pem_file.
    key_pem_file: String as Text = String::new(), restart;
}
