//! The settings of backends, and which RPC goes to which.

use super::{Item, item};
use crate::config::proxy::{Proxy, Rpc, RpcNamespace};
use crate::config::typed::ProxySection;
use crate::config::value::Unit;

pub static CONNECT: &[Item<ProxySection>] = &[item(
    "enabled",
    Unit::Switch,
    |p| &mut p.enabled,
    "Ask a backend who a client without a token is. This section has the settings of proxies too.",
)];

pub static REFRESH: &[Item<ProxySection>] = &[item(
    "enabled",
    Unit::Switch,
    |p| &mut p.enabled,
    "Ask a backend whether an expiring connection goes on. This section has the settings of proxies too.",
)];

pub static NAMED: &[Item<Proxy>] =
    &[item("name", Unit::Text, |p| &mut p.name, "What namespaces call it: letters, digits, -, _ and the dot.")];

/// Of `proxies` and of every section that is one backend.
pub static PROXY: &[Item<Proxy>] = &[
    item(
        "endpoint",
        Unit::Endpoint,
        |p: &mut Proxy| &mut p.endpoint,
        "Where it is asked: by POST, or over gRPC where it begins with grpc://.",
    )
    .example("\"http://127.0.0.1:3000/centrifugo/subscribe\""),
    item(
        "timeout",
        Unit::Time,
        |p| &mut p.timeout,
        "Time for a call with all its attempts; past it the call has failed, and the client gets error 100.",
    ),
    item(
        "http_headers",
        Unit::Headers,
        |p| &mut p.http_headers,
        "Headers of the client's request that are passed on. Others are not.",
    ),
    item(
        "emulated_headers",
        Unit::Headers,
        |p| &mut p.emulated_headers,
        "The same for headers that a connect command carries; their values are the client's own words.",
    ),
    item(
        "binary_encoding",
        Unit::Switch,
        |p| &mut p.binary_encoding,
        "Payloads are bytes and travel as base64; otherwise they are JSON.",
    ),
    item(
        "include_connection_meta",
        Unit::Switch,
        |p| &mut p.include_connection_meta,
        "Tell with every call what the token or the connect call kept as meta.",
    ),
    item(
        "concurrency_max",
        Unit::Count,
        |p| &mut p.concurrency_max,
        "Calls at a time. The next ones wait for a place.",
    ),
    item("queue_max", Unit::Count, |p| &mut p.queue_max, "Calls that wait for a place; past it a call fails at once."),
    item(
        "retries_max",
        Unit::Count,
        |p| &mut p.retries_max,
        "Attempts after the first, where one is known to be safe.",
    ),
    item(
        "retry_backoff",
        Unit::Time,
        |p| &mut p.retry_backoff,
        "Time before the first repetition, twice as long before each further one.",
    ),
    item("retry_backoff_max", Unit::Time, |p| &mut p.retry_backoff_max, "The longest of those times."),
    item(
        "breaker_failures",
        Unit::Count,
        |p| &mut p.breaker_failures,
        "Failures in a row after which calls fail at once, without being made. 0: never.",
    ),
    item("breaker_open", Unit::Time, |p| &mut p.breaker_open, "How long they do, before one is made to see."),
    item(
        "http.static_headers",
        Unit::HeaderValues,
        |p| &mut p.static_headers,
        "Headers that every call has, over gRPC as metadata: [{ key = \"Authorization\", value = \"...\" }].",
    ),
    item(
        "http.status_to_code_transforms",
        Unit::StatusCodes,
        |p| &mut p.status_to_code,
        "What an HTTP status means to the client: { status_code = 404, to_error = { code = 404, message = \"none\" } } \
         or { status_code = 403, to_disconnect = { code = 4403, reason = \"no\" } }.",
    ),
];

pub static RPC: &[Item<Rpc>] = &[item(
    "namespace_boundary",
    Unit::Text,
    |r| &mut r.namespace_boundary,
    "Ends the namespace's name in a method's. Empty: there are no namespaces.",
)];

pub static RPC_NAMED: &[Item<RpcNamespace>] =
    &[item("name", Unit::Text, |n| &mut n.name, "Which methods belong to it: users:get is in users.")];

pub static RPC_NAMESPACE: &[Item<RpcNamespace>] = &[
    item("proxy_enabled", Unit::Switch, |n| &mut n.typed.enabled, "Pass calls to a backend; otherwise error 108."),
    item("proxy_name", Unit::Text, |n| &mut n.typed.name, "Which of proxies; \"default\" is rpc.proxy."),
];
