//! The whole configuration: the settings without a section, and every section.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::broker::{Broker, PresenceManager};
use super::channel::Channel;
use super::client::Client;
use super::durable::Durable;
use super::engine::{Engine, Limits, UniWebsocket, Websocket};
use super::lifecycle::{Handover, Shutdown};
use super::machine::Machine;
use super::namespace::Namespace;
use super::proxy::{Proxy, Rpc};
use super::section::section;
use super::server::{Admin, Echo, GrpcApi, HttpApi, HttpServer, NodeName};
use super::streams::{ConnInit, Emulation, HttpStream, Sse, UniHttpStream, UniSse};
use super::tls::Tls;
use crate::config::brokers::Brokers;
use crate::config::parse::net::{Cores, Listen, Listeners};
use crate::config::parse::scalar::{Bool, Count};
use crate::engine::net::listener::Address;

section! {
    /// Everything that is decided before the first socket opens.
    #[derive(Clone, Debug)]
    pub struct Config {
        pub admin: Admin = Admin::default(),
        pub http_api: HttpApi = HttpApi::default(),
        pub grpc_api: GrpcApi = GrpcApi::default(),
        pub node: NodeName = NodeName::default(),
        pub echo: Echo = Echo::default(),
        pub client: Client = Client::default(),
        pub channel: Channel = Channel::default(),
        pub rpc: Rpc = Rpc::default(),
        /// Every backend that is used or has a name.
        pub proxies: Vec<Proxy> = Vec::new(),
        /// Indices into `proxies`.
        pub connect_proxy: Option<u16> = None,
        pub refresh_proxy: Option<u16> = None,
        pub tls: Tls = Tls::default(),
        pub limits: Limits = Limits::default(),
        pub shutdown: Shutdown = Shutdown::default(),
        pub handover: Handover = Handover::default(),
        pub websocket: Websocket = Websocket::default(),
        pub uni_websocket: UniWebsocket = UniWebsocket::default(),
        pub http_stream: HttpStream = HttpStream::default(),
        pub sse: Sse = Sse::default(),
        pub emulation: Emulation = Emulation::default(),
        pub uni_http_stream: UniHttpStream = UniHttpStream::default(),
        pub uni_sse: UniSse = UniSse::default(),
        pub init: ConnInit = ConnInit::default(),
        pub engine: Engine = Engine::default(),
        pub durable: Durable = Durable::default(),
        pub broker: Broker = Broker::default(),
        pub presence_manager: PresenceManager = PresenceManager::default(),
        /// What the sections `engine`, `broker` and `presence_manager` mean together. `open_brokers` reads their files.
        pub brokers: Brokers = Brokers::default(),
        pub machine: Machine = Machine::default(),
        pub http_server: HttpServer = HttpServer::default(),
        /// Keys of the original that have no effect here: a sentence for each.
        pub ignored_keys: Vec<String> = Vec::new(),
    }

    /// Development mode: nothing needs a token, every client may subscribe, publish, and read histories and presence, and the
    /// server listens only on this machine. Settings that you set still apply. Do not use it on a server that others can reach.
    dev: bool as Bool = false, restart, flag("dev");

    /// The addresses where clients connect. Each shard opens all of them; fd:N is a descriptor from the parent process. The
    /// unspecified IPv6 address is every address of this machine, IPv4 and IPv6; only IPv6 if 0.0.0.0 with the same port is listed too.
    /// "proxy:" before an address: only proxies connect there, and each connection begins with a PROXY protocol header
    /// (version 1 or 2) with the client's address. "tls:": clients use TLS (tls.cert_pem_file).
    // Never empty.
    listeners: Vec<Listen> as Listeners = vec![tcp(Ipv6Addr::UNSPECIFIED.into(), 8000)], restart, flag("listen"), named("listen");

    /// Share the port with a server that already listens on it. Otherwise such a port is an error, since each of the two servers
    /// would get half of the clients.
    join: bool as Bool = false, restart, flag("join");

    /// Cores to run shards on, one pinned thread each. Unset: every core that the process may use.
    // Distinct, in the order written.
    cores: Option<Vec<usize>> as Cores = None, restart, flag("cores"), example("\"0,2-5\"");

    /// Number of shards. Unset: one per core, or as many as the process's limit on CPU time (cpu.max of its control group)
    /// allows, rounded up, if that is less and cores is unset.
    // `1..=SHARDS_MAX`.
    shards: Option<usize> as Count = None, restart, flag("shards"), example("4");

    /// Allow more shards than cores. Shards then share a core and delay each other: only for tests.
    oversubscribe: bool as Bool = false, restart, flag("oversubscribe");

    /// Cores for the control thread (API, metrics, admin page), best one without a shard. Unset: it is not pinned.
    control_cores: Option<Vec<usize>> as Cores = None, restart, flag("control-cores"), example("\"1\"");
}

fn tcp(ip: IpAddr, port: u16) -> Listen {
    Listen::plain(Address::Tcp(SocketAddr::new(ip, port)))
}

impl Config {
    /// The defaults with `--dev`, without the API key, which `assemble` makes.
    pub fn dev() -> Self {
        let mut config = Self { dev: true, ..Self::default() };
        config.echo.enabled = true;
        config.listeners = vec![tcp(Ipv4Addr::LOCALHOST.into(), 8000)];
        config.admin.address = Some((Ipv4Addr::LOCALHOST, 9000).into());
        config.client.insecure = true;
        config.client.allowed_origins = vec!["*".into()];
        config.channel.any_namespace = true;
        config.channel.without_namespace = Namespace {
            presence: true,
            join_leave: true,
            history_size: 100,
            history_ttl: Duration::from_secs(300),
            allow_positioning: true,
            allow_recovery: true,
            allow_delta: true,
            allow_tags_filter: true,
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_client: true,
            allow_publish_for_anonymous: true,
            allow_presence_for_client: true,
            allow_presence_for_anonymous: true,
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            ..config.channel.without_namespace
        };
        config
    }
}
