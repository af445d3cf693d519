//! The upgrade request of a client: which endpoint and encoding it gets, or why it is rejected.

use super::mail::Mail;
use super::request_checks::{ECHO, admit, decoded, query, route_of};
use super::session::Transport;
use super::state::Messaging;
use super::streams;
use crate::engine::{Context, Route};
use crate::protocol::Encoding;
use crate::ws::{Refusal, Request};

/// The endpoint of the bidirectional protocol.
pub const PATH: &str = "/connection/websocket";
/// The endpoint of the unidirectional protocol.
pub const UNI_PATH: &str = "/connection/uni_websocket";
/// The endpoint that sends messages back, for measuring networks and hosts.
pub const ECHO_PATH: &str = "/echo";

pub(crate) fn route(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
    match request.path {
        PATH => route_client(state, cx, request),
        UNI_PATH if state.settings.uni_websocket.enabled => route_uni_client(state, cx, request),
        ECHO_PATH if state.settings.echo => Route::Upgrade { protocol: None, route: ECHO },
        "/health" => {
            let status = if state.is_ready { 200 } else { 503 };
            Route::Respond { status, content_type: "application/json", body: b"{}" }
        }
        path => streams::route(state, cx, request).unwrap_or_else(|| not_found(path)),
    }
}

/// A method other than GET and HEAD.
pub(crate) fn other_method(state: &Messaging, request: &Request<'_>) -> Route {
    if let Some(route) = streams::other_method(state, request) {
        return route;
    }
    if is_admin_path(request.path) { not_found(request.path) } else { Route::Refuse(Refusal::MethodNotAllowed) }
}

fn not_found(path: &str) -> Route {
    if is_admin_path(path) {
        let words = "this is the address of clients; the server API and the metrics are served at admin.address";
        return Route::Refuse(Refusal::WrongAddress(words));
    }
    Route::Refuse(Refusal::NotFound)
}

/// A path that Centrifugo serves at the same address.
fn is_admin_path(path: &str) -> bool {
    path == "/metrics" || path.strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn route_uni_client(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
    if let Err(rejected) = admit(state, cx, request) {
        return rejected;
    }
    let connect = query(request.query, "cf_connect").map(decoded);
    if connect.as_deref().is_some_and(|bytes| Encoding::connect_request(bytes).is_err()) {
        return Route::Refuse(Refusal::BadRequest("cf_connect is no connect request"));
    }
    state.pending.handshake.connect = connect;
    Route::Upgrade { protocol: None, route: route_of(Encoding::UniJson, Transport::UniWebSocket) }
}

fn route_client(state: &mut Messaging, cx: &mut Context<Mail>, request: &Request<'_>) -> Route {
    if let Err(rejected) = admit(state, cx, request) {
        return rejected;
    }
    // As with Centrifugo, the subprotocol or the URL may ask for Protobuf. Other subprotocols are left out of the response
    // (RFC 6455, section 4.2.2); the client decides what that means to it.
    const PROTOBUF: &str = "centrifuge-protobuf";
    let mut offered = request.upgrade.iter().flat_map(|upgrade| upgrade.protocols());
    let chosen = offered.find_map(|name| ["centrifuge-json", PROTOBUF].into_iter().find(|known| *known == name));
    let in_url = |name| query(request.query, name).is_some_and(|value| *decoded(value) == *b"protobuf");
    let is_protobuf = chosen == Some(PROTOBUF) || in_url("cf_protocol") || in_url("format");
    let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
    let frame_pings = query(request.query, "cf_ws_frame_ping_pong") == Some("true");
    let transport = if frame_pings { Transport::WebSocketFramePings } else { Transport::WebSocket };
    Route::Upgrade { protocol: chosen, route: route_of(encoding, transport) }
}
