//! The original's keys that are not settings here.

/// What happens to a configuration with such a key.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    /// The key has no effect, for this reason.
    Idle(&'static str),
    /// The configuration is rejected: what is wrong, and the fix.
    Refused(&'static str, &'static str),
}

pub(crate) struct ForeignKey {
    /// With `[]` for every element of a list. A dot at the end: every key that begins so.
    pub path: &'static str,
    /// What the original uses if nothing is set, besides false, 0 and the empty text.
    pub default: &'static str,
    pub verdict: Verdict,
}

const fn idle(path: &'static str, default: &'static str, why: &'static str) -> ForeignKey {
    ForeignKey { path, default, verdict: Verdict::Idle(why) }
}

const fn refused(path: &'static str, what: &'static str, fix: &'static str) -> ForeignKey {
    ForeignKey { path, default: "", verdict: Verdict::Refused(what, fix) }
}

const NO_TLS: &str = "the gRPC API has no TLS, so its clients would send plain text";
const NO_TLS_FIX: &str = "set it to false and put a TLS proxy in front";
const OTHER_PEM: &str = "certificates come from files: tls.cert_pem_file and tls.key_pem_file";
const BACKEND_TLS: &str = "a client certificate or certificate authority for one backend is not supported";
const BACKEND_TLS_FIX: &str = "remove it, and give the backend a certificate that the system trusts";
const TRANSPORT: &str = "this transport is not available: clients use WebSocket, HTTP streaming or server-sent events";
const NO_MAP_BROKER: &str = "there are only stream subscriptions, so there is no map broker";
const OTHER_BROKER: &str = "it is a setting of a broker that this server does not have: the brokers are Redis and NATS";
const ONE_BROKER: &str = "there is one broker for all namespaces";
const ONE_BROKER_FIX: &str = "remove it; namespaces that need a broker of their own need a cluster of their own";
const NO_CLIENT_CA: &str = "this server is a client of the broker, which has no clients to verify";
const OWN_ADDRESS: &str = "the server API, /metrics and the admin page are served only at admin.address";
const PATH: &str = "the path is fixed";
const STREAM_ONLY: &str = "only stream subscriptions are supported";

/// Sections with the same keys. The table contains only the second of each pair.
pub(crate) const SAME_KEYS: &[(&str, &str)] = &[
    ("client.proxy.connect.", "proxies[]."),
    ("client.proxy.refresh.", "proxies[]."),
    ("channel.proxy.subscribe.", "proxies[]."),
    ("channel.proxy.publish.", "proxies[]."),
    ("channel.proxy.sub_refresh.", "proxies[]."),
    ("rpc.proxy.", "proxies[]."),
    ("channel.without_namespace.", "channel.namespaces[]."),
    ("client.subscription_token.", "client.token."),
];

/// The longest path that matches decides.
pub(crate) static FOREIGN: &[ForeignKey] = &[
    // Keys about permissions.
    refused(
        "client.insecure_skip_token_signature_verify",
        "every token would be accepted",
        "remove it; for trials client.insecure accepts clients without a token",
    ),
    refused(
        "client.user_id_http_header",
        "user ids are not read from a header, so users would be rejected or be others than intended",
        "remove it, and use tokens or client.proxy.connect",
    ),
    refused(
        "client.token.insecure_skip_jwks_endpoint_safety_check",
        "keys are fetched from one fixed URL",
        "remove it, and write the URL of one key set",
    ),
    refused("http_api.insecure", "the server API always requires a key", "set http_api.key, and remove it"),
    refused("websocket.disabled", "the WebSocket endpoint is always served", "remove it, or set listen"),
    refused(
        "http_server.tls.client_ca_pem_file",
        "client certificates are not requested, so every client would be accepted",
        "remove it; tls.admin_client_ca_pem_file requires certificates at admin.address",
    ),
    refused(
        "http_server.tls_autocert.enabled",
        "the server does not fetch certificates",
        "let an ACME client write them to a file, set tls.cert_pem_file, and send SIGHUP after each renewal",
    ),
    refused(
        "http_server.tls_external",
        "TLS is set per listener",
        "write \"tls:\" before the address in listen, and tls.admin for admin.address",
    ),
    refused(
        "http_server.internal_tls.enabled",
        "admin.address uses the certificates of the clients' address",
        "remove it, and set tls.admin and tls.admin_client_ca_pem_file",
    ),
    refused("grpc_api.tls.enabled", NO_TLS, NO_TLS_FIX),
    refused("proxies[].http.tls.enabled", BACKEND_TLS, BACKEND_TLS_FIX),
    refused(
        "channel.namespaces[].subscribe_stream_proxy_enabled",
        "streams from a backend are not supported, so subscriptions would be authorized by other rules",
        "remove it, or use subscribe_proxy_enabled",
    ),
    ForeignKey {
        path: "channel.namespaces[].subscription_type",
        default: "stream",
        verdict: Verdict::Refused(STREAM_ONLY, "write \"stream\", or leave the namespace out"),
    },
    // Backends.
    idle("proxies[].http.tls.", "", "it is for backends with their own TLS settings"),
    refused(
        "proxies[].grpc.credentials_key",
        "credentials are not sent, so the backend would get calls without them",
        "write them as one of http.static_headers, which are metadata over gRPC",
    ),
    refused("proxies[].grpc.tls.enabled", "gRPC calls to backends are plain text", "use an https:// endpoint"),
    idle("proxies[].grpc.", "", "http.static_headers are the metadata over gRPC"),
    idle("proxies[].grpc_metadata", "", "clients come over WebSocket and have no metadata"),
    idle("channel.proxy.subscribe_stream.", "1s", STREAM_ONLY),
    idle("channel.proxy.map_publish.", "1s", STREAM_ONLY),
    idle("channel.proxy.map_remove.", "1s", STREAM_ONLY),
    idle("channel.proxy.shared_poll_refresh.", "1s", STREAM_ONLY),
    // Other kinds of namespaces.
    idle("channel.namespaces[].subscribe_stream_proxy_name", "default", STREAM_ONLY),
    idle("channel.namespaces[].subscribe_stream_proxy_bidirectional", "", STREAM_ONLY),
    idle("channel.namespaces[].map.", "default", STREAM_ONLY),
    idle("channel.namespaces[].shared_poll.", "", STREAM_ONLY),
    idle("channel.namespaces[].map_clients_presence_channel_prefix", "", STREAM_ONLY),
    idle("channel.namespaces[].map_users_presence_channel_prefix", "", STREAM_ONLY),
    idle("shared_poll.", "", STREAM_ONLY),
    idle("map_broker.", "memory", NO_MAP_BROKER),
    // Keys for what is fixed here, or does not exist.
    idle("client.concurrency", "", "the commands of a connection are handled in order"),
    idle(
        "client.channel_position_check_delay",
        "40s",
        "positions are checked with every delivery, and a channel that was silent for 40 s is compared with the broker",
    ),
    idle(
        "client.channel_position_max_time_lag",
        "",
        "publications reach shards in order, so there is no lag to measure",
    ),
    idle("websocket.read_buffer_size", "", "connections have no buffers of their own"),
    idle("websocket.use_write_buffer_pool", "", "connections have no buffers of their own"),
    idle("websocket.write_buffer_size", "", "connections have no buffers of their own"),
    idle("websocket.write_timeout", "1000ms", "client.queue_max_size closes a client that does not read"),
    idle("websocket.handler_prefix", "/connection/websocket", PATH),
    idle("uni_websocket.join_push_messages", "false", "each push is one message"),
    idle("uni_websocket.compression", "", "websocket.compression applies to both"),
    idle("uni_websocket.compression_min_size", "", "websocket.compression_min_size applies to both"),
    idle("uni_websocket.compression_level", "1", "websocket.compression_level applies to both"),
    idle(
        "uni_websocket.decompressed_message_size_limit",
        "",
        "websocket.decompressed_message_size_limit applies to both",
    ),
    idle("uni_websocket.read_buffer_size", "", "connections have no buffers of their own"),
    idle("uni_websocket.use_write_buffer_pool", "", "connections have no buffers of their own"),
    idle("uni_websocket.write_buffer_size", "", "connections have no buffers of their own"),
    idle("uni_websocket.write_timeout", "1000ms", "client.queue_max_size closes a client that does not read"),
    idle("uni_websocket.message_size_limit", "65536", "websocket.message_size_limit applies to both"),
    idle(
        "uni_websocket.disable_closing_handshake",
        "",
        "the server always waits for the client's close frame, up to engine.close_timeout",
    ),
    idle("uni_websocket.handler_prefix", "/connection/uni_websocket", PATH),
    idle("http_api.handler_prefix", "/api", PATH),
    idle("http_api.external", "", OWN_ADDRESS),
    idle("grpc_api.tls.", "", NO_TLS),
    idle("grpc_api.reflection", "", "it is not supported"),
    idle("grpc_api.max_receive_message_size", "", "the bound of the HTTP API applies to gRPC too"),
    idle("http_server.tls.", "", OTHER_PEM),
    idle("http_server.tls_autocert.", "", OTHER_PEM),
    idle("http_server.internal_tls.", "", OTHER_PEM),
    idle("http_server.http3.", "", "the server uses only HTTP/1.1"),
    idle("http_server.h2c_external", "", "the server uses only HTTP/1.1"),
    idle("http_server.external_http2_extended_connect.", "", "the server uses only HTTP/1.1"),
    idle("prometheus.enabled", "", OWN_ADDRESS),
    idle("prometheus.handler_prefix", "/metrics", PATH),
    idle("prometheus.", "", "there is one set of metrics"),
    idle("health.enabled", "", "/health is always served, at admin.address and at the addresses of listen"),
    idle("health.handler_prefix", "/health", PATH),
    idle("admin.enabled", "", "there is no administration interface: admin.address serves a page with counters"),
    idle(
        "admin.password",
        "",
        "the page at admin.address changes nothing and needs no password: keep that address private",
    ),
    idle("admin.secret", "", "the page at admin.address changes nothing and needs no secret"),
    idle("admin.insecure", "", "there is no administration interface"),
    idle("admin.external", "", "there is no administration interface"),
    idle("admin.handler_prefix", "", "there is no administration interface"),
    idle("admin.web_path", "", "there is no administration interface"),
    idle("admin.web_proxy_address", "", "there is no administration interface"),
    idle("rpc.ping.", "ping", "there is no such method: the server pings clients"),
    idle("log.level", "info", "the environment variable CORECAST_LOG sets it"),
    idle("log.", "", "logs go to stderr"),
    idle("node.", "60s", "a node announces its metrics to the others once a minute"),
    // Brokers.
    idle("broker.postgres.", "", OTHER_BROKER),
    idle("broker.redisnats.", "", OTHER_BROKER),
    idle("engine.redis.tls.client_ca_pem", "", NO_CLIENT_CA),
    idle("engine.redis.sentinel_tls.client_ca_pem", "", NO_CLIENT_CA),
    idle("broker.redis.tls.client_ca_pem", "", NO_CLIENT_CA),
    idle("broker.redis.sentinel_tls.client_ca_pem", "", NO_CLIENT_CA),
    idle("broker.nats.tls.client_ca_pem", "", NO_CLIENT_CA),
    idle("presence_manager.redis.tls.client_ca_pem", "", NO_CLIENT_CA),
    idle("presence_manager.redis.sentinel_tls.client_ca_pem", "", NO_CLIENT_CA),
    refused(
        "controller.enabled",
        "control messages between nodes always go through the broker of publications, so this node would not hear a cluster \
         with another controller",
        "remove it here and at the other nodes",
    ),
    idle("controller.", "", "control messages between nodes go through the broker of publications"),
    // What the original sells separately and always applies here.
    idle("singleflight.enabled", "true", "reads of one history or presence at the same time always share requests"),
    idle("channel.namespaces[].shared_position_sync", "true", "it always applies"),
    refused("channel.namespaces[].broker_name", ONE_BROKER, ONE_BROKER_FIX),
    refused("channel.namespaces[].presence_manager_name", ONE_BROKER, ONE_BROKER_FIX),
    idle("brokers", "", ONE_BROKER),
    idle("presence_managers", "", ONE_BROKER),
    idle("consumers", "", "the server does not read from queues: publish through the server API"),
    idle("webtransport.", "", TRANSPORT),
    idle("uni_grpc.", "", TRANSPORT),
    idle("swagger.", "", "there is no such page"),
    idle("debug.", "", "there are no such endpoints"),
    idle("opentelemetry.", "", "traces are not exported"),
    idle("graphite.", "", "metrics are served for Prometheus"),
    idle("usage_stats.", "", "the server reports nothing"),
    idle("pid_file", "", "the service manager tracks the process"),
    idle("enable_unreleased_features", "", "there are no such features"),
];

/// Sections that have no effect in the original either, unless the key has the value: section, key, value.
pub(crate) const SWITCHED: &[(&str, &str, &str)] = &[
    ("webtransport", "webtransport.enabled", "true"),
    ("uni_grpc", "uni_grpc.enabled", "true"),
    ("swagger", "swagger.enabled", "true"),
    ("debug", "debug.enabled", "true"),
    ("opentelemetry", "opentelemetry.enabled", "true"),
    ("graphite", "graphite.enabled", "true"),
    ("controller", "controller.enabled", "true"),
    ("presence_manager", "presence_manager.enabled", "true"),
    ("broker", "broker.enabled", "true"),
    ("broker.postgres", "broker.type", "postgres"),
    ("broker.redisnats", "broker.type", "redisnats"),
    ("engine.redis", "engine.type", "redis"),
    ("map_broker.redis", "map_broker.type", "redis"),
    ("map_broker.postgres", "map_broker.type", "postgres"),
    ("admin", "admin.enabled", "true"),
    ("health", "health.enabled", "true"),
    ("prometheus", "prometheus.enabled", "true"),
    ("rpc.ping", "rpc.ping.enabled", "true"),
    ("http_server.tls", "http_server.tls.enabled", "true"),
    ("http_server.tls_autocert", "http_server.tls_autocert.enabled", "true"),
    ("http_server.internal_tls", "http_server.internal_tls.enabled", "true"),
    ("grpc_api.tls", "grpc_api.tls.enabled", "true"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::registry::SETTINGS;

    #[test]
    fn each_key_is_listed_once_and_is_not_a_setting() {
        for (index, foreign) in FOREIGN.iter().enumerate() {
            assert!(FOREIGN[..index].iter().all(|other| other.path != foreign.path), "{}", foreign.path);
            assert!(SETTINGS.iter().all(|setting| setting.name != foreign.path), "{}", foreign.path);
        }
    }
}
