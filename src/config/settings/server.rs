//! The settings of the process and the engine.

use super::{Item, item};
use crate::config::Config;
use crate::config::typed::HttpServer;
use crate::config::value::Unit;

/// Before the clients' and channels' settings.
pub static SERVER: &[Item<Config>] = &[
    item(
        "dev",
        Unit::Switch,
        |c: &mut Config| &mut c.dev,
        "Development: nothing needs a token, anyone may subscribe and publish and look at histories and presence, \
         everything listens on this machine only. What is set by hand still holds. Not for a server that others reach.",
    )
    .flag("dev"),
    item(
        "listen",
        Unit::Listeners,
        |c: &mut Config| &mut c.listeners,
        "Where clients connect. Each shard opens every one of them; a descriptor is one that a parent process bound \
         and passed on. \"proxy:\" before the place: only proxies connect there, and each connection begins with a header of \
         the PROXY protocol, version 1 or 2, that says whose it is. \"tls:\": clients speak TLS (tls.cert_pem_file).",
    )
    .flag("listen"),
    item(
        "join",
        Unit::Switch,
        |c: &mut Config| &mut c.join,
        "Share the port with a server that already listens there. Without it such a port is refused, since the two \
         would silently take half of the clients each.",
    )
    .flag("join"),
    item(
        "cores",
        Unit::Cores,
        |c: &mut Config| &mut c.cores,
        "Cores to run shards on, one pinned thread each. Unset: every core that the process may use.",
    )
    .flag("cores")
    .example("\"0,2-5\""),
    item("shards", Unit::Count, |c: &mut Config| &mut c.shards, "Number of shards. Unset: one per core.")
        .flag("shards")
        .example("4"),
    item(
        "oversubscribe",
        Unit::Switch,
        |c: &mut Config| &mut c.oversubscribe,
        "Allow more shards than cores. They take turns then, and waits of one show in the other: for tests.",
    )
    .flag("oversubscribe"),
    item(
        "control_cores",
        Unit::Cores,
        |c: &mut Config| &mut c.control_cores,
        "Cores for the control thread (API, metrics, page). Best one that carries no shard. Unset: not pinned.",
    )
    .flag("control-cores")
    .example("\"1\""),
    item(
        "admin.address",
        Unit::Address,
        |c: &mut Config| &mut c.admin,
        "Where the server API, the metrics, /health, /stats and the page are served. Only the API asks for a key: \
         keep the address off the public network. Unset: none of them is served.",
    )
    .flag("admin")
    .example("\"127.0.0.1:9000\""),
    item(
        "admin.connections_max",
        Unit::Count,
        |c| &mut c.admin_connections_max,
        "Connections to the admin address at once; past it new ones are answered with 503 and closed.",
    ),
    item(
        "admin.request_timeout",
        Unit::Time,
        |c| &mut c.admin_request_timeout,
        "Time for a request's head to arrive there, from the connect or from the answer before it, and as much again for its \
         body; past it the connection closes.",
    ),
    item(
        "http_api.key",
        Unit::Secret,
        |c: &mut Config| &mut c.api_key,
        "The key that the server API asks for (X-API-Key). Unset: the API refuses every call; with --dev a random \
         one is made and printed at start.",
    )
    .example("\"a-long-random-text\""),
    item(
        "http_api.disabled",
        Unit::Switch,
        |c| &mut c.http_api.disabled,
        "Answer no call of the server API, whatever the key.",
    ),
    item(
        "http_api.error_mode",
        Unit::ErrorMode,
        |c| &mut c.http_api.transport_errors,
        "How errors are told: \"\" in the body with status 200, \"transport\" with a status of their own.",
    ),
    item("grpc_api.enabled", Unit::Switch, |c| &mut c.typed.grpc.enabled, "Serve the server API over gRPC too."),
    item(
        "grpc_api.address",
        Unit::Text,
        |c| &mut c.typed.grpc.address,
        "The address of the gRPC API, without the port. Empty: every address of this machine.",
    ),
    item("grpc_api.port", Unit::Count, |c| &mut c.typed.grpc.port, "The port of the gRPC API."),
    item(
        "grpc_api.key",
        Unit::Secret,
        |c: &mut Config| &mut c.grpc_api.key,
        "The key that the gRPC API asks for (metadata authorization: apikey KEY). Unset: it asks for none.",
    )
    .example("\"a-long-random-text\""),
    item(
        "grpc_api.error_mode",
        Unit::ErrorMode,
        |c| &mut c.grpc_api.transport_errors,
        "How errors are told: \"\" in the answer, \"transport\" as a status of gRPC.",
    ),
    item("node.name", Unit::Text, |c| &mut c.node_name, "What the API calls this process. Empty: the host's name."),
    item(
        "echo.enabled",
        Unit::Switch,
        |c| &mut c.echo,
        "Answer at /echo with what was sent, for measuring and for trying a path through proxies.",
    ),
];

/// Who is let in, by address and by what the server can bear.
pub static LIMITS: &[Item<Config>] = &[
    item(
        "connections_per_address",
        Unit::Count,
        |c| &mut c.engine.connections_per_address,
        "Connections of one address (a v4, or a /64 of v6); past it 429. 0: no limit, since networks of firms and phones \
         put thousands of people behind one address.",
    ),
    item(
        "handshakes_per_address",
        Unit::Count,
        |c| &mut c.engine.handshakes_per_address,
        "New connections of one address in a second; past it 429. 0: no limit.",
    ),
    item(
        "handshakes_per_address_burst",
        Unit::Count,
        |c| &mut c.engine.handshakes_per_address_burst,
        "New connections of one address at once, such as those of a firm after its network was gone.",
    ),
    item(
        "exempt",
        Unit::Networks,
        |c| &mut c.engine.exempt,
        "Networks for whose addresses the limits per address do not hold: this machine, on which health checks and \
         tools run, and whatever you add.",
    ),
    item(
        "trusted_proxies",
        Unit::Networks,
        |c: &mut Config| &mut c.engine.trusted_proxies,
        "Networks of proxies before this server. Of what they say in X-Forwarded-For the right-most address that is \
         not in these networks is the client's, and counts for the limits. Whoever else sends the header is not believed.",
    )
    .example("[\"10.0.0.0/8\"]"),
    item(
        "lag_max",
        Unit::Time,
        |c| &mut c.engine.lag_max,
        "How long ready sockets of a shard may wait for their turn, on the average; past it the shard lets nobody new in \
         (503 with Retry-After) until it is half of that. 0s: no mark.",
    ),
    item(
        "memory_bytes_max",
        Unit::Bytes,
        |c| &mut c.memory_bytes_max,
        "Memory of the process past which nobody new is let in (503 with Retry-After) until it is a twentieth less. 0: \
         nine tenths of what the control group allows, where it says.",
    ),
];

/// Behind them.
pub static ENGINE: &[Item<Config>] = &[
    item(
        "websocket.message_size_limit",
        Unit::Bytes,
        |c| &mut c.engine.message_bytes_max,
        "Bytes of one message from a client, its fragments together; past it the connection closes with 1009.",
    ),
    item(
        "websocket.compression",
        Unit::Switch,
        |c| &mut c.engine.compression.enabled,
        "Offer permessage-deflate. It saves traffic and costs processor time: some microseconds for a message of a client \
         or to one, and once for each publication, whatever the number of its subscribers.",
    ),
    item(
        "websocket.compression_min_size",
        Unit::Bytes,
        |c| &mut c.engine.compression.min_bytes,
        "Bytes below which a message is not compressed.",
    ),
    item(
        "websocket.compression_level",
        Unit::Count,
        |c| &mut c.engine.compression.level,
        "1 is the quickest, 9 the smallest.",
    ),
    item(
        "websocket.decompressed_message_size_limit",
        Unit::Bytes,
        |c| &mut c.engine.compression.inflated_bytes_max,
        "Bytes of one message of a client once inflated; past it the connection closes with 1009, and nothing beyond is \
         inflated. 0: as websocket.message_size_limit.",
    ),
    item(
        "websocket.compression_window_bits",
        Unit::Count,
        |c| &mut c.engine.compression.window_bits,
        "The largest window, 9 to 15: 15 is 32 KiB. Windows of 15, 12 and 9 bits are used; who asks for another gets the \
         next one below.",
    ),
    item(
        "websocket.compression_server_takeover",
        Unit::Switch,
        |c| &mut c.engine.compression.server_takeover,
        "Let messages to a client refer to those before: smaller, and a compressor of up to 300 KiB for each connection \
         until its first subscription, since publications are compressed once for all.",
    ),
    item(
        "websocket.compression_client_takeover",
        Unit::Switch,
        |c| &mut c.engine.compression.client_takeover,
        "Let a client's messages refer to those before: 40 KiB for each connection.",
    ),
    item(
        "websocket.compression_contexts_max",
        Unit::Count,
        |c| &mut c.engine.compression.contexts_max,
        "Connections of a shard with contexts of their own; past it new ones are compressed without.",
    ),
    item(
        "uni_websocket.enabled",
        Unit::Switch,
        |c| &mut c.uni_websocket.enabled,
        "Serve /connection/uni_websocket, for clients that only listen.",
    ),
    item(
        "uni_websocket.disable_disconnect_push",
        Unit::Switch,
        |c| &mut c.uni_websocket.disable_disconnect_push,
        "Close without a disconnect push before.",
    ),
    item(
        "engine.connections_max",
        Unit::Count,
        |c| &mut c.engine.connections_max,
        "Connections of one shard; past it new ones are refused with 503.",
    ),
    item(
        "engine.upgrade_timeout",
        Unit::Time,
        |c| &mut c.engine.upgrade_timeout,
        "Time from accept to the whole request head; past it the request is answered with 408.",
    ),
    item(
        "engine.close_timeout",
        Unit::Time,
        |c| &mut c.engine.close_timeout,
        "Time from our close frame to the client's; past it the socket is closed.",
    ),
    item(
        "engine.linger_timeout",
        Unit::Time,
        |c| &mut c.engine.linger_timeout,
        "Time from our last byte to the end of the client's side; past it the socket is closed.",
    ),
    item(
        "engine.accepts_per_turn",
        Unit::Count,
        |c| &mut c.engine.accepts_per_turn,
        "Connections taken from one listener in a loop turn: a storm of new ones waits behind those that are here.",
    ),
    item(
        "engine.handshakes_per_turn",
        Unit::Count,
        |c| &mut c.engine.handshakes_per_turn,
        "Hand-shakes of TLS begun in a loop turn of a shard, each up to a millisecond of work with an RSA key: a storm of \
         new ones waits behind those that are here.",
    ),
    item(
        "engine.read_bytes_per_turn",
        Unit::Bytes,
        |c| &mut c.engine.read_bytes_per_turn,
        "Bytes taken from one socket in a loop turn: a flood from one client waits behind the others.",
    ),
    item(
        "engine.mail_per_turn",
        Unit::Count,
        |c| &mut c.engine.mail_per_turn,
        "Messages of other shards handled in a loop turn.",
    ),
    item(
        "engine.deliveries_per_slice",
        Unit::Count,
        |c| &mut c.engine.deliveries_per_slice,
        "Deliveries written before reads and mail are looked at again. Larger is quicker for huge channels, smaller \
         is calmer for everyone else.",
    ),
    item(
        "engine.mailbox_batches_max",
        Unit::Count,
        |c| &mut c.engine.mailbox_batches_max,
        "Batches in a shard's mailbox; past it senders keep theirs in an overflow of their own, in order.",
    ),
    item(
        "engine.mail_bytes_max",
        Unit::Bytes,
        |c| &mut c.engine.mail_bytes_max,
        "Bytes that may wait for one other shard; past it publications for it are held back or skipped and counted.",
    ),
    item(
        "engine.backlog_bytes_max",
        Unit::Bytes,
        |c| &mut c.engine.backlog_bytes_max,
        "Bytes kept for all clients together that do not read, those that several wait for counted once; past it \
         those with most waiting close with 3008. Each shard has an equal part of it.",
    ),
    item(
        "engine.turn_bytes_max",
        Unit::Bytes,
        |c| &mut c.engine.turn_bytes_max,
        "Bytes of publications being written in a turn; past it no more mail is taken until they are written.",
    ),
    item(
        "engine.history_bytes_max",
        Unit::Bytes,
        |c| &mut c.history_bytes_max,
        "Bytes of all histories of all shards together; past it the oldest publications go first.",
    ),
];

/// The original's names for what is `listen` and `admin.address` here.
pub static HTTP_SERVER: &[Item<HttpServer>] = &[
    item("address", Unit::Text, |h| &mut h.address, "The address of `listen`, without the port."),
    item("port", Unit::Count, |h| &mut h.port, "The port of `listen`."),
    item("internal_address", Unit::Text, |h| &mut h.internal_address, "The address of `admin.address`."),
    item("internal_port", Unit::Count, |h| &mut h.internal_port, "The port of `admin.address`."),
];
