//! The original's keys that are no settings here: what becomes of a configuration that has them.
//!
//! A key that would change who may do what is refused, since leaving it out would open (or close) a door unseen. Every other
//! one is named in a remark, unless it says what holds here anyway: its default there, or nothing, or that its section is
//! off.

use super::fault::Fault;
use super::settings::{LISTS, listed};
use super::sources::Given;
use super::value::{Raw, Wrong, duration};

/// What becomes of a key.
enum Verdict {
    /// It does nothing here, for this reason.
    Idle(&'static str),
    /// The configuration is not taken: what would go wrong, and the mend.
    Refused(&'static str, &'static str),
}

struct Foreign {
    /// With `[]` for every element of a list. A dot at the end: whatever begins so.
    path: &'static str,
    /// What the original takes where nothing is typed, besides false, 0 and the empty text.
    default: &'static str,
    verdict: Verdict,
}

const fn idle(path: &'static str, default: &'static str, why: &'static str) -> Foreign {
    Foreign { path, default, verdict: Verdict::Idle(why) }
}

const fn refused(path: &'static str, what: &'static str, mend: &'static str) -> Foreign {
    Foreign { path, default: "", verdict: Verdict::Refused(what, mend) }
}

const NO_TLS: &str = "the gRPC API does not speak TLS, and its clients would speak in the clear";
const NO_TLS_MEND: &str = "set it to false and put a proxy in front that speaks TLS";
const OTHER_PEM: &str = "certificates come from files: tls.cert_pem_file and tls.key_pem_file";
const BACKEND_TLS: &str = "keys and authorities of its own for a backend are not supported";
const BACKEND_TLS_MEND: &str = "remove it and give the backend a certificate that the system trusts";
const TRANSPORT: &str = "this transport is not served here: clients use WebSocket";
const ONE_PROCESS: &str = "there is one process and its memory here: nothing connects two servers yet";
const OWN_ADDRESS: &str = "the server API, /metrics, /health and the page are served at admin.address and nowhere else";
const PATH: &str = "the path cannot be chosen here";
const STREAM_ONLY: &str = "only stream subscriptions are there";

/// Sections that are one group wherever they stand: the table names only the last.
const ALIKE: &[(&str, &str)] = &[
    ("client.proxy.connect.", "proxies[]."),
    ("client.proxy.refresh.", "proxies[]."),
    ("channel.proxy.subscribe.", "proxies[]."),
    ("channel.proxy.publish.", "proxies[]."),
    ("channel.proxy.sub_refresh.", "proxies[]."),
    ("rpc.proxy.", "proxies[]."),
    ("channel.without_namespace.", "channel.namespaces[]."),
    ("client.subscription_token.", "client.token."),
];

/// The longest path that fits decides.
static FOREIGN: &[Foreign] = &[
    // Doors.
    refused(
        "client.insecure_skip_token_signature_verify",
        "every token would be believed",
        "remove it; client.insecure asks nobody for a token, for trying things out",
    ),
    refused(
        "client.user_id_http_header",
        "users are not taken from a header here, and would be refused or be others than meant",
        "remove it, and use tokens or client.proxy.connect",
    ),
    refused(
        "client.token.insecure_skip_jwks_endpoint_safety_check",
        "keys are fetched from one fixed endpoint here",
        "remove it, and write the URL of one key set",
    ),
    refused("http_api.insecure", "the server API always asks for a key here", "set http_api.key, and remove it"),
    refused("websocket.disabled", "the WebSocket endpoint is always served here", "remove it, or set listen"),
    refused(
        "http_server.tls.client_ca_pem_file",
        "clients are not asked for certificates here, and everybody would be let in",
        "remove it; tls.admin_client_ca_pem_file asks at admin.address",
    ),
    refused(
        "http_server.tls_autocert.enabled",
        "certificates are not fetched here",
        "have an ACME client write them to a file, set tls.cert_pem_file, and send SIGHUP after each renewal",
    ),
    refused(
        "http_server.tls_external",
        "each listener says for itself whether it speaks TLS",
        "write \"tls:\" before the address in listen, and tls.admin for admin.address",
    ),
    refused(
        "http_server.internal_tls.enabled",
        "admin.address speaks TLS with the certificates of the clients' address",
        "remove it, and set tls.admin and tls.admin_client_ca_pem_file",
    ),
    refused("grpc_api.tls.enabled", NO_TLS, NO_TLS_MEND),
    refused("proxies[].http.tls.enabled", BACKEND_TLS, BACKEND_TLS_MEND),
    refused(
        "channel.namespaces[].subscribe_stream_proxy_enabled",
        "streams from a backend are not supported, and subscriptions would be judged by other rules",
        "remove it, or use subscribe_proxy_enabled",
    ),
    Foreign {
        path: "channel.namespaces[].subscription_type",
        default: "stream",
        verdict: Verdict::Refused(STREAM_ONLY, "write \"stream\", or leave the namespace out"),
    },
    // Backends.
    idle("proxies[].http.tls.", "", "it is for backends with TLS of their own"),
    refused(
        "proxies[].grpc.credentials_key",
        "credentials are not sent, and the backend would see calls without them",
        "write them as one of http.static_headers, which are metadata over gRPC",
    ),
    refused("proxies[].grpc.tls.enabled", "backends over gRPC are spoken to in the clear", "use an https:// endpoint"),
    idle("proxies[].grpc.", "", "http.static_headers are the metadata over gRPC"),
    idle("proxies[].grpc_metadata", "", "clients come over WebSocket and have no metadata"),
    idle("channel.proxy.subscribe_stream.", "1s", STREAM_ONLY),
    idle("channel.proxy.map_publish.", "1s", STREAM_ONLY),
    idle("channel.proxy.map_remove.", "1s", STREAM_ONLY),
    idle("channel.proxy.shared_poll_refresh.", "1s", STREAM_ONLY),
    // Namespaces of other sorts.
    idle("channel.namespaces[].subscribe_stream_proxy_name", "default", STREAM_ONLY),
    idle("channel.namespaces[].subscribe_stream_proxy_bidirectional", "", STREAM_ONLY),
    idle("channel.namespaces[].map.", "default", STREAM_ONLY),
    idle("channel.namespaces[].shared_poll.", "", STREAM_ONLY),
    idle("channel.namespaces[].map_clients_presence_channel_prefix", "", STREAM_ONLY),
    idle("channel.namespaces[].map_users_presence_channel_prefix", "", STREAM_ONLY),
    idle("shared_poll.", "", STREAM_ONLY),
    idle("map_broker.", "memory", STREAM_ONLY),
    // What is so here without being said.
    idle("client.presence_update_interval", "27s", "presence here ends with the connection and needs no renewal"),
    idle("client.concurrency", "", "the commands of a connection take effect in the order sent"),
    idle(
        "client.channel_position_check_delay",
        "40s",
        "positions are checked with every delivery, and nothing is lost between shards unseen",
    ),
    idle("client.channel_position_max_time_lag", "", "publications reach shards in order, there is no lag to measure"),
    idle("websocket.read_buffer_size", "", "connections own no buffers here"),
    idle("websocket.use_write_buffer_pool", "", "connections own no buffers here"),
    idle("websocket.write_buffer_size", "", "connections own no buffers here"),
    idle("websocket.write_timeout", "1000ms", "a client that does not read is cut by client.queue_max_size"),
    idle("websocket.handler_prefix", "/connection/websocket", PATH),
    idle("uni_websocket.join_push_messages", "false", "each push is a message of its own"),
    idle("uni_websocket.compression", "", "websocket.compression holds for both"),
    idle("uni_websocket.compression_min_size", "", "websocket.compression_min_size holds for both"),
    idle("uni_websocket.compression_level", "1", "websocket.compression_level holds for both"),
    idle(
        "uni_websocket.decompressed_message_size_limit",
        "",
        "websocket.decompressed_message_size_limit holds for both",
    ),
    idle("uni_websocket.read_buffer_size", "", "connections own no buffers here"),
    idle("uni_websocket.use_write_buffer_pool", "", "connections own no buffers here"),
    idle("uni_websocket.write_buffer_size", "", "connections own no buffers here"),
    idle("uni_websocket.write_timeout", "1000ms", "a client that does not read is cut by client.queue_max_size"),
    idle("uni_websocket.message_size_limit", "65536", "websocket.message_size_limit holds for both"),
    idle(
        "uni_websocket.disable_closing_handshake",
        "",
        "a close always waits for the client's, engine.close_timeout long",
    ),
    idle("uni_websocket.handler_prefix", "/connection/uni_websocket", PATH),
    idle("http_api.handler_prefix", "/api", PATH),
    idle("http_api.external", "", OWN_ADDRESS),
    idle("grpc_api.tls.", "", NO_TLS),
    idle("grpc_api.reflection", "", "it is not offered here"),
    idle("grpc_api.max_receive_message_size", "", "the bound of the HTTP API holds for gRPC too"),
    idle("http_server.tls.", "", OTHER_PEM),
    idle("http_server.tls_autocert.", "", OTHER_PEM),
    idle("http_server.internal_tls.", "", OTHER_PEM),
    idle("http_server.http3.", "", "HTTP/1.1 is all that is served here"),
    idle("http_server.h2c_external", "", "HTTP/1.1 is all that is served here"),
    idle("http_server.external_http2_extended_connect.", "", "HTTP/1.1 is all that is served here"),
    idle("prometheus.enabled", "", OWN_ADDRESS),
    idle("prometheus.handler_prefix", "/metrics", PATH),
    idle("prometheus.", "", "there is one set of metrics"),
    idle("health.enabled", "", OWN_ADDRESS),
    idle("health.handler_prefix", "/health", PATH),
    idle("admin.enabled", "", "there is no administration UI: admin.address serves a page with counters"),
    idle(
        "admin.password",
        "",
        "the page at admin.address changes nothing and asks for none: keep that address private",
    ),
    idle("admin.secret", "", "the page at admin.address changes nothing and needs none"),
    idle("admin.insecure", "", "there is no administration UI"),
    idle("admin.external", "", "there is no administration UI"),
    idle("admin.handler_prefix", "", "there is no administration UI"),
    idle("admin.web_path", "", "there is no administration UI"),
    idle("admin.web_proxy_address", "", "there is no administration UI"),
    idle("rpc.ping.", "ping", "there is no such method: clients are pinged anyway"),
    idle("log.level", "info", "CORECAST_LOG chooses it"),
    idle("log.", "", "logs go to stderr"),
    idle("node.", "60s", ONE_PROCESS),
    idle("engine.type", "memory", ONE_PROCESS),
    idle("engine.redis.", "", ONE_PROCESS),
    idle("broker.", "memory", ONE_PROCESS),
    idle("presence_manager.", "memory", ONE_PROCESS),
    idle("controller.", "", ONE_PROCESS),
    idle("consumers", "", "nothing is consumed from queues here: publish over the server API"),
    idle("sse.", "", TRANSPORT),
    idle("http_stream.", "", TRANSPORT),
    idle("webtransport.", "", TRANSPORT),
    idle("uni_sse.", "", TRANSPORT),
    idle("uni_http_stream.", "", TRANSPORT),
    idle("uni_grpc.", "", TRANSPORT),
    idle("emulation.handler_prefix", "/emulation", TRANSPORT),
    idle("emulation.", "65536", TRANSPORT),
    idle("init.", "", "there is no such endpoint"),
    idle("swagger.", "", "there is no such page"),
    idle("debug.", "", "there are no such endpoints"),
    idle("opentelemetry.", "", "traces are not exported"),
    idle("graphite.", "", "metrics are served for Prometheus"),
    idle("usage_stats.", "", "nothing is reported to anybody"),
    idle("pid_file", "", "the service manager knows the process"),
    idle("enable_unreleased_features", "", "there are none"),
];

/// Sections that do nothing in the original either, unless the key named here says this.
const SWITCHED: &[(&str, &str, &str)] = &[
    ("sse", "sse.enabled", "true"),
    ("http_stream", "http_stream.enabled", "true"),
    ("webtransport", "webtransport.enabled", "true"),
    ("uni_sse", "uni_sse.enabled", "true"),
    ("uni_http_stream", "uni_http_stream.enabled", "true"),
    ("uni_grpc", "uni_grpc.enabled", "true"),
    ("init", "init.enabled", "true"),
    ("swagger", "swagger.enabled", "true"),
    ("debug", "debug.enabled", "true"),
    ("opentelemetry", "opentelemetry.enabled", "true"),
    ("graphite", "graphite.enabled", "true"),
    ("controller", "controller.enabled", "true"),
    ("presence_manager", "presence_manager.enabled", "true"),
    ("broker", "broker.enabled", "true"),
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

/// Words in a key that nobody here knows: what it says may be about who may do what.
const DOORS: &[&str] =
    &["allow", "insecure", "token", "tls", "auth", "secret", "password", "proxy_enabled", "permission"];

/// What is to be said about a value whose name no setting has.
pub enum Said {
    Nothing,
    Remark(String),
    Fault(Fault),
}

/// `all` are the values of every source, among which the switch of the value's section may be.
pub fn judge(value: &Given, all: &[Given]) -> Said {
    let path = alike(&without_numbers(&value.name));
    let fits = |foreign: &&Foreign| match foreign.path.ends_with('.') {
        true => path.starts_with(foreign.path) || path == foreign.path.trim_end_matches('.'),
        false => path == foreign.path,
    };
    let Some(foreign) = FOREIGN.iter().filter(fits).max_by_key(|foreign| foreign.path.len()) else {
        return unknown(value, &path);
    };
    if says_nothing(&value.raw) || says(&value.raw, foreign.default) || switched_off(&path, all) {
        return Said::Nothing;
    }
    match foreign.verdict {
        // A permission nobody here knows, in a section that is idle otherwise.
        Verdict::Idle(_) if path.rsplit('.').next().is_some_and(|key| key.starts_with("allow_")) => {
            let wrong = Wrong::new("it would allow what cannot be allowed here", "set it to false, or remove it");
            Said::Fault(value.fault(wrong))
        }
        Verdict::Idle(why) => Said::Remark(format!("{}: {} does nothing: {why}", value.origin, value.name)),
        Verdict::Refused(what, mend) => Said::Fault(value.fault(Wrong::new(what, mend))),
    }
}

fn unknown(value: &Given, path: &str) -> Said {
    let mut fault = value.unknown();
    // As it was typed: sections that are alike are no lists.
    let typed = without_numbers(&value.name);
    let list = LISTS
        .iter()
        .find(|list| typed.strip_prefix(**list).is_some_and(|rest| matches!(rest.get(..1), None | Some("[" | "."))));
    if let Some(list) = list.filter(|_| listed(&value.name).is_none()) {
        // Left out, they would leave a door as it is without them.
        let wrong =
            Wrong::new(format!("{list} is a list of tables"), format!("write [[{list}]] or, in JSON, [{{...}}]"));
        return Said::Fault(value.fault(wrong));
    }
    if !value.is_foreign() {
        return Said::Fault(fault);
    }
    if DOORS.iter().any(|word| path.contains(word)) {
        fault.what.push_str(", and it may be about who may do what");
        return Said::Fault(fault);
    }
    let hint = if fault.mend.starts_with("did you mean") { format!("; {}", fault.mend) } else { String::new() };
    Said::Remark(format!("{}: {} does nothing: no setting has this name{hint}", fault.origin, fault.setting))
}

fn says_nothing(raw: &Raw) -> bool {
    match raw {
        Raw::Switch(on) => !on,
        Raw::Integer(number) => *number == 0,
        Raw::Text(text) => matches!(text.as_str(), "" | "0s" | "0" | "false"),
        Raw::List(items) => items.is_empty(),
        Raw::Table(row) => row.is_empty(),
        // Consumers and the like: each with a switch.
        Raw::Rows(rows) => rows.iter().all(|row| row.contains(&("enabled".to_owned(), Raw::Switch(false)))),
        Raw::Other(_) => false,
    }
}

fn says(raw: &Raw, default: &str) -> bool {
    !default.is_empty()
        && match raw {
            Raw::Text(text) => text == default || duration(text).is_some_and(|span| duration(default) == Some(span)),
            Raw::Integer(number) => number.to_string() == default,
            Raw::Switch(on) => on.to_string() == default,
            _ => false,
        }
}

fn switched_off(path: &str, all: &[Given]) -> bool {
    let inside = |section: &str| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    SWITCHED.iter().filter(|(section, switch, _)| inside(section) && path != *switch).any(|(_, switch, on)| {
        let last = all.iter().rfind(|value| value.name == *switch);
        last.is_none_or(|value| !says(&value.raw, on))
    })
}

fn alike(path: &str) -> String {
    let found = ALIKE.iter().find_map(|(one, all)| path.strip_prefix(one).map(|rest| format!("{all}{rest}")));
    found.unwrap_or_else(|| path.to_owned())
}

/// `proxies[3].x` → `proxies[].x`.
fn without_numbers(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut inside = false;
    for c in name.chars() {
        inside = (inside || c == '[') && c != ']';
        if !inside || c == '[' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_lists_do_not_count() {
        assert_eq!(without_numbers("channel.namespaces[12].map.mode"), "channel.namespaces[].map.mode");
        assert_eq!(without_numbers("pid_file"), "pid_file");
    }

    #[test]
    fn no_key_of_ours_is_foreign_and_none_stands_twice() {
        for (index, foreign) in FOREIGN.iter().enumerate() {
            assert!(FOREIGN[..index].iter().all(|other| other.path != foreign.path), "{}", foreign.path);
            let ours = crate::config::SETTINGS.iter().any(|setting| setting.name == foreign.path);
            assert!(!ours, "{}", foreign.path);
        }
    }
}
